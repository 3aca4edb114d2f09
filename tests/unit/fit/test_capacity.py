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
from hypothesis import strategies

from kongming.fit import capacity
from kongming.fit import demand
from kongming.fit import fit
from kongming.host import usage
from kongming.template import guest
from kongming.template import template
from tests import base

GIB = 1024


def host(shared=0, pages=False):
    """Two nodes of four cores of two threads, 8 GiB each."""
    return usage.HostState([usage.NodeState(
        node, frozenset(range(8 * node + shared, 8 * node + 8)),
        shared=frozenset(range(8 * node, 8 * node + shared)),
        siblings=[{8 * node + 2 * core, 8 * node + 2 * core + 1}
                  for core in range(4)], memory_mib=8 * GIB,
        pages=[usage.Pages(4, 4 * GIB * 256, 4 * GIB * 256),
               usage.Pages(1024 ** 2, 4, 4)] if pages else ())
        for node in range(2)])


def times(state, vcpus, ram, limits=usage.Limits(), **specs):
    specs = {f'hw:{key}': value for key, value in specs.items()
             if key != 'desired'} | specs.get('desired', {})
    return capacity.times(state, demand.Demand(
        guest.from_flavor(vcpus, ram, specs), template.decode(specs)),
        limits)


class TimesTest(base.TestCase):

    def test_pcpus(self):
        self.assertEqual(4, times(host(), 4, 64, cpu_policy='dedicated'))
        # No server spans two nodes, so two pCPUs a node stay.
        self.assertEqual(4, times(host(), 3, 64, cpu_policy='dedicated'))
        self.assertEqual(0, times(host(), 9, 64, cpu_policy='dedicated'))

    def test_names_are_had_once(self):
        self.assertEqual(1, times(
            host(), 2, 64, cpu_policy='dedicated',
            desired={'kongming:pin.0': '0:4'}))
        self.assertEqual(2, times(
            host(), 4, 64, cpu_policy='dedicated',
            desired={'kongming:node.0': '1'}))

    def test_isolated_ones_have_cores(self):
        """Where no set is said, which is where Nova takes siblings away."""
        both = frozenset(range(8))
        state = usage.HostState([usage.NodeState(
            0, both, shared=both, memory_mib=GIB,
            siblings=[{2 * core, 2 * core + 1} for core in range(4)])])
        self.assertEqual(2, times(state, 2, 64, cpu_policy='dedicated',
                                  cpu_thread_policy='isolate'))

    def test_memory(self):
        self.assertEqual(4, times(host(), 1, 4 * GIB,
                                  cpu_policy='dedicated'))
        self.assertEqual(2, times(host(pages=True), 1, 3 * GIB,
                                  cpu_policy='dedicated'))
        self.assertEqual(4, times(host(pages=True), 1, 2 * GIB,
                                  cpu_policy='dedicated',
                                  mem_page_size='1GB'))

    def test_cells(self):
        self.assertEqual(4, times(host(), 4, 64, cpu_policy='dedicated',
                                  numa_nodes='2'))

    def test_floating_is_bounded_by_the_ratios(self):
        self.assertEqual(4, times(host(shared=4), 2, 64))
        self.assertEqual(16, times(host(shared=4), 2, 64,
                                   usage.Limits(4.0, 1.0)))
        self.assertEqual(8, times(host(shared=4), 1, 2 * GIB,
                                  usage.Limits(16.0, 1.0)))

    def test_closids(self):
        node = usage.NodeState(
            0, frozenset(range(8)), siblings=[{cpu} for cpu in range(8)],
            memory_mib=GIB)
        node.cache_capacity = usage.CacheCapacity(3, 50, least=10)
        self.assertEqual(2, times(
            usage.HostState([node]), 1, 64, cpu_policy='dedicated',
            desired={'kongming:cache': '0:l3=20%'}))

    @hypothesis.given(
        strategies.integers(1, 8), strategies.sampled_from([64, 1024, 3000]),
        strategies.sampled_from([None, 'isolate', 'require']),
        strategies.sampled_from([1, 2]), strategies.booleans())
    def test_each_leaves_the_others_alone(self, vcpus, ram, policy, cells,
                                          pages):
        hypothesis.assume(vcpus % cells == 0)
        specs = {'hw:cpu_policy': 'dedicated', 'hw:numa_nodes': str(cells)}
        if policy:
            specs['hw:cpu_thread_policy'] = policy
        wanted = demand.Demand(guest.from_flavor(vcpus, ram, specs),
                               template.Template())
        state, owned = host(pages=pages), []
        for _number in range(capacity.times(state, wanted, usage.Limits())):
            found = fit.fit(state, wanted)
            owned += [pcpu for cell in found.cells
                      for pcpu in cell.pins.values()]
            state = capacity.after(state, wanted, found)
        self.assertEqual(len(owned), len(set(owned)))
        self.assertFalse(fit.fit(state, wanted))
        self.assertTrue(all(node.memory_used_mib <= node.memory_mib
                            for node in state.nodes))
