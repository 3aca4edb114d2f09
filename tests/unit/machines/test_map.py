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

"""Maps of every named host, for a terminal and as SVG."""

import random
import re
from xml.etree import ElementTree

from kongming.render import svg
from kongming.render import text as text_mod
from tests import base
from tests import machines

SVG = '{http://www.w3.org/2000/svg}'
WIDTH = 80
MARKS = text_mod.FREE + text_mod.TAKEN + text_mod.SHARED + 'A'


def owned(machine):
    """The host with servers on every third of its dedicated pCPUs.

    Every other one of those has a name.
    """
    pcpus = sorted(machine.host().pcpus - machine.first_cores())[::3]
    state = machine.state(owners={pcpu: 'server a' for pcpu in pcpus})
    named = dict.fromkeys(pcpus[::2], 'server a')
    for node in state.nodes:
        node.owners = named
    return state


def mark(node, pcpu):
    """What a terminal shows of a pCPU."""
    if pcpu in node.taken:
        return 'A' if pcpu in node.owners else text_mod.TAKEN
    return text_mod.SHARED if pcpu in node.shared else text_mod.FREE


class MapTest(base.TestCase):

    def check(self, state, found):
        """Each pCPU stands once on its node, with its mark.

        :param found: (node, pCPU, mark) as drawn
        """
        self.assertEqual(
            sorted((node.id, pcpu, mark(node, pcpu)) for node in state.nodes
                   for pcpu in node.dedicated | node.shared),
            sorted(found))


