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

import operator
import typing

from kongming.host import usage
from kongming.template import guest
from nova.objects import fields

_PINNED = (fields.CPUAllocationPolicy.DEDICATED,
           fields.CPUAllocationPolicy.MIXED)
_ISOLATE = fields.CPUEmulatorThreadsPolicy.ISOLATE
_NOTHING: frozenset[int] = frozenset()
_NO_L3: dict[int, int] = {}
_NO_CACHES = usage.CacheCapacity()


def host_state(topology, owners=usage.NOBODY, never=usage.NO_PCPUS,
               l3=_NO_L3, caches=None):
    """What is to be had of a host.

    :param topology: nova.objects.NUMATopology, usage included
    :param owners: pCPU -> name of its owner, where the caller knows it
    :param never: pCPUs that no template may have; of this host, see
        :func:`nova_ext.limits.host_state`
    :param l3: pCPU -> number of its L3 cache
    :param caches: node -> kongming.host.usage.CacheCapacity that is free
    :returns: kongming.host.usage.HostState
    """
    return usage.HostState(
        [_Node(cell, owners, never, l3, caches) for cell in topology.cells])


def inconsistency(topology):
    """Why a host's topology can't be true, or None.

    Linux with ``numa=fake`` lists every CPU in each node.  A pCPU of two
    nodes would be counted twice, so it could have two owners.

    :param topology: nova.objects.NUMATopology
    """
    nodes: list[tuple[int, set[int]]] = []
    for cell in topology.cells:
        # A plain set: Nova's own checks each element at each operation, which
        # would be most of what the filter does.
        pcpus = set().union(cell.cpuset, cell.pcpuset)
        for node, others in nodes:
            if not others.isdisjoint(pcpus):
                return (f'pCPU {min(others & pcpus)} is on node {node} and '
                        f'on node {cell.id}, so no template is obeyed there')
        nodes.append((cell.id, pcpus))
    return None


class _Node(usage.NodeState):
    """A NUMACell, read as far as somebody asks.

    Reading a field of a versioned object costs as much as a good part of a
    fit, and of most hosts few fields are asked for.
    """

    def __init__(self, cell, owners, never, l3, caches):
        self._cell = cell
        self.id = cell.id
        self.dedicated = cell.pcpuset
        self.taken = cell.pinned_cpus
        self.never = never
        self.free = self.dedicated - self.taken
        if never:
            self.free -= never
        self.n_free = len(self.free)
        self.owners = owners
        # Of a part of them it would be known only which are apart.
        self.l3 = l3 if l3 and l3.keys() >= self.dedicated else _NO_L3
        if caches is not None:
            self.cache_capacity = caches.get(self.id, _NO_CACHES)

    @property
    def siblings(self):  # type: ignore[override]
        return self._cell.siblings

    def __getattr__(self, name):
        # Called for what is not there yet, once each.
        value = _READ[name](self._cell)
        setattr(self, name, value)
        return value


def _pages_of(pages):
    try:
        reserved = pages.reserved
    except NotImplementedError:
        # Not set: as nova.objects.NUMAPagesTopology.free has it.
        reserved = 0
    return usage.Pages(pages.size_kb, pages.total,
                       pages.total - pages.used - reserved)


def _smallest(cell):
    found = cell.mempages
    if len(found) == 1:
        return _pages_of(found[0])
    return _pages_of(min(found, key=_size)) if found else None


_size = operator.attrgetter('size_kb')

_READ: dict[str, typing.Callable[..., typing.Any]] = {
    'shared': operator.attrgetter('cpuset'),
    'memory_mib': operator.attrgetter('memory'),
    'memory_used_mib': operator.attrgetter('memory_usage'),
    'shared_used': operator.attrgetter('cpu_usage'),
    'pages': lambda cell: [_pages_of(pages) for pages in cell.mempages],
    'smallest': _smallest,
}


def guest_of(topology):
    """What a server asks for.

    :param topology: nova.objects.InstanceNUMATopology, claimed or not; None
        for a server that Nova gives none
    :returns: kongming.template.guest.Guest, with no cells in the last case
    """
    if topology is None:
        return guest.Guest(())
    nova_cells = topology.cells
    cells = []
    for cell in nova_cells:
        cells.append(guest.Cell(
            frozenset(cell.pcpuset) if cell.cpu_policy in _PINNED
            else _NOTHING, frozenset(cell.cpuset), cell.memory,
            cell.pagesize))
    try:
        emulator = topology.emulator_threads_policy
    except NotImplementedError:
        emulator = None  # not set
    return guest.Guest(tuple(cells), nova_cells[0].cpu_thread_policy,
                       emulator == _ISOLATE)
