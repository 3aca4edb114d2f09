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

"""The memory of this host's servers, on the nodes of their cells.

:class:`kongming.kernel.mover.Mover` moves it, in a job's thread.  The calls of
the kernel are made by privsep's daemon: one that takes long holds up nothing
in nova-compute.
"""

import collections
import threading
from xml.etree import ElementTree

from kongming import exception as km_exc
from kongming.kernel import mover
from kongming.kernel import numa
from kongming.kernel import process
from kongming.libvirt import memory
from kongming.memory import move
from kongming.memory import refusal
import nova.conf
from oslo_log import log as logging

from nova_ext.live import record
from nova_ext import privileged

CONF = nova.conf.CONF
LOG = logging.getLogger(__name__)


def nodes_of(topology):
    """The node of each cell.

    :param topology: nova.objects.InstanceNUMATopology, of one place
    """
    return tuple(cell.id for cell in topology.cells)


class MemoryMoves:
    """The memory of servers; changes no pCPU and no ownership."""

    def __init__(self):
        #: node -> held while the memory of a server goes there: what is free
        #: is asked for before, and is not there for another one
        self._arrivals = collections.defaultdict(threading.Lock)
        #: server -> (pid, nodes) with which all of it was found in its place
        self._verified = {}
        #: servers whose memfd was reported to be bound elsewhere
        self._stale = set()
        #: servers of which it was reported that nothing is known
        self._unknown = set()

    def retain(self, uuids):
        """Forget all servers but these."""
        for uuid in self._verified.keys() - uuids:
            self._verified.pop(uuid, None)
        self._stale &= uuids
        self._unknown &= uuids

    @staticmethod
    def why_not(domain):
        """Why the memory of a server can't go to another node; empty: it can.

        :param domain: libvirt.virDomain, which runs
        """
        reason = refusal.of_xml(ElementTree.fromstring(domain.XMLDesc(0)))
        if reason:
            return reason
        pid = process.pid(domain)
        if pid is None:
            return ('its process is not on this machine, where nova-compute '
                    'would ask the kernel to move it')
        try:
            found = mover.found(privileged.in_the_way(pid))
        except Exception as exc:
            # Without privsep, say; its pCPUs can change all the same.
            LOG.warning('The kernel could not be asked about its memory: %s',
                        exc)
            return f'the kernel could not be asked about it: {exc}'
        return '; '.join(refusal.reasons(found, (), ()))

    def move(self, server, domain, before, after, run_on, job):
        """Move threads and memory of a server to the nodes of its cells.

        :param before: topology of the server; None where it only goes back
            to where it was, and nothing is asked first
        :param after: the topology that it is to have; one cell's node differs
        :param run_on: moves the threads
        :param job: nova_ext.live.jobs.Job, is told how far it is
        :returns: KiB of memory that were moved
        :raises record.ChangeFailed: if something is in the way, before
            anything is touched
        :raises kongming.exception.KongmingError: if pages or policies stay
            elsewhere
        """
        if before is None:
            run_on()
            return self._go(server, domain, after, job)
        node, = set(nodes_of(after)) - set(nodes_of(before))
        with self._arrivals[node]:
            self._check(domain, before, after)
            run_on()
            return self._go(server, domain, after, job)

    def _check(self, domain, before, after):
        reason = self.why_not(domain)
        if reason:
            raise record.ChangeFailed(reason=reason)
        was, nodes = nodes_of(before), nodes_of(after)
        found = self._mover(domain, after)
        try:
            seen = found.check(was, nodes)
            for cell, source, node in zip(seen.cells, was, nodes):
                if source != node:
                    memory.check_free_memory(
                        domain.connect(),
                        cell.size_kib - cell.kib.get(node, 0),
                        cell.page_kib, node)
        except km_exc.KongmingError as exc:
            raise record.ChangeFailed(reason=str(exc)) from exc

    def move_home(self, server, domain, topology):
        """Move memory that is elsewhere back to its server's nodes.

        :param topology: of the server, of one place
        """
        self._go(server, domain, topology)

    def _go(self, server, domain, topology, job=None):
        goal = nodes_of(topology)

        def report(words):
            if job is not None:
                job.progress = words
            LOG.info('%s', words, instance=server)

        found = self._mover(domain, topology, report)
        self._verified.pop(server.uuid, None)
        moved = mover.moved_kib(found.look(goal), goal)
        LOG.info('%(kib)d KiB of memory move; cells are to be on node '
                 '%(nodes)s', {'kib': moved,
                               'nodes': ', '.join(map(str, goal))},
                 instance=server)
        self._note(server, domain, found.go(goal), goal)
        return moved

    def _note(self, server, domain, seen, goal):
        """Remember that all is there, and report what is bound elsewhere."""
        stale = move.stale_policies(seen, goal)
        if not stale:
            self._stale.discard(server.uuid)
            self._verified[server.uuid] = process.pid(domain), goal
        elif server.uuid not in self._stale:
            self._stale.add(server.uuid)
            LOG.warning(
                'The memory of cell %s is on its node, but memfd memory '
                'stays bound to the node of its start: what the guest '
                'touches for the first time comes into being there, and is '
                'moved by the next pass. Its next start binds it anew',
                ', '.join(map(str, stale)), instance=server)

    def misplaced(self, server, domain, topology, pid):
        """In words, what of its memory is not on its nodes; empty: nothing.

        The kernel counts pages only where that may have changed: at first,
        where thread groups have other nodes, and for memfd.

        :param pid: its process; None where it is not on this machine
        """
        goal = nodes_of(topology)
        if pid is None:
            return ''
        try:
            return self._misplaced(server, domain, pid, topology, goal)
        except Exception as exc:
            # That it is elsewhere is not known; a change of node says more.
            if server.uuid not in self._unknown:
                self._unknown.add(server.uuid)
                LOG.warning('Where its memory is could not be found out: %s',
                            exc, instance=server)
            return ''

    def _misplaced(self, server, domain, pid, topology, goal):
        groups = numa.groups(pid)
        if (self._verified.get(server.uuid) == (pid, goal)
                and set(groups.values()) == {frozenset(goal)}):
            return ''
        seen = self._mover(domain, topology).look(goal)
        if move.is_there(seen, goal):
            self._note(server, domain, seen, goal)
            return ''
        return move.left(seen, goal) or 'a cell is bound to another node'

    @staticmethod
    def _mover(domain, topology, report=lambda words: None):
        pid = process.pid(domain)
        if pid is None:
            raise record.ChangeFailed(
                reason='its process is not on this machine')
        return mover.Mover(
            privileged, pid,
            [cell.memory * 1024 for cell in topology.cells],
            CONF.kongming.memory_move_slice,
            CONF.kongming.memory_move_timeout, report)
