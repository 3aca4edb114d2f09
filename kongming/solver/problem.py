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

"""A layout of many servers on many hosts: what is asked, what was found.

Values, what makes one layout better than another, and a lower bound for it.
A layout is worth a tuple, one number a level, and less is better: levels are
compared one after the other.

=========  =================================================================
level      counts
=========  =================================================================
unplaced   asks that got no place
cells      host nodes that placed servers lie on
shared     cores that two servers share
hosts      hosts with a server
peak       per mille of the pCPUs that the fullest host gives away
moves      running servers that move
memory     MiB that go to another node
=========  =================================================================
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
import functools
from typing import NamedTuple

from kongming.fit import demand as demand_mod
from kongming.fit import fit
from kongming.fit import nova_fitter
from kongming.host import usage

#: What a layout can be judged by.
LEVELS = ('unplaced', 'cells', 'shared', 'hosts', 'peak', 'moves', 'memory')
#: What a plan of new servers is after, by its style.
STYLES = {'pack': ('unplaced', 'cells', 'hosts'),
          'spread': ('unplaced', 'cells', 'peak')}
#: What a defragmentation optimizes.
DEFRAG_LEVELS = ('unplaced', 'moves', 'memory')

#: Says how many seconds are left.
Clock = Callable[[], float]


class Today(NamedTuple):
    """Where a running server is.

    :ivar cells: for each cell its node, and vCPU -> pCPU
    """

    host: str
    cells: tuple[tuple[int, Mapping[int, int]], ...]

    @property
    def nodes(self) -> tuple[int, ...]:
        return tuple(node for node, _pins in self.cells)


@dataclasses.dataclass(frozen=True, eq=False)
class Ask:
    """A server that wants a place, or a running one that may get another.

    :ivar shapes: what it asks for; of several, any one will do
    :ivar hosts: the only ones that it may be on; None for any
    :ivar apart: no two servers of such a group are on one host
    :ivar near: host -> nodes of a device; one of its cells is on one of them
    :ivar today: where it runs, if it does; it never leaves that host
    :ivar stays: why its memory can't go to another node; empty: it can
    """

    name: str
    shapes: tuple[demand_mod.Demand, ...]
    hosts: frozenset[str] | None = None
    apart: frozenset[str] = frozenset()
    near: Mapping[str, frozenset[int]] | None = None
    today: Today | None = None
    stays: str = ''

    @functools.cached_property
    def size(self) -> tuple[int, int, int]:
        """Big ones are placed first."""
        cells = self.shapes[0].cells
        return (max((cell.need for cell in cells), default=0),
                sum(cell.need for cell in cells),
                sum(cell.cell.memory_mib for cell in cells))

    @functools.cached_property
    def picky(self) -> int:
        """0 for those that name pCPUs, 1 for those that want whole cores."""
        if self.shapes[0].names_pcpus:
            return 0
        return 1 if self.shapes[0].policy else 2

    @functools.cached_property
    def kind(self) -> tuple[object, ...]:
        """The same for two that are as good as each other."""
        if self.today:
            return (self.name,)
        near = self.near and tuple(sorted(self.near.items()))
        return (self.shapes, self.hosts, self.apart, near)

    def may_be_on(self, host: str) -> bool:
        if self.today is not None:
            return host == self.today.host
        return ((self.hosts is None or host in self.hosts)
                and (self.near is None or host in self.near))


class Spot(NamedTuple):
    """A place for a server.

    :ivar shape: which of its shapes it has there
    """

    host: str
    shape: int
    assignment: fit.Assignment

    @property
    def nodes(self) -> tuple[int, ...]:
        return tuple(cell.node for cell in self.assignment.cells)


def of_today(ask: Ask) -> Spot:
    """The place that a running server has."""
    assert ask.today is not None
    pages = [cell.cell.page_kib for cell in ask.shapes[0].cells]
    return Spot(ask.today.host, 0, fit.Assignment(tuple(
        fit.CellAssignment(node, pins, page_kib=page if page and page > 0
                           else None)
        for (node, pins), page in zip(ask.today.cells, pages))))


def moves(ask: Ask, spot: Spot) -> bool:
    """Whether a running server is not where it was."""
    return ask.today is not None and any(
        (node, dict(pins)) != (cell.node, dict(cell.pins))
        for (node, pins), cell in zip(ask.today.cells,
                                      spot.assignment.cells))


def memory_moved(ask: Ask, spot: Spot) -> int:
    """MiB that go to another node."""
    if ask.today is None:
        return 0
    return sum(cell.memory_mib for cell, was, now in zip(
        ask.shapes[0].guest.cells, ask.today.nodes, spot.nodes)
        if was != now)


@dataclasses.dataclass(frozen=True)
class Problem:
    """What is asked.

    :ivar hosts: by name, with everybody on them who is no ask here
    :ivar levels: of :data:`LEVELS`, the most important first
    :ivar accept: whether a layout can be had, where there is more to that
        than capacity: an order of moves in which nobody is in another's way
    :ivar limits: host -> how far what floats may overcommit it; of others
        it is not limited
    """

    hosts: Mapping[str, usage.HostState]
    asks: tuple[Ask, ...]
    levels: tuple[str, ...] = STYLES['pack']
    accept: Callable[[Mapping[str, Spot]], bool] | None = None
    limits: Mapping[str, usage.Limits] = dataclasses.field(
        default_factory=dict)

    @functools.cached_property
    def has_unequal_cells(self) -> bool:
        """Whether Nova's own fitter may refuse a new server that fits."""
        return any(ask.today is None and not all(map(
            nova_fitter.are_equal, ask.shapes)) for ask in self.asks)

    @functools.cached_property
    def by_name(self) -> dict[str, Ask]:
        return {ask.name: ask for ask in self.asks}

    def only(self, hosts: Iterable[str], asks: Iterable[Ask]) -> Problem:
        """A part of it."""
        return dataclasses.replace(
            self, hosts={host: self.hosts[host] for host in hosts},
            asks=tuple(asks))


