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

"""Pictures of a host in text."""

from __future__ import annotations

from collections.abc import Iterable
import string

from kongming import usage

FREE, TAKEN, SHARED = '.', '#', '~'
_LETTERS = string.ascii_uppercase + string.ascii_lowercase


#: ANSI colours of 256 that dark and light terminals both show well.
_COLOURS = (39, 208, 41, 199, 220, 99, 45, 203, 112, 171, 214, 75)


def host(state: usage.HostState, width: int = 78,
         colour: bool = False) -> str:
    """A box a core, a line a thread, nodes one below the other.

    ::

        node 0   8192 MiB, 7168 free   6 dedicated pCPUs, 4 free
          ┌────┐┌────┐┌────┐┌────┐
          │ 0 ~││ 1 ~││ 2 A││ 3 .│
          │ 8 ~││ 9 ~││10 A││11 .│
          └────┘└────┘└────┘└────┘
        A server du-1   . free   ~ shared

    :param width: columns that a line may have
    :param colour: whether to colour owners for a terminal
    """
    letters = _Letters(colour)
    lines: list[str] = []
    marks: set[str] = set()
    for node in state.nodes:
        lines.append(_title(node))
        lines += _boxes(node, letters, marks, width)
    return '\n'.join([*lines, _legend(letters, marks)])


def _title(node: usage.NodeState) -> str:
    free = len(node.dedicated) - len(node.taken & node.dedicated)
    left = node.memory_mib - node.memory_used_mib
    return (f'node {node.id}   {node.memory_mib} MiB, {left} free   '
            f'{len(node.dedicated)} dedicated pCPUs, {free} free')


class _Letters(dict[str, str]):
    """Owner -> letter, and how it looks."""

    def __init__(self, colour: bool) -> None:
        super().__init__()
        self._colour = colour

    def painted(self, letter: str) -> str:
        if not self._colour or letter not in _LETTERS:
            return letter
        code = _COLOURS[_LETTERS.index(letter) % len(_COLOURS)]
        return f'\033[1;38;5;{code}m{letter}\033[0m'


def _boxes(node: usage.NodeState, letters: _Letters, marks: set[str],
           width: int) -> Iterable[str]:
    cores = node.cores()
    digits = max((len(str(p)) for core in cores for p in core), default=1)
    inner = digits + 2
    per_line = max(1, (width - 2) // (inner + 2))
    for start in range(0, len(cores), per_line):
        row = cores[start:start + per_line]
        yield '  ' + ('┌' + '─' * inner + '┐') * len(row)
        for thread in range(max(map(len, row))):
            marked = [_mark(node, core[thread], letters, marks)
                      if thread < len(core) else '' for core in row]
            yield '  ' + ''.join(
                f'│{core[thread]:>{digits}} {letters.painted(mark)}│'
                if mark else '│' + ' ' * inner + '│'
                for core, mark in zip(row, marked))
        yield '  ' + ('└' + '─' * inner + '┘') * len(row)


def _mark(node: usage.NodeState, pcpu: int, letters: _Letters,
          marks: set[str]) -> str:
    if pcpu in node.shared:
        mark = SHARED
    elif pcpu not in node.taken:
        mark = FREE
    else:
        owner = node.owners.get(pcpu)
        if owner is None or (owner not in letters
                             and len(letters) == len(_LETTERS)):
            mark = TAKEN
        else:
            return letters.setdefault(owner, _LETTERS[len(letters)])
    marks.add(mark)
    return mark


def _legend(letters: _Letters, marks: set[str]) -> str:
    words = {FREE: 'free', SHARED: 'shared', TAKEN: 'taken'}
    return '   '.join(
        [f'{letters.painted(letter)} {owner}'
         for owner, letter in letters.items()]
        + [f'{mark} {words[mark]}' for mark in words if mark in marks])
