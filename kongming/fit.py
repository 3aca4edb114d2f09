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

Cells go to nodes by a matching, never by trying permutations; within a node
each question (exact pins, thread policy, memory) is decided for one cell and
one node alone, since two cells never share a node.  So an answer is found
whenever there is one, in polynomial time.

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

from kongming import grammar
from kongming import guest as guest_mod
from kongming import template as template_mod
from kongming import topology


PcpuSet = set[int] | frozenset[int]


@dataclasses.dataclass(frozen=True, slots=True)
class Pages:
    """A node's pages of one size, counts in pages."""

    size_kib: int
    total: int
    free: int


@dataclasses.dataclass(slots=True)
class NodeState:
    """A host node and what is still to be had of it.

    :ivar dedicated: pCPUs of the node in ``cpu_dedicated_set``
    :ivar taken: those of them that somebody owns
    :ivar shared: pCPUs of the node in ``cpu_shared_set``
    :ivar siblings: sibling sets of all these, in any order
    :ivar memory_mib: all memory of the node, MiB
    :ivar memory_used_mib: what servers were given of it, MiB
    :ivar pages: by size; empty where the host tells none
    :ivar shared_used: shared vCPUs running on the node
    :ivar owners: pCPU -> a name for its owner, as far as known
    """

    id: int
    dedicated: PcpuSet
    taken: PcpuSet = frozenset()
    shared: PcpuSet = frozenset()
    siblings: Sequence[Collection[int]] = ()
    memory_mib: int = 0
    memory_used_mib: int = 0
    pages: Sequence[Pages] = ()
    shared_used: int = 0
    owners: Mapping[int, str] = dataclasses.field(default_factory=dict)

    def cores(self) -> list[tuple[int, ...]]:
        """Cores in counting order, see :class:`kongming.topology.Node`."""
        return sorted(tuple(sorted(core)) for core in self.siblings if core)


class HostState:
    """The nodes of one host, ascending by id."""

    def __init__(self, nodes: Collection[NodeState]) -> None:
        self.nodes = sorted(nodes, key=lambda node: node.id)
        self._cores: dict[int, list[tuple[int, ...]]] = {}

    def node_ids(self) -> list[int]:
        return [node.id for node in self.nodes]

    def node(self, node_id: int) -> NodeState | None:
        for node in self.nodes:
            if node.id == node_id:
                return node
        return None

    def emptied(self) -> HostState:
        """The same host with nothing taken of it."""
        return HostState([dataclasses.replace(
            node, taken=frozenset(), memory_used_mib=0, shared_used=0,
            pages=[dataclasses.replace(pages, free=pages.total)
                   for pages in node.pages]) for node in self.nodes])

    def cores_on(self, node_id: int) -> list[tuple[int, ...]] | None:
        if node_id not in self._cores:
            node = self.node(node_id)
            if node is None:
                return None
            self._cores[node_id] = node.cores()
        return self._cores[node_id]


@dataclasses.dataclass(frozen=True)
class Limits:
    """How far shared vCPUs and their memory may overcommit a node."""

    cpu_allocation_ratio: float = 1.0
    ram_allocation_ratio: float = 1.0


@dataclasses.dataclass(frozen=True)
class CellAssignment:
    """Where one cell goes.

    :ivar node: host node id
    :ivar pins: dedicated vCPU -> the pCPU that it owns
    :ivar reserved: pCPUs owned for the emulator threads
    :ivar page_kib: the page size that was chosen, where one was asked for
    """

    node: int
    pins: Mapping[int, int]
    reserved: frozenset[int] = frozenset()
    page_kib: int | None = None

    @property
    def owned(self) -> frozenset[int]:
        return frozenset(self.pins.values()) | self.reserved


@dataclasses.dataclass(frozen=True)
class Assignment:
    """A fit: one entry a cell, in the order of the cells."""

    cells: tuple[CellAssignment, ...]

    def __bool__(self) -> bool:
        return True


