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

"""Which nodes PCI devices leave a server's cells."""

from nova.objects import fields


def allowed(server):
    """cell -> the nodes that it may go to, or None for any."""
    if has_near_devices(server.instance):
        # Nova has claimed devices to go with the nodes of its claim.
        return {number: {cell.id} for number, cell in
                enumerate(server.topology.cells)}
    return None


def has_near_devices(instance):
    """Whether PCI devices that were claimed are to be near its nodes."""
    requests = instance.pci_requests.requests if instance.pci_requests else []
    return any(request.numa_policy != fields.PCINUMAAffinityPolicy.PREFERRED
               for request in requests)
