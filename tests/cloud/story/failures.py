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


"""Services that are killed in the middle of it, and what is left."""

import random
import threading
import time

from tests.cloud import daemon
from tests.cloud import layout as layout_mod
from tests.cloud.story import boot
from tests.cloud.story import chapter

#: Longer than Nova waits for an answer here ([DEFAULT] rpc_response_timeout).
_TIMES_OUT = 400


class Failures(chapter.Chapter):
    """A server goes from one pCPU to the other meanwhile, all the time."""

    def start(self):
        flavor = self.flavor(template=('--pin', '0=0:0'))
        self.grant(flavor, 'template')
        self.server = self.boot(flavor, image='busy')
        self.process = self.look.process(self.server)[0]
        # Whatever goes wrong, the next chapter is told on a whole cloud.
        self.addCleanup(self.cloud.restore)

    def change_and(self, kill, pcpu):
        """Ask for a pCPU, and kill something meanwhile."""
        self.say(self.server, pin_0=f'0:{pcpu}')

        def ring():
            # It may be answered, refused, or never.
            try:
                self.admin.sdk.compute.get(
                    f'/servers/{self.server}/diagnostics', timeout=20)
            except Exception as exc:
                self.rung = exc
        self.rung = None
        ringing = threading.Thread(target=ring, daemon=True)
        ringing.start()
        time.sleep(random.uniform(0, 0.4))
        kill()
        return ringing

    def assertRunsOnItsOwn(self):
        """Whatever was killed when: its thread is where it may be."""
        # The change may go on while one looks: what it owns next, it owns
        # before its thread goes there, and what it owned until then.
        mine = self.owned()
        allowed, = self.look.threads(self.server).values()
        mine |= self.owned()
        self.assertTrue(allowed <= mine, (allowed, mine))
        self.assertEqual(self.process, self.look.process(self.server)[0])

    def owned(self):
        return {pcpu for (host, pcpu), who in self.look.owners().items()
                if self.server in who and host == 'local1'}

    def ends_well(self, pcpu):
        self.until('the host is asked again', self.answered)
        self.comes_to(self.server, 0, {0: pcpu})
        self.assertEqual(self.process, self.look.process(self.server)[0])
        self.assertClean()

    def answered(self):
        return self.ring(self.server).status_code == 200

    def back(self, what, begin):
        self.seconds(f'{what} killed, well again after',
                     time.monotonic() - begin)

    @chapter.on('local1', short=True)
    def test_compute(self):
        """nova-compute is killed in the middle of a change, three times"""
        self.start()
        begin = time.monotonic()
        for pcpu in (1, 0, 1):
            compute = self.cloud.compute('local1')
            ringing = self.change_and(compute.kill, pcpu)
            self.assertRunsOnItsOwn()
            self.cloud.start_compute('local1')
            ringing.join()
            self.ends_well(pcpu)
        self.seconds('killed three times, well again after',
                     time.monotonic() - begin)

    @chapter.on('local1')
    def test_conductor(self):
        """nova-conductor is killed in the middle of a change"""
        self.start()
        begin = time.monotonic()
        conductor = self.cloud.worker('conductor')
        ringing = self.change_and(conductor.kill, 1)
        self.assertRunsOnItsOwn()
        self.cloud.worker('conductor').start()
        ringing.join()
        self.ends_well(1)
        self.back('nova-conductor', begin)

    @chapter.on('local1')
    def test_rabbitmq(self):
        """RabbitMQ is killed in the middle of a change"""
        self.start()
        begin = time.monotonic()
        ringing = self.change_and(self.cloud.rabbitmq.daemon.kill, 1)
        self.assertRunsOnItsOwn()
        self.cloud.rabbitmq.start()
        ringing.join()
        self.ends_well(1)
        self.back('RabbitMQ', begin)

    @chapter.on('local1', short=True)
    def test_placement(self):
        """Placement is killed in the middle; then it learns of the change"""
        self.start()
        # A host that has just started says with its second audit that there
        # is something to claim of it.
        for _again in range(6):
            if self.look.named(self.server):
                break
            self.delete(self.server)
            time.sleep(10)
            self.start()
        self.assertEqual({('local1', 0)}, self.look.named(self.server))
        begin = time.monotonic()
        ringing = self.change_and(self.cloud.web('placement').kill, 1)
        self.assertRunsOnItsOwn()
        ringing.join()
        self.cloud.restore()
        self.ends_well(1)
        self.until('Placement has the new pCPU', lambda: (
            self.look.named(self.server) == {('local1', 1)}))
        self.back('Placement', begin)

    @chapter.on('local1')
    def test_libvirtd(self):
        """libvirtd is killed in the middle of a change"""
        self.start()
        begin = time.monotonic()
        host = self.cloud.hosts['local1']
        ringing = self.change_and(host.kill_libvirtd, 1)
        host.start_libvirtd()
        ringing.join()
        self.assertRunsOnItsOwn()
        self.ends_well(1)
        self.back('libvirtd', begin)


class TheEnd(chapter.Chapter):

    @chapter.on('nested2')
    def test_neighbours_unharmed(self):
        """The servers without a template are as they were, and answer"""
        if not self.stage.neighbours:
            self.skipTest('none has moved in')
        # Whose last report to the conductor was lost with RabbitMQ waits for
        # the answer until that times out. Nova takes it for down meanwhile,
        # and a server that is deleted then runs on until its host looks.
        was = self.look.reports()
        self.until('each nova-compute reports', lambda: all(
            count > was[host]
            for host, count in self.look.reports().items()), _TIMES_OUT)
        for uuid, was in self.stage.neighbours.items():
            self.assertEqual(was, boot.describe(self.look, uuid))
            self.act(uuid, reboot={'type': 'HARD'})
            self.wait_for(uuid)
            self.mine.append(uuid)

    @chapter.on(short=True)
    def test_nothing_is_left(self):
        """All is deleted: no owner, no allocation, no domain is left"""
        self.delete(*self.look.servers())
        self.assertClean()
        self.assertEqual({}, self.look.owners())
        self.assertEqual(set(), self.look.consumers())
        for host in self.cloud.hosts.values():
            self.assertEqual({}, self.look.domains(host))
        daemon.run(self.cloud.layout, [
            layout_mod.BIN / 'nova-manage', '--config-file',
            self.cloud.layout.etc / 'nova' / 'nova.conf', 'placement',
            'audit'], 'nova-manage')
