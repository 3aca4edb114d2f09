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

"""One step of a live change, carried out or rolled back.

The database is the journal.  A step is

1. under Nova's resource lock: the server owns the new pCPUs *beside* the old
   ones, where Nova's audit counts them (:mod:`nova_ext.ownership.ownership`);
   the scheduler is told so only where memory moves, which takes long;
2. outside of it: libvirt moves threads and memory, which is read back;
3. under the lock again: it owns the new ones only.

So no pCPU has two owners at any moment, and after a crash between any two of
these the next pass finds a server that owns both, and has it own either.
A domain that Nova defines meanwhile is that of the old place
(:attr:`nova_ext.ownership.ownership.Ownership.current`).
"""

from kongming.libvirt import affinity
from nova.compute import resource_tracker
from nova import exception
from nova import objects
from nova import utils
from oslo_log import log as logging
from oslo_utils import excutils

from nova_ext.live import definition
from nova_ext.live import memory_moves
from nova_ext.live import record
from nova_ext.live import states
from nova_ext.ownership import claimed
from nova_ext.ownership import ownership
from nova_ext.ownership import write_ahead

LOG = logging.getLogger(__name__)


class Steps:
    """:param driver: nova_ext.driver.LibvirtDriver

    :param domains: nova_ext.live.domains.Domains
    :ivar moves: nova_ext.live.memory_moves.MemoryMoves
    """

    def __init__(self, driver, domains):
        self._driver = driver
        self._domains = domains
        self.moves = memory_moves.MemoryMoves()

    def take(self, context, server, step, intent, job):
        """Carry out a step; nothing has changed where this raises.

        :param server: nova.objects.Instance
        :param step: kongming.live.rearrange.Step
        :param intent: for its threads; they leave what others lend
        :param job: nova_ext.live.jobs.Job, is told how far it is
        :returns: KiB of memory that were moved
        """
        server = self._own(context, server.uuid,
                           lambda mine: mine.with_target(step),
                           publish=step.moves_memory)
        mine = ownership.Ownership(server.numa_topology)
        before, after = mine.at_end_of(step.back()), mine.at_end_of(step)
        try:
            if self._domains.domain(server) is not None:
                self._domains.make_ready(server, after, intent)
            moved = self._go(server, before, after, intent, job)
            self._own(context, server.uuid, lambda mine: after)
        except Exception:
            with excutils.save_and_reraise_exception():
                self._back(context, server, after, before, intent, job)
        self._given_up(before, after)
        return moved

    def _given_up(self, before, after):
        """Nobody needs power for what a server owned."""
        self._driver.cpu_api.give_up(ownership.Ownership(before).pcpus
                                     - ownership.Ownership(after).pcpus)

    def _back(self, context, server, after, before, intent, job):
        """Roll back what was begun; else the next pass does.

        The database is asked first: where the answer to a save was lost,
        the old pCPUs may be another server's by now, and no thread may go
        back there.

        :param server: as it is while it owns both
        """
        def still_both(mine):
            if mine != ownership.Ownership(server.numa_topology):
                raise record.ChangeFailed(
                    reason='it owns something else by now')
            return mine.topology

        try:
            self._own(context, server.uuid, still_both)
            self._go(server, after, before, intent, job, is_back=True)
            self._own(context, server.uuid, lambda mine: before)
            self._given_up(after, before)
        except Exception:
            LOG.exception('A step could not be rolled back yet',
                          instance=server)

    def _go(self, server, before, after, intent, job, is_back=False):
        """Move threads, and memory where the node changes."""
        domain = self._domains.domain(server)
        if domain is None:
            return 0  # stopped: the next start is there
        if memory_moves.nodes_of(before) == memory_moves.nodes_of(after):
            self._domains.run_on(server, after, intent)
            return 0
        moved = self.moves.move(
            server, domain, None if is_back else before, after,
            lambda: self._domains.run_on(server, after, intent), job)
        self._write_down(server, domain, after)
        return moved

    @staticmethod
    def _write_down(server, domain, topology):
        try:
            definition.bind(domain, memory_moves.nodes_of(topology))
        except Exception:
            # It is corrected before Nova starts anything by it.
            LOG.warning('Its persistent definition names the old nodes of '
                        'its memory', exc_info=True, instance=server)

    def move_memory_home(self, server, domain, topology):
        """See :meth:`nova_ext.live.memory_moves.MemoryMoves.move_home`."""
        self.moves.move_home(server, domain, topology)
        self._write_down(server, domain, topology)

    @utils.synchronized(resource_tracker.COMPUTE_RESOURCE_SEMAPHORE,
                        fair=True)
    def _own(self, context, uuid, change, publish=True):
        """Change what a server owns; returns it as it is then.

        :param change: called with its nova_ext.ownership.ownership.Ownership;
            returns the InstanceNUMATopology that it is to have
        :param publish: see :func:`nova_ext.ownership.write_ahead.write`
        :raises record.ChangeFailed: if something else is being done to the
            server
        """
        rt = self._driver._tracker
        if uuid in write_ahead.uncertain(rt):
            raise record.ChangeFailed(
                reason='the answer to an earlier change was lost; it is left '
                       'alone until the database is known')
        server = objects.Instance.get_by_uuid(
            context, uuid, expected_attrs=['flavor', 'numa_topology',
                                           'migration_context',
                                           'system_metadata'])
        if (server.task_state is not None or server.host != rt.host
                or not states.is_changeable(server)):
            raise record.ChangeFailed(
                reason=f'the server is busy ({server.vm_state}, '
                       f'{server.task_state})')
        if not write_ahead.is_charged(
                rt, uuid, server.numa_topology,
                write_ahead.host_topology(rt.compute_nodes[server.node])):
            raise record.ChangeFailed(
                reason='the resource tracker does not count what it owns; '
                       'its next audit may')
        try:
            wanted = change(ownership.Ownership(server.numa_topology))
        except ownership.NotAtStart as exc:
            raise record.ChangeFailed(reason=str(exc)) from exc
        if (wanted is not server.numa_topology
                or server.numa_topology.obj_what_changed()):
            write_ahead.write(rt, claimed.ClaimedServer(
                server, server.node, None), server.numa_topology, wanted,
                publish)
        return server

    @utils.synchronized(resource_tracker.COMPUTE_RESOURCE_SEMAPHORE,
                        fair=True)
    def end_move(self, context, uuid):
        """Drop what is left on a server of a move that was cut short.

        Nova would keep it, and apply it when the server is rebuilt.

        :returns: the server as it is then
        """
        rt = self._driver._tracker
        server = objects.Instance.get_by_uuid(
            context, uuid, expected_attrs=[
                'flavor', 'numa_topology', 'metadata', 'migration_context',
                'system_metadata'])
        move = server.migration_context
        if (move is None or server.task_state is not None
                or server.host != rt.host):
            return server
        try:
            migration = objects.Migration.get_by_id(
                context, move.migration_id)
        except exception.MigrationNotFound:
            migration = None
        if (migration is not None and migration.dest_compute == rt.host
                and migration.source_compute != rt.host):
            # It came here, and this is what Nova's audit counts
            # (nova/compute/resource_tracker.py, _update_available_resource).
            server.numa_topology = move.new_numa_topology
            server.save()
        server.drop_migration_context()
        LOG.info('A move was cut short; the server stays with %s',
                 ownership.Ownership(server.numa_topology).pins,
                 instance=server)
        return server

    def unmark(self, context, server):
        """Save what a server owns without marks of changes; returns it.

        See :meth:`nova_ext.ownership.claimed.ClaimedServer.unmark`.
        """
        try:
            return self._own(context, server.uuid,
                             lambda mine: mine.topology).numa_topology
        except record.ChangeFailed:
            # Busy; the next pass tries again.
            return server.numa_topology

    def drop_target(self, context, server):
        """Drop the target that a step which was cut short has left.

        :returns: what it owns then
        """
        # The emulator is where its threads are, or anywhere.
        domain = self._domains.domain(server)
        mine = ownership.Ownership(server.numa_topology)
        left = ownership.Ownership(mine.without_target(
            affinity.read(domain).emulator if domain else None))
        # Once that is not its own any more, it is too late to leave it.
        self._domains.leave_by(domain, left, mine.pcpus - left.pcpus)
        self._domains.check_left(domain, mine.pcpus - left.pcpus)
        found = self._own(
            context, server.uuid,
            lambda mine: mine.without_target(left.emulator)).numa_topology
        self._given_up(mine.topology, found)
        return found
