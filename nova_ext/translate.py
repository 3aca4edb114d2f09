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

"""Nova's NUMA objects to the library's values, and a fit back into them."""

from kongming import fit
from kongming import guest
from nova.objects import fields

_PINNED = (fields.CPUAllocationPolicy.DEDICATED,
           fields.CPUAllocationPolicy.MIXED)


def host_state(topology, owners=None):
    """What is to be had of a host.

    :param topology: nova.objects.NUMATopology, usage included
    :param owners: pCPU -> name of its owner, where the caller knows it
    :returns: kongming.fit.HostState
    """
    return fit.HostState([_node(cell, owners or {})
                          for cell in topology.cells])


def _node(cell, owners):
    return fit.NodeState(
        id=cell.id,
        dedicated=cell.pcpuset,
        taken=cell.pinned_cpus,
        shared=cell.cpuset,
        siblings=cell.siblings,
        memory_mib=cell.memory,
        memory_used_mib=cell.memory_usage,
        pages=[fit.Pages(p.size_kb, p.total, p.free) for p in cell.mempages],
        shared_used=cell.cpu_usage,
        owners=owners)


def guest_of(topology):
    """What a server asks for.

    :param topology: nova.objects.InstanceNUMATopology, claimed or not; None
        for a server that Nova gives none
    :returns: kongming.guest.Guest, with no cells in the last case
    """
    if topology is None:
        return guest.Guest(())
    return guest.Guest(
        tuple(guest.Cell(
            dedicated=frozenset(cell.pcpuset
                                if cell.cpu_policy in _PINNED else ()),
            shared=frozenset(cell.cpuset),
            memory_mib=cell.memory,
            page_kib=cell.pagesize)
            for cell in topology.cells),
        thread_policy=topology.cells[0].cpu_thread_policy,
        emulator_isolated=topology.emulator_threads_isolated)


def assigned(topology, assignment):
    """The same server's topology with an assignment for its claim.

    :param topology: nova.objects.InstanceNUMATopology; left as it is
    :param assignment: kongming.fit.Assignment
    """
    new = topology.obj_clone()
    for cell, chosen in zip(new.cells, assignment.cells):
        cell.id = chosen.node
        if cell.cpu_policy in _PINNED:
            cell.cpu_pinning = dict(chosen.pins)
            cell.cpuset_reserved = set(chosen.reserved) or None
        if chosen.page_kib is not None:
            cell.pagesize = chosen.page_kib
    return new
