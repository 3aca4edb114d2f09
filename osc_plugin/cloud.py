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
from kongming.publish import client as placement_mod
from kongming.template import template


@dataclasses.dataclass(frozen=True)
class PublishedHost:
    """A host as Placement shows it.

    :ivar obeys: whether its nova-compute obeys templates
    :ivar limits: how far what floats may overcommit it
    """

    name: str
    uuid: str
    state: usage.HostState
    obeys: bool = True
    limits: usage.Limits = usage.Limits()


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
        providers = placement.providers()
    else:
        providers = placement.providers(name=name)
        if not providers:
            raise exceptions.CommandError(
                f"Placement knows no host '{name}'; 'openstack kongming host "
                f"list' shows those there are.")
        providers = placement.providers(in_tree=providers[0]['uuid'])
    children: dict[str, list[str]] = {}
    names = {provider['uuid']: provider['name'] for provider in providers}
    for provider in providers:
        if inventory.is_ours(provider['name']):
            children.setdefault(provider['parent_provider_uuid'], []).append(
                provider['uuid'])
    roots = sorted((root for root in children
                    if name in (None, names[root])), key=lambda r: names[r])
    if name is not None and not roots:
        raise exceptions.CommandError(
            f"Host '{name}' is not published. Set compute_driver = "
            f"kongming.LibvirtDriver and [compute] cpu_dedicated_set or "
            f"cpu_shared_set in its nova.conf and restart nova-compute "
            f"there.")

    def read(root: str) -> PublishedHost:
        return _host(conn, placement, names[root], root, children[root])

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
          name: str, root: str, providers: Iterable[str]) -> PublishedHost:
    parts = []
    owners: dict[int, str] = {}
    for uuid in providers:
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

    return PublishedHost(name, root, state, all(
        inventory.TRAIT_HOOK in traits for _inventory, traits, _ in parts),
        usage.Limits(ratio(inventory.VCPU), ratio(inventory.MEMORY_MB)))


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
