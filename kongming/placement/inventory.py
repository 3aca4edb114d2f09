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

"""How a host looks in Placement: one root provider a NUMA node.

One function, :func:`build`, makes the payload for every publisher;
:func:`read` makes a host of it again, so that a client can draw the host and
run the fitter with nothing but Placement at hand.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Set
import dataclasses
import math
import re
from typing import Any

from kongming.host import topology
from kongming.host import usage
from kongming.placement import cores
from kongming.placement import naming

PCPU = 'CUSTOM_KONGMING_PCPU'
VCPU = 'CUSTOM_KONGMING_VCPU'
MEMORY_MB = 'CUSTOM_KONGMING_MEMORY_MB'
#: Classes of service for caches and memory bandwidth.
CLOSID = 'CUSTOM_KONGMING_CLOSID'
#: Per cent of an L3 cache that are set aside for servers.
L3 = 'CUSTOM_KONGMING_L3'

TRAIT = 'CUSTOM_KONGMING'
TRAIT_OWNER = 'CUSTOM_OWNER_KONGMING'
#: On the compute node's own provider where nova-compute obeys templates.  A
#: host can be published without that, to be looked at; template servers must
#: not go there.
TRAIT_HOOK = 'CUSTOM_KONGMING_HOOK'
#: On the same where running servers are not changed, by [kongming]
#: live_changes, or since the kernel is not to be asked where they run.
TRAIT_LIVE = {'observe': 'CUSTOM_KONGMING_LIVE_OBSERVE',
              'off': 'CUSTOM_KONGMING_LIVE_OFF',
              'unseen': 'CUSTOM_KONGMING_LIVE_UNSEEN'}
#: On the same where Nova manages the power of pCPUs: its strategy.
TRAIT_POWER = {'cpu_state': 'CUSTOM_KONGMING_POWER_OFF',
               'governor': 'CUSTOM_KONGMING_POWER_LOW'}
TRAIT_NUMA_ROOT = 'HW_NUMA_ROOT'
#: On the nodes whose L3 cache, or memory bandwidth, can be divided.
TRAIT_CAT = 'CUSTOM_KONGMING_CAT_L3'
TRAIT_MBA = 'CUSTOM_KONGMING_MBA'
#: What only the hook knows of a host.
_HOOKS = frozenset({TRAIT_CAT, TRAIT_MBA})

#: Of a node whose small pages have another size than
#: :data:`kongming.host.topology.SMALL_PAGE_KIB`.
_SMALL_PAGES_TRAIT = re.compile('CUSTOM_KONGMING_SMALL_PAGES_([0-9]+)K')
_PAGES_CLASS = re.compile('CUSTOM_KONGMING_PAGES_([0-9]+)([KMG])')
_KIB = {'K': 1, 'M': 1024, 'G': 1024 ** 2}
#: Of the database of time zones by which a host decides.
_ZONES_TRAIT = re.compile('CUSTOM_KONGMING_TZDATA_([0-9]{4}[A-Z]{1,2})')

_PCPU_CLASS = re.compile('CUSTOM_KONGMING_PCPU_([0-9]+)')
_NODE_TRAIT = re.compile('CUSTOM_KONGMING_NODE_([0-9]+)')


@dataclasses.dataclass(frozen=True)
class Provider:
    """A resource provider as it should be.

    :ivar inventory: resource class -> the fields of Placement's inventory
        record (total, reserved, min_unit, max_unit, step_size,
        allocation_ratio)
    """

    name: str
    uuid: str
    inventory: Mapping[str, Mapping[str, Any]]
    traits: frozenset[str]


@dataclasses.dataclass(frozen=True)
class Ratios:
    """Nova's allocation ratios of the host."""

    cpu: float = 1.0
    ram: float = 1.0


def pcpu_class(pcpu: int) -> str:
    return f'{PCPU}_{pcpu}'


def pages_class(size_kib: int) -> str:
    """The resource class of huge pages: 64K, 2M, 512M, 16G and so on."""
    unit = next(unit for unit in 'GMK' if not size_kib % _KIB[unit])
    return f'CUSTOM_KONGMING_PAGES_{size_kib // _KIB[unit]}{unit}'


def page_sizes(resources: Iterable[str]) -> dict[int, str]:
    """Size in KiB -> resource class, of the huge pages among some classes."""
    return {int(match[1]) * _KIB[match[2]]: name for name in resources
            if (match := _PAGES_CLASS.fullmatch(name))}


def vcpu_ratio(inventory: Mapping[str, Mapping[str, Any]]) -> float:
    """cpu_allocation_ratio of a node, from its inventory of vCPUs."""
    record = inventory.get(VCPU)
    return record['total'] / record['max_unit'] if record else 1.0


