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

"""What a server claims of a host's node providers, by where it goes."""

from __future__ import annotations

from collections.abc import Collection

from kongming.fit import demand as demand_mod
from kongming.fit import fit
from kongming.host import usage
from kongming.placement import inventory
from kongming.template import template as template_mod


def claim(host: usage.HostState, demand: demand_mod.Demand,
          assignment: fit.Assignment) -> dict[int, dict[str, int]]:
    """node -> resource class -> amount, of the cells that are bound to it.

    Counts and memory, and a pCPU by its own class where the template names
    it.  What is open is claimed of no node, as Nova claims it of none: of
    servers that boot at the same time none would be refused for a node that
    another one may not take in the end.  The host decides it.

    :param host: which of its pages are huge
    """
    found: dict[int, dict[str, int]] = {}
    for cell, going in zip(demand.cells, assignment.cells):
        if not is_bound(demand.template, cell.number):
            continue
        amounts = {inventory.PCPU: cell.need,
                   inventory.VCPU: len(cell.cell.shared)}
        node = host.node(going.node)
        page_kib = node and node.huge_page_kib(going.page_kib)
        if page_kib:
            amounts[inventory.pages_class(page_kib)] = (
                cell.cell.memory_mib * 1024 // page_kib)
        else:
            amounts[inventory.MEMORY_MB] = cell.cell.memory_mib
        if cell.claim is not None:
            amounts[inventory.CLOSID] = cell.claim.closids
            amounts[inventory.L3] = cell.claim.l3
        amounts.update(
            (inventory.pcpu_class(pcpu), 1)
            for pcpu in _named(demand.template, cell, going))
        found[going.node] = {name: amount for name, amount in amounts.items()
                             if amount}
    return found


def _named(template: template_mod.Template, cell: demand_mod.CellDemand,
           going: fit.CellAssignment) -> set[int]:
    """pCPUs that a cell owns and the template names."""
    vcpus = named_vcpus(template, cell.number)
    found = {pcpu for vcpu, pcpu in going.pins.items() if vcpu in vcpus}
    if cell.extra and isinstance(template.emulator, tuple):
        found |= going.reserved
    return found


def is_bound(template: template_mod.Template, number: int) -> bool:
    """Whether a template says which node a cell is on."""
    return number in template.nodes or bool(named_vcpus(template, number))


def named_vcpus(template: template_mod.Template,
                number: int) -> Collection[int]:
    """The vCPUs of a cell whose pCPUs the template names."""
    return {vcpu for pin in template.pins.get(number, ())
            if not pin.floats for vcpu in pin.vcpu_ids()}