@dataclasses.dataclass(frozen=True)
class Layout:
    """An answer.

    :ivar spots: ask -> its place; who is not in it got none
    :ivar score: one number a level of the problem
    :ivar bound: no layout has a better score than this
    :ivar solver: who found it
    """

    spots: Mapping[str, Spot]
    score: tuple[int, ...]
    bound: tuple[int, ...]
    solver: str

    @property
    def proven(self) -> bool:
        """Whether it is known to be the best one."""
        return self.score == self.bound


class Unsolvable(Exception):
    """Running servers can't all have a place, which makes no sense."""


def put(host: usage.HostState, demand: demand_mod.Demand,
        assignment: fit.Assignment) -> usage.HostState:
    """A host with a server more."""
    nodes = {node.id: node for node in host.nodes}
    policy = demand.policy
    for cell, got in zip(demand.guest.cells, assignment.cells):
        node = nodes[got.node]
        mine = {*got.pins.values(), *got.reserved}
        if policy == 'isolate':
            # Nova keeps what is beside them free, too.
            mine |= {p for core in node.siblings if mine & core for p in core}
        page_kib = got.page_kib
        if page_kib is None and node.smallest is not None:
            page_kib = node.smallest.size_kib
        nodes[got.node] = node.holding(
            node.taken | mine, memory_mib=cell.memory_mib, page_kib=page_kib,
            shared=len(cell.shared))
    return usage.HostState(nodes.values())


def named(state: usage.HostState,
          demand: demand_mod.Demand) -> frozenset[int]:
    """The pCPUs of a host that a server names to own."""
    if not demand.names_pcpus:
        return frozenset()
    try:
        resolved = demand_mod.resolve(state, demand)
    except demand_mod.Unfit:
        return frozenset()
    found = {pcpu for exact in resolved.exact for pcpu in exact.values()}
    if resolved.emulator is not None:
        found.add(resolved.emulator)
    return frozenset(found)


def without(state: usage.HostState,
            pcpus: frozenset[int]) -> usage.HostState:
    """A host of which some pCPUs are reserved."""
    return usage.HostState(
        node.holding(node.taken | (pcpus & node.dedicated))
        if pcpus & node.free else node for node in state.nodes)


def broken(node: usage.NodeState) -> int:
    """Free pCPUs beside one that somebody has."""
    return sum(len(core & node.free) for core in node.siblings
               if core & node.taken)


