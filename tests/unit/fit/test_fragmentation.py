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

from kongming.fit import fit
from kongming.fit import fragmentation
from kongming.host import usage
from tests import base


def host(taken=()):
    """A node of four cores with two threads each."""
    return usage.HostState([usage.NodeState(
        0, frozenset(range(8)), frozenset(taken),
        siblings=[{0, 1}, {2, 3}, {4, 5}, {6, 7}])])


def owning(*pcpus):
    return fit.Assignment((fit.CellAssignment(
        0, dict(enumerate(pcpus))),))


class FragmentsTest(base.TestCase):

    def test_whole_cores_break_nothing(self):
        self.assertEqual(6 / 8, fragmentation.of(host(), owning(0, 1)))

    def test_two_broken_cores(self):
        self.assertEqual(2 + 6 / 8, fragmentation.of(host(), owning(0, 2)))

    def test_filling_up_a_broken_core_is_a_gain(self):
        self.assertEqual(-1 + 6 / 8, fragmentation.of(host({0}), owning(1)))

    def test_the_fuller_host_is_the_better_one(self):
        self.assertLess(fragmentation.of(host({4, 5, 6, 7}), owning(0, 1)),
                        fragmentation.of(host(), owning(0, 1)))

    def test_nothing_owned_costs_nothing(self):
        self.assertEqual(0.0, fragmentation.of(host(), owning()))

    def test_siblings_outside_the_dedicated_set_do_not_count(self):
        state = usage.HostState([usage.NodeState(
            0, frozenset({0, 2}), siblings=[{0, 1}, {2, 3}])])
        self.assertEqual(0.5, fragmentation.of(state, owning(0)))
