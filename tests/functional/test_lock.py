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

"""How much is asked of others under Nova's resource lock; the order of locks.

Nobody else is served meanwhile.  ``KONGMING_TEST_SHOW=1`` has the calls
printed.
"""

import contextlib
import os
import pathlib
import re
import threading

import fixtures

from kongming.placement import inventory
from nova.compute import resource_tracker
from nova.scheduler.client import report
from oslo_concurrency import lockutils

from tests.embedded import locked
from tests.functional import test_boot
from tests.functional import test_life
from tests.functional import test_profile

only = test_boot.only

_PAGE = (pathlib.Path(__file__).parents[2] / 'doc' / 'source' / 'contributor'
         / 'state.rst')

#: kind -> calls, at most; a native boot's are Nova's own.
NATIVE = {locked.CONDUCTOR: 4, locked.DATABASE: 11, locked.LIBVIRT: 2,
          locked.PLACEMENT: 4}
TEMPLATE = {locked.CONDUCTOR: 6, locked.DATABASE: 14, locked.LIBVIRT: 2,
            locked.PLACEMENT: 4}
CHANGE = {locked.CONDUCTOR: 6, locked.DATABASE: 10, locked.LIBVIRT: 0,
          locked.PLACEMENT: 0}


class LockTest(test_life.LifeBase):

    def setUp(self):
        super().setUp()
        self.hosts()
        # What is read once only has been.
        for flavor in (self._create_flavor(vcpu=1, extra_spec=(
                test_boot.PINNED)), self.flavor({'pin.0': '0:2'}, vcpus=1)):
            self.boot(flavor)
        self._until(lambda: True, 1)
        self.locked = self.useFixture(locked.Locked())

    def assertAtMost(self, most, what):
        self._until(lambda: True, 1)
        found = self.locked.numbers()
        if os.environ.get('KONGMING_TEST_SHOW'):
            print(f'{what}: {found}\n{self.locked.table()}')
        self.assertEqual({}, {
            kind: number for kind, number in found.items()
            if number > most[kind]}, self.locked.table())

    def test_native_boot(self):
        flavor = self._create_flavor(vcpu=2, extra_spec=test_boot.PINNED)
        self.locked.clear()
        self.boot(flavor)
        self.assertAtMost(NATIVE, 'native boot')

    def test_template_boot(self):
        flavor = self.flavor(test_life.TEMPLATE)
        self.locked.clear()
        self.boot(flavor)
        self.assertAtMost(TEMPLATE, 'template boot')

    def test_live_change(self):
        server = self.boot(self.flavor(
            {**test_life.TEMPLATE, 'grant': 'template'}))
        self.api.post_server_metadata(
            server['id'], {'kongming:pin.0': '0:15'})
        self._until(lambda: True, 1)
        # Nova has counted it as active.
        self.audit()
        self.locked.clear()
        self.reconcile()
        self.assertEqual({10, 15}, self.owned()[1])
        self.assertAtMost(CHANGE, 'live change')


