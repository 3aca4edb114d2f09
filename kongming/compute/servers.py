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

"""What the servers of a host have of it, as Nova's API shows an admin."""

from __future__ import annotations

from collections.abc import Mapping
import re
from typing import Any
from typing import NamedTuple
from urllib import parse

from openstack import exceptions as sdk_exc
from oslo_utils import uuidutils

from kongming.compute import api
from kongming import exception
from kongming.host import usage
from kongming.intent import calendar
from kongming.live import drift
from kongming.live import progress
from kongming.placement import reserved
from kongming.publish import manual
from kongming.template import template as template_mod


def occupied(conn: Any, compute_id: str,
             host: usage.HostState) -> manual.Occupied:
    """What is in use of a host.

    :param conn: openstack.connection.Connection of an admin
    :param compute_id: uuid of the compute node, which is its provider's, too
    :param host: for which pCPUs share a core
    :raises kongming.exception.CloudError: if Nova doesn't answer
    """
    nodes: dict[int, dict[str, reserved.Owned]] = {
        node.id: {} for node in host.nodes}
    unknown: dict[int, int] = {}
    names, doubts = {}, []
    name, found = _on_host(conn, compute_id)
    doubts += found.doubts()
    if found.unknown:
        # Any pCPU may be one of theirs.
        unknown = {node.id: node.n_free for node in host.nodes}
    for server in found.known:
        consumer = server['id']
        names[consumer] = _call(server)
        found_cells = topology(conn, consumer)
        isolate, emulator = policies(server)
        for number, cell in enumerate(found_cells['nodes']):
            on = cell['host_node']
            if on in nodes:
                # Nova gives each cell of a server a node of its own.
                nodes[on][consumer] = owned(
                    cell, found_cells['pagesize_kb'], host.node(on), isolate)
            if emulator and number == 0 and cell['cpu_pinning']:
                unknown[on] = unknown.get(on, 0) + 1
                doubts.append(
                    f'{names[consumer]} has a pCPU for its emulator threads '
                    f'that Nova does not report; no pCPU of node {on} can be '
                    f'asked for by its number while it is there')
    for migration in _coming_back(conn, name):
        doubts.append(
            f"server {migration['instance_uuid']} may come back from "
            f"{migration['dest_compute']}; the pCPUs that it left here are "
            f"not reported until its resize is confirmed or reverted")
    return manual.Occupied(nodes, unknown, names, tuple(doubts))


def residents(conn: Any, compute_id: str, host: usage.HostState
              ) -> tuple[list[calendar.Resident], list[str]]:
    """The servers of a host, with their templates and pCPUs.

    :param conn: openstack.connection.Connection of an admin
    :param compute_id: uuid of the compute node
    :param host: for which pCPUs share a core
    :returns: and which of them have a template that can't be read, and why
    :raises kongming.exception.CloudError: if Nova doesn't answer
    """
    found, problems = [], []
    listed = _on_host(conn, compute_id)[1]
    problems += listed.doubts()
    for server in listed.known:
        name = _call(server)
        try:
            flavor = template_mod.decode(
                server['flavor'].get('extra_specs') or {})
        except exception.InvalidTemplate as exc:
            flavor = template_mod.Template()
            problems.append(f'{name}: {exc}')
        isolate, emulator = policies(server)
        pins: dict[int, int] = {}
        idle_siblings: set[int] = set()
        for cell in topology(conn, server['id'])['nodes']:
            idle_siblings |= owned(
                cell, None, host.node(cell['host_node']), isolate).pcpus
            pins.update((int(vcpu), pcpu) for vcpu, pcpu
                        in cell['cpu_pinning'].items())
        found.append(calendar.Resident(
            name, flavor, server['metadata'], pins, frozenset(idle_siblings),
            emulator))
    return found, problems


#: The instance action of a live change, as nova-compute records it.
LIVE_CHANGE = 'kongming_live_change'
#: The beginning of an event in it: what of the server's load has led to it.
_BY_LOAD = 'kongming_by_load: '


class LiveChange(NamedTuple):
    """What became of one change of a running server.

    :ivar request_id: names it; each change has its own
    :ivar result: None while it runs, else 'Success' or 'Error'
    :ivar details: why it was refused or rolled back, as far as this user may
        know; what of its load has led to it
    """

    request_id: str
    started: str
    result: str | None
    details: str


