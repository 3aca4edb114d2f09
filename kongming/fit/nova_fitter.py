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

"""What Nova's own fitter does with a server: its filter and its claim ask it.

A model of ``numa_fit_instance_to_host`` (nova/virt/hardware.py), which tries
permutations of a host's nodes.  It remembers which pairs fit by an id of the
guest cell that it overwrites while it tries.  So it mistakes cells that differ
for one another: it refuses some servers that fit, and gives others pCPUs of a
node that they are not on, or none.  Guests whose cells are equal are safe.

A cell that is given none has some in the end: those of its template are
claimed after Nova's (``nova_ext.ownership.claim``).  pCPUs of another node
are an error in Nova's own claim, before that.

Nova knows nothing of the template, so named nodes change nothing here; the
order of the guest's cells does.
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Mapping
from collections.abc import Sequence
import itertools
from typing import NamedTuple

from kongming.fit import demand as demand_mod
from kongming.fit import fit as fit_mod
from kongming.fit import packing
from kongming.host import usage
from kongming.template import guest as guest_mod

#: Permutations of nodes to look at; those of 8 cells on 8 nodes are 40,320.
#: Nova looks at all.  Where more are needed, a refusal is assumed.
MOST_PERMUTATIONS = 50000
#: Orders of cells to look at: those of five cells.
MOST_ORDERS = 120


class Placed(NamedTuple):
    """Where Nova puts one cell.

    :ivar node: the node that it says
    :ivar pinned: the node that the pCPUs of its vCPUs are on; None where it
        has none
    """

    node: int
    pinned: int | None

    @property
    def is_right(self) -> bool:
        """Whether the boot goes on."""
        return self.pinned in (None, self.node)


def bootable(host: usage.HostState, demand: demand_mod.Demand, *,
             allowed: Mapping[int, Collection[int]] | None = None,
             limits: usage.Limits | None = None
             ) -> fit_mod.Assignment | fit_mod.Refusal:
    """:func:`kongming.fit.fit.fit`, and a refusal where Nova boots it not.

    Its reason is of the kind ``nova``, and an :func:`objection`.
    """
    result = fit_mod.fit(host, demand, allowed=allowed, limits=limits)
    if isinstance(result, fit_mod.Refusal):
        return result
    text = objection(host, demand, limits)
    return result if text is None else fit_mod.Refusal(
        (fit_mod.Reason('nova', text),))


def objection(host: usage.HostState, demand: demand_mod.Demand,
              limits: usage.Limits | None = None) -> str | None:
    """Why Nova would not boot a server that fits, or None.

    :param host: with what is taken of it
    """
    if are_equal(demand):
        return None
    placed = place(host, demand.guest, limits)
    if placed is None:
        return ("Nova's own fitter finds no place for it: the cells differ, "
                'and it takes one for another')
    wrong = [number for number, one in enumerate(placed) if not one.is_right]
    if wrong:
        return (f"Nova's own fitter gives cell "
                f"{', '.join(map(str, wrong))} pCPUs of another node: the "
                f'cells differ, and it takes one for another')
    return None


def advice(host: usage.HostState, demand: demand_mod.Demand,
           limits: usage.Limits | None = None) -> str | None:
    """:func:`objection`, and what would help; None where Nova boots it."""
    text = objection(host, demand, limits)
    if text is None:
        return None
    order = way_round(host, demand, limits)
    if order is None:
        return f'{text}; no other order of the cells helps'
    return (f'{text}; with the cells in the order '
            f'{", ".join(map(str, order))} it would boot')


def way_round(host: usage.HostState, demand: demand_mod.Demand,
              limits: usage.Limits | None = None) -> tuple[int, ...] | None:
    """Another order of the cells with which Nova boots the server.

    :returns: the cells of today in the order that they would have; None if
        there is none among those that are looked at
    """
    cells = demand.guest.cells
    for order in itertools.islice(itertools.permutations(
            range(len(cells))), MOST_ORDERS):
        placed = place(host, demand.guest._replace(
            cells=tuple(cells[number] for number in order)), limits)
        if placed is not None and all(one.is_right for one in placed):
            return order
    return None


def are_equal(demand: demand_mod.Demand) -> bool:
    """Whether Nova can't take one cell for another."""
    return len({(len(cell.vcpus), cell.extra, cell.shared, cell.memory_mib)
                for cell in demand.cells}) < 2


