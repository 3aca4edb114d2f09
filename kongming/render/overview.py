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

"""A whole cloud in text: a line a host, how much of it is owned and free::

    3 hosts   180 dedicated pCPUs: 86 owned, 90 free, 4 of them stranded
    23 servers, 1 with drift   1 leftover

      host      owned/free          owned  free  stranded  servers
      compute1  ██████████▒░░░░░░░     37    23         1       13
    ! compute2  ████░░░░░░░░░░░░░░     29    31         1        9  1 drift

    █ owned   ▒ free, but stranded   ░ free   ! drift or a conflict
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence
import textwrap
import unicodedata

from kongming import exception
from kongming.render import cloud as cloud_mod

OWNED, STRANDED, FREE = '█', '▒', '░'
#: ANSI colours of 256 that dark and light terminals both show well.
_COLOURS = {OWNED: '38;5;33', STRANDED: '38;5;214', FREE: '38;5;71',
            '!': '1;38;5;196'}
_LEAST_BAR, _MOST_BAR = 10, 40
_LEAST_NAME, _MOST_NAME = 8, 40
#: Columns for drift, conflicts and the like, where the line is wide enough.
_REMARKS = 19
_FIGURES = ('owned', 'free', 'stranded', 'servers')
#: From so many hosts on it is told how full they are, before each is.
_MANY = 20
#: Up to which part of its dedicated pCPUs is owned, and how that is called.
_FILLED = ((0.0, 'none'), (0.25, 'up to 25%'), (0.5, 'up to 50%'),
           (0.75, 'up to 75%'), (0.999999, 'less than all'), (1.0, 'all'))


def overview(cloud: cloud_mod.Cloud, width: int = 78,
             colour: bool = False) -> str:
    """All hosts, one below the other.

    :param width: columns that the line of a host has at most; with fewer than
        58 it is longer
    :param colour: whether to colour it for a terminal
    """
    return '\n'.join(_lines(cloud, width, colour))


def _lines(cloud: cloud_mod.Cloud, width: int,
           colour: bool) -> Iterator[str]:
    servers = cloud.by_host()
    yield from _head(cloud, servers)
    yield from _filled(cloud, width)
    figures = ' '.join(f'{name:>8}' for name in _FIGURES)
    # For a mark, a name, a bar, and what is between them.
    left = width - len(figures) - 5
    most = max(_LEAST_NAME, min(_MOST_NAME, left - _LEAST_BAR))
    names = {host.name: _cut(exception.printable(host.name), most)
             for host in cloud.hosts}
    widest = max(4, max(map(_columns, names.values()), default=4))
    bar = max(_LEAST_BAR, min(_MOST_BAR, left - widest - _REMARKS))
    left -= widest + bar + 2
    if cloud.hosts:
        yield ''
        yield f'  {"host":{widest}}  {"owned/free":{bar}} {figures}'
    for host in cloud.hosts:
        mine = servers[host.name]
        sums = cloud_mod.sums(host.state.nodes)
        remarks = _cut(', '.join(_remarks(host, mine)), max(0, left))
        marked = _is_marked(host, mine)
        mark = _painted('!', '!', colour) if marked else ' '
        numbers = ' '.join(f'{number:>8}' for number in (
            sums.owned, sums.free, sums.stranded, len(mine)))
        name = names[host.name] + ' ' * (widest - _columns(names[host.name]))
        yield (f'{mark} {name}  {_bar(sums, bar, colour)} {numbers}'
               + (f'  {remarks}' if remarks else '')).rstrip()
    yield ''
    yield '   '.join(f'{_painted(mark, mark, colour)} {text}'
                     for mark, text in (
                         (OWNED, 'owned'), (STRANDED, 'free, but stranded'),
                         (FREE, 'free'), ('!', 'drift or a conflict')))
    yield from _details(cloud, servers)


def _head(cloud: cloud_mod.Cloud,
          servers: dict[str, list[cloud_mod.Server]]) -> Iterator[str]:
    sums = cloud_mod.sums(node for host in cloud.hosts
                          for node in host.state.nodes)
    drifted = sum(bool(server.drift) for server in cloud.servers)
    yield (f'{_plural(len(cloud.hosts), "host")}   {sums.dedicated} '
           f'dedicated pCPUs: {sums.owned} owned, {sums.free} free, '
           f'{sums.stranded} of them stranded')
    yield (f'{_plural(len(cloud.servers), "server")}, {drifted} with drift'
           f'   {_plural(len(cloud.leftovers), "leftover")}')


def _filled(cloud: cloud_mod.Cloud, width: int) -> Iterator[str]:
    """How many hosts are how full, where they are many."""
    if len(cloud.hosts) < _MANY:
        return
    counts = dict.fromkeys((name for _part, name in _FILLED), 0)
    without = 0
    for host in cloud.hosts:
        sums = cloud_mod.sums(host.state.nodes)
        if sums.dedicated:
            part = sums.owned / sums.dedicated
            counts[next(name for most, name in _FILLED if part <= most)] += 1
        else:
            without += 1
    words = [f'{name} on {number}' for name, number in counts.items()
             if number]
    if without:
        words.append(f'{without} have none')
    yield from textwrap.wrap(
        f'owned of the dedicated pCPUs of a host: {", ".join(words)}',
        max(width, 40), subsequent_indent='  ', break_on_hyphens=False)


def _remarks(host: cloud_mod.Host,
             servers: Sequence[cloud_mod.Server]) -> Iterator[str]:
    drifted = sum(bool(server.drift) for server in servers)
    if drifted:
        yield f'{drifted} drift'
    conflicts = len(cloud_mod.conflicts(host, servers))
    if conflicts:
        yield _plural(conflicts, 'conflict')
    if not host.obeys:
        yield 'does not obey'
    elif host.live != 'act':
        yield exception.printable(host.live)


def _is_marked(host: cloud_mod.Host,
               servers: Sequence[cloud_mod.Server]) -> bool:
    return any(server.drift for server in servers) or bool(
        cloud_mod.conflicts(host, servers))


def _details(cloud: cloud_mod.Cloud,
             servers: dict[str, list[cloud_mod.Server]]) -> Iterator[str]:
    """What is marked, in words."""
    lines = [
        *(f'{server.host}: {server.name}: {line}'
          for mine in servers.values() for server in mine
          for line in server.drift),
        *(f'{host.name}: {line}' for host in cloud.hosts
          for line in cloud_mod.conflicts(host, servers[host.name])),
        *(f'leftover {name}: {why}' for name, why in cloud.leftovers),
        *cloud.doubts]
    if lines:
        yield ''
    for line in lines:
        yield f'! {exception.printable(line)}'


def _bar(sums: cloud_mod.Sums, width: int, colour: bool) -> str:
    """What is there at all has a column of it, however little it is."""
    parts = [(OWNED, sums.owned), (STRANDED, sums.stranded),
             (FREE, sums.free - sums.stranded)]
    total = sum(number for _mark, number in parts)
    if not total:
        return ' ' * width
    columns = [max(number > 0, round(width * number / total))
               for _mark, number in parts]
    columns[columns.index(max(columns))] += width - sum(columns)
    return ''.join(_painted(mark, mark * number, colour)
                   for (mark, _count), number in zip(parts, columns))


def _painted(mark: str, text: str, colour: bool) -> str:
    return (f'\033[{_COLOURS[mark]}m{text}\033[0m' if colour and text
            else text)


def _plural(number: int, noun: str) -> str:
    return f'{number} {noun}{"" if number == 1 else "s"}'


def _columns(text: str) -> int:
    """That a terminal takes for it (UAX #11)."""
    return sum(map(_width, text))


def _width(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 1 + (unicodedata.east_asian_width(character) in 'WF')


def _cut(text: str, most: int) -> str:
    if _columns(text) <= most:
        return text
    if most < 1:
        return ''
    kept: list[str] = []
    for character in text:
        if _columns(''.join(kept)) + _width(character) > most - 1:
            break
        kept.append(character)
    return ''.join(kept) + '…'


def to_json(cloud: cloud_mod.Cloud) -> dict[str, object]:
    """The same for programs."""
    servers = cloud.by_host()
    return {
        'cloud': cloud.name, 'moment': cloud.moment,
        'hosts': [{
            'host': host.name, 'uuid': host.uuid, 'obeys': host.obeys,
            'live': host.live,
            'nodes': [{
                'node': node.id, **cloud_mod.sums((node,))._asdict(),
                'taken': sorted(node.taken),
                'stranded_pcpus': sorted(cloud_mod.stranded(node)),
                'memory_free_mib': node.memory_mib - node.memory_used_mib,
                'floating': node.shared_used} for node in host.state.nodes],
            'conflicts': cloud_mod.conflicts(host, servers[host.name]),
            'servers': [*map(_server, servers[host.name])],
        } for host in cloud.hosts],
        'leftovers': [{'provider': name, 'reason': why}
                      for name, why in cloud.leftovers],
        'doubts': [*cloud.doubts]}


def _server(server: cloud_mod.Server) -> dict[str, object]:
    return {
        'server': server.name, 'id': server.id, 'project': server.project,
        'status': server.status, 'flavor': server.flavor,
        'profile': server.profile, 'template': server.has_template,
        'cells': None if server.cells is None else [{
            'node': cell.node, 'pins': {
                str(vcpu): pcpu for vcpu, pcpu in sorted(cell.pins.items())},
            'pcpus': sorted(cell.pcpus), 'floating': cell.floating,
            'memory_mib': cell.memory_mib, 'page_kib': cell.page_kib,
        } for cell in server.cells],
        'drift': [*server.drift],
        'changes': [change._asdict() for change in server.changes]}
