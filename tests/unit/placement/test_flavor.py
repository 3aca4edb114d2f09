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

import re

from kongming.host import usage
from kongming.placement import flavor
from kongming.template import guest
from kongming.template import template
from tests import base

HOOKED = {'trait_KM0:HOOK': 'required'}
TWO_CELLS = {'hw:cpu_policy': 'dedicated', 'hw:numa_nodes': '2'}


def groups(template_specs, vcpus=4, ram=2048, **hw):
    specs = {f'kongming:{k}': v for k, v in template_specs.items()}
    hw = {f'hw:{k}': v for k, v in hw.items()}
    return {key.replace('CUSTOM_KONGMING_', ''): value for key, value in
            flavor.groups(template.decode(specs), guest.from_flavor(
                vcpus, ram, hw)).items()}


class GroupsTest(base.TestCase):

    def test_exact_pins_on_a_node(self):
        self.assertEqual(
            {'resources_KM0:PCPU': '2', 'resources_KM0:PCPU_5': '1',
             'resources_KM0:PCPU_9': '1', 'resources_KM0:MEMORY_MB': '2048',
             'trait_KM0:NODE_1': 'required', **HOOKED},
            groups({'node.0': '1', 'pin.0': '0:9 1:5'}, vcpus=2,
                   cpu_policy='dedicated'))

    def test_relative_pins_are_counted(self):
        self.assertEqual(
            {'resources_KM0:PCPU': '2', 'resources_KM0:MEMORY_MB': '2048',
             **HOOKED},
            groups({'pin.0': '0:n0c1t0'}, vcpus=2, cpu_policy='dedicated'))

    def test_open_cells_are_isolated_named_ones_not(self):
        self.assertEqual('isolate', groups(
            {'node.0': '1'}, cpu_policy='dedicated', numa_nodes='2')[
                'group_policy'])
        self.assertEqual('none', groups(
            {'node.0': '1', 'node.1': '0'}, cpu_policy='dedicated',
            numa_nodes='2')['group_policy'])

    def test_mixed_huge_pages_and_emulator(self):
        self.assertEqual(
            {'resources_KM0:PCPU': '2', 'resources_KM0:VCPU': '3',
             'resources_KM0:PAGES_2M': '1024',
             'trait_KM0:NODE_0': 'required', **HOOKED},
            groups({'node.0': '0'}, cpu_policy='mixed',
                   cpu_dedicated_mask='3', mem_page_size='2MB',
                   emulator_threads_policy='isolate'))


class AskedTest(base.TestCase):

    def test_what_was_asked_for_by_cell(self):
        specs = {'resources_KM0:CUSTOM_KONGMING_PCPU': '2',
                 'resources_KM1:CUSTOM_KONGMING_PCPU': '4',
                 'resources_KM1:CUSTOM_KONGMING_MEMORY_MB': '512',
                 'resources_KM1:VCPU': '1', 'resources:PCPU': '6',
                 'trait_KM0:CUSTOM_KONGMING_NODE_0': 'required'}
        self.assertEqual(
            {0: {'CUSTOM_KONGMING_PCPU': 2},
             1: {'CUSTOM_KONGMING_PCPU': 4,
                 'CUSTOM_KONGMING_MEMORY_MB': 512}},
            flavor.asked_groups(specs))


class ChangesTest(base.TestCase):

    def put(self, old, specs, vcpus=4):
        desired = template.decode(specs)
        return flavor.changes(old, desired,
                              guest.from_flavor(vcpus, 1024, old))

    def apply(self, old, changes):
        new = {**old, **changes.put}
        for key in changes.remove:
            del new[key]
        return new

    def test_there_and_back_leaves_foreign_keys_alone(self):
        old = {**TWO_CELLS, 'resources:CUSTOM_OTHER': '1',
               'trait:CUSTOM_KONGMING_LIKE': 'required'}
        new = self.apply(old, self.put(old, {'kongming:node.0': '0'}))
        self.assertEqual('isolate', new['group_policy'])
        self.assertEqual(old, self.apply(
            new, flavor.changes(new, None, None)))

    def test_again_changes_nothing(self):
        specs = {'kongming:pin.0': '0:4'}
        new = self.apply(TWO_CELLS, self.put(TWO_CELLS, specs))
        self.assertFalse(self.put(new, specs))

    def test_group_policy_of_others_stays(self):
        old = {**TWO_CELLS, 'group_policy': 'none',
               'resources_GPU:CUSTOM_GPU': '1'}
        new = self.apply(old, self.put(old, {'kongming:node.0': '0'}))
        self.assertEqual('none', new['group_policy'])
        self.assertEqual(old, self.apply(
            new, flavor.changes(new, None, None)))

    def test_shorter_map_takes_its_continuation_away(self):
        long = ' '.join(f'{v}:{1000 + 7 * v}' for v in range(64))
        new = self.apply({}, self.put({'hw:cpu_policy': 'dedicated'},
                                      {'kongming:pin.0': long}, 64))
        self.assertIn('kongming:pin.0.1', new)
        new = self.apply(new, self.put({**new, 'hw:cpu_policy': 'dedicated'},
                                       {'kongming:pin.0': '0:4'}, 64))
        self.assertNotIn('kongming:pin.0.1', new)


class CacheTest(base.TestCase):

    def groups(self, **keys):
        cells = (guest.Cell(frozenset({0, 1}), frozenset(), 64),
                 guest.Cell(frozenset({2, 3}), frozenset(), 64))
        return {key: value for key, value in flavor.groups(
            template.decode({f'kongming:{name.replace("_", ".")}': value
                             for name, value in keys.items()}),
            guest.Guest(cells)).items() if re.search(
                'CLOSID|L3|MBA|HOOK', key)}

    def test_groups(self):
        hook = {f'trait_KM{cell}:CUSTOM_KONGMING_HOOK': 'required'
                for cell in (0, 1)}
        self.assertEqual(hook, self.groups())
        self.assertEqual({
            **hook, 'resources_KM0:CUSTOM_KONGMING_CLOSID': '1',
            'resources_KM0:CUSTOM_KONGMING_L3': '20',
            'trait_KM0:CUSTOM_KONGMING_CAT_L3': 'required',
            'resources_KM1:CUSTOM_KONGMING_CLOSID': '1',
            'resources_KM1:CUSTOM_KONGMING_L3': '20',
            'trait_KM1:CUSTOM_KONGMING_CAT_L3': 'required',
            'trait_KM1:CUSTOM_KONGMING_MBA': 'required'},
            self.groups(cache='0-2:l3=20%', profile_night_cache='3:mb=5%'))

    def test_ungranted(self):
        claims = {0: usage.CacheClaim(1, 20), 1: usage.CacheClaim(1)}
        closid, l3 = 'CUSTOM_KONGMING_CLOSID', 'CUSTOM_KONGMING_L3'
        self.assertIsNone(flavor.ungranted(
            claims, [{closid: 1, l3: 20}, {closid: 1}]))
        self.assertIn(f'it needs 2 of {closid} and Placement has granted 1',
                      flavor.ungranted(claims, [{closid: 1, l3: 20}]))
        self.assertIn(f'it needs 20 of {l3} and Placement has granted 0',
                      flavor.ungranted(claims, [{closid: 2}]))
