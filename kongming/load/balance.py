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

"""Which cell would better be on another node of its host, and whether that
pays.

A node has pCPUs for what floats there, and cells whose vCPUs want some of
them.  What they want beyond what there is, they wait for.  A cell that moves
takes its demand from one node to another, and its memory is copied; that
costs memory bandwidth, and its server's time, in proportion to its pages.

The demand of a cell is what its vCPUs ran and waited; that of all others
there (native servers, threads of the host) is what the node's pCPUs ran and
had waiting, less what is known of cells.  What is decided goes by the least
of the last :data:`PERIODS` periods of a cell and by the most of others, so
that what comes and goes moves nothing.

What keeps cells from going to and fro: a move has to pay several times over
(:data:`WORTH`); a host makes a limited number of moves an hour; after one it
measures anew before the next (:data:`SETTLES`); a server that has moved stays
for a while (:data:`STAYS`), and does not go back to where it came from before
that is over twice.

Nothing here moves anything.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
from typing import NamedTuple

from kongming.load import figures as figures_mod
from kongming.template import condition as condition_mod

#: Seconds that a figure covers, and how many of them one goes by.
PERIOD, PERIODS = 60.0, 3
#: KiB of memory that are moved in a second, at least (migrate_pages(2) of
#: 128 MiB of a busy guest took 2.3 s).
RATE_KIB = 50 * 1024
#: Seconds for which a gain is counted: load goes on for as long, or not.
HORIZON = 600.0
#: How many times what it costs a move has to gain.
WORTH = 3.0
#: Per cent of its time that a cell has to wait to be moved away.
WAITS = 5.0
#: Per cent of a server's memory elsewhere from which on a move is advised.
REMOTE = 10.0
#: Seconds after a move until the next one is thought of.
SETTLES = (PERIODS + 1) * PERIOD
#: Seconds for which a server that has moved stays.
STAYS = 3600.0
#: Moves of a host in an hour, where nobody says another number.
MOVES = 6
_HOUR = 3600.0


class Node(NamedTuple):
    """
    :ivar pcpus: how many all that float there may use
    :ivar lent: how many besides, who borrows
    :ivar others: pCPUs that are wanted there by whom nothing is known of
    """

    id: int
    pcpus: int
    lent: int = 0
    others: float = 0.0


class Cell(NamedTuple):
    """A cell with vCPUs that float.

    :ivar server: whose it is
    :ivar number: which one
    :ivar node: where it is
    :ivar vcpus: how many float
    :ivar use: of these, as kongming.load.figures has it
    :ivar wait: likewise
    :ivar memory_kib: what would be copied
    :ivar may_go: nodes that it could be on
    :ivar borrows: whether its vCPUs use what others lend there
    :ivar remote: memory of its server that is on other nodes, in per cent
    :ivar memory_on: node -> KiB of its server's memory there, where known
    """

    server: str
    number: int
    node: int
    vcpus: int
    use: float
    wait: float
    memory_kib: int
    may_go: frozenset[int]
    borrows: bool = False
    remote: float = 0.0
    memory_on: Mapping[int, int] = {}

    @property
    def demand(self) -> float:
        """In pCPUs."""
        return self.vcpus * self.use / 100

    @property
    def waits(self) -> float:
        """pCPUs that it waits for."""
        return self.vcpus * self.wait / 100


class Move(NamedTuple):
    """
    :ivar saves: pCPUs that nobody has to wait for any more
    :ivar local_kib: memory that is on the cell's node then, and was not
    :ivar seconds: that the copying takes
    :ivar because: in words
    """

    server: str
    cell: int
    source: int
    target: int
    saves: float
    seconds: float
    because: str
    local_kib: int = 0


class Balancer:
    """Of one host."""

    def __init__(self) -> None:
        self._moved: collections.deque[float] = collections.deque()
        #: server -> (when it moved last, from where; None: that is not known)
        self._last: dict[str, tuple[float, int | None]] = {}

    def decide(self, nodes: Sequence[Node], cells: Iterable[Cell],
               now: float, most: int = MOVES) -> list[Move]:
        """The moves that pay and may be made now, best first.

        After one of them is made, the others are out of date.

        :param now: seconds on a clock that never goes back
        :param most: moves in an hour; 0: no limit
        """
        if self.why_not(now, most):
            return []
        return [move for move in moves(nodes, cells)
                if not self.stays(move, now)]

    def why_not(self, now: float, most: int = MOVES) -> str:
        """Why nothing is moved now, in words; empty: it may be."""
        while self._moved and self._moved[0] <= now - _HOUR:
            self._moved.popleft()
        if most and len(self._moved) >= most:
            return (f'this host has balanced as often as it may in an hour '
                    f'({most} times)')
        if self._moved and now - self._moved[-1] < SETTLES:
            return 'this host measures anew after a move'
        return ''

    def stays(self, move: Move, now: float) -> str:
        """Why its server stays, in words; empty: it may move so."""
        last = self._last.get(move.server)
        if last is None:
            return ''
        when, source = last
        if now - when >= STAYS * (2 if move.target == source else 1):
            return ''
        return ('it was moved for balance '
                f'{condition_mod.format_duration(round(now - when))} ago')

    def moved(self, move: Move, now: float) -> None:
        """A move is made, or has been tried."""
        self._moved.append(now)
        self._last[move.server] = now, move.source

    def restore(self, server: str, at: Iterable[float]) -> None:
        """Have moves count that were made before.

        :param at: when, by the clock of :meth:`decide`
        """
        times = sorted(at)
        if times and server not in self._last:
            self._moved = collections.deque(sorted([*self._moved, *times]))
            self._last[server] = times[-1], None

    def retain(self, servers: Iterable[str]) -> None:
        """Forget when servers moved but these; how often, is the host's."""
        for server in self._last.keys() - set(servers):
            del self._last[server]


