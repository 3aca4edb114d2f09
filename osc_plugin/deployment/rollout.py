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

"""What there is of a deployment, and the steps of a plan carried out."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
import time
from typing import Any

from openstack import connection
from openstack import exceptions as sdk_exc
from osc_lib import exceptions

from kongming.compute import api
from kongming.compute import servers
from kongming.deployment import deployment as dep
from kongming import exception
from kongming.live import drift
from kongming.placement import flavor as flavor_mod
from kongming.placement import scheduling
from kongming.publish import client as placement_mod
from kongming.publish import manual
from kongming.template import zones
from osc_plugin import cloud
from osc_plugin.server import running


def found_flavors(conn: connection.Connection,
                  name: str) -> dict[str, dep.FoundFlavor]:
    """Flavors that are a deployment's by their names."""
    return {found.name: dep.FoundFlavor(
        found.name, found.id, found.vcpus, found.ram, found.disk,
        found.extra_specs)
        for found in conn.compute.flavors(get_extra_specs=True,
                                          is_public=None)
        if found.name.startswith(f'{name}.')}


def found_servers(conn: connection.Connection, name: str,
                  warn: Callable[[str], None] | None = None
                  ) -> tuple[dep.FoundServer, ...]:
    """The servers of a deployment, by name.

    :param warn: called with what is not known
    :raises kongming.exception.CloudError: without ``warn``, if there are
        servers of which nothing is known: one of them may be of it
    """
    listed = servers.listing(conn)
    if warn is None:
        listed.complete()
    else:
        for doubt in listed.doubts():
            warn(doubt)
    return tuple(found_server(conn, found) for found in listed.known
                 if found['metadata'].get(dep.MARK) == name)


def found_server(conn: connection.Connection,
                 found: Any) -> dep.FoundServer:
    """A server as Nova lists it, with what it owns."""
    booted = found['flavor']
    cells: tuple[drift.Cell, ...] = ()
    host = found.get('OS-EXT-SRV-ATTR:hypervisor_hostname')
    if host is not None:
        cells = tuple(servers.cells(conn, found['id']) or ())
    return dep.FoundServer(
        found['id'], exception.printable(found['name']), found['status'],
        host, found.get('OS-SRV-USG:launched_at') is not None,
        (found['image'] or {}).get('id'),
        dep.FoundFlavor(booted['original_name'], '', booted['vcpus'],
                        booted['ram'], booted['disk'],
                        booted['extra_specs']),
        found['metadata'], cells)


def read(conn: connection.Connection, wanted: dep.Deployment,
         say: Callable[[str], None]) -> tuple[dep.Deployment, dep.Cloud]:
    """All that a plan needs to know.

    :param say: called with what is being read
    :returns: what is wanted, with hosts called as Placement calls them, and
        what is there
    :raises kongming.exception.CloudError: if the cloud does not answer
    """
    mine = found_servers(conn, wanted.name)
    published = [host for host in cloud.hosts(conn) if host.obeys]
    wanted = wanted.calling(cloud.names_of(
        conn, {server.host for server in wanted.servers.values()
               if server.host}, [host.name for host in published]))
    doubts: list[str] = []
    # Of hosts that are of no concern Nova need not be asked.
    concerned = {server.host for server in wanted.servers.values()} | {
        found.host for found in mine}
    everywhere = any(server.host is None
                     for server in wanted.servers.values())
    hosts = {}
    for number, host in enumerate(published, 1):
        say(f'reading what servers own, host {number} of {len(published)}')
        occupied = manual.Occupied()
        asked = host.name in concerned or everywhere and host.exact
        if asked:
            if not host.exact:
                host, = cloud.hosts(conn, host.name)
            try:
                occupied = servers.occupied(conn, host.uuid, host.state)
            except exception.NotFound:
                # Its compute node is gone, or its cell is down.
                if host.name in concerned:
                    raise
                doubts.append(f'{host.name} is left out: Nova does not show '
                              f'what its servers own')
                continue
        hosts[host.name] = dep.Host(host.state, occupied.nodes,
                                    occupied.names, asked, host.limits,
                                    host.zones)
    say("asking for what Nova's scheduler would leave out")
    left_out = cloud.left_out(conn, published, [
        scheduling.of_flavor(flavor.properties, flavor.disk_gib)
        for flavor in wanted.flavors.values()], doubts.append)
    return wanted, dep.Cloud(
        hosts, found_flavors(conn, wanted.name), mine,
        {name: _id(conn.image.find_image, name) for name in {
            server.image for server in wanted.servers.values()}},
        {name: _id(conn.network.find_network, name)
         for server in wanted.servers.values()
         if not isinstance(server.networks, str)
         for name in server.networks},
        dict(zip(wanted.flavors, left_out)), tuple(doubts),
        zones.database().version)


