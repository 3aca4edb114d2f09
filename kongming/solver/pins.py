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

"""Exact pins for servers of which host and nodes are known.

Whoever stays keeps what it has. Then come those that name pCPUs, those that
want whole cores, and the others; in this order everybody finds what counting
pCPUs and cores has shown to be free, on cores of up to two threads.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
from typing import NamedTuple

from kongming.fit import demand as demand_mod
from kongming.fit import fit
from kongming.host import usage
from kongming.solver import problem as problem_mod
from kongming.template import grammar


class Pick(NamedTuple):
    """Where a server is to be.

    :ivar nodes: of each cell
    :ivar stays: whether it keeps the pCPUs that it has today
    """

    host: str
    shape: int
    nodes: tuple[int, ...]
    stays: bool = False


def assign(problem: problem_mod.Problem,
           picks: Mapping[str, Pick]) -> dict[str, problem_mod.Spot] | None:
    """The picks with exact pins; None where one finds none after all."""
    hosts: dict[str, list[str]] = {}
    for name, pick in picks.items():
        hosts.setdefault(pick.host, []).append(name)
    spots: dict[str, problem_mod.Spot] = {}
    for host, names in hosts.items():
        found = assign_host(problem, host, {n: picks[n] for n in names})
        if found is None:
            return None
        spots.update(found)
    return spots


def assign_host(problem: problem_mod.Problem, host: str,
                picks: Mapping[str, Pick]
                ) -> dict[str, problem_mod.Spot] | None:
    """The same for one host."""
    state, limits = problem.hosts[host], problem.limits.get(host)
    spots: dict[str, problem_mod.Spot] = {}
    asks = [problem.by_name[name] for name in picks]
    moving = []
    for ask in asks:
        if not picks[ask.name].stays:
            moving.append(ask)
            continue
        spots[ask.name] = spot = problem_mod.of_today(ask)
        state = problem_mod.put(state, ask.shapes[0], spot.assignment)
    moving.sort(key=lambda ask: (ask.picky, [-n for n in ask.size], ask.name))
    separate: set[str] = set()
    if 'shared' in problem.levels:
        separate = {ask.name for ask in moving if _is_unpinned(
            ask.shapes[picks[ask.name].shape])}
    late = [ask for ask in moving if ask.name in separate]
    waiting = {
        ask.name: problem_mod.named(state, ask.shapes[picks[ask.name].shape])
        for ask in moving}
    for ask in [ask for ask in moving if ask.name not in separate]:
        pick = picks[ask.name]
        # What others name is theirs.
        del waiting[ask.name]
        result = _place(problem_mod.without(state, frozenset().union(
            *waiting.values())), ask, pick, limits)
        if not isinstance(result, fit.Assignment):
            return None
        spots[ask.name] = problem_mod.Spot(host, pick.shape, result)
        state = problem_mod.put(state, ask.shapes[pick.shape], result)
    pinned = _apart(state, [(ask, picks[ask.name]) for ask in late])
    for ask in late:
        pick = picks[ask.name]
        demand = with_pins(ask.shapes[pick.shape], pinned[ask.name])
        result = (_place(state, ask, pick, limits, demand)
                  or _place(state, ask, pick, limits))
        if not isinstance(result, fit.Assignment):
            return None
        spots[ask.name] = problem_mod.Spot(host, pick.shape, result)
        state = problem_mod.put(state, ask.shapes[pick.shape], result)
    return spots


def _place(state: usage.HostState, ask: problem_mod.Ask, pick: Pick,
           limits: usage.Limits | None,
           demand: demand_mod.Demand | None = None
           ) -> fit.Assignment | fit.Refusal:
    nodes = {cell: (node,) for cell, node in enumerate(pick.nodes)}
    own = ask.shapes[pick.shape]
    if demand is None and ask.today is not None and not own.names_pcpus:
        # What it can keep it keeps.
        demand = with_pins(own, {
            cell: {vcpu: pcpu for vcpu, pcpu in pins.items()
                   if _is_free(state, node, pcpu)}
            for cell, (node, pins) in enumerate(ask.today.cells)
            if node == pick.nodes[cell]})
    if demand is not None:
        unchanged = problem_mod.fit_near(state, ask, pick.host, pick.shape,
                                         nodes, demand, limits)
        if unchanged:
            return unchanged
    return problem_mod.fit_near(state, ask, pick.host, pick.shape, nodes,
                                limits=limits)


def _is_free(state: usage.HostState, node_id: int, pcpu: int) -> bool:
    node = state.node(node_id)
    return node is not None and pcpu in node.free


def with_pins(demand: demand_mod.Demand,
              pins: Mapping[int, Mapping[int, int]]) -> demand_mod.Demand:
    """A demand that names pCPUs, beside what its template says otherwise."""
    return demand_mod.Demand(demand.guest, dataclasses.replace(
        demand.template, pins={**demand.template.pins, **pins_of(pins)}))


def pins_of(pins: Mapping[int, Mapping[int, int]]) -> dict[
        int, tuple[grammar.Pin, ...]]:
    """Pin maps of a template: cell -> map, from cell -> vCPU -> pCPU."""
    return {cell: grammar.parse_pins(' '.join(_runs(found)))
            for cell, found in pins.items() if found}


def _runs(pins: Mapping[int, int]) -> list[str]:
    """Entries of a map, neighbours in one."""
    runs: list[list[int]] = []
    for vcpu, pcpu in sorted(pins.items()):
        if runs and (vcpu, pcpu) == (runs[-1][1] + 1, runs[-1][3] + 1):
            runs[-1][1], runs[-1][3] = vcpu, pcpu
        else:
            runs.append([vcpu, vcpu, pcpu, pcpu])
    return [f'{a}:{c}' if a == b else f'{a}-{b}:{c}-{d}'
            for a, b, c, d in runs]


def _is_unpinned(demand: demand_mod.Demand) -> bool:
    return not (demand.names_pcpus or demand.policy
                or demand.guest.emulator_isolated)


def _apart(state: usage.HostState, asks: Sequence[tuple[problem_mod.Ask, Pick]]
           ) -> dict[str, dict[int, dict[int, int]]]:
    """ask -> cell -> vCPU -> pCPU, with as few shared cores as can be.

    Everybody gets whole cores for pairs of vCPUs; then what is left over of
    an odd number gets a core of its own, as long as there are any.
    """
    result: dict[str, dict[int, dict[int, int]]] = {}
    for node in state.nodes:
        cells = []
        for ask, pick in asks:
            for number, on in enumerate(pick.nodes):
                vcpus = ask.shapes[pick.shape].cells[number].vcpus
                if on == node.id and vcpus:
                    cells.append((ask.name, number, vcpus))
        for (name, number, vcpus), pcpus in zip(cells, _share_out(
                node, [len(vcpus) for _name, _number, vcpus in cells])):
            if len(pcpus) == len(vcpus):
                result.setdefault(name, {})[number] = dict(zip(vcpus, pcpus))
    for ask, _pick in asks:
        result.setdefault(ask.name, {})
    return result


def _share_out(node: usage.NodeState,
               needs: Sequence[int]) -> list[list[int]]:
    whole = sorted((sorted(core) for core in node.siblings
                    if len(core) > 1 and core <= node.free), reverse=True)
    alone = sorted(node.free.difference(*whole), reverse=True)
    got: list[list[int]] = [[] for _ in needs]
    size = max(map(len, whole), default=2)
    order = sorted(range(len(needs)), key=lambda n: -needs[n])
    for n in order:
        while needs[n] - len(got[n]) >= size and whole:
            got[n] += whole.pop()
    for n in order:
        while needs[n] > len(got[n]) and (whole or alone):
            if whole and needs[n] - len(got[n]) < size:
                core = whole.pop()
                take = needs[n] - len(got[n])
                got[n] += core[:take]
                # Free still, for those who find no core of their own.
                alone[:0] = reversed(core[take:])
            else:
                got[n].append(alone.pop())
    return got
