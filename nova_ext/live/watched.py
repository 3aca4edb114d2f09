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

"""A server whose load is looked at, and what is read of it.

What its vCPUs did is a system call each; where its memory is the kernel finds
by going through all page tables, so that is asked seldom and by a thread of
its own.
"""

import collections
from collections.abc import Mapping
import dataclasses
import threading
from typing import Any

from kongming.kernel import process
from kongming.kernel import vcpu_times
from kongming.load import decision
from kongming.load import figures
from kongming.template import condition
from kongming.template import template
from oslo_log import log as logging

from nova_ext.live import contention
from nova_ext import privileged

LOG = logging.getLogger(__name__)
#: held by the thread that looks at memory
_looks_at_memory = threading.Lock()


@dataclasses.dataclass
class Watched:
    """A server with conditions, or with balance.

    :ivar template: its flavor's
    :ivar metadata: as far as they are obeyed
    :ivar evidence: why it switched, until that is recorded
    :ivar remote: memory on other nodes, in per cent, until that is taken in
    :ivar reading: what was read last, for balance
    """

    server: Any
    template: template.Template
    metadata: Mapping[str, str]
    domain: vcpu_times.Domain
    decider: decision.Decider = dataclasses.field(
        default_factory=decision.Decider)
    evidence: str = ''
    remote: float | None = None
    reading: contention.Reading = dataclasses.field(
        default_factory=lambda: contention.Reading(None))

    @classmethod
    def of(cls, server, flavor, metadata):
        return cls(server, flavor, metadata,
                   vcpu_times.Domain(server.name, server.uuid))

    @property
    def _cells(self):
        # A cell without vCPUs is a place that it is moving to.
        numa = self.server.numa_topology
        return [] if numa is None else [
            cell for cell in numa.cells if len(cell.total_cpus)]

    @property
    def wants_memory(self):
        """Whether it matters where its memory is."""
        return bool(self._cells) and (bool(self.template.balance) or any(
            each.figure == condition.REMOTE
            for each in decision.of_template(self.template)))

    def counters(self):
        """What its vCPUs did, read now.

        :returns: kongming.load.figures.Counters, with what is known of its
            memory since the last ones; None where it can not be read
        """
        try:
            found = self.domain.read()
        except OSError as exc:
            LOG.debug('It can not be read: %s', exc, instance=self.server)
            found = None
        self.reading.counters = found
        if found is not None:
            remote, self.remote = self.remote, None
            found = dataclasses.replace(found, remote=remote)
        return found

    def read_memory(self):
        """Look where its memory is."""
        # A pass may have a newer server in its place meanwhile.
        cells, pid = self._cells, self.domain.pid
        if pid is None or not cells:
            return
        try:
            maps, numa_maps, _groups = privileged.texts(pid)
            ram = [each.kib for each in process.parse_ram(
                maps, numa_maps, min(cell.memory for cell in cells) * 1024)]
            self.remote = self.reading.remote = figures.remote(
                ram, frozenset(cell.id for cell in cells))
            self.reading.memory_on = dict(sum(
                map(collections.Counter, ram), collections.Counter()))
        except Exception as exc:
            LOG.debug('Where its memory is can not be read: %s', exc,
                      instance=self.server)


def read_memory(wanted):
    """Look where the memory of servers is, beside everything else.

    Nothing is done while that goes on still: the kernel answers when nobody
    holds the lock of a process's mappings any more.

    :param wanted: Watched
    """
    def read():
        try:
            for known in wanted:
                known.read_memory()
        finally:
            _looks_at_memory.release()

    if not _looks_at_memory.acquire(blocking=False):
        return
    try:
        threading.Thread(target=read, daemon=True,
                         name='kongming-load-memory').start()
    except RuntimeError:
        # The system gives no thread; it is looked at later.
        _looks_at_memory.release()
        raise
