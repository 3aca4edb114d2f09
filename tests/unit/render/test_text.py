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

from kongming.host import usage
from kongming.render import svg
from kongming.render import text
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
                         text.host(state))

    def test_colours_are_beside_the_letters(self):
        state = usage.HostState([usage.NodeState(
            0, frozenset(range(60)), taken=frozenset(range(60)),
            siblings=[{p} for p in range(60)],
            owners={p: f'server {p}' for p in range(60)})])
        uncoloured, painted = text.host(state), text.host(state, colour=True)
        self.assertNotEqual(uncoloured, painted)
        self.assertEqual(uncoloured, re.sub('\033\\[[0-9;]*m', '', painted))

    def wide(self, owners=3):
        """Two nodes of 64 cores, siblings 128 apart, as servers have them."""
        nodes = []
        for node in range(2):
            first = 64 * node
            mine = {first + core + 128 * thread: f'server number-{owner}'
                    for owner in range(owners) for thread in range(2)
                    for core in range(4 + 4 * owner, 8 + 4 * owner)}
            nodes.append(usage.NodeState(
                node, frozenset(
                    pcpu for core in range(first + 2, first + 64)
                    for pcpu in (core, core + 128)),
                taken=frozenset(mine), owners=mine,
                shared=frozenset({first, first + 1, first + 128,
                                  first + 129}), shared_used=3,
                siblings=[{core, core + 128}
                          for core in range(first, first + 64)],
                memory_mib=515072, memory_used_mib=98304))
        return usage.HostState(nodes)

    def test_wide_host_fits_a_screen(self):
        """2 x 128 threads in 80 columns and 24 lines."""
        drawn = text.host(self.wide(), 80)
        lines = drawn.splitlines()
        self.assertLessEqual(max(map(len, lines)), 80)
        self.assertLessEqual(len(lines), 24)
        self.assertEqual([
            'node 0   515072 MiB, 416768 free   124 dedicated pCPUs, 100 free',
            '  3 vCPUs float over 4 shared',
            '     0-31  ~~..AAAA BBBBCCCC ........ ........',
            '  128-159  ~~..AAAA BBBBCCCC ........ ........',
            '',
            '    32-63  ........ ........ ........ ........',
            '  160-191  ........ ........ ........ ........'], lines[:7])

    def test_rows_have_every_pcpu(self):
        for step in (1, 2):
            found = [(step * core, step * core + 1000) for core in range(70)]
            state = usage.HostState([usage.NodeState(
                0, frozenset(pcpu for core in found for pcpu in core),
                siblings=map(set, found))])
            reported = []
            for line in text.host(state, 80).splitlines()[1:-1]:
                label, _sep, marks = line.strip().partition('  ')
                if not label:
                    continue
                first, last = re.split(r'-|,\d+\.\.', label)
                row = range(int(first), int(last) + 1, step)
                self.assertEqual(len(row), marks.count('.'))
                reported += row
            self.assertEqual(sorted(p for core in found for p in core),
                             sorted(reported))

    def test_as_boxes_all_the_same(self):
        lines = text.host(self.wide(), 60, style='boxes').splitlines()
        self.assertLessEqual(max(map(len, lines)), 60)
        self.assertIn('127 .', '\n'.join(lines))

    def test_more_owners_than_letters(self):
        state = usage.HostState([usage.NodeState(
            0, frozenset(range(60)), taken=frozenset(range(60)),
            siblings=[{p} for p in range(60)],
            owners={p: f'server {p}' for p in range(60)})])
        self.assertIn('z server 51   # others', text.host(state))

    def test_legend_is_wrapped(self):
        for line in text.host(self.wide(14), 60).splitlines()[-6:]:
            self.assertLessEqual(len(line), 60)

    def test_offline(self):
        """Dedicated, and of no core that anybody knows."""
        state = usage.HostState([usage.NodeState(
            0, frozenset({0, 1, 2, 3}), siblings=[{0, 1}, set()])])
        self.assertIn('│0 .││2 -││3 -│', text.host(state))
        self.assertIn('- off', text.host(state))

    def test_without_power(self):
        """An owner's letter stays."""
        state = usage.HostState([usage.NodeState(
            0, frozenset({0, 1, 2, 3}), taken=frozenset({1}),
            siblings=[{0, 1}, {2, 3}], owners={1: 'web'})]).without_power(
                frozenset({1, 3}))
        drawn = text.host(state)
        self.assertIn('pCPU 1,3 without power', drawn)
        self.assertIn('│0 .││2 .│', drawn)
        self.assertIn('│1 A││3 -│', drawn)


class PictureTest(base.TestCase):

    def picture(self, owner, nodes=2, cores=64):
        state = usage.HostState([usage.NodeState(
            n, frozenset(range(2 * n * cores + 2, 2 * (n + 1) * cores)),
            taken=frozenset({2 * n * cores + 3, 2 * n * cores + 4}),
            shared=frozenset({2 * n * cores}),
            siblings=[{c, c + cores} for c in range(
                2 * n * cores, (2 * n + 1) * cores)], memory_mib=8192,
            owners={2 * n * cores + 3: owner}) for n in range(nodes)])
        return ElementTree.fromstring(svg.svg('compute<1>', state))

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
