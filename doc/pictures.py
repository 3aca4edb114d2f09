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

"""``python doc/pictures.py FOLDER``: the pictures of ``host map``, and a day
of a server whose profile goes by its load, and two that are balanced.

Names of hosts after the folder (see ``tests/machines.py``) draw these, too.
Drawn by the code that the command draws with; what is in the documentation is
compared with that by ``tools/style``.
"""

import datetime
import pathlib
import re
import sys
from xml.etree import ElementTree

from kongming.host import usage
from kongming.load import balance
from kongming.load import decision
from kongming.load import figures
from kongming.render import overview
from kongming.render import svg
from kongming.render import text as text_mod
from kongming.template import template

sys.path.append(str(pathlib.Path(__file__).parents[1]))

from tests import clouds  # noqa: E402
from tests import machines  # noqa: E402

#: Of one character and of a line of them, in pixels.
WIDTH, HEIGHT, MARGIN = 8.4, 18, 14
BACK, FORE, DIM = '#1c2126', '#e6e8ea', '#8a9099'
#: Levels of red, green and blue among a terminal's 256 colours.
LEVELS = 0, 95, 135, 175, 215, 255


def small():
    """Two nodes of eight cores; servers by pins and by count."""
    owners = {18: 'du-1', 19: 'du-1', 42: 'du-1', 43: 'du-1', 4: 'cu-1',
              5: 'cu-1', 28: 'cu-1', 29: 'cu-1', 20: 'ru-1', 44: 'ru-1'}
    return host(2, 12, owners, memory=98304, floating=5)


def wide():
    """Two nodes of 64 cores of two threads: 256 pCPUs."""
    owners = {}
    first = 2
    for number, cores in enumerate((8, 8, 4, 4, 12, 2, 2)):
        for core in range(first, first + cores):
            for node in range(2 if number < 2 else 1):
                owners[64 * node + core] = f'du-{2 * number + node + 1}'
                owners[64 * node + core + 128] = f'du-{2 * number + node + 1}'
        first += cores
    return host(2, 64, owners, memory=515072, floating=9)


def host(nodes, cores, owners, memory, floating):
    """A host whose siblings are numbered after all cores, as Intel does.

    The first two cores of each node are shared.
    """
    owners = {pcpu: f'server {name}' for pcpu, name in owners.items()}
    found = []
    for node in range(nodes):
        siblings = [{core, core + nodes * cores}
                    for core in range(node * cores, (node + 1) * cores)]
        shared = frozenset().union(*siblings[:2])
        dedicated = frozenset().union(*siblings[2:])
        taken = dedicated & owners.keys()
        found.append(usage.NodeState(
            node, dedicated, taken, shared=shared, siblings=siblings,
            owners=owners, memory_mib=memory,
            memory_used_mib=len(taken) * 2048, shared_used=floating))
    return usage.HostState(found)


def terminal(text):
    """Text with a terminal's colours, as SVG."""
    lines = text.splitlines()
    columns = max(len(re.sub('\033\\[[0-9;]*m', '', line))
                  for line in lines)
    size = {'width': f'{2 * MARGIN + columns * WIDTH:.0f}',
            'height': str(2 * MARGIN + len(lines) * HEIGHT)}
    root = ElementTree.Element(
        'svg', xmlns='http://www.w3.org/2000/svg',
        viewBox=f'0 0 {size["width"]} {size["height"]}', **size)
    ElementTree.SubElement(root, 'style').text = (
        f'text{{font:14px monospace;fill:{FORE}}}')
    ElementTree.SubElement(root, 'rect', fill=BACK, rx='6', **size)
    for number, line in enumerate(lines):
        column = 0
        for look, run in runs(line):
            for word in re.finditer(r'\S+', run):
                # Whatever the font, each is where a terminal has it.
                at = column + word.start()
                ElementTree.SubElement(
                    root, 'text', look, x=f'{MARGIN + at * WIDTH:.1f}',
                    y=f'{MARGIN + number * HEIGHT + 13}',
                    textLength=f'{len(word[0]) * WIDTH:.1f}',
                    lengthAdjust='spacingAndGlyphs').text = word[0]
            column += len(run)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding='unicode')


