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

"""Where interrupts go while pCPUs have owners."""

import hypothesis
from hypothesis import strategies as st

from kongming.interference import irq
from tests import base

NODES = {0: frozenset(range(4)), 1: frozenset(range(4, 8))}
ALL = frozenset(range(8))
#: pCPUs 0 and 4 can get no owner.
DEDICATED = ALL - {0, 4}
MACHINE = irq.Machine(ALL, ALL, DEDICATED, NODES)


def one(allowed, hint=(), node=None, managed=None, effective=None):
    return irq.Irq(36, 'eth0', frozenset(allowed), frozenset(
        allowed if effective is None else effective), frozenset(hint), node,
        managed)


class MovesTest(base.TestCase):

    def after(self, each, owned, machine=MACHINE):
        """Its affinity afterwards."""
        found = irq.moves([each], owned, machine)
        if not found:
            return each.allowed
        self.assertNotEqual(each.allowed, found[0].pcpus)
        return found[0].pcpus

    def test_truth_table(self):
        for what, each, owned, expected in (
                ('nobody owns anything', one(ALL), (), ALL),
                ('it leaves what gets an owner', one(ALL), {3}, ALL - {3}),
                ('and what gets one later', one(ALL - {3}), {3, 5},
                 ALL - {3, 5}),
                ('and comes back', one(ALL - {3, 5}), {5}, ALL - {5}),
                ('the last owner goes', one(ALL - {5}), (), ALL),
                ('where its driver wants it', one({5}, {5}, 1), (), {5}),
                ('that gets an owner: to its node', one({5}, {5}, 1), {5},
                 {4}),
                ('whose device has no node', one({5}, {5}), {5}, {0, 4}),
                ('back to where its driver wants it', one({4}, {5}, 1), (),
                 {5}),
                ('not while that has an owner', one({4}, {5}, 1), {5}, {4}),
                ('all that can get an owner has one', one(ALL), DEDICATED,
                 {0, 4}),
                ('set by somebody, nobody owns that', one({0}), {3}, {0}),
                ('even on a pCPU that can get an owner', one({2}), (), {2}),
                ('it keeps what is left of it', one({2, 3}), {3}, {2}),
                ('nothing is left of it', one({3}), {3}, ALL - {3}),
                ('the kernel moves it for nobody',
                 one({3}, managed=True), {3}, {3})):
            self.assertEqual(expected, self.after(each, owned), what)

    def test_nowhere(self):
        machine = irq.Machine(ALL, ALL, ALL, NODES)
        move, = irq.moves([one(ALL)], ALL, machine)
        self.assertIsNone(move.pcpus)
        # Every pCPU can get an owner, and some have one.
        self.assertEqual(ALL - {3}, self.after(one({3}, {3}), {3}, machine))

    def test_default_affinity(self):
        """irqaffinity= keeps them off what nobody owns, too."""
        machine = irq.Machine(ALL, frozenset({0, 1}), DEDICATED, NODES)
        self.assertEqual({0, 1}, self.after(one({0, 1}), (), machine))
        self.assertEqual({0}, self.after(one({0, 1}), {1}, machine))
        self.assertEqual({0, 1}, self.after(one({0}), (), machine))

    def test_offline(self):
        machine = irq.Machine(ALL - {5, 6}, ALL, DEDICATED, NODES)
        self.assertEqual(ALL, self.after(one(ALL), (), machine))
        # The kernel shows what was asked for, offline ones included.
        self.assertEqual(ALL - {3, 5, 6},
                         self.after(one(ALL), {3, 5}, machine))

    pcpus = st.frozensets(st.integers(0, 7))

    @hypothesis.given(st.lists(pcpus, min_size=1, max_size=5), pcpus,
                      st.sampled_from([None, 0, 1]), st.booleans())
    def test_whatever_comes(self, owners, hint, node, restart):
        """It is never on an owned pCPU while there is another, it is home
        when all are free, and a second look changes nothing.
        """
        each = one(hint or ALL, hint, node)
        home = each.allowed
        for owned in [*owners, frozenset()]:
            owned &= DEDICATED
            each = each._replace(allowed=self.after(each, owned))
            self.assertFalse(each.allowed & owned)
            self.assertTrue(each.allowed)
            self.assertEqual([], irq.moves([each], owned, MACHINE))
        self.assertEqual(home, each.allowed)


class OnOwnedTest(base.TestCase):

    def test_movable_and_managed(self):
        for expected, each in (
                (True, one({3, 4}, effective={4})), (False, one({4})),
                (False, one({3, 4}, managed=True, effective={4})),
                (True, one({3, 4}, managed=True, effective={3}))):
            self.assertEqual(expected, bool(irq.on_owned([each], {3})))


class BansTest(base.TestCase):

    def test_truth_table(self):
        for owned, banned, configured, expected in (
                ((), (), (), None), ({3}, (), (), {3}),
                ({3}, {5}, (), {3}), ((), {3}, (), None),
                ({3}, {0}, (), {0, 3}), ((), {0}, (), {0}),
                ({3}, {6}, {6}, {3, 6}), ((), {3, 6}, {6}, None)):
            self.assertEqual(expected, irq.bans(
                owned, DEDICATED, frozenset(banned), frozenset(configured)))
