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

"""Pictures of a host in text.

Two styles.  A host of few cores is drawn as boxes::

    node 0   8192 MiB, 7168 free   6 dedicated pCPUs, 4 free
      ┌────┐┌────┐┌────┐┌────┐
      │ 0 ~││ 1 ~││ 2 A││ 3 .│
      │ 8 ~││ 9 ~││10 A││11 .│
      └────┘└────┘└────┘└────┘
    A server du-1   . free   ~ shared

a wide one in rows, a column a core, siblings one below the other::

    node 0   515072 MiB, 398336 free   124 dedicated pCPUs, 96 free
         0-31   ~~AAAAAA AABBBB.. ........ ........
       128-159  ~~AAAAAA AABBBB.. ........ ........

        32-63   ........ ........ ........ ........
       160-191  ........ ........ ........ ........
    A server du-1   B server du-2   . free   ~ shared
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
import string

from kongming import exception
from kongming.host import topology
from kongming.host import usage
from kongming.render import pages

FREE, TAKEN, SHARED, OFFLINE = '.', '#', '~', '-'
_WORDS = {FREE: 'free', SHARED: 'shared', TAKEN: 'taken', OFFLINE: 'off'}
_LETTERS = string.ascii_uppercase + string.ascii_lowercase

#: ANSI colours of 256 that dark and light terminals both show well.
_COLOURS = (39, 208, 41, 199, 220, 99, 45, 203, 112, 171, 214, 75)
#: How what has no letter looks (ECMA-48): dim, and the other way round.
_LOOKS = {SHARED: '2', OFFLINE: '2', TAKEN: '7'}

AUTO, BOXES, ROWS = 'auto', 'boxes', 'rows'
STYLES = AUTO, BOXES, ROWS
#: So many lines of boxes a node are read at a glance.
_MOST_BOXES = 3
_GROUP = 8

_Core = tuple[int, ...]


def host(state: usage.HostState, width: int = 78, colour: bool = False,
         style: str = AUTO) -> str:
    """Nodes one below the other, and below them whose letter is whose.

    :param width: columns that a line may have
    :param colour: whether to colour owners for a terminal
    :param style: boxes, rows, or auto for what is read more easily
    """
    letters = _Letters(colour)
    lines: list[str] = []
    drawn = [(node, cores(node)) for node in state.nodes]
    if style == AUTO:
        style = BOXES if all(
            len(found) <= _MOST_BOXES * _boxes_a_line(found, width)
            for _node, found in drawn) else ROWS
    for node, found in drawn:
        lines += _flow(((text, text) for text in _title(node)), width, '  ')
        lines += (_boxes if style == BOXES else _rows)(
            node, found, letters, width)
    return '\n'.join([*lines, *_flow(_legend(letters), width)])


def cores(node: usage.NodeState) -> list[_Core]:
    """What there is to draw, cores in counting order.

    Of a pCPU that is offline nobody knows its siblings; it comes last, by
    itself.
    """
    return [*node.cores(), *((pcpu,) for pcpu in sorted(node.offline()))]


def _title(node: usage.NodeState) -> Iterator[str]:
    free = len(node.dedicated) - len(node.taken & node.dedicated)
    left = node.memory_mib - node.memory_used_mib
    yield f'node {node.id}'
    yield f'{node.memory_mib} MiB, {left} free'
    yield f'{len(node.dedicated)} dedicated pCPUs, {free} free'
    if node.shared_used:
        yield f'{node.shared_used} vCPUs float over {len(node.shared)} shared'
    if node.unpowered:
        yield (f'pCPU {topology.format_cpu_list(node.unpowered)} without '
               f'power')
    yield from pages.words(node)


class _Letters(dict[str, str]):
    """Owner -> letter, and how it looks.

    :ivar marks: what else was drawn
    :ivar others: whether there were more owners than letters
    """

    def __init__(self, colour: bool) -> None:
        super().__init__()
        self._colour = colour
        self.marks: set[str] = set()
        self.others = False

    def mark(self, node: usage.NodeState, pcpu: int) -> str:
        """The letter of a pCPU's owner, or what else it is."""
        mark = _mark(node, pcpu)
        if mark == TAKEN and pcpu in node.owners:
            owner = node.owners[pcpu]
            if owner in self or len(self) < len(_LETTERS):
                return self.setdefault(owner, _LETTERS[len(self) % len(
                    _LETTERS)])
            self.others = True
        self.marks.add(mark)
        return mark

    def painted(self, mark: str, text: str | None = None) -> str:
        """Text in the looks of a letter or mark."""
        text = mark if text is None else text
        look = _LOOKS.get(mark, '')
        if mark in _LETTERS:
            code = _COLOURS[_LETTERS.index(mark) % len(_COLOURS)]
            look = f'1;38;5;{code}'
        return (f'\033[{look}m{text}\033[0m' if self._colour and look
                else text)


