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

"""The memory of a guest's cells in ``/proc/PID/maps`` and ``numa_maps``."""

from __future__ import annotations

from collections.abc import Mapping as MappingType
from collections.abc import Sequence
import dataclasses
import re

from kongming import exception
from kongming.host import topology

#: Policies of files on these are the file's, not the mapping's (mm/shmem.c,
#: shmem_set_policy); /dev/zero and SYSV are shared anonymous memory.
_SHMEM = re.compile(r'/memfd:|/dev/shm/|/dev/zero|/SYSV')
#: A mapping is as large as its cell, but for this: a whole number of huge
#: pages.
_ROUND_KIB = 2 * 1024


@dataclasses.dataclass(frozen=True)
class Mapping:
    """A mapping of a process that is the memory of a guest's cell.

    :ivar first: its address
    :ivar mode: of its policy, ``bind`` or ``default``
    :ivar nodes: of its policy
    :ivar kib: node -> KiB that are there
    :ivar page_kib: 4, or the size of its huge pages; transparent huge pages
        count as small ones
    :ivar policy_is_of_file: whether the policy is that of a memfd, which no
        write of ``cpuset.mems`` changes
    :ivar file: on a disk, that the mapping is of; empty: none
    """

    first: int
    size_kib: int
    mode: str
    nodes: frozenset[int]
    kib: MappingType[int, int]
    page_kib: int
    policy_is_of_file: bool = False
    file: str = ''

    @property
    def present_kib(self) -> int:
        return sum(self.kib.values())

    def elsewhere_kib(self, node: int) -> int:
        """What is not on a node."""
        return self.present_kib - self.kib.get(node, 0)

    def is_bound_to(self, node: int) -> bool:
        """Whether what comes into being later is on a node.

        A mapping without a policy of its own is where ``cpuset.mems`` of the
        thread that touches it is.
        """
        return self.mode == 'default' or self.nodes == {node}


def parse(maps: str, numa_maps: str) -> tuple[Mapping, ...]:
    """All mappings that may be written and are no code."""
    sizes = {}
    for line in maps.splitlines():
        found = re.match(r'([0-9a-f]+)-([0-9a-f]+) rw-', line)
        if found:
            first, last = (int(each, 16) for each in found.groups())
            sizes[first] = (last - first) // 1024
    mappings = []
    for line in numa_maps.splitlines():
        words = line.split()
        first = int(words[0], 16)
        if first not in sizes:
            continue
        # Modes may have flags, bind=static:0 (mm/mempolicy.c, mpol_to_str).
        mode, _, nodes = words[1].partition(':')
        page_kib, file, huge = topology.SMALL_PAGE_KIB, '', False
        pages = {}
        for word in words[2:]:
            name, _, value = word.partition('=')
            if name == 'kernelpagesize_kB':
                page_kib = int(value)
            elif name == 'file':
                file = value
            elif name == 'huge':
                huge = True
            elif re.fullmatch('N[0-9]+', name):
                pages[int(name[1:])] = int(value)
        shmem = bool(_SHMEM.match(file)) and not huge
        mappings.append(Mapping(
            first, sizes[first], mode.partition('=')[0],
            topology.parse_cpu_list(nodes) if nodes else frozenset(),
            {node: count * page_kib for node, count in pages.items()},
            page_kib, shmem, '' if huge or shmem else file))
    return tuple(mappings)


def cells_of(mappings: Sequence[Mapping], sizes_kib: Sequence[int],
             nodes: Sequence[int]) -> tuple[Mapping, ...]:
    """The memory of each cell.

    Cells keep the order of their nodes (:mod:`kongming.memory.order`), so
    that of the policies says which mapping is which cell's, in the middle of
    a move as well.

    :param sizes_kib: of each cell
    :param nodes: of each cell, before or after a move
    :raises kongming.exception.MemoryUnknown: where that can't be told
    """
    large = [each for each in mappings if each.size_kib >= min(sizes_kib)
             and not each.file]
    bound = [each for each in large if each.mode == 'bind']
    if not bound and len(sizes_kib) == 1:
        # Bound by the cgroup alone: libvirt's mode restrictive.
        bound = [each for each in large if each.mode == 'default'
                 and _fits(each, sizes_kib[0])]
        bound = sorted(bound, key=lambda each: each.present_kib)[-1:]
    files = [each.file for each in mappings
             if each.file and each.mode == 'bind']
    if files:
        raise exception.MemoryUnknown(
            f'its memory is a file on a disk ({files[0]}), whose pages have '
            f'no node of their own; a memfd has')
    if len(bound) != len(sizes_kib):
        raise exception.MemoryUnknown(
            f'the kernel has {len(bound)} mapping(s) bound to nodes, and the '
            f'guest {len(sizes_kib)} cell(s); a hard reboot binds each cell '
            f'to its node')
    if len(bound) > 1:
        if any(len(each.nodes) != 1 for each in bound) or len(
                {each.nodes for each in bound}) < len(bound):
            raise exception.MemoryUnknown(
                'two of its cells are bound to one node, or one to several; '
                'a hard reboot binds each cell to its node')
        bound = sorted(bound, key=lambda each: min(each.nodes))
    by_node = dict(zip(sorted(nodes), bound))
    found = tuple(by_node[node] for node in nodes)
    for cell, (mapping, size) in enumerate(zip(found, sizes_kib)):
        if not _fits(mapping, size):
            raise exception.MemoryUnknown(
                f'cell {cell} has {size} KiB, and the mapping that is bound '
                f'as its would be has {mapping.size_kib} KiB; a hard reboot '
                f'binds each cell to its node')
    return found


def _fits(mapping: Mapping, size_kib: int) -> bool:
    unit = max(_ROUND_KIB, mapping.page_kib)
    return size_kib <= mapping.size_kib <= -(-size_kib // unit) * unit
