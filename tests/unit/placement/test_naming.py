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

import hypothesis
from hypothesis import strategies as st

from kongming.placement import naming
from tests import base

NODENAMES = st.text('ab.-', min_size=1, max_size=220)


class NameTest(base.TestCase):

    def test_as_it_is(self):
        self.assertEqual('compute1_KONGMING_NODE0',
                         naming.provider_name('compute1', 0))
        self.assertEqual('compute1_0d9f_KONGMING_NODE12',
                         naming.provider_name('compute1', 12, '0d9f'))

    def test_shortened_only_where_it_has_to_be(self):
        whole = 'n' * (200 - len('_KONGMING_NODE0'))
        self.assertEqual(f'{whole}_KONGMING_NODE0',
                         naming.provider_name(whole, 0))
        shortened = naming.provider_name(f'{whole}n', 0)
        self.assertRegex(shortened, '^n{168}_[0-9a-f]{16}_KONGMING_NODE0$')
        self.assertEqual(200, len(shortened))

    @hypothesis.given(st.sets(NODENAMES, min_size=2, max_size=8),
                      st.sampled_from(['', 'd1cb3b8a']))
    def test_unique(self, nodenames, more):
        """Those with the same beginning, or the same end, too."""
        nodenames |= {'x' * 190 + name for name in nodenames}
        nodenames |= {name + 'x' * 190 for name in nodenames}
        names = [naming.provider_name(name, node, more)
                 for name in nodenames for node in (0, 7, 1024)]
        self.assertEqual(len(names), len(set(names)))
        for name in names:
            self.assertLessEqual(len(name), 200)
            self.assertTrue(naming.is_ours(name))

    def test_is_ours(self):
        for name in ('compute1', 'compute1_KONGMING_NODE',
                     'compute1_KONGMING_NODE0_pf', '_KONGMING_NODEa'):
            self.assertFalse(naming.is_ours(name))


class OfComputesTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.computes = {str(uuid.UUID(int=n)): f'compute{n}'
                         for n in range(4)}

    def nodes(self, compute, *numbers, more=''):
        return [(naming.provider_uuid(compute, number),
                 naming.provider_name(self.computes[compute], number, more))
                for number in numbers]

    def test_whose_they_are(self):
        one, two, three, gone = self.computes
        nodes = [*self.nodes(one, 0, 1), *self.nodes(two, 0, 8),
                 *self.nodes(gone, 1, 252)]
        found, left = naming.of_computes([
            *nodes[3:], *[item for item in self.computes.items()
                          if item[0] != gone], *nodes[:3]])
        self.assertEqual(
            {one: {0: nodes[0][0], 1: nodes[1][0]},
             two: {0: nodes[2][0], 8: nodes[3][0]}}, found)
        self.assertCountEqual([nodes[4][0], nodes[5][0]], left)

    def test_installed_anew_under_its_old_name(self):
        old, new, *_ = self.computes
        self.computes[new] = self.computes[old]
        left_over, = self.nodes(old, 0)
        node, = self.nodes(new, 0, more=new[:8])
        self.assertEqual(
            ({new: {0: node[0]}}, [left_over[0]]), naming.of_computes([
                (new, self.computes[new]), left_over, node]))

    def test_a_name_alone_makes_no_host(self):
        """Somebody else's provider that is called like a node's."""
        compute = next(iter(self.computes))
        other = str(uuid.UUID(int=99))
        self.assertEqual(({}, [other]), naming.of_computes([
            (compute, 'compute0'), (other, 'compute0_KONGMING_NODE0')]))

    def test_none(self):
        self.assertEqual(({}, []), naming.of_computes([]))
