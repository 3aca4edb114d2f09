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

"""The memory of servers moved to another node, one after the other there."""

import collections
import threading

from kongming.kernel import process
from kongming.libvirt import memory
import nova.conf
from oslo_log import log as logging

from nova_ext.live import jobs
from nova_ext.live import record
from nova_ext import privileged

CONF = nova.conf.CONF
LOG = logging.getLogger(__name__)
#: How often the pages that have moved are counted, in seconds.
_COUNT_EVERY = 5.0


class MemoryMoves:
    """Those of one host."""

    def __init__(self):
        #: node -> held while the memory of a server goes there: what is free
        #: is asked for before, and is not there for another one
        self._arrivals = collections.defaultdict(threading.Lock)

    def move(self, server, domain, target, threads_first, job):
        """Move threads and memory of a server to a node.

        :param threads_first: has its threads go there
        :param job: nova_ext.live.jobs.Job, is told how far it is
        :returns: KiB that were moved
        :raises nova_ext.live.record.ChangeFailed: if it can't be moved
        """
        with self._arrivals[target]:
            bound = memory.read(domain)
            if bound.nodes != {target}:
                reason = memory.why_not(bound)
                if reason:
                    raise record.ChangeFailed(reason=reason)
                memory.check_free_memory(domain.connect(), bound, target)
            threads_first()
            return self._move(server, domain, bound, target, job)

    def move_home(self, server, domain):
        """Move memory that somebody has moved back to its server's node."""
        node = server.numa_topology.cells[0].id
        with self._arrivals[node]:
            bound = memory.read(domain)
            memory.check_free_memory(domain.connect(), bound, node)
            self._move(server, domain, bound, node,
                       jobs.Job({server.uuid}, 'memory'))

    def _move(self, server, domain, bound, target, job):
        LOG.info('%(kib)d KiB of memory go to node %(target)d',
                 {'kib': bound.size_kib, 'target': target}, instance=server)
        done = threading.Event()
        threading.Thread(target=self._count, daemon=True,
                         args=(server, domain, target, job, done)).start()
        job.blocks = True
        try:
            return memory.move(domain, target,
                               lambda: self.memory_by_node(server, domain),
                               CONF.kongming.memory_move_timeout)
        finally:
            job.blocks = False
            done.set()

    def _count(self, server, domain, target, job, done):
        """Tell how far the pages are, until it is done."""
        name = domain.name()
        while not done.wait(_COUNT_EVERY):
            found = self._memory_of(server, process.pid_of(name, server.uuid))
            if found is None:
                return
            job.progress = (f'{found.get(target, 0) // 1024} of '
                            f'{sum(found.values()) // 1024} MiB of memory '
                            f'are on node {target}')
            LOG.info('%s', job.progress, instance=server)

    @staticmethod
    def memory_by_node(server, domain):
        """node -> KiB, as the kernel counts; None where it can't be asked."""
        return MemoryMoves._memory_of(server, process.pid(domain))

    @staticmethod
    def _memory_of(server, pid):
        if pid is None:
            return None
        try:
            return privileged.memory_by_node(pid)
        except Exception as exc:
            # Without privsep, say; then libvirt's word has to do.
            LOG.warning('The kernel could not be asked where its memory is: '
                        '%s', exc, instance=server)
            return None
