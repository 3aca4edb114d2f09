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

"""Live changes and answers that wait for unrelated work."""

import contextlib
import threading
import time
from unittest import mock

import fixtures

from kongming.intent import budget
from kongming.kernel import mover
from kongming.live import progress
from nova.compute import power_state
from nova import exception
from nova import objects
from nova.tests.fixtures import libvirt as fakelibvirt
from nova.virt import event as virtevent
from nova.virt.libvirt import driver
from nova_ext.live import history
import oslo_messaging as messaging
import sqlalchemy
from sqlalchemy import event
from tests.embedded import hypervisor
from tests.functional import test_cases_natives
from tests.functional import test_life
from tests.functional import test_live
from tests.functional import test_profile

only = test_live.only
#: In seconds; an answer takes a fraction of it on a busy machine.
PATIENCE = 3


class MoveOfMemoryTest(test_profile.ProfileBase):
    """The memory of one server moves; that takes minutes."""

    def setUp(self):
        super().setUp()
        self.useFixture(hypervisor.Numa())

    def _sampled(self, where):
        """Nothing is looked at while a pass is stopped."""

    @contextlib.contextmanager
    def moving(self):
        """Memory that moves from node 1 to node 0 and does not end."""
        server = self.boot(self.template('0:15'))
        self.reconcile()
        begun, end = threading.Event(), threading.Event()

        real = mover.Mover.go

        def go(*args):
            begun.set()
            end.wait(60)
            return real(*args)

        self.api.post_server_metadata(server['id'], {
            'kongming:node.0': '0', 'kongming:pin.0': '0:5'})
        with mock.patch.object(mover.Mover, 'go', go):
            self.driver.passes.run()
            try:
                self.assertTrue(begun.wait(30))
                yield server
            finally:
                end.set()
                self.settle()

    def test_other_servers_are_served(self):
        lender = self.lender()
        waits = self.boot(self.template('0:14'))
        other = self.boot(self.flavor({
            'node.0': '0', 'pin.0': '0:2', 'grant': 'template'}, vcpus=1))
        with self.moving() as server:
            # Another one changes, and is recorded.
            self.api.post_server_metadata(other['id'],
                                          {'kongming:pin.0': '0:3'})
            self.driver.passes.run()
            self._wait_for_assert(lambda: self.assertEqual(
                [('Success', None)], self.actions(other)))
            # Diagnostics are answered; there is nothing to be told.
            before = time.monotonic()
            found = self.api.api_get(
                f'/servers/{other["id"]}/diagnostics').body
            self.assertLess(time.monotonic() - before, PATIENCE)
            self.assertEqual('linux', found['hypervisor_os'])
            # Those of the server itself tell what goes on.
            found = self.going_on(server)
            self.assertIn('a live change: cell 0 node 1->0 0:15->5', found)
            self.assertEqual([(None, None)], self.actions(server))
            # Who wants what it is leaving waits, and is not refused.
            self.api.post_server_metadata(waits['id'],
                                          {'kongming:pin.0': '0:15'})
            self.assertIn('waits for another change', self.going_on(waits))
            self.assertEqual([], self.actions(waits))
            # Profiles switch, without Nova.
            self.moment = test_profile.NIGHT
            with self.no_database():
                self.driver._reconciler.switch()
            self.assertRuns(lender, test_profile.PACKED)
        self.assertEqual([('Success', None)], self.actions(server))
        self.reconcile()
        self.assertHolds(waits, {0: 15})
        self.assertHolds(server, {0: 5})

    def assertFollowed(self, followed, meanwhile=lambda server: None):
        with self.moving() as server:
            meanwhile(server)
            self.driver.passes._wake.clear()
        self.assertEqual(followed, self._until(
            self.driver.passes._wake.is_set, 1))
        self.assertEqual([('Success', None)], self.actions(server))

    def test_nothing_follows(self):
        """A pass would only keep the next change waiting."""
        self.assertFollowed(False)

    def test_what_is_wanted_meanwhile_follows(self):
        def change(server):
            self.api.post_server_metadata(server['id'],
                                          {'kongming:pin.0': '0:6'})
            self.driver.passes.run()

        self.assertFollowed(True, change)

    def test_who_waits_follows(self):
        waits = self.boot(self.template('0:14'))

        def change(_server):
            self.api.post_server_metadata(waits['id'],
                                          {'kongming:pin.0': '0:15'})
            self.driver.passes.run()

        self.assertFollowed(True, change)

    def test_borrowers_follow(self):
        self.borrower()
        self.assertFollowed(True)

    def going_on(self, server):
        """What its diagnostics tell."""
        instance = self.instance(server['id'])
        self.assertEqual(power_state.RUNNING,
                         self.driver.get_info(instance).state)
        return progress.read(self.driver.get_instance_diagnostics(
            instance).hypervisor_os)

    def no_database(self):
        return mock.patch.object(
            objects.InstanceList, 'get_by_host_and_node',
            side_effect=AssertionError('Nova was asked'))


