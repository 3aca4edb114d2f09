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
import textwrap
from xml.etree import ElementTree

from kongming import draw
from kongming import picture
from kongming import usage
from tests import base


class HostTest(base.TestCase):

    def test_picture(self):
        state = usage.HostState([usage.NodeState(
            0, frozenset({2, 3, 10, 11}), taken=frozenset({2, 10, 11}),
            shared=frozenset({0, 8}), siblings=[{2, 10}, {3, 11}, {0, 8}],
            memory_mib=8192, memory_used_mib=1024,
            owners={2: 'server du-1', 10: 'server du-1'})])
        self.assertEqual(textwrap.dedent("""\
            node 0   8192 MiB, 7168 free   4 dedicated pCPUs, 1 free
              ┌────┐┌────┐┌────┐
              │ 0 ~││ 2 A││ 3 .│
              │ 8 ~││10 A││11 #│
              └────┘└────┘└────┘
            A server du-1   . free   ~ shared   # taken"""),
                         draw.host(state))

    def test_colours_are_beside_the_letters(self):
        state = usage.HostState([usage.NodeState(
            0, frozenset(range(60)), taken=frozenset(range(60)),
            siblings=[{p} for p in range(60)],
            owners={p: f'server {p}' for p in range(60)})])
        plain, painted = draw.host(state), draw.host(state, colour=True)
        self.assertNotEqual(plain, painted)
        self.assertEqual(plain, re.sub('\033\\[[0-9;]*m', '', painted))

    def test_wide_host_is_wrapped(self):
        pcpus = frozenset(range(128))
        state = usage.HostState([usage.NodeState(
            0, pcpus, siblings=[{n, n + 64} for n in range(64)])])
        lines = draw.host(state, 60).splitlines()
        self.assertLessEqual(max(map(len, lines)), 60)
        self.assertIn('127 .', draw.host(state, 60))


class PictureTest(base.TestCase):

    def picture(self, owner, nodes=2, cores=64):
        state = usage.HostState([usage.NodeState(
            n, frozenset(range(2 * n * cores + 2, 2 * (n + 1) * cores)),
            taken=frozenset({2 * n * cores + 3, 2 * n * cores + 4}),
            shared=frozenset({2 * n * cores}),
            siblings=[{c, c + cores} for c in range(
                2 * n * cores, (2 * n + 1) * cores)], memory_mib=8192,
            owners={2 * n * cores + 3: owner}) for n in range(nodes)])
        return ElementTree.fromstring(picture.svg('compute<1>', state))

    def test_every_pcpu_once_with_its_owner(self):
        hostile = 'server <script>"&\'</svg> (1234)'
        root = self.picture(hostile)
        space = '{http://www.w3.org/2000/svg}'
        titles = [title.text for title in root.iter(f'{space}title')]
        self.assertEqual('compute<1>', titles[0])
        self.assertEqual({f'pCPU {p}' for p in range(256)}, {
            title.partition(':')[0] for title in titles[1:]})
        self.assertEqual(257, len(titles))
        for pcpu, words in ((0, 'shared'), (1, 'not for servers'),
                            (2, 'free'), (3, hostile), (4, 'taken')):
            self.assertIn(f'pCPU {pcpu}: {words}', titles)
        self.assertEqual([], list(root.iter(f'{space}script')))

    def test_nothing_is_outside(self):
        root = self.picture('x' * 60)
        _x, _y, width, height = map(int, root.get('viewBox').split())
        for rect in root.iter('{http://www.w3.org/2000/svg}rect'):
            self.assertLessEqual(
                int(rect.get('x')) + int(rect.get('width')), width)
            self.assertLessEqual(
                int(rect.get('y')) + int(rect.get('height')), height)
