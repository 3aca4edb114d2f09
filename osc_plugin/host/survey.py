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

"""All hosts of a cloud with their servers, by few requests.

Placement tells of all nodes at once, Nova lists the servers page by page; only
where a server's cells are takes a request of its own.  What was read of it
holds as long as the node providers of its host have the same generations:
whatever changes hands there is allocated or reserved, and moves them.  A
server that would have drift by what is kept is asked for again, and so is one
that Nova is doing something with.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from concurrent import futures
import datetime
import json
from typing import Any

from openstack import connection

from kongming.compute import servers as servers_mod
from kongming import exception
from kongming.host import usage
from kongming.intent import merge
from kongming.live import drift as drift_mod
from kongming.live import qos
from kongming.render import cloud as cloud_mod
from kongming.template import template as template_mod
from osc_plugin import cache as cache_mod
from osc_plugin import cloud

#: So many requests at a time.
_AT_ONCE = 8
#: Of so many failed changes of a server Nova is asked why.
_DETAILS = 3
#: A change that began longer ago is over ([kongming] memory_move_timeout).
_OVER = datetime.timedelta(hours=1)


def survey(conn: connection.Connection, history: bool = False,
           say: Callable[[str], None] = lambda text: None
           ) -> cloud_mod.Cloud:
    """A cloud as it is now.

    :param history: whether to ask for the live changes of each server with a
        template: one request each, and one for each that failed lately
    :param say: called with what is being done
    :raises kongming.exception.CloudError: if Nova or Placement does not
        answer, or not this user
    """
    now = datetime.datetime.now(datetime.UTC)
    say('reading hosts')
    found, left, generations = cloud.everything(conn)
    modes = cloud.live_changes(conn)
    say('reading servers')
    listed = servers_mod.everywhere(conn)
    hosts = {host.name: host for host in found}
    here = [server for server in listed.known if server.get(
        'OS-EXT-SRV-ATTR:hypervisor_hostname') in hosts]
    reader = _Reader(conn, hosts, generations, now)
    with futures.ThreadPoolExecutor(_AT_ONCE) as pool:
        servers = []
        for number, server in enumerate(pool.map(
                lambda one: reader.read(one, history), here), 1):
            say(f'reading servers: {number} of {len(here)}')
            servers.append(server)
    reader.store()
    return cloud_mod.Cloud(
        conn.config.name or conn.config.get_region_name() or 'cloud',
        now.isoformat(timespec='seconds'),
        tuple(cloud_mod.Host(
            host.name, host.uuid, host.state, host.obeys,
            modes.get(host.uuid, 'act') if host.obeys else 'off', host.zones)
            for host in found),
        tuple(servers),
        tuple((one.name, one.why) for one in left),
        tuple([*listed.doubts(), *reader.doubts]), history)


class _Reader:
    """Servers, one by one, from several threads.

    :param hosts: by name
    :param generations: compute node's uuid -> those of its nodes
    :ivar doubts: what could not be found out
    """

    def __init__(self, conn: connection.Connection,
                 hosts: Mapping[str, cloud.PublishedHost],
                 generations: Mapping[str, list[int]],
                 now: datetime.datetime) -> None:
        self._conn = conn
        self._hosts = hosts
        self._generations = generations
        self._now = now
        self._cache = cache_mod.Cache.of(conn, 'topologies')
        self._known = self._cache.load() if self._cache else {}
        #: server -> [what it holds by, its topology]
        self._valid: dict[str, list[Any]] = {}
        #: flavor and metadata -> what they mean
        self._intents: dict[str, merge.Intent] = {}
        self.doubts: list[str] = []

    def read(self, found: Mapping[str, Any],
             history: bool) -> cloud_mod.Server:
        """A server as Nova lists it, with its cells and its drift."""
        host = self._hosts[found['OS-EXT-SRV-ATTR:hypervisor_hostname']]
        intent = self._intent(found)
        key = [host.uuid, self._generations.get(host.uuid),
               found.get('updated')]
        topology = self._topology(found['id'], key)
        drift = self._drift(found, intent, topology, host.state)
        if topology is None or drift:
            topology = servers_mod.topology(self._conn, found['id'])
            drift = self._drift(found, intent, topology, host.state)
        if not drift and found.get('OS-EXT-STS:task_state') is None:
            self._valid[found['id']] = [key, topology]
        flavor = found['flavor']
        changes = []
        if history and intent is not None:
            changes = servers_mod.live_changes(
                self._conn, found['id'], _DETAILS,
                (self._now - _OVER).isoformat())
        return cloud_mod.Server(
            found['id'], found['name'], host.name,
            found.get('tenant_id') or '', found.get('status') or '',
            flavor.get('original_name') or '',
            intent.profile if intent else None, intent is not None,
            self._cells(found, topology, host.state), tuple(drift),
            tuple(cloud_mod.Change(
                change.started, change.result or 'running', change.details)
                for change in changes))

    def store(self) -> None:
        """Keep what holds for the next command."""
        if self._cache and self._valid != self._known:
            self._cache.store(self._valid)

    def _topology(self, server: str, key: list[Any]) -> Any:
        """What is kept of it, if that holds."""
        try:
            valid_for, topology = self._known[server]
            if valid_for == key and isinstance(topology['nodes'], list):
                return topology
        except (KeyError, TypeError, ValueError):
            pass
        return None

    def _intent(self, found: Mapping[str, Any]) -> merge.Intent | None:
        """What its flavor and its metadata mean; None without a template."""
        specs = found['flavor'].get('extra_specs') or {}
        if not template_mod.has_template(specs):
            return None
        metadata = template_mod.ours(found.get('metadata') or {})
        key = json.dumps([specs, metadata], sort_keys=True)
        if key not in self._intents:
            try:
                self._intents[key] = merge.merge(
                    template_mod.decode(specs), metadata, self._now,
                    quota=qos.native(specs).quota)
            except exception.InvalidTemplate as exc:
                self.doubts.append(
                    f"The template of flavor "
                    f"{found['flavor'].get('original_name')} can not be "
                    f"read: {exc}")
                self._intents[key] = merge.Intent(template_mod.Template())
        return self._intents[key]

    def _drift(self, found: Mapping[str, Any], intent: merge.Intent | None,
               topology: Any, host: usage.HostState) -> list[str]:
        if intent is None or not _is_visible(topology):
            return []
        # A cell without vCPUs is a place that the server is moving to.
        return drift_mod.unmet(
            intent.base, [(cell['host_node'], {
                int(vcpu): pcpu for vcpu, pcpu
                in cell['cpu_pinning'].items()})
                for cell in topology['nodes'] if cell['vcpu_set']],
            host, servers_mod.policies(found)[1])

    def _cells(self, found: Mapping[str, Any], topology: Any,
               host: usage.HostState) -> tuple[cloud_mod.Cell, ...] | None:
        if not _is_visible(topology):
            return None
        isolate = servers_mod.policies(found)[0]
        cells = []
        for cell in topology['nodes']:
            mine = servers_mod.owned(cell, topology['pagesize_kb'],
                                     host.node(cell['host_node']), isolate)
            cells.append(cloud_mod.Cell(
                cell['host_node'], {int(vcpu): pcpu for vcpu, pcpu
                                    in cell['cpu_pinning'].items()},
                mine.pcpus, mine.vcpus, mine.memory_mib, mine.page_kib))
        return tuple(cells)


def _is_visible(topology: Any) -> bool:
    """Whether this user may see where the cells are."""
    return topology is not None and all(
        'host_node' in cell for cell in topology['nodes'])