class HangingTest(test_profile.ProfileBase):
    """libvirt does not answer about one server."""

    def _sampled(self, where):
        """Nothing is looked at while a thread hangs."""

    def test_other_servers_are_looked_after(self):
        hangs, other = (self.boot(self.template(f'0:{pcpu}'))
                        for pcpu in (14, 15))
        self.reconcile()
        self.useFixture(fixtures.MonkeyPatch('nova_ext.live.jobs.PATIENCE',
                                             0.5))
        end = threading.Event()
        self.addCleanup(end.set)
        real = fakelibvirt.Domain.XMLDesc

        def describe(domain, flags):
            if domain.UUIDString() == hangs['id']:
                end.wait(60)
            return real(domain, flags)

        with mock.patch.object(fakelibvirt.Domain, 'XMLDesc', describe):
            self.api.post_server_metadata(other['id'],
                                          {'kongming:pin.0': '0:13'})
            self.driver.passes.run()
            self._wait_for_assert(lambda: self.assertRuns(
                other, {0: only(13)}))
            job = self.driver._reconciler.jobs.of(hangs['id'])
            self.assertIn('its threads are put', str(job))
            # The next pass does not wait for it.
            self.driver.passes.run()
            self.assertIs(job, self.driver._reconciler.jobs.of(hangs['id']))
            end.set()
            self.settle()
        self.want(hangs, pin_0='0:12')
        self.assertHolds(hangs, {0: 12})
        self.assertEqual([('Success', None)], self.actions(hangs))


class BudgetTest(test_live.LiveBase):

    def test_the_others_wait(self):
        self.flags(changes_per_minute=1, group='kongming')
        servers = [self.boot(self.template(f'0:{pcpu}'))
                   for pcpu in (10, 11)]
        self.reconcile()
        for server, pcpu in zip(servers, (14, 15)):
            self.api.post_server_metadata(
                server['id'], {'kongming:pin.0': f'0:{pcpu}'})
        for _pass in range(2):
            self.assertTrue(self.reconcile())
        (waits, pcpu, goal), = [
            found for found in zip(servers, (10, 11), (14, 15))
            if self.pins(found[0])[0] == {0: only(found[1])}]
        found = self.ring(waits)['hypervisor_os']
        self.assertIn('it waits its turn: this host changes 1 servers a '
                      'minute', found)
        self.assertEqual([], self.actions(waits))
        self.assertHolds(waits, {0: pcpu})
        self.flags(changes_per_minute=2, group='kongming')
        self.assertFalse(self.reconcile())
        self.assertHolds(waits, {0: goal})

    def test_what_is_not_begun_takes_nothing_of_it(self):
        """As many jobs run as may."""
        self.flags(changes_per_minute=3, group='kongming')
        self.useFixture(fixtures.MonkeyPatch('nova_ext.live.jobs.MOST', 1))
        servers = [self.boot(self.template(f'0:{pcpu}'))
                   for pcpu in (10, 11, 12)]
        self.reconcile()
        for server, pcpu in zip(servers, (13, 14, 15)):
            self.api.post_server_metadata(
                server['id'], {'kongming:pin.0': f'0:{pcpu}'})
        for _pass in servers:
            self.reconcile()
        for server, pcpu in zip(servers, (13, 14, 15)):
            self.assertHolds(server, {0: pcpu})

    def test_what_was_changed_before_a_restart_counts(self):
        self.flags(changes_per_minute=1, group='kongming')
        changed, waits = (self.boot(self.template(f'0:{pcpu}'))
                          for pcpu in (10, 11))
        self.want(changed, pin_0='0:14')
        self.assertHolds(changed, {0: 14})
        self.restart_compute_service('compute1')
        self.api.post_server_metadata(waits['id'], {'kongming:pin.0': '0:15'})
        self.assertTrue(self.reconcile())
        self.assertHolds(waits, {0: 11})
        self.assertEqual([], self.actions(waits))
        # It had to be asked once.
        with mock.patch.object(history, 'changes') as asked:
            self.reconcile()
        asked.assert_not_called()
        with mock.patch.object(budget, 'WINDOW', 0.0):
            self.assertFalse(self.reconcile())
        self.assertHolds(waits, {0: 15})