class PlacementTest(test_life.LifeBase):
    """What a live change asks of Placement on a host with many servers."""

    SERVERS = 11

    def setUp(self):
        super().setUp()
        # Nova's default of instances is ten.
        self.flags(instances=-1, cores=-1, ram=-1, group='quota')
        self.hosts()
        self.api.post_server({'server': {
            **self._build_server(networks='none', flavor_id=self.flavor(
                {'grant': 'template'}, vcpus=1, memory=64)),
            'min_count': self.SERVERS}})
        self.assertTrue(self._until(lambda: self.SERVERS == sum(
            server['status'] == 'ACTIVE'
            for server in self.api.get_servers()), 1200))
        self.publish_and_audit()
        self.reconcile()
        self.requests = []
        self.locked = self.useFixture(locked.Locked())
        for name in ('get', 'post', 'put', 'delete'):
            self._watch(name)

    def _watch(self, name):
        owner = report.SchedulerReportClient
        real = getattr(owner, name)

        def call(client, url, *args, **kwargs):
            self.requests.append(f'{name} {url}')
            return real(client, url, *args, **kwargs)

        self.useFixture(fixtures.MockPatchObject(owner, name, call))

    def test_one_of_eleven_moves(self):
        driver = self.computes['compute1'].driver
        owned = frozenset().union(*self.owned().values())
        free, = (set(range(2, 8)) | set(range(10, 16))) - owned
        server = next(
            server for server in self.api.get_servers()
            if self.instance(server['id']).numa_topology.cells[0].id
            == free // 8)
        before, = self.pins(server)[0][0]

        self.api.post_server_metadata(
            server['id'], {'kongming:pin.0': f'0:{free}'})
        self.reconcile()
        # As its thread does; see Publisher._run_forever.
        driver.publisher.run()

        self.assertEqual({0: only(free)}, self.pins(server)[0])
        self.assertEqual(owned - {before} | {free},
                         frozenset().union(*self.owned().values()))
        self.assertLessEqual(len(self.requests), 4, self.requests)
        # The counters count.
        self.assertIn('put', {
            request.partition(' ')[0] for request in self.requests})
        numbers = self.locked.numbers()
        self.assertEqual(0, numbers[locked.PLACEMENT], self.locked.table())
        self.assertGreater(numbers[locked.DATABASE], 0)
        for pcpu, taken in (before, 0), (free, 1):
            name = inventory.pcpu_class(pcpu)
            records, usages, _traits = self.children(publish=False)[pcpu // 8]
            self.assertEqual(taken, usages[name] + records[name]['reserved'])


class _Watched:
    """A lock of which each acquisition is looked at.

    :param watch: gives a context, called before the lock is taken
    """

    def __init__(self, real, watch):
        self._real, self._watch = real, watch
        self._mine = threading.local()

    def acquire(self, *args, **kwargs):
        taken = self._real.acquire(*args, **kwargs)
        if taken:
            self._mine.stack = [*getattr(self._mine, 'stack', ()),
                                self._watch()]
            self._mine.stack[-1].__enter__()
        return taken

    def release(self):
        *self._mine.stack, last = self._mine.stack
        last.__exit__(None, None, None)
        self._real.release()

    def __enter__(self):
        self.acquire()

    def __exit__(self, *_exc):
        self.release()


class OrderTest(test_profile.ProfileBase):
    """No thread takes two locks in another order than the page has them."""

    def setUp(self):
        super().setUp()
        self.order = re.findall(
            r'^   \* - ``([._a-z]+)``\n     - (?:by|during|while|Nova)',
            _PAGE.read_text(), re.MULTILINE)
        self.assertEqual(resource_tracker.COMPUTE_RESOURCE_SEMAPHORE,
                         self.order[-1])
        self.taken, self.wrong = set(), []
        self._mine = threading.local()
        for path in self.order[:-1]:
            owner, _dot, name = f'_reconciler.{path}'.rpartition('.')
            found = self.driver
            for part in owner.split('.'):
                found = getattr(found, part)
            setattr(found, name, _Watched(
                getattr(found, name),
                lambda path=path: self._holding(path)))
        places = self.driver._reconciler._places
        places._affinity_lock = self.driver._reconciler._affinity_lock
        lock = lockutils.lock

        @contextlib.contextmanager
        def watched(name, *args, **kwargs):
            with lock(name, *args, **kwargs) as real, contextlib.ExitStack(
                    ) as stack:
                if name == self.order[-1]:
                    stack.enter_context(self._holding(name))
                yield real

        self.useFixture(fixtures.MonkeyPatch(
            'oslo_concurrency.lockutils.lock', watched))

    @contextlib.contextmanager
    def _holding(self, name):
        mine = self._mine.__dict__.setdefault('mine', [])
        later = [other for other in mine
                 if self.order.index(other) > self.order.index(name)]
        if later:
            self.wrong.append((later, name))
        self.taken.add(name)
        mine.append(name)
        try:
            yield
        finally:
            mine.pop()

    def test_order(self):
        lender, borrower = self.lender(), self.borrower()
        self.at(test_profile.NIGHT, lender)
        self.assertFloats(borrower, {8, 9, 12, 13})
        self.driver._reconciler.switch()
        self.want(lender, pin_0='0:10 1:11 2:15 3:14')
        self._reboot_server(lender, hard=True)
        self.fill()
        self._suspend_server(borrower)
        self.audit()
        self._delete_server(lender)
        self.reconcile()
        self.assertEqual([], self.wrong)
        self.assertEqual(set(self.order), self.taken)

    def test_another_order_is_seen(self):
        with self._holding(self.order[-1]), self._holding(self.order[0]):
            pass
        self.assertEqual([([self.order[-1]], self.order[0])], self.wrong)
