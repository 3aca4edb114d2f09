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

"""A server with a template: what is known of it, and waiting for it."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Mapping
from collections.abc import Sequence
from concurrent import futures
import datetime
import itertools
import time
from typing import Any
from typing import NamedTuple
from typing import NoReturn

from openstack import connection
from openstack import exceptions as sdk_exc
from osc_lib import exceptions
from oslo_utils import uuidutils

from kongming.compute import api
from kongming.compute import servers
from kongming import exception
from kongming.fit import demand
from kongming.host import usage
from kongming.intent import merge
from kongming.live import drift
from kongming.live import progress
from kongming.live import qos
from kongming.template import guest
from kongming.template import metadata as metadata_mod
from kongming.template import template
from osc_plugin import cloud

_SHUTOFF = 'SHUTOFF'
#: How long to wait before the host is asked again, in seconds: most changes
#: are done within the first of these; then it is the last.
PAUSES = 0.1, 0.2, 0.4, 1.0


class Seen(NamedTuple):
    """What a server was found to have.

    :ivar looked: whether its host had brought it there just before
    :ivar cells: what it owns; None where this user may not see it
    :ivar changes: request ids of its live changes, the newest first
    :ivar newest: the newest of them
    :ivar server: as Nova showed it then, where that was asked for
    """

    looked: bool
    cells: list[drift.Cell] | None
    changes: list[str]
    newest: servers.LiveChange | None
    server: Server | None = None


class Server:
    """A server with a template, as Nova showed it last."""

    def __init__(self, conn: connection.Connection,
                 found: Mapping[str, Any]) -> None:
        self.conn = conn
        self.id = found['id']
        self.name = exception.printable(found['name'])
        self.found = found
        self.specs = found['flavor']['extra_specs']
        self.metadata = found['metadata']
        self._layout: usage.HostState | None = None

    @classmethod
    def find(cls, conn: connection.Connection, name: str) -> Server:
        """
        :raises CommandError: if there is none, or its flavor has no template
        """
        found = servers.find(conn, name)
        if found is None:
            raise exceptions.CommandError(
                f"No server with a name or ID of '{name}' exists.")
        return cls._of(conn, found)

    @classmethod
    def _of(cls, conn: connection.Connection,
            found: Mapping[str, Any]) -> Server:
        if not template.has_template(found['flavor'].get('extra_specs') or {}):
            raise exceptions.CommandError(
                f"Server '{exception.printable(found['name'])}' was booted "
                f"from a flavor without a template; 'openstack kongming "
                f"template set' gives a flavor one, for servers booted "
                f"afterwards.")
        return cls(conn, found)

    def again(self) -> Server:
        """As it is now."""
        return self._of(self.conn, api.get(
            self.conn, f'/servers/{self.id}')['server'])

    def after(self, changes: metadata_mod.Changes) -> Server:
        """As it is once its metadata are changed; nobody is asked."""
        return Server(self.conn, {
            **self.found, 'metadata': changes.applied(self.metadata)})

    @property
    def host(self) -> str | None:
        return self.found.get('OS-EXT-SRV-ATTR:hypervisor_hostname')

    @property
    def busy(self) -> bool:
        return self.found.get('OS-EXT-STS:task_state') is not None

    def intent(self,
               metadata: Mapping[str, str] | None = None) -> merge.Intent:
        """What is meant now, with its own metadata or other one."""
        return merge.merge(template.decode(self.specs),
                           self.metadata if metadata is None else metadata,
                           datetime.datetime.now(datetime.UTC),
                           quota=qos.native(self.specs).quota)

    @classmethod
    def find_with_changes(cls, conn: connection.Connection, name: str
                          ) -> tuple[Server, list[str]]:
        """Also the request ids of its live changes, at once where it can be.

        :raises CommandError: as :meth:`find` does
        """
        with futures.ThreadPoolExecutor(1) as threads:
            changes = (threads.submit(servers.live_change_ids, conn, name)
                       if uuidutils.is_uuid_like(name) else None)
            server = cls.find(conn, name)
        if changes is None or server.id != name or changes.exception():
            return server, server.changes()
        return server, changes.result()

    def changes(self) -> list[str]:
        """Request ids of its live changes, the newest first."""
        return servers.live_change_ids(self.conn, self.id)

    def change(self, request_id: str) -> servers.LiveChange:
        return servers.live_change(self.conn, self.id, request_id)

    def see(self, looked: bool = False, itself: bool = False,
            is_over: bool = False) -> Seen:
        """What it has now.

        :param itself: whether to ask for the server, too
        :param is_over: whether its host has just said that all is done
        """
        # One request or two, one and one, at once.
        with futures.ThreadPoolExecutor(2) as threads:
            cells = threads.submit(servers.cells, self.conn, self.id)
            server = threads.submit(self.again) if itself else None
            changes, newest = servers.newest_change(self.conn, self.id,
                                                    is_over)
            return Seen(looked, cells.result(), changes, newest,
                        server.result() if server else None)

    def look(self) -> Seen:
        """Have the host look at it; whether it did, and all went well."""
        before = self.changes()
        looked = servers.look(self.conn, self.id)
        seen = self.see(looked)
        return seen._replace(looked=looked and not any(
            self.change(new).result != 'Success' for new in seen.changes
            if new not in before))

    def unmet(self, cells: Sequence[drift.Cell] | None
              ) -> list[str] | None:
        """What is meant and not so.

        :param cells: what it owns
        :returns: None where that can't be known
        """
        if cells is None or self.host is None:
            return None
        wanted = self.intent().base
        try:
            if self._layout is None and drift.needs_host(wanted):
                host, = cloud.hosts(self.conn, self.host)
                self._layout = host.state
        except (exception.CloudError, exceptions.CommandError):
            return None
        return drift.unmet(wanted, cells,
                           self._layout or usage.HostState(()),
                           servers.policies(self.found)[1])

    def check(self, metadata: Mapping[str, str]) -> None:
        """Whether metadata would be obeyed.

        :raises CommandError: with every problem, if not
        :raises kongming.exception.InvalidTemplate: if the flavor's is none
        """
        intent = self.intent(metadata)
        problems: list[Any] = list(intent.refused)
        if not problems and not self.image_says_more:
            flavor = self.found['flavor']
            problems.extend(demand.check_guest(guest.from_flavor(
                flavor['vcpus'], flavor['ram'], self.specs), intent.base))
        if problems:
            raise exceptions.CommandError('\n'.join(map(str, problems)))

    @property
    def image_says_more(self) -> bool:
        """Whether its cells may be other ones than the flavor's."""
        image = self.found['image'] or {}
        return any(key.startswith(('hw_numa', 'hw_cpu', 'hw_emulator'))
                   for key in image.get('properties') or {})


