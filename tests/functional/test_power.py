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
"""Power of pCPUs follows who owns and uses them; the kernel has the last word.

``online`` are the pCPUs that have power; owned by nobody are none of them but
the shared ones, 0, 1, 8 and 9.
"""

from unittest import mock

import fixtures

from kongming.host import stale
from kongming.live import witness
from nova import context as nova_context
from nova import objects
from nova.tests.fixtures import libvirt as fakelibvirt
from nova_ext.live import steps
from nova_ext import power
from tests.functional import test_boot
from tests.functional import test_life
from tests.functional import test_live
from tests.functional import test_profile

SHARED = {0, 1, 8, 9}
only = test_boot.only


class LiveBase(test_life.PowerBase, test_live.LiveBase):

    def assertOn(self, *pcpus):
        self.assertEqual(SHARED | set(pcpus), self.online)

    @property
    def log(self):
        return self.stdlog.logger.output


class LiveTest(LiveBase):

    def test_up_before_and_down_after(self):
        server = self.boot(self.template('0:13 1:10'))
        self.assertOn(10, 13)
        seen = []
        real = fakelibvirt.Domain.pinVcpuFlags

        def pin(domain, vcpu, cpumap, flags):
            seen.append((cpumap.index(True), set(self.online)))
            return real(domain, vcpu, cpumap, flags)

        with mock.patch.object(fakelibvirt.Domain, 'pinVcpuFlags', pin):
            self.want(server, pin_0='0:15 1:10')
        self.assertEqual([(15, SHARED | {10, 13, 15})], seen)
        self.assertOn(10, 15)
        self.assertEverywhere(server, {0: 15, 1: 10})

    def test_cpusets_that_it_has_left(self):
        """On cgroup version 1 libvirt could pin nobody there."""
        server = self.boot(self.template('0:13 1:10'))
        found = []
        self.useFixture(fixtures.MonkeyPatch(
            'kongming.kernel.cpuset.lacking', lambda pcpus: ['machine']))
        self.useFixture(fixtures.MonkeyPatch(
            'nova_ext.privileged.reclaim_cpus',
            lambda pcpus: found.append((pcpus, 15 in self.online))))
        self.want(server, pin_0='0:15 1:10')
        self.assertEqual([([15], True)], found)
        self.assertEverywhere(server, {0: 15, 1: 10})

    def test_exchange(self):
        one, two = (self.boot(self.template(pins))
                    for pins in ('0:10', '0:11'))
        for server, pins in (one, '0:11'), (two, '0:10'):
            self.api.post_server_metadata(server['id'],
                                          {'kongming:pin.0': pins})
        self.ring(one)
        self.assertHolds(one, {0: 11})
        self.assertHolds(two, {0: 10})
        # What was used in between is off again.
        self.assertOn(10, 11)

    def test_stopped(self):
        server = self.boot(self.template('0:13 1:10'))
        self._stop_server(server)
        self.assertOn()
        self.api.post_server_metadata(server['id'],
                                      {'kongming:pin.0': '0:15 1:14'})
        self.reconcile()
        self.assertOn()
        self._start_server(server)
        self.assertOn(14, 15)
        self.assertHolds(server, {0: 15, 1: 14})

    def test_rolled_back(self):
        server = self.boot(self.template('0:13 1:10'))
        with mock.patch.object(fakelibvirt.Domain, 'pinVcpuFlags',
                               side_effect=fakelibvirt.libvirtError('no')):
            self.want(server, pin_0='0:15 1:14')
        self.assertHolds(server, {0: 13, 1: 10})
        self.assertOn(10, 13)

    def test_cut_short(self):
        """The next pass gives back the target, and takes its power."""
        server = self.boot(self.template('0:13 1:10'))
        with mock.patch.object(fakelibvirt.Domain, 'pinVcpuFlags',
                               side_effect=fakelibvirt.libvirtError('no')):
            with mock.patch.object(steps.Steps, '_back'):
                self.want(server, pin_0='0:15 1:14')
        # As one does that starts after it.
        self.audit()
        self.assertEqual({10, 13, 14, 15}, self.owned()[1])
        self.assertOn(10, 13, 14, 15)
        self.unwant(server, 'pin.0')
        self.assertHolds(server, {0: 13, 1: 10})
        self.assertOn(10, 13)

    def test_left_on(self):
        """Whoever has left it so: the next pass has it off."""
        server = self.boot(self.template('0:13 1:10'))
        self.fill()
        native = {p for pcpus in self.owned().values() for p in pcpus}
        self.online |= {14}
        self.ring(server)
        self.assertOn(*native)

    def test_restart(self):
        """Nova takes all dedicated pCPUs offline when it starts."""
        server = self.boot(self.template('0:13 1:10'))
        stopped = self.boot(self.template('0:12'))
        self._stop_server(stopped)
        self.fill()
        native = {p for pcpus in self.owned().values() for p in pcpus} - {12}
        real, down = power.CpuApi._power_down, []

        def power_down(api, cpus):
            down.extend(cpus)
            return real(api, cpus)

        with mock.patch.object(power.CpuApi, '_power_down', power_down):
            self.restart_compute_service('compute1')
        self.assertIn(14, down)
        self.assertEqual(set(), native.intersection(down))
        self.assertOn(*native)
        self.ring(server)
        self.assertOn(*native)
        self.assertHolds(server, {0: 13, 1: 10})

    def test_what_nova_api_has_read_before(self):
        """A stop that comes with older pins takes no other's power."""
        server = self.boot(self.template('0:13 1:10'))
        instance = self.instance(server['id'])
        self.want(server, pin_0='0:15 1:14')
        other = self.boot(self.template('0:13 1:10'))
        self.computes['compute1'].driver.cpu_api.power_down_for_instance(
            instance)
        self.assertOn(10, 13)
        self.assertHolds(other, {0: 13, 1: 10})

    def test_claimed_meanwhile(self):
        """Given up, and somebody else's before it is off."""
        server = self.boot(self.template('0:13 1:10'))
        with mock.patch('nova_ext.power._pinned', return_value={10, 13, 15}):
            self.want(server, pin_0='0:15 1:10')
        self.assertOn(10, 13, 15)

    def test_powered_up_meanwhile(self):
        api = self.computes['compute1'].driver.cpu_api
        api.power_up({10, 11})
        with mock.patch('nova_ext.power._pinned',
                        side_effect=lambda rt: api.power_up({10}) or set()):
            api.give_up({10, 11})
        self.assertOn(10)

    def test_cannot_be_powered_up(self):
        server = self.boot(self.template('0:13 1:10'))
        with mock.patch('nova.virt.libvirt.cpu.api.API.power_up',
                        side_effect=OSError('busy')):
            self.want(server, pin_0='0:15 1:10')
        self.assertHolds(server, {0: 13, 1: 10})
        (result, details), = self.actions(server)
        self.assertEqual('Error', result)
        self.assertIn('pCPU 15 is offline', details)
        self.assertIn('cpu15/online brings it back', details)