def runs(line):
    """(attributes, text) of each piece that looks the same."""
    look = {}
    for number, piece in enumerate(re.split('\033\\[([0-9;]*)m', line)):
        if number % 2 == 0:
            yield look, piece
        elif piece == '2':
            look = {'style': f'fill:{DIM}'}
        elif piece.startswith('1;38;5;'):
            cube = int(piece.rpartition(';')[2]) - 16
            colour = ''.join(f'{LEVELS[cube // part % 6]:02x}'
                             for part in (36, 6, 1))
            look = {'style': f'fill:#{colour};font-weight:bold'}
        else:
            look = {}


#: From an hour on, per cent of the time that a server's vCPUs run.
DAY = ((0, 4), (6, 22), (7, 55), (8.5, 78), (10, 64), (12, 12), (13.2, 70),
       (15, 48), (17, 24), (19, 9), (20.5, 40), (21.5, 6), (24, 4))
STEP = 60


def busy_idle():
    """What a host decides about such a day, by the code that it has."""
    wanted = template.decode({
        'kongming:profile.idle.when': 'use<15% until 30% for 10m',
        'kongming:profile.idle.lend': 'true'})
    decider = decision.Decider()
    used, lent = [], []
    run = 0
    for at in range(0, 86400, STEP):
        hour = at / 3600
        use = next(use for begin, use in reversed(DAY) if begin <= hour)
        # Minutes differ, the same way each time that this is drawn.
        use = max(1, use + (at // STEP * 37 % 11 - 5) * use / 60)
        run += use * STEP * 10 ** 7
        decider.read(wanted, figures.Counters(
            at, {0: figures.Times(round(run), 0)}), at)
        profile = decider.decide(
            wanted, {}, datetime.datetime(2026, 11, 27, tzinfo=datetime.UTC)
            + datetime.timedelta(seconds=at), at).profile
        used.append(use)
        if profile and (not lent or lent[-1][1] != at - STEP):
            lent.append([at, at])
        elif profile:
            lent[-1][1] = at
    return chart(used, lent)


def balanced():
    """Two busy servers on one of two nodes, by the code that balances."""
    balancer = balance.Balancer()
    nodes = [balance.Node(0, 2), balance.Node(1, 2)]
    where, wanted, moves = {'a': 0, 'b': 0}, [], []
    for minute in range(60):
        busy = 100 if minute >= 20 else 4
        there = [sum(2 * busy / 100 for at in where.values() if at == node.id)
                 for node in nodes]
        wanted.append(there)
        found = balancer.decide(nodes, [
            balance.Cell(name, 0, at, 2, busy, max(
                0.0, 100 - 200 / there[at] if there[at] > 2 else 0.0),
                4 * 1024 ** 2, frozenset({0, 1}))
            for name, at in where.items()], minute * 60)
        if found and minute >= 20 + balance.PERIODS:
            balancer.moved(found[0], minute * 60)
            where[found[0].server] = found[0].target
            moves.append(minute)
    return nodes_chart(wanted, moves)


def nodes_chart(wanted, moves):
    """:param wanted: pCPUs of each of two nodes, a pair a minute

    :param moves: minutes
    """
    left, top, width, height, most = 50, 14, 720, 140, 4

    def place(minute, pcpus):
        return (f'{left + minute * width / len(wanted):.1f}',
                f'{top + height * (1 - pcpus / most):.1f}')

    size = {'width': str(left + width + 20), 'height': str(top + height + 52)}
    root = ElementTree.Element(
        'svg', xmlns='http://www.w3.org/2000/svg',
        viewBox=f'0 0 {size["width"]} {size["height"]}', **size)
    ElementTree.SubElement(root, 'style').text = (
        f'text{{font:12px sans-serif;fill:{FORE}}}')
    ElementTree.SubElement(root, 'rect', fill=BACK, rx='6', **size)
    for pcpus in (0, 2, 4):
        _x, y = place(0, pcpus)
        ElementTree.SubElement(
            root, 'line', x1=str(left), x2=str(left + width), y1=y, y2=y,
            stroke=DIM, **({'stroke-dasharray': '4 4'} if pcpus == 2 else {}))
        ElementTree.SubElement(root, 'text', x='24', y=y).text = str(pcpus)
    for minute in moves:
        x, y = place(minute, most)
        ElementTree.SubElement(
            root, 'line', x1=x, x2=x, y1=y, y2=str(top + height), stroke=FORE)
        ElementTree.SubElement(
            root, 'text', x=str(float(x) + 4), y=str(top + 12)).text = (
                'a server moves')
    for node, colour in enumerate(('#5fafff', '#87d75f')):
        ElementTree.SubElement(
            root, 'polyline', fill='none', stroke=colour,
            points=' '.join(','.join(place(minute, each[node]))
                            for minute, each in enumerate(wanted)))
    ElementTree.SubElement(
        root, 'text', x=str(left), y=str(top + height + 36)).text = (
            'pCPUs that are wanted on node 0 (blue) and node 1 (green) in '
            'an hour; each has two')
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding='unicode')


def chart(used, lent):
    """:param used: per cent, a value each STEP

    :param lent: [from, to], in seconds
    """
    left, top, width, height = 50, 14, 720, 180

    def across(at):
        return f'{left + at * width / 86400:.1f}'

    def up(use):
        return f'{top + height * (1 - use / 100):.1f}'

    size = {'width': str(left + width + 20), 'height': str(top + height + 70)}
    root = ElementTree.Element(
        'svg', xmlns='http://www.w3.org/2000/svg',
        viewBox=f'0 0 {size["width"]} {size["height"]}', **size)
    ElementTree.SubElement(root, 'style').text = (
        f'text{{font:12px sans-serif;fill:{FORE}}}')
    ElementTree.SubElement(root, 'rect', fill=BACK, rx='6', **size)
    for use, label in ((0, '0%'), (15, '15%'), (30, '30%'), (100, '100%')):
        ElementTree.SubElement(
            root, 'line', x1=str(left), x2=str(left + width), y1=up(use),
            y2=up(use), stroke=DIM,
            **({'stroke-dasharray': '4 4'} if use in (15, 30) else {}))
        ElementTree.SubElement(
            root, 'text', x='8', y=f'{float(up(use)) + 4:.1f}').text = label
    for hour in range(0, 25, 6):
        ElementTree.SubElement(
            root, 'text', x=f'{float(across(hour * 3600)) - 14:.1f}',
            y=str(top + height + 18)).text = f'{hour:02}:00'
    ElementTree.SubElement(
        root, 'polyline', fill='none', stroke='#5fafff',
        points=' '.join(f'{across(number * STEP)},{up(use)}'
                        for number, use in enumerate(used)))
    for begin, end in lent:
        ElementTree.SubElement(
            root, 'rect', fill='#87d75f', x=across(begin),
            y=str(top + height + 30),
            width=f'{(end - begin) * width / 86400:.1f}', height='14')
    ElementTree.SubElement(
        root, 'text', x=str(left), y=str(top + height + 62)).text = (
            'use of its vCPUs (blue); profile idle: one pCPU is lent (green)')
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding='unicode')


def main(folder, *names):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (
            ('balance', balanced()),
            ('busy-idle', busy_idle()),
            ('host-map', svg.svg('compute1', small())),
            ('host-map-terminal', terminal(
                text_mod.host(small(), 90, colour=True))),
            ('host-map-all', terminal(overview.overview(
                clouds.cloud(hosts=8, servers=60, cores=12), 100,
                colour=True))),
            ('host-map-wide', terminal(
                text_mod.host(wide(), 100, colour=True))),
            *((f'host-map-{name}', svg.svg(
                name, machines.MACHINES[name].state())) for name in names)):
        (folder / f'{name}.svg').write_text(text + '\n')


if __name__ == '__main__':
    main(*sys.argv[1:])
