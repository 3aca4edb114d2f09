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

"""Which servers would better be on another host: a plan of moves.

A server waits on its host, and no other node of that helps; or its memory is
on another node than its cell.  It goes to a node of a host

- on which its vCPUs wait less, as far as it is known what is wanted there,
- and where it fits by its template, beside those that the plan has sent
  there before.

The plan is greedy: the move that saves most comes first, and the next one is
worked out after it.  What a server leaves behind on its host is had by those
who wait there; nobody else is sent there before it is really gone.

Nothing here moves anything.
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Mapping
from typing import NamedTuple

from kongming.fit import capacity
from kongming.fit import demand as demand_mod
from kongming.fit import fit
from kongming.host import usage
from kongming.load import balance

#: pCPUs for each vCPU that a move to another host has to save.
_PAYS = 0.05


class Host(NamedTuple):
    """A host that may get servers.

    :ivar limits: how far what floats may overcommit it
    """

    state: usage.HostState
    limits: usage.Limits = usage.Limits()


class Place(NamedTuple):
    """A node of a host.

    :ivar pcpus: for what floats there
    :ivar wanted: how many of them are, by all
    """

    host: str
    node: int
    pcpus: int
    wanted: float


class Server(NamedTuple):
    """A server of one cell, as it was measured.

    :ivar node: that its cell is on; None: not known, as nothing of it floats
    :ivar vcpus: how many float
    :ivar use: of these, in per cent
    :ivar wait: likewise
    :ivar remote_mib: memory of it that is on other nodes; 0 where that is too
        little to move it for (:data:`kongming.load.balance.REMOTE`)
    """

    id: str
    host: str
    node: int | None
    vcpus: int = 0
    use: float = 0.0
    wait: float = 0.0
    remote_mib: int = 0

    @property
    def demand(self) -> float:
        """In pCPUs."""
        return self.vcpus * self.use / 100

    @property
    def waits(self) -> float:
        """pCPUs that it waits for."""
        return self.vcpus * self.wait / 100


class Step(NamedTuple):
    """One move of a plan.

    :ivar saves: pCPUs that are waited for no more
    :ivar local_mib: memory that is on its cell's node then, and was not
    """

    server: Server
    place: Place
    saves: float
    local_mib: int


def plan(servers: Iterable[Server], places: Iterable[Place],
         hosts: Mapping[str, Host], demands: Mapping[str, demand_mod.Demand],
         barred: Mapping[str, Collection[str]] = {}) -> list[Step]:
    """Moves to other hosts, each after those before it.

    :param servers: those that a move may help
    :param places: of which it is known what is wanted there
    :param hosts: by name; no server goes to any other one
    :param demands: by server; one that is not there stays
    :param barred: server -> hosts that it may not go to
    """
    left = list(servers)
    at = {place[:2]: place for place in places}
    targets = dict(hosts)
    steps: list[Step] = []
    while True:
        found = _first(left, at.values(), targets, demands, barred)
        if found is None:
            return steps
        step, after = found
        server, place = step.server, step.place
        steps.append(step)
        targets[place.host] = after
        at[place[:2]] = place._replace(wanted=place.wanted + server.demand)
        left = _without(left, server)


def _first(servers: Iterable[Server], places: Collection[Place],
           hosts: Mapping[str, Host],
           demands: Mapping[str, demand_mod.Demand],
           barred: Mapping[str, Collection[str]]
           ) -> tuple[Step, Host] | None:
    """The best move, and its host after it."""
    for step in _better(servers, places, barred):
        after = _after(hosts.get(step.place.host),
                       demands.get(step.server.id), step.place.node)
        if after is not None:
            return step, after
    return None


def _better(servers: Iterable[Server], places: Collection[Place],
            barred: Mapping[str, Collection[str]]) -> list[Step]:
    """Moves that pay, the best first, whether they fit there or not."""
    found = []
    for server in servers:
        for place in places:
            if place.host == server.host or (
                    place.host in barred.get(server.id, ())):
                continue
            missing = max(0.0, place.wanted + server.demand - place.pcpus)
            saves = server.waits - missing
            if server.wait >= balance.WAITS and saves > _PAYS * server.vcpus:
                found.append(Step(server, place, round(saves, 2),
                                  server.remote_mib))
            elif server.remote_mib and not (server.vcpus and missing):
                found.append(Step(server, place, 0.0, server.remote_mib))
    return sorted(found, key=lambda step: (
        -step.saves, -step.local_mib, step.place.wanted - step.place.pcpus,
        step.server.id, step.place))


def _after(host: Host | None, demand: demand_mod.Demand | None,
           node: int) -> Host | None:
    """The host with a server on a node; None: it does not fit there."""
    if host is None or demand is None or len(demand.cells) != 1:
        return None
    found = fit.fit(host.state, demand, allowed={0: (node,)},
                    limits=host.limits)
    if not isinstance(found, fit.Assignment):
        return None
    return host._replace(state=capacity.after(host.state, demand, found))


def _without(servers: Iterable[Server], gone: Server) -> list[Server]:
    """Servers once one has left: the others of its node wait less."""
    rest = [each for each in servers if each.id != gone.id]

    def is_beside(each: Server) -> bool:
        return (each.host, each.node) == (gone.host, gone.node)

    waits = sum(each.waits for each in rest if is_beside(each))
    share = max(0.0, 1 - (gone.demand - gone.waits) / waits) if waits else 0.0
    return [each._replace(wait=each.wait * share) if is_beside(each) else each
            for each in rest]