class GovernorTest(LiveBase):
    """The same with governors instead of offline pCPUs."""

    STRATEGY = 'governor'

    test_there = LiveTest.test_up_before_and_down_after
    test_exchange = LiveTest.test_exchange
    test_stopped = LiveTest.test_stopped
    test_rolled_back = LiveTest.test_rolled_back
    test_restart = LiveTest.test_restart


class EvacuationTest(test_life.PowerBase):

    def test_the_source_comes_back(self):
        """What an evacuated server owns elsewhere is another's here."""
        self.hosts(2)
        stays = self.boot(self.flavor({'node.0': '1', 'pin.0': '0:12 1:15'}),
                          host='compute1')
        goes = self.boot(self.flavor({'node.0': '1'}), host='compute1')
        self.boot(self.flavor({'pin.0': '0:10 1:11 2:13 3:14'}, vcpus=4),
                  host='compute2')
        self.fall()
        self._evacuate_server(goes, expected_host='compute2')
        self.assertEqual({12, 15}, set().union(*(
            cell.cpu_pinning.values() for cell in
            self.instance(goes['id']).numa_topology.cells)))
        self.come_back()
        self.assertLessEqual({12, 15}, self.online)
        self.assertHolds(stays, {0: 12, 1: 15}, host='compute1')


