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

"""Usage of a host, and what of it is still free.

Sets of pCPUs are taken as they come, from Nova's objects or from Placement,
and worked out only where a question needs them: a scheduler asks this of
every host.
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import copy
import functools
import operator
import types
from typing import NamedTuple

from kongming.host import topology

PcpuSet = set[int] | frozenset[int]
#: pCPUs of which nobody is known to be the owner.
NOBODY: Mapping[int, str] = types.MappingProxyType({})
NO_PAGES: Mapping[tuple[int, int], int] = types.MappingProxyType({})
NO_PCPUS: frozenset[int] = frozenset()


class Pages(NamedTuple):
    """A node's pages of one size, counts in pages."""

    size_kib: int
    total: int
    free: int


class CacheClaim(NamedTuple):
    """What one guest cell claims of caches and memory bandwidth.

    :ivar closids: how many CLOSIDs
    :ivar l3: per cent of the L3 cache
    :ivar mb: whether memory bandwidth is limited
    """

    closids: int = 0
    l3: int = 0
    mb: bool = False


class CacheCapacity(NamedTuple):
    """What a node has of caches and memory bandwidth for servers.

    :ivar closids: how many CLOSIDs
    :ivar l3: per cent of its L3 cache that are set aside
    :ivar least: the least per cent that are a whole way
    :ivar mb: whether memory bandwidth can be limited
    """

    closids: int = 0
    l3: int = 0
    least: int = 1
    mb: bool = False


