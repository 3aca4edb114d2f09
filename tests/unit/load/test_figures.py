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

import hypothesis
from hypothesis import strategies as st

from kongming.load import figures
from tests import base

SECOND = 10 ** 9


def counters(at, *vcpus, start=1, remote=None):
    return figures.Counters(at, {
        vcpu: figures.Times(*times) for vcpu, times in enumerate(vcpus)},
        start, remote)


class BetweenTest(base.TestCase):

    def test_a_mean_over_vcpus_and_time(self):
        found = figures.between(
            counters(10, (0, 0), (SECOND, 0)),
            counters(14, (SECOND, SECOND), (3 * SECOND, 0), remote=2.5))
        self.assertEqual(figures.Figures(4, 50, 12.5, 2.5), found)
        self.assertEqual('use 50.0%, wait 12.5%, remote 2.5%', str(found))

    def test_a_vcpu_that_came_or_went_is_left_out(self):
        one = counters(10, (0, 0))
        two = counters(14, (2 * SECOND, 0), (4 * SECOND, 0))
        self.assertEqual(50, figures.between(one, two).use)
        self.assertEqual(0, figures.between(
            counters(10, (0, 0), (0, 0)), counters(14, (0, 0))).use)

    def test_not_known(self):
        one = counters(10, (SECOND, SECOND))
        for other in (counters(10, (SECOND, SECOND)),
                      counters(9, (SECOND, SECOND)),
                      counters(14, (0, SECOND)), counters(14, (SECOND, 0)),
                      counters(14, (SECOND, SECOND), start=2), counters(14)):
            self.assertIsNone(figures.between(one, other), other)

    @hypothesis.given(*[st.lists(st.tuples(*[st.integers(
        0, 2 ** 62)] * 2), max_size=3)] * 2, st.floats(-1, 1e6))
    def test_always_per_cent(self, before, after, seconds):
        found = figures.between(counters(0, *before),
                                counters(seconds, *after))
        if found is not None:
            self.assertTrue(0 <= found.wait <= found.use <= 100)


class RemoteTest(base.TestCase):

    def test_of_all_mappings(self):
        self.assertEqual(25.0, figures.remote(
            [{0: 100, 1: 50}, {1: 50}, {}], {0, 2}) / 2)
        self.assertEqual(0.0, figures.remote([{0: 4}], {0}))
        self.assertIsNone(figures.remote([{}], {0}))