class LendingBase(LiveBase, test_profile.ProfileBase):
    """compute1's lender owns 10 to 13, and leaves 12 and 13 at night."""

    def both(self):
        lender, borrower = self.lender(), self.borrower()
        self.at(test_profile.NIGHT, lender)
        self.assertRuns(lender, test_profile.PACKED)
        self.assertFloats(borrower, {8, 9, 12, 13})
        self.assertOn(10, 11, 12, 13)
        return lender, borrower


class LendingTest(LendingBase):

    def test_a_stopped_lender(self):
        """Borrowers leave before it loses its power, and don't come back."""
        lender, borrower = self.both()
        seen = []
        real = power.CpuApi._power_down

        def down(api, cpus):
            seen.append(self.tune(borrower).vcpus)
            return real(api, cpus)

        with mock.patch.object(power.CpuApi, '_power_down', down):
            self._stop_server(lender)
        self.assertEqual([dict.fromkeys(range(2), frozenset({8, 9}))], seen)
        self.assertOn()
        self.ring(borrower)
        self.assertFloats(borrower, {8, 9})
        self.assertOn()
        self._start_server(lender)
        self.ring(borrower)
        self.assertFloats(borrower, {8, 9, 12, 13})
        self.assertOn(10, 11, 12, 13)

    def test_a_borrower_that_stays(self):
        """What it can't be moved off keeps its power."""
        lender, borrower = self.both()
        with mock.patch.object(fakelibvirt.Domain, 'pinVcpuFlags',
                               side_effect=fakelibvirt.libvirtError('no')):
            self._stop_server(lender)
        self.assertOn(12, 13)
        self.assertIn('pCPU 12-13 keeps its power', self.log)

    def test_a_deleted_lender(self):
        lender, borrower = self.both()
        self._delete_server(lender)
        self.assertFloats(borrower, {8, 9})
        self.assertOn()

    def test_a_stopped_borrower(self):
        lender, borrower = self.both()
        self._stop_server(borrower)
        self.assertOn(10, 11, 12, 13)

    def test_restart(self):
        lender, borrower = self.both()
        self.restart_compute_service('compute1')
        self.driver = self.computes['compute1'].driver
        self.ring(lender)
        self.assertOn(10, 11, 12, 13)
        self.assertFloats(borrower, {8, 9, 12, 13})


class GovernorLendingTest(LendingBase):

    STRATEGY = 'governor'

    test_a_stopped_lender = LendingTest.test_a_stopped_lender
    test_restart = LendingTest.test_restart


class NightBase(LiveBase, test_profile.ProfileBase):
    """profile.night.power, of a server that packs itself on 10 and 11."""

    POWER = 'off'

    def saver(self, **extra):
        return self.lender(**{'profile.night.lend': 'false',
                              'profile.night.power': self.POWER, **extra})


class NightTest(NightBase):

    def test_by_time(self):
        server = self.saver()
        self.assertOn(10, 11, 12, 13)
        self.at(test_profile.NIGHT, server)
        self.assertRuns(server, test_profile.PACKED)
        self.assertOn(10, 11)
        # It owns them as before.
        self.assertEqual({10, 11, 12, 13}, self.owned()[1])
        self.audit()
        self.ring(server)
        self.assertOn(10, 11)
        self.at(test_profile.DAY, server)
        self.assertOn(10, 11, 12, 13)
        self.assertEverywhere(server, {v: 10 + v for v in range(4)})

    def test_through_the_night(self):
        """Whatever starts it anew starts on all that it owns."""
        server = self.saver()
        self.at(test_profile.NIGHT, server)
        for action in (lambda: self._reboot_server(server, hard=True),
                       lambda: (self._stop_server(server),
                                self.assertOn(),
                                self._start_server(server))):
            action()
            self.ring(server)
            self.assertRuns(server, test_profile.PACKED)
            self.assertOn(10, 11)
        self.restart_compute_service('compute1')
        self.assertOn(10, 11)
        self._delete_server(server)
        self.assertOn()

    def test_live_change_at_night(self):
        server = self.saver()
        self.at(test_profile.NIGHT, server)
        self.want(server, pin_0='0:15 1:14 2:10 3:11')
        self.ring(server)
        self.assertOn(14, 15)
        self.at(test_profile.DAY, server)
        self.assertOn(10, 11, 14, 15)

    def test_another_strategy(self):
        server = self.saver(**{'profile.night.power': 'low'})
        self.at(test_profile.NIGHT, server)
        self.assertOn(10, 11, 12, 13)
        self.assertIn('Not obeyed: profile.night.power', self.log)


