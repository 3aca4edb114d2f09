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
"""A kernel's memory policies, cpusets and moves of pages, as they are.

After mm/mempolicy.c, kernel/cgroup/cpuset.c and mm/migrate.c of Linux 6.1, as
far as a guest's memory is concerned: for tests without several nodes, and for
more states than a real host comes to have.
"""

import dataclasses
import errno

from kongming import exception
from kongming.host import topology
from kongming.memory import order


def _text(nodes):
    return topology.format_cpu_list(nodes)


@dataclasses.dataclass
class Mapping:
    """:ivar policy: its node; None: none of its own

    :ivar bound_in: the cpuset that the policy was bound in last
    :ivar pages: the node of each page; None where there is none
    """

    first: int
    policy: int | None
    bound_in: frozenset
    pages: list
    page_kib: int = 4
    file: str = ''
    #: where that is more than the pages
    size_kib: int = 0

    @property
    def is_memfd(self):
        return self.file.startswith('/memfd:') and self.page_kib == 4


class Process:
    """A guest with a mapping for each cell.

    :param nodes: of each cell
    :param pages: of each cell
    :param threads: thread group -> number of its threads
    """

    def __init__(self, nodes, pages=8, threads=None, page_kib=4, file='',
                 policy=True, extra=(), sizes_kib=None):
        self.groups = {name: frozenset(nodes) for name in
                       threads or {'emulator': 3, 'vcpu0': 1, 'vcpu1': 1}}
        self.threads = threads or {'emulator': 3, 'vcpu0': 1, 'vcpu1': 1}
        self.mappings = [
            Mapping(0x7f0000000000 - number * (1 << 32),
                    node if policy else None, frozenset(nodes),
                    [node] * pages, page_kib, file,
                    sizes_kib[number] if sizes_kib else 0)
            for number, node in enumerate(nodes)]
        #: lines of other mappings: (maps, numa_maps)
        self.extra = list(extra)
        self.pinned = set()
        self.said = {'devices': [], 'pinned_kib': 0,
                     'realtime_is_unlimited': False, 'spinning': []}
        self.is_gone = False

    @property
    def cells_kib(self):
        return [len(each.pages) * each.page_kib for each in self.mappings]

    def where(self):
        """For each cell the nodes of its pages."""
        return [{page for page in each.pages if page is not None}
                for each in self.mappings]

    def bound(self):
        return [each.policy for each in self.mappings]

    def fault(self, cell, page, group='vcpu0'):
        """A thread touches a page for the first time."""
        mapping = self.mappings[cell]
        if mapping.pages[page] is None:
            allowed = self.groups[group]
            # A policy that allows nothing is not obeyed (policy_nodemask).
            mapping.pages[page] = (
                mapping.policy if mapping.policy in allowed
                else min(allowed))