@dataclasses.dataclass(frozen=True)
class Refusal:
    """No fit, and why.

    :ivar reasons: sentences a person understands, the most telling first
    """

    reasons: tuple[str, ...]

    def __bool__(self) -> bool:
        return False

    def __str__(self) -> str:
        return '; '.join(self.reasons)


class Unfit(Exception):
    """Why something can't be; becomes a reason."""


def fit(host: HostState, guest: guest_mod.Guest,
        template: template_mod.Template, *,
        allowed: Mapping[int, Collection[int]] | None = None,
        limits: Limits | None = None) -> Assignment | Refusal:
    """Place a server on a host by its template.

    :param allowed: cell -> the only nodes it may go to, where something else
        has a say (a Placement allocation, a device's NUMA affinity)
    :param limits: None leaves overcommit of shared vCPUs unchecked
    """
    if len(guest.cells) > len(host.nodes):
        return Refusal((f'the server has {len(guest.cells)} NUMA cells, the '
                        f'host {len(host.nodes)} NUMA node(s)',))
    try:
        exact = exact_pins(host, guest, template)
    except Unfit as exc:
        return Refusal((str(exc),))

    options: list[dict[int, CellAssignment]] = []
    for number in range(len(guest.cells)):
        fits, reasons = _options(
            host, guest, number, exact[number],
            _candidates(host, template, number, allowed), limits)
        if not fits:
            return Refusal(tuple(reasons))
        options.append(fits)

    chosen = match([list(fits) for fits in options])
    if isinstance(chosen, Conflict):
        cells = ', '.join(map(str, chosen.cells))
        nodes = topology.format_cpu_list(chosen.nodes)
        return Refusal((f'cells {cells} fit on node(s) {nodes} only, and '
                        f'each needs a node of its own',))
    return Assignment(tuple(
        fits[node] for fits, node in zip(options, chosen)))


def check_guest(guest: guest_mod.Guest,
                template: template_mod.Template) -> Iterator[str]:
    """What the template wants of this guest that it hasn't, host or no host.

    Yields nothing where they go together.
    """
    for number in template.cells:
        if number >= len(guest.cells):
            yield (f'cell {number}: the guest has {len(guest.cells)} NUMA '
                   f'cell(s), counted from 0; hw:numa_nodes makes more')
            continue
        cell = guest.cells[number]
        everywhere = sorted(v for c in guest.cells
                            for v in c.dedicated | c.shared)
        for pin in template.pins.get(number, ()):
            for vcpu in pin.vcpu_ids():
                if vcpu not in everywhere:
                    yield (f'cell {number}: vCPU {vcpu} is beyond the '
                           f"flavor's {len(everywhere)} vCPU(s)")
                elif vcpu not in cell.dedicated | cell.shared:
                    mine = topology.format_cpu_list(
                        cell.dedicated | cell.shared)
                    yield (f'cell {number}: vCPU {vcpu} is in another cell; '
                           f'this one has vCPU(s) {mine}')
                elif vcpu not in cell.dedicated and not pin.floats:
                    yield (f'cell {number}: vCPU {vcpu} is not dedicated and '
                           f'can own no pCPU; set hw:cpu_policy to '
                           f'dedicated, or mixed with a mask')
                elif vcpu in cell.dedicated and pin.floats:
                    yield (f'cell {number}: vCPU {vcpu} is dedicated and '
                           f'owns one pCPU; only a shared vCPU floats')


def exact_pins(host: grammar.Layout, guest: guest_mod.Guest,
               template: template_mod.Template) -> list[dict[int, int]]:
    """What the template pins one to one: vCPU -> pCPU for each cell.

    :raises Unfit: where guest or host can't have it at all
    """
    for problem in check_guest(guest, template):
        raise Unfit(problem)
    exact: list[dict[int, int]] = []
    owner: dict[int, int] = {}
    for number in range(len(guest.cells)):
        pins: dict[int, int] = {}
        for pin in template.pins.get(number, ()):
            if pin.floats:
                continue
            try:
                pcpus = grammar.resolve(pin.targets, host)
            except grammar.Unresolvable as exc:
                raise Unfit(f'cell {number}: {exc}') from exc
            for vcpu, pcpu in zip(pin.vcpu_ids(), pcpus):
                if pcpu in owner:
                    raise Unfit(
                        f'cell {number}: vCPUs {owner[pcpu]} and {vcpu} are '
                        f'both pinned to pCPU {pcpu}')
                owner[pcpu] = vcpu
                pins[vcpu] = pcpu
        exact.append(pins)
    return exact


