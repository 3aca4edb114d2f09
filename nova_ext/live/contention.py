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

"""What is wanted and waited for on the nodes of this host, as it was measured.

Read once a period (:data:`kongming.load.balance.PERIOD`), in the thread that
reads the load.  What floats on a node is known of cells of servers that are
looked at, from their vCPUs; of all others, native servers and threads of the
host, it is what the node's pCPUs did besides.

Nothing here decides anything; :mod:`nova_ext.live.balance` does.
"""

import collections
import dataclasses
from typing import Any, NamedTuple

from kongming.kernel import vcpu_times
from kongming.load import balance
from kongming.load import figures
from kongming.memory import order
from kongming.template import template
from oslo_log import log as logging

from nova_ext.ownership import ownership

LOG = logging.getLogger(__name__)
_NS = 10 ** 9


@dataclasses.dataclass
class Reading:
    """What was read of a server last.

    :ivar counters: None: it could not be read
    :ivar remote: memory on other nodes, in per cent, where known
    :ivar memory_on: node -> KiB of its memory there, where known
    """

    counters: figures.Counters | None
    remote: float | None = None
    memory_on: dict[int, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Known:
    """A server as the last pass had it.

    :ivar template: what it is to be, without a goal
    """

    server: Any
    template: template.Template

    @property
    def cells(self):
        return ownership.Ownership(self.server.numa_topology).current.cells


class Measured(NamedTuple):
    """
    :ivar nodes: kongming.load.balance.Node of each; none where it is not
        known what their pCPUs did
    :ivar cells: kongming.load.balance.Cell of each that is known for long
        enough
    """

    nodes: list[balance.Node]
    cells: list[balance.Cell]


class Contention:
    """Of one host; of the thread that reads."""

    def __init__(self):
        self._began: float | None = None
        self._counters: dict[str, figures.Counters] = {}
        self._pcpus: dict[int, figures.Times] = {}
        self._recent: dict[tuple[str, int], balance.Recent] = {}
        self._others: dict[int, collections.deque[float]] = {}
        self._unknown = ''

    def is_due(self, now):
        """Whether a period is over, or none has begun."""
        return self._began is None or now - self._began >= balance.PERIOD

    def measure(self, now, host, known, readings, lent):
        """A period is over, and another one begins.

        :param now: seconds, as those of readings
        :param host: kongming.host.usage.HostState
        :param known: uuid -> Known
        :param readings: uuid -> Reading
        :param lent: pCPUs that are lent now
        :returns: Measured
        """
        places = {node.id: (node.shared, node.dedicated & lent)
                  for node in host.nodes}
        pcpus = self._read_pcpus(frozenset().union(
            *(shared | borrowed for shared, borrowed in places.values())))
        seconds = now - self._began if self._began is not None else 0.0
        cells, wanted, new = self._cells(known, readings, places)
        nodes = self._nodes(places, pcpus, wanted, new, seconds)
        self._began, self._pcpus = now, pcpus
        self._counters = {
            uuid: reading.counters for uuid, reading in readings.items()
            if reading.counters is not None}
        return Measured(nodes, cells)

    def _read_pcpus(self, wanted):
        try:
            found = vcpu_times.pcpus(wanted)
        except OSError as exc:
            if str(exc) != self._unknown:
                self._unknown = str(exc)
                LOG.warning('No cell is balanced, as the kernel does not '
                            'tell what pCPUs did: %s', exc)
            return {}
        self._unknown = ''
        return found

    def _cells(self, known, readings, places):
        """What is known of cells.

        :returns: kongming.load.balance.Cell of each; node -> pCPUs that all
            of them wanted in the last period; and those of such that are
            known for too short a time to be among the first
        """
        found = []
        wanted: collections.defaultdict[int, float] = (
            collections.defaultdict(float))
        new: collections.defaultdict[int, float] = (
            collections.defaultdict(float))
        for uuid, each in known.items():
            reading = readings.get(uuid)
            if reading is None:
                continue
            before, after = self._counters.get(uuid), reading.counters
            cells = each.cells
            at = [cell.id for cell in cells]
            for number, cell in enumerate(cells):
                if not cell.cpuset:
                    continue
                measured = (None if before is None or after is None else
                            figures.between(before, after, cell.cpuset))
                recent = self._recent.setdefault((uuid, number),
                                                 balance.Recent())
                recent.add(measured)
                least = recent.least
                if measured is None:
                    continue
                demand = len(cell.cpuset) * measured.use / 100
                wanted[cell.id] += demand
                if least is None:
                    new[cell.id] += demand
                    continue
                borrows = bool(each.template.borrow)
                found.append(balance.Cell(
                    uuid, number, cell.id, len(cell.cpuset), least.use,
                    least.wait, cell.memory * 1024, frozenset(
                        node for node, (shared, lent) in places.items()
                        if node != cell.id and each.template.is_open(number)
                        and (shared or borrows and lent)
                        and order.keeps(at, number, node)),
                    borrows, reading.remote or 0.0, reading.memory_on))
        for key in self._recent.keys() - {
                (uuid, number) for uuid in known.keys() & readings.keys()
                for number in range(len(known[uuid].cells))}:
            del self._recent[key]
        return found, wanted, new

    def _nodes(self, places, pcpus, known, new, seconds):
        """kongming.load.balance.Node of each; none where that is not known.

        :param known: node -> pCPUs that cells wanted; ``new``: those of them
            that count as others' still
        """
        nodes = []
        for node, (shared, lent) in places.items():
            wanted = 0
            for pcpu in shared | lent:
                before = self._pcpus.get(pcpu)
                if before is not None and pcpu in pcpus:
                    wanted += sum(pcpus[pcpu]) - sum(before)
                elif pcpu not in lent:
                    return []
            if not seconds:
                return []
            others = max(0.0, wanted / _NS / seconds - known[node])
            recent = self._others.setdefault(
                node, collections.deque(maxlen=balance.PERIODS))
            recent.append(others)
            nodes.append(balance.Node(node, len(shared), len(lent),
                                      max(recent) + new[node]))
        return nodes