class Kernel:
    """The functions of kongming.kernel.numa.

    :ivar nodes: of the host
    :ivar free: node -> pages that are free; any number where it isn't
        there
    :ivar before: called with the name of a call, before each that changes
        something, and in the middle of it
    """

    def __init__(self, nodes, processes):
        self.nodes = frozenset(nodes)
        self.processes = processes
        self.free = {}
        self.before = lambda what: None
        self.calls = []

    def _of(self, pid):
        found = self.processes.get(pid)
        if found is None or found.is_gone:
            raise FileNotFoundError(errno.ENOENT, 'No such file', f'/{pid}')
        return found

    def texts(self, pid):
        process = self._of(pid)
        maps, numa_maps = [], []
        for each in process.mappings:
            last = each.first + 1024 * (
                each.size_kib or len(each.pages) * each.page_kib)
            maps.append(f'{each.first:x}-{last:x} rw-p 00000000 00:00 0 '
                        f'{each.file}')
            counts = {node: each.pages.count(node)
                      for node in sorted(set(each.pages) - {None})}
            policy = ('default' if each.policy is None
                      else f'bind:{each.policy}')
            numa_maps.append(' '.join(filter(None, (
                f'{each.first:x}', policy,
                each.file and f'file={each.file}',
                'huge' * (each.page_kib > 4),
                f'anon={sum(counts.values())}',
                *(f'N{node}={count}' for node, count in counts.items()),
                f'kernelpagesize_kB={each.page_kib}'))))
        for one, other in process.extra:
            maps.append(one)
            numa_maps.append(other)
        return ['\n'.join(maps), '\n'.join(numa_maps),
                {name: _text(nodes)
                 for name, nodes in process.groups.items()}]

    def groups(self, pid):
        return dict(self._of(pid).groups)

    def in_the_way(self, pid):
        process = self._of(pid)
        return {**process.said, 'nodes': _text(self.nodes),
                'groups': {name: _text(nodes)
                           for name, nodes in process.groups.items()}}

    def set_mems(self, pid, nodes, only=''):
        process = self._of(pid)
        if not frozenset(nodes) <= self.nodes:
            raise exception.CgroupError(f'{nodes}: Invalid argument')
        for name in sorted(process.groups):
            if only and name != only:
                continue
            old, new = process.groups[name], frozenset(nodes)
            if old == new:
                continue
            self.before(f'set_mems {name}')
            self.calls.append(('set_mems', name, new))
            process.groups[name] = new
            # Once for each thread (cpuset.c, update_tasks_nodemask).
            for _thread in range(process.threads[name]):
                for mapping in process.mappings:
                    if mapping.policy is not None and not mapping.is_memfd:
                        mapping.policy = order.remap(
                            mapping.policy, mapping.bound_in, new)
                        mapping.bound_in = new
                self._migrate(process, old, new)

    def _migrate(self, process, old, new):
        """mm/mempolicy.c, do_migrate_pages."""
        left = set(old)
        while left:
            found = None
            for node in sorted(left):
                if len(old) != len(new) and node in new:
                    continue
                target = order.remap(node, old, new)
                if target == node:
                    continue
                found = node, target
                if target not in left:
                    break
            if found is None:
                return
            left.discard(found[0])
            for mapping in process.mappings:
                self._take(process, mapping, range(len(mapping.pages)),
                           {found[0]}, found[1])

    def _take(self, process, mapping, pages, sources, node):
        for page in pages:
            if mapping.pages[page] not in sources or (
                    mapping.first, page) in process.pinned:
                continue
            if node in self.free:
                if not self.free[node]:
                    continue
                self.free[node] -= 1
            mapping.pages[page] = node

    def migrate_pages(self, pid, sources, node):
        process = self._of(pid)
        for number, mapping in enumerate(process.mappings):
            # A guest goes on while its pages move.
            self.before(f'migrate_pages {number}')
            self._take(process, mapping, range(len(mapping.pages)),
                       set(sources), node)
        self.calls.append(('migrate_pages', frozenset(sources), node))
        return 0

    def move_slice(self, pid, first, size_kib, page_kib, node):
        process = self._of(pid)
        if node not in process.groups['emulator']:
            raise OSError(errno.EACCES, 'Permission denied')
        self.before('move_slice')
        self.calls.append(('move_slice', node))
        for mapping in process.mappings:
            begin = (first - mapping.first) // 1024 // mapping.page_kib
            if first < mapping.first:
                continue
            if mapping.size_kib and len(mapping.pages) <= begin < (
                    mapping.size_kib // mapping.page_kib):
                return [0, 0]
            if 0 <= begin < len(mapping.pages):
                pages = range(begin, min(begin + size_kib // page_kib,
                                         len(mapping.pages)))
                self._take(process, mapping, pages, self.nodes - {node}, node)
                found = [mapping.pages[page] for page in pages]
                return [page_kib * found.count(node), page_kib * sum(
                    at is not None for at in found)]
        raise AssertionError(f'{first:#x} is in no mapping')
