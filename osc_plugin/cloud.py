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
from collections.abc import Callable
from collections.abc import Iterable
from concurrent import futures
import dataclasses
from typing import Any

from openstack import connection
from openstack import exceptions as sdk_exc
from osc_lib import exceptions

from kongming.compute import hosts as hosts_mod
from kongming.compute import scheduling
from kongming.compute import servers
from kongming import exception
from kongming.host import usage
from kongming.placement import flavor as flavor_mod
from kongming.placement import inventory
from kongming.placement import naming
from kongming.placement import scheduling as scheduling_mod
from kongming.placement import summary
from kongming.publish import client as placement_mod
from kongming.publish import leftovers
from kongming.template import template
from osc_plugin import listing
from osc_plugin import summaries


@dataclasses.dataclass(frozen=True)
class PublishedHost:
    """A host as Placement shows it.

    :ivar obeys: whether its nova-compute obeys templates
    :ivar limits: how far what floats may overcommit it
    :ivar zones: the version of the database of time zones by which it
        decides; None where it does not say
    :ivar power: Nova's strategy where it manages the power of pCPUs; known
        of one host that was asked for by name
    :ivar exact: whether totals are, and owners have names; what is free is
        exact in any case
    """

    name: str
    uuid: str
    state: usage.HostState
    obeys: bool = True
    limits: usage.Limits = usage.Limits()
    zones: str | None = None
    exact: bool = True
    power: str = ''


def hosts(conn: connection.Connection, name: str | None = None,
          exact: bool = False) -> list[PublishedHost]:
    """The hosts that KongMing is published for, by name.

    :param name: only this one
    :param exact: whether totals and owners are needed of many hosts: three
        requests a node. Without it what is free is exact, what is reserved
        is missing in totals, and no owner has a name
    :raises CommandError: if there is no such host
    :raises kongming.exception.CloudError: if Placement is not to be reached
        by this user
    """
    placement = placement_mod.Placement.of(conn)
    if name is None:
        reader = None if exact else summaries.Reader(conn, placement)
        return _all_hosts(conn, placement, listing.read(placement), reader)
    root = compute_node(conn, placement, name)
    # Placement on MariaDB finds it in other letters as well.
    name = root['name']
    nodes = [provider['uuid'] for provider in placement.providers(
        member_of=naming.aggregate_uuid(root['uuid']))]
    if not nodes:
        # Somebody may have put them into other aggregates.
        nodes = [*listing.of_hosts(placement.providers()).get(
            root['uuid'], {}).values()]
    if not nodes:
        raise exceptions.CommandError(
            f"Host '{name}' is not published. Set compute_driver = "
            f"kongming.LibvirtDriver and [compute] cpu_dedicated_set or "
            f"cpu_shared_set in its nova.conf and restart nova-compute "
            f"there.")
    traits = placement.traits(root['uuid'])
    found = _host(conn, placement, name, root['uuid'], nodes,
                  inventory.TRAIT_HOOK in traits)
    return [dataclasses.replace(found, power=next((
        strategy for strategy, trait in inventory.TRAIT_POWER.items()
        if trait in traits), ''))]


def compute_node(conn: connection.Connection,
                 placement: placement_mod.Placement,
                 name: str) -> dict[str, Any]:
    """The provider of a host, by its hypervisor's or its service's name.

    :raises CommandError: if there is no such host
    """
    found: dict[str, Any] | None = None
    if not naming.is_ours(name):
        found = next(iter(placement.providers(name=name)), None)
        if found is None:
            try:
                node = hosts_mod.find(conn, name)
            except exception.Forbidden:
                node = None
            if node is not None:
                found = next(iter(placement.providers(uuid=node.id)), None)
    if found is None:
        raise exceptions.CommandError(
            f"Placement knows no host '{name}'; 'openstack kongming host "
            f"list' shows those there are.")
    return found


def names_of(conn: connection.Connection, asked: Iterable[str],
             there: Iterable[str]) -> dict[str, str]:
    """What Placement calls hosts that somebody names, where that differs.

    :param asked: names of hypervisors or services, in any letters
    :param there: names of all published hosts
    """
    known = set(there)
    other = sorted(set(asked) - known)
    if not other:
        return {}
    try:
        nodes = hosts_mod.names(conn)
    except exception.Forbidden:
        nodes = {}
    folded = {name.casefold(): name for name in known}
    found = {}
    for name in other:
        node = nodes.get(name.casefold())
        called = node.name if node else folded.get(name.casefold())
        if called is not None:
            found[name] = called
    return found


def left_out(conn: connection.Connection, found: Iterable[PublishedHost],
             wanted: Iterable[scheduling_mod.Wanted],
             warn: Callable[[str], None]) -> list[dict[str, str]]:
    """Which hosts Nova's scheduler would leave out, and why.

    :param warn: called with what could not be found out
    :returns: host -> why, of each of those that are wanted
    """
    asked = scheduling.Scheduling(conn, [(host.name, host.uuid)
                                         for host in found])
    result = [asked.why_not(one) for one in wanted]
    for doubt in dict.fromkeys(asked.doubts):
        warn(doubt)
    return result


