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

"""Moves of servers to other hosts, by what was measured: what is asked for.

:mod:`kongming.load.migration` makes the plan of it.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any

from openstack import connection
from osc_lib import exceptions

from kongming.compute import servers as servers_mod
from kongming import exception
from kongming.fit import demand
from kongming.load import balance
from kongming.load import migration
from kongming.placement import scheduling
from kongming.template import guest
from osc_plugin import cloud
from osc_plugin.server import running

#: (server, what its host knows of its load, or None)
Loads = Iterable[tuple[running.Server, Mapping[str, Any] | None]]


def moves(conn: connection.Connection, loads: Loads,
          warn: Callable[[str], None]) -> dict[str, dict[str, Any]]:
    """Moves that help servers that no other node of their host helps.

    Hosts and the scheduler are asked only where there may be one.

    :param warn: called with what could not be found out
    :returns: server's id -> as what its host advises, with ``host``, and with
        ``step``, its number in the plan
    """
    known = list(loads)
    waiting = {server.id: (server, measured) for server, load in known
               if load is not None and (measured := _measured(server, load))}
    if not waiting:
        return {}
    try:
        hosts = [host for host in cloud.hosts(conn) if host.obeys]
        barred = _barred(conn, hosts, [
            server for server, _measured in waiting.values()], warn)
        used = {server.get('OS-EXT-SRV-ATTR:hypervisor_hostname')
                for server in servers_mod.everywhere(conn).complete()}
    except (exception.CloudError, exceptions.CommandError) as exc:
        warn(f'no move to another host is worked out, as these are not '
             f'known: {exc}')
        return {}
    steps = migration.plan(
        [measured for _server, measured in waiting.values()],
        [*_places(known), *_unused(hosts, used)],
        {host.name: migration.Host(host.state, host.limits)
         for host in hosts},
        {uuid: wanted for uuid, (server, _measured) in waiting.items()
         if (wanted := _demand(server))}, barred)
    return {step.server.id: _row(step, number)
            for number, step in enumerate(steps, 1)}


def _measured(server: running.Server,
              load: Mapping[str, Any]) -> migration.Server | None:
    """None where nothing is to be bettered, or its host can do that."""
    floating, remote = load['floating'], load['remote'] or 0.0
    if load['move'] is not None or len(floating) > 1 or server.host is None:
        return None
    node, vcpus, use, wait = floating[0] if floating else (None, 0, 0.0, 0.0)
    remote_mib = (round(server.found['flavor']['ram'] * remote / 100)
                  if remote >= balance.REMOTE else 0)
    if wait < balance.WAITS and not remote_mib:
        return None
    return migration.Server(server.id, server.host, node, vcpus, use, wait,
                            remote_mib)


def _places(loads: Loads) -> Iterable[migration.Place]:
    """Nodes of hosts that tell what is wanted there."""
    found = {}
    for server, load in loads:
        for node, pcpus, wanted in load['floats'] if load else ():
            if server.host is not None:
                found[server.host, node] = migration.Place(
                    server.host, node, pcpus, wanted)
    return found.values()


def _unused(hosts: Iterable[cloud.PublishedHost],
            used: set[str | None]) -> Iterable[migration.Place]:
    """Nodes of hosts on which there is no server, so that nobody tells."""
    return [migration.Place(host.name, node.id, len(node.shared), 0.0)
            for host in hosts if host.name not in used
            for node in host.state.nodes]


def _barred(conn: connection.Connection, hosts: list[cloud.PublishedHost],
            servers: list[running.Server],
            warn: Callable[[str], None]) -> dict[str, set[str]]:
    """server's id -> hosts that Nova's scheduler would leave out for it."""
    wanted = []
    for server in servers:
        flavor = server.found['flavor']
        disk = flavor['disk'] + flavor['ephemeral'] - (-flavor['swap'] // 1024)
        wanted.append(scheduling.of_flavor(
            server.specs, disk,
            server.found.get('pinned_availability_zone') or ''))
    return {server.id: set(found) for server, found in zip(
        servers, cloud.left_out(conn, hosts, wanted, warn))}


def _demand(server: running.Server) -> demand.Demand | None:
    """What it asks of a host; None where that is not known for sure."""
    if server.image_says_more:
        return None
    flavor = server.found['flavor']
    try:
        return demand.Demand(
            guest.from_flavor(flavor['vcpus'], flavor['ram'], server.specs),
            server.intent().base)
    except exception.InvalidTemplate:
        return None


def _row(step: migration.Step, number: int) -> dict[str, Any]:
    server = step.server
    because = []
    if server.wait >= balance.WAITS:
        because.append(f'it waits {server.wait:.1f}% of its time')
    if step.local_mib:
        because.append(f'{step.local_mib} MiB of its memory are on another '
                       f'node')
    return {'step': number, 'host': step.place.host, 'cell': 0,
            'source': server.node, 'target': step.place.node,
            'saves': step.saves, 'local_mib': step.local_mib,
            'seconds': None, 'waits': '',
            'because': f'{", ".join(because)} on {server.host}'}
