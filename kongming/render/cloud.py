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

"""What is drawn of a whole cloud: hosts, servers, what became of them.

Names of servers, hosts and flavors are other people's text.  Whoever makes
these values takes them as they come; whoever draws them escapes what is not
to be seen (:func:`kongming.exception.printable`).
"""

from __future__ import annotations

import collections
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
from typing import NamedTuple

from kongming.fit import fragmentation
from kongming.host import topology
from kongming.host import usage


#: What becomes of a live change; 'running' as long as it is not over.
RESULTS = ('Success', 'Error', 'running')


class Cell(NamedTuple):
    """A guest cell, where it is.

    :ivar node: the host's
    :ivar pins: vCPU -> pCPU that it owns
    :ivar pcpus: all that it owns; with an idle sibling that is kept free for
        it these are more than are pinned
    :ivar floating: how many vCPUs float
    """

    node: int
    pins: Mapping[int, int]
    pcpus: frozenset[int]
    floating: int
    memory_mib: int
    page_kib: int | None = None


class Change(NamedTuple):
    """A live change of a server that is over, or under way.

    :ivar started: in UTC, as Nova has it (ISO 8601)
    :ivar result: of :data:`RESULTS`
    :ivar details: why it was refused or rolled back, as far as is known
    """

    started: str
    result: str = 'Success'
    details: str = ''


@dataclasses.dataclass(frozen=True)
class Server:
    """A server on one of the hosts.

    :ivar host: the name of its host
    :ivar cells: None where Nova does not tell
    :ivar profile: the profile that is active
    :ivar has_template: whether its flavor has a template
    :ivar drift: what of its template it does not have, in words
    :ivar changes: the newest first
    """

    id: str
    name: str
    host: str
    project: str = ''
    status: str = ''
    flavor: str = ''
    profile: str | None = None
    has_template: bool = False
    cells: tuple[Cell, ...] | None = ()
    drift: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()

    @property
    def pcpus(self) -> frozenset[int]:
        """All that it owns."""
        return frozenset().union(*(cell.pcpus for cell in self.cells or ()))


@dataclasses.dataclass(frozen=True)
class Host:
    """A host that is published.

    :ivar obeys: whether its nova-compute obeys templates; None where nobody
        was asked
    :ivar live: act, observe or off ([kongming] live_changes)
    :ivar zones: its database of time zones; None where it is not known
    """

    name: str
    uuid: str
    state: usage.HostState
    obeys: bool | None = True
    live: str = 'act'
    zones: str | None = None


class Sums(NamedTuple):
    """pCPUs of a node, a host or a cloud.

    :ivar stranded: those of the free ones that
        :func:`kongming.fit.fragmentation.stranded` names
    """

    dedicated: int
    free: int
    stranded: int
    owned: int
    shared: int
    offline: int

    def __add__(self, other: object) -> Sums:
        if not isinstance(other, Sums):
            return NotImplemented
        return Sums(*map(sum, zip(self, other)))


stranded = fragmentation.stranded
_NONE = Sums(0, 0, 0, 0, 0, 0)


def sums(nodes: Iterable[usage.NodeState]) -> Sums:
    """Of nodes together."""
    total = _NONE
    for node in nodes:
        total += Sums(
            len(node.dedicated), node.n_free,
            len(stranded(node)),
            len(node.taken & node.dedicated), len(node.shared),
            len(node.offline()))
    return total


@dataclasses.dataclass(frozen=True)
class Cloud:
    """All of it at one moment.

    :ivar name: what the cloud is called
    :ivar moment: when it was read, in UTC (ISO 8601)
    :ivar hosts: by name
    :ivar servers: of these hosts
    :ivar leftovers: (name, why) of what no host needs any more
    :ivar doubts: what could not be found out, in words
    :ivar with_history: whether the servers' changes were asked for
    """

    name: str
    moment: str
    hosts: tuple[Host, ...]
    servers: tuple[Server, ...] = ()
    leftovers: tuple[tuple[str, str], ...] = ()
    doubts: tuple[str, ...] = ()
    with_history: bool = False

    def by_host(self) -> dict[str, list[Server]]:
        """host's name -> its servers, by name."""
        found: dict[str, list[Server]] = {host.name: [] for host in self.hosts}
        for server in sorted(self.servers,
                             key=lambda each: (each.name, each.id)):
            if server.host in found:
                found[server.host].append(server)
        return found


def conflicts(host: Host, servers: Sequence[Server]) -> list[str]:
    """What can not be of who owns what of a host, in words.

    :param servers: those on this host
    """
    owners: dict[int, list[str]] = collections.defaultdict(list)
    for server in servers:
        for pcpu in server.pcpus:
            owners[pcpu].append(server.name)
    found = [f'pCPU {pcpu} is owned by {" and by ".join(names)}'
             for pcpu, names in sorted(owners.items()) if len(names) > 1]
    free = frozenset().union(*(node.free for node in host.state.nodes))
    wrong = free & owners.keys()
    if wrong:
        found.append(
            f'Placement has pCPU {topology.format_cpu_list(wrong)} as free, '
            f'which servers own')
    return found
