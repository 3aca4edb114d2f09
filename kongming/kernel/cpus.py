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

"""The CPUs of this machine as its kernel knows them now.

libvirtd keeps the list of each node's CPUs that it saw first, and forgets the
siblings of those that go offline later; the kernel's files are always true.
See Documentation/ABI/testing/sysfs-devices-system-cpu.
"""

from __future__ import annotations

import os
import pathlib
import re

from kongming.host import stale
from kongming.host import topology

_SYSTEM = pathlib.Path('/sys/devices/system')


def online() -> frozenset[int]:
    """The CPUs that are online; some 15 microseconds.

    :raises OSError: if the kernel's file is not to be read here
    """
    descriptor = os.open(_SYSTEM / 'cpu' / 'online', os.O_RDONLY)
    try:
        text = os.read(descriptor, 65536).decode()
    finally:
        os.close(descriptor)
    return topology.parse_cpu_list(text.strip())


def read() -> stale.Cpus:
    """Nodes and siblings of all CPUs; a few files for each.

    An offline CPU is on its node still, and has no siblings until it is
    online again.

    :raises OSError: if the kernel's files are not to be read here
    """
    nodes: dict[int, frozenset[int]] = {}
    for folder in (_SYSTEM / 'node').glob('node[0-9]*'):
        # cpulist has only those that are online.
        nodes[int(folder.name.removeprefix('node'))] = frozenset(
            int(found[1]) for each in os.listdir(folder)
            if (found := re.fullmatch('cpu([0-9]+)', each)))
    now = online()
    if not nodes:  # a kernel without NUMA
        nodes[0] = topology.parse_cpu_list(
            (_SYSTEM / 'cpu' / 'present').read_text().strip())
    siblings = {}
    for cpu in now:
        try:
            siblings[cpu] = topology.parse_cpu_list(
                (_SYSTEM / 'cpu' / f'cpu{cpu}' / 'topology'
                 / 'thread_siblings_list').read_text().strip())
        except FileNotFoundError:
            continue  # it went offline meanwhile
    return stale.Cpus(now, nodes, siblings)
