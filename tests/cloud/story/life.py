#    Licensed under the Apache License, Version 2.0 (the "License"); you may
#    not use this file except in compliance with the License. You may obtain
#    a copy of the License at
#
#         http://www.apache.org/licenses/LICENSE-2.0
#
#    Unless required by applicable law or agreed to in writing, software
#    distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
#    WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
#    License for the specific language governing permissions and limitations
#    under the License.


"""What a server goes through, and the template holds."""

from tests.cloud.story import chapter


class Life(chapter.Chapter):

    def moved(self, host_pins=('--pin', '0=0:0')):
        """A server that is not any more where its flavor had it boot."""
        flavor = self.flavor(template=host_pins)
        self.grant(flavor, 'template')
        server = self.boot(flavor)
        self.say(server, pin_0='0:1')
        self.ring(server)
        self.assertIsOn(server, 0, {0: 1})
        return server

    @chapter.on('local1', short=True)
    def test_reboot_stop_start(self):
        """Rebooted hard, stopped and started, paused: it keeps its place"""
        server = self.moved()
        process = self.look.process(server)[0]
        self.act(server, reboot={'type': 'HARD'})
        self.wait_for(server)
        self.assertNotEqual(process, self.look.process(server)[0])
        self.assertIsOn(server, 0, {0: 1})
        self.act(server, os__stop=None)
        self.wait_for(server, 'SHUTOFF')
        self.assertEqual({0: 1}, self.look.pins(server))
        self.act(server, os__start=None)
        self.wait_for(server)
        self.assertIsOn(server, 0, {0: 1})
        self.act(server, pause=None)
        self.wait_for(server, 'PAUSED')
        self.act(server, unpause=None)
        self.wait_for(server)
        self.assertIsOn(server, 0, {0: 1})

    @chapter.on('local1')
    def test_stopped(self):
        """Told while it is stopped, it starts where it is told"""
        server = self.moved()
        self.act(server, os__stop=None)
        self.wait_for(server, 'SHUTOFF')
        self.say(server, pin_0='0:0')
        # There is nobody to ring at: the host's next pass.
        self.until('it owns pCPU 0',
                   lambda: self.look.pins(server) == {0: 0})
        self.act(server, os__start=None)
        self.wait_for(server)
        self.assertIsOn(server, 0, {0: 0})

    @chapter.on('local1')
    def test_rebuild_and_suspend(self):
        """Rebuilt, suspended and resumed, it keeps its place"""
        server = self.moved()
        image = self.admin.sdk.image.find_image('dirty').id
        self.act(server, rebuild={'imageRef': image})
        self.wait_for(server)
        self.assertIsOn(server, 0, {0: 1})
        self.act(server, suspend=None)
        self.wait_for(server, 'SUSPENDED')
        self.act(server, resume=None)
        self.wait_for(server)
        self.assertIsOn(server, 0, {0: 1})

    @chapter.on('local1')
    def test_shelve(self):
        """Shelved, it owns nothing; unshelved, what its metadata say"""
        server = self.moved()
        self.act(server, shelve=None)
        self.wait_for(server, 'SHELVED_OFFLOADED')
        self.assertFalse(self.look.consumers() & {server})
        self.act(server, unshelve=None)
        self.wait_for(server)
        self.ring(server)
        self.comes_to(server, 0, {0: 1})
        self.assertClean()

    @chapter.on('local1', short=True)
    def test_by_hand(self):
        """Pins that somebody changed by hand are put back"""
        flavor = self.flavor(template=('--pin', '0=0:0'))
        server = self.boot(flavor)
        name = self.look.domain_name(server)
        shell = self.cloud.hosts['local1'].shell
        for _again in range(5):
            # The pass after its start may come in between.
            shell(f'virsh -c qemu:///system vcpupin {name} 0 1')
            threads = self.look.threads(server)
            if threads == {0: frozenset({1})}:
                break
        self.assertEqual({0: frozenset({1})}, threads)
        self.ring(server)
        self.assertIsOn(server, 0, {0: 0})
