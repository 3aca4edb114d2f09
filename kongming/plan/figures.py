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

"""What a layout is good for, in figures that are shown before and after."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import NamedTuple

from kongming.fit import demand as demand_mod
from kongming.fit import fit
from kongming.fit import nova_fitter
from kongming.host import usage
from kongming.solver import problem

#: So many servers more are counted at most.
_MOST = 10000


class Figures(NamedTuple):
    """Of some hosts together.

    :ivar free_pcpus: dedicated ones that nobody owns
    :ivar stranded_pcpus: those of them that servers of the wanted sizes can't
        have, when as many are placed as fit; without a size, those that lie
        beside an owned one on their core
    :ivar crossing_servers: those on several nodes
    :ivar shared_cores: cores of which two servers own a part
    :ivar capacity: how many servers more of the wanted size fit, or None
    """

    free_pcpus: int
    stranded_pcpus: int
    crossing_servers: int
    shared_cores: int
    capacity: int | None = None


#: server -> its cells' (node, pCPUs)
Owners = Mapping[str, Sequence[tuple[int, Iterable[int]]]]


def of(hosts: Mapping[str, usage.HostState],
       owners: Mapping[str, Owners],
       wanted: demand_mod.Demand | None = None) -> Figures:
    """
    :param owners: host -> who owns what there
    :param wanted: a server of the size that is asked about
    """
    free = sum(node.n_free for state in hosts.values()
               for node in state.nodes)
    capacity = None
    if wanted is None:
        stranded = sum(problem.broken(node) for state in hosts.values()
                       for node in state.nodes)
    else:
        capacity = sum(count(state, wanted) for state in hosts.values())
        stranded = free - capacity * sum(cell.need for cell in wanted.cells)
    crossing = sum(
        len({node for node, _pcpus in cells}) > 1
        for found in owners.values() for cells in found.values())
    return Figures(free, stranded, crossing, sum(
        _shared(state, owners.get(host, {}))
        for host, state in hosts.items()), capacity)


def count(state: usage.HostState, wanted: demand_mod.Demand,
          most: int = _MOST) -> int:
    """How many such servers fit and boot, one after the other."""
    for number in range(most):
        result = nova_fitter.bootable(state, wanted)
        if not isinstance(result, fit.Assignment):
            return number
        if not any(cell.need or cell.cell.memory_mib
                   for cell in wanted.cells):
            break
        state = problem.put(state, wanted, result)
    return most


def _shared(state: usage.HostState, owners: Owners) -> int:
    whose = {pcpu: server for server, cells in owners.items()
             for _node, pcpus in cells for pcpu in pcpus}
    return sum(
        len({whose[p] for p in core if p in whose}) > 1
        for node in state.nodes for core in node.siblings)


def owners_in(state: usage.HostState) -> dict[
        str, list[tuple[int, list[int]]]]:
    """Who owns what of a host, as far as it is known: server -> cells."""
    found: dict[str, list[tuple[int, list[int]]]] = {}
    for node in state.nodes:
        mine: dict[str, list[int]] = {}
        for pcpu in sorted(node.taken):
            if pcpu in node.owners:
                mine.setdefault(node.owners[pcpu], []).append(pcpu)
        for owner, pcpus in mine.items():
            found.setdefault(owner, []).append((node.id, pcpus))
    return found


def owners_of(spots: Mapping[str, problem.Spot]) -> dict[
        str, dict[str, list[tuple[int, list[int]]]]]:
    """Who owns what in a layout: host -> server -> cells."""
    found: dict[str, dict[str, list[tuple[int, list[int]]]]] = {}
    for name, spot in spots.items():
        found.setdefault(spot.host, {})[name] = [
            (cell.node, [*cell.pins.values()])
            for cell in spot.assignment.cells]
    return found
