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
from unittest import mock

from keystoneauth1 import exceptions as ksa_exc

from kongming.libvirt import memory
from nova.scheduler.client import report
from tests import expected
from tests.functional import test_cases_natives
from tests.functional import test_life
from tests.functional import test_live
from tests.functional import test_profile

#: In seconds; an answer takes a fraction of it on a busy machine.
PATIENCE = 3


class MoveOfMemoryTest(test_profile.ProfileBase):
    """The memory of one server moves; that takes minutes."""

    def _sampled(self, where):
        """Nothing is looked at while a pass is stopped."""

    @contextlib.contextmanager
    def moving(self):
        """A pass that moves memory from node 1 to node 0 and does not end.
        """
        server = self.boot(self.template('0:15'))
        self.driver._reconcile()
        begun, end = threading.Event(), threading.Event()

        def move(*args, **kwargs):
            begun.set()
            end.wait(60)
            return 0

        self.api.post_server_metadata(server['id'], {
            'kongming:node.0': '0', 'kongming:pin.0': '0:5'})
        with mock.patch.object(memory, 'move', move):
            change = self.start(self.driver._reconcile)
            try:
                self.assertTrue(begun.wait(30))
                yield
            finally:
                end.set()
                change.join(60)

    def start(self, function):
        """A thread that is waited for at the end of the test."""
        thread = threading.Thread(target=function, daemon=True)
        thread.start()
        self.addCleanup(thread.join, 60)
        return thread

    @expected.failure(issue=4, because='^AssertionError: True is not false$')
    def test_diagnostics_of_another_server_are_answered(self):
        other = self.lender()
        with self.moving():
            asked = self.start(lambda: self.driver.get_instance_diagnostics(
                self.instance(other['id'])))
            asked.join(PATIENCE)
            self.assertFalse(asked.is_alive())

    @expected.failure(issue=4, because=(
        r'reference = \{0: frozenset\(\{10, 11\}\).* '
        r'actual = \{0: frozenset\(\{10\}\)'))
    def test_profiles_switch_on_time(self):
        server = self.lender()
        self.assertRuns(server, test_profile.OWN)
        with self.moving():
            self.moment = test_profile.NIGHT
            self.start(self.driver._reconciler.switch).join(PATIENCE)
            self.assertRuns(server, test_profile.PACKED)


class PlacementAwayTest(test_live.LiveBase):

    @contextlib.contextmanager
    def away(self):
        def refuse(client, *args, **kwargs):
            raise ksa_exc.ConnectFailure('away')

        with contextlib.ExitStack() as stack:
            for name in test_cases_natives.METHODS:
                stack.enter_context(mock.patch.object(
                    report.SchedulerReportClient, name, refuse))
            yield

    def test_live_changes_go_on(self):
        """And Placement is told of the last one when it is back."""
        server = self.boot(self.template('0:13 1:10'))
        reconcile = self.computes['compute1'].driver._reconcile
        reconcile()
        with self.away():
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
        self.computes['compute1'].driver._reconcile()
        self.computes['compute1'].driver.publisher.run()
        self.assertEqual({10, 15}, self.owned()[1])
        self.assertEqual([], self.requests)
        self.assertLessEqual(len(self.of_publisher), 4, self.of_publisher)