class NodeState:
    """A host node and what is left of it.

    :ivar dedicated: pCPUs of the node in ``cpu_dedicated_set``
    :ivar taken: those of them that somebody owns
    :ivar free: those of them that a template can have: that nobody owns and
        that are not in ``never``; ``n_free`` of them
    :ivar shared: pCPUs of the node in ``cpu_shared_set``
    :ivar never: pCPUs of the host that are never given to a server with a
        template, ``[kongming] never_pcpus``
    :ivar siblings: sibling sets of all these, in any order; an offline pCPU
        may stand for itself with an empty one
    :ivar memory_mib: all memory of the node, MiB
    :ivar memory_used_mib: what servers were given of it, MiB
    :ivar pages: by size; empty where the host reports none
    :ivar smallest: of these the one with the smallest size, or None
    :ivar shared_used: shared vCPUs on the node
    :ivar owners: pCPU -> a name for its owner, as far as known
    :ivar l3: pCPU -> number of its L3 cache, as far as known
    :ivar cache_capacity: what is left of caches and memory bandwidth; None:
        not known
    :ivar unpowered: pCPUs that have no power, where somebody has asked
    """

    unpowered: PcpuSet = NO_PCPUS
    id: int
    dedicated: PcpuSet
    taken: PcpuSet
    free: PcpuSet
    n_free: int
    shared: PcpuSet
    never: PcpuSet
    siblings: Sequence[PcpuSet]
    memory_mib: int
    memory_used_mib: int
    pages: Sequence[Pages]
    smallest: Pages | None
    shared_used: int
    owners: Mapping[int, str]
    l3: Mapping[int, int]
    cache_capacity: CacheCapacity | None = None

    def __init__(self, id: int, dedicated: PcpuSet,
                 taken: PcpuSet = frozenset(), *,
                 shared: PcpuSet = frozenset(),
                 siblings: Iterable[Collection[int]] = (),
                 memory_mib: int = 0, memory_used_mib: int = 0,
                 pages: Sequence[Pages] = (), shared_used: int = 0,
                 owners: Mapping[int, str] = NOBODY,
                 l3: Mapping[int, int] | None = None,
                 never: PcpuSet = NO_PCPUS) -> None:
        self.id = id
        self.dedicated = dedicated
        self.taken = taken
        self.free = dedicated - taken - never
        self.n_free = len(self.free)
        self.shared = shared
        self.never = never
        self.siblings = [frozenset(core) for core in siblings]
        self.memory_mib = memory_mib
        self.memory_used_mib = memory_used_mib
        self.pages = pages
        self.smallest = min(pages, default=None)
        self.shared_used = shared_used
        self.owners = owners
        self.l3 = l3 or {}

    @property
    def small_page_kib(self) -> int:
        """The size of the pages that are not huge, in KiB."""
        return (self.smallest.size_kib if self.smallest
                else topology.SMALL_PAGE_KIB)

    def huge_page_kib(self, page_kib: int | None) -> int | None:
        """A page size if pages of it are huge on this node, else None."""
        return (page_kib if page_kib and page_kib > self.small_page_kib
                else None)

    def cores(self) -> list[tuple[int, ...]]:
        """Cores in counting order.

        See :class:`kongming.host.topology.Node`.
        """
        return sorted(tuple(sorted(core)) for core in self.siblings if core)

    def offline(self) -> frozenset[int]:
        """pCPUs that Nova may use once they are online.

        Of such a one the host reports no siblings; where it reports none at
        all, none is known to be offline.
        """
        known = frozenset[int]().union(*self.siblings)
        return frozenset(self.dedicated | self.shared) - known if (
            known) else known

    def holding(self, taken: PcpuSet, *, memory_mib: int = 0,
                page_kib: int | None = None, shared: int = 0,
                claim: CacheClaim | None = None) -> NodeState:
        """The same node with these pCPUs owned, and no others.

        :param memory_mib: memory of a guest cell that comes on top
        :param page_kib: the size of its pages
        :param shared: how many shared vCPUs it has
        :param claim: what it claims of caches
        """
        capacity = self.cache_capacity
        if capacity is not None and claim is not None:
            capacity = capacity._replace(
                closids=capacity.closids - claim.closids,
                l3=capacity.l3 - claim.l3)
        pages = [
            page._replace(free=page.free - memory_mib * 1024 // page.size_kib)
            if page.size_kib == page_kib else page for page in self.pages]
        node = NodeState(
            self.id, self.dedicated, taken, shared=self.shared,
            siblings=self.siblings,
            memory_mib=self.memory_mib,
            memory_used_mib=self.memory_used_mib + memory_mib, pages=pages,
            shared_used=self.shared_used + shared, owners=self.owners,
            l3=self.l3, never=self.never)
        node.cache_capacity = capacity
        return node

    def emptied(self) -> NodeState:
        """The same node with nothing taken of it."""
        return NodeState(
            self.id, self.dedicated, shared=self.shared,
            siblings=self.siblings, memory_mib=self.memory_mib, l3=self.l3,
            pages=[Pages(p.size_kib, p.total, p.total) for p in self.pages],
            never=self.never)


_BY_ID = operator.attrgetter('id')


class HostState:
    """The nodes of one host, ascending by id."""

    def __init__(self, nodes: Iterable[NodeState]) -> None:
        self.nodes = sorted(nodes, key=_BY_ID)

    def node_ids(self) -> list[int]:
        return [node.id for node in self.nodes]

    def node(self, node_id: int) -> NodeState | None:
        for node in self.nodes:
            if node.id == node_id:
                return node
        return None

    def cores_on(self, node_id: int) -> list[tuple[int, ...]] | None:
        """The node's cores in counting order; None for no such node."""
        node = self.node(node_id)
        return None if node is None else node.cores()

    def named(self, owners: Mapping[int, str]) -> HostState:
        """The same host with names for more owners."""
        nodes = [copy.copy(node) for node in self.nodes]
        for node in nodes:
            node.owners = {**owners, **node.owners}
        return HostState(nodes)

    def without_power(self, pcpus: PcpuSet) -> HostState:
        """The same host with pCPUs of which it is said that they are off."""
        nodes = [copy.copy(node) for node in self.nodes]
        for node in nodes:
            node.unpowered = pcpus & node.dedicated
        return HostState(nodes)

    def emptied(self) -> HostState:
        """The same host with nothing taken of it."""
        return HostState(node.emptied() for node in self.nodes)

    @functools.cached_property
    def shared(self) -> frozenset[int]:
        """What a template can float over: ``cpu_shared_set`` of the whole
        host but for ``never``.
        """
        return frozenset().union(*(node.shared for node in self.nodes)
                                 ) - self.never

    @functools.cached_property
    def never(self) -> frozenset[int]:
        """``[kongming] never_pcpus`` of the whole host."""
        return frozenset().union(*(node.never for node in self.nodes))


def of_host(host: topology.Host, dedicated: PcpuSet | None,
            shared: PcpuSet | None,
            reserved_pages: Mapping[tuple[int, int], int] = NO_PAGES,
            never: PcpuSet = NO_PCPUS) -> HostState:
    """A host with nothing in use, as Nova sees it by its options.

    :param dedicated: ``cpu_dedicated_set``, None where it is not set
    :param shared: ``cpu_shared_set``; where neither is set every pCPU is both
        (nova/virt/libvirt/driver.py, _get_host_numa_topology)
    :param reserved_pages: (node, page size in KiB) -> pages that Nova may not
        give out, as ``reserved_huge_pages`` says
    :param never: pCPUs that no template may have
    """
    if dedicated is None and shared is None:
        dedicated = shared = host.pcpus
    dedicated, shared = dedicated or frozenset(), shared or frozenset()
    return HostState(
        NodeState(
            node.id, node.pcpus & dedicated, shared=node.pcpus & shared,
            siblings=[core.pcpus for core in node.cores],
            memory_mib=node.memory_mib,
            l3={pcpu: core.l3 for core in node.cores
                for pcpu in core.pcpus if core.l3 is not None},
            pages=[Pages(size, total, total - min(
                total, reserved_pages.get((node.id, size), 0)))
                for size, total in sorted(node.pages.items())],
            never=never)
        for node in host.restricted_to(dedicated | shared).nodes)


class Limits(NamedTuple):
    """How far shared vCPUs and their memory may overcommit a node."""

    cpu_allocation_ratio: float = 1.0
    ram_allocation_ratio: float = 1.0
