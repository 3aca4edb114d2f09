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

"""A host's node providers in Placement, written where they differ.

The compute hook and :mod:`kongming.publish.manual` write by this; what they
write they take from :mod:`kongming.placement.inventory`.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
import dataclasses
import random
import time
from typing import Any

from kongming import exception
from kongming.placement import inventory
from kongming.placement import naming
from kongming.publish import client as placement_mod

#: How often somebody else may come in between before it is given up.
ATTEMPTS = 10
_CONCURRENT = 'placement.concurrent_update'
_IN_USE = ('placement.inventory.inuse', 'placement.resource_provider.inuse')


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What was written, in words; nothing where all was as it should be.

    :ivar unremovable: provider's uuid -> the resource classes that are gone
        from the host but still allocated
    :ivar in_use: the same in words, with whose they are
    """

    written: tuple[str, ...] = ()
    unremovable: Mapping[str, frozenset[str]] = dataclasses.field(
        default_factory=dict)
    in_use: tuple[str, ...] = ()

    def named(self, nodes: Mapping[str, Node],
              names: Mapping[str, str]) -> Outcome:
        """:param names: consumer -> how to call it"""
        return dataclasses.replace(self, in_use=tuple(
            _in_the_way(nodes[uuid], resource_classes, names)
            for uuid, resource_classes in self.unremovable.items()))


def _in_the_way(node: Node, resource_classes: frozenset[str],
                names: Mapping[str, str]) -> str:
    users = sorted(names.get(consumer, f'consumer {consumer}')
                   for consumer, found in node.allocations.items()
                   if resource_classes & found.keys())
    return (f'{node.as_is.name} has no '
            f'{", ".join(sorted(resource_classes))} any more, but '
            f'{", ".join(users)} has it allocated; nothing of it is given '
            f'out until it is free')


@dataclasses.dataclass
class Node:
    """A node's provider as Placement had it last.

    :ivar generation: of that moment
    :ivar allocations: consumer -> resource class -> amount; some of them may
        have been deleted since, which moves no generation
    """

    as_is: inventory.Provider
    generation: int
    allocations: Mapping[str, Mapping[str, int]]