class NativesOnlyTest(test_life.LifeBase):
    """A host has no server with a template, or has none any more."""

    def setUp(self):
        super().setUp()
        self.hosts()
        self.native = self.fill()
        self.driver = self.computes['compute1'].driver
        self.statements = []
        event.listen(sqlalchemy.Engine, 'before_cursor_execute', self._asked)
        self.addCleanup(event.remove, sqlalchemy.Engine,
                        'before_cursor_execute', self._asked)

    def _asked(self, _connection, _cursor, statement, *_args):
        self.statements.append(statement)

    def events(self, server, number):
        """A domain that resumes again and again; Nova is not told of it."""
        with mock.patch.object(driver.LibvirtDriver, 'emit_event'):
            for _ in range(number):
                self.driver.emit_event(virtevent.LifecycleEvent(
                    server['id'], virtevent.EVENT_LIFECYCLE_RESUMED))

    def assertNobodyIsAsked(self):
        """By what native servers do, nor by what the host does by itself."""
        topology = self.instance(self.native['id']).numa_topology
        self.audit()
        self._until(lambda: True, 1)
        self.statements.clear()
        self.events(self.native, 1000)
        self.driver.passes.run(patient=True)
        self.driver._lifecycle.reclaim(topology, False)
        self.assertEqual([], self.statements)
        self.assertFalse(self.driver.passes._wake.is_set())
        self.assertFalse(self.driver._reconciler.has_work)

    def test_nobody_is_asked(self):
        # Nova's first audit has made the one pass that there is.
        self.assertTrue(self.driver.passes._wake.is_set())
        self.driver.passes._wake.clear()
        self.driver.passes.run()
        self.assertNobodyIsAsked()
        server = self.boot(self.flavor(test_life.TEMPLATE))
        self.assertTrue(self.driver._reconciler.has_work)
        self.reconcile()
        self.events(server, 1)
        self.assertTrue(self.driver.passes._wake.is_set())
        self.driver.passes._wake.clear()
        self._delete_server(server)
        self.reconcile()
        self.assertNobodyIsAsked()


class RecordedLaterTest(test_live.LiveBase):
    """Conductor is away when a change has ended."""

    def test_once(self):
        server = self.boot(self.template('0:13 1:10'))
        self.reconcile()
        self.api.post_server_metadata(server['id'],
                                      {'kongming:pin.0': '0:15'})
        with mock.patch.object(
                objects.InstanceActionEvent, 'event_finish_with_failure',
                side_effect=messaging.MessagingTimeout('away')):
            self.reconcile()
            self.assertEqual({0: only(15), 1: only(10)},
                             self.pins(server)[0])
            self.assertEqual([(None, None)], self.actions(server))
            # It is in nobody's way.
            self.want(server, emulator='8-9')
        for _pass in range(2):
            self.reconcile()
        self.assertEqual([('Success', None)] * 2, self.actions(server))
        self.assertEqual(2, self.stdlog.logger.output.count('Live change: '))
        self.assertHolds(server, {0: 15, 1: 10})


class LibvirtAwayTest(test_live.LiveBase):
    """libvirt does not tell its host."""

    def test_what_was_refused_is_recorded(self):
        """The pass goes on to its end."""
        server = self.boot(self.template('0:13 1:10'))
        self.reconcile()
        driver_ = self.computes['compute1'].driver
        with mock.patch.object(
                driver_, '_get_host_numa_topology', side_effect=(
                    exception.HypervisorUnavailable(host='compute1'))):
            self.reconcile()
        self.assertEqual(['Error'], [
            result for result, _details in self.actions(server)])
        self.assertNotIn('A pass over the servers with a template failed',
                         self.stdlog.logger.output)
        self.want(server, pin_0='0:15')
        self.assertHolds(server, {0: 15, 1: 10})


class PlacementAwayTest(test_live.LiveBase):

    def test_live_changes_go_on(self):
        """And Placement is told of the last one when it is back."""
        server = self.boot(self.template('0:13 1:10'))
        reconcile = self.reconcile
        reconcile()
        with test_cases_natives.placement_away():
            for pin in ('0:15', '0:14'):
                self.api.post_server_metadata(
                    server['id'], {'kongming:pin.0': pin})
                reconcile()
            self.assertEqual({0: 14, 1: 10}, {
                vcpu: min(pcpus)
                for vcpu, pcpus in self.pins(server)[0].items()})
        self.assertEverywhere(server, {0: 14, 1: 10})


class RequestsTest(test_cases_natives.CountedBase):

    def test_one_vcpu_is_moved(self):
        self.hosts()
        server = self.boot(self.flavor(
            {**test_life.TEMPLATE, 'grant': 'template'}))
        self.api.post_server_metadata(server['id'],
                                      {'kongming:pin.0': '0:15'})
        self.publish()
        self.requests.clear()
        self.of_publisher.clear()
        self.reconcile()
        self.computes['compute1'].driver.publisher.run()
        self.assertEqual({10, 15}, self.owned()[1])
        self.assertEqual([], self.requests)
        self.assertLessEqual(len(self.of_publisher), 4, self.of_publisher)
