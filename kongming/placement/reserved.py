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

"""What Placement has to reserve of a node.

Placement offers ``total - reserved - allocated``.  Nova accounts native
servers on the compute node's own provider, so nothing is allocated for them
on ours; ``reserved`` is what servers use that no allocation accounts for, and
so a pCPU that is taken is never offered, whoever took it.
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Mapping
import types
from typing import NamedTuple

from kongming.host import usage
from kongming.placement import inventory


_NOTHING: Mapping[str, int] = types.MappingProxyType({})


class Owned(NamedTuple):
    """What one server has of one node.

    :ivar pcpus: those that it owns
    :ivar vcpus: how many shared vCPUs it has there
    :ivar memory_mib: in MiB, in pages of ``page_kib``
    :ivar page_kib: None for small pages, see
        :meth:`kongming.host.usage.NodeState.huge_page_kib`
    :ivar claim: what its template claims of caches there
    """

    pcpus: frozenset[int] = frozenset()
    vcpus: int = 0
    memory_mib: int = 0
    page_kib: int | None = None
    claim: usage.CacheClaim = usage.CacheClaim()

    def amounts(self) -> dict[str, int]:
        """By resource class, counts only."""
        return {
            inventory.PCPU: len(self.pcpus), inventory.VCPU: self.vcpus,
            **({inventory.pages_class(self.page_kib):
                self.memory_mib * 1024 // self.page_kib}
               if self.page_kib else {inventory.MEMORY_MB: self.memory_mib}),
            **self.cache_amounts()}

    def cache_amounts(self) -> dict[str, int]:
        """By resource class, what is claimed of caches."""
        return {name: amount for name, amount in (
            (inventory.CLOSID, self.claim.closids),
            (inventory.L3, self.claim.l3)) if amount}


def occupied(node: usage.NodeState,
             servers: Mapping[str, Owned]) -> usage.NodeState:
    """A node of which no pCPU is taken, with these servers on it.

    What is in use of its memory and shared pCPUs stays so.

    :param servers: consumer -> what it has of this node
    """
    pages = []
    for size in node.pages:
        kib = sum(owned.memory_mib for owned in servers.values()
                  if (owned.page_kib or node.small_page_kib)
                  == size.size_kib) * 1024
        pages.append(size._replace(free=size.free - kib // size.size_kib))
    return usage.NodeState(
        node.id, node.dedicated,
        frozenset().union(*(owned.pcpus for owned in servers.values())),
        shared=node.shared, siblings=node.siblings, l3=node.l3, pages=pages,
        memory_mib=node.memory_mib,
        memory_used_mib=node.memory_used_mib + sum(
            o.memory_mib for o in servers.values()),
        shared_used=node.shared_used + sum(
            o.vcpus for o in servers.values()),
        owners={pcpu: name for name, owned in servers.items()
                for pcpu in owned.pcpus}, never=node.never)


def allocated(owned: Mapping[str, Owned],
              named: Collection[int]) -> dict[str, dict[str, int]]:
    """What a server's allocations on node providers are to be.

    The same as :func:`kongming.placement.claim.claim` says of a server that
    is still to come.

    :param owned: provider's uuid -> what the server has of that node
    :param named: the pCPUs that its template names
    """
    result = {}
    for uuid, has in owned.items():
        amounts = {name: amount for name, amount in has.amounts().items()
                   if amount}
        amounts.update((inventory.pcpu_class(pcpu), 1)
                       for pcpu in has.pcpus if pcpu in named)
        if amounts:
            result[uuid] = amounts
    return result


def beside(node: usage.NodeState, huge_mib: int,
           allocations: Iterable[Mapping[str, int]],
           coming: Iterable[Owned] = (),
           claimed: Mapping[str, int] = _NOTHING) -> dict[str, int]:
    """What to reserve of each class, without a list of servers.

    :param node: with what is taken of it in all
    :param huge_mib: what of its used memory is in huge pages
    :param allocations: class -> amount, on this node's provider, of each
        server that is here and has what it was allocated
    :param coming: what servers hold of this node that are about to have what
        they were allocated instead, here or on another node
    :param claimed: class -> amount, of what the node does not tell
    """
    allocations, coming = list(allocations), list(coming)
    taken = set(node.taken).difference(*(mine.pcpus for mine in coming))
    # Nobody's, and yet never to be offered.
    never = node.never & node.dedicated - taken
    used = {inventory.PCPU: len(taken) + len(never),
            inventory.VCPU: node.shared_used,
            inventory.MEMORY_MB: node.memory_used_mib - huge_mib, **claimed}
    for pages in node.pages:
        if node.huge_page_kib(pages.size_kib):
            used[inventory.pages_class(pages.size_kib)] = (
                pages.total - pages.free)
    for mine in coming:
        for name, amount in mine.amounts().items():
            if name in used and name != inventory.PCPU:
                used[name] -= amount
    for granted in allocations:
        for name, amount in granted.items():
            if name in used:
                used[name] -= amount
    result = {name: amount for name, amount in used.items() if amount > 0}
    covered = {pcpu for granted in allocations
               for pcpu in inventory.named_pcpus(granted)}
    for pcpu in (taken - covered) | never:
        result[inventory.pcpu_class(pcpu)] = 1
    return result


def reserved(node: usage.NodeState, servers: Mapping[str, Owned],
             allocations: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    """What to reserve of each class, where it is more than nothing.

    :param node: with what is taken of it in all
    :param servers: consumer -> what it has of this node; what a server has
        left, or is about to leave, is its migration's
    :param allocations: consumer -> class -> amount, on this node's provider
    """
    claimed: dict[str, int] = {}
    for owned in servers.values():
        for name, amount in owned.cache_amounts().items():
            claimed[name] = claimed.get(name, 0) + amount
    # Whoever is not here yet, or a stranger, accounts for nothing in use.
    return beside(
        node, sum(owned.memory_mib for owned in servers.values()
                  if owned.page_kib),
        [had(servers[consumer], granted)
         for consumer, granted in allocations.items() if consumer in servers],
        claimed=claimed)


def had(owned: Owned, granted: Mapping[str, int]) -> dict[str, int]:
    """What a server has of what it was allocated."""
    amounts = owned.amounts()
    amounts.update((inventory.pcpu_class(pcpu), 1) for pcpu in owned.pcpus)
    return {name: min(amount, amounts.get(name, 0))
            for name, amount in granted.items() if amounts.get(name, 0)}


def reserve_unknown(reserved_amounts: dict[str, int], node: usage.NodeState,
                    number: int) -> None:
    """Hold back for pCPUs that are owned without it being known which.

    Their number comes off the count, and as any free pCPU may be one of them,
    none can be asked for by its own class.

    :param reserved_amounts: class -> amount, as :func:`reserved` says;
        changed here
    """
    if not number:
        return
    reserved_amounts[inventory.PCPU] = (
        reserved_amounts.get(inventory.PCPU, 0) + number)
    reserved_amounts.update(
        (inventory.pcpu_class(pcpu), 1) for pcpu in node.free)
