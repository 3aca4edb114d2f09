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

from kongming.placement import cores
from tests import base


class CoreTraitsTest(base.TestCase):

    def survives(self, layout):
        """Traits of a layout that is read back from them."""
        traits = cores.core_traits(layout)
        self.assertEqual(layout, cores.cores_of_traits(
            [*traits, 'HW_NUMA_ROOT', 'CUSTOM_KONGMING_NODE_0']))
        for trait in traits:
            # Placement's own rule (placement/schemas/trait.py).
            self.assertRegex(trait, '^CUSTOM_[A-Z0-9_]+$')
            self.assertLess(len(trait), 256)
        return traits

    def test_a_whole_socket_is_one_trait(self):
        self.assertEqual(
            ['CUSTOM_KONGMING_CORES_0_31_1_64_2'],
            self.survives([(n, n + 64) for n in range(32)]))

    def test_every_other_pcpu(self):
        self.assertEqual(['CUSTOM_KONGMING_CORES_0_62_2_0_1'],
                         self.survives([(n,) for n in range(0, 64, 2)]))

    def test_an_irregular_core(self):
        self.assertEqual(['CUSTOM_KONGMING_CORE_1_2_4'],
                         self.survives([(1, 2, 4)]))

    def test_an_irregular_core_of_many_threads(self):
        """128 threads of one core, less the host's own 0-3 and 64-67."""
        first, second = self.survives([(*range(4, 64), *range(68, 128))])
        for trait in first, second:
            self.assertTrue(trait.startswith('CUSTOM_KONGMING_CORE_4_'))

    def test_several_irregular_cores_of_many_threads(self):
        self.survives([(n, *range(1000 + 200 * n, 1199 + 200 * n))
                       for n in range(4)])

    @hypothesis.given(st.sets(st.integers(0, 4095), max_size=300),
                      st.integers(1, 130), st.randoms())
    def test_layout_survives(self, pcpus, threads, rng):
        left = sorted(pcpus)
        rng.shuffle(left)
        self.survives(sorted(tuple(sorted(left[i:i + threads]))
                             for i in range(0, len(left), threads)))
