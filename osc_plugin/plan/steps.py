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

"""Hosts for a plan of moves, and the plan carried out."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence

from openstack import connection
from openstack import exceptions as sdk_exc
from osc_lib import exceptions

from kongming.compute import servers
from kongming.deployment import deployment as dep
from kongming import exception
from kongming.fit import demand
from kongming.plan import defrag
from kongming.plan import document
from kongming.plan import figures
from kongming.plan import order
from kongming.template import metadata as metadata_mod
from kongming.template import template as template_mod
from osc_plugin import cloud
from osc_plugin.deployment import rollout
from osc_plugin.server import running


class Host:
    """A host with the servers that Nova shows.

    :ivar projected: the host for a plan
    :ivar names: server id -> name
    :ivar labels: server id -> how to call it
    """

    def __init__(self, conn: connection.Connection,
                 host: cloud.PublishedHost) -> None:
        if not host.exact:
            host, = cloud.hosts(conn, host.name)
        occupied = servers.occupied(conn, host.uuid, host.state)
        found = []
        for server in servers.on_host(conn, host.uuid):
            task = server.get('OS-EXT-STS:task_state')
            one = rollout.found_server(conn, server)
            found.append(one._replace(status=task) if task else one)
        self.name = host.name
        self.projected = defrag.of_host(host.name, dep.Host(
            host.state, occupied.nodes, occupied.names), found)
        self.names = {server.id: server.name for server in found}
        self.labels = dict(occupied.names)
        self._owned = {
            (server, node): mine.pcpus
            for node, owned in occupied.nodes.items()
            for server, mine in owned.items()}

    def owners(self, goals: Mapping[str, document.Move] | None = None
               ) -> figures.Owners:
        """Who owns what, now or when these have moved."""
        found: dict[str, list[tuple[int, list[int]]]] = {}
        for (server, node), pcpus in self._owned.items():
            if server not in (goals or {}):
                found.setdefault(server, []).append((node, list(pcpus)))
        for server, move in (goals or {}).items():
            found[server] = [(node, list(pins.values()))
                             for node, pins in move.goal]
        return found

    def words(self, owners: figures.Owners) -> dict[int, str]:
        """pCPU -> how to call its owner."""
        return {pcpu: self.labels.get(server, server)
                for server, cells in owners.items()
                for _node, pcpus in cells for pcpu in pcpus}

    def figures(self, steps: Sequence[document.Step], answer: defrag.Answer,
                wanted: demand.Demand | None = None
                ) -> Mapping[str, Mapping[str, int]]:
        """Before and after the steps of an answer.

        :param wanted: of whom the figures say how many more fit
        """
        goals = {move.id: move for step in steps for move in step.moves
                 if step.host == self.name}
        return document.figures(
            figures.of({self.name: self.projected.state},
                       {self.name: self.owners()}, wanted),
            figures.of({self.name: answer.after},
                       {self.name: self.owners(goals)}, wanted))


class Carry:
    """Carries out steps of running servers, one after the other.

    Where a server is shows whether its part is done, so the same steps
    continue where they were stopped, and their reverse reverts them.

    :param timeout: for each step, in seconds
    :param progress: called with a line before each step
    """

    def __init__(self, conn: connection.Connection, timeout: float,
                 progress: Callable[[str], object]) -> None:
        self._conn = conn
        self._timeout = timeout
        self._progress = progress

    def run(self, steps: Sequence[document.Step]) -> int:
        """
        :returns: how many steps there were to do
        :raises CommandError: naming the step, and how many are done
        """
        todo = [(step, moves) for step in steps
                if (moves := [move for move in step.moves
                              if not self._is_done(step, move)])]
        for number, (step, moves) in enumerate(todo, 1):
            what = '; '.join(f'{move.name}: {move}' for move in moves)
            self._progress(f'[{number}/{len(todo)}] {step.host}: {what}')
            try:
                self._do(step, moves)
            except KeyboardInterrupt:
                self._stop(number, len(todo), what, 'stopped')
            except (exceptions.CommandError, exception.KongmingError,
                    sdk_exc.SDKException) as exc:
                reason = getattr(exc, 'details', None) or str(exc)
                self._stop(number, len(todo), what, reason.rstrip('.'))
        return len(todo)

    @staticmethod
    def _stop(number: int, count: int, what: str, reason: str) -> None:
        raise exceptions.CommandError(
            f"{number - 1} of {count} steps are done, then: {what}: {reason}. "
            f"'openstack kongming plan apply' goes on from there, 'plan "
            f"revert' reverts what is done.")

    def _is_done(self, step: document.Step,
                 move: document.Move) -> bool:
        """
        :raises CommandError: if it is neither done nor to be done
        """
        server = running.Server.find(self._conn, move.id)
        cells = tuple(servers.cells(self._conn, move.id) or ())
        if server.host != step.host or cells not in (move.was, move.goal):
            raise exceptions.CommandError(
                f"Server '{move.name}' is neither where the plan found it nor "
                f"where the plan puts it; it has changed since, so make the "
                f"plan anew. Nothing was moved.")
        return cells == move.goal

    def _do(self, step: document.Step,
            moves: Sequence[document.Move]) -> None:
        """Say where to be in the metadata, until it is so."""
        changed = [running.Server.find(self._conn, move.id) for move in moves]
        changes = []
        for server, move in zip(changed, moves):
            desired = order.desired(server.intent().base,
                                    move.spot(step.host))
            change = metadata_mod.express(
                server.metadata,
                template_mod.Template(nodes=desired.nodes, pins=desired.pins))
            server.check(change.applied(server.metadata))
            changes.append(dep.Change(server.id, server.name, change))
        try:
            rollout.change(self._conn, changes, self._timeout)
        finally:
            # What it owns stays, whatever the metadata say of it; they say
            # again what they said before, and no request is left in them.
            for server in changed:
                _restore(server)


def _restore(before: running.Server) -> None:
    now = before.again()
    mine, was = template_mod.ours(now.metadata), template_mod.ours(
        before.metadata)
    running.write(now, metadata_mod.Changes(
        {key: value for key, value in was.items() if mine.get(key) != value},
        sorted(mine.keys() - was.keys(), reverse=True)))
