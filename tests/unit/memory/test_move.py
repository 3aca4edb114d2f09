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

"""Moves against a model of the kernel: any state, any end in the middle."""

import random
import time

import hypothesis
from hypothesis import strategies as st

from kongming import exception
from kongming.kernel import mover
from kongming.memory import move
from kongming.memory import order
from tests import base
from tests import numa
from tests.unit.memory import test_order

PID = 7


class Killed(Exception):
    pass


def made(process, nodes=range(6), **options):
    kernel = numa.Kernel(nodes, {PID: process})
    return kernel, mover.Mover(kernel, PID, process.cells_kib, pause=0,
                               budget=2.0, **options)


class MoverTest(base.TestCase):

    def test_two_cells_in_both_ways(self):
        for slice_mib in (0, 1):
            process = numa.Process((0, 1), pages=600)
            kernel, found = made(process, slice_mib=slice_mib)
            found.check((0, 1), (0, 3))
            found.go((0, 3))
            self.assertEqual([{0}, {3}], process.where())
            self.assertEqual([0, 3], process.bound())
            self.assertEqual({frozenset({0, 3})}, set(
                process.groups.values()))
            called = {call[0] for call in kernel.calls}
            self.assertEqual('migrate_pages' in called, slice_mib == 0)
            # Three slices of at most 1 MiB.
            self.assertEqual(3 if slice_mib else 0,
                             kernel.calls.count(('move_slice', 3)))

    def test_pages_move_before_the_policy_is_rebound(self):
        """What a cpuset write moves holds up every other one."""
        for slice_mib in (0, 16):
            process = numa.Process((1, 3))
            kernel, found = made(process, slice_mib=slice_mib)
            seen = []
            kernel.before = lambda what: seen.append(
                (what, process.where()))
            found.go((0, 3))
            bound = [where for what, where in seen
                     if what == 'set_mems vcpu0']
            self.assertEqual([[{0}, {3}]], bound)

    def test_nothing_is_written_where_all_is_there(self):
        kernel, found = made(numa.Process((2, 0)))
        found.go((2, 0))
        self.assertEqual([], kernel.calls)

    def test_huge_pages(self):
        process = numa.Process((0, 1), pages=20, page_kib=2048)
        kernel, found = made(process, slice_mib=1)
        found.go((0, 2))
        self.assertEqual([{0}, {2}], process.where())
        self.assertEqual(20, kernel.calls.count(('move_slice', 2)))

    def test_memfd_goes_on_being_bound(self):
        process = numa.Process((0, 1), file='/memfd:memory-backend-memfd')
        _kernel, found = made(process)
        seen = found.go((0, 3))
        self.assertEqual([{0}, {3}], process.where())
        self.assertEqual([0, 1], process.bound())
        self.assertEqual((1,), move.stale_policies(seen, (0, 3)))
        # What comes into being later does so elsewhere, and is moved.
        process.mappings[1].pages[3] = None
        process.fault(1, 3)
        self.assertEqual([{0}, {0, 3}], process.where())
        found.go((0, 3))
        self.assertEqual([{0}, {3}], process.where())

    def test_restrictive_of_one_cell(self):
        process = numa.Process((0,), pages=1024, policy=False)
        _kernel, found = made(process)
        found.go((2,))
        self.assertEqual([{2}], process.where())

    def test_pages_that_stay_are_not_taken_for_moved(self):
        """Pinned by a device, say; and the move is rolled back as a whole."""
        process = numa.Process((0, 1))
        process.pinned = {(process.mappings[1].first, 5)}
        _kernel, found = made(process)
        found._budget = 0.2
        error = self.assertRaises(exception.NotMoved, found.go, (0, 3))
        self.assertIn('1 pages of 4 KiB of cell 1 are on node 1',
                      str(error))
        found.go((0, 1))
        self.assertEqual([{0}, {1}], process.where())
        self.assertEqual([0, 1], process.bound())

    def test_target_that_fills_up(self):
        process = numa.Process((0, 1))
        kernel, found = made(process)
        found._budget = 0.2
        kernel.free = {3: 4}
        error = self.assertRaises(exception.NotMoved, found.go, (0, 3))
        self.assertIn('4 pages of 4 KiB', str(error))
        found.go((0, 1))
        self.assertEqual(([{0}, {1}], [0, 1]),
                         (process.where(), process.bound()))

    def test_not_longer_than_it_may(self):
        """A slice may take long, and there may be many of them."""
        process = numa.Process((0, 1), pages=256 * 40)
        kernel = numa.Kernel(range(6), {PID: process})
        found = mover.Mover(kernel, PID, process.cells_kib, slice_mib=1,
                            budget=.3, pause=0)
        kernel.before = lambda what: time.sleep(.1)
        self.assertRaises(exception.NotMoved, found.go, (0, 3))
        self.assertLess(kernel.calls.count(('move_slice', 3)), 10)

    def test_order_is_not_broken(self):
        process = numa.Process((0, 1))
        kernel, found = made(process)
        # By their policies each would be where the other is to be.
        error = self.assertRaises(exception.NotMoved, found.check, (0, 1),
                                  (1, 0))
        self.assertIn('keeps the order of the cells', str(error))
        self.assertEqual([], kernel.calls)
        self.assertEqual([0, 1], process.bound())

    def test_progress_in_pages(self):
        reported = []
        _kernel, found = made(numa.Process((0, 1), pages=1024),
                              slice_mib=1, report=reported.append)
        found.go((0, 3))
        self.assertIn('cell 1: 256 of 1024 pages of 4 KiB are on node 3, '
                      'about ', reported[0])
        self.assertIn('cell 1: 1024 of 1024 pages', reported[3])

    def test_unknown_process(self):
        process = numa.Process((0, 1))
        _kernel, found = made(process)
        process.mappings.pop()
        error = self.assertRaises(exception.MemoryUnknown, found.check,
                                  (0, 1), (0, 2))
        self.assertIn('has 1 mapping(s) bound to nodes, and the guest 2',
                      str(error))
        process.is_gone = True
        self.assertRaises(OSError, found.go, (0, 2))

    @hypothesis.settings(deadline=None, max_examples=300)
    @hypothesis.given(places=test_order.two_places(), seed=st.integers(),
                      whole=st.booleans(), pages=st.integers(1, 6))
    def test_killed_anywhere(self, places, seed, whole, pages):
        """After each kill it goes where it is reported to, cells undisturbed.

        Meanwhile the guest touches memory for the first time.
        """
        before, after = places
        chance = random.Random(seed)
        process = numa.Process(before, pages)
        for mapping in process.mappings:
            for page in range(pages):
                if chance.random() < 0.3:
                    mapping.pages[page] = None
        kernel, found = made(process, slice_mib=0 if whole else 1)
        now = list(before)
        for cell, node in order.steps(before, after):
            there = list(now)
            there[cell] = node
            goal = there
            for _attempt in range(3):
                left = chance.randrange(8)

                def step(_what):
                    nonlocal left
                    process.fault(chance.randrange(len(before)),
                                  chance.randrange(pages),
                                  chance.choice([*process.groups]))
                    left -= 1
                    if left < 0:
                        raise Killed()

                kernel.before = step
                try:
                    found.go(goal)
                except Killed:
                    # Roll it back, or go on.
                    goal = chance.choice((now, there))
            kernel.before = lambda what: None
            found.go(goal)
            self._assert_at(process, goal)
            found.go(there)
            self._assert_at(process, there)
            now = there

    def _assert_at(self, process, nodes):
        for cell, node in enumerate(nodes):
            self.assertLessEqual(process.where()[cell], {node})
        self.assertEqual(list(nodes), process.bound())
        self.assertEqual({frozenset(nodes)}, set(process.groups.values()))
