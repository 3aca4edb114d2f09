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


"""Compute nodes as Nova's database has them, without a nova-compute each.

Their records are those of hosts of 2 nodes x 64 pCPUs whose nova-compute has
the hook (:func:`benchmarks.placement.host`), so that schedulers make of them
what they make of a real cloud.
"""

import json

from nova import context as nova_context
from nova import objects
from oslo_utils import timeutils

from benchmarks import placement
from nova_ext import stats

NODES = 2
#: What Nova puts on its own providers and asks the scheduler's for.
OWNER = 'OWNER_NOVA'
#: A host's shared pCPUs, by node.
SHARED = [{0, 32}, {64, 96}]
#: What libvirt says of such a CPU.
_CPU_INFO = json.dumps({
    'arch': 'x86_64', 'model': 'Cascadelake-Server', 'vendor': 'Intel',
    'topology': {'cells': 2, 'sockets': 1, 'cores': 32, 'threads': 2},
    'features': ['pge', 'avx', 'xsaveopt', 'sse4.2', 'aes', 'avx2', 'pdpe1gb',
                 'nx', 'fma', 'rdtscp', 'ssse3', 'x2apic', 'avx512f']})


def topology(taken=frozenset()):
    """:param taken: dedicated pCPUs that are pinned"""
    cells = []
    for number in range(NODES):
        first, half = number * placement.PCPUS, placement.PCPUS // 2
        ids = set(range(first, first + placement.PCPUS))
        cells.append(objects.NUMACell(
            id=number, cpuset=SHARED[number], pcpuset=ids - SHARED[number],
            memory=262144, cpu_usage=0, memory_usage=0, socket=number,
            pinned_cpus=(ids - SHARED[number]) & taken,
            siblings=[{first + core, first + core + half}
                      for core in range(half)],
            mempages=[
                objects.NUMAPagesTopology(size_kb=4, total=66060288, used=0,
                                          reserved=0),
                objects.NUMAPagesTopology(size_kb=2048, total=2048, used=0,
                                          reserved=0)]))
    return objects.NUMATopology(cells=cells)


def add(cell, hosts):
    """Put hosts into Nova's databases, as their nova-computes would have.

    :param cell: nova.objects.CellMapping
    :param hosts: name -> (uuid, pCPUs that are pinned)
    """
    context = nova_context.get_admin_context()
    obeys = stats.report(stats.Reported(
        frozenset((stats.BOOT, stats.LIVE)), frozenset(range(NODES))))
    with nova_context.target_cell(context, cell) as targeted:
        for name, (uuid, taken) in hosts.items():
            objects.Service(
                targeted, host=name, binary='nova-compute', topic='compute',
                report_count=1, disabled=False,
                last_seen_up=timeutils.utcnow()).create()
            _compute_node(targeted, name, uuid, taken, obeys).create()
    for name in hosts:
        objects.HostMapping(context, host=name, cell_mapping=cell).create()


def _compute_node(context, name, uuid, taken, obeys):
    return objects.ComputeNode(
        context, uuid=uuid, host=name, hypervisor_hostname=name,
        vcpus=NODES * placement.PCPUS, vcpus_used=len(taken),
        memory_mb=524288, memory_mb_used=512, free_ram_mb=523776,
        local_gb=1000, local_gb_used=0, free_disk_gb=1000,
        disk_available_least=1000, hypervisor_type='QEMU',
        hypervisor_version=7002000, cpu_info=_CPU_INFO, current_workload=0,
        running_vms=0, host_ip='192.0.2.1', mapped=1,
        cpu_allocation_ratio=16.0, ram_allocation_ratio=1.0,
        disk_allocation_ratio=1.0,
        supported_hv_specs=[objects.HVSpec(
            arch='x86_64', hv_type='kvm', vm_mode='hvm')],
        pci_device_pools=objects.PciDevicePoolList(objects=[]),
        metrics='[]', stats={'failed_builds': '0', **obeys},
        numa_topology=topology(taken)._to_json())
