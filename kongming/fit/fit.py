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

"""Where a server's cells and vCPUs go on one host, or why they don't.

Cells go to nodes by a matching, never by trying permutations.  Whether a cell
fits on a node is a question of that cell and that node alone, since two cells
never share a node; so an answer is found whenever there is one, in polynomial
time.

Nova's rules for what a cell may have of a node are those of
``nova/virt/hardware.py`` (``_numa_fit_instance_cell``): KongMing decides
*which*, Nova decides *what kind*, and a fit that Nova would refuse is none.
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import operator
import types
from typing import NamedTuple

from kongming.fit import demand as demand_mod
from kongming.fit import matching
from kongming.fit import packing
from kongming.host import topology
from kongming.host import usage
from kongming.template import grammar
from kongming.template import guest as guest_mod

Unfit = packing.Unfit


class CellAssignment(NamedTuple):
    """Where one cell goes.

    :ivar node: host node id
    :ivar pins: dedicated vCPU -> the pCPU that it owns
    :ivar reserved: pCPUs owned for the emulator threads
    :ivar page_kib: the page size that was chosen, where one was asked for
    :ivar floats: shared vCPU -> pCPUs, where the template says so
    """

    node: int
    pins: Mapping[int, int]
    reserved: frozenset[int] = frozenset()
    page_kib: int | None = None
    floats: Mapping[int, frozenset[int]] = types.MappingProxyType({})


class Assignment(NamedTuple):
    """A fit: one entry a cell, in the order of the cells.  True."""

    cells: tuple[CellAssignment, ...]

    def __str__(self) -> str:
        return '; '.join(
            f'cell {number} on node {cell.node}'
            + (': ' + ' '.join(grammar.format_pins(cell.pins))
               if cell.pins else '')
            for number, cell in enumerate(self.cells))


class Reason(NamedTuple):
    """One thing in the way.

    :ivar kind: see :class:`kongming.fit.packing.Unfit`, or ``cells``, or
        ``nova`` (:mod:`kongming.fit.nova_fitter`)
    :ivar cell: the guest cell that is concerned, if one is
    :ivar node: the host node that is concerned, if one is
    :ivar pcpus: the pCPUs that are concerned
    """

    kind: str
    text: str
    cell: int | None = None
    node: int | None = None
    pcpus: tuple[int, ...] = ()

    def __str__(self) -> str:
        return (self.text if self.node is None
                else f'node {self.node}: {self.text}')


@dataclasses.dataclass(frozen=True)
class Refusal:
    """No fit, and why."""

    reasons: tuple[Reason, ...]

    def __bool__(self) -> bool:
        return False

    @property
    def by_nova(self) -> bool:
        """Whether it fits, and only Nova's own fitter refuses it."""
        return any(reason.kind == 'nova' for reason in self.reasons)

    def __str__(self) -> str:
        return '; '.join(map(str, self.reasons))


def fit(host: usage.HostState, demand: demand_mod.Demand, *,
        allowed: Mapping[int, Collection[int]] | None = None,
        limits: usage.Limits | None = None) -> Assignment | Refusal:
    """Place a server on a host by its template.

    :param allowed: cell -> the only nodes it may go to, where something else
        has a say (a device's NUMA affinity)
    :param limits: None leaves overcommit of shared vCPUs unchecked
    """
    if demand.problem:
        return _refusal('template', demand.problem)
    if len(demand.cells) > len(host.nodes):
        return _refusal('cells', f'the server has {len(demand.cells)} NUMA '
                                 f'cells, the host {len(host.nodes)} NUMA '
                                 f'node(s)')
    resolved = demand_mod.NOTHING_NAMED
    if demand.names_pcpus:
        try:
            resolved = demand_mod.resolve(host, demand)
        except Unfit as exc:
            return _refusal(exc.kind, str(exc), exc.pcpus)

    if len(demand.cells) == 1:
        # Nobody else wants a node, so the best one will do.
        cell = demand.cells[0]
        reasons: list[Reason] = []
        for node, page in _options(host, demand, cell, resolved, allowed,
                                   limits, reasons):
            return Assignment((_assign(node, demand, cell, resolved, page),))
        return Refusal(_by_node(reasons))
    options: list[Mapping[int, tuple[usage.NodeState, int | None]]] = []
    ids: list[Sequence[int]] = []
    unconstrained = allowed is None and not resolved.exact
    for cell, like in zip(demand.cells, demand.alike):
        if unconstrained and like < cell.number:
            # Cells that ask for the same are asked about once.
            options.append(options[like])
            ids.append(ids[like])
            continue
        reasons = []
        fits = {node.id: (node, page) for node, page in _options(
            host, demand, cell, resolved, allowed, limits, reasons)}
        if not fits:
            return Refusal(_by_node(reasons))
        options.append(fits)
        ids.append(list(fits))
    chosen = matching.match(ids)
    if isinstance(chosen, matching.Conflict):
        cells = ', '.join(map(str, chosen.cells))
        nodes = topology.format_cpu_list(chosen.nodes)
        return _refusal('cells', f'cells {cells} fit on node(s) {nodes} '
                                 f'only, and each needs a node of its own')
    return Assignment(tuple([
        _assign(fits[number][0], demand, cell, resolved, fits[number][1])
        for cell, fits, number in zip(demand.cells, options, chosen)]))


