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
from collections.abc import Mapping
import types
from typing import NamedTuple

from kongming.host import usage
from kongming.placement import inventory

_NOBODY: Mapping[str, Collection[str]] = types.MappingProxyType({})


class Owned(NamedTuple):
    """What one server has of one node.

    :ivar pcpus: those that it owns
    :ivar vcpus: how many shared vCPUs it has there
    :ivar memory_mib: in MiB, in pages of ``page_kib``
    :ivar page_kib: None for small pages
    :ivar claim: what its template claims of caches there
    """

    pcpus: frozenset[int] = frozenset()
    vcpus: int = 0
    memory_mib: int = 0
    page_kib: int | None = None
    claim: usage.CacheClaim = usage.CacheClaim()

    def amounts(self) -> dict[str, int]:
        """By resource class, counts only."""
        memory = inventory.PAGES.get(self.page_kib or 0)
        return {
            inventory.PCPU: len(self.pcpus), inventory.VCPU: self.vcpus,
            **({memory: self.memory_mib * 1024 // (self.page_kib or 1)}
               if memory else {inventory.MEMORY_MB: self.memory_mib}),
            **({inventory.CLOSID: self.claim.closids,
                inventory.L3: self.claim.l3}
               if self.claim.closids or self.claim.l3 else {})}


def occupied(node: usage.NodeState,
             servers: Mapping[str, Owned]) -> usage.NodeState:
    """An empty node with these servers on it.

    :param servers: consumer -> what it has of this node
    """
    pages = []
    for size in node.pages:
        kib = sum(owned.memory_mib for owned in servers.values()
                  if owned.page_kib == size.size_kib) * 1024
        pages.append(size._replace(free=size.free - kib // size.size_kib))
    return usage.NodeState(
        node.id, node.dedicated,
        frozenset().union(*(owned.pcpus for owned in servers.values())),
        shared=node.shared, siblings=node.siblings, l3=node.l3, pages=pages,
        memory_mib=node.memory_mib,
        memory_used_mib=sum(o.memory_mib for o in servers.values()),
        shared_used=sum(o.vcpus for o in servers.values()),
        owners={pcpu: name for name, owned in servers.items()
                for pcpu in owned.pcpus}, never=node.never)


def moved(granted: Mapping[str, Mapping[str, int]],
          owned: Mapping[str, Owned]) -> dict[str, dict[str, int]]:
    """A server's allocations on our children after its ownership changed.

    It goes on asking for what it asked for: counts for counts, pCPUs by their
    own classes where it named some.  Providers that are none of ours are no
    business of this function.

    :param granted: child's uuid -> class -> amount, as it is
    :param owned: child's uuid -> what the server has of that node now
    """
    asked = {name for found in granted.values() for name in found}
    exact = bool(inventory.named_pcpus(asked))
    result = {}
    for uuid, has in owned.items():
        amounts = {name: amount for name, amount in has.amounts().items()
                   if amount and name in asked}
        if exact:
            amounts.update(
                (inventory.pcpu_class(pcpu), 1) for pcpu in has.pcpus)
        if amounts:
            result[uuid] = amounts
    return result


def reserved(node: usage.NodeState, servers: Mapping[str, Owned],
             allocations: Mapping[str, Mapping[str, int]],
             pending: Mapping[str, Collection[str]] = _NOBODY
             ) -> dict[str, int]:
    """What to reserve of each class, where it is more than nothing.

    :param node: with what is taken of it in all
    :param servers: consumer -> what it has of this node; what a server has
        left, or is about to leave, is its migration's
    :param allocations: consumer -> class -> amount, on this node's provider
    :param pending: consumers that are about to have what is allocated to
        them, here or on another node, or to be allocated what they have; with
        the classes of that allocation, which account for all they use
    """
    taken = set(node.taken)
    for consumer in pending:
        taken -= servers[consumer].pcpus if consumer in servers else set()
    # Nobody's, and yet never to be offered.
    never = node.never & node.dedicated - taken
    accounted: dict[str, int] = {}
    huge = sum(owned.memory_mib for owned in servers.values()
               if owned.page_kib in inventory.PAGES)
    used = {inventory.PCPU: len(node.taken) + len(never),
            inventory.VCPU: node.shared_used,
            inventory.MEMORY_MB: max(0, node.memory_used_mib - huge)}
    for pages in node.pages:
        if pages.size_kib in inventory.PAGES:
            used[inventory.PAGES[pages.size_kib]] = pages.total - pages.free
    for owned in servers.values():
        for name, amount in ((inventory.CLOSID, owned.claim.closids),
                             (inventory.L3, owned.claim.l3)):
            if amount:
                used[name] = used.get(name, 0) + amount
    for consumer, resource_classes in pending.items():
        if consumer in servers:
            for name, amount in servers[consumer].amounts().items():
                if name in used and name in resource_classes:
                    used[name] -= amount
    for consumer, granted in allocations.items():
        if consumer not in servers:
            # Not here yet, or a stranger: it accounts for nothing in use.
            continue
        amounts = servers[consumer].amounts()
        for name in used.keys() - pending.get(consumer, ()):
            accounted[name] = accounted.get(name, 0) + min(
                granted.get(name, 0), amounts.get(name, 0))
    result = {}
    for name, amount in used.items():
        if amount > accounted.get(name, 0):
            result[name] = amount - accounted.get(name, 0)
    covered = {
        pcpu for consumer, granted in allocations.items()
        for pcpu in inventory.named_pcpus(granted)
        if consumer in servers and pcpu in servers[consumer].pcpus}
    for pcpu in (taken - covered) | never:
        result[inventory.pcpu_class(pcpu)] = 1
    return result


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
