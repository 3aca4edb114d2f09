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

"""What the commands ask the cloud for, by openstacksdk."""

from __future__ import annotations

import collections
from collections.abc import Iterable
from collections.abc import Mapping
from concurrent import futures
import dataclasses
from typing import Any

from openstack import connection
from openstack import exceptions as sdk_exc
from osc_lib import exceptions

from kongming.compute import servers
from kongming import exception
from kongming.host import usage
from kongming.placement import flavor as flavor_mod
from kongming.placement import inventory
from kongming.placement import naming
from kongming.publish import client as placement_mod
from kongming.publish import leftovers
from kongming.template import template


@dataclasses.dataclass(frozen=True)
class PublishedHost:
    """A host as Placement shows it.

    :ivar obeys: whether its nova-compute obeys templates
    :ivar limits: how far what floats may overcommit it
    :ivar zones: the version of the database of time zones by which it
        decides; None where it does not say
    """

    name: str
    uuid: str
    state: usage.HostState
    obeys: bool = True
    limits: usage.Limits = usage.Limits()
    zones: str | None = None


def hosts(conn: connection.Connection,
          name: str | None = None) -> list[PublishedHost]:
    """The hosts that KongMing is published for, by name.

    :param name: only this one
    :raises CommandError: if there is no such host
    :raises kongming.exception.CloudError: if Placement is not to be reached
        by this user
    """
    placement = placement_mod.Placement.of(conn)
    if name is None:
        return _all_hosts(conn, placement, placement.providers())
    root = None if naming.is_ours(name) else next(
        iter(placement.providers(name=name)), None)
    if root is None:
        raise exceptions.CommandError(
            f"Placement knows no host '{name}'; 'openstack kongming host "
            f"list' shows those there are.")
    nodes = [provider['uuid'] for provider in placement.providers(
        member_of=naming.aggregate_uuid(root['uuid']))]
    if not nodes:
        # Somebody may have put them into other aggregates.
        nodes = [*_nodes(placement.providers()).get(
            root['uuid'], {}).values()]
    if not nodes:
        raise exceptions.CommandError(
            f"Host '{name}' is not published. Set compute_driver = "
            f"kongming.LibvirtDriver and [compute] cpu_dedicated_set or "
            f"cpu_shared_set in its nova.conf and restart nova-compute "
            f"there.")
    obeys = inventory.TRAIT_HOOK in placement.traits(root['uuid'])
    return [_host(conn, placement, name, root['uuid'], nodes, obeys)]


def hosts_and_leftovers(conn: connection.Connection) -> tuple[
        list[PublishedHost], list[leftovers.Leftover]]:
    """All hosts, and node providers that are no host's, by one list."""
    placement = placement_mod.Placement.of(conn)
    providers = placement.providers()
    return (_all_hosts(conn, placement, providers),
            leftovers.find(providers))


def leftover_nodes(conn: connection.Connection) -> list[leftovers.Leftover]:
    """Node providers that are no host's."""
    return leftovers.find(placement_mod.Placement.of(conn).providers())


def _nodes(providers: Iterable[Mapping[str, Any]]
           ) -> dict[str, dict[int, str]]:
    """compute node's uuid -> node -> its provider's uuid."""
    return naming.of_computes(
        (provider['uuid'], provider['name']) for provider in providers
        if provider['parent_provider_uuid'] is None)[0]


def _all_hosts(conn: connection.Connection,
               placement: placement_mod.Placement,
               providers: Iterable[Mapping[str, Any]]
               ) -> list[PublishedHost]:
    names = {provider['uuid']: provider['name'] for provider in providers}
    nodes = _nodes(providers)
    obeying = {provider['uuid'] for provider in placement.with_trait(
        inventory.TRAIT_HOOK)} if nodes else set()
    roots = sorted(nodes, key=lambda root: names[root])

    def read(root: str) -> PublishedHost:
        return _host(conn, placement, names[root], root,
                     nodes[root].values(), root in obeying)

    if len(roots) < _FEW:
        return [read(root) for root in roots]
    # Nearly all of the time is spent in waiting for answers.
    with futures.ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(read, roots))


#: So many hosts are asked about one after the other; more of them so many at
#: a time.
_FEW, _AT_ONCE = 8, 8