def _by_node(reasons: list[Reason]) -> tuple[Reason, ...]:
    return tuple(sorted(reasons, key=lambda reason: reason.node or 0))


def _refusal(kind: str, text: str, pcpus: tuple[int, ...] = ()) -> Refusal:
    return Refusal((Reason(kind, text, pcpus=pcpus),))


_NONE: dict[int, int] = {}
_NOBODY: frozenset[int] = frozenset()


# One cell on one node.

def _options(host: usage.HostState, demand: demand_mod.Demand,
             cell: demand_mod.CellDemand, resolved: demand_mod.Resolved,
             allowed: Mapping[int, Collection[int]] | None,
             limits: usage.Limits | None, reasons: list[Reason]) -> Iterator[
                 tuple[usage.NodeState, int | None]]:
    """The nodes that a cell fits on, best first, with the page size there.

    What it leaves of a node is least where least is free now.

    :param reasons: why other nodes are out is added here
    """
    number = cell.number
    exact = resolved.exact[number] if resolved.exact else _NONE
    granted = allowed.get(number) if allowed is not None else None
    nodes = host.nodes if len(host.nodes) == 1 else sorted(
        host.nodes, key=_free if cell.need else _shared_used)
    if cell.node is not None:
        nodes = [node for node in nodes if node.id == cell.node]
        if not nodes:
            ids = topology.format_cpu_list(host.node_ids())
            reasons.append(Reason(
                'node', f'the host has no such node, it has node(s) {ids}',
                number, cell.node))
    counted = cell.counted and granted is None and not exact
    for node in nodes:
        if counted and cell.need <= node.n_free:
            smallest = node.smallest
            if (smallest is not None and cell.memory_mib * 1024
                    <= smallest.free * smallest.size_kib):
                # Most cells are placed here; the checks below would pass.
                yield node, None
                continue
        try:
            if granted is not None and node.id not in granted:
                ids = topology.format_cpu_list(granted) or 'none'
                raise Unfit('granted', f'not among the nodes that are left '
                                       f'to it ({ids})')
            if exact:
                _check_exact(host, node, exact)
            if cell.extra and resolved.emulator is not None:
                _check_exact(host, node, {-1: resolved.emulator})
            if cell.need > node.n_free:
                raise Unfit('count', f'{cell.need} dedicated pCPU(s) asked '
                                     f'for, {node.n_free} of '
                                     f'{len(node.dedicated - node.never)} '
                                     f'free')
            if demand.policy is not None:
                _choose(node, demand, cell, exact, resolved.emulator)
            page = _check_memory(node, cell.cell, limits)
            if cell.cell.shared:
                _check_shared(node, cell.cell, limits)
            if cell.claim is not None and node.cache_capacity is not None:
                _check_cache(node.cache_capacity, cell.claim)
        except Unfit as exc:
            reasons.append(Reason(exc.kind, str(exc), number, node.id,
                                  exc.pcpus))
        else:
            yield node, page


_free = operator.attrgetter('n_free')
_shared_used = operator.attrgetter('shared_used')


def _check_exact(host: usage.HostState, node: usage.NodeState,
                 exact: Mapping[int, int]) -> None:
    free = node.free
    for vcpu, pcpu in exact.items():
        if pcpu in free:
            continue
        if pcpu in node.dedicated:
            raise Unfit('pcpu', f'pCPU {pcpu} is owned by '
                                f'{node.owners.get(pcpu, "another server")}',
                        (pcpu,))
        if pcpu in node.shared:
            raise Unfit('pcpu', f'pCPU {pcpu} is in cpu_shared_set; what is '
                                f'owned is of cpu_dedicated_set', (pcpu,))
        elsewhere = [n.id for n in host.nodes
                     if pcpu in n.dedicated or pcpu in n.shared]
        where = (f'it is on node {elsewhere[0]}' if elsewhere else
                 'Nova may use no such pCPU on this host')
        what = 'the emulator threads' if vcpu < 0 else f'vCPU {vcpu}'
        usable = topology.format_cpu_list(node.dedicated)
        raise Unfit('pcpu', f'pCPU {pcpu} (for {what}) is not here, {where}; '
                            f'dedicated here: {usable or "none"}', (pcpu,))


