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

"""A host's children in Placement, for hosts where the hook is not installed.

The compute hook does the same by Nova's provider tree; both take what they
write from :mod:`kongming.placement.inventory` and
:mod:`kongming.placement.reserved`.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
import random
import time

from kongming import exception
from kongming.host import usage
from kongming.placement import inventory
from kongming.placement import reserved
from kongming.publish import client as placement_mod

#: How often somebody else may come in between before it is given up.
ATTEMPTS = 10
_CONCURRENT = 'placement.concurrent_update'
_IN_USE = ('placement.inventory.inuse', 'placement.resource_provider.inuse')


@dataclasses.dataclass(frozen=True)
class Occupied:
    """What the servers of a host have of it.

    :ivar nodes: node -> consumer -> what it has there
    :ivar unknown: node -> number of pCPUs that are owned without it being
        known which they are
    :ivar names: consumer -> how to call it
    :ivar doubts: what could not be found out, in words
    """

    nodes: Mapping[int, Mapping[str, reserved.Owned]] = dataclasses.field(
        default_factory=dict)
    unknown: Mapping[int, int] = dataclasses.field(default_factory=dict)
    names: Mapping[str, str] = dataclasses.field(default_factory=dict)
    doubts: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What was written, in words; nothing where all was as it should be.

    :ivar in_use: of what is gone from the host but still allocated, and whose
    """

    written: tuple[str, ...] = ()
    in_use: tuple[str, ...] = ()


class _Child:
    """A child as it is, read in three requests."""

    def __init__(self, placement: placement_mod.Placement, name: str,
                 uuid: str) -> None:
        self.generation, inventories = placement.inventories(uuid)
        self.as_is = inventory.Provider(
            name, uuid, inventories, placement.traits(uuid))
        self.allocations = placement.allocations(uuid)


def children(placement: placement_mod.Placement,
             root: str) -> dict[str, _Child]:
    """Our providers under a compute node's, by uuid."""
    found = {}
    for provider in placement.providers(in_tree=root):
        if inventory.is_ours(provider['name']):
            child = _Child(placement, provider['name'], provider['uuid'])
            found[provider['uuid']] = child
    return found


def publish(placement: placement_mod.Placement, nodename: str, root: str,
            host: usage.HostState, occupied: Callable[[], Occupied],
            dry_run: bool = False) -> Outcome:
    """Make Placement say what a host looks like, writing only what differs.

    :param root: uuid of the compute node's own provider, which is not written
    :param host: the host with nothing in use
    :param occupied: what is in use; asked again when somebody else wrote
        meanwhile
    :raises kongming.exception.CloudError: if Placement refuses
    """
    for attempt in range(ATTEMPTS):
        try:
            return _publish(placement, nodename, root, host, occupied(),
                            dry_run)
        except exception.Conflict as exc:
            if (exc.code not in (_CONCURRENT, *_IN_USE)
                    or attempt == ATTEMPTS - 1):
                raise
        time.sleep(random.uniform(0, 0.05 * 2 ** min(attempt, 5)))
    raise AssertionError('not reached')


def _publish(placement: placement_mod.Placement, nodename: str, root: str,
             host: usage.HostState, occupied: Occupied,
             dry_run: bool) -> Outcome:
    have = children(placement, root)
    wanted = _wanted(placement, nodename, root, host, occupied, have)
    todo = inventory.plan(
        wanted, [child.as_is for child in have.values()],
        lambda uuid: {name for found in have[uuid].allocations.values()
                      for name in found})
    written = []
    for provider in todo.wanted:
        child = have.get(provider.uuid)
        for words, write in _differences(placement, provider, child, root):
            written.append(words)
            if not dry_run:
                write()
    for uuid in todo.gone:
        written.append(f'{have[uuid].as_is.name} deleted')
        if not dry_run:
            placement.delete(uuid)
    return Outcome(tuple(written), tuple(
        _in_the_way(have[uuid], in_use, occupied.names)
        for uuid, in_use in todo.in_use.items()))


def _wanted(placement: placement_mod.Placement, nodename: str, root: str,
            host: usage.HostState, occupied: Occupied,
            have: Mapping[str, _Child]) -> list[inventory.Provider]:
    _generation, own = placement.inventories(root)
    ratios = inventory.Ratios(*(
        float(own.get(name, {}).get('allocation_ratio', 1.0))
        for name in ('VCPU', 'MEMORY_MB')))
    used = {}
    for node in host.nodes:
        servers = occupied.nodes.get(node.id, {})
        child = have.get(inventory.provider_uuid(root, node.id))
        full = reserved.occupied(node, servers)
        used[node.id] = reserved.reserved(
            full, servers, child.allocations if child else {})
        reserved.reserve_unknown(used[node.id], full,
                                 occupied.unknown.get(node.id, 0))
    # Whether the hook is there is the hook's to say, and what it can do.
    hook = {inventory.TRAIT_HOOK} & frozenset().union(
        *(child.as_is.traits for child in have.values()))
    return [inventory.with_hooks(each, have[each.uuid].as_is)
            if hook and each.uuid in have else each
            for each in inventory.build(nodename, root, host, ratios, used,
                                        hook)]


def _differences(placement: placement_mod.Placement,
                 provider: inventory.Provider, child: _Child | None,
                 root: str) -> list[tuple[str, Callable[[], object]]]:
    """(what differs, how to write it), in the order to write."""
    steps: list[tuple[str, Callable[[], object]]] = []
    generation = [child.generation if child else 0]
    if child is None:
        steps.append((f'{provider.name} created',
                      lambda: placement.create(provider, root)))

    def inventories() -> None:
        generation[0] = placement.put_inventories(
            provider.uuid, generation[0], provider.inventory)

    if child is None or not inventory.same_inventory(
            provider.inventory, child.as_is.inventory):
        steps.append((f'inventory of {provider.name}', inventories))
    if child is None or provider.traits != child.as_is.traits:
        steps.append((f'traits of {provider.name}', lambda: (
            placement.put_traits(provider.uuid, generation[0],
                                 provider.traits))))
    return steps


def _in_the_way(child: _Child, resource_classes: frozenset[str],
                names: Mapping[str, str]) -> str:
    users = sorted(names.get(consumer, f'consumer {consumer}')
                   for consumer, found in child.allocations.items()
                   if resource_classes & found.keys())
    return (f'{child.as_is.name} has no '
            f'{", ".join(sorted(resource_classes))} any more, but '
            f'{", ".join(users)} has it allocated; nothing of it is given '
            f'out until it is free')


def unpublish(placement: placement_mod.Placement, root: str,
              name_of: Callable[[str], str],
              dry_run: bool = False) -> Outcome:
    """Take a host's children out of Placement.

    Nova's own provider has nothing of ours on it and stays as it is.

    :param name_of: consumer -> how to call it
    :raises kongming.exception.InUse: while anything is allocated on any of
        them; nothing is taken away then
    """
    have = children(placement, root)
    consumers = sorted({consumer for child in have.values()
                        for consumer in child.allocations})
    if consumers:
        shown = ', '.join(map(name_of, consumers))
        raise exception.InUse(
            f'{len(consumers)} server(s) have resources of these nodes '
            f'allocated: {shown}. Delete or move them first.')
    for uuid in have:
        if not dry_run:
            placement.delete(uuid)
    return Outcome(tuple(f'{child.as_is.name} deleted'
                         for child in have.values()))
