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

from kongming.placement import flavor
from kongming.template import template
from tests import base

TRAIT = {'trait:CUSTOM_KONGMING_HOOK': 'required'}
#: As builds before the first release wrote for two cells.
OLDER = {'resources_KM0:CUSTOM_KONGMING_PCPU': '2',
         'resources_KM0:CUSTOM_KONGMING_PCPU_5': '1',
         'resources_KM11:CUSTOM_KONGMING_MEMORY_MB': '64',
         'trait_KM0:CUSTOM_KONGMING_HOOK': 'required',
         'trait_KM0:CUSTOM_KONGMING_NODE_1': 'required'}
TEMPLATE = {'kongming:node.0': '1', 'kongming:pin.0': '0:5 1:7'}


def applied(old, changes):
    new = {**old, **changes.put}
    for key in changes.remove:
        del new[key]
    return new


class ChangesTest(base.TestCase):

    def put(self, old, specs):
        return flavor.changes(old, template.decode(specs))

    def test_keys_and_one_trait(self):
        self.assertEqual(flavor.Changes({**TEMPLATE, **TRAIT}, ()),
                         self.put({'hw:numa_nodes': '2'}, TEMPLATE))

    def test_there_and_back_leaves_foreign_keys_alone(self):
        old = {'hw:cpu_policy': 'dedicated', 'resources:CUSTOM_OTHER': '1',
               'trait:CUSTOM_KONGMING_LIKE': 'required',
               'resources_GPU:CUSTOM_GPU': '1', 'group_policy': 'isolate'}
        new = applied(old, self.put(old, TEMPLATE))
        self.assertEqual({**old, **TEMPLATE, **TRAIT}, new)
        self.assertEqual(old, applied(new, flavor.changes(new, None)))

    def test_again_changes_nothing(self):
        new = applied({}, self.put({}, TEMPLATE))
        self.assertFalse(self.put(new, TEMPLATE))
        self.assertFalse(flavor.changes({}, None))

    def test_another_template(self):
        old = {**TEMPLATE, **TRAIT}
        self.assertEqual(
            flavor.Changes({'kongming:node.0': '0'}, ('kongming:pin.0',)),
            self.put(old, {'kongming:node.0': '0'}))

    def test_a_trait_that_is_forbidden(self):
        self.assertEqual(TRAIT, self.put(
            {**TEMPLATE, 'trait:CUSTOM_KONGMING_HOOK': 'forbidden'},
            TEMPLATE).put)

    def test_shorter_map_takes_its_continuation_away(self):
        long = ' '.join(f'{v}:{1000 + 7 * v}' for v in range(64))
        new = applied({}, self.put({}, {'kongming:pin.0': long}))
        self.assertIn('kongming:pin.0.1', new)
        new = applied(new, self.put(new, {'kongming:pin.0': '0:4'}))
        self.assertNotIn('kongming:pin.0.1', new)


class OutdatedTest(base.TestCase):

    def test_all_of_an_older_build(self):
        old = {**TEMPLATE, **OLDER, 'group_policy': 'none'}
        self.assertEqual({**TEMPLATE, **TRAIT},
                         applied(old, flavor.without_outdated(old)))
        self.assertEqual(
            {**TEMPLATE, **TRAIT},
            applied(old, flavor.changes(old, template.decode(TEMPLATE))))
        self.assertEqual({}, applied(old, flavor.changes(old, None)))

    def test_nothing_to_do(self):
        for specs in ({}, TEMPLATE, {**TEMPLATE, **TRAIT},
                      {'group_policy': 'none'}, {'resources:PCPU': '2'},
                      {'resources_KM0:CUSTOM_OTHER': '1'},
                      {'resources_KMX:CUSTOM_KONGMING_PCPU': '1'}):
            self.assertFalse(flavor.without_outdated(specs))

    def test_group_policy_stays_with_the_groups_of_others(self):
        old = {**OLDER, 'group_policy': 'none',
               'resources_GPU:CUSTOM_GPU': '1'}
        self.assertEqual(
            {'group_policy': 'none', 'resources_GPU:CUSTOM_GPU': '1'},
            applied(old, flavor.without_outdated(old)))

    def test_a_template_that_can_not_be_read(self):
        old = {'kongming:pin.0': 'nonsense', **OLDER}
        self.assertEqual({'kongming:pin.0': 'nonsense', **TRAIT},
                         applied(old, flavor.without_outdated(old)))

    def test_without_a_template_it_asks_for_nothing(self):
        self.assertEqual({}, applied(OLDER, flavor.without_outdated(OLDER)))
