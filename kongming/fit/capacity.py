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

"""How many more servers of one kind fit on a host."""

from __future__ import annotations

from kongming.fit import demand as demand_mod
from kongming.fit import fit
from kongming.fit import nova_fitter
from kongming.host import usage


def times(host: usage.HostState, demand: demand_mod.Demand,
          limits: usage.Limits) -> int:
    """How many such servers fit and boot, one after the other.

    Each is placed as it would be by itself, and the next one beside it.

    :param limits: without them, nothing bounds servers that only float
    """
    count = 0
    while True:
        found = fit.fit(host, demand, limits=limits)
        if (not isinstance(found, fit.Assignment)
                or nova_fitter.objection(host, demand, limits)):
            return count
        count += 1
        host = after(host, demand, found)


def after(host: usage.HostState, demand: demand_mod.Demand,
          assignment: fit.Assignment) -> usage.HostState:
    """The host with one more server on it, as it was placed there."""
    nodes = {node.id: node for node in host.nodes}
    for asked, got in zip(demand.cells, assignment.cells):
        node = nodes[got.node]
        mine = {*got.pins.values(), *got.reserved}
        if demand.guest.thread_policy == 'isolate':
            # Nova keeps what is beside them free, too.
            mine.update(*(core for core in node.siblings if mine & core))
        nodes[got.node] = node.holding(
            node.taken | (mine & node.dedicated),
            memory_mib=asked.cell.memory_mib,
            page_kib=got.page_kib or node.small_page_kib,
            shared=len(asked.cell.shared), claim=asked.claim)
    return usage.HostState(nodes.values())
