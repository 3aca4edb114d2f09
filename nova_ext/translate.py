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
        [_Node(cell, owners, never, l3, caches)
         for cell in _cells(topology)])


def inconsistency(topology):
    """Why a host's topology can't be true, or None.

    Linux with ``numa=fake`` lists every CPU in each node.  A pCPU of two
    nodes would be counted twice, so it could have two owners.

    :param topology: nova.objects.NUMATopology
    """
    nodes: list[tuple[int, set[int]]] = []
    for cell in _cells(topology):
        # A plain set: Nova's own checks each element at each operation, which
        # would be most of what the filter does.
        pcpus = set().union(cell.cpuset, cell.pcpuset)
        for node, others in nodes:
            if not others.isdisjoint(pcpus):
                return (f'pCPU {min(others & pcpus)} is on node {node} and '
                        f'on node {cell.id}, so no template is obeyed there')
        nodes.append((cell.id, pcpus))
    return None


def _reader(*names):
    """A function that reads these fields of a versioned object.

    The property of a field costs ten times what its value costs, and a
    scheduler reads several of each node of each host.  So the value is read
    where oslo.versionedobjects keeps it (oslo_versionedobjects/base.py,
    _get_attrname).  If it is not there, the property decides.
    """
    stored = operator.attrgetter(*(f'_obj_{name}' for name in names))
    public = operator.attrgetter(*names)

    def read(obj):
        try:
            return stored(obj)
        except AttributeError:
            return public(obj)

    return read


_cells = _reader('cells')
_of_node = _reader('id', 'pcpuset', 'pinned_cpus', 'siblings', 'mempages')
_asked = _reader('pcpuset', 'cpuset', 'cpu_policy', 'memory', 'pagesize')
_of_pages = _reader('size_kb', 'total', 'used', 'reserved')


class _Node(usage.NodeState):
    """A NUMACell, read as far as somebody asks.

    Reading a field of a versioned object costs as much as a good part of a
    fit, and of most hosts few fields are asked for.
    """

    never = usage.NO_PCPUS
    l3 = _NO_L3
    _free: usage.PcpuSet | None = None

    def __init__(self, cell, owners, never, l3, caches):
        self._cell = cell
        self.owners = owners
        (self.id, dedicated, taken, self.siblings,
         self._mempages) = _of_node(cell)
        self.dedicated = dedicated
        self.taken = taken
        if never:
            self.never = never
            self.n_free = len(self.free)
        else:
            # What is pinned is of pcpuset (nova/objects/numa.py, pin_cpus).
            self.n_free = len(dedicated) - len(taken)
        # Of a part of them it would be known only which are apart.
        if l3 and l3.keys() >= dedicated:
            self.l3 = l3
        if caches is not None:
            self.cache_capacity = caches.get(self.id, _NO_CACHES)

    # No __getattr__ that would remember them: it would slow down each read of
    # each attribute.

    @property
    def free(self):  # type: ignore[override]
        found = self._free
        if found is None:
            found = self.dedicated - self.taken
            if self.never:
                found -= self.never
            self._free = found
        return found

    @property
    def shared(self):  # type: ignore[override]
        return self._cell.cpuset

    @property
    def shared_used(self):  # type: ignore[override]
        return self._cell.cpu_usage

    @property
    def memory_mib(self):  # type: ignore[override]
        return self._cell.memory

    @property
    def memory_used_mib(self):  # type: ignore[override]
        return self._cell.memory_usage

    @property
    def pages(self):  # type: ignore[override]
        return [_pages_of(pages) for pages in self._mempages]

    @property
    def smallest(self):  # type: ignore[override]
        found = self._mempages
        if len(found) == 1:
            return _pages_of(found[0])
        return _pages_of(min(found, key=_size)) if found else None


def _pages_of(pages):
    try:
        size, total, used, reserved = _of_pages(pages)
    except NotImplementedError:
        # Not set: as nova.objects.NUMAPagesTopology.free has it.
        return usage.Pages(pages.size_kb, pages.total,
                           pages.total - pages.used)
    return usage.Pages(size, total, total - used - reserved)


_size = operator.attrgetter('size_kb')


def guest_of(topology):
    """What a server asks for.

    :param topology: nova.objects.InstanceNUMATopology, claimed or not; None
        for a server that Nova gives none
    :returns: kongming.template.guest.Guest, with no cells in the last case
    """
    if topology is None:
        return guest.Guest(())
    nova_cells = _cells(topology)
    cells = []
    for cell in nova_cells:
        dedicated, shared, policy, memory, page = _asked(cell)
        cells.append(guest.Cell(
            frozenset(dedicated) if policy in _PINNED else _NOTHING,
            frozenset(shared), memory, page))
    try:
        emulator = topology.emulator_threads_policy
    except NotImplementedError:
        emulator = None  # not set
    return guest.Guest(tuple(cells), nova_cells[0].cpu_thread_policy,
                       emulator == _ISOLATE)