def scheduled(found: Any, zone: str = '') -> scheduling_mod.Wanted:
    """What a flavor asks of a host beside its nodes.

    :param found: as :func:`flavor` returns it
    """
    disk = found.disk + (found.ephemeral or 0) + -(-(found.swap or 0) // 1024)
    return scheduling_mod.of_flavor(found.extra_specs, disk, zone)


def hosts_and_leftovers(conn: connection.Connection, exact: bool) -> tuple[
        list[PublishedHost], list[leftovers.Leftover]]:
    """All hosts, and node providers that are no host's, by one list.

    :param exact: as of :func:`hosts`
    """
    found, left, _generations = everything(conn, exact)
    return found, left


def everything(conn: connection.Connection, exact: bool = False) -> tuple[
        list[PublishedHost], list[leftovers.Leftover], dict[str, list[int]]]:
    """The same, and a compute node's uuid -> the generations of its nodes.

    Those are from before the rest is read: what is read with it holds as
    long as they are the same.
    """
    placement = placement_mod.Placement.of(conn)
    reader = None if exact else summaries.Reader(conn, placement)
    listed = listing.read(placement)
    providers = listed.every
    generations = {provider['uuid']: provider['generation']
                   for provider in providers}
    return (_all_hosts(conn, placement, listed, reader),
            leftovers.find(providers),
            {root: [generations[uuid] for _node, uuid in sorted(mine.items())]
             for root, mine in listing.of_hosts(providers).items()})


def live_changes(conn: connection.Connection) -> dict[str, str]:
    """Compute node's uuid -> ``observe`` or ``off``, of those that don't act.
    """
    placement = placement_mod.Placement.of(conn)
    return {provider['uuid']: mode
            for mode, trait in inventory.TRAIT_LIVE.items()
            for provider in placement.with_trait(trait)}


def leftover_nodes(conn: connection.Connection) -> list[leftovers.Leftover]:
    """Node providers that are no host's."""
    return leftovers.find(placement_mod.Placement.of(conn).providers())


def _all_hosts(conn: connection.Connection,
               placement: placement_mod.Placement, listed: listing.Providers,
               reader: summaries.Reader | None) -> list[PublishedHost]:
    """
    :param reader: made before the providers were listed; None where each
        node is to be asked for
    """
    names = {provider['uuid']: provider['name'] for provider in listed.every}
    nodes = listing.of_hosts(listed.every)
    obeying = listed.obeying
    roots = sorted(nodes, key=lambda root: names[root])

    def read(root: str) -> PublishedHost:
        return _host(conn, placement, names[root], root,
                     nodes[root].values(), root in obeying)

    if len(roots) < _FEW:
        return [read(root) for root in roots]
    found: dict[str, summary.Node] = {}
    if reader is not None:
        ours = {uuid for root in roots for uuid in nodes[root].values()}
        found = reader.read(listed.nodes, {
            provider['uuid'] for provider in (
                *listed.nodes.providers, *listed.every)
            if naming.is_ours(provider['name'])} - ours)
    # Nearly all of the time is spent in waiting for answers.
    with futures.ThreadPoolExecutor(_AT_ONCE) as pool:
        rest = dict(zip(roots, pool.map(
            lambda root: None if all(uuid in found for uuid in nodes[
                root].values()) else read(root), roots)))
    result, alike = [], summary.Hosts()
    for root in roots:
        host = rest[root]
        if host is None:
            mine = [found[uuid] for uuid in nodes[root].values()]
            state, limits = alike.read(mine)
            host = PublishedHost(names[root], root, state, root in obeying,
                                 limits, _zones(node.traits for node in mine),
                                 exact=False)
        result.append(host)
    return result


def _zones(nodes: Iterable[Iterable[str]]) -> str | None:
    """The database of time zones that traits of nodes tell."""
    return next((version for traits in nodes if (
        version := inventory.zones_version(traits))), None)


#: So many hosts are asked about one after the other, each with who owns what;
#: more of them by one answer, and where that is not enough so many at a time.
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


def drawn(conn: connection.Connection,
          host: PublishedHost) -> usage.HostState:
    """The same, with which pCPUs have no power."""
    from osc_plugin import power
    state = with_owners(conn, host)
    return state.without_power(power.without_power(
        conn, host.uuid, host.power, state))


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

    inventories_ = [found for found, _traits, _usages in parts]
    return PublishedHost(name, root, state, obeys, usage.Limits(
        max(map(inventory.vcpu_ratio, inventories_), default=1.0),
        max((float(found[inventory.MEMORY_MB].get('allocation_ratio', 1))
             for found in inventories_ if inventory.MEMORY_MB in found),
            default=1.0)),
        _zones(traits for _found, traits, _usages in parts))


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
            try:
                conn.compute.delete_flavor_extra_specs_property(
                    flavor_id, key)
            except sdk_exc.NotFoundException:
                # Somebody else has removed it, or the flavor.
                conn.compute.get_flavor(flavor_id)
    except sdk_exc.ForbiddenException as exc:
        raise exceptions.CommandError(
            'Nova refused: writing a flavor needs the admin role.') from exc
    except sdk_exc.HttpException as exc:
        raise exceptions.CommandError(
            f'Nova refused the extra specs: {exc.details or exc}') from exc
