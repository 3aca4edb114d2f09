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

"""Where a server's threads are, told by each party that can know."""

import pathlib
import re
from xml.etree import ElementTree

from kongming import inventory
from kongming import topology


def domain(xml):
    """What a domain's XML says: ({vCPU: pCPUs}, {cell: nodes})."""
    root = ElementTree.fromstring(xml)
    pins = {int(pin.get('vcpu')): topology.parse_cpu_list(pin.get('cpuset'))
            for pin in root.findall('./cputune/vcpupin')}
    nodes = {int(cell.get('cellid')):
             topology.parse_cpu_list(cell.get('nodeset'))
             for cell in root.findall('./numatune/memnode')}
    return pins, nodes


def threads(domain_name):
    """What the kernel says: vCPU -> pCPUs that its thread may run on.

    :param domain_name: of a QEMU domain that runs on this machine
    """
    pid = pathlib.Path(f'/run/libvirt/qemu/{domain_name}.pid').read_text()
    found = {}
    for task in pathlib.Path(f'/proc/{pid.strip()}/task').iterdir():
        # QEMU names its vCPU threads "CPU 0/KVM" or "CPU 0/TCG".
        name = re.match('CPU ([0-9]+)/', (task / 'comm').read_text())
        if name:
            allowed = re.search(r'^Cpus_allowed_list:\s*(\S+)$',
                                (task / 'status').read_text(), re.MULTILINE)
            found[int(name[1])] = topology.parse_cpu_list(allowed[1])
    return found


def nova(topology_api):
    """What ``GET /servers/{id}/topology`` says.

    :returns: ({vCPU: pCPUs}, {cell: nodes}), as :func:`domain`
    """
    pins, nodes = {}, {}
    for number, node in enumerate(topology_api['nodes']):
        nodes[number] = frozenset({node['host_node']})
        pins.update({int(vcpu): frozenset({pcpu})
                     for vcpu, pcpu in node['cpu_pinning'].items()})
    return pins, nodes


def placement(compute_uuid, allocations, nodes=range(64)):
    """What Placement has given: node -> pCPUs claimed by their own class.

    :param compute_uuid: uuid of the compute node's provider
    :param allocations: provider uuid -> resources
    """
    return {node: frozenset(inventory.named_pcpus(allocations[uuid]))
            for node in nodes
            if (uuid := inventory.provider_uuid(compute_uuid, node))
            in allocations}