class NightGovernorTest(NightBase):

    STRATEGY, POWER = 'governor', 'low'

    test_by_time = NightTest.test_by_time
    test_through_the_night = NightTest.test_through_the_night


class UnmanagedTest(test_profile.ProfileBase):

    def test_nobody_manages_power(self):
        server = self.lender(**{'profile.night.lend': 'false',
                                'profile.night.power': 'off'})
        self.at(test_profile.NIGHT, server)
        self.assertRuns(server, test_profile.PACKED)
        self.assertIn('needs [libvirt] cpu_power_management',
                      self.stdlog.logger.output)


class WitnessTest(test_live.LiveBase):
    """The kernel's word, where it is not libvirt's."""

    def setUp(self):
        super().setUp()
        self.kernel = self.kernel_of_host

    def free(self, server, vcpu=0):
        key = server['id'], witness.VCPU, vcpu
        self.kernel.moved[key] = frozenset(range(16))
        return key

    @property
    def log(self):
        return self.stdlog.logger.output

    def test_freed_by_hand(self):
        server = self.boot(self.template('0:13 1:10'))
        self.ring(server)
        key = self.free(server)
        self.ring(server)
        self.assertNotIn(key, self.kernel.moved)
        self.assertIn('vCPU 0 may run on pCPU 0-15, not on 13 only, by the '
                      'kernel (its cpuset is right, so a pCPU of it was '
                      'offline, or its affinity was set past libvirt, as by '
                      'taskset)', self.log)
        # It is no change that somebody has asked for.
        self.assertEqual([], self.actions(server))

    def test_refused_pin(self):
        """The thread is not left free, and goes back."""
        server = self.boot(self.template('0:13 1:10'))
        real = self.kernel.online
        self.useFixture(fixtures.MockPatch(
            'nova_ext.live.domains.Domains.make_ready'))
        self.kernel.online = set(range(1024)) - {15}
        self.useFixture(fixtures.MockPatch(
            'kongming.live.witness.online_only',
            side_effect=lambda wanted, *_args: wanted))
        self.want(server, pin_0='0:15 1:10')
        self.kernel.online = real
        self.assertIn('A pin that libvirt refused has freed threads: vCPU 0',
                      self.log)
        # It owns both as long as it is not known to have left one.
        self.assertEqual([(100, frozenset({10, 13}))], self.kernel.kept[:1])
        self.assertEqual({}, self.kernel.moved)
        self.assertHolds(server, {0: 13, 1: 10})

    def test_pcpu_goes_offline(self):
        """On what else it owns, until that is back."""
        server = self.boot(self.template('0:13 1:10'))
        self.kernel.online = set(range(1024)) - {13}
        # Nova says nothing of its host then.
        with mock.patch('nova.virt.libvirt.host.Host.get_online_cpus',
                        lambda host: set(range(16)) - {13}):
            self.ring(server)
            self.assertEqual({0: only(10), 1: only(10)},
                             self.pins(server)[0])
            self.ring(server)
        self.assertIn('The host is taken for what it was', self.log)
        self.kernel.online = set(range(1024))
        self.ring(server)
        self.assertHolds(server, {0: 13, 1: 10})

    def test_what_libvirt_does_not_put_back(self):
        server = self.boot(self.template('0:13 1:10'))
        self.free(server)
        with mock.patch.object(fakelibvirt.Domain, 'pinVcpuFlags',
                               side_effect=fakelibvirt.libvirtError('no')):
            self.ring(server)
        self.assertEqual([(100, frozenset({13}))], self.kernel.kept)
        (result, details), = self.actions(server)
        self.assertEqual('Error', result)
        self.assertIn('libvirt does not put it back', details)
        self.assertIn('vCPU 0 may run on pCPU 0-15', details)

    def test_observed_only(self):
        server = self.boot(self.template('0:13 1:10'))
        key = self.free(server)
        self.flags(live_changes='observe', group='kongming')
        self.ring(server)
        self.assertIn(key, self.kernel.moved)