def live_change_ids(conn: Any, server_id: str) -> list[str]:
    """Request ids of a server's live changes, the newest first."""
    return [action['request_id'] for action in _actions(conn, server_id)]


def _actions(conn: Any, server_id: str) -> list[dict[str, Any]]:
    """The same, as Nova lists them."""
    return [action for action in api.entries(
        conn, f'/servers/{server_id}/os-instance-actions', 'instanceActions',
        links='links') if action['action'] == LIVE_CHANGE]


def newest_change(conn: Any, server_id: str, is_over: bool
                  ) -> tuple[list[str], LiveChange | None]:
    """Request ids of a server's live changes, and the newest of them.

    :param is_over: whether its host has just said that nothing goes on, so
        that Nova need only be asked about one that has failed
    """
    found = _actions(conn, server_id)
    ids = [action['request_id'] for action in found]
    if not found:
        return ids, None
    if is_over and found[0].get('message') is None:
        return ids, LiveChange(ids[0], found[0]['start_time'], 'Success', '')
    return ids, live_change(conn, server_id, ids[0])


def live_changes(conn: Any, server_id: str, details: int,
                 since: str) -> list[LiveChange]:
    """A server's live changes, the newest first, by few requests.

    :param details: of how many failed ones to ask for the reason
    :param since: of a change that began earlier (ISO 8601) it is taken for
        granted that it is over; of others Nova is asked
    """
    found = []
    for action in api.get(conn, f'/servers/{server_id}/os-instance-actions')[
            'instanceActions']:
        if action['action'] != LIVE_CHANGE:
            continue
        failed = action.get('message') is not None
        change = LiveChange(action['request_id'], action['start_time'],
                            'Error' if failed else 'Success', '')
        if (failed and details > 0) or (
                not failed and change.started >= since):
            details -= failed
            change = live_change(conn, server_id, change.request_id)
        found.append(change)
    return found


def live_change(conn: Any, server_id: str, request_id: str) -> LiveChange:
    """One live change of a server."""
    action = api.get(
        conn, f'/servers/{server_id}/os-instance-actions/{request_id}')[
            'instanceAction']
    everything = action.get('events') or [{}]
    by_load = [event['event'].removeprefix(_BY_LOAD) for event in everything
               if event.get('event', '').startswith(_BY_LOAD)]
    events = [event for event in everything
              if not event.get('event', '').startswith(_BY_LOAD)] or [{}]
    failed = action.get('message') is not None
    result = events[0].get('result') or ('Error' if failed else None)
    return LiveChange(
        request_id, action['start_time'], result,
        exception.printable(events[0].get('details') or (
            'only an admin may see why' if failed else ''.join(by_load))))


def going_on(conn: Any, server_id: str) -> str | None:
    """Have the host reconcile a server now, and ask what goes on with it.

    A request for diagnostics asks for both; it is answered within a second or
    so.

    :returns: in words; empty where all is done; None where this user is no
        admin and may not ask, or the server does not run and has no
        diagnostics
    """
    try:
        found = api.get(conn, f'/servers/{server_id}/diagnostics')
    except exception.CloudError:
        return None
    return progress.read(found.get('hypervisor_os'))


def load(conn: Any, server_id: str) -> dict[str, Any] | None:
    """What its host knows of a server's load, and what that calls for.

    The host looks at the server for that, as for :func:`going_on`.

    :returns: None where its flavor has no conditions, its host does not look
        at them, or this user is no admin
    """
    try:
        found = api.get(conn, f'/servers/{server_id}/diagnostics')
    except exception.CloudError:
        return None
    return progress.read_load(found.get('hypervisor_os'))


def look(conn: Any, server_id: str) -> bool:
    """Have the host reconcile a server now.

    :returns: whether it has, and nothing goes on any more
    """
    return going_on(conn, server_id) == ''


def cells(conn: Any, server_id: str) -> list[drift.Cell] | None:
    """What the cells of a server own; None where this user may not see it."""
    # A cell without vCPUs is a place that the server is moving to.
    found = [cell for cell in api.get(
        conn, f'/servers/{server_id}/topology')['nodes'] if cell['vcpu_set']]
    if any('host_node' not in cell for cell in found):
        return None
    return [(cell['host_node'], dict(sorted(
        (int(vcpu), pcpu) for vcpu, pcpu in cell['cpu_pinning'].items())))
        for cell in found]


