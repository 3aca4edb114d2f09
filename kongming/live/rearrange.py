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

"""New owners for the pCPUs of a host whose servers run on.

:func:`plan` fits all servers that want something else jointly, so that one
takes what another gives up, and puts the moves into an order in which no pCPU
ever has two owners.  A ring of servers that want each other's pCPUs is opened
by way of a free pCPU of the same node.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
from typing import NamedTuple

from kongming.fit import demand as demand_mod
from kongming.fit import fit
from kongming.host import usage
from kongming.memory import order
from kongming.template import guest as guest_mod
from kongming.template import template as template_mod

#: Stands among vCPUs for the emulator threads, where these own a pCPU
#: (``hw:emulator_threads_policy=isolate``).
EMULATOR = -1


@dataclasses.dataclass(frozen=True)
class Resident:
    """A running server that wants to be somewhere else.

    :ivar guest: its cells and vCPUs
    :ivar desired: where it wants to be
    :ivar pins: dedicated vCPU, or EMULATOR -> the pCPU that it owns now
    :ivar nodes: for each cell, the node that it is on; its memory is there
    :ivar stays: why its memory can't go to another node; empty: it can
    """

    id: str
    guest: guest_mod.Guest
    desired: template_mod.Template
    pins: Mapping[int, int]
    nodes: Sequence[int]
    stays: str = ''


class Move(NamedTuple):
    """A vCPU, or EMULATOR, goes from one pCPU to another."""

    vcpu: int
    source: int
    target: int


class Step(NamedTuple):
    """One cell's moves; no other server owns any of the targets.

    :ivar source_node: where the cell is
    :ivar node: where it goes, with its memory if that is another one
    """

    server: str
    cell: int
    source_node: int
    node: int
    moves: tuple[Move, ...]

    @property
    def moves_memory(self) -> bool:
        return self.node != self.source_node

    def back(self) -> Step:
        """The step that undoes this one."""
        return Step(self.server, self.cell, self.node, self.source_node,
                    tuple(Move(move.vcpu, move.target, move.source)
                          for move in self.moves))

    def __str__(self) -> str:
        words = [f'{"emulator" if move.vcpu == EMULATOR else move.vcpu}:'
                 f'{move.source}->{move.target}' for move in self.moves]
        if self.moves_memory:
            words.insert(0, f'cell {self.cell} node {self.source_node}->'
                            f'{self.node}')
        return ' '.join(words)


@dataclasses.dataclass(frozen=True)
class Plan:
    """What to do, in this order.

    :ivar refused: server -> why it stays as it is
    """

    steps: tuple[Step, ...]
    refused: Mapping[str, str]


def groups(steps: Iterable[Step]) -> dict[str, int]:
    """Servers that give pCPUs to one another, directly or by way of others.

    :returns: server -> the number of its group; what happens to one group is
        nothing to another
    """
    found: list[tuple[set[str], set[int]]] = []
    for step in steps:
        servers, pcpus = {step.server}, {
            pcpu for move in step.moves for pcpu in move[1:]}
        apart = []
        for group in found:
            if group[0] & servers or group[1] & pcpus:
                servers |= group[0]
                pcpus |= group[1]
            else:
                apart.append(group)
        found = [*apart, (servers, pcpus)]
    return {server: number for number, (servers, _pcpus) in enumerate(found)
            for server in servers}


def plan(host: usage.HostState, residents: Iterable[Resident]) -> Plan:
    """Work out how to give servers what they want, as many as can be.

    :param host: what is owned now, by these servers and by all others
    """
    pending = {resident.id: resident for resident in residents}
    refused: dict[str, str] = {}
    goals: dict[str, list[int]] = {}
    for resident in list(pending.values()):
        goals[resident.id] = _nodes(host, resident)
        reason = _can_not_move(resident, goals[resident.id])
        if reason:
            refused[resident.id] = reason
            del pending[resident.id]
    while True:
        targets, reasons = _targets(host, pending, goals)
        if not reasons:
            steps, stuck = _Order(host, pending, targets).work_out()
            if not stuck:
                return Plan(tuple(steps), refused)
            reasons = stuck
        # Who can't be helped keeps its own, which may be in others' way.
        refused.update(reasons)
        for server in reasons:
            del pending[server]


def _nodes(host: usage.HostState, resident: Resident) -> list[int]:
    """The node that each cell is to be on.

    A template that names pCPUs of one node names the node.
    """
    try:
        exact = demand_mod.resolve(host, demand_mod.Demand(
            resident.guest, resident.desired)).exact
    except demand_mod.Unfit:
        exact = []  # the fit says why
    goals = []
    for number, current in enumerate(resident.nodes):
        pcpus = set(exact[number].values()) if exact else set()
        named = [node.id for node in host.nodes if pcpus
                 and pcpus <= node.dedicated]
        goals.append(resident.desired.nodes.get(
            number, named[0] if named else current))
    return goals


def _can_not_move(resident: Resident, goals: Sequence[int]) -> str | None:
    if resident.stays:
        for cell, (node, goal) in enumerate(zip(resident.nodes, goals)):
            if node != goal:
                return (f'cell {cell}: its memory is on node {node} and does '
                        f'not move to node {goal}: {resident.stays}')
    return order.why_not(resident.nodes, goals) or None


def _targets(host: usage.HostState, pending: Mapping[str, Resident],
             goals: Mapping[str, Sequence[int]]) -> tuple[
                 dict[str, list[fit.CellAssignment]], dict[str, str]]:
    """server -> where its cells go, or for whom there is no place and why."""
    given_up = {pcpu for resident in pending.values()
                for pcpu in resident.pins.values()}
    state = usage.HostState(node.holding(node.taken - given_up)
                            for node in host.nodes)
    targets: dict[str, list[fit.CellAssignment]] = {}
    for resident in pending.values():
        result = _place(state, resident, goals[resident.id])
        if not isinstance(result, fit.Assignment):
            return {}, {resident.id: str(result)}
        targets[resident.id] = list(result.cells)
        arrived = {}
        for number, (cell, now) in enumerate(zip(result.cells,
                                                 resident.nodes)):
            taken = set(cell.pins.values()) | cell.reserved
            asked = resident.guest.cells[number]
            # What leaves a node is there until it has left.
            arrived[cell.node] = taken, asked if cell.node != now else None
        state = usage.HostState(
            _with_arrived(node, *arrived[node.id])
            if node.id in arrived else node for node in state.nodes)
    return targets, {}


def _with_arrived(node: usage.NodeState, pcpus: usage.PcpuSet,
                  cell: guest_mod.Cell | None) -> usage.NodeState:
    """A node whose pCPUs a cell owns; its memory, too, where it comes."""
    if cell is None:
        return node.holding(node.taken | pcpus)
    return node.holding(node.taken | pcpus, memory_mib=cell.memory_mib,
                        page_kib=cell.page_kib, shared=len(cell.shared))


def _place(state: usage.HostState, resident: Resident,
           goals: Sequence[int]) -> fit.Assignment | fit.Refusal:
    """Fit it, its vCPUs staying where nothing else is asked for."""
    # Where a cell stays, its memory and its shared vCPUs are there already.
    guest = resident.guest._replace(cells=tuple(
        cell if node != goal else cell._replace(
            memory_mib=0, page_kib=None, shared=frozenset())
        for cell, node, goal in zip(resident.guest.cells, resident.nodes,
                                    goals)))
    isolated = guest.emulator_isolated
    emulator = resident.desired.emulator
    desired = template_mod.Template(
        pins={cell: tuple(pin for pin in found if not pin.floats)
              for cell, found in resident.desired.pins.items()},
        emulator=emulator if isolated and isinstance(emulator, tuple)
        else None)
    allowed = {cell: {goal} for cell, goal in enumerate(goals)}
    asked = demand_mod.Demand(guest, desired)
    unbound = fit.fit(state, asked, allowed=allowed)
    if not unbound:
        return unbound
    resolved = demand_mod.resolve(state, asked)
    keys = {}
    for number, cell in enumerate(guest.cells):
        named = resolved.exact[number] if resolved.exact else {}
        if resident.nodes[number] == goals[number]:
            named = _staying(cell, resident.pins, named)
        if named:
            keys[f'pin.{number}'] = ' '.join(
                f'{vcpu}:{pcpu}' for vcpu, pcpu in named.items())
    free_pcpu = resolved.emulator
    if free_pcpu is None and resident.nodes[0] == goals[0]:
        free_pcpu = resident.pins.get(EMULATOR)
    if isolated and free_pcpu is not None:
        keys['emulator'] = str(free_pcpu)
    staying = template_mod.decode({
        template_mod.PREFIX + key: value for key, value in keys.items()})
    remaining = fit.fit(state, demand_mod.Demand(guest, staying),
                        allowed=allowed)
    return remaining or unbound


def _staying(cell: guest_mod.Cell, now: Mapping[int, int],
             named: Mapping[int, int]) -> dict[int, int]:
    wanted = dict(named)
    for vcpu in sorted(cell.dedicated):
        if vcpu not in wanted and now[vcpu] not in wanted.values():
            wanted[vcpu] = now[vcpu]
    return dict(sorted(wanted.items()))


class _Unit:
    """A cell on its way: what it owns now and what it is to own."""

    def __init__(self, server: str, cell: int, source_node: int,
                 now: dict[int, int], goal: fit.CellAssignment) -> None:
        self.server = server
        self.cell = cell
        self.node = source_node
        self.now = now
        self.goal_node = goal.node
        self.goal = dict(goal.pins)
        if EMULATOR in now:
            self.goal[EMULATOR] = min(goal.reserved)

    def pending(self) -> dict[int, int]:
        return {vcpu: pcpu for vcpu, pcpu in self.goal.items()
                if self.now[vcpu] != pcpu}

    @property
    def crosses(self) -> bool:
        return self.node != self.goal_node

    @property
    def done(self) -> bool:
        return not self.crosses and not self.pending()


class _Order:
    """Puts what is to be done into an order that is safe."""

    def __init__(self, host: usage.HostState, pending: Mapping[str, Resident],
                 targets: Mapping[str, Sequence[fit.CellAssignment]]) -> None:
        self.free = {node.id: set(node.free) for node in host.nodes}
        self.steps: list[Step] = []
        self.stepped: set[tuple[str, int]] = set()
        self.units = []
        #: server -> the node of each of its cells
        self.nodes = {server: [*resident.nodes]
                      for server, resident in pending.items()}
        for server, resident in sorted(pending.items()):
            for number, cell in enumerate(resident.guest.cells):
                mine = set(cell.dedicated)
                if number == 0:
                    mine.add(EMULATOR)
                now = {vcpu: pcpu for vcpu, pcpu in resident.pins.items()
                       if vcpu in mine}
                unit = _Unit(server, number, resident.nodes[number], now,
                             targets[server][number])
                if not unit.done:
                    self.units.append(unit)

    def work_out(self) -> tuple[list[Step], dict[str, str]]:
        """The steps, or who is stuck and why."""
        while self.units:
            if not (self._whole() or self._parts() or self._other_node()
                    or self._via_free_pcpu()):
                # A cell that waits for others of its server is not why.
                return [], {unit.server: self._stuck(unit)
                            for unit in self.units if self._may_cross(unit)}
            self.units = [unit for unit in self.units if not unit.done]
        return self.steps, {}

    def _go(self, unit: _Unit, pins: Mapping[int, int],
            node: int | None = None) -> None:
        """Have some vCPUs of a unit change their pCPUs."""
        node = unit.node if node is None else node
        self.steps.append(Step(
            unit.server, unit.cell, unit.node, node, tuple(
                Move(vcpu, unit.now[vcpu], pcpu)
                for vcpu, pcpu in sorted(pins.items()))))
        self.free[unit.node] |= {unit.now[vcpu] for vcpu in pins}
        self.free[node] -= set(pins.values())
        unit.now.update(pins)
        unit.node = self.nodes[unit.server][unit.cell] = node

    def _may_cross(self, unit: _Unit) -> bool:
        return order.keeps(self.nodes[unit.server], unit.cell,
                           unit.goal_node)

    def _whole(self) -> bool:
        """Cells that can go to where they want to be."""
        went = False
        for unit in self.units:
            if not self._may_cross(unit):
                continue
            own = set() if unit.crosses else set(unit.now.values())
            if set(unit.goal.values()) - own <= self.free[unit.goal_node]:
                self._go(unit, unit.goal if unit.crosses else unit.pending(),
                         unit.goal_node)
                went = True
        return went

    def _parts(self) -> bool:
        """Single vCPUs that can."""
        went = False
        for unit in self.units:
            if unit.crosses:
                continue
            ready = {vcpu: pcpu for vcpu, pcpu in unit.pending().items()
                     if pcpu in self.free[unit.node]}
            if ready:
                self._go(unit, ready)
                went = True
        return went

    def _other_node(self) -> bool:
        """A cell that can go to its node at least, for the time being."""
        for unit in self.units:
            if not unit.crosses or not self._may_cross(unit):
                continue
            free = self.free[unit.goal_node]
            if len(free) < len(unit.now):
                continue
            pins = {vcpu: pcpu for vcpu, pcpu in unit.goal.items()
                    if pcpu in free}
            rest = self._undisturbing_first(free - set(pins.values()))
            for vcpu in unit.now:
                if vcpu not in pins:
                    pins[vcpu] = rest.pop(0)
            self._go(unit, pins, unit.goal_node)
            return True
        return False

    def _via_free_pcpu(self) -> bool:
        """Only rings are left: each wants what the next one has."""
        for unit in self.units:
            for vcpu in ([] if unit.crosses else sorted(unit.pending())):
                key = unit.server, vcpu
                if self.free[unit.node] and key not in self.stepped:
                    self.stepped.add(key)
                    self._go(unit, {vcpu: self._undisturbing_first(
                        self.free[unit.node])[0]})
                    return True
        return False

    def _undisturbing_first(self, pcpus: Iterable[int]) -> list[int]:
        """Those first that nobody is about to go to."""
        wanted = {pcpu for unit in self.units for pcpu in unit.goal.values()}
        return sorted(pcpus, key=lambda pcpu: (pcpu in wanted, pcpu))

    def _stuck(self, unit: _Unit) -> str:
        if unit.crosses:
            return (f'node {unit.goal_node}: the cell needs {len(unit.now)} '
                    f'pCPU(s) there to begin with, and '
                    f'{len(self.free[unit.goal_node])} are free')
        return (f'node {unit.node}: pCPUs are to change hands in a ring, and '
                f'there is no free one to start with')
