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

"""Every start of a domain is on what its server owns at that time.

What Nova starts a domain by may have been written down long before: the XML
of an unrescue, a saved image, the persistent definition.
"""

import datetime
import os
from unittest import mock

import fixtures
import nova.conf
from nova import context as nova_context
from nova import objects
from nova.tests.fixtures import libvirt as fakelibvirt
from nova.tests.fixtures import notifications
from nova_ext.live import domains
from nova_ext.live import reclaim
from nova_ext import privileged

from kongming.kernel import process
from kongming.libvirt import affinity
from tests.functional import test_live
from tests.functional import test_profile

CONF = nova.conf.CONF
only = test_live.only
DAY, NIGHT = test_profile.DAY, test_profile.NIGHT


class StartsMixin:
    """Looks at each start of a domain as it happens."""

    def setUp(self):
        super().setUp()
        self.starts = []
        real = fakelibvirt.Domain.createWithFlags

        def create(domain, flags):
            result = real(domain, flags)
            self.assertNoPcpuIsShared()
            self.starts.append(domain.UUIDString())
            return result

        self.useFixture(fixtures.MonkeyPatch(
            'nova.tests.fixtures.libvirt.Domain.createWithFlags', create))

    def assertNoPcpuIsShared(self):
        """Dedicated pCPUs, by what runs in libvirt, whatever Nova says."""
        running = {}
        connection = self.computes['compute1'].driver._host.get_connection()
        for domain in connection.listAllDomains(3):
            if not domain.isActive():
                continue
            for pcpu in affinity.read(domain).pcpus - {0, 1, 8, 9}:
                self.assertEqual(domain.UUIDString(), running.setdefault(
                    pcpu, domain.UUIDString()), f'pCPU {pcpu}')

    def action(self, server, body, state):
        self.api.post_server_action(server['id'], body)
        return self._wait_for_state_change(server, state)

    def rescue(self, server):
        # Rescue writes beside the disks, which are simulated.
        os.makedirs(os.path.join(CONF.instances_path, server['id']),
                    exist_ok=True)
        self._rescue_server(server)


