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

"""The order of cells, against a model of what the kernel does."""

import itertools

import hypothesis
from hypothesis import strategies as st

from kongming.memory import order
from tests import base


@st.composite
def two_places(draw):
    """Nodes of a guest's cells, and others in the same order."""
    nodes = range(draw(st.integers(2, 6)))
    cells = draw(st.integers(1, min(4, len(nodes))))
    pick = st.permutations(nodes).map(lambda found: sorted(found[:cells]))
    before, after = draw(pick), draw(pick)
    names = draw(st.permutations(range(cells)))
    return ([before[name] for name in names], [after[name] for name in names])


class OrderTest(base.TestCase):

    def test_remap_is_the_kernels(self):
        """Examples of bitmap_remap's own comment, and of facts measured."""
        def remap(node, old, new):
            return order.remap(node, frozenset(old), frozenset(new))

        self.assertEqual([12, 13], [
            remap(node, range(4, 8), range(12, 16)) for node in (4, 5)])
        self.assertEqual(9, remap(9, range(4, 8), range(12, 16)))
        # {1,3} widened to 0-3, and narrowed again.
        self.assertEqual([0, 1], [remap(node, {1, 3}, range(4))
                                  for node in (1, 3)])
        self.assertEqual([1, 3], [remap(node, range(4), {1, 3})
                                  for node in (0, 1)])
        self.assertEqual([2, 2], [remap(node, {0, 1}, {2})
                                  for node in (0, 1)])

    def test_table(self):
        for before, after, steps in (
                ((0, 1), (0, 2), [(1, 2)]),
                ((0, 1), (1, 2), [(1, 2), (0, 1)]),
                ((1, 2), (0, 1), [(0, 0), (1, 1)]),
                ((0, 3), (1, 2), [(0, 1), (1, 2)]),
                ((3, 0), (2, 1), [(0, 2), (1, 1)]),
                ((0, 1, 2), (1, 2, 3), [(2, 3), (1, 2), (0, 1)]),
                ((0,), (3,), [(0, 3)]),
                ((1, 2), (1, 2), [])):
            self.assertEqual('', order.why_not(before, after))
            self.assertEqual(steps, order.steps(before, after))

    def test_refused(self):
        reason = order.why_not((0, 1), (1, 0))
        self.assertIn('cell 0 is on a lower node than cell 1 (0, 1)', reason)
        self.assertIn('hard reboot', reason)
        self.assertIn('on one node', order.why_not((0, 1), (2, 2)))
        self.assertRaises(ValueError, order.steps, (0, 1), (2, 1))
        self.assertFalse(order.keeps((0, 1), 0, 2))
        self.assertTrue(order.keeps((0, 1), 1, 3))

    def test_no_write_changes_the_order_of_two(self):
        """Nor do several, by way of any other sets."""
        sets = [frozenset(found) for size in range(1, 5)
                for found in itertools.combinations(range(4), size)]
        seen = {(frozenset({0, 1}), (0, 1))}
        new = seen
        while new:
            new = {(target, tuple(order.remap(node, now, target)
                                  for node in nodes))
                   for now, nodes in new for target in sets} - seen
            seen |= new
        reached = {nodes for _now, nodes in seen}
        self.assertIn((1, 3), reached)
        self.assertEqual(set(), {(low, high) for low, high in reached
                                 if low > high})

    @hypothesis.given(two_places())
    def test_each_step_keeps_what_stays(self, places):
        before, after = places
        now = list(before)
        for cell, node in order.steps(before, after):
            old, target = frozenset(now), frozenset(now) - {now[cell]} | {
                node}
            self.assertNotIn(node, now)
            for other, was in enumerate(now):
                self.assertEqual(node if other == cell else was,
                                 order.remap(was, old, target))
            now[cell] = node
        self.assertEqual(after, now)