class Publisher:
    """What is published of one host, and what was read of it.

    An unchanged host costs nothing but a look now and then, a changed
    reservation one request a node: what is known is written upon, and
    Placement refuses that where somebody else was there meanwhile.

    :ivar nodes: provider's uuid -> what is known of it
    """

    def __init__(self, placement: placement_mod.Placement, nodename: str,
                 compute_uuid: str) -> None:
        self._placement = placement
        self._nodename = nodename
        self._compute = compute_uuid
        self._looked = self._adopted = False
        self.nodes: dict[str, Node] = {}

    def look(self) -> None:
        """Read those that somebody has written to, in one request if none.

        :raises kongming.exception.CloudError: if Placement doesn't answer
        """
        self._looked = False
        found = {provider['uuid']: provider for provider in
                 self._placement.providers(
                     member_of=naming.aggregate_uuid(self._compute))}
        for uuid in self.nodes.keys() - found.keys():
            del self.nodes[uuid]
        for uuid, provider in found.items():
            known = self.nodes.get(uuid)
            if known is None or known.generation != provider['generation']:
                self._read(uuid, provider['name'])
        self._looked = True

    def _read(self, uuid: str, name: str) -> None:
        # Should somebody write in between, the first of these generations is
        # the one that is refused.
        generation, inventories = self._placement.inventories(uuid)
        self.nodes[uuid] = Node(
            inventory.Provider(name, uuid, inventories,
                               self._placement.traits(uuid)),
            generation, self._placement.allocations(uuid))

    def reallocated(self, consumer: str,
                    allocations: Mapping[str, Mapping[str, int]]) -> None:
        """What was written of a consumer needs not be read again.

        Should Placement have counted otherwise, the next write is refused,
        and all is read.

        :param allocations: provider's uuid -> class -> amount
        """
        for uuid, node in self.nodes.items():
            rest = {other: found for other, found in node.allocations.items()
                    if other != consumer}
            if uuid in allocations:
                rest[consumer] = dict(allocations[uuid])
                node.generation += 1
            node.allocations = rest

    def publish(self, build: Callable[[], Iterable[inventory.Provider]],
                dry_run: bool = False) -> Outcome:
        """Make Placement say what a host looks like.

        :param build: what it is to say, after what :attr:`nodes` has;
            asked again when somebody else wrote meanwhile
        :raises kongming.exception.CloudError: if Placement refuses
        """
        for attempt in range(ATTEMPTS):
            try:
                if not self._looked:
                    self.look()
                done = self._publish(build(), dry_run)
                if not self._adopted:
                    return done
                # What is allocated on those was not known before.
                self._adopted = False
                again = self._publish(build(), dry_run)
                return dataclasses.replace(
                    again, written=done.written + again.written)
            except exception.Conflict as exc:
                self._looked = False
                if (exc.code not in (_CONCURRENT, *_IN_USE)
                        or attempt == ATTEMPTS - 1):
                    raise
            except exception.CloudError:
                # Whatever was written of it.
                self._looked = False
                self.nodes.clear()
                raise
            time.sleep(random.uniform(0, 0.05 * 2 ** min(attempt, 5)))
        raise AssertionError('not reached')

    def _publish(self, wanted: Iterable[inventory.Provider],
                 dry_run: bool) -> Outcome:
        todo = inventory.plan(
            wanted, [node.as_is for node in self.nodes.values()],
            self._in_use)
        written = []
        for provider in todo.wanted:
            written += self._write(provider, dry_run)
        for uuid in todo.gone:
            written.append(f'{self.nodes[uuid].as_is.name} deleted')
            if not dry_run:
                self._placement.delete(uuid)
                del self.nodes[uuid]
        return Outcome(tuple(written), todo.in_use)

    def _in_use(self, uuid: str) -> set[str]:
        """The classes that are allocated on a provider, now.

        Asked only where one is to be taken away.  What is deleted leaves the
        generation as it was (placement/objects/allocation.py, delete_all).
        """
        node = self.nodes[uuid]
        node.allocations = self._placement.allocations(uuid)
        return {name for found in node.allocations.values() for name in found}

    def _write(self, provider: inventory.Provider,
               dry_run: bool) -> list[str]:
        """:returns: what differed"""
        written = []
        if provider.uuid not in self.nodes:
            written.append(f'{provider.name} created')
            if dry_run:
                return [*written, f'inventory of {provider.name}',
                        f'traits of {provider.name}']
            self._create(provider)
        node = self.nodes[provider.uuid]
        name, before = node.as_is.name, node.as_is.inventory
        if not inventory.same_inventory(provider.inventory, before):
            written.append(f'inventory of {name}')
            if not dry_run:
                node.generation = self._put(provider, node)
                node.as_is = dataclasses.replace(
                    node.as_is, inventory=provider.inventory)
        if provider.traits != node.as_is.traits:
            written.append(f'traits of {name}')
            if not dry_run:
                node.generation = self._placement.put_traits(
                    provider.uuid, node.generation, provider.traits)
                node.as_is = dataclasses.replace(
                    node.as_is, traits=provider.traits)
        return written

    def _put(self, provider: inventory.Provider, node: Node) -> int:
        before = node.as_is.inventory
        changed = [name for name, record in provider.inventory.items()
                   if name not in before or not inventory.same_inventory(
                       {name: record}, {name: before[name]})]
        if len(changed) == 1 and before.keys() == provider.inventory.keys():
            # A sixth of the work for Placement.
            return self._placement.put_inventory(
                provider.uuid, node.generation, changed[0],
                provider.inventory[changed[0]])
        return self._placement.put_inventories(
            provider.uuid, node.generation, provider.inventory)

    def _create(self, provider: inventory.Provider) -> None:
        name = provider.name
        try:
            generation = self._placement.create(provider)
        except exception.Conflict:
            found = self._placement.providers(uuid=provider.uuid)
            if found:
                # Nobody has put it where it was looked for, or a build
                # before the first release has made it.
                self._adopt(provider.uuid, found[0])
                return
            name = self._make_way(provider)
            generation = self._placement.create(
                dataclasses.replace(provider, name=name))
        generation = self._placement.put_aggregates(
            provider.uuid, generation,
            [naming.aggregate_uuid(self._compute)])
        self.nodes[provider.uuid] = Node(inventory.Provider(
            name, provider.uuid, {}, frozenset()), generation, {})

    def _adopt(self, uuid: str, found: Mapping[str, Any]) -> None:
        adopt(self._placement, found, self._compute)
        self._read(uuid, str(found['name']))
        self._adopted = True

    def _make_way(self, provider: inventory.Provider) -> str:
        """The name of a new one where another one has it.

        It is left of a host that was installed anew under its old name; what
        nobody has anything allocated on goes.
        """
        for other in self._placement.providers(name=provider.name):
            try:
                self._placement.delete(other['uuid'])
            except exception.Conflict:
                number = inventory.node_of_traits(provider.traits)
                return naming.provider_name(
                    self._nodename, number or 0, self._compute[:8])
        return provider.name


def adopt(placement: placement_mod.Placement, found: Mapping[str, Any],
          compute_uuid: str) -> None:
    """Make a provider a root where its host's publisher looks for it.

    :param found: as Placement lists it
    """
    uuid = found['uuid']
    if found['parent_provider_uuid']:
        placement.make_root(uuid, found['name'])
        found, = placement.providers(uuid=uuid)
    placement.put_aggregates(uuid, found['generation'],
                             [naming.aggregate_uuid(compute_uuid)])
