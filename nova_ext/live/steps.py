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
2. outside of it: libvirt moves threads and memory, which is read back;
3. under the lock again: it owns the new ones only.

So no pCPU has two owners at any moment, and after a crash between any two of
these the next pass finds a server that owns both, and has it own either.
A domain that Nova defines meanwhile is that of the old place
(:attr:`nova_ext.ownership.ownership.Ownership.current`).
"""

import collections
import dataclasses
import threading
from xml.etree import ElementTree

from kongming.kernel import process
from kongming.libvirt import affinity
from kongming.libvirt import memory
from kongming.live import threads
from nova.compute import resource_tracker
from nova.compute import vm_states
import nova.conf
from nova import exception
from nova import objects
from nova import utils
from oslo_log import log as logging
from oslo_utils import excutils

from nova_ext import guests
from nova_ext import limits
from nova_ext.live import jobs
from nova_ext.live import record
from nova_ext.ownership import claimed
from nova_ext.ownership import ownership
from nova_ext.ownership import write_ahead
from nova_ext import privileged
from nova_ext import translate

CONF = nova.conf.CONF
LOG = logging.getLogger(__name__)
#: States in which a server's ownership changes.  A server that is rescued or
#: suspended goes on with the domain that was saved before, pins included.
CHANGEABLE = vm_states.ACTIVE, vm_states.PAUSED, vm_states.STOPPED
#: How often the pages that have moved are counted, in seconds.
_COUNT_EVERY = 5.0


class Steps:
    """:param driver: nova_ext.driver.LibvirtDriver"""

    def __init__(self, driver):
        self._driver = driver
        #: server -> (key of its topology, threads): what Nova would make of
        #: it
        self._known = {}
        #: (server, whether it borrows) -> (what it was worked out of, the
        #: threads that are wanted and what was not obeyed)
        self._wanted = {}
        #: server -> (XML of its domain, Threads and Memory in it)
        self._read = {}
        #: server -> its Memory, as it was read in this pass
        self._memory = {}
        #: the host and its key, in this pass
        self._host = None
        self._last_layout = None
        #: node -> held while the memory of a server goes there: what is free
        #: is asked for before, and is not there for another one
        self._arrivals = collections.defaultdict(threading.Lock)

    def take(self, context, server, step, intent, job):
        """Carry out a step; nothing has changed where this raises.

        :param server: nova.objects.Instance
        :param step: kongming.live.rearrange.Step
        :param intent: for its threads; they leave what others lend
        :param job: nova_ext.live.jobs.Job, is told how far it is
        :returns: KiB of memory that were moved
        """
        server = self._own(context, server.uuid,
                           lambda mine: mine.with_target(step))
        mine = ownership.Ownership(server.numa_topology)
        before, after = mine.at_end_of(step.back()), mine.at_end_of(step)
        try:
            moved = self._go(server, before, after, intent, job)
            self._own(context, server.uuid, lambda mine: after)
        except Exception:
            with excutils.save_and_reraise_exception():
                self._back(context, server, after, before, intent, job)
        return moved

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
            self._go(server, after, before, intent, job)
            self._own(context, server.uuid, lambda mine: before)
        except Exception:
            LOG.exception('A step could not be rolled back yet',
                          instance=server)

    def _go(self, server, before, after, intent, job):
        """Move threads, and memory where the node changes."""
        domain = self.domain(server)
        if domain is None:
            return 0  # stopped: the next start is there
        nodes = [[cell.id for cell in topology.cells]
                 for topology in (before, after)]
        if nodes[0] == nodes[1]:
            self.run_on(server, after, intent)
            return 0
        target = after.cells[0].id
        with self._arrivals[target]:
            bound = memory.read(domain)
            if bound.nodes != {target}:
                reason = memory.why_not(bound)
                if reason:
                    raise record.ChangeFailed(reason=reason)
                memory.check_free_memory(domain.connect(), bound, target)
            self.run_on(server, after, intent)
            return self._move_memory(server, domain, bound, target, job)

    def move_memory_home(self, server, domain):
        """Move memory that somebody has moved back to its server's node."""
        node = server.numa_topology.cells[0].id
        with self._arrivals[node]:
            bound = memory.read(domain)
            memory.check_free_memory(domain.connect(), bound, node)
            self._move_memory(server, domain, bound, node,
                              jobs.Job({server.uuid}, 'memory'))

    def _move_memory(self, server, domain, bound, target, job):
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
        return Steps._memory_of(server, process.pid(domain))

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

    def wanted(self, server, topology, intent, lent=frozenset()):
        """The threads of a server, by what it owns and its template.

        :param lent: pCPUs that other servers lend
        :returns: kongming.live.threads.Threads, and what was not obeyed and
            why
        """
        key = key_of(topology)
        host, host_key = self._layout()
        given = key, intent, lent, host_key
        memo = self._wanted.get((server.uuid, bool(lent)))
        if memo is not None and memo[0] == given:
            return memo[1]
        known = self._known.get(server.uuid)
        if known is None or known[0] != key:
            config = self._driver.native_numa_config(
                topology, server.flavor,
                objects.ImageMeta.from_instance(server))
            known = key, guests.threads_of(config)
            self._known[server.uuid] = known
        found = threads.shape(known[1], host,
                              ownership.Ownership(topology).owned, intent,
                              lent)
        self._wanted[server.uuid, bool(lent)] = given, found
        return found

    def layout(self):
        """The host, as far as its pCPUs are concerned."""
        return self._layout()[0]

    def _layout(self):
        found = self._host
        if found is None:
            # Another thread may forget it meanwhile.
            host = limits.host_state(self._driver._get_host_numa_topology())
            key = layout_key(host)
            if key == self._last_layout:
                key = self._last_layout  # quicker to compare
            self._last_layout = key
            found = self._host = host, key
        return found

    def dedicated(self):
        """All pCPUs of the host that servers can own."""
        return frozenset().union(*(
            node.dedicated for node in self.layout().nodes))

    def forget(self, uuids):
        """Forget what was worked out for others than these, and the host."""
        self._host = None
        self._memory.clear()
        for known in self._known, self._read:
            for uuid in known.keys() - uuids:
                known.pop(uuid, None)
        for key in list(self._wanted):
            if key[0] not in uuids:
                self._wanted.pop(key, None)

    def differences(self, server, topology, intent, lent=frozenset()):
        """In words, which threads are not where they are wanted."""
        domain = self.domain(server)
        if domain is None:
            return []
        wanted, _problems = self.wanted(server, topology, intent, lent)
        now, self._memory[server.uuid] = self._look(server, domain)
        return threads.changes(now, wanted)

    def _look(self, server, domain):
        """All of a domain's threads and its memory, by one question."""
        text = domain.XMLDesc(0)
        known = self._read.get(server.uuid)
        if known is None or known[0] != text:
            root = ElementTree.fromstring(text)
            known = text, affinity.of_xml(root), memory.of_xml(root)
            self._read[server.uuid] = known
        return self._with_sched(known[1], process.pid(domain)), known[2]

    def memory(self, server):
        """How its memory is bound, as this pass has read it.

        :returns: kongming.libvirt.memory.Memory; None where it does not run
        """
        found = self._memory.get(server.uuid)
        if found is None:
            domain = self.domain(server)
            found = domain and memory.read(domain)
        return found

    def run_on(self, server, topology, intent, lent=frozenset()):
        """Have a server's threads where they are wanted."""
        domain = self.domain(server)
        if domain is None:
            return
        wanted, _problems = self.wanted(server, topology, intent, lent)
        affinity.apply(domain, wanted, self._width())
        now, pid = self.running(domain)
        for vcpu, found in now.sched.items():
            sched = wanted.sched.get(vcpu, threads.Sched())
            if sched != found:
                privileged.set_scheduler(pid, vcpu, sched.policy,
                                         sched.priority)

    @staticmethod
    def running(domain):
        """All of a domain's threads as they are, and its process."""
        pid = process.pid(domain)
        return Steps._with_sched(affinity.read(domain), pid), pid

    @staticmethod
    def _with_sched(now, pid):
        if pid is None:
            return now
        return dataclasses.replace(now, sched=process.schedulers(pid))

    @utils.synchronized(resource_tracker.COMPUTE_RESOURCE_SEMAPHORE,
                        fair=True)
    def _own(self, context, uuid, change):
        """Change what a server owns; returns it as it is then.

        :param change: called with its nova_ext.ownership.ownership.Ownership;
            returns the InstanceNUMATopology that it is to have
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
                or server.vm_state not in CHANGEABLE):
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
                server, server.node, None), server.numa_topology, wanted)
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
        domain = self.domain(server)
        mine = ownership.Ownership(server.numa_topology)
        left = ownership.Ownership(mine.without_target(
            affinity.read(domain).emulator if domain else None))
        # Once that is not its own any more, it is too late to leave it.
        self._leave(domain, left, mine.pcpus - left.pcpus)
        self._check_left(domain, mine.pcpus - left.pcpus)
        return self._own(
            context, server.uuid,
            lambda mine: mine.without_target(left.emulator)).numa_topology

    def leave(self, server, pcpus):
        """Have a server's threads leave pCPUs that it does not own.

        :param server: nova.objects.Instance, as the database has it
        """
        if server.numa_topology is not None:
            self._leave(self.domain(server),
                        ownership.Ownership(server.numa_topology), pcpus)

    def _leave(self, domain, mine, pcpus):
        if domain is None or not pcpus:
            return
        now = affinity.read(domain)
        affinity.apply(domain, dataclasses.replace(
            now,
            vcpus={vcpu: frozenset({mine.pins[vcpu]})
                   if vcpu in mine.pins and on & pcpus else on - pcpus
                   for vcpu, on in now.vcpus.items()},
            emulator=now.emulator and (
                now.emulator - pcpus or mine.emulator or mine.pcpus),
            iothreads={number: on - pcpus or mine.pcpus
                       for number, on in now.iothreads.items()}),
            self._width())

    @staticmethod
    def _check_left(domain, pcpus):
        """Ask the kernel, where it can be, whether threads left pCPUs.

        A domain that was started by what was saved of it may be on any of
        what its server owns.

        :raises record.ChangeFailed: if one has not
        """
        pid = domain and process.pid(domain)
        for task in process.tasks(pid) if pid else ():
            if task.allowed & pcpus:
                raise record.ChangeFailed(
                    reason=f'thread {task.id} may still run on a pCPU that '
                           f'is to be given up')

    @staticmethod
    def move_off(server, pcpus, otherwise):
        """Have the kernel move a server's threads off pCPUs.

        libvirt is not asked for anything; see
        :func:`kongming.kernel.process.move_off`.

        :raises record.ChangeFailed: if its process is not to be found
        """
        pid = process.pid_of(server.name, server.uuid)
        if pid is None:
            raise record.ChangeFailed(
                reason='its process is not on this machine')
        privileged.move_off(pid, sorted(pcpus), sorted(otherwise))

    def domain(self, server):
        """Its libvirt domain, None where it is not running."""
        if server.vm_state == vm_states.STOPPED:
            return None
        try:
            guest = self._driver._host.get_guest(server)
        except exception.InstanceNotFound:
            return None
        return guest._domain if guest._domain.isActive() else None

    def _width(self):
        return max(self._driver._host.get_available_cpus()) + 1


def key_of(topology):
    """What is made of two topologies is the same where this is.

    :param topology: nova.objects.InstanceNUMATopology
    """
    return (translate.guest_of(topology), tuple(
        (cell.id, frozenset(cell.pcpuset), cell.cpu_policy,
         tuple((cell.cpu_pinning or {}).items()),
         frozenset(cell.cpuset_reserved or ()))
        for cell in topology.cells))


def layout_key(host):
    """Where hosts' pCPUs and cores are the same this is.

    :param host: kongming.host.usage.HostState
    """
    return tuple(
        (node.id, frozenset(node.dedicated), frozenset(node.shared),
         frozenset(node.never), tuple(map(frozenset, node.siblings)))
        for node in host.nodes)


def is_idle(server):
    """Whether nothing else is being done to it.

    :param server: nova.objects.Instance
    """
    return server.task_state is None and (
        is_changeable(server) or server.vm_state == vm_states.RESCUED)


def is_changeable(server):
    """Whether its domain is defined anew whenever it starts."""
    return server.vm_state in CHANGEABLE
