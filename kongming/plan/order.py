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

"""Moves of running servers, in an order that their host can carry out.

One server after the other wherever that can be, so that it may be stopped
after each; only those that wait for one another go together.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses

from kongming.host import usage
from kongming.live import rearrange
from kongming.solver import pins as pins_mod
from kongming.solver import problem
from kongming.template import template as template_mod

Batches = list[tuple[str, ...]]


def order(base: usage.HostState, asks: Mapping[str, problem.Ask],
          goals: Mapping[str, problem.Spot]) -> Batches | None:
    """Who moves when; None where there is no such order.

    :param base: the host with everybody who is not among the asks
    :param asks: running servers of the host, by name
    :param goals: where each of them is to be
    """
    now = {name: problem.of_today(ask) for name, ask in asks.items()}
    left = [name for name in asks if problem.moves(asks[name], goals[name])]
    batches: Batches = []
    while left:
        state = _state(base, asks, now)
        batch: Sequence[str] = next((
            [name] for name in left if _can(state, asks, goals, [name])), ())
        if not batch:
            batch = left
            if not _can(state, asks, goals, batch):
                return None
        batches.append(tuple(batch))
        for name in batch:
            now[name] = goals[name]
        left = [name for name in left if name not in batch]
    return batches


def _state(base: usage.HostState, asks: Mapping[str, problem.Ask],
           now: Mapping[str, problem.Spot]) -> usage.HostState:
    for name, spot in now.items():
        base = problem.put(base, asks[name].shapes[0], spot.assignment)
    return base


def _can(state: usage.HostState, asks: Mapping[str, problem.Ask],
         goals: Mapping[str, problem.Spot], names: Sequence[str]) -> bool:
    """Whether the host would do these together."""
    residents = [_resident(asks[name], goals[name]) for name in names]
    return not rearrange.plan(state, residents).refused


def _resident(ask: problem.Ask, goal: problem.Spot) -> rearrange.Resident:
    assert ask.today is not None
    demand = ask.shapes[0]
    return rearrange.Resident(
        ask.name, demand.guest, desired(demand.template, goal),
        {vcpu: pcpu for _node, pins in ask.today.cells
         for vcpu, pcpu in pins.items()},
        ask.today.nodes, ask.stays)


def desired(old: template_mod.Template,
            goal: problem.Spot) -> template_mod.Template:
    """What a server's metadata says to have it there."""
    cells = goal.assignment.cells
    # Pins imply the node.
    nodes = {number: cell.node for number, cell in enumerate(cells)
             if not cell.pins}
    pins = {number: tuple(pin for pin in found if pin.floats)
            for number, found in old.pins.items()}
    for number, found in pins_mod.pins_of({
            number: cell.pins for number, cell in enumerate(cells)}).items():
        pins[number] = found + pins.get(number, ())
    return dataclasses.replace(old, nodes=nodes, pins=pins)
