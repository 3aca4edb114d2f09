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

"""The layout of a problem: soon, better, and how far from the best.

Greedy first; then the optimum by OR-Tools where it is there, and else by
trying.  A large cloud is solved in groups of hosts, each with the servers that
are on it and those that found no place yet.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping

from kongming import exception
from kongming.solver import boots
from kongming.solver import bound
from kongming.solver import greedy
from kongming.solver import optimum
from kongming.solver import problem as problem_mod
from kongming.solver import search

#: Who looks for the best: ``auto`` takes OR-Tools where it is there.
SOLVERS = ('auto', 'optimum', 'search', 'greedy')
#: Places (server, host, node) that one model may have.
MOST = 40000
#: Servers without a place that a group of hosts looks at.
_LEFT = 40


_Solve = Callable[
    [problem_mod.Problem, problem_mod.Clock, Mapping[str, problem_mod.Spot]],
    search.Found]


def solve(problem: problem_mod.Problem, clock: problem_mod.Clock,
          solver: str = 'auto', most: int = MOST) -> problem_mod.Layout:
    """The best layout that is found in the time.

    :param clock: the seconds that are left
    :param most: the size up to which it is solved as a whole
    :raises kongming.exception.NoSolver: if OR-Tools is asked for by name and
        not there
    """
    # Repair is slow where much is left over; others do it better.
    limit = 0.0 if solver == 'greedy' else 0.8 * clock()
    board = greedy.lay_out(problem, lambda: clock() - limit)
    spots = boots.that_boot(problem, board.spots)
    if problem.accept is not None and not problem.accept(spots):
        raise problem_mod.Unsolvable('nothing moves, and that is not accepted')
    least = bound.bound(problem)
    value = problem_mod.score(problem, spots)
    if value == least or solver == 'greedy' or not problem.hosts:
        return problem_mod.Layout(spots, value, least, 'greedy')
    function, name = _function(solver)
    if size(problem) > most:
        spots = _divided(problem, spots, clock, function, most)
        value = problem_mod.score(problem, spots)
        return problem_mod.Layout(spots, value, least,
                                  f'{name}, in groups of hosts')
    found = function(problem, clock, spots)
    assert found.spots is not None and found.score is not None
    return problem_mod.Layout(found.spots, found.score,
                              max(found.bound, least), name)


def _function(solver: str) -> tuple[_Solve, str]:
    if solver != 'search':
        try:
            optimum.cp_model()
            return optimum.solve, 'optimum'
        except optimum.Missing as exc:
            if solver == 'optimum':
                raise exception.NoSolver(reason=exc) from exc
    return search.search, 'search'


def size(problem: problem_mod.Problem) -> int:
    """Places that there are to decide upon."""
    nodes = {host: len(state.nodes)
             for host, state in problem.hosts.items()}
    everywhere = sum(nodes.values())
    return sum(
        sum(len(shape.cells) for shape in ask.shapes)
        * (everywhere if ask.hosts is None and ask.today is None
           and ask.near is None
           else sum(nodes[host] for host in nodes if ask.may_be_on(host)))
        for ask in problem.asks)


def _divided(problem: problem_mod.Problem,
             spots: Mapping[str, problem_mod.Spot],
             clock: problem_mod.Clock, function: _Solve, most: int
             ) -> dict[str, problem_mod.Spot]:
    """Groups of hosts solved one by one, until that helps no more."""
    best = dict(spots)
    stride = 0
    while clock() > 0:
        stride += 1
        better = False
        groups = list(_groups(problem, best, most, stride))
        for number, hosts in enumerate(groups):
            left = clock()
            if left <= 0:
                break
            end = max(0.5, left / (len(groups) - number))
            better |= _improve(problem, best, hosts,
                               lambda: min(clock(), end - left + clock()),
                               function)
        if not better and stride > 1:
            break
    return best


def _groups(problem: problem_mod.Problem,
            spots: Mapping[str, problem_mod.Spot], most: int,
            stride: int) -> Iterator[list[str]]:
    """Hosts put together, full ones with empty ones, in another way each
    time.
    """
    on: dict[str, int] = dict.fromkeys(problem.hosts, 0)
    for spot in spots.values():
        on[spot.host] += 1
    order = sorted(problem.hosts, key=lambda host: (on[host], host))
    per_host = max(1, sum(on.values()) // max(1, len(on)) + 1)
    nodes = max(len(state.nodes) for state in problem.hosts.values())
    many = 2
    while (many + 1) ** 2 * per_host * nodes <= most // 8 and many < 24:
        many += 1
    count = max(1, -(-len(order) // many))
    for number in range(count):
        group = order[number::count]
        if stride > 1:
            # Other neighbours than the last time.
            group = [order[(position + stride * index) % len(order)]
                     for index, position in enumerate(range(
                         number, len(order), count))]
        yield sorted(set(group))


def _improve(problem: problem_mod.Problem, best: dict[str, problem_mod.Spot],
             hosts: Iterable[str], clock: problem_mod.Clock,
             function: _Solve) -> bool:
    group = set(hosts)
    here = {name: spot for name, spot in best.items() if spot.host in group}
    left = [ask for ask in problem.asks if ask.name not in best
            and any(ask.may_be_on(host) for host in group)][:_LEFT]
    part = problem.only(sorted(group), [
        *(problem.by_name[name] for name in here), *left])
    before = problem_mod.score(part, here)
    if before == bound.bound(part):
        return False
    found = function(part, clock, here)
    if found.spots is None or found.score is None or found.score >= before:
        return False
    # Groups of servers that stay apart may be on other hosts as well; they
    # are given by host, so what holds here holds everywhere.
    for name in here:
        del best[name]
    best.update(found.spots)
    return True