def write(server: Server, changes: metadata_mod.Changes) -> None:
    """Write a server's metadata.

    :raises CommandError: if Nova refuses it
    """
    compute = server.conn.compute
    try:
        for key in changes.remove:
            # Of several keys the SDK keeps no order (openstack/compute/v2/
            # _proxy.py, delete_server_metadata), and one that is gone ends it.
            try:
                compute.delete_server_metadata(server.id, [key])
            except sdk_exc.NotFoundException:
                # Somebody else has removed it, or the server.
                compute.get_server_metadata(server.id)
        if changes.put:
            compute.set_server_metadata(server.id, **changes.put)
    except sdk_exc.HttpException as exc:
        raise exceptions.CommandError(
            f'Nova refused the metadata: {exc.details or exc}') from exc


class Wait:
    """Waits until the host has done what a server's metadata say.

    An admin's request for diagnostics has the host look at the server, and
    tells what goes on; others wait for the host's next pass.

    :param before: its live changes before the metadata were written
    :param same: whether it was meant to be as it is meant to be now
    :param report: is called with what goes on, each time that it is another
        thing
    """

    def __init__(self, server: Server, before: Collection[str], same: bool,
                 timeout: float,
                 report: Callable[[str], object] = lambda line: None) -> None:
        self._server = server
        self._report = report
        self._reported = ''
        #: number of the pass that the first request has asked for
        self._pass: int | None = None
        self._before = before
        self._same = same
        self._timeout = timeout

    def run(self) -> Seen:
        """
        :returns: what it had in the end
        :raises CommandError: if the server stays as it is, or time is up
        """
        deadline = time.monotonic() + self._timeout
        for pause in itertools.chain(PAUSES, itertools.repeat(PAUSES[-1])):
            going_on = servers.going_on(self._server.conn, self._server.id)
            if going_on and not self._is_looked_at(going_on):
                self._show(going_on)
            else:
                looked = going_on is not None
                seen = self._server.see(looked, itself=True, is_over=looked)
                if self._is_done(seen):
                    return seen
            if time.monotonic() > deadline:
                raise exceptions.CommandError(
                    f"Server '{self._server.name}' was not changed within "
                    f"{self._timeout} s. The request stays in its metadata; "
                    f"the host tries again by itself.")
            time.sleep(pause)
        raise AssertionError('not reached')

    def _is_looked_at(self, going_on: str) -> bool:
        """Whether a pass has ended that began after the first request.

        On a slow host that is told by no request itself: each asks for a
        pass of its own.
        """
        numbers = progress.read_looks(going_on)
        if numbers is None:
            return False
        asked, ended = numbers
        # nova-compute counts anew when it is restarted.
        self._pass = min(self._pass or asked, asked)
        return ended >= self._pass

    def _show(self, going_on: str) -> None:
        # The last of it are the seconds for which it has been so.
        what = going_on.rpartition(', ')[0] or going_on
        if what != self._reported:
            self._reported = what
            self._report(f'{self._server.name}: {going_on}\n')

    def _is_done(self, seen: Seen) -> bool:
        server, newest, now = self._server, seen.newest, seen.server
        new = newest is not None and newest.request_id not in self._before
        if new and newest and newest.result is None:
            return False
        error = None
        if newest and newest.result == 'Error':
            error = newest.details
        if new and error is not None:
            self._fail(error)
        unmet = server.unmet(seen.cells)
        if seen.looked:
            # A reason that the host has given already is not repeated.
            reason = '; '.join(unmet or ()) if error is None else error
            wrong = error is not None if unmet is None else bool(unmet)
            if wrong and now and not now.busy:
                self._fail(reason, 'was changed, but not all is as it is '
                                   'meant' if new else 'stays as it is')
            return not wrong
        if unmet is not None:
            # Where it does not run, what it owns is all there is of it.
            return bool(not unmet and now
                        and now.found['status'] == _SHUTOFF)
        if self._same and error is not None:
            self._fail(error)
        return new or self._same

    def _fail(self, reason: str, what: str = 'stays as it is') -> NoReturn:
        raise exceptions.CommandError(
            f"Server '{self._server.name}' {what}: {reason}")