def _id(find: Callable[[str], Any], name: str) -> str | None:
    """The id of what is found; None where there is none or are several."""
    try:
        found = find(name)
    except sdk_exc.DuplicateResource:
        return None
    except sdk_exc.SDKException as exc:
        raise exception.CloudError(str(exc)) from exc
    return None if found is None else str(found.id)


def change(conn: connection.Connection, changes: Sequence[dep.Change],
           timeout: float) -> None:
    """Change servers together: all metadata is written before a host looks.

    :raises CommandError: if one stays as it is, or time is up
    """
    changed = []
    for one in changes:
        server = running.Server.find(conn, one.id)
        running.write(server, one.changes)
        changed.append(server.after(one.changes))
    # A host that looked in between may have refused some by themselves.
    before = [frozenset(server.changes()) for server in changed]
    for server, known in zip(changed, before):
        running.Wait(server, known, True, timeout).run()


class Rollout:
    """Carries out steps in their order; the first that fails ends it.

    :param name: of the deployment
    :param there: what there is of it
    :param timeout: for each step, in seconds
    :param progress: called with a line before each step
    """

    def __init__(self, conn: connection.Connection, name: str,
                 there: dep.Cloud, timeout: float,
                 progress: Callable[[str], object]) -> None:
        self._conn = conn
        self._name = name
        self._there = there
        self._timeout = timeout
        self._progress = progress

    def run(self, steps: Sequence[dep.Step]) -> None:
        """
        :raises CommandError: naming the step, and how many are done
        """
        for number, step in enumerate(steps, 1):
            what = f'{step.what} {step.name}' + (
                f' on {step.host}' if step.host else '')
            self._progress(f'[{number}/{len(steps)}] {what}')
            try:
                self._do(step)
            except (exceptions.CommandError, exception.KongmingError,
                    sdk_exc.SDKException) as exc:
                reason = getattr(exc, 'details', None) or str(exc)
                raise exceptions.CommandError(
                    f'{number - 1} of {len(steps)} steps are done, then: '
                    f'{what}: {reason.rstrip(".")}. The same command goes '
                    f'on from there.') from exc

    def _do(self, step: dep.Step) -> None:
        compute = self._conn.compute
        match step:
            case dep.DeleteServer():
                self._delete(step.id)
            case dep.DeleteFlavor():
                compute.delete_flavor(step.id)
            case dep.CreateFlavor():
                # Private, since its pCPUs are nobody else's to have; by its
                # id it is found by name all the same.
                made = compute.create_flavor(
                    name=step.name, id=step.name, is_public=False,
                    vcpus=step.flavor.vcpus, ram=step.flavor.ram_mib,
                    disk=step.flavor.disk_gib)
                cloud.write_specs(self._conn, made.id,
                                  flavor_mod.Changes(step.specs, ()))
            case dep.ChangeFlavor():
                cloud.write_specs(self._conn, step.id, step.changes)
            case dep.ChangeServers():
                change(self._conn, step.changes, self._timeout)
            case dep.CreateServer():
                self._create(step)
            case dep.AwaitServer():
                self._await(step.id)

    def _delete(self, server_id: str) -> None:
        self._conn.compute.delete_server(server_id)
        placement = placement_mod.Placement.of(self._conn)

        def is_gone() -> bool:
            # Nova takes its allocation back last (nova/compute/manager.py,
            # _complete_deletion); until then nobody else gets its pCPUs.
            try:
                return not placement.get(
                    f'/allocations/{server_id}')['allocations']
            except exception.Forbidden:
                # Who can't see that can't give them away, either.
                return self._conn.compute.find_server(server_id) is None

        self._until(is_gone, 'it was not deleted')

    def _create(self, step: dep.CreateServer) -> None:
        server = step.server
        networks: Any = server.networks
        if not isinstance(networks, str):
            networks = [{'uuid': self._there.networks[network]}
                        for network in networks]
        self._await(servers.create(
            self._conn, name=server.name, flavorRef=server.flavor,
            imageRef=self._there.images[server.image], networks=networks,
            hypervisor_hostname=step.host,
            metadata={dep.MARK: self._name, dep.LIKE: server.flavor}))

    def _await(self, server_id: str) -> None:
        def is_there() -> bool:
            found = api.get(self._conn, f'/servers/{server_id}')['server']
            if found['status'] == 'ERROR':
                raise exceptions.CommandError(exception.printable(
                    found.get('fault', {}).get('message') or
                    'it went into ERROR'))
            return bool(found['status'] == 'ACTIVE')

        self._until(is_there, 'it was not ACTIVE')

    def _until(self, done: Callable[[], bool], otherwise: str) -> None:
        deadline = time.monotonic() + self._timeout
        while not done():
            if time.monotonic() > deadline:
                raise exceptions.CommandError(
                    f'{otherwise} within {self._timeout} s')
            time.sleep(1)