def node_trait(node: int) -> str:
    return f'CUSTOM_KONGMING_NODE_{node}'


def zones_trait(version: str) -> str:
    """Says by which database of time zones a host decides."""
    return f'CUSTOM_KONGMING_TZDATA_{version.upper()}'


def zones_version(traits: Iterable[str]) -> str | None:
    """The version that a node's traits name, such as ``2026f``."""
    for trait in traits:
        if match := _ZONES_TRAIT.fullmatch(trait):
            return match[1].lower()
    return None


def build(nodename: str, compute_uuid: str, host: usage.HostState,
          ratios: Ratios,
          reserved: Mapping[int, Mapping[str, int]] | None = None,
          traits: Iterable[str] = (),
          capacities: Mapping[int, usage.CacheCapacity] | None = None
          ) -> list[Provider]:
    """The node providers that a host should have.

    :param nodename: the compute node's hypervisor hostname
    :param compute_uuid: uuid of its own provider
    :param reserved: node -> class -> amount, see
        :func:`kongming.placement.reserved.reserved`
    :param traits: further traits for each
    :param capacities: node -> what there is of caches and memory bandwidth
    """
    nothing = usage.CacheCapacity()
    capacities = capacities or {}
    return [Provider(naming.provider_name(nodename, node.id),
                     naming.provider_uuid(compute_uuid, node.id),
                     _inventory(node, ratios, (reserved or {}).get(
                         node.id, {}), capacities.get(node.id, nothing)),
                     _traits(node, capacities.get(node.id, nothing))
                     | frozenset(traits))
            for node in host.nodes]


def with_hooks(provider: Provider, found: Provider) -> Provider:
    """A provider with what only the hook can say, as it was found."""
    return dataclasses.replace(
        provider,
        inventory={**provider.inventory, **{
            name: {field: record[field] for field in (
                'total', 'min_unit', 'reserved', 'max_unit', 'step_size',
                'allocation_ratio') if field in record}
            for name, record in found.inventory.items()
            if name in (CLOSID, L3)}},
        traits=provider.traits | _HOOKS & found.traits | frozenset(
            trait for trait in found.traits if _ZONES_TRAIT.fullmatch(trait)))


def _inventory(node: usage.NodeState, ratios: Ratios,
               reserved: Mapping[str, int],
               capacity: usage.CacheCapacity) -> dict[str, dict[str, Any]]:
    records: dict[str, dict[str, Any]] = {}

    def add(name: str, total: int, ratio: float = 1.0,
            least: int = 1) -> None:
        # Placement refuses an inventory of nothing.
        if total > 0:
            records[name] = {
                'total': total, 'min_unit': least,
                # Placement takes it off before it multiplies.
                'reserved': min(total, math.ceil(
                    reserved.get(name, 0) / ratio)),
                'max_unit': total, 'step_size': 1,
                'allocation_ratio': ratio}

    add(PCPU, len(node.dedicated))
    for pcpu in sorted(node.dedicated):
        add(pcpu_class(pcpu), 1)
    # In vCPUs: of a total in pCPUs, a part of one could not be reserved.
    add(VCPU, int(round(len(node.shared) * ratios.cpu, 6)))
    if VCPU in records:
        # Nova's rule for one server.
        records[VCPU]['max_unit'] = len(node.shared)
        if node.shared <= node.never:
            # There is nothing left that a template could float over.
            records[VCPU]['reserved'] = records[VCPU]['total']
    huge = 0
    for pages in node.pages:
        if node.huge_page_kib(pages.size_kib):
            add(pages_class(pages.size_kib), pages.total)
            huge += pages.total * pages.size_kib // 1024
    add(MEMORY_MB, node.memory_mib - huge, ratios.ram)
    add(CLOSID, capacity.closids)
    add(L3, capacity.l3, least=capacity.least)
    return records


def _traits(node: usage.NodeState,
            capacity: usage.CacheCapacity) -> frozenset[str]:
    able = [trait for trait, there in ((TRAIT_CAT, capacity.l3),
                                       (TRAIT_MBA, capacity.mb)) if there]
    if node.small_page_kib != topology.SMALL_PAGE_KIB:
        able.append(f'CUSTOM_KONGMING_SMALL_PAGES_{node.small_page_kib}K')
    return frozenset({TRAIT, TRAIT_OWNER, TRAIT_NUMA_ROOT, *able,
                      node_trait(node.id), *cores.core_traits(node.cores())})


