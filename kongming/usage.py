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

"""What is still to be had of a host.

Sets of pCPUs are taken as they come, from Nova's objects or from Placement,
and worked out only where a question needs them: a scheduler asks this of
every host.
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import functools
import operator
import types
from typing import NamedTuple

PcpuSet = set[int] | frozenset[int]
#: pCPUs of which nobody is known to be the owner.
NOBODY: Mapping[int, str] = types.MappingProxyType({})


class Pages(NamedTuple):
    """A node's pages of one size, counts in pages."""

    size_kib: int
    total: int
    free: int


class NodeState:
    """A host node and what is left of it.

    :ivar dedicated: pCPUs of the node in ``cpu_dedicated_set``
    :ivar taken: those of them that somebody owns
    :ivar free: those of them that nobody owns; ``n_free`` of them
    :ivar shared: pCPUs of the node in ``cpu_shared_set``
    :ivar siblings: sibling sets of all these, in any order; an offline pCPU
        may stand for itself with an empty one
    :ivar memory_mib: all memory of the node, MiB
    :ivar memory_used_mib: what servers were given of it, MiB
    :ivar pages: by size; empty where the host tells none
    :ivar smallest: of these the one with the smallest size, or None
    :ivar shared_used: shared vCPUs on the node
    :ivar owners: pCPU -> a name for its owner, as far as known
    :ivar l3: pCPU -> number of its L3 cache, as far as known
    """

    id: int
    dedicated: PcpuSet
    taken: PcpuSet
    free: PcpuSet
    n_free: int
    shared: PcpuSet
    siblings: Sequence[PcpuSet]
    memory_mib: int
    memory_used_mib: int
    pages: Sequence[Pages]
    smallest: Pages | None
    shared_used: int
    owners: Mapping[int, str]
    l3: Mapping[int, int]

    def __init__(self, id: int, dedicated: PcpuSet,
                 taken: PcpuSet = frozenset(), *,
                 shared: PcpuSet = frozenset(),
                 siblings: Iterable[Collection[int]] = (),
                 memory_mib: int = 0, memory_used_mib: int = 0,
                 pages: Sequence[Pages] = (), shared_used: int = 0,
                 owners: Mapping[int, str] = NOBODY,
                 l3: Mapping[int, int] | None = None) -> None:
        self.id = id
        self.dedicated = dedicated
        self.taken = taken
        self.free = dedicated - taken
        self.n_free = len(self.free)
        self.shared = shared
        self.siblings = [frozenset(core) for core in siblings]
        self.memory_mib = memory_mib
        self.memory_used_mib = memory_used_mib
        self.pages = pages
        self.smallest = min(pages, default=None)
        self.shared_used = shared_used
        self.owners = owners
        self.l3 = l3 or {}

    def cores(self) -> list[tuple[int, ...]]:
        """Cores in counting order, see :class:`kongming.topology.Node`."""
        return sorted(tuple(sorted(core)) for core in self.siblings if core)

    def emptied(self) -> NodeState:
        """The same node with nothing taken of it."""
        return NodeState(
            self.id, self.dedicated, shared=self.shared,
            siblings=self.siblings, memory_mib=self.memory_mib, l3=self.l3,
            pages=[Pages(p.size_kib, p.total, p.total) for p in self.pages])


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

    def emptied(self) -> HostState:
        """The same host with nothing taken of it."""
        return HostState(node.emptied() for node in self.nodes)

    @functools.cached_property
    def shared(self) -> frozenset[int]:
        """``cpu_shared_set`` of the whole host."""
        return frozenset().union(*(node.shared for node in self.nodes))


class Limits(NamedTuple):
    """How far shared vCPUs and their memory may overcommit a node."""

    cpu_allocation_ratio: float = 1.0
    ram_allocation_ratio: float = 1.0
