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

"""Power of pCPUs that a server owns and does not use while it is idle."""

from unittest import mock

from kongming.libvirt import affinity
from nova.tests.fixtures import libvirt as fakelibvirt
from nova_ext import power
from tests.functional import test_life
from tests.functional import test_load
from tests.functional import test_profile


class PowerTest(test_life.PowerBase, test_load.LoadBase):
    """pCPUs that are owned and off while their server is idle.

    Of each pin and each pCPU that loses power is noted what was wrong with
    it: a vCPU is pinned to what is online, and loses nothing that it is on.
    """

    STAYS = {10, 11}
    LEAVES = {12, 13}

    def setUp(self):
        super().setUp()
        self.wrong, self.pinned, self.lost = [], [], []
        self.libvirt = self.driver._host.get_connection()
        pin_ = fakelibvirt.Domain.pinVcpuFlags
        down_ = power.CpuApi._power_down

        def pin(domain, vcpu, cpumap, flags):
            there = {pcpu for pcpu, is_in in enumerate(cpumap) if is_in}
            self.pinned.append(vcpu)
            if not there <= self.online:
                self.wrong.append(('pinned', vcpu, there - self.online))
            return pin_(domain, vcpu, cpumap, flags)

        def down(api, cpus):
            self.lost += cpus
            if any(affinity.read(domain).pcpus & cpus
                   for domain in self.libvirt.listAllDomains(0)
                   if domain.isActive()):
                self.wrong.append(('lost', set(cpus)))
            return down_(api, cpus)

        for owner, name, function in (
                (fakelibvirt.Domain, 'pinVcpuFlags', pin),
                (power.CpuApi, '_power_down', down)):
            patch = mock.patch.object(owner, name, function)
            patch.start()
            self.addCleanup(patch.stop)

    def idle(self):
        owner = self.boot(self.template(test_profile.PINS, **{
            **test_load.IDLE, 'profile.idle.lend': 'false',
            'profile.idle.power': 'off'}))
        self.ring(owner)
        self.assertOn(self.STAYS | self.LEAVES)
        self.guest(owner).use = 3
        self.live(605)
        self.assertOff(owner)
        return owner

    def assertOn(self, pcpus):
        self.assertEqual(pcpus, self.online - {0, 1, 8, 9})

    def assertOff(self, owner):
        self.assertRuns(owner, test_profile.PACKED)
        self.assertOn(self.STAYS)
        self.assertEqual(self.STAYS | self.LEAVES, self.owned()[1])
        self.assertEqual([], self.wrong)

    def assertBack(self, owner):
        self.assertRuns(owner, test_profile.OWN)
        self.assertOn(self.STAYS | self.LEAVES)
        self.assertEqual([], self.wrong)

    def test_idle_and_busy(self):
        owner = self.idle()
        self.assertEqual(self.LEAVES, self.LEAVES.intersection(self.lost))
        self.ring(owner)
        self.assertEqual(
            [('kongming_repin', 'Success'),
             ('kongming_by_load: profile idle: use 3.0%, below 15% for 10m',
              'Success')], self.events(owner))
        self.audit()
        self.reconcile()
        self.assertOff(owner)
        self.pinned.clear()
        self.guest(owner).use = 100
        self.live(.3, step=.1)
        self.assertBack(owner)
        self.assertEqual([0, 1, 2, 3], sorted(self.pinned))
        self.ring(owner)
        self.assertBack(owner)
        self.assertIn('above 30%', self.events(owner)[1][0])

    def test_nova_compute_is_started_meanwhile(self):
        """Of its load nothing is known then, so it has all that it owns."""
        owner = self.idle()
        self.ring(owner)
        self.guest(owner).use = 100
        self.lost.clear()
        self.restart_compute_service('compute1')
        self.driver = self.computes['compute1'].driver
        self.load = self.driver._reconciler.load
        # What it runs on has not lost power for a moment.
        self.assertEqual(set(), self.STAYS.intersection(self.lost))
        self.ring(owner)
        self.assertBack(owner)
        self.guest(owner).use = 3
        self.live(605)
        self.assertOff(owner)

    def test_stopped_and_started_meanwhile(self):
        owner = self.idle()
        self._stop_server(owner)
        self.assertOn(set())
        self.guest(owner).start += 1
        self._start_server(owner)
        self.assertOn(self.STAYS | self.LEAVES)
        self.live(5)
        self.ring(owner)
        self.assertBack(owner)

    def test_started_anew_while_it_is_to_lose_power(self):
        """A hard reboot between the look at its domain and what follows."""
        owner = self.boot(self.template(test_profile.PINS, **{
            **test_load.IDLE, 'profile.idle.lend': 'false',
            'profile.idle.power': 'off'}))
        self.ring(owner)
        self.guest(owner).use = 3
        real, rebooted = power.CpuApi.rest, []

        def rest(*args):
            if not rebooted:
                rebooted.append(self._reboot_server(owner, hard=True))
            return real(*args)

        with mock.patch.object(power.CpuApi, 'rest', rest):
            self.live(605)
        self.assertEqual(1, len(rebooted))
        self.settle()
        self.assertEqual([], self.wrong)
        self.assertLessEqual(self.tune(owner).pcpus, self.online)

    def test_it_can_not_be_powered_up(self):
        """It stays where it is; the next pass tries again."""
        owner = self.idle()
        self.guest(owner).use = 100
        with mock.patch('nova.virt.libvirt.cpu.api.API.power_up',
                        side_effect=OSError('busy')):
            self.live(.3, step=.1)
            self.assertOn(self.STAYS)
            self.assertLessEqual(self.tune(owner).pcpus, self.online)
        self.reconcile()
        self.assertBack(owner)
