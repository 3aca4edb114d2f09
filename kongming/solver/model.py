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

"""A layout as a model for OR-Tools' CP-SAT.

It decides hosts, nodes, and who stays; pCPUs are only counted, whole cores and
free threads apart.  What is counted is never more than a layout needs, so what
is proven of the model holds for every layout.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import itertools
from typing import Any

from kongming.fit import demand as demand_mod
from kongming.host import usage
from kongming.solver import greedy
from kongming.solver import pins as pins_mod
from kongming.solver import problem as problem_mod


class Model:
    """Variables and constraints of a problem."""

    def __init__(self, problem: problem_mod.Problem, cp: Any) -> None:
        self.problem = problem
        self.cp = cp
        self.model = cp.CpModel()
        #: (ask, host, shape) -> placed there
        self.placed: dict[tuple[str, str, int], Any] = {}
        #: (ask, host, shape, cell, node) -> the cell is there
        self.cell: dict[tuple[str, str, int, int, int], Any] = {}
        self.stay: dict[str, Any] = {}
        self._options()
        #: host -> what may be there
        self.on: dict[str, list[tuple[str, str, int]]] = {
            host: [] for host in problem.hosts}
        for key in self.placed:
            self.on[key[1]].append(key)
        self.shared: list[Any] = []
        for host, state in problem.hosts.items():
            self._pins(host, state)
            for node in state.nodes:
                self._node(host, node)
        self._apart()
        self.levels = {level: getattr(self, f'_level_{level}')()
                       for level in problem.levels}

    # Where a server may be.

    def _options(self) -> None:
        model = self.model
        known: dict[object, list[tuple[int, int]]] = {}
        alike = {host: greedy.like(state)
                 for host, state in self.problem.hosts.items()}
        for ask in self.problem.asks:
            mine = []
            for host, state in self.problem.hosts.items():
                if not ask.may_be_on(host):
                    continue
                for shape in range(len(ask.shapes)):
                    key: object = (alike[host], self.problem.limits.get(host),
                                   ask.shapes[shape],
                                   (ask.near or {}).get(host))
                    if key not in known:
                        known[key] = list(_cells(
                            state, ask, host, shape,
                            self.problem.limits.get(host)))
                    place = self._option(ask, host, shape, known[key])
                    if place is not None:
                        mine.append(place)
            if ask.today is not None:
                model.add(sum(mine) == 1)
            elif mine:
                model.add_at_most_one(mine)

    def _option(self, ask: problem_mod.Ask, host: str, shape: int,
                cells: Sequence[tuple[int, int]]) -> Any:
        model, count = self.model, len(ask.shapes[shape].cells)
        today = ask.today
        if today is not None:
            # Where it is it fits, whatever a fit says.
            cells = [*enumerate(today.nodes)] if ask.stays else sorted(
                {*cells, *enumerate(today.nodes)})
        if {cell for cell, _node in cells} != set(range(count)):
            return None
        where = ask.name, host, shape
        place = self.placed[where] = model.new_bool_var('')
        by_node: dict[int, list[Any]] = {}
        for number in range(count):
            found = []
            for node in [n for c, n in cells if c == number]:
                var = model.new_bool_var('') if count > 1 or len(
                    cells) > 1 else place
                self.cell[*where, number, node] = var
                found.append(var)
                by_node.setdefault(node, []).append(var)
            if found != [place]:
                model.add(sum(found) == place)
        for found in by_node.values():
            if len(found) > 1:
                model.add(sum(found) <= place)
        if ask.near is not None:
            near = [var for node, found in by_node.items() for var in found
                    if node in ask.near[host]]
            model.add(sum(near) >= place)
        if today is not None:
            stay = self.stay[ask.name] = model.new_bool_var('')
            for number, node in enumerate(today.nodes):
                model.add_implication(
                    stay, self.cell[*where, number, node])
            self._in_order(today.nodes, where, cells)
        return place

    def _in_order(self, today: Sequence[int], where: tuple[str, str, int],
                  cells: Sequence[tuple[int, int]]) -> None:
        """See :mod:`kongming.memory.order`."""
        ascending = sorted(range(len(today)), key=lambda cell: today[cell])
        on = {number: sum(node * self.cell[*where, number, node]
                          for cell, node in cells if cell == number)
              for number in ascending}
        for lower, higher in itertools.pairwise(ascending):
            self.model.add(on[lower] < on[higher])

    def _moved(self, key: tuple[str, str, int], cell: int,
               node: int) -> Any:
        """Whether a cell is on a node, and not with the pCPUs of today."""
        ask = self.problem.by_name[key[0]]
        var = self.cell[*key, cell, node]
        if ask.today is not None and ask.today.nodes[cell] == node:
            return var - self.stay[ask.name]
        return var

    # What fits on a host.

    def _pins(self, host: str, state: usage.HostState) -> None:
        """pCPUs that several name, or keep."""
        users: dict[int, list[Any]] = {}
        for key in self.on[host]:
            for pcpu in self._named(key, state):
                users.setdefault(pcpu, []).append(self.placed[key])
            today = self.problem.by_name[key[0]].today
            for _node, pins in today.cells if today else ():
                for pcpu in pins.values():
                    users.setdefault(pcpu, []).append(self.stay[key[0]])
        for found in users.values():
            if len(found) > 1:
                self.model.add_at_most_one(found)

    def _named(self, key: tuple[str, str, int],
               state: usage.HostState) -> frozenset[int]:
        ask = self.problem.by_name[key[0]]
        if ask.today is not None:
            return frozenset()
        return problem_mod.named(state, ask.shapes[key[2]])

    def _node(self, host: str, node: usage.NodeState) -> None:
        here = [(key, cell, demand.cells[cell], self.cell[*key, cell, node.id])
                for key in self.on[host]
                for demand in [self.problem.by_name[key[0]].shapes[key[2]]]
                for cell in range(len(demand.cells))
                if (*key, cell, node.id) in self.cell]
        if not here:
            return
        self.model.add(sum(asked.need * var for _key, _cell, asked, var
                           in here) <= node.n_free)
        self._memory(node, here)
        self._cores(host, node, here)

    def _memory(self, node: usage.NodeState, here: Sequence[Any]) -> None:
        sums: dict[int, list[Any]] = {}
        for key, _cell, asked, var in here:
            wanted, kib = asked.cell.page_kib, asked.cell.memory_mib * 1024
            small = node.smallest.size_kib if node.smallest else 0
            if wanted is None or wanted == -1 or not small:
                if asked.cell.dedicated or wanted is not None:
                    sums.setdefault(small, []).append(kib * var)
                continue
            sizes = [page.size_kib for page in node.pages if (
                page.size_kib == wanted if wanted > 0 else
                wanted == -3 or page.size_kib > small)]
            if len(sizes) == 1:
                sums.setdefault(sizes[0], []).append(kib * var)
                continue
            parts = [self.model.new_bool_var('') for _size in sizes]
            self.model.add(sum(parts) == var)
            for size, part in zip(sizes, parts):
                sums.setdefault(size, []).append(kib * part)
        free = {page.size_kib: page.free * page.size_kib
                for page in node.pages} or {
                    0: (node.memory_mib - node.memory_used_mib) * 1024}
        for size, found in sums.items():
            self.model.add(sum(found) <= free.get(size, 0))

    def _cores(self, host: str, node: usage.NodeState,
               here: Sequence[Any]) -> None:
        most = max(map(len, node.siblings), default=1)
        picky = [(key, cell, asked) for key, cell, asked, _var in here
                 if self._demand(key).policy == 'require']
        shared = 'shared' in self.problem.levels
        if most < 2 or not (picky or shared):
            return
        clean = {frozenset(core): var for core, var
                 in self._clean(host, node)}
        if picky and most == 2:
            self.model.add(sum(
                -(-len(asked.vcpus) // 2) * self._moved(key, cell, node.id)
                for key, cell, asked in picky
                if not self._demand(key).names_pcpus) <= sum(
                    var for core, var in clean.items()
                    if len(core & node.free) > 1))
        if not shared:
            return
        more = self.model.new_int_var(0, len(node.siblings), '')
        self.model.add((most - 1) * more >= sum(
            -(-asked.need // most) * self._moved(key, cell, node.id)
            for key, cell, asked, _var in here
            if not self._demand(key).names_pcpus)
            - sum(clean.values()))
        self.shared += [more, *self._shared_today(host, node)]

    def _demand(self, key: tuple[str, str, int]) -> demand_mod.Demand:
        return self.problem.by_name[key[0]].shapes[key[2]]

    def _clean(self, host: str, node: usage.NodeState) -> Iterator[
            tuple[usage.PcpuSet, Any]]:
        """Cores of which nobody who stays has a part."""
        stayers: dict[int, list[Any]] = {}
        for key in self.on[host]:
            today = self.problem.by_name[key[0]].today
            for _node, pins in today.cells if today else ():
                for pcpu in pins.values():
                    stayers.setdefault(pcpu, []).append(self.stay[key[0]])
            if not self._demand(key).policy:
                for pcpu in self._named(key, self.problem.hosts[host]):
                    stayers.setdefault(pcpu, []).append(self.placed[key])
        for core in node.siblings:
            if core & node.taken or not core & node.free:
                continue
            mine = [var for pcpu in core for var in stayers.get(pcpu, ())]
            if not mine:
                yield core, 1
                continue
            clean = self.model.new_bool_var('')
            for var in mine:
                self.model.add_implication(var, ~clean)
            yield core, clean

    def _shared_today(self, host: str,
                      node: usage.NodeState) -> Iterator[Any]:
        for core in node.siblings:
            stays = [
                self.stay[key[0]] for key in self.on[host]
                for today in [self.problem.by_name[key[0]].today]
                if today is not None and any(
                    core & set(pins.values()) for _n, pins in today.cells)]
            fixed = bool(core & node.taken)
            if len(stays) + fixed > 1:
                both = self.model.new_bool_var('')
                self.model.add((len(stays) + fixed) * both
                               >= sum(stays) + fixed - 1)
                yield both

    def _apart(self) -> None:
        groups: dict[tuple[str, str], list[Any]] = {}
        for (name, host, _shape), var in self.placed.items():
            for group in self.problem.by_name[name].apart:
                groups.setdefault((group, host), []).append(var)
        for found in groups.values():
            self.model.add(sum(found) <= 1)

    # What makes one better than another.

    def _level_unplaced(self) -> Any:
        return len(self.problem.asks) - sum(self.placed.values())

    def _level_cells(self) -> Any:
        return sum(len(self._demand(key).cells) * var
                   for key, var in self.placed.items())

    def _level_shared(self) -> Any:
        return sum(self.shared)

    def _level_hosts(self) -> Any:
        used = []
        for keys in self.on.values():
            if keys:
                var = self.model.new_bool_var('')
                for key in keys:
                    self.model.add_implication(self.placed[key], var)
                used.append(var)
        return sum(used)

    def _level_peak(self) -> Any:
        peak = self.model.new_int_var(0, 10 ** 6, '')
        before = problem_mod.loads(self.problem, {})
        for host, state in self.problem.hosts.items():
            total = max(1, sum(len(node.dedicated) for node in state.nodes))
            used = sum(len(node.taken & node.dedicated)
                       for node in state.nodes)
            self.model.add(peak >= before[host])
            self.model.add(total * peak + total - 1 >= 1000 * (used + sum(
                sum(cell.need for cell in self._demand(key).cells)
                * self.placed[key] for key in self.on[host])))
        return peak

    def _level_moves(self) -> Any:
        return sum(1 - var for var in self.stay.values())

    def _level_memory(self) -> Any:
        return sum(
            self._demand(key[:3]).guest.cells[key[3]].memory_mib * var
            for key, var in self.cell.items()
            for today in [self.problem.by_name[key[0]].today]
            if today is not None and today.nodes[key[3]] != key[4])

    # Answers.

    def read(self, solver: Any) -> dict[str, pins_mod.Pick]:
        picks = {}
        for (name, host, shape), var in self.placed.items():
            if solver.value(var):
                nodes = {key[3]: key[4] for key, cell in self._cells_of(
                    name, host, shape) if solver.value(cell)}
                picks[name] = pins_mod.Pick(
                    host, shape, tuple(nodes[n] for n in sorted(nodes)),
                    name in self.stay and bool(solver.value(
                        self.stay[name])))
        return picks

    def _cells_of(self, name: str, host: str, shape: int) -> list[
            tuple[tuple[str, str, int, int, int], Any]]:
        state = self.problem.hosts[host]
        keys = [(name, host, shape, cell, node.id) for cell in range(
            len(self.problem.by_name[name].shapes[shape].cells))
            for node in state.nodes]
        return [(key, self.cell[key]) for key in keys if key in self.cell]

    def rule_out(self, picks: Mapping[str, pins_mod.Pick]) -> None:
        """Not all of this at once."""
        literals = []
        for name, pick in picks.items():
            literals += [~self.cell[name, pick.host, pick.shape, cell, node]
                         for cell, node in enumerate(pick.nodes)]
            if name in self.stay:
                stay = self.stay[name]
                literals.append(~stay if pick.stays else stay)
        self.model.add_bool_or(literals)

    def fix(self, level: str, value: int, solver: Any) -> None:
        """Get no worse again at a level; go on from this answer."""
        self.model.add(self.levels[level] <= value)
        self.model.clear_hints()
        for var in [*self.placed.values(), *self.stay.values()]:
            self.model.add_hint(var, solver.value(var))
        for key, var in self.cell.items():
            if var is not self.placed[key[:3]]:
                self.model.add_hint(var, solver.value(var))

    def hint(self, spots: Mapping[str, problem_mod.Spot]) -> None:
        for key, var in self.placed.items():
            spot = spots.get(key[0])
            self.model.add_hint(var, spot is not None and (
                spot.host, spot.shape) == key[1:])
        for (name, host, shape, number, node), var in self.cell.items():
            if var is not self.placed[name, host, shape]:
                spot = spots.get(name)
                self.model.add_hint(var, spot is not None and (
                    spot.host, spot.shape) == (host, shape)
                    and spot.nodes[number] == node)
        for name, var in self.stay.items():
            self.model.add_hint(var, not problem_mod.moves(
                self.problem.by_name[name], spots[name]))


def _cells(state: usage.HostState, ask: problem_mod.Ask, host: str,
           shape: int, limits: usage.Limits | None
           ) -> Iterator[tuple[int, int]]:
    """(cell, node) that go together, the rest of the server aside."""
    for number in range(len(ask.shapes[shape].cells)):
        for node in state.node_ids():
            if problem_mod.fit_near(state, ask, host, shape,
                                    {number: (node,)}, limits=limits):
                yield number, node