def with_owners(conn: connection.Connection,
                host: PublishedHost) -> usage.HostState:
    """A host with the names of all who own its pCPUs, as far as Nova shows.

    Placement knows only of those who asked for a pCPU by its number.
    """
    try:
        occupied = servers.occupied(conn, host.uuid, host.state)
    except exception.CloudError:
        return host.state
    return host.state.named({
        pcpu: occupied.names[server] for owned in occupied.nodes.values()
        for server, mine in owned.items() for pcpu in mine.pcpus})


def _host(conn: connection.Connection, placement: placement_mod.Placement,
          name: str, root: str, nodes: Iterable[str],
          obeys: bool) -> PublishedHost:
    parts = []
    owners: dict[int, str] = {}
    for uuid in nodes:
        _generation, inventories = placement.inventories(uuid)
        usages: collections.Counter[str] = collections.Counter()
        for consumer, resources in placement.allocations(uuid).items():
            usages.update(resources)
            for pcpu in inventory.named_pcpus(resources):
                owners[pcpu] = consumer
        parts.append((inventories, placement.traits(uuid), usages))
    names = {consumer: servers.name_of(conn, consumer)
             for consumer in set(owners.values())}
    state = inventory.read(
        parts, {pcpu: names[owner] for pcpu, owner in owners.items()})

    def ratio(resource: str) -> float:
        return max((float(found[resource].get('allocation_ratio', 1))
                    for found, _traits, _usages in parts
                    if resource in found), default=1.0)

    return PublishedHost(name, root, state, obeys, usage.Limits(
        ratio(inventory.VCPU), ratio(inventory.MEMORY_MB)), next(
            (version for _found, traits, _usages in parts
             if (version := inventory.zones_version(traits))), None))


def other_zones(conn: connection.Connection, version: str) -> list[str]:
    """Node providers of hosts that decide by other time zones than these.

    :param version: of the database of time zones
    :returns: their names; of a user who may not see them none
    """
    placement = placement_mod.Placement.of(conn)
    try:
        nodes = placement.with_trait(inventory.TRAIT)
        same = {provider['uuid'] for provider in placement.with_trait(
            inventory.zones_trait(version))} if nodes else set()
    except exception.Forbidden:
        return []
    return sorted(provider['name'] for provider in nodes
                  if provider['uuid'] not in same)


def flavor(conn: connection.Connection, name: str) -> Any:
    """A flavor with its extra specs.

    :raises CommandError: if there is none
    """
    found = conn.compute.find_flavor(name, get_extra_specs=True)
    if found is None:
        raise exceptions.CommandError(
            f"No flavor with a name or ID of '{name}' exists.")
    return found


def template_flavor(conn: connection.Connection, name: str) -> Any:
    """A flavor that has a template.

    :raises CommandError: if there is none, or it has none
    """
    found = flavor(conn, name)
    if not template.has_template(found.extra_specs):
        raise exceptions.CommandError(
            f"Flavor '{found.name}' has no template; 'openstack kongming "
            f"template set' gives it one.")
    return found


#: From here on nova-api checks extra specs (nova/api/openstack/compute/
#: rest_api_version_history.rst).
_CHECKED = '2.86'


def write_specs(conn: connection.Connection, flavor_id: str,
                changes: flavor_mod.Changes) -> None:
    """Carry out changes to a flavor's extra specs.

    New values are written before old keys are taken away, so that a flavor
    never stands without a template in between.
    """
    try:
        if changes.put:
            # openstacksdk asks for less than that from which on Nova checks
            # extra specs.
            sdk_exc.raise_from_response(conn.compute.post(
                f'/flavors/{flavor_id}/os-extra_specs',
                json={'extra_specs': dict(changes.put)},
                microversion=_CHECKED))
        for key in changes.remove:
            conn.compute.delete_flavor_extra_specs_property(flavor_id, key)
    except sdk_exc.ForbiddenException as exc:
        raise exceptions.CommandError(
            'Nova refused: writing a flavor needs the admin role.') from exc
    except sdk_exc.HttpException as exc:
        raise exceptions.CommandError(
            f'Nova refused the extra specs: {exc.details or exc}') from exc