def find(conn: Any, name: str) -> dict[str, Any] | None:
    """A server by its id, or by its name in this user's project.

    One request, where openstacksdk's find_server needs three to learn as much
    of a server that is named.

    :raises kongming.exception.CloudError: if more than one has the name, its
        cell does not answer, or Nova doesn't
    """
    if uuidutils.is_uuid_like(name):
        try:
            found: dict[str, Any] = api.get(conn, f'/servers/{name}')['server']
            known(found)
            return found
        except exception.NotFound:
            pass
    # Nova takes it for a regular expression, of the database's kind.
    pattern = parse.quote(f'^{re.escape(name)}$', safe='')
    named = [server for server in api.entries(
        conn, f'/servers/detail?name={pattern}', 'servers')
        if server.get('name') == name]
    if len(named) > 1:
        raise exception.CloudError(
            f"{len(named)} servers have the name '{name}'; use the ID of the "
            f"one that is meant: "
            + ', '.join(sorted(server['id'] for server in named)))
    if not named:
        # With a filter Nova is silent of cells that are down.
        unknown = [server['id'] for server in api.entries(
            conn, '/servers', 'servers') if not server.get('name')]
        if unknown:
            raise exception.CloudError(
                f"No server '{exception.printable(name)}' is found, but it "
                f"may be one of those of which nothing is known, since their "
                f"cell does not answer: {', '.join(unknown)}")
    return named[0] if named else None


def known(server: Mapping[str, Any]) -> Any:
    """A server, of which more is known than that it is there.

    :raises kongming.exception.CloudError: if its cell is down
    """
    if not server.get('name'):
        raise exception.CloudError(
            f"Nothing is known of server {server['id']}, since its cell does "
            f'not answer.')
    return server


def create(conn: Any, **server: Any) -> str:
    """Have a server created; its id.

    Not by openstacksdk, which can not say on which host in some releases
    (4.10).

    :param server: the keys of Nova's API
    :raises kongming.exception.CloudError: if Nova refuses
    """
    response = conn.compute.post('/servers', json={'server': server},
                                 microversion=api.MICROVERSION)
    try:
        sdk_exc.raise_from_response(response)
    except sdk_exc.HttpException as exc:
        raise exception.CloudError(str(exc.details or exc)) from exc
    made: str = response.json()['server']['id']
    return made


def name_of(conn: Any, consumer: str) -> str:
    """``server NAME (uuid)``, or what can be said of it."""
    try:
        return _call(conn.compute.get_server(consumer).to_dict())
    except sdk_exc.SDKException:
        return f'server {consumer}'


def _call(server: Mapping[str, Any]) -> str:
    if not server.get('name'):
        # Its cell is down (API guide of Nova, "Handling Down Cells").
        return f"server {server['id']}"
    shown = exception.printable(server['name'])
    return f"server {shown} ({server['id']})"


def policies(server: Mapping[str, Any]) -> tuple[bool, bool]:
    """Whether it keeps siblings to itself; has an emulator pCPU of its own."""
    specs = server['flavor'].get('extra_specs') or {}
    image = server['image'] or {}
    properties = image.get('properties') or {} if isinstance(
        image, Mapping) else {}

    def isolates(name: str) -> bool:
        return 'isolate' in (specs.get(f'hw:{name}'),
                             properties.get(f'hw_{name}'))

    return isolates('cpu_thread_policy'), isolates('emulator_threads_policy')


def owned(cell: Mapping[str, Any], page_kib: int | None,
          node: usage.NodeState | None, isolate: bool) -> reserved.Owned:
    """What a cell has of its host's node.

    :param cell: as Nova's API shows it
    :param page_kib: the size of its pages, as far as the flavor says
    :param node: for which pCPUs share a core
    :param isolate: whether idle siblings are kept for it
    """
    pins = {int(vcpu): pcpu for vcpu, pcpu in cell['cpu_pinning'].items()}
    pcpus = set(pins.values())
    if isolate and node:
        pcpus |= {p for core in node.siblings if pcpus & core for p in core}
    return reserved.Owned(
        frozenset(pcpus), len(set(cell['vcpu_set']) - set(pins)),
        cell['memory_mb'], node.huge_page_kib(page_kib) if node else None)


