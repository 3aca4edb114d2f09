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

"""The cost of KongMing for servers without a template."""

import collections
import contextlib
from unittest import mock

import fixtures
from keystoneauth1 import exceptions as ksa_exc
import testtools

from kongming.placement import inventory
from kongming.placement import naming
from nova.compute import resource_tracker
from nova import objects
from nova.scheduler.client import report
from oslo_utils import uuidutils
from tests.embedded import locked
from tests.functional import test_boot
from tests.functional import test_life

#: What the report client asks Placement by.
METHODS = ('get', 'put', 'post', 'delete')


@contextlib.contextmanager
def placement_away():
    """Whatever nova-compute asks Placement finds no connection."""
    def refuse(client, *args, **kwargs):
        raise ksa_exc.ConnectFailure('away')

    with contextlib.ExitStack() as stack:
        for name in METHODS:
            stack.enter_context(mock.patch.object(
                report.SchedulerReportClient, name, refuse))
        yield


class CountedBase(test_life.LifeBase):
    """Counts what nova-compute asks Placement and the database for.

    :ivar requests: to Placement, of the resource tracker, as (method, URL)
    :ivar of_publisher: those of the thread that publishes
    :ivar under_lock: those that the resource tracker sends while it reports
        its host, which it does under its lock; a list of servers that is
        read then is ('list', 'servers')
    """

    def setUp(self):
        super().setUp()
        self.requests, self.under_lock, self.of_publisher = [], [], []
        self._reporting = 0
        for method in METHODS:
            self._patch(report.SchedulerReportClient, method, self._asked)
        self._patch(objects.InstanceList, 'get_by_host_and_node',
                    self._listed)
        self._patch(resource_tracker.ResourceTracker,
                    '_update_to_placement', self._reported)

    def _patch(self, owner, name, function):
        real = getattr(owner, name)
        self.useFixture(fixtures.MockPatchObject(
            owner, name, lambda *args, **kwargs: function(
                name, real, *args, **kwargs)))

    def _asked(self, method, real, client, url, *args, **kwargs):
        compute = self.computes.get('compute1')
        if compute and self._is_publishers(client, compute):
            self.of_publisher.append((method, url))
        if compute and client is compute.manager.rt.reportclient:
            self.requests.append((method, url))
            if self._reporting:
                self.under_lock.append((method, url))
        return real(client, url, *args, **kwargs)

    @staticmethod
    def _is_publishers(client, compute):
        publisher = getattr(compute.driver, 'publisher', None)
        return publisher and client is publisher._placement._adapter._client

    def _listed(self, name, real, *args, **kwargs):
        if self._reporting:
            self.under_lock.append(('list', 'servers'))
        return real(*args, **kwargs)

    def _reported(self, name, real, *args, **kwargs):
        self._reporting += 1
        try:
            return real(*args, **kwargs)
        finally:
            self._reporting -= 1

    def steps(self):
        """Steps of a native server on a host that has had one before.

        :returns: name of a step -> a function that takes it
        """
        self.hosts()
        self.fill(vcpus=1)
        left = []
        return {'boot': lambda: left.append(self.fill(vcpus=1)),
                'delete': lambda: self._delete_server(left.pop()),
                'audit': self.audit}


class _Count(CountedBase):
    """Run by :class:`RequestsTest`, with and without the hook."""

    found: dict[str, int] = {}

    def count(self):
        for name, step in self.steps().items():
            self.publish()
            self.requests.clear()
            self.of_publisher.clear()
            step()
            self.found[name] = len(self.requests)
            if self.HOOKED:
                self.assertEqual([], self.of_publisher)
                self.computes['compute1'].driver.publisher.run()
                # One write for the one node, where pCPUs change hands.
                self.assertEqual(
                    ['put'] if name != 'audit' else [],
                    [method for method, _url in self.of_publisher])


class _Paired(testtools.TestCase):
    """The same with and without the hook.

    :cvar CASE: what is run; its ``count`` fills its ``found``
    """

    CASE: type[test_life.LifeBase]

    def counted(self, hooked, **more):
        """Name of a step -> what was counted."""
        case = type('Case', (self.CASE,), {
            'HOOKED': hooked, 'found': {}, **more})
        result = testtools.TestResult()
        case('count').run(result)
        self.assertTrue(result.wasSuccessful(), [
            trace[-2000:] for _case, trace in
            result.errors + result.failures])
        return case.found


class RequestsTest(_Paired):

    CASE = _Count

    def test_as_many_as_without_kongming(self):
        native, hooked = self.counted(False), self.counted(True)
        self.assertEqual(dict.fromkeys(native, 0), {
            name: hooked[name] - native[name] for name in native})