@machines.on_each
class TerminalTest(MapTest):

    def nodes(self, text):
        """(node, line) of the lines that show pCPUs."""
        number = None
        for line in text.splitlines():
            if match := re.match('node ([0-9]+) ', line):
                number = int(match[1])
            elif (line.startswith('  ') and number is not None
                    and 'pages of' not in line):
                yield number, line

    def boxes(self, text):
        for number, line in self.nodes(text):
            for pcpu, letter in re.findall(f'([0-9]+) ([{MARKS}])│', line):
                yield number, int(pcpu), letter

    def rows(self, text):
        for number, line in self.nodes(text):
            match = re.fullmatch(
                f' *([0-9]+)(?:-([0-9]+)|,([0-9]+)\\.\\.([0-9]+))?  '
                f'([{MARKS} ]+)', line)
            if match:
                first, last = int(match[1]), int(
                    match[2] or match[4] or match[1])
                step = int(match[3]) - first if match[3] else 1
                pcpus = range(first, last + 1, step)
                letters = match[5].replace(' ', '')
                self.assertEqual(len(pcpus), len(letters), line)
                for pcpu, letter in zip(pcpus, letters):
                    yield number, pcpu, letter

    def test_boxes_show_each_pcpu_once(self, machine):
        state = owned(machine)
        self.assertEqual(machine.host().pcpus, frozenset().union(
            *(node.dedicated | node.shared for node in state.nodes)))
        self.check(state, self.boxes(text_mod.host(
            state, WIDTH, style=text_mod.BOXES)))

    def test_rows_show_each_pcpu_once(self, machine):
        state = owned(machine)
        self.check(state, self.rows(text_mod.host(
            state, WIDTH, style=text_mod.ROWS)))

    def test_what_nova_may_not_use_is_not_shown(self, machine):
        """Cores that lost threads are drawn as what is left of them."""
        rng = random.Random(machine.name)
        pcpus = sorted(machine.host().pcpus)
        state = machine.state(frozenset(rng.sample(
            pcpus, len(pcpus) * 2 // 3)), frozenset())
        self.check(state, self.boxes(text_mod.host(
            state, WIDTH, style=text_mod.BOXES)))
        self.check(state, self.rows(text_mod.host(
            state, WIDTH, style=text_mod.ROWS)))

    def test_either_is_chosen_by_itself(self, machine):
        state = owned(machine)
        text = text_mod.host(state, WIDTH)
        self.assertIn(text, [text_mod.host(state, WIDTH, style=style)
                             for style in (text_mod.BOXES, text_mod.ROWS)])

    def test_no_line_is_wider_than_the_terminal(self, machine):
        state = owned(machine)
        for style in text_mod.STYLES:
            for width in (60, WIDTH, 200):
                for line in text_mod.host(
                        state, width, style=style).splitlines():
                    self.assertLessEqual(len(line), width, line)

    def test_each_node_has_its_title_even_if_it_has_nothing_else(
            self, machine):
        state = machine.state()
        lines = text_mod.host(state, WIDTH).splitlines()
        titles = [line for line in lines if line.startswith('node ')]
        self.assertEqual(len(state.nodes), len(titles))
        for node, title in zip(state.nodes, titles):
            self.assertTrue(title.startswith(
                f'node {node.id}   {node.memory_mib} MiB, '
                f'{node.memory_mib} free   {len(node.dedicated)} dedicated '
                f'pCPUs, {node.n_free} free'), title)

    def test_pages_of_every_size_are_reported(self, machine):
        """But for small pages of 4 KiB, which hosts have as a rule."""
        state = machine.state()
        text = text_mod.host(state, WIDTH)
        drawing = svg.svg('compute-1', state)
        for size, words in ((64, '64 KiB'), (2048, '2 MiB'),
                            (524288, '512 MiB'), (1048576, '1 GiB'),
                            (16777216, '16 GiB')):
            small = sum(node.small_page_kib == size for node in state.nodes)
            huge = [pages for node in state.nodes for pages in node.pages
                    if pages.size_kib == size > node.small_page_kib
                    and pages.total]
            for found in (text, drawing):
                self.assertEqual(small, found.count(
                    f'small pages of {words}'))
                self.assertEqual(len(huge), found.count(
                    f' pages of {words} free'))
            for pages in huge:
                self.assertIn(f'{pages.free} of {pages.total} pages of '
                              f'{words} free', text)

    def test_siblings_stand_below_one_another(self, machine):
        for number, line in self.nodes(text_mod.host(
                machine.state(), WIDTH, style=text_mod.BOXES)):
            for pcpu in map(int, re.findall('[0-9]+', line)):
                self.assertEqual(number, machine.host().node_of(pcpu).id)
        column = {}
        for _number, line in self.nodes(text_mod.host(
                machine.state(), WIDTH, style=text_mod.BOXES)):
            column |= {int(match[0]): match.end()
                       for match in re.finditer('[0-9]+', line)}
        for node in machine.host().nodes:
            for core in node.cores:
                self.assertEqual(1, len({column[pcpu]
                                         for pcpu in core.pcpus}), core)


@machines.on_each
class SvgTest(MapTest):

    def drawn(self, state):
        return ElementTree.fromstring(svg.svg('compute-1', state))

    def test_each_pcpu_once_with_its_owner(self, machine):
        state = owned(machine)
        words = {'A': 'server a', text_mod.TAKEN: 'taken',
                 text_mod.FREE: 'free', text_mod.SHARED: 'shared'}
        titles = [title.text for title in self.drawn(state).iter(
            f'{SVG}title')]
        self.assertEqual('compute-1', titles.pop(0))
        self.assertEqual(
            sorted(f'pCPU {pcpu}: {words[mark(node, pcpu)]}'
                   for node in state.nodes
                   for pcpu in machine.host().node(node.id).pcpus),
            sorted(titles))

    def test_each_node_has_a_line(self, machine):
        lines = [text.text for text in self.drawn(machine.state()).iter(
            f'{SVG}text') if (text.text or '').startswith('node ')]
        self.assertEqual(list(machine.host().node_ids()),
                         [int(re.match('node ([0-9]+):', line)[1])
                          for line in lines])

    def test_nothing_overlaps_and_nothing_is_outside(self, machine):
        root = self.drawn(owned(machine))
        _x, _y, width, height = map(int, root.get('viewBox').split())
        places = []
        for rect in root.iter(f'{SVG}rect'):
            x, y, wide, high = (int(rect.get(key)) for key in (
                'x', 'y', 'width', 'height'))
            self.assertLessEqual(x + wide, width)
            self.assertLessEqual(y + high, height)
            if rect.get('class') != 'core':
                places.append((x, y))
        self.assertEqual(len(places), len(set(places)))
