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
"""cpusets that a CPU has left by going offline, on cgroup version 1.

There a CPU that goes offline leaves every cpuset but the root's, and does not
come back when it is online again (Documentation, cgroup-v1/cpusets.rst;
kernel/cgroup/cpuset.c, hotplug_update_tasks_legacy).  Nobody below can be
pinned there then: the write ends with "Permission denied".  Version 2 keeps
what was written beside what is in effect, and needs none of this.
"""

from __future__ import annotations

from collections.abc import Collection
import functools
import os
import pathlib
import re

from kongming.host import topology
from kongming.kernel import cgroup

#: libvirt's partitions, without and with systemd, below which it has a cpuset
#: for each domain.
_PARTITIONS = 'machine', 'machine.slice'
#: Its cpusets of threads, which say where these are pinned.
_THREADS = re.compile('emulator|(vcpu|iothread)[0-9]+')


def lacking(pcpus: Collection[int]) -> list[str]:
    """Cpusets of domains, and above them, that lack pCPUs.

    :param pcpus: what is offline of them is left out
    :returns: their folders, those above before those below
    """
    return [str(folder) for folder, _missing in _lacking(pcpus)]


def reclaim_cpus(pcpus: Collection[int]) -> None:
    """Have cpusets of domains, and above them, hold pCPUs again.

    :param pcpus: what is offline of them is left out
    :raises OSError: if the kernel refuses it
    """
    for folder, missing in _lacking(pcpus):
        (folder / 'cpuset.cpus').write_text(
            topology.format_cpu_list(_read(folder) | missing))


def _lacking(pcpus: Collection[int]
             ) -> list[tuple[pathlib.Path, frozenset[int]]]:
    root = _root()
    if root is None:
        return []
    here = _read(root) & frozenset(pcpus)
    return [(folder, missing) for name in _PARTITIONS
            for folder in _below(root / name)
            if (missing := here - _read(folder))]


@functools.cache
def _root() -> pathlib.Path | None:
    """The root's cpuset of version 1; None on version 2.

    Looked for once: native servers power pCPUs up, too.
    """
    mount = cgroup.mount_of('cpuset')
    return pathlib.Path(mount.point) if mount and mount.version == 1 else None


def _below(folder: pathlib.Path) -> list[pathlib.Path]:
    found = []
    for place, names, _files in os.walk(folder):
        found.append(pathlib.Path(place))
        names[:] = [name for name in names if not _THREADS.fullmatch(name)]
    return found


def _read(folder: pathlib.Path) -> frozenset[int]:
    """Nothing where it is gone meanwhile."""
    try:
        text = (folder / 'cpuset.cpus').read_text().strip()
    except FileNotFoundError:
        return frozenset()
    return topology.parse_cpu_list(text) if text else frozenset()