def place(host: usage.HostState, guest: guest_mod.Guest,
          limits: usage.Limits | None = None) -> list[Placed] | None:
    """What Nova's fitter answers.

    :param host: with its nodes in Nova's order, which is by their ids
    :returns: one entry a cell, or None if it refuses
    """
    if not guest.cells or len(host.nodes) < len(guest.cells):
        return None
    cells = list(guest.cells)
    ids = list(range(len(cells)))
    pinned: list[int | None] = [None] * len(cells)
    fits: dict[tuple[int, int], bool] = {}
    floats = any(cell.shared for cell in cells)
    for nodes in itertools.islice(itertools.permutations(
            _in_order(host, guest), len(cells)), MOST_PERMUTATIONS):
        for number, node in enumerate(nodes):
            pair = node.id, ids[number]
            known = fits.get(pair)
            if known is None:
                page = _page(node, cells[number])
                known = page is not None and _takes(
                    node, guest, cells[number],
                    int(guest.emulator_isolated and number == 0))
                # It chooses a page size for good before it looks at CPUs.
                if page is not None and cells[number].page_kib:
                    cells[number] = cells[number]._replace(page_kib=page)
                if known and _is_pinned(guest):
                    # Before it looks at the limits.
                    pinned[number] = node.id
                    ids[number] = node.id
                known = known and (limits is None or not floats or _is_within(
                    node, cells[number], limits))
                fits[pair] = known
            if not known:
                break
            ids[number] = node.id
        else:
            return [Placed(node.id, pinned[number] if cells[number].dedicated
                           else None)
                    for number, node in enumerate(nodes)]
    return None


def _is_pinned(guest: guest_mod.Guest) -> bool:
    """Whether hw:cpu_policy is dedicated or mixed, of all cells alike."""
    return any(cell.dedicated for cell in guest.cells)


def _in_order(host: usage.HostState,
              guest: guest_mod.Guest) -> Sequence[usage.NodeState]:
    """Nodes as Nova tries them; devices and its option for packing aside."""
    if len(host.nodes) == len(guest.cells):
        return host.nodes
    nodes = sorted(host.nodes, key=lambda node: (
        node.memory_mib - node.memory_used_mib), reverse=True)
    if _is_pinned(guest):
        return sorted(nodes, key=lambda node: len(
            node.dedicated - node.taken), reverse=True)
    return sorted(nodes, key=lambda node: node.shared_used)


def _page(node: usage.NodeState, cell: guest_mod.Cell) -> int | None:
    """The page size that it chooses, 0 where none is asked for; or None."""
    need = cell.memory_mib * 1024
    if cell.page_kib:
        small = node.small_page_kib
        for pages in sorted(node.pages, reverse=cell.page_kib < -1):
            wanted = (pages.size_kib == cell.page_kib
                      or cell.page_kib == -1 and pages.size_kib == small
                      or cell.page_kib == -2 and pages.size_kib > small
                      or cell.page_kib == -3)
            if (wanted and need <= pages.free * pages.size_kib
                    and need % pages.size_kib == 0):
                return pages.size_kib
        return None
    if node.smallest:
        have = node.smallest.free if cell.dedicated else node.smallest.total
        return 0 if need <= have * node.smallest.size_kib else None
    most = node.memory_mib - (
        node.memory_used_mib if cell.dedicated else 0)
    return 0 if cell.memory_mib <= most else None


def _takes(node: usage.NodeState, guest: guest_mod.Guest,
           cell: guest_mod.Cell, extra: int) -> bool:
    """Whether there are pCPUs for a cell, by the thread policy."""
    if len(cell.shared) > len(node.shared):
        return False
    if not _is_pinned(guest):
        return True
    free = node.dedicated - node.taken
    if len(cell.dedicated) + extra > len(free):
        return False
    return packing.nova_packs(node, free, len(cell.dedicated), extra,
                              guest.thread_policy)


def _is_within(node: usage.NodeState, cell: guest_mod.Cell,
               limits: usage.Limits) -> bool:
    return (node.shared_used + len(cell.shared)
            <= len(node.shared) * limits.cpu_allocation_ratio
            and node.memory_used_mib + cell.memory_mib
            <= node.memory_mib * limits.ram_allocation_ratio)