def _candidates(host: HostState, template: template_mod.Template,
                number: int,
                allowed: Mapping[int, Collection[int]] | None) -> list[
                    tuple[int, NodeState | None, str]]:
    """The nodes to try for a cell: (id, state, why none) each."""
    wanted = template.nodes.get(number)
    granted = allowed.get(number) if allowed is not None else None
    if wanted is not None and host.node(wanted) is None:
        return [(wanted, None,
                 f'the host has no such node, it has node(s) '
                 f'{topology.format_cpu_list(host.node_ids())}')]
    result: list[tuple[int, NodeState | None, str]] = []
    for node in host.nodes:
        if wanted is not None and node.id != wanted:
            continue
        if granted is not None and node.id not in granted:
            nodes = topology.format_cpu_list(granted) if granted else 'none'
            result.append((node.id, None,
                           f'not among the nodes granted by Placement '
                           f'({nodes})'))
        else:
            result.append((node.id, node, ''))
    return result


def _options(host: HostState, guest: guest_mod.Guest, number: int,
             exact: Mapping[int, int],
             candidates: Sequence[tuple[int, NodeState | None, str]],
             limits: Limits | None) -> tuple[
                 dict[int, CellAssignment], list[str]]:
    """A cell's fit on each node that can take it, best node first."""
    cell = guest.cells[number]
    extra = 1 if guest.emulator_isolated and number == 0 else 0
    ranked: list[tuple[tuple[int, ...], CellAssignment]] = []
    reasons: list[str] = []
    for node_id, node, why in candidates:
        try:
            if node is None:
                raise Unfit(why)
            _check_exact(host, node, exact)
            page = _check_memory(node, cell, limits)
            _check_shared(node, cell, limits)
            found = _choose_pcpus(node, cell, exact, guest.thread_policy,
                                  extra, host.cores_on(node_id) or [])
        except Unfit as exc:
            reasons.append(f'node {node_id}: {exc}')
            continue
        pins, reserved = found
        left = len(node.dedicated) - len(node.taken) - len(pins)
        ranked.append((
            (left if cell.dedicated else node.shared_used, node_id),
            CellAssignment(node_id, pins, reserved, page)))
    ranked.sort(key=lambda item: item[0])
    return {item.node: item for _cost, item in ranked}, reasons


def _check_exact(host: HostState, node: NodeState,
                 exact: Mapping[int, int]) -> None:
    for vcpu, pcpu in exact.items():
        if pcpu in node.taken:
            raise Unfit(f'pCPU {pcpu} is owned by '
                        f"{node.owners.get(pcpu, 'another server')}")
        if pcpu in node.dedicated:
            continue
        if pcpu in node.shared:
            raise Unfit(f'pCPU {pcpu} is in cpu_shared_set; a dedicated '
                        f'vCPU owns one of cpu_dedicated_set')
        elsewhere = [n.id for n in host.nodes
                     if pcpu in n.dedicated or pcpu in n.shared]
        where = (f'it is on node {elsewhere[0]}' if elsewhere else
                 'Nova may use no such pCPU on this host')
        usable = topology.format_cpu_list(node.dedicated)
        raise Unfit(f'pCPU {pcpu} (for vCPU {vcpu}) is not here, {where}; '
                    f'dedicated here: {usable or "none"}')


