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

"""Which nodes Placement and PCI devices leave a server's cells."""

from kongming.placement import flavor
from kongming.placement import inventory
from nova.objects import fields


def allowed(server, compute_uuid, host, allocations):
    """cell -> the nodes that it may go to, or None for any."""
    instance = server.instance
    if has_near_devices(instance):
        # Nova has claimed devices to go with the nodes of its claim.
        return {number: {cell.id} for number, cell in
                enumerate(server.topology.cells)}
    return granted_nodes(compute_uuid, host, instance.flavor.extra_specs,
                         allocations)


def has_near_devices(instance):
    """Whether PCI devices that were claimed are to be near its nodes."""
    requests = instance.pci_requests.requests if instance.pci_requests else []
    return any(request.numa_policy != fields.PCINUMAAffinityPolicy.PREFERRED
               for request in requests)


def granted_nodes(compute_uuid, host, specs, allocations):
    """The nodes that a server's allocation leaves each of its cells.

    :param specs: the flavor's extra specs, whose groups were asked for
    :returns: cell -> set of node ids, or None where Placement was asked for
        no node
    """
    granted = {}
    for cell in host.cells:
        uuid = inventory.provider_uuid(compute_uuid, cell.id)
        if uuid in (allocations or {}):
            granted[cell.id] = allocations[uuid]['resources']
    if not granted:
        return None
    allowed = {}
    for number, wanted in flavor.asked_groups(specs).items():
        # Each group was granted as a whole; which node's it is is told by
        # the amounts.
        allowed[number] = {node for node, found in granted.items()
                           if found == wanted} or set(granted)
    return allowed