class Board:
    """Hosts while servers are put on them and taken off again."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.spots: dict[str, Spot] = {}
        self.states = dict(problem.hosts)
        #: host -> names, in the order in which they came
        self.on: dict[str, list[str]] = {host: [] for host in problem.hosts}
        #: (group, host) -> how many of it are there
        self.groups: dict[tuple[str, str], int] = {}

    def allows(self, ask: Ask, host: str) -> bool:
        """Whether it may be on a host, capacity aside."""
        return ask.may_be_on(host) and not any(
            self.groups.get((group, host)) for group in ask.apart)

    def put(self, ask: Ask, spot: Spot) -> None:
        self.spots[ask.name] = spot
        self.on[spot.host].append(ask.name)
        for group in ask.apart:
            key = group, spot.host
            self.groups[key] = self.groups.get(key, 0) + 1
        self.states[spot.host] = put(
            self.states[spot.host], ask.shapes[spot.shape], spot.assignment)

    def take(self, ask: Ask) -> Spot:
        """Take one off."""
        spot = self.spots.pop(ask.name)
        self.on[spot.host].remove(ask.name)
        for group in ask.apart:
            self.groups[group, spot.host] -= 1
        state = self.problem.hosts[spot.host]
        for name in self.on[spot.host]:
            other = self.spots[name]
            state = put(state, self.problem.by_name[name].shapes[other.shape],
                        other.assignment)
        self.states[spot.host] = state
        return spot

    def fits(self, ask: Ask, host: str,
             shape: int) -> fit.Assignment | fit.Refusal:
        """A place on a host, as the library's own fitter finds it.

        For a new server one from which Nova boots it.
        """
        state, limits = self.states[host], self.problem.limits.get(host)
        result = fit_near(state, ask, host, shape, limits=limits)
        if result and ask.today is None:
            text = nova_fitter.objection(state, ask.shapes[shape], limits)
            if text is not None:
                return fit.Refusal((fit.Reason('nova', text),))
        return result


def fit_near(state: usage.HostState, ask: Ask, host: str, shape: int,
             nodes: Mapping[int, Iterable[int]] | None = None,
             demand: demand_mod.Demand | None = None,
             limits: usage.Limits | None = None
             ) -> fit.Assignment | fit.Refusal:
    """Fit a server, with a cell near its device.

    :param nodes: cell -> the only nodes that it may be on
    :param demand: what to fit instead of its own shape
    :param limits: of the host
    """
    demand = demand or ask.shapes[shape]
    within = {cell: frozenset(found) for cell, found in (nodes or {}).items()}
    if ask.near is None:
        return fit.fit(state, demand, allowed=within or None, limits=limits)
    result: fit.Assignment | fit.Refusal | None = None
    near = ask.near.get(host, frozenset())
    for number in range(len(demand.cells)):
        left = within.get(number, near) & near
        result = fit.fit(state, demand, allowed={**within, number: left},
                         limits=limits)
        if result:
            break
    assert result is not None
    return result


def score(problem: Problem, spots: Mapping[str, Spot]) -> tuple[int, ...]:
    """What a layout is worth, one number a level; less is better."""
    count = {
        'unplaced': lambda: len(problem.asks) - len(spots),
        'cells': lambda: sum(len(spot.nodes) for spot in spots.values()),
        'shared': lambda: shared_cores(problem, spots),
        'hosts': lambda: len({spot.host for spot in spots.values()}),
        'peak': lambda: max(loads(problem, spots).values(), default=0),
        'moves': lambda: sum(moves(problem.by_name[name], spot)
                             for name, spot in spots.items()),
        'memory': lambda: sum(memory_moved(problem.by_name[name], spot)
                              for name, spot in spots.items())}
    return tuple(count[level]() for level in problem.levels)


def loads(problem: Problem, spots: Mapping[str, Spot]) -> dict[str, int]:
    """host -> per mille of its dedicated pCPUs that are given away."""
    used = {host: sum(len(node.taken & node.dedicated)
                      for node in state.nodes)
            for host, state in problem.hosts.items()}
    for name, spot in spots.items():
        demand = problem.by_name[name].shapes[spot.shape]
        used[spot.host] += sum(cell.need for cell in demand.cells)
    return {host: 1000 * used[host] // max(1, sum(
        len(node.dedicated) for node in state.nodes))
        for host, state in problem.hosts.items()}


def shared_cores(problem: Problem, spots: Mapping[str, Spot]) -> int:
    """Cores that a server of the plan shares with somebody."""
    return sum(1 for core, owners in _owners(problem, spots)
               if len(owners) > 1 and owners != {''})


def _owners(problem: Problem, spots: Mapping[str, Spot]) -> Iterator[
        tuple[frozenset[int], set[str]]]:
    """Each core of each host, and who has a pCPU of it; '' for others."""
    mine: dict[str, dict[int, str]] = {host: {} for host in problem.hosts}
    for name, spot in spots.items():
        for cell in spot.assignment.cells:
            for pcpu in {*cell.pins.values(), *cell.reserved}:
                mine[spot.host][pcpu] = name
    for host, state in problem.hosts.items():
        for node in state.nodes:
            for core in node.siblings:
                owners = {mine[host][p] for p in core if p in mine[host]}
                if core & node.taken:
                    owners.add('')
                yield frozenset(core), owners