def _check_memory(node: NodeState, cell: guest_mod.Cell,
                  limits: Limits | None) -> int | None:
    """The page size to use, or None where none was asked for.

    Follows ``_numa_fit_instance_cell`` of Nova: pages of a size are never
    overcommitted, nor is memory beside pinned vCPUs.
    """
    need = cell.memory_mib * 1024
    if cell.page_kib is not None:
        return _choose_page_size(node, cell.page_kib, need)
    if node.pages:
        smallest = min(node.pages, key=lambda pages: pages.size_kib)
        have = smallest.free if cell.dedicated else smallest.total
        if need > have * smallest.size_kib:
            raise Unfit(
                f'{cell.memory_mib} MiB asked for, '
                f'{have * smallest.size_kib // 1024} MiB free')
    elif cell.dedicated:
        free = node.memory_mib - node.memory_used_mib
        if cell.memory_mib > free:
            raise Unfit(f'{cell.memory_mib} MiB asked for, {free} MiB '
                        f'free')
    elif cell.memory_mib > node.memory_mib:
        raise Unfit(f'{cell.memory_mib} MiB asked for, the node has '
                    f'{node.memory_mib} MiB')
    if cell.shared and limits is not None:
        most = node.memory_mib * limits.ram_allocation_ratio
        if node.memory_used_mib + cell.memory_mib > most:
            raise Unfit(
                f'{cell.memory_mib} MiB asked for, {node.memory_used_mib} of '
                f'{most:.0f} MiB in use (ram_allocation_ratio '
                f'{limits.ram_allocation_ratio:g})')
    return None


def _choose_page_size(node: NodeState, wanted: int, need_kib: int) -> int:
    """As ``_numa_cell_supports_pagesize_request`` of Nova."""
    sizes = sorted(node.pages, key=lambda pages: -pages.size_kib)
    smallest = sizes[-1].size_kib if sizes else topology.SMALL_PAGE_KIB
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
    raise Unfit(f'{need_kib // 1024} MiB asked for in {name} pages; free '
                f'are {have}')


def _check_shared(node: NodeState, cell: guest_mod.Cell,
                  limits: Limits | None) -> None:
    if not cell.shared:
        return
    if len(cell.shared) > len(node.shared):
        raise Unfit(f'{len(cell.shared)} shared vCPUs, the node has '
                    f'{len(node.shared)} pCPU(s) of cpu_shared_set')
    if limits is None:
        return
    most = len(node.shared) * limits.cpu_allocation_ratio
    if node.shared_used + len(cell.shared) > most:
        raise Unfit(f'{len(cell.shared)} shared vCPUs more than the '
                    f'{node.shared_used} there would exceed {most:g} '
                    f'(cpu_allocation_ratio '
                    f'{limits.cpu_allocation_ratio:g})')


def _choose_pcpus(node: NodeState, cell: guest_mod.Cell,
                  exact: Mapping[int, int], policy: str | None, extra: int,
                  cores: Sequence[tuple[int, ...]]) -> tuple[
                      dict[int, int], frozenset[int]]:
    """pCPUs for the cell's vCPUs and ``extra`` more for the emulator."""
    if not cell.dedicated:
        return {}, frozenset()
    free = node.dedicated - node.taken
    if len(cell.dedicated) + extra > len(free):
        raise Unfit(f'{len(cell.dedicated) + extra} dedicated pCPU(s) '
                    f'asked for, {len(free)} of {len(node.dedicated)} '
                    f'free')
    rest = sorted(cell.dedicated - exact.keys())
    if not rest and not extra and policy in (None, 'prefer'):
        return dict(exact), frozenset()

    threads = max(map(len, cores), default=1)
    chosen = set(exact.values())
    if policy == 'isolate':
        order = _isolated(node, free, cores, threads, chosen)
    elif policy == 'require':
        order = _on_siblings(free, cores, threads, chosen, len(rest))
    else:
        order = _packed(free - chosen, cores, len(rest))
    if len(order) < len(rest) + extra:
        spare = sorted(free - chosen - set(order))
        order = order + (spare if policy != 'isolate' else [])
    if len(order) < len(rest) + extra:
        raise Unfit(f'the thread policy {policy} leaves '
                    f'{len(order)} pCPU(s) for '
                    f'{len(rest) + extra} vCPU(s) or emulator threads')
    pins = {**exact, **dict(zip(rest, order))}
    return (dict(sorted(pins.items())),
            frozenset(order[len(rest):len(rest) + extra]))