@dataclasses.dataclass(frozen=True)
class Plan:
    """How node providers get from what they are to what they should be.

    :ivar wanted: those to be there, what has to stay included
    :ivar gone: uuids of those to delete
    :ivar in_use: provider's uuid -> resource classes that the host has no more
        but somebody has allocated: Placement refuses to remove them, so they
        stay, with all of them reserved
    """

    wanted: tuple[Provider, ...]
    gone: tuple[str, ...]
    in_use: Mapping[str, frozenset[str]]


def plan(wanted: Iterable[Provider], have: Iterable[Provider],
         in_use: Callable[[str], Set[str]]) -> Plan:
    """What to do about the node providers that a host has.

    :param have: those that Placement has
    :param in_use: provider's uuid -> the classes allocated on it; asked only
        where something is to be taken away
    """
    result = {provider.uuid: provider for provider in wanted}
    gone: list[str] = []
    staying_in_use: dict[str, frozenset[str]] = {}
    for provider in have:
        new = result.get(provider.uuid)
        lost = set(provider.inventory) - set(new.inventory if new else ())
        staying = lost & in_use(provider.uuid) if lost else set()
        if staying:
            staying_in_use[provider.uuid] = frozenset(staying)
            new = new or dataclasses.replace(provider, inventory={})
            result[provider.uuid] = dataclasses.replace(new, inventory={
                **new.inventory,
                **{name: {**provider.inventory[name], 'reserved':
                          provider.inventory[name]['total']}
                   for name in staying}})
        elif new is None:
            gone.append(provider.uuid)
    return Plan(tuple(result.values()), tuple(gone), staying_in_use)


def same_inventory(one: Mapping[str, Mapping[str, Any]],
                   other: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether two inventories say the same; Placement keeps more fields."""
    return one.keys() == other.keys() and all(
        other[name].get(field) == value
        for name, record in one.items() for field, value in record.items())


def node_of_traits(traits: Iterable[str]) -> int | None:
    """The node that a provider stands for, if it is one of ours."""
    for trait in traits:
        if match := _NODE_TRAIT.fullmatch(trait):
            return int(match[1])
    return None


def _small_page_kib(traits: Iterable[str]) -> int:
    for trait in traits:
        if match := _SMALL_PAGES_TRAIT.fullmatch(trait):
            return int(match[1])
    return topology.SMALL_PAGE_KIB


def named_pcpus(resources: Iterable[str]) -> list[int]:
    """The pCPUs that an allocation claims by their own classes."""
    return sorted(int(match[1]) for name in resources
                  if (match := _PCPU_CLASS.fullmatch(name)))


def read(providers: Iterable[tuple[
        Mapping[str, Mapping[str, Any]], Set[str], Mapping[str, int]]],
        owners: Mapping[int, str] | None = None) -> usage.HostState:
    """A host as its node providers describe it.

    :param providers: (inventory, traits, usages) of each; others are skipped
    :param owners: pCPU -> name of its owner, where the caller knows it
    """
    nodes = []
    for inventory, traits, usages in providers:
        number = node_of_traits(traits)
        if number is None:
            continue
        dedicated = frozenset(named_pcpus(inventory))
        siblings = cores.cores_of_traits(traits)
        everything = frozenset(p for core in siblings for p in core)

        def used(name: str) -> int:
            record = inventory.get(name, {})
            return usages.get(name, 0) + int(
                record.get('reserved', 0) * record.get('allocation_ratio', 1))

        def total(name: str) -> int:
            return int(inventory.get(name, {}).get('total', 0))

        pages = [usage.Pages(size, total(name), total(name) - used(name))
                 for size, name in sorted(page_sizes(inventory).items())]
        huge = sum(p.total * p.size_kib for p in pages) // 1024
        kib = _small_page_kib(traits)
        small = total(MEMORY_MB) * 1024 // kib
        pages.insert(0, usage.Pages(
            kib, small, small - used(MEMORY_MB) * 1024 // kib))
        nodes.append(usage.NodeState(
            id=number,
            dedicated=dedicated,
            taken=frozenset(p for p in dedicated if used(pcpu_class(p))),
            shared=everything - dedicated,
            siblings=siblings,
            memory_mib=total(MEMORY_MB) + huge,
            memory_used_mib=used(MEMORY_MB) + sum(
                (p.total - p.free) * p.size_kib for p in pages[1:]) // 1024,
            pages=pages,
            shared_used=used(VCPU),
            owners=owners or {}))
        nodes[-1].cache_capacity = usage.CacheCapacity(
            total(CLOSID) - used(CLOSID), total(L3) - used(L3),
            int(inventory.get(L3, {}).get('min_unit', 1)),
            TRAIT_MBA in traits)
    return usage.HostState(nodes)