@dataclasses.dataclass
class Recent:
    """The last periods of what is measured of something.

    :ivar figures: the newest last
    """

    figures: collections.deque[figures_mod.Figures] = dataclasses.field(
        default_factory=lambda: collections.deque(maxlen=PERIODS))

    def add(self, found: figures_mod.Figures | None) -> None:
        """None: nothing is known of the period, so that it begins anew."""
        if found is None:
            self.figures.clear()
        else:
            self.figures.append(found)

    @property
    def least(self) -> figures_mod.Figures | None:
        """What it wanted and waited all the time; None: not known yet."""
        if len(self.figures) < PERIODS:
            return None
        return figures_mod.Figures(
            sum(each.seconds for each in self.figures),
            min(each.use for each in self.figures),
            min(each.wait for each in self.figures))


def waiting(nodes: Iterable[Node], cells: Iterable[Cell]) -> float:
    """pCPUs that are wanted and not there, of all nodes together."""
    wanted: dict[int, float] = {}
    without: dict[int, float] = {}
    for cell in cells:
        wanted[cell.node] = wanted.get(cell.node, 0.0) + cell.demand
        if not cell.borrows:
            without[cell.node] = without.get(cell.node, 0.0) + cell.demand
    # Who borrows can use all, the others a part of it only.
    return sum(max(
        0.0, without.get(node.id, 0.0) + node.others - node.pcpus,
        wanted.get(node.id, 0.0) + node.others - node.pcpus - node.lent)
        for node in nodes)


def moves(nodes: Sequence[Node], cells: Iterable[Cell]) -> list[Move]:
    """All moves that pay for what is waited for, best first."""
    known = list(cells)
    before = waiting(nodes, known)
    if not before:
        return []
    # No more than was measured is saved.
    measured: dict[int, float] = {}
    for cell in known:
        measured[cell.node] = measured.get(cell.node, 0.0) + cell.waits
    found = []
    for place, cell in enumerate(known):
        if cell.wait < WAITS:
            continue
        for node in nodes:
            if node.id == cell.node or node.id not in cell.may_go:
                continue
            after = waiting(nodes, [
                *known[:place], cell._replace(node=node.id),
                *known[place + 1:]])
            saves = min(before - after, measured[cell.node])
            move = Move(cell.server, cell.number, cell.node, node.id, saves,
                        cell.memory_kib / RATE_KIB, '')
            if move.saves * HORIZON > WORTH * _cost(move):
                found.append(move._replace(because=(
                    f'it waits {cell.wait:.1f}% of its time on node '
                    f'{cell.node}; on node {node.id} {saves:.2f} pCPUs less '
                    f'are waited for, {cell.memory_kib // 1024} MiB are '
                    f'copied in about {move.seconds:.0f} s')))
    return sorted(found, key=lambda move: (
        _cost(move) - move.saves * HORIZON, move.server, move.target))


def nearer(cells: Iterable[Cell]) -> list[Move]:
    """Moves to where a server's memory is, best first.

    Only a server of one cell: of several it is not known whose memory it is.
    """
    found = []
    known = list(cells)
    for cell in known:
        if cell.remote < REMOTE or sum(
                other.server == cell.server for other in known) > 1:
            continue
        here = cell.memory_on.get(cell.node, 0)
        for node in sorted(cell.may_go - {cell.node}):
            local = cell.memory_on.get(node, 0) - here
            if local <= 0:
                continue
            copied = sum(cell.memory_on.values()) - cell.memory_on[node]
            seconds = copied / RATE_KIB
            found.append(Move(
                cell.server, cell.number, cell.node, node, 0.0, seconds,
                f'{cell.remote:.1f}% of its memory are not on node '
                f'{cell.node}; {cell.memory_on[node] // 1024} MiB are on '
                f'node {node}, {copied // 1024} MiB are copied in about '
                f'{seconds:.0f} s', local))
    return sorted(found, key=lambda move: (-move.local_kib, move.server,
                                           move.target))


def _cost(move: Move) -> float:
    """In seconds of a pCPU: who copies, and the server that is copied."""
    return 2 * move.seconds