def _packed(free: PcpuSet, cores: Sequence[tuple[int, ...]],
            count: int) -> list[int]:
    """Whole free cores while they are filled, then the most broken ones."""
    by_free = [[p for p in core if p in free] for core in cores]
    whole = [core for core, left in zip(cores, by_free)
             if len(left) == len(core)]
    order: list[int] = []
    for core in whole:
        if len(order) + len(core) <= count:
            order.extend(core)
    used = set(order)
    broken = sorted((left for left in by_free
                     if left and left[0] not in used),
                    key=lambda left: (len(left), left))
    order.extend(p for left in broken for p in left)
    return order


def _isolated(node: NodeState, free: PcpuSet,
              cores: Sequence[tuple[int, ...]], threads: int,
              exact: PcpuSet) -> list[int]:
    """One pCPU of each wholly free core that holds no exact pin."""
    if threads > 1 and node.dedicated != node.shared:
        # nova/virt/hardware.py, _pack_instance_onto_cores: refused there on
        # any host that shows siblings (Nova bug 1889633).
        raise Unfit('the thread policy isolate needs pCPUs without '
                    'siblings among those that Nova may use')
    order: list[int] = []
    for core in cores:
        held = exact.intersection(core)
        if held and (len(held) > 1 or not free.issuperset(core)):
            raise Unfit(f'the thread policy isolate wants the core of '
                        f'pCPU {min(held)} ({_ids(core)}) for one vCPU '
                        f'alone')
        if not held and free.issuperset(core):
            order.append(core[0])
    return order


def _on_siblings(free: PcpuSet, cores: Sequence[tuple[int, ...]],
                 threads: int, exact: PcpuSet, count: int) -> list[int]:
    """pCPUs such that at most one vCPU has a core without another one's.

    The last vCPU of an odd number may be alone on a core of which two
    threads were free, as Nova's own packing leaves it.
    """
    if threads < 2:
        raise Unfit('the thread policy require needs a host with SMT')
    # (vCPUs placed, one alone already) -> pCPUs taken to get there.
    reach: dict[tuple[int, bool], tuple[int, ...]] = {(0, False): ()}
    for core in cores:
        left = [p for p in core if p in free and p not in exact]
        held = len(exact.intersection(core))
        grown: dict[tuple[int, bool], tuple[int, ...]] = {}
        for (placed, single), taken in reach.items():
            for more in range(min(len(left), count - placed), -1, -1):
                alone = held + more == 1
                if alone and (single or held + len(left) < 2):
                    continue
                grown.setdefault((placed + more, single or alone),
                                 (*taken, *left[:more]))
        reach = grown
    for single in (False, True):
        if (count, single) in reach:
            return list(reach[count, single])
    raise Unfit('the thread policy require finds no sibling threads for '
                'all vCPUs')


def _ids(pcpus: Collection[int]) -> str:
    return topology.format_cpu_list(pcpus)


@dataclasses.dataclass(frozen=True)
class Conflict:
    """Cells that want fewer nodes than they are."""

    cells: tuple[int, ...]
    nodes: tuple[int, ...]


def match(options: Sequence[Sequence[int]]) -> list[int] | Conflict:
    """Give each cell a node of its own, by augmenting paths (Kuhn, 1955).

    :param options: for each cell the nodes that it fits on, best first
    :returns: the node of each cell; or a set of cells whose nodes, all told,
        are fewer than they (it exists whenever no matching does, by Hall)
    """
    holder: dict[int, int] = {}

    def augment(cell: int, seen: set[int]) -> bool:
        for node in options[cell]:
            if node in seen:
                continue
            seen.add(node)
            if node not in holder or augment(holder[node], seen):
                holder[node] = cell
                return True
        return False

    # The pickiest cells first leave the others their best node more often.
    for cell in sorted(range(len(options)), key=lambda c: len(options[c])):
        seen: set[int] = set()
        if not augment(cell, seen):
            return Conflict(
                tuple(sorted({cell, *(holder[n] for n in seen)})),
                tuple(sorted(seen)))
    by_cell = {cell: node for node, cell in holder.items()}
    return [by_cell[cell] for cell in range(len(options))]
