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

"""A host's node providers written, and taken out, by a command.

For hosts that have no compute hook, or not any more.  Nothing is remembered
between two of these.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses

from kongming import exception
from kongming.host import usage
from kongming.placement import inventory
from kongming.placement import naming
from kongming.placement import reserved
from kongming.publish import client as placement_mod
from kongming.publish import publisher


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


def publish(placement: placement_mod.Placement, nodename: str, root: str,
            host: usage.HostState, occupied: Callable[[], Occupied],
            dry_run: bool = False) -> publisher.Outcome:
    """Publish a host that has no hook, writing only what differs.

    :param root: uuid of the compute node's own provider, which is not written
    :param host: the host with nothing in use
    :param occupied: what is in use; asked again when somebody else wrote
        meanwhile
    :raises kongming.exception.CloudError: if Placement refuses
    """
    writer = publisher.Publisher(placement, nodename, root)
    names: dict[str, str] = {}

    def build() -> list[inventory.Provider]:
        now = occupied()
        names.update(now.names)
        return _wanted(placement, nodename, root, host, now, writer.nodes)

    return writer.publish(build, dry_run).named(writer.nodes, names)


def _wanted(placement: placement_mod.Placement, nodename: str, root: str,
            host: usage.HostState, occupied: Occupied,
            have: Mapping[str, publisher.Node]) -> list[inventory.Provider]:
    _generation, own = placement.inventories(root)
    ratios = inventory.Ratios(*(
        float(own.get(name, {}).get('allocation_ratio', 1.0))
        for name in ('VCPU', 'MEMORY_MB')))
    used = {}
    for node in host.nodes:
        servers = occupied.nodes.get(node.id, {})
        known = have.get(naming.provider_uuid(root, node.id))
        full = reserved.occupied(node, servers)
        used[node.id] = reserved.reserved(
            full, servers, known.allocations if known else {})
        reserved.reserve_unknown(used[node.id], full,
                                 occupied.unknown.get(node.id, 0))
    return [inventory.with_hooks(each, have[each.uuid].as_is)
            if each.uuid in have else each
            for each in inventory.build(nodename, root, host, ratios, used)]


def unpublish(placement: placement_mod.Placement, root: str,
              name_of: Callable[[str], str],
              dry_run: bool = False) -> publisher.Outcome:
    """Take a host's node providers out of Placement.

    Nova's own provider has nothing of ours on it but the trait that says
    whether templates are obeyed; it stays as it is.

    :param name_of: consumer -> how to call it
    :raises kongming.exception.InUse: while anything is allocated on any of
        them; nothing is taken away then
    """
    writer = publisher.Publisher(placement, '', root)
    writer.look()
    consumers = sorted({consumer for node in writer.nodes.values()
                        for consumer in node.allocations})
    if consumers:
        shown = ', '.join(map(name_of, consumers))
        raise exception.InUse(
            f'{len(consumers)} server(s) have resources of these nodes '
            f'allocated: {shown}. Delete or move them first.')
    for uuid in writer.nodes:
        if not dry_run:
            placement.delete(uuid)
    return publisher.Outcome(tuple(f'{node.as_is.name} deleted'
                                   for node in writer.nodes.values()))


def unhook(placement: placement_mod.Placement, root: str,
           dry_run: bool = False) -> publisher.Outcome:
    """Say that no template is obeyed on a host any more.

    :param root: uuid of the compute node's own provider; Nova keeps the trait
        on it whatever driver the host has then
    :raises kongming.exception.CloudError: if Placement refuses
    """
    for attempt in range(publisher.ATTEMPTS):
        generation, _inventories = placement.inventories(root)
        traits = placement.traits(root)
        ours = traits & {inventory.TRAIT_HOOK,
                         *inventory.TRAIT_LIVE.values(),
                         *inventory.TRAIT_POWER.values()}
        if not ours:
            return publisher.Outcome()
        try:
            if not dry_run:
                placement.put_traits(root, generation, traits - ours)
            return publisher.Outcome(tuple(f'trait {trait} removed'
                                           for trait in sorted(ours)))
        except exception.Conflict:
            if attempt == publisher.ATTEMPTS - 1:
                raise
    raise AssertionError('not reached')