class _Asked(test_life.LifeBase):
    """Run by :class:`ConductorTest`, with and without the hook.

    A server with a template is on the host where it can be, so that a pass
    has something to do.
    """

    found: dict[str, collections.Counter[str]] = {}
    LIVE_CHANGES, RESTARTS, LOOKS = 'act', False, True

    def actions(self, server):
        """name -> a function that takes it, in this order."""
        def act(action, **status):
            def take():
                self.api.post_server_action(server['id'], {action: None})
                self._wait_for_server_parameter(
                    server, {'OS-EXT-STS:task_state': None, **status})
            return take

        return {
            'diagnostics': lambda: self.api.api_get(
                f'/servers/{server["id"]}/diagnostics'),
            'pause': act('pause', status='PAUSED'),
            'unpause': act('unpause', status='ACTIVE'),
            'suspend': act('suspend', status='SUSPENDED'),
            'resume': act('resume', status='ACTIVE'),
            'hard reboot': lambda: self._reboot_server(server, hard=True),
            'stop': lambda: self._stop_server(server),
            'start': lambda: self._start_server(server),
            'rescue': act('rescue', status='RESCUE'),
            'unrescue': act('unrescue', status='ACTIVE'),
            'delete': lambda: self._delete_server(server)}

    def count(self):
        self.flags(shutdown_timeout=1)
        self.flags(live_changes=self.LIVE_CHANGES, group='kongming')
        self.hosts()
        if self.HOOKED and self.LIVE_CHANGES == 'act':
            self.boot(self.flavor(test_life.TEMPLATE))
            self.reconcile()
        server = self.fill(vcpus=1)
        if self.RESTARTS:
            self.restart_compute_service('compute1')
            if self.HOOKED and self.LOOKS:
                # Its thread makes a pass after Nova's first audit.
                driver = self.computes['compute1'].driver
                self.assertTrue(driver.passes._wake.is_set())
                driver.passes.run()
        asked = self.useFixture(locked.Asked())
        for name, take in self.actions(server).items():
            self._until(lambda: True, 1)
            asked.calls.clear()
            take()
            self._until(lambda: True, 1)
            self.found[name] = collections.Counter(asked.calls)


class ConductorTest(_Paired):

    CASE = _Asked

    def assertMore(self, more, native, hooked):
        """:param more: action -> what is asked for besides"""
        self.assertEqual({**{name: {} for name in native}, **more}, {
            name: dict(hooked[name] - native[name]) for name in native})

    def test_a_native_server_asks_for_the_same(self):
        self.assertMore({}, self.counted(False), self.counted(True))

    def test_so_it_does_after_a_restart(self):
        for live_changes in 'act', 'observe', 'off':
            self.assertMore({}, *(
                self.counted(hooked, LIVE_CHANGES=live_changes, RESTARTS=True)
                for hooked in (False, True)))

    def test_before_the_first_pass(self):
        """In that second nobody knows which servers have a template."""
        self.assertMore(
            {'diagnostics': {'Instance.get_by_uuid': 1},
             'hard reboot': {'InstanceList.get_by_host': 1}}, *(
                self.counted(hooked, RESTARTS=True, LOOKS=False)
                for hooked in (False, True)))


class LockTest(CountedBase):
    """All claims of a host wait for Nova's resource lock."""

    def of_ours(self):
        """(requests that are about KongMing, lists of servers)."""
        uuids = [naming.provider_uuid(
            self.compute_rp_uuids['compute1'], node) for node in (0, 1)]
        return (sum('KONGMING' in url or any(uuid in url for uuid in uuids)
                    for _method, url in self.under_lock),
                sum(method == 'list' for method, _url in self.under_lock))

    def test_nothing_of_ours_for_a_native_server(self):
        found = {}
        for name, step in self.steps().items():
            self.under_lock.clear()
            step()
            found[name] = self.of_ours()
        self.assertEqual({'boot': (0, 0), 'delete': (0, 0),
                          'audit': (0, 0)}, found)

    def test_nothing_of_ours_for_a_live_change(self):
        self.hosts()
        server = self.boot(self.flavor(
            {**test_life.TEMPLATE, 'grant': 'template'}))
        self.api.post_server_metadata(server['id'],
                                      {'kongming:pin.0': '0:15'})
        self.under_lock.clear()
        self.reconcile()
        self.assertEqual({10, 15}, self.owned()[1])
        self.assertEqual((0, 0), self.of_ours())


class ClaimTest(test_life.LifeBase):

    @contextlib.contextmanager
    def allocating(self, times):
        """Somebody allocates on a node between a read and a write of Nova.

        :param times: in so many of nova-compute's reports, at most
        """
        read = report.SchedulerReportClient.get_allocations_for_provider_tree
        client = self.computes['compute1'].manager.rt.reportclient
        child = naming.provider_uuid(self.compute_rp_uuids['compute1'], 0)
        left = list(range(times))

        def allocate(this, *args):
            found = read(this, *args)
            if this is client and left:
                left.pop()
                answer = self.placement.put(
                    f'/allocations/{uuidutils.generate_uuid()}', {
                        'allocations': {child: {'resources': {
                            inventory.MEMORY_MB: 1}}},
                        'project_id': 'p', 'user_id': 'u',
                        'consumer_type': 'INSTANCE',
                        'consumer_generation': None}, version='1.38')
                self.assertEqual(204, answer.status)
            return found

        with mock.patch.object(report.SchedulerReportClient,
                               'get_allocations_for_provider_tree',
                               allocate):
            yield
        self.assertLess(len(left), times)

    def test_allocations_on_a_node_meanwhile(self):
        """As many as Nova makes attempts to report its host."""
        self.hosts()
        self.boot(self.flavor({'node.0': '1'}, vcpus=1, memory=64))
        with self.allocating(4):
            found = self.outcome(self.post(self._create_flavor(
                vcpu=2, memory_mb=64, disk=1, ephemeral=0, swap=0,
                extra_spec=test_boot.PINNED)))
        self.assertEqual(('ACTIVE', None), (
            found['status'], found.get('fault', {}).get('message')))


class ByHandTest(test_life.LifeBase):
    """A flavor whose kongming: keys were written by hand."""

    def test_it_goes_to_no_host_that_does_not_obey(self):
        self.flags(compute_driver='libvirt.LibvirtDriver')
        self.hosts()
        server = self.outcome(self.post(self.flavor(
            test_life.TEMPLATE, trait=False)))
        self.assertEqual('ERROR', server['status'])
        self.assertIn('No valid host', server['fault']['message'])
