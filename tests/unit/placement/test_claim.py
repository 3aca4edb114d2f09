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

from kongming.fit import demand
from kongming.fit import fit
from kongming.host import usage
from kongming.placement import claim
from kongming.placement import reserved
from kongming.template import guest
from kongming.template import template
from tests import base

HOST = usage.HostState([
    usage.NodeState(
        number, frozenset(range(8 * number + 2, 8 * number + 8)),
        shared=frozenset({8 * number, 8 * number + 1}),
        siblings=[(p, p + 1) for p in range(8 * number, 8 * number + 8, 2)],
        memory_mib=8192, pages=[usage.Pages(4, 1048576, 1048576),
                                usage.Pages(2048, 2048, 2048)])
    for number in range(2)])


class ClaimTest(base.TestCase):

    def claim(self, keys, vcpus=2, ram=1024, **hw):
        """Without the prefix of ours, by node."""
        asked = demand.Demand(
            guest.from_flavor(vcpus, ram,
                              {f'hw:{k}': v for k, v in hw.items()}),
            template.decode({f'kongming:{k}': v for k, v in keys.items()}))
        result = fit.fit(HOST, asked)
        self.assertTrue(result, str(result))
        self.assignment = result
        return {node: {name.removeprefix('CUSTOM_KONGMING_'): amount
                       for name, amount in amounts.items()}
                for node, amounts in claim.claim(HOST, asked, result).items()}

    def test_pcpus_that_are_named(self):
        self.assertEqual(
            {1: {'PCPU': 2, 'PCPU_12': 1, 'PCPU_15': 1, 'MEMORY_MB': 1024}},
            self.claim({'node.0': '1', 'pin.0': '0:15 1:12'},
                       cpu_policy='dedicated'))

    def test_open_ones_are_counted(self):
        """The host may choose others, when it has heard of more servers."""
        self.assertEqual(
            {1: {'PCPU': 2, 'PCPU_15': 1, 'MEMORY_MB': 1024}},
            self.claim({'node.0': '1', 'pin.0': '1:15'},
                       cpu_policy='dedicated'))

    def test_relative_names(self):
        """They mean one pCPU on this host."""
        self.assertEqual(
            {0: {'PCPU': 2, 'PCPU_2': 1, 'PCPU_3': 1, 'MEMORY_MB': 1024}},
            self.claim({'pin.0': '0:n0c1t0 1:n0c1t1'},
                       cpu_policy='dedicated'))

    def test_cells_have_a_node_each(self):
        self.assertEqual(
            {0: {'PCPU': 1, 'MEMORY_MB': 512},
             1: {'PCPU': 1, 'MEMORY_MB': 512}},
            self.claim({'node.0': '1', 'node.1': '0'},
                       cpu_policy='dedicated', numa_nodes='2'))

    def test_mixed_huge_pages_and_emulator(self):
        self.assertEqual(
            {0: {'PCPU': 2, 'VCPU': 2, 'PAGES_2M': 512}},
            self.claim({'node.0': '0'}, 3, cpu_policy='mixed',
                       cpu_dedicated_mask='2', mem_page_size='2MB',
                       emulator_threads_policy='isolate'))

    def test_emulator_that_is_named(self):
        found = self.claim(
            {'node.0': '0', 'pin.0': '0:2', 'emulator': '7'}, 1,
            cpu_policy='dedicated', emulator_threads_policy='isolate')
        self.assertEqual({0: {'PCPU': 2, 'PCPU_2': 1, 'PCPU_7': 1,
                              'MEMORY_MB': 1024}}, found)

    def test_same_as_what_it_is_to_have_once_it_is_there(self):
        found = self.claim({'node.0': '1', 'pin.0': '0:15'}, 2,
                           cpu_policy='dedicated')
        going, = self.assignment.cells
        owned = {1: reserved.Owned(frozenset(going.pins.values()),
                                   memory_mib=1024)}
        self.assertEqual(found, {
            node: {name.removeprefix('CUSTOM_KONGMING_'): amount
                   for name, amount in amounts.items()}
            for node, amounts in reserved.allocated(owned, {15}).items()})