def _check_memory(node: usage.NodeState, cell: guest_mod.Cell,
                  limits: usage.Limits | None) -> int | None:
    """The page size to use, or None where none was asked for.

    Follows ``_numa_fit_instance_cell`` of Nova: pages of a size are never
    overcommitted, nor is memory beside pinned vCPUs.
    """
    need = cell.memory_mib * 1024
    if cell.page_kib is not None:
        return _choose_page_size(node, cell.page_kib, need)
    smallest = node.smallest
    if smallest is not None:
        have = smallest.free if cell.dedicated else smallest.total
        if need > have * smallest.size_kib:
            raise Unfit('memory',
                        f'{cell.memory_mib} MiB asked for, '
                        f'{have * smallest.size_kib // 1024} MiB free')
    else:
        have = node.memory_mib
        if cell.dedicated:
            have -= node.memory_used_mib
        if cell.memory_mib > have:
            raise Unfit('memory', f'{cell.memory_mib} MiB asked for, {have} '
                                  f'MiB free')
    if cell.shared and limits is not None:
        most = node.memory_mib * limits.ram_allocation_ratio
        if node.memory_used_mib + cell.memory_mib > most:
            raise Unfit(
                'memory',
                f'{cell.memory_mib} MiB asked for, {node.memory_used_mib} of '
                f'{most:.0f} MiB in use (ram_allocation_ratio '
                f'{limits.ram_allocation_ratio:g})')
    return None


def _choose_page_size(node: usage.NodeState, wanted: int,
                      need_kib: int) -> int:
    """As ``_numa_cell_supports_pagesize_request`` of Nova."""
    sizes = sorted(node.pages, reverse=True)
    smallest = node.small_page_kib
    if wanted == -1:
        sizes = [pages for pages in sizes if pages.size_kib == smallest]
    elif wanted == -2:
        sizes = [pages for pages in sizes if pages.size_kib > smallest]
    elif wanted != -3:
        sizes = [pages for pages in sizes if pages.size_kib == wanted]
    for pages in sizes:
        if (need_kib <= pages.free * pages.size_kib
                and need_kib % pages.size_kib == 0):
            return pages.size_kib
    name = {-1: 'small', -2: 'large', -3: 'any size of'}.get(
        wanted, f'{wanted} KiB')
    have = ', '.join(f'{pages.free} of {pages.size_kib} KiB'
                     for pages in sizes) or 'none of that size'
    raise Unfit('pages', f'{need_kib // 1024} MiB asked for in {name} pages; '
                         f'free are {have}')


def _check_shared(node: usage.NodeState, cell: guest_mod.Cell,
                  limits: usage.Limits | None) -> None:
    if len(cell.shared) > len(node.shared):
        raise Unfit('shared', f'{len(cell.shared)} shared vCPUs, the node '
                              f'has {len(node.shared)} pCPU(s) of '
                              f'cpu_shared_set')
    if node.shared <= node.never:
        raise Unfit('never', 'all of cpu_shared_set here is in [kongming] '
                             'never_pcpus')
    if limits is None:
        return
    # Placement tells vCPUs, of which the ratio is worked out again.
    most = round(len(node.shared) * limits.cpu_allocation_ratio, 6)
    if node.shared_used + len(cell.shared) > most:
        raise Unfit('shared', f'{len(cell.shared)} shared vCPUs more than '
                              f'the {node.shared_used} there would exceed '
                              f'{most:g} (cpu_allocation_ratio '
                              f'{limits.cpu_allocation_ratio:g})')


def _check_cache(capacity: usage.CacheCapacity,
                 claim: usage.CacheClaim) -> None:
    if claim.closids > capacity.closids:
        raise Unfit('cache', f'{claim.closids} class(es) of service asked '
                             f'for, {capacity.closids} free')
    if claim.l3 and not capacity.least <= claim.l3 <= capacity.l3:
        raise Unfit('cache', f'{claim.l3}% of the L3 cache asked for, '
                             f'{capacity.l3}% free'
                             + (f', of which {capacity.least}% are the least'
                                if capacity.l3 else ''))
    if claim.mb and not capacity.mb:
        raise Unfit('cache', 'memory bandwidth can not be limited here')


def _choose(node: usage.NodeState, demand: demand_mod.Demand,
            cell: demand_mod.CellDemand, exact: Mapping[int, int],
            emulator: int | None) -> tuple[dict[int, int], frozenset[int]]:
    """pCPUs for a cell on a node on which there are enough."""
    free, vcpus, extra = node.free, cell.vcpus, cell.extra
    rest = [vcpu for vcpu in vcpus if vcpu not in exact]
    reserved: list[int] = []
    if extra and emulator is not None:
        free = free - {emulator}
        reserved, extra = [emulator], 0
    pcpus, more = packing.choose(node, free, set(exact.values()), len(rest),
                                 extra, demand.policy)
    pins = {**exact, **dict(zip(rest, pcpus))}
    return dict(sorted(pins.items())), frozenset(reserved + more)


def _assign(node: usage.NodeState, demand: demand_mod.Demand,
            cell: demand_mod.CellDemand, resolved: demand_mod.Resolved,
            page: int | None) -> CellAssignment:
    if not resolved.exact:
        if demand.policy is None and not cell.extra:
            # Of most servers.
            return CellAssignment(node.id, dict(zip(cell.vcpus, packing.pack(
                node, node.free, len(cell.vcpus)))), _NOBODY, page)
        return CellAssignment(
            node.id, *_choose(node, demand, cell, _NONE, None), page)
    pins, reserved = _choose(node, demand, cell, resolved.exact[cell.number],
                             resolved.emulator)
    return CellAssignment(node.id, pins, reserved, page,
                          resolved.floats[cell.number])
