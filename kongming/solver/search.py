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

"""The best layout by trying, with nothing but the library's own fitter.

Branch and bound over hosts and nodes: servers that are the same, and hosts
that are, are tried once only.  To free capacity on a host, first no running
server moves, then one, then two, and so on.  Small questions are answered to
the end; of large ones it gives what it has when the time is up.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import itertools

from kongming.fit import fit
from kongming.host import usage
from kongming.memory import order
from kongming.solver import boots
from kongming.solver import greedy
from kongming.solver import pins
from kongming.solver import problem as problem_mod

#: Of all ways to put a server's cells on nodes, so many are tried.
_WAYS = 5040

Score = tuple[int, ...]
Spots = dict[str, problem_mod.Spot]


class Found:
    """The best so far.

    :ivar complete: whether everything that could be better was tried
    :ivar bound: no layout has a better score
    """

    def __init__(self, problem: problem_mod.Problem) -> None:
        self.problem = problem
        self.spots: Spots | None = None
        self.score: Score | None = None
        self.complete = True
        self.bound: Score = (0,) * len(problem.levels)

    def offer(self, spots: Mapping[str, problem_mod.Spot]) -> None:
        value = problem_mod.score(self.problem, spots)
        if self.score is not None and value >= self.score:
            return
        accept = self.problem.accept
        if (accept is None or accept(spots)) and len(boots.that_boot(
                self.problem, spots)) == len(spots):
            self.spots, self.score = dict(spots), value


def search(problem: problem_mod.Problem, clock: problem_mod.Clock,
           start: Mapping[str, problem_mod.Spot] | None = None) -> Found:
    """The best layout, or the best that is found in the time.

    :param start: a layout that is known
    """
    found = Found(problem)
    if start is not None:
        found.offer(start)
    running = [ask for ask in problem.asks if ask.today is not None]
    if problem.levels[:2] == problem_mod.DEFRAG_LEVELS[:2]:
        # Those with little memory first.
        running.sort(key=lambda ask: (ask.size[2], ask.size[1], ask.name))
        for count in range(len(running) + 1):
            for movers in itertools.combinations(running, count):
                _Search(found, clock, movers).run()
                if not found.complete:
                    return found
            if found.score is not None and found.score[0] == 0:
                break
    else:
        _Search(found, clock, None).run()
    if found.complete and found.score is not None:
        found.bound = found.score
    return found


class _Search:
    """Branch and bound.

    :param movers: those of the running servers that move; None: any may
    """

    def __init__(self, found: Found, clock: problem_mod.Clock,
                 movers: Sequence[problem_mod.Ask] | None) -> None:
        self.found = found
        self.clock = clock
        self.problem = problem = found.problem
        self.board = problem_mod.Board(problem)
        self.stays: set[str] = set()
        self.free = movers is None
        running = [ask for ask in problem.asks if ask.today is not None]
        chosen = running if movers is None else list(movers)
        names = {ask.name for ask in chosen}
        for ask in running:
            if ask.name not in names:
                self.board.put(ask, problem_mod.of_today(ask))
                self.stays.add(ask.name)
        kinds: dict[object, int] = {}
        # Who needs the capacity is placed first, or nobody needs to move.
        self.order = sorted(
            (ask for ask in (*problem.asks,) if ask.today is None
             or ask in chosen),
            key=lambda ask: (ask.picky, (ask.today is not None)
                             == (movers is not None),
                             [-n for n in ask.size],
                             kinds.setdefault(ask.kind, len(kinds))))
        self.alike = self._alike()
        #: host -> ask -> pCPUs that it names there
        self.named = {host: {
            ask.name: pcpus for ask in self.order if ask.may_be_on(host)
            for shape in ask.shapes
            if (pcpus := problem_mod.named(state, shape))}
            for host, state in problem.hosts.items()}
        cells = [min(len(shape.cells) for shape in ask.shapes)
                 for ask in self.order]
        self.cells = [sum(cells[i:]) for i in range(len(cells) + 1)]

    def _alike(self) -> dict[str, object]:
        """host -> the same for hosts that are the same to all."""
        special = [ask for ask in self.problem.asks
                   if ask.hosts is not None or ask.near is not None
                   or ask.today is not None]
        limits = self.problem.limits
        return {host: (greedy.like(state), limits.get(host), tuple(
            (ask.may_be_on(host), (ask.near or {}).get(host))
            for ask in special)) for host, state in
            self.problem.hosts.items()}

    def run(self) -> None:
        self._go(0, 0, None)

    def _go(self, number: int, skipped: int,
            last: tuple[int, ...] | None) -> None:
        if self.clock() <= 0:
            self.found.complete = False
        if not self.found.complete or self._hopeless(number, skipped):
            return
        if number == len(self.order):
            self._leaf()
            return
        ask = self.order[number]
        follows = (number + 1 < len(self.order)
                   and self.order[number + 1].kind == ask.kind)
        for key, spot, stays in self._spots(ask, last):
            self.board.put(ask, spot)
            if stays:
                self.stays.add(ask.name)
            self._go(number + 1, skipped, key if follows else None)
            self.stays.discard(ask.name)
            self.board.take(ask)
        if ask.today is None:
            # Its like would find nothing either.
            skip = 1
            while (number + skip < len(self.order)
                   and self.order[number + skip].kind == ask.kind):
                skip += 1
            self._go(number + skip, skipped + skip, None)

    def _hopeless(self, number: int, skipped: int) -> bool:
        """Whether nothing better can come of it."""
        if self.found.score is None:
            return False
        so_far = problem_mod.score(self.problem, self.board.spots)
        least = tuple(
            skipped if level == 'unplaced' else
            value + self.cells[number] if level == 'cells' else
            0 if level == 'shared' else value
            for level, value in zip(self.problem.levels, so_far))
        return least >= self.found.score

    def _leaf(self) -> None:
        spots = self.board.spots
        if 'shared' in self.problem.levels or self.stays:
            pinned = pins.assign(self.problem, {
                name: pins.Pick(spot.host, spot.shape, spot.nodes,
                                name in self.stays)
                for name, spot in spots.items()})
            if pinned is not None:
                self.found.offer(pinned)
        self.found.offer(spots)

    def _spots(self, ask: problem_mod.Ask, last: tuple[int, ...] | None
               ) -> Iterator[tuple[tuple[int, ...], problem_mod.Spot, bool]]:
        """Every place for a server now: its number, itself, if it stays."""
        if ask.today is not None and self.free:
            spot = problem_mod.of_today(ask)
            state = self.board.states[spot.host]
            if all(_is_free(state, cell) for cell in spot.assignment.cells):
                yield (), spot, True
        fresh = set()
        for index, host in enumerate(self.board.states):
            if not self.board.allows(ask, host):
                continue
            if not self.board.on[host]:
                if self.alike[host] in fresh:
                    continue
                fresh.add(self.alike[host])
            for shape in range(len(ask.shapes)):
                for nodes in ways(self.board, ask, host, shape):
                    key = index, shape, *nodes
                    if last is not None and key < last:
                        continue
                    for result in self._fits(ask, host, shape, nodes):
                        yield key, problem_mod.Spot(host, shape, result), False

    def _fits(self, ask: problem_mod.Ask, host: str, shape: int,
              nodes: tuple[int, ...]) -> Iterator[fit.Assignment]:
        """Ways to have pCPUs: with what others name, and without."""
        on = {cell: (node,) for cell, node in enumerate(nodes)}
        state = self.board.states[host]
        limits = self.problem.limits.get(host)
        result = problem_mod.fit_near(state, ask, host, shape, on,
                                      limits=limits)
        if not isinstance(result, fit.Assignment):
            return
        others = frozenset[int]().union(*(
            pcpus for name, pcpus in self.named[host].items()
            if name != ask.name and name not in self.board.spots))
        mine = {p for cell in result.cells for p in cell.pins.values()}
        if others & mine:
            other = problem_mod.fit_near(
                problem_mod.without(state, others), ask, host, shape, on,
                limits=limits)
            if isinstance(other, fit.Assignment):
                yield other
        yield result


def _is_free(state: usage.HostState, cell: fit.CellAssignment) -> bool:
    node = state.node(cell.node)
    return node is not None and node.free.issuperset(cell.pins.values())


def ways(board: problem_mod.Board, ask: problem_mod.Ask, host: str,
         shape: int) -> Iterator[tuple[int, ...]]:
    """The nodes that a server's cells may be on, one tuple a way."""
    demand = ask.shapes[shape]
    nodes = board.states[host].node_ids()
    if ask.today is not None and ask.stays:
        yield ask.today.nodes
        return
    same = not demand.names_pcpus and ask.today is None and len({
        (cell.need, len(cell.cell.shared), cell.cell.memory_mib,
         cell.cell.page_kib, cell.node) for cell in demand.cells}) == 1
    make = itertools.combinations if same else itertools.permutations
    for way in itertools.islice(make(nodes, len(demand.cells)), _WAYS):
        if ask.today is not None and order.why_not(ask.today.nodes, way):
            continue
        if all(cell.node in (None, node)
               for cell, node in zip(demand.cells, way)):
            yield way
