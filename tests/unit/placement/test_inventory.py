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

import uuid

from kongming.host import usage
from kongming.placement import inventory
from tests import base

COMPUTE = str(uuid.UUID(int=7))


def host():
    return usage.HostState([
        usage.NodeState(0, frozenset({2, 3, 10, 11}), shared=frozenset({0, 8}),
                        siblings=[{2, 10}, {3, 11}, {0, 8}], memory_mib=8192,
                        pages=[usage.Pages(4, 1572864, 1572864),
                               usage.Pages(2048, 1024, 1024)]),
        usage.NodeState(3, frozenset({4}), siblings=[{4}], memory_mib=1024)])


class NeverTest(base.TestCase):

    def reserved(self, never):
        node = usage.NodeState(0, frozenset({2}), shared=frozenset({0, 1}),
                               memory_mib=64, never=frozenset(never))
        found, = inventory.build('cmp1', COMPUTE, usage.HostState([node]),
                                 inventory.Ratios(cpu=4.0))
        return found.inventory['CUSTOM_KONGMING_VCPU']['reserved']

    def test_nothing_to_float_over(self):
        self.assertEqual([0, 0, 8], [
            self.reserved(never) for never in ((), {1, 2}, {0, 1})])


class BuildTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.first, self.second = inventory.build(
            'cmp1', COMPUTE, host(), inventory.Ratios(cpu=4.0, ram=1.5))

    def totals(self, provider):
        return {name.removeprefix('CUSTOM_KONGMING_'): record['total']
                for name, record in provider.inventory.items()}

    def test_names_are_known_without_asking(self):
        self.assertEqual('cmp1_KONGMING_NODE3', self.second.name)
        self.assertEqual(
            str(uuid.uuid5(uuid.UUID(COMPUTE), 'KONGMING_NODE3')),
            self.second.uuid)

    def test_inventory(self):
        self.assertEqual(
            {'PCPU': 4, 'PCPU_2': 1, 'PCPU_3': 1, 'PCPU_10': 1, 'PCPU_11': 1,
             'VCPU': 8, 'PAGES_2M': 1024, 'MEMORY_MB': 6144},
            self.totals(self.first))
        self.assertEqual({'PCPU': 1, 'PCPU_4': 1, 'MEMORY_MB': 1024},
                         self.totals(self.second))
        ratio = {name: record['allocation_ratio'] for name, record in
                 self.first.inventory.items()}
        self.assertEqual((1.0, 1.0, 1.5),
                         (ratio[inventory.PCPU], ratio[inventory.VCPU],
                          ratio[inventory.MEMORY_MB]))
        self.assertEqual(4.0, inventory.vcpu_ratio(self.first.inventory))
        self.assertEqual(1.0, inventory.vcpu_ratio(self.second.inventory))

    def test_reserved_of_what_is_overcommitted(self):
        """6 of 2 x 4 are in use: Placement may give out 2, and no less."""
        provider, _other = inventory.build(
            'cmp1', COMPUTE, host(), inventory.Ratios(cpu=4.0),
            {0: {inventory.VCPU: 6, inventory.PCPU: 9}})
        record = provider.inventory[inventory.VCPU]
        self.assertEqual((6, 2), (record['reserved'], record['max_unit']))
        self.assertEqual(4, provider.inventory[inventory.PCPU]['reserved'])
        node, = inventory.read([(provider.inventory, provider.traits, {})]
                               ).nodes
        self.assertEqual(6, node.shared_used)

    def test_traits(self):
        self.assertEqual(
            {'HW_NUMA_ROOT', 'CUSTOM_KONGMING', 'CUSTOM_OWNER_KONGMING',
             'CUSTOM_KONGMING_NODE_0', 'CUSTOM_KONGMING_CORES_0_2_2_8_2',
             'CUSTOM_KONGMING_CORES_3_3_0_8_2'}, self.first.traits)

    def test_read_gives_the_host_back(self):
        again = inventory.read(
            (p.inventory, p.traits, {}) for p in (self.first, self.second))
        for node, back in zip(host().nodes, again.nodes):
            self.assertEqual(
                (node.id, node.dedicated, node.shared, node.cores(),
                 node.memory_mib),
                (back.id, back.dedicated, back.shared, back.cores(),
                 back.memory_mib))

    def test_usages_and_reserved_count(self):
        records = {k: dict(v) for k, v in self.first.inventory.items()}
        records['CUSTOM_KONGMING_PCPU_3']['reserved'] = 1
        node, = inventory.read(
            [(records, self.first.traits,
              {'CUSTOM_KONGMING_PCPU_10': 1, 'CUSTOM_KONGMING_PAGES_2M': 512,
               'CUSTOM_KONGMING_MEMORY_MB': 100})],
            {10: 'server a'}).nodes
        self.assertEqual({3, 10}, node.taken)
        self.assertEqual({10: 'server a'}, dict(node.owners))
        self.assertEqual(1024 + 100, node.memory_used_mib)
        self.assertEqual(512, node.pages[1].free)


class CacheTest(base.TestCase):

    def test_there_and_back(self):
        """And it stays when it is published without the hook."""
        first, second = inventory.build(
            'cmp1', COMPUTE, host(), inventory.Ratios(),
            {0: {inventory.L3: 20, inventory.CLOSID: 1}},
            capacities={0: usage.CacheCapacity(3, 54, 10, True)})
        self.assertEqual((54, 10, 20), tuple(
            first.inventory[inventory.L3][field]
            for field in ('total', 'min_unit', 'reserved')))
        self.assertLessEqual({inventory.TRAIT_CAT, inventory.TRAIT_MBA},
                             first.traits)
        self.assertFalse({inventory.TRAIT_CAT, inventory.TRAIT_MBA}
                         & second.traits)
        self.assertFalse({inventory.L3, inventory.CLOSID}
                         & second.inventory.keys())
        state = inventory.read([
            (first.inventory, first.traits, {inventory.L3: 10}),
            (second.inventory, second.traits, {})])
        self.assertEqual([(2, 24, 10, True), (0, 0, 1, False)],
                         [node.cache_capacity for node in state.nodes])
        without, _second = inventory.build(
            'cmp1', COMPUTE, host(), inventory.Ratios())
        self.assertEqual(first, inventory.with_hooks(without, first))

    def test_the_time_zones_that_a_host_decides_by(self):
        first, _second = inventory.build(
            'cmp1', COMPUTE, host(), inventory.Ratios(), traits=[
                inventory.zones_trait('2026f')])
        self.assertIn('CUSTOM_KONGMING_TZDATA_2026F', first.traits)
        self.assertEqual('2026f', inventory.zones_version(first.traits))
        without, _second = inventory.build(
            'cmp1', COMPUTE, host(), inventory.Ratios())
        self.assertIsNone(inventory.zones_version(without.traits))
        self.assertEqual(first, inventory.with_hooks(without, first))