class StaleTest(test_life.LifeBase):
    """libvirtd has its CPUs as they were when it started."""

    def host_info(self):
        found = super().host_info()
        for cell in found.numa_topology.cells:
            for cpu in cell.cpus[2:]:
                cpu.socket_id = 0
                cpu.siblings = {cpu.id}
        return found

    def test_siblings_are_the_kernels(self):
        cores = [frozenset({pcpu, pcpu + 1}) for pcpu in range(0, 16, 2)]
        self.kernel_of_host.cpus = stale.Cpus(
            frozenset(range(16)), {node: frozenset(range(8 * node, 8 * node
                                                         + 8))
                                   for node in (0, 1)},
            {pcpu: core for core in cores for pcpu in core})
        self.hosts()
        log = self.stdlog.logger.output
        self.assertEqual(1, log.count("libvirtd's picture of the CPUs is "
                                      "older than the kernel's"))
        self.assertIn('has other siblings than libvirtd says', log)
        # The scheduler has what Nova reports, libvirtd's: there a core has
        # one thread. The host goes by the kernel.
        server = self.boot(self.flavor({'pin.0': '0:10 1:11',
                                        'grant': 'template'}))
        self.api.post_server_metadata(server['id'], {
            'kongming:pin.0': '0:n1c2t0 1:n1c2t1'})
        self.api.api_get(f'/servers/{server["id"]}/diagnostics')
        self.settle()
        self.assertHolds(server, {0: 12, 1: 13})


class BlindTest(test_live.LiveBase):

    def change(self, **how):
        server = self.boot(self.template('0:13 1:10'))
        for key, value in how.items():
            setattr(self.kernel_of_host, key, value)
        self.want(server, pin_0='0:15 1:10')
        return server

    def refused(self, server, words):
        self.assertHolds(server, {0: 13, 1: 10})
        (result, details), = self.actions(server)
        self.assertEqual('Error', result)
        self.assertIn(words, details)
        self.assertIn('in its PID namespace', details)
        self.assertEqual(1, self.stdlog.logger.output.count(
            'The kernel can not be asked where servers really run'))
        compute, = objects.ComputeNodeList.get_all(
            nova_context.get_admin_context())
        self.assertEqual('unseen', compute.stats['kongming_live'])
        traits = self._get_provider_traits(self.compute_rp_uuids['compute1'])
        self.assertIn('CUSTOM_KONGMING_LIVE_UNSEEN', traits)

    def test_a_namespace_of_its_own(self):
        server = self.change(seen=False)
        self.audit()
        self.refused(server, 'the process of instance-')
        # Servers boot all the same.
        self.boot(self.template('0:12'))
        self.kernel_of_host.seen = True
        self.unwant(server, 'pin.0')
        self.want(server, pin_0='0:15 1:10')
        self.assertHolds(server, {0: 15, 1: 10})
        self.audit()
        compute, = objects.ComputeNodeList.get_all(
            nova_context.get_admin_context())
        self.assertEqual('act', compute.stats['kongming_live'])

    def test_no_right(self):
        server = self.change(refusal='CAP_SYS_NICE is missing')
        self.audit()
        self.refused(server, 'threads can not be set: CAP_SYS_NICE')