class SavedTest(StartsMixin, test_live.LiveBase):
    """A change is wanted while there is a saved XML."""

    def assertStays(self, server, pcpus):
        """Natives get all the rest of its node meanwhile."""
        self.reconcile()
        natives = [self.fill(vcpus=2) for _ in range(5)]
        self.assertFalse(pcpus & {
            pcpu for native in natives
            for pins in self.pins(native)[0].values() for pcpu in pins})
        return natives

    def make_change(self, server, natives):
        for native in natives:
            self._delete_server(native)
        self.ring(server)
        self.assertEverywhere(server, {0: 15, 1: 14})
        self.assertEqual([('Success', None)], self.actions(server))

    def test_wanted_before_a_rescue(self):
        server = self.boot(self.template('0:13 1:10'))
        self.api.post_server_metadata(server['id'], {
            'kongming:pin.0': '0:15 1:14'})
        self.rescue(server)
        natives = self.assertStays(server, {10, 13})
        self._unrescue_server(server)
        self.assertEqual({0: only(13), 1: only(10)}, self.pins(server)[0])
        self.make_change(server, natives)

    def test_wanted_while_suspended(self):
        server = self.boot(self.template('0:13 1:10'))
        self._suspend_server(server)
        self.api.post_server_metadata(server['id'], {
            'kongming:pin.0': '0:15 1:14'})
        natives = self.assertStays(server, {10, 13})
        self._resume_server(server)
        self.assertEqual({0: only(13), 1: only(10)}, self.pins(server)[0])
        self.make_change(server, natives)

    def cut_short(self, server, state):
        """Threads are on the target when the server gets busy."""
        real = affinity.apply

        def apply(domain, *args):
            result = real(domain, *args)
            instance = self.instance(server['id'])
            instance.task_state = state
            instance.save()
            return result

        with mock.patch.object(affinity, 'apply', apply):
            self.want(server, pin_0='0:15')
        instance = self.instance(server['id'])
        instance.task_state = None
        instance.save()
        self.assertEqual({0: only(15), 1: only(10)}, self.pins(server)[0])
        self.assertOwnsBoth(server)

    def assertOwnsBoth(self, server):
        cell, = self.instance(server['id']).numa_topology.cells
        self.assertEqual(({0: 13, 1: 10}, {15}),
                         (cell.cpu_pinning, cell.cpuset_reserved))
        self.audit()
        self.assertEqual({10, 13, 15}, self.owned()[1])

    def test_change_is_cut_short_by_a_rescue(self):
        """Both places stay its own until it runs from a fresh XML."""
        server = self.boot(self.template('0:13 1:10'))
        self.cut_short(server, 'rescuing')
        self.rescue(server)
        self.assertEqual({0: only(13), 1: only(10)}, self.pins(server)[0])
        self.reconcile()
        self.assertOwnsBoth(server)
        self._unrescue_server(server)
        self.assertEqual({0: only(13), 1: only(10)}, self.pins(server)[0])
        self.ring(server)
        self.assertEverywhere(server, {0: 15, 1: 10})

    def test_change_is_cut_short_by_a_suspension(self):
        server = self.boot(self.template('0:13 1:10'))
        self.cut_short(server, 'suspending')
        self._suspend_server(server)
        self.reconcile()
        self.assertOwnsBoth(server)
        self._resume_server(server)
        self.assertOwnsBoth(server)
        self.ring(server)
        self.assertEverywhere(server, {0: 15, 1: 10})

    def test_not_narrowed_while_a_thread_is_elsewhere(self):
        """libvirt says that it has left, the kernel says that it has not."""
        server = self.boot(self.template('0:13 1:10'))
        self.cut_short(server, 'image_snapshot')
        self.api.delete_server_metadata(server['id'], 'kongming:pin.0')
        task = mock.Mock(id=4711, allowed=frozenset({13, 15}))
        with mock.patch.object(process, 'pid', return_value=1), \
                mock.patch.object(process, 'schedulers', return_value={}), \
                mock.patch.object(process, 'tasks', return_value=[task]):
            self.ring(server)
            self.assertIn('thread 4711 may still run on a pCPU',
                          self.actions(server)[0][1])
        self.assertOwnsBoth(server)
        self.ring(server)
        self.assertEverywhere(server, {0: 13, 1: 10})


class LentTest(StartsMixin, test_profile.ProfileBase):
    """What is borrowed or lent while it is written down."""

    def both(self, moment):
        self.lending, self.borrowing = self.lender(), self.borrower()
        self.at(moment, self.lending)
        return self.lending, self.borrowing

    def test_rescued_with_what_it_borrowed(self):
        lender, borrower = self.both(NIGHT)
        self.assertFloats(borrower, {8, 9, 12, 13})
        self.rescue(borrower)
        self.at(DAY, lender)
        self.assertRuns(lender, test_profile.OWN)
        self._unrescue_server(borrower)
        self.assertFloats(borrower, {8, 9})
        self.assertEqual([borrower['id']], self.starts[-1:])

    def test_unrescued_onto_what_it_lends(self):
        lender, borrower = self.both(DAY)
        self.rescue(lender)
        self.at(NIGHT, borrower)
        self.assertFloats(borrower, {8, 9, 12, 13})
        self._unrescue_server(lender)
        self.assertFloats(borrower, {8, 9})

    def test_suspended_just_before_it_would_lend(self):
        """A profile begins by what was known at the last pass."""
        lender, borrower = self.both(DAY)
        self._suspend_server(lender)
        self.moment = NIGHT
        self.driver._reconciler.switch()
        self.assertFloats(borrower, {8, 9})
        self._resume_server(lender)
        self.assertRuns(lender, test_profile.OWN)

    def softly(self, server, meanwhile):
        """Reboot it, with something done while the domain is shut down."""
        real = fakelibvirt.Domain.shutdown

        def shutdown(domain):
            real(domain)
            meanwhile()

        with mock.patch.object(fakelibvirt.Domain, 'shutdown', shutdown):
            self._reboot_server(server)
        self.assertIn('Instance soft rebooted successfully',
                      self.stdlog.logger.output)

    def switch_at(self, moment):
        self.moment = moment
        self.driver._reconciler.switch()

    def test_rebooted_softly_with_what_it_borrowed(self):
        lender, borrower = self.both(NIGHT)
        self.softly(borrower, lambda: self.switch_at(
            DAY + datetime.timedelta(days=1)))
        self.assertRuns(lender, test_profile.OWN)
        self.assertFloats(borrower, {8, 9})

    def test_rebooted_softly_onto_what_it_lends(self):
        lender, borrower = self.both(DAY)
        self.softly(lender, lambda: self.switch_at(NIGHT))
        self.assertRuns(lender, test_profile.OWN)
        self.assertFloats(borrower, {8, 9})

    def test_definition_that_is_not_corrected_is_not_started(self):
        lender, borrower = self.both(NIGHT)
        with mock.patch.object(affinity, 'apply_config',
                               side_effect=RuntimeError('libvirt said no')):
            self._reboot_server(lender)
        self.assertIn('it is rebooted hard', self.stdlog.logger.output)
        self.assertRuns(lender, test_profile.OWN)
        self.assertFloats(borrower, {8, 9})


