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

"""Which server would better be on another node of its host, and whether that
pays.

A node has pCPUs for what floats there, and servers that want some of them.
What they want beyond what there is, they wait for.  Moving a server takes its
demand from one node to another, and copies its memory; that costs memory
bandwidth, and the server's time, in proportion to its pages.

What keeps servers from going to and fro: a move has to pay several times over
(:data:`WORTH`); a host makes a limited number of moves an hour; after one it
measures anew before the next (:data:`SETTLES`); a server that has moved stays
for a while (:data:`STAYS`), and does not go back to where it came from before
that is over twice.

Nothing here moves anything, and no key of a template asks for it.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable
from collections.abc import Sequence
from typing import NamedTuple

#: KiB of memory that are moved in a second, at least (migrate_pages(2) of
#: 128 MiB of a busy guest took 2.3 s).
RATE_KIB = 50 * 1024
#: Seconds for which a gain is counted: load goes on for as long, or not.
HORIZON = 600.0
#: How many times what it costs a move has to gain.
WORTH = 3.0
#: Per cent of its time that a server has to wait to be moved away.
WAITS = 5.0
#: Seconds after a move until the next one is thought of.
SETTLES = 120.0
#: Seconds for which a server that has moved stays.
STAYS = 3600.0
#: Moves of a host in an hour, where nobody says another number.
MOVES = 6
_HOUR = 3600.0


class Node(NamedTuple):
    """:ivar pcpus: how many what floats there may use"""

    id: int
    pcpus: int


class Server(NamedTuple):
    """
    :ivar node: where it is
    :ivar vcpus: that float there
    :ivar use: of them, as kongming.load.figures has it
    :ivar wait: likewise
    :ivar memory_kib: what would be copied
    :ivar may_go: nodes that it could be on, with enough free memory
    """

    id: str
    node: int
    vcpus: int
    use: float
    wait: float
    memory_kib: int
    may_go: frozenset[int]

    @property
    def demand(self) -> float:
        """In pCPUs."""
        return self.vcpus * self.use / 100


class Move(NamedTuple):
    """
    :ivar saves: pCPUs that nobody has to wait for any more
    :ivar seconds: that the copying takes
    :ivar because: in words
    """

    server: str
    source: int
    target: int
    saves: float
    seconds: float
    because: str


class Balancer:
    """Of one host."""

    def __init__(self) -> None:
        self._moved: collections.deque[float] = collections.deque()
        #: server -> (when it moved last, from where)
        self._last: dict[str, tuple[float, int]] = {}

    def decide(self, nodes: Sequence[Node], servers: Iterable[Server],
               now: float, most: int = MOVES) -> Move | None:
        """The move that pays the most, if one does.

        :param now: seconds on a clock that never goes back
        :param most: moves in an hour; 0: no limit
        """
        while self._moved and self._moved[0] <= now - _HOUR:
            self._moved.popleft()
        if self._moved and (now - self._moved[-1] < SETTLES
                            or most and len(self._moved) >= most):
            return None
        found = [move for move in _moves(nodes, list(servers))
                 if self._may(move, now)]
        return max(found, key=lambda move: (
            move.saves * HORIZON - _cost(move), move.server), default=None)

    def moved(self, move: Move, now: float) -> None:
        """A move is made."""
        self._moved.append(now)
        self._last[move.server] = now, move.source

    def retain(self, servers: Iterable[str]) -> None:
        """Forget all servers but these."""
        for server in self._last.keys() - set(servers):
            del self._last[server]

    def _may(self, move: Move, now: float) -> bool:
        last = self._last.get(move.server)
        if last is None:
            return True
        when, source = last
        return now - when >= STAYS * (2 if move.target == source else 1)


def waiting(nodes: Iterable[Node], servers: Iterable[Server]) -> float:
    """pCPUs that are wanted and not there, of all nodes together."""
    wanted: dict[int, float] = {}
    for server in servers:
        wanted[server.node] = wanted.get(server.node, 0.0) + server.demand
    return sum(max(0.0, wanted.get(node.id, 0.0) - node.pcpus)
               for node in nodes)


def _moves(nodes: Sequence[Node], servers: list[Server]) -> list[Move]:
    before = waiting(nodes, servers)
    if not before:
        return []
    found = []
    for number, server in enumerate(servers):
        if server.wait < WAITS:
            continue
        for node in nodes:
            if node.id == server.node or node.id not in server.may_go:
                continue
            after = waiting(nodes, [
                *servers[:number], server._replace(node=node.id),
                *servers[number + 1:]])
            move = Move(server.id, server.node, node.id, before - after,
                        server.memory_kib / RATE_KIB, '')
            if move.saves * HORIZON > WORTH * _cost(move):
                found.append(move._replace(because=(
                    f'it waits {server.wait:.1f}% of its time on node '
                    f'{server.node}; on node {node.id} {move.saves:.2f} pCPUs '
                    f'less are waited for, {server.memory_kib // 1024} MiB '
                    f'are copied in about {move.seconds:.0f} s')))
    return found


def _cost(move: Move) -> float:
    """In seconds of a pCPU: who copies, and the server that is copied."""
    return 2 * move.seconds
