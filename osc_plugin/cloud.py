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

from collections.abc import Iterable
import dataclasses
from typing import Any

from openstack import connection
from openstack import exceptions as sdk_exc
from osc_lib import exceptions

from kongming import flavor as flavor_mod
from kongming import inventory
from kongming import template
from kongming import usage

#: in_tree of GET /resource_providers, traits, usages
_MICROVERSION = '1.14'


@dataclasses.dataclass(frozen=True)
class PublishedHost:
    """A host as Placement shows it."""

    name: str
    uuid: str
    state: usage.HostState


def hosts(conn: connection.Connection,
          name: str | None = None) -> list[PublishedHost]:
    """The hosts that KongMing is published for, by name.

    :param name: only this one
    :raises CommandError: if there is no such host, or Placement is not to be
        reached by this user
    """
    providers = _get(conn, '/resource_providers')['resource_providers']
    children: dict[str, list[str]] = {}
    names = {provider['uuid']: provider['name'] for provider in providers}
    for provider in providers:
        if '_KONGMING_NODE' in provider['name']:
            children.setdefault(provider['parent_provider_uuid'], []).append(
                provider['uuid'])
    if name is not None and name not in names.values():
        raise exceptions.CommandError(
            f"Placement knows no host '{name}'; 'openstack kongming host "
            f"list' shows those there are.")
    if name is not None and not any(
            names.get(root) == name for root in children):
        raise exceptions.CommandError(
            f"Host '{name}' is not published. Set compute_driver = "
            f"kongming.LibvirtDriver in its nova.conf and restart "
            f"nova-compute there.")
    found = [PublishedHost(names[root], root, _state(conn, uuids))
             for root, uuids in children.items()
             if name in (None, names[root])]
    return sorted(found, key=lambda host: host.name)


def _state(conn: connection.Connection,
           providers: Iterable[str]) -> usage.HostState:
    parts = []
    owners: dict[int, str] = {}
    for uuid in providers:
        at = f'/resource_providers/{uuid}'
        traits = set(_get(conn, f'{at}/traits')['traits'])
        parts.append((_get(conn, f'{at}/inventories')['inventories'],
                      traits,
                      _get(conn, f'{at}/usages')['usages']))
        for consumer, found in _get(
                conn, f'{at}/allocations')['allocations'].items():
            for pcpu in inventory.named_pcpus(found['resources']):
                owners[pcpu] = consumer
    names = {consumer: server_name(conn, consumer)
             for consumer in set(owners.values())}
    return inventory.read(
        parts, {pcpu: names[owner] for pcpu, owner in owners.items()})


def server_name(conn: connection.Connection, uuid: str) -> str:
    """``server NAME (uuid)``, without the name where it can't be had."""
    try:
        return f'server {conn.compute.get_server(uuid).name} ({uuid})'
    except sdk_exc.SDKException:
        return f'server {uuid}'


def _get(conn: connection.Connection, path: str) -> Any:
    try:
        response = conn.placement.get(path, microversion=_MICROVERSION)
        sdk_exc.raise_from_response(response)
    except sdk_exc.ForbiddenException as exc:
        raise exceptions.CommandError(
            'Placement refused: this command needs the admin role (the '
            'policy of Placement says who may read its providers).') from exc
    except sdk_exc.EndpointNotFound as exc:
        raise exceptions.CommandError(
            'This cloud has no Placement endpoint in its catalog.') from exc
    except sdk_exc.SDKException as exc:
        raise exceptions.CommandError(
            f'Placement could not be asked for {path}: {exc}') from exc
    return response.json()


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


def write_specs(conn: connection.Connection, flavor_id: str,
                changes: flavor_mod.Changes) -> None:
    """Carry out changes to a flavor's extra specs.

    New values are written before old keys are taken away, so that a flavor
    never stands without a template in between.
    """
    try:
        if changes.put:
            conn.compute.create_flavor_extra_specs(flavor_id, changes.put)
        for key in changes.remove:
            conn.compute.delete_flavor_extra_specs_property(flavor_id, key)
    except sdk_exc.ForbiddenException as exc:
        raise exceptions.CommandError(
            'Nova refused: writing a flavor needs the admin role.') from exc
    except sdk_exc.HttpException as exc:
        raise exceptions.CommandError(
            f'Nova refused the extra specs: {exc.details or exc}') from exc