def _mark(node: usage.NodeState, pcpu: int) -> str:
    if pcpu in node.taken:
        return TAKEN
    if pcpu in node.offline() or pcpu in node.unpowered:
        return OFFLINE
    return SHARED if pcpu in node.shared else FREE


def _digits(found: Iterable[_Core]) -> int:
    return max((len(str(p)) for core in found for p in core), default=1)


# Boxes.

def _boxes_a_line(found: Sequence[_Core], width: int) -> int:
    return max(1, (width - 2) // (_digits(found) + 4))


def _boxes(node: usage.NodeState, found: Sequence[_Core], letters: _Letters,
           width: int) -> Iterator[str]:
    digits, per_line = _digits(found), _boxes_a_line(found, width)
    edge = '─' * (digits + 2)
    for start in range(0, len(found), per_line):
        row = found[start:start + per_line]
        yield '  ' + f'┌{edge}┐' * len(row)
        for thread in range(max(map(len, row))):
            line = '  '
            for core in row:
                text = ' ' * (digits + 2)
                if thread < len(core):
                    mark = letters.mark(node, core[thread])
                    text = letters.painted(
                        mark, f'{core[thread]:>{digits}} {mark}')
                line += f'│{text}│'
            yield line
        yield '  ' + f'└{edge}┘' * len(row)


# Rows.

def _rows(node: usage.NodeState, found: Sequence[_Core], letters: _Letters,
          width: int) -> Iterator[str]:
    groups = max(1, (width - 3 * _digits(found) - 7) // (_GROUP + 1))
    # Powers of two begin and end where people expect it.
    chunks = [[[core[thread] for core in row]
               for thread in range(len(row[0]))] for row in _chunks(
                   found, _GROUP << (groups.bit_length() - 1))]
    label = max((len(_label(pcpus)) for row in chunks for pcpus in row),
                default=0)
    for number, row in enumerate(chunks):
        if number:
            yield ''
        for pcpus in row:
            marks = [letters.mark(node, pcpu) for pcpu in pcpus]
            cells = ' '.join(
                ''.join(map(letters.painted, marks[start:start + _GROUP]))
                for start in range(0, len(marks), _GROUP))
            yield f'  {_label(pcpus):>{label}}  {cells}'


def _chunks(found: Sequence[_Core], most: int) -> Iterator[list[_Core]]:
    """Rows whose pCPUs go on by the same step, so that a label says all."""
    row: list[_Core] = []
    for core in found:
        if row and (len(row) == most or len(core) != len(row[0]) or (
                len(row) > 1 and _step(row[-1], core) != _step(*row[:2]))):
            yield row
            row = []
        row.append(core)
    if row:
        yield row


def _step(one: _Core, other: _Core) -> tuple[int, ...]:
    return tuple(b - a for a, b in zip(one, other))


def _label(pcpus: Sequence[int]) -> str:
    """``0-31``, or ``0,2..62``."""
    if len(pcpus) == 1:
        return str(pcpus[0])
    if pcpus[1] - pcpus[0] == 1:
        return f'{pcpus[0]}-{pcpus[-1]}'
    return f'{pcpus[0]},{pcpus[1]}..{pcpus[-1]}'


def _legend(letters: _Letters) -> Iterator[tuple[str, str]]:
    """What is drawn means; as it is, and painted."""
    words = {**_WORDS, **({TAKEN: 'others'} if letters.others else {})}
    for mark, text in [
            *((letter, exception.printable(owner))
              for owner, letter in letters.items()),
            *((mark, words[mark]) for mark in _WORDS
              if mark in letters.marks)]:
        yield f'{mark} {text}', f'{letters.painted(mark)} {text}'


def _flow(entries: Iterable[tuple[str, str]], width: int,
          indent: str = '') -> Iterator[str]:
    """As many in a line as fit.

    :param entries: each as it counts, and as it is written
    :param indent: of all lines but the first
    """
    line, used = '', 0
    for uncoloured, written in entries:
        if line and used + 3 + len(uncoloured) > width:
            yield line
            line, used = indent, len(indent)
        gap = '   ' if line.strip() else ''
        line += gap + written
        used += len(gap + uncoloured)
    yield line