def topology(conn: Any, server_id: str) -> Any:
    """Its cells, as Nova's API shows them.

    None where the server was deleted meanwhile.
    """
    try:
        return api.get(conn, f'/servers/{server_id}/topology')
    except exception.NotFound:
        return {'nodes': [], 'pagesize_kb': None}


class Listing(NamedTuple):
    """Servers, as far as they are known.

    :ivar known: with all that Nova shows
    :ivar unknown: ids of those whose cell is down
    """

    known: list[dict[str, Any]]
    unknown: tuple[str, ...] = ()

    def doubts(self) -> list[str]:
        """What is not known, in a line, if anything."""
        return [f"nothing is known of {len(self.unknown)} server(s), since "
                f"their cell does not answer: {', '.join(self.unknown)}"] if (
                    self.unknown) else []

    def complete(self) -> list[dict[str, Any]]:
        """
        :raises kongming.exception.CloudError: if some are not known
        """
        for doubt in self.doubts():
            raise exception.CloudError(
                f'{doubt[0].upper()}{doubt[1:]}. What is to be done depends '
                f'on them; nothing was done.')
        return self.known


def _on_host(conn: Any, compute_id: str) -> tuple[str, Listing]:
    """A compute node's nova-compute, and the servers of the node."""
    hypervisor = api.get(conn, f'/os-hypervisors/{compute_id}')['hypervisor']
    name: str = hypervisor['service']['host']
    found = _servers(conn, name)
    return name, found._replace(known=[
        server for server in found.known
        if server['OS-EXT-SRV-ATTR:hypervisor_hostname'] == hypervisor[
            'hypervisor_hostname']])


def on_host(conn: Any, compute_id: str) -> list[dict[str, Any]]:
    """The servers of a compute node that have a template, by name.

    :param compute_id: uuid of the compute node
    """
    return _with_template(_on_host(conn, compute_id)[1]).known


def everywhere(conn: Any) -> Listing:
    """All servers of a cloud, as an admin may list them.

    :raises kongming.exception.CloudError: if Nova doesn't answer
    """
    return _servers(conn, None)


def all_on_host(conn: Any, compute_id: str) -> list[dict[str, Any]]:
    """All servers of a compute node that are known.

    :param compute_id: uuid of the compute node
    """
    return _on_host(conn, compute_id)[1].known


def with_template(conn: Any, host: str | None = None,
                  all_projects: bool = False) -> list[dict[str, Any]]:
    """What is known of :func:`listing`."""
    return listing(conn, host, all_projects).known


def listing(conn: Any, host: str | None = None,
            all_projects: bool = False) -> Listing:
    """Servers that were booted from a flavor with a template, by name.

    Of one that is not known nobody can say whether it was.

    :param host: name of a compute service; an admin's filter
    :param all_projects: an admin's, too
    """
    return _with_template(_servers(conn, host, all_projects or bool(host)))


def _with_template(found: Listing) -> Listing:
    return found._replace(known=sorted((
        server for server in found.known if template_mod.has_template(
            server['flavor'].get('extra_specs') or {})),
        key=lambda server: (server['name'], server['id'])))


def _servers(conn: Any, host: str | None,
             all_projects: bool = True) -> Listing:
    """All servers, of a host or of all.

    Nova shows servers of cells that are down only where neither a limit nor a
    filter but all_tenants is asked for (nova/api/openstack/compute/
    servers.py, ``_is_cell_down_supported``).
    """
    query = '&'.join([*(['all_tenants=1'] if all_projects else ()),
                      *([f'host={parse.quote(host)}'] if host else ())])
    known, unknown = [], []
    for server in api.entries(conn, f'/servers/detail?{query}'.rstrip('?'),
                              'servers'):
        if 'flavor' in server and server.get('name') is not None:
            known.append(server)
        else:
            unknown.append(server['id'])
    return Listing(known, tuple(unknown))


def _coming_back(conn: Any, host: str) -> list[dict[str, Any]]:
    query = f'source_compute={parse.quote(host)}&status=finished'
    return [
        migration for migration in api.entries(
            conn, f'/os-migrations?{query}', 'migrations')
        if migration['migration_type'] in ('resize', 'migration')]
