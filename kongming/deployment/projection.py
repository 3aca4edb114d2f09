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

"""What servers have of a host while a plan is being made."""

from __future__ import annotations

from collections.abc import Iterable

from kongming.deployment import deployment as dep
from kongming.fit import fit
from kongming.host import usage
from kongming.live import rearrange
from kongming.placement import reserved
from kongming.template import guest as guest_mod


class ProjectedHost:
    """What servers have of a host, as the plan goes on."""

    def __init__(self, host: dep.Host) -> None:
        # Of what was not asked for only the pCPUs are known by number; its
        # memory and what floats stay as they are.
        self.layout = host.state.emptied() if host.asked else (
            usage.HostState(node.holding(frozenset())
                            for node in host.state.nodes))
        self.limits = host.limits
        self._names = dict(host.names)
        self._owned = {node.id: dict(host.owned.get(node.id, {}))
                       for node in host.state.nodes}
        for node in host.state.nodes:
            mine = self._owned[node.id]
            known = frozenset[int]().union(*(
                owned.pcpus for owned in mine.values()))
            # What Placement reserves and Nova names no owner of.
            mine['?'] = reserved.Owned(frozenset(node.taken - known))
        self._names['?'] = 'another server'

    def copy(self) -> ProjectedHost:
        new = ProjectedHost.__new__(ProjectedHost)
        new.layout, new._names = self.layout, dict(self._names)
        new.limits = self.limits
        new._owned = {node: dict(mine) for node, mine in self._owned.items()}
        return new

    def state(self) -> usage.HostState:
        """The host with all of them on it."""
        return usage.HostState(reserved.occupied(node, {
            self._names.get(server, server): owned
            for server, owned in self._owned[node.id].items()})
            for node in self.layout.nodes)

    def leave(self, server: str) -> None:
        """A server goes, with all that it has."""
        for mine in self._owned.values():
            mine.pop(server, None)

    def come(self, server: str, guest: guest_mod.Guest,
             assignment: fit.Assignment) -> None:
        """A server that is to be made.

        :param server: how to call it
        """
        key = self._names[f'new {server}'] = f'server {server}'
        for cell, got in zip(guest.cells, assignment.cells):
            self._put(key, got.node, {*got.pins.values(), *got.reserved},
                      cell, got.page_kib, guest.thread_policy)

    def moved(self, found: dep.FoundServer,
              steps: Iterable[rearrange.Step]) -> None:
        """A server that is there does these steps."""
        guest = found.guest
        cells = [(node, dict(pins)) for node, pins in found.cells]
        pages = [getattr(self._owned.get(node, {}).get(found.id), 'page_kib',
                         None) for node, _pins in cells]
        for step in steps:
            pins = cells[step.cell][1]
            pins.update((move.vcpu, move.target) for move in step.moves)
            cells[step.cell] = step.node, pins
        self.leave(found.id)
        for cell, page, (node, pins) in zip(guest.cells, pages, cells):
            self._put(found.id, node, set(pins.values()), cell, page,
                      guest.thread_policy)

    def _put(self, server: str, node_id: int, pcpus: Iterable[int],
             cell: guest_mod.Cell, page_kib: int | None,
             policy: str | None) -> None:
        mine = set(pcpus)
        node = self.layout.node(node_id)
        if node and policy == 'isolate':
            # Nova keeps what is beside them free, too.
            mine |= {p for core in node.siblings if mine & core for p in core}
        self._owned.setdefault(node_id, {})[server] = reserved.Owned(
            frozenset(mine), len(cell.shared), cell.memory_mib,
            node.huge_page_kib(page_kib) if node else None)
