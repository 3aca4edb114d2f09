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

"""A good layout soon: each server to the place that breaks up the least.

Then repair: where a server found no place, another one that is placed goes
elsewhere for it.  Hosts that are alike are asked once, and of a host only what
has changed is asked again, so that a thousand hosts take seconds.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
import heapq

from kongming.fit import fit
from kongming.fit import fragmentation
from kongming.host import usage
from kongming.solver import problem as problem_mod

_Rank = tuple[int, float, str]
#: Hosts that repair tries for a server, and servers on each.
_HOSTS, _SERVERS = 64, 32


def lay_out(problem: problem_mod.Problem,
            clock: problem_mod.Clock) -> problem_mod.Board:
    """A board with all that found a place.

    :raises kongming.solver.problem.Unsolvable: if a running server is not
        where it says
    """
    board = problem_mod.Board(problem)
    for ask in problem.asks:
        if ask.today is not None:
            board.put(ask, problem_mod.of_today(ask))
    new = sorted((ask for ask in problem.asks if ask.today is None),
                 key=lambda ask: (ask.picky, ask.hosts is None,
                                  [-n for n in ask.size], ask.name))
    left = _Greedy(board).place(new)
    for ask in left:
        if clock() <= 0:
            break
        _make_place(board, ask, clock)
    return board


class _Greedy:
    def __init__(self, board: problem_mod.Board) -> None:
        self._board = board
        self._spread = 'peak' in board.problem.levels
        self._alike = {host: like(state) for host, state in
                       board.problem.hosts.items()}
        #: (kind of ask, shape) -> hosts, the best one first
        self._heaps: dict[tuple[object, int], list[
            tuple[_Rank, int, fit.Assignment]]] = {}
        self._askers: dict[tuple[object, int], problem_mod.Ask] = {}
        self._versions = dict.fromkeys(board.problem.hosts, 0)

    def place(self, asks: Sequence[problem_mod.Ask]) -> list[problem_mod.Ask]:
        """Place them; those that found nothing."""
        left = []
        for ask in asks:
            for shape in range(len(ask.shapes)):
                found = self._best(ask, shape)
                if found is not None:
                    self._put(ask, found)
                    break
            else:
                left.append(ask)
        return left

    def _put(self, ask: problem_mod.Ask, spot: problem_mod.Spot) -> None:
        self._board.put(ask, spot)
        host = spot.host
        self._versions[host] += 1
        for key, other in self._askers.items():
            if other.may_be_on(host):
                self._push(key, other, host, self._board.fits(
                    other, host, key[1]))

    def _push(self, key: tuple[object, int], ask: problem_mod.Ask, host: str,
              result: fit.Assignment | fit.Refusal) -> None:
        if isinstance(result, fit.Assignment):
            rank = self._rank(host, result)
            heapq.heappush(self._heaps[key],
                           (rank, self._versions[host], result))

    def _rank(self, host: str, result: fit.Assignment) -> _Rank:
        state = self._board.states[host]
        cost = fragmentation.of(state, result)
        if self._spread:
            free = sum(node.n_free for node in state.nodes)
            total = sum(len(node.dedicated) for node in state.nodes)
            return (0, cost / 1e6 - free / max(1, total), host)
        return (int(not self._board.on[host]), cost, host)

    def _best(self, ask: problem_mod.Ask,
              shape: int) -> problem_mod.Spot | None:
        key = ask.kind, shape
        if key not in self._heaps:
            self._begin(key, ask)
        heap = self._heaps[key]
        displaced = []
        found = None
        while heap:
            entry = heap[0]
            (_new, _cost, host), version, result = entry
            if version != self._versions[host]:
                heapq.heappop(heap)
                continue
            if self._board.allows(ask, host):
                found = problem_mod.Spot(host, shape, result)
                break
            displaced.append(heapq.heappop(heap))
        for entry in displaced:
            heapq.heappush(heap, entry)
        return found

    def _begin(self, key: tuple[object, int], ask: problem_mod.Ask) -> None:
        self._heaps[key] = []
        self._askers[key] = ask
        known: dict[object, fit.Assignment | fit.Refusal] = {}
        for host in self._board.problem.hosts:
            if not ask.may_be_on(host):
                continue
            alike: object = host
            if not self._board.on[host] and ask.near is None:
                alike = (self._alike[host],
                         self._board.problem.limits.get(host))
            if alike not in known:
                known[alike] = self._board.fits(ask, host, key[1])
            self._push(key, ask, host, known[alike])


def like(state: usage.HostState) -> tuple[object, ...]:
    """The same for hosts that are the same to everybody."""
    return tuple(
        (node.id, frozenset(node.dedicated), frozenset(node.free),
         frozenset(node.shared), frozenset(node.siblings), node.memory_mib,
         node.memory_used_mib, tuple(node.pages), node.shared_used,
         tuple(sorted(node.l3.items())))
        for node in state.nodes)


def _make_place(board: problem_mod.Board, ask: problem_mod.Ask,
                clock: problem_mod.Clock) -> bool:
    """Have a server that is placed go elsewhere for one that is not."""
    problem = board.problem
    hosts = sorted((host for host in board.on if ask.may_be_on(host)),
                   key=lambda host: -sum(
                       node.n_free for node in board.states[host].nodes))
    for host in hosts[:_HOSTS]:
        for name in list(board.on[host])[:_SERVERS]:
            if clock() <= 0:
                return False
            other = problem.by_name[name]
            if other.today is not None:
                continue
            was = board.take(other)
            for spot in _places(board, ask, [host]):
                board.put(ask, spot)
                moved = next(_places(board, other, list(board.on)), None)
                if moved is not None:
                    board.put(other, moved)
                    return True
                board.take(ask)
            board.put(other, was)
    return False


def _places(board: problem_mod.Board, ask: problem_mod.Ask,
            hosts: Iterable[str]) -> Iterator[problem_mod.Spot]:
    for shape in range(len(ask.shapes)):
        for host in hosts:
            if not board.allows(ask, host):
                continue
            result = board.fits(ask, host, shape)
            if isinstance(result, fit.Assignment):
                yield problem_mod.Spot(host, shape, result)