class RefusingTest(StartsMixin, test_profile.ProfileBase):
    """A borrower that libvirt doesn't move."""

    def setUp(self):
        super().setUp()
        self.useFixture(fixtures.MonkeyPatch(
            'nova_ext.live.reclaim.WAIT', 1.5))
        self.notifier = self.useFixture(
            notifications.NotificationFixture(self))
        self.lending, self.borrowing = self.lender(), self.borrower()
        self.at(NIGHT, self.lending)
        self.assertFloats(self.borrowing, {8, 9, 12, 13})

    def refusing(self):
        real = fakelibvirt.Domain.pinVcpuFlags

        def pin(domain, *args):
            if domain.UUIDString() == self.borrowing['id']:
                raise RuntimeError('libvirt said no')
            return real(domain, *args)

        return mock.patch.object(fakelibvirt.Domain, 'pinVcpuFlags', pin)

    def fault(self, server):
        """The last error of its actions; a fault is shown in ERROR only."""
        fault = objects.InstanceFault.get_latest_for_instance(
            nova_context.get_admin_context(), server['id'])
        return fault.message if fault else None

    REASON = ('It does not start on pCPU 12-13 that it owns: a server that '
              'borrowed it can not be moved')

    def test_a_stopped_owner_stays_stopped(self):
        self._stop_server(self.lending)
        with self.refusing():
            self.api.post_server_action(self.lending['id'],
                                        {'os-start': None})
            self._wait_for_assert(lambda: self.assertEqual(
                self.REASON, self.fault(self.lending)), max_retries=60)
            self._wait_for_server_parameter(self.lending, {
                'status': 'SHUTOFF', 'OS-EXT-STS:task_state': None})
        self._start_server(self.lending)
        self.assertRuns(self.lending, test_profile.OWN)
        self.assertFloats(self.borrowing, {8, 9})

    def test_an_owner_that_runs_runs_on(self):
        with self.refusing():
            for reboot in ('SOFT', 'HARD'):
                self.api.post_server_action(self.lending['id'], {
                    'reboot': {'type': reboot}})
                self._wait_for_server_parameter(self.lending, {
                    'status': 'ACTIVE', 'OS-EXT-STS:task_state': None})
                self.assertEqual(self.REASON, self.fault(self.lending))
        self.assertRuns(self.lending, test_profile.PACKED)

    def test_a_suspended_owner_stays_suspended(self):
        """The borrower did not leave, whatever was answered before."""
        borrowers = self.driver._reconciler._enforcer._lending._borrowers
        before = borrowers[self.borrowing['id']]
        self._suspend_server(self.lending)
        borrowers[self.borrowing['id']] = before
        domain = self.connection_of(self.borrowing['id']).lookupByUUIDString(
            self.borrowing['id'])
        for vcpu in range(2):
            domain.pinVcpuFlags(vcpu, tuple(
                pcpu in (8, 9, 12, 13) for pcpu in range(16)), 3)
        with self.refusing():
            self.api.post_server_action(self.lending['id'],
                                        {'resume': None})
            self._wait_for_assert(lambda: self.assertEqual(
                self.REASON, self.fault(self.lending)), max_retries=60)
            self._wait_for_server_parameter(self.lending, {
                'status': 'SUSPENDED', 'OS-EXT-STS:task_state': None})
        self._resume_server(self.lending)
        self.assertFloats(self.borrowing, {8, 9})

    def test_a_new_owner_finds_no_host(self):
        self._delete_server(self.lending)
        with self.refusing():
            server = self.boot(self.template('0:12 1:13'), 'ERROR')
        self.assertIn(self.REASON, self.stdlog.logger.output)
        self.assertNotIn(server['id'], self.starts)
        self.assertEqual(set(), self.owned()[1])
        self.assertEqual({}, self.allocations_of(server['id']))

    def natives(self):
        """One that has all that is left, so pCPU 12 and 13, too."""
        self._delete_server(self.lending)
        self.fill(vcpus=6)
        return self.fill(vcpus=6)

    def test_a_native_owner_starts(self):
        moved = []
        with self.refusing(), mock.patch.object(
                process, 'pid_of', lambda name, server: 4711), \
                mock.patch.object(privileged, 'move_off',
                                  lambda *args: moved.append(args)):
            # Which the simulated libvirt does not know of.
            with mock.patch.object(self, 'assertNoPcpuIsShared'):
                self.natives()
            self.assertEqual([(4711, [12, 13], [8, 9])], moved)
            self.assertIn('pCPU 12-13: libvirt could not move the server that '
                          'has borrowed it and its owner starts; the kernel '
                          'has moved its threads', self.stdlog.logger.output)
            self.assertNotified('end', 'Success', None)
        # The next pass asks libvirt again.
        self.ring(self.borrowing)
        self.assertFloats(self.borrowing, {8, 9})

    def test_a_native_owner_starts_whatever_fails(self):
        with self.refusing(), mock.patch.object(
                self, 'assertNoPcpuIsShared'):
            self.natives()
            self.assertNotified('error', 'Error', mock.ANY)
            self.assertIn('its process is not on this machine',
                          self.stdlog.logger.output)
            with mock.patch.object(domains.Domains, 'move_off',
                                   side_effect=BaseException), \
                    mock.patch.object(reclaim, 'force',
                                      side_effect=RuntimeError('broken')):
                self._reboot_server(self.servers()[-1], hard=True)
        self.assertIn('Borrowers could not be asked to leave',
                      self.stdlog.logger.output)

    def servers(self):
        return [server for server in self.api.get_servers()
                if server['id'] != self.borrowing['id']]

    def assertNotified(self, phase, result, reason):
        found = [each for each in self.notifier.versioned_notifications
                 if each['event_type']
                 == f'instance.kongming_eviction.{phase}']
        self.assertEqual(('ERROR', {
            'server': self.borrowing['id'], 'name': self.borrowing['name'],
            'host': 'compute1', 'pcpus': [12, 13], 'result': result,
            'reason': reason}), (
                found[0]['priority'],
                found[0]['payload']['nova_object.data']))

    def test_a_live_change_is_refused(self):
        """Another server wants what is lent, in exchange for its own."""
        other = self.boot(self.template('0:15'))
        self.api.post_server_metadata(self.lending['id'], {
            'kongming:pin.0': '0:10 1:11 2:12 3:15'})
        with self.refusing():
            self.want(other, pin_0='0:13')
            for server in (self.lending, other):
                (result, details), *_ = self.actions(server)
                self.assertEqual('Error', result)
                self.assertIn('still used by a server that borrowed it',
                              details)
        self.assertEqual({10, 11, 12, 13, 15}, self.owned()[1])
        self.ring(other)
        self.assertEqual({0: only(13)}, self.pins(other)[0])
