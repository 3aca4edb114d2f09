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

"""What a host is made of: nodes, cores, pCPUs, pages, distances.

Values only. A :class:`Host` comes from libvirt's capabilities document
(:func:`kongming.host.capabilities.parse`) or is put together by whoever knows
the host by other means, as ``nova_ext`` does from Nova's own objects.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping
import dataclasses
import functools
import types

from kongming import exception

#: Size of a page that is not huge where the host reports none, in KiB.  It is
#: 64 on POWER and on some ARM hosts.
SMALL_PAGE_KIB = 4


@dataclasses.dataclass(frozen=True, order=True)
class Core:
    """The sibling pCPUs of one physical core, ascending."""

    pcpus: tuple[int, ...]
    socket: int | None = None
    l3: int | None = None


@dataclasses.dataclass(frozen=True)
class Node:
    """A host NUMA node.

    :ivar id: the number that the kernel gives the node; there may be gaps
    :ivar cores: ordered by their lowest pCPU, so that the n-th core is the
        same one for whoever asks
    :ivar memory_mib: all memory of the node in MiB, huge pages included;
        0 for a node that has CPUs only
    :ivar pages: page size in KiB -> number of pages
    :ivar distances: node id -> ACPI SLIT distance; 10 is the node itself
    :ivar offline: pCPUs of the node that the kernel has taken offline; they
        are in no core
    """

    id: int
    cores: tuple[Core, ...] = ()
    memory_mib: int = 0
    pages: Mapping[int, int] = dataclasses.field(
        default_factory=lambda: types.MappingProxyType({}))
    distances: Mapping[int, int] = dataclasses.field(
        default_factory=lambda: types.MappingProxyType({}))
    offline: frozenset[int] = frozenset()

    @functools.cached_property
    def pcpus(self) -> frozenset[int]:
        return frozenset(p for core in self.cores for p in core.pcpus)


@dataclasses.dataclass(frozen=True)
class Host:
    """A host's nodes, ascending by id."""

    nodes: tuple[Node, ...]

    def __post_init__(self) -> None:
        seen: dict[int, int] = {}
        for node in self.nodes:
            for pcpu in node.pcpus | node.offline:
                if pcpu in seen:
                    raise exception.InvalidTopology(
                        reason=f'pCPU {pcpu} is on node {seen[pcpu]} and on '
                               f'node {node.id}')
                seen[pcpu] = node.id

    @functools.cached_property
    def _by_id(self) -> dict[int, Node]:
        return {node.id: node for node in self.nodes}

    @functools.cached_property
    def _node_of(self) -> dict[int, Node]:
        return {p: node for node in self.nodes for p in node.pcpus}

    @functools.cached_property
    def pcpus(self) -> frozenset[int]:
        return frozenset(self._node_of)

    def node(self, node_id: int) -> Node | None:
        return self._by_id.get(node_id)

    def node_of(self, pcpu: int) -> Node | None:
        """The node that an online pCPU is on."""
        return self._node_of.get(pcpu)

    def node_ids(self) -> tuple[int, ...]:
        return tuple(node.id for node in self.nodes)

    def cores_on(self, node_id: int) -> tuple[tuple[int, ...], ...] | None:
        """The node's cores as pCPU tuples; None for no such node."""
        node = self.node(node_id)
        return None if node is None else tuple(
            core.pcpus for core in node.cores)

    @functools.cached_property
    def _core_of(self) -> dict[int, Core]:
        return {p: core for node in self.nodes
                for core in node.cores for p in core.pcpus}

    def core_of(self, pcpu: int) -> Core | None:
        return self._core_of.get(pcpu)

    def restricted_to(self, pcpus: Iterable[int]) -> Host:
        """The same host as seen by someone who may use these pCPUs only.

        Relative addresses count over such a host: Nova knows no other pCPUs
        than those of ``cpu_dedicated_set`` and ``cpu_shared_set``.
        """
        remaining = frozenset(pcpus)
        return Host(tuple(
            dataclasses.replace(node, cores=order_cores(
                dataclasses.replace(core, pcpus=left)
                for core in node.cores
                if (left := tuple(p for p in core.pcpus if p in remaining))),
                offline=node.offline & remaining)
            for node in self.nodes))


def order_cores(cores: Iterable[Core]) -> tuple[Core, ...]:
    """Cores in the order that relative addresses count them in."""
    return tuple(sorted(cores, key=lambda core: core.pcpus))


def parse_cpu_list(text: str) -> frozenset[int]:
    """``'0-3,8'`` as the kernel and libvirt write it.

    :raises ValueError: if it is not such a list
    """
    found: set[int] = set()
    for part in text.strip().split(','):
        low, dash, high = part.partition('-')
        first = int(low)
        last = int(high) if dash else first
        if last < first:
            raise ValueError(f'the range {part} runs backwards')
        found.update(range(first, last + 1))
    return frozenset(found)


def format_cpu_list(pcpus: Iterable[int]) -> str:
    """The inverse of :func:`parse_cpu_list`, in its shortest form."""
    runs: list[list[int]] = []
    for pcpu in sorted(set(pcpus)):
        if runs and pcpu == runs[-1][1] + 1:
            runs[-1][1] = pcpu
        else:
            runs.append([pcpu, pcpu])
    return ','.join(str(a) if a == b else f'{a}-{b}' for a, b in runs)
