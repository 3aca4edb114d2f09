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

import os
import pathlib
import re
import shlex
import subprocess
from typing import NamedTuple
from xml.etree import ElementTree

from kongming.host import topology
from kongming.placement import inventory
from kongming.placement import naming


def domain(xml):
    """What a domain's XML says: ({vCPU: pCPUs}, {cell: nodes})."""
    root = ElementTree.fromstring(xml)
    vcpus = root.find('./vcpu')
    pins = {}
    if vcpus is not None and vcpus.get('cpuset'):
        # Those that no pin is given for.
        pins = dict.fromkeys(range(int(vcpus.text)),
                             topology.parse_cpu_list(vcpus.get('cpuset')))
    pins.update((int(pin.get('vcpu')),
                 topology.parse_cpu_list(pin.get('cpuset')))
                for pin in root.findall('./cputune/vcpupin'))
    nodes = {int(cell.get('cellid')):
             topology.parse_cpu_list(cell.get('nodeset'))
             for cell in root.findall('./numatune/memnode')}
    return pins, nodes


def local(script):
    """Run a shell script on this machine and return what it writes."""
    return subprocess.run(['sh', '-s'], input=script, check=True,
                          capture_output=True, text=True).stdout


def pid_file(domain_name):
    """For a shell: the process of a QEMU domain."""
    return f'$(cat /run/libvirt/qemu/{shlex.quote(domain_name)}.pid)'


def threads(domain_name, shell=local):
    """What the kernel says: vCPU -> pCPUs that its thread may run on.

    :param domain_name: of a QEMU domain that runs
    :param shell: runs a shell script where it runs
    """
    return threads_of_all([domain_name], shell)[domain_name]


def threads_of_all(domain_names, shell=local):
    """As :func:`threads`, of several domains: name -> that."""
    script = [f'(echo "== {name}"\ncd /proc/{pid_file(name)}/task || exit 0\n'
              'grep -Hs "" */comm\n'
              'grep -Hs ^Cpus_allowed_list: */status || true)\n'
              for name in domain_names]
    _empty, *parts = re.split('^== (.*)\n', shell(''.join(script)),
                              flags=re.MULTILINE)
    return {name: _threads(said)
            for name, said in zip(parts[::2], parts[1::2])}


def _threads(said):
    # QEMU names its vCPU threads "CPU 0/KVM" or "CPU 0/TCG".
    vcpus = dict(re.findall('^([0-9]+)/comm:CPU ([0-9]+)/', said,
                            re.MULTILINE))
    return {int(vcpus[task]): topology.parse_cpu_list(allowed)
            for task, allowed in re.findall(
                r'^([0-9]+)/status:Cpus_allowed_list:\s*(\S+)$', said,
                re.MULTILINE) if task in vcpus}


def move(thread, pcpus):
    """Have a thread run elsewhere, past libvirt and its cgroup; as root."""
    for line in pathlib.Path(f'/proc/{thread}/cgroup').read_text(
            ).splitlines():
        _number, controllers, path = line.split(':', 2)
        if 'cpuset' in controllers.split(','):
            break
    else:
        controllers = ''  # of version 2, which is the last line
    pathlib.Path('/sys/fs/cgroup', controllers, path.lstrip('/'),
                 'cpuset.cpus').write_text(','.join(map(str, pcpus)))
    os.sched_setaffinity(thread, pcpus)


class Running(NamedTuple):
    """A vCPU thread at one moment, as ``/proc`` has it.

    :ivar allowed: pCPUs that it may run on
    :ivar last: the pCPU that it ran on last
    :ivar seconds: CPU time that it has had
    """

    allowed: frozenset[int]
    last: int
    seconds: float


def running(process, thread):
    """One thread of a process on this machine."""
    task = pathlib.Path('/proc', str(process), 'task', str(thread))
    allowed = re.search(r'^Cpus_allowed_list:\s*(\S+)$',
                        (task / 'status').read_text(), re.MULTILINE)
    # proc(5) counts from 1; the name, field 2, may have blanks in it.
    fields = (task / 'stat').read_text().rpartition(')')[2].split()
    utime, stime, last = (int(fields[number - 3]) for number in (14, 15, 39))
    return Running(topology.parse_cpu_list(allowed[1]), last,
                   (utime + stime) / os.sysconf('SC_CLK_TCK'))


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
            if (uuid := naming.provider_uuid(compute_uuid, node))
            in allocations}
