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

"""Running servers put where they are wanted: one pass over a host.

Level-triggered: what each server's flavor and granted metadata say is compared
with what it owns and with what libvirt does.  A pass decides and starts; what
takes long is a job of its server (:mod:`nova_ext.live.jobs`), which the next
passes leave alone.
"""

import functools
import threading

from kongming.live import progress
from kongming.template import cache_claims
from kongming.template import template
import nova.conf
import nova.context
from nova import objects
from nova_ext.ownership import write_ahead
from oslo_log import log as logging

from nova_ext.live import alarm
from nova_ext.live import changes
from nova_ext.live import domains
from nova_ext.live import enforce
from nova_ext.live import failures
from nova_ext.live import intents
from nova_ext.live import interrupts
from nova_ext.live import jobs
from nova_ext.live import load
from nova_ext.live import mode
from nova_ext.live import observe
from nova_ext.live import owned
from nova_ext.live import places
from nova_ext.live import present
from nova_ext.live import record
from nova_ext.live import restored
from nova_ext.live import server_list
from nova_ext.live import states
from nova_ext.live import steps
from nova_ext.live import trigger
from nova_ext.ownership import ownership
from nova_ext import stats

CONF = nova.conf.CONF
LOG = logging.getLogger(__name__)
UNSEEN = 'unseen'
_SKIPPED = 'the last pass has left it to a job that has ended since'
_ATTRIBUTES = ['flavor', 'numa_topology', 'metadata', 'migration_context',
               'system_metadata']
#: How long jobs are waited for when nova-compute ends, in seconds; its
#: services are killed where that takes longer than they allow.
_END = 5.0


class Reconciler:
    """:param driver: nova_ext.driver.LibvirtDriver

    :ivar jobs: nova_ext.live.jobs.Jobs
    :ivar present: nova_ext.live.present.Present
    :ivar mode: nova_ext.live.mode.Mode
    :ivar observed: nova_ext.live.observe.Observed
    :ivar load: nova_ext.live.load.Load
    :ivar interrupts: nova_ext.live.interrupts.Interrupts
    """

    def __init__(self, driver):
        self._driver = driver
        self._server_list = server_list.ServerList()
        self._domains = domains.Domains(driver)
        self._steps = steps.Steps(driver, self._domains)
        self.jobs = jobs.Jobs(self._job_ended)
        self.present = present.Present()
        self.load = load.Load(
            self._acts, self._admits, self._switch_by_load, self._lends,
            self._now, self._lent, self._driver.wake)
        self._enforcer = enforce.Enforcer(
            self._domains, self.jobs, intents.Intents(self.load.met),
            self.load.evidence)
        self._one_pass = threading.Lock()
        #: held while threads are moved, but for those of servers with a job,
        #: and while the alarm is set by what came of it
        self._affinity_lock = threading.Lock()
        self._alarm = alarm.Alarm(self.switch, driver)
        self.mode = mode.Mode(driver)
        self.observed = observe.Observed()
        self.interrupts = interrupts.Interrupts(driver)
        self._trigger = trigger.Trigger(self.run, self.jobs)
        self._patient = False
        self._records = record.Records()
        self._failures = failures.Failures(self._records)
        self._places = places.Places(
            self._domains, self._steps.moves, self._enforcer,
            self._failures, self.jobs,
            changes.Changes(driver, self._steps, self._enforcer,
                            self._failures, self.jobs, self._records,
                            self.mode, self.load.balance.evidence),
            self.observed, self.reclaim, self._refuse,
            self._affinity_lock)
        #: servers that a pass has left to their jobs
        self._left_alone: set[str] = set()
        #: server -> why its change was not begun
        self._waiting: dict[str, str] = {}
        #: servers that the last pass did not look at to the end
        self._skipped: set[str] = set()

    @property
    def has_work(self):
        """Whether a pass may find anything to do."""
        if self.mode.current != mode.OFF and (
                self.present or self.interrupts.has_work):
            return True
        return not self.present.is_known or bool(
            self._records or write_ahead.uncertain(self._driver._tracker))

    @property
    def live(self):
        """What the host does live: as its mode, or UNSEEN where the kernel is
        not asked, so that no ownership changes.
        """
        current = self.mode.current
        return (UNSEEN if current == mode.ACT and self._domains.witness.blind
                else current)

    def reported(self, found):
        """What the host reports of itself, with what it does live.

        :param found: nova_ext.stats.Reported
        """
        current = self.live
        if current not in (mode.ACT, UNSEEN):
            found = found._replace(obeys=found.obeys - {stats.LIVE})
        if self.interrupts.left is not None:
            found = found._replace(irq=f'{CONF.kongming.irq_affinity}:'
                                       f'{self.interrupts.left}')
        return found._replace(live=f'{current}:{len(self.observed)}'
                              if current == mode.OBSERVE else current)

    def looks_after(self, server):
        """Whether a server has a template, and this host changes such ones.

        nova-api sends no flavor for diagnostics, and a native server is not
        to ask for its: only before the first pass nobody else knows.

        :param server: nova.objects.Instance
        """
        if self.mode.current == mode.OFF:
            return False
        if self.present.is_known:
            return server.uuid in self.present
        return template.has_template(server.flavor.extra_specs)

    def look(self, uuid, patience):
        """See :meth:`nova_ext.live.trigger.Trigger.look`."""
        wait = self._trigger.look(uuid, patience)

        def found():
            going_on = wait()
            if going_on and not progress.read_looks(going_on):
                return going_on
            # Why it waits says more than that it is looked at again.
            return self._waiting.get(uuid) or (
                _SKIPPED if uuid in self._skipped else going_on)

        return found

    def run(self, patient=False):
        """One pass; safe to be called at any time, from any thread.

        What it has started goes on.

        :param patient: whether to leave alone for a while what failed before
        :returns: whether a server was left out because it was busy, or
            changed too often
        """
        with self._one_pass:
            return self._run(patient)

    def _run(self, patient):
        context = nova.context.get_admin_context()
        rt = self._driver._tracker
        self._patient = patient
        skipped: set[str] = set()
        busy = [self._resolve(context, rt)]
        if not self.present or self.mode.current == mode.OFF:
            if not self.present.is_known:
                self._enforcer.learn(self._with_template())
            self.observed.clear()
            self._waiting, self._skipped = {}, set()
            self.load.retain(set())
            if self.interrupts.has_work and self.mode.current != mode.OFF:
                self._follow(owned.by_pcpu(
                    server for nodename in rt.compute_nodes
                    for server in self._server_list.read(
                        context, rt.host, nodename))[0])
            self._records.flush()
            return any(busy)
        nodes = list(rt.compute_nodes)
        listed: set[str] = set()
        busy += [self._pass(context, rt, nodename, listed, skipped)
                 for nodename in nodes]
        self._skipped = skipped
        if nodes:
            self.present.listed(listed)
        return any(busy)

    def _job_ended(self, job):
        self._enforcer.job_ended(job.servers)
        self.load.balance.job_ended(job.servers)
        if job.blocks or self._is_followed(job.servers):
            self._driver.wake()

    def _is_followed(self, servers):
        """Whether a pass has to follow soon a job of these servers.

        One over servers that are where they are wanted would only keep the
        next change waiting.
        """
        left_alone = self._left_alone & servers
        self._left_alone.difference_update(servers)
        return bool(left_alone or self._waiting or self.interrupts.has_work
                    or self._enforcer.is_shared)

    def _resolve(self, context, rt):
        """See :func:`nova_ext.ownership.write_ahead.resolve`."""
        try:
            return write_ahead.resolve(context, rt, self._domains.leave)
        except Exception:
            # The database is away still, or the audit failed.
            LOG.warning('What servers own is not known yet', exc_info=True)
            return True

    def _pass(self, context, rt, nodename, listed, skipped):
        """
        :param listed: uuids of servers with a template are added to it
        :param skipped: those that have jobs, and are left to them
        """
        compute = rt.compute_nodes[nodename]
        with self._affinity_lock:
            # Whoever switches profiles by what was known before is to know
            # of all that was reclaimed since.
            self._enforcer.begin()
        # Before Nova is asked: what it tells of these may be old.
        busy, number_ended = self.jobs.servers, self.jobs.number_ended
        everybody = self._server_list.read(context, rt.host, nodename)
        with_template = [
            server for server in everybody
            if template.has_template(server.flavor.extra_specs)]
        here = {server.uuid for server in with_template}
        listed.update(here)
        left_alone = busy & here
        self._left_alone.update(left_alone)
        self.load.retain(here)
        owners, conflict = owned.by_pcpu(everybody)
        # Asked again, as somebody may have moved while Nova read them.
        if conflict:
            _owners, conflict = owned.by_pcpu(
                self._server_list.read(context, rt.host, nodename))
            if conflict:
                self.mode.stop(conflict)
        self._follow(owners)
        if self.mode.current != mode.ACT:
            self._enforcer.learn(with_template)
            self._alarm.cancel()
            self._waiting = {}
            self._places.observe(compute, with_template, owners)
            # Nothing is recorded either.
            self._enforcer.intents.refused.clear()
            return False
        self.observed.clear()
        uncertain = write_ahead.uncertain(rt)
        idle = [server for server in with_template
                if states.is_idle(server) and server.uuid not in busy]
        servers = {server.uuid: server for server in idle
                   if server.numa_topology is not None
                   and server.uuid not in uncertain}
        # Without a NUMA topology there is only QoS to see to.
        without_numa = {server.uuid: server for server in idle
                        if server.numa_topology is None}
        for uuid, server in list(servers.items()):
            if server.migration_context is not None:
                self._end_move(context, servers, uuid)
        self._failures.retain(servers.keys() | without_numa.keys() | busy)
        self._domains.forget(servers.keys() | busy)
        self._enforcer.intents.retain_rates(here)
        self._enforcer.first(with_template)
        self._enforcer.clos.here = {
            server.uuid for server in with_template
            if cache_claims.mentioned(server.flavor.extra_specs)}
        self._driver.publisher.claim_caches(with_template)
        restored.rates(context, self._enforcer.intents, idle)
        with self._affinity_lock:
            intents = self._enforce(
                context, servers, without_numa,
                {server.uuid for server in with_template
                 if states.is_idle(server)} & left_alone, here)
            self._alarm.set(self._enforcer.next_change)
        restored.by_load(context, self.load, with_template, rt.host,
                         self._places.restore_budget)
        if servers:
            # Of the others it was not to be had: libvirt may be away.
            self.load.balance.note(self._domains.layout(), servers, intents)
        # Nova is asked, and its lock is waited for, beside profiles.
        intents = self.load.balance.apply(
            servers, intents, self.jobs.servers, functools.partial(
                self._places.why_not, compute, owners))
        skipped |= left_alone | {
            server.uuid for server in idle} & self.jobs.servers
        self._waiting = self._places.start(
            compute, servers, intents, owners, self._patient, with_template)
        self._driver.cpu_api.sweep(owners.keys() | self.jobs.pcpus)
        if (left_alone or self._waiting) and (
                self.jobs.number_ended != number_ended):
            # A job has ended before it was known that somebody waits for it.
            self._driver.wake()
        self._records.flush()
        return bool(self._waiting) or self._enforcer.intents.waiting() or any(
            server.task_state for server in with_template)

    def _follow(self, owners):
        """Interrupts keep off what has an owner."""
        self.interrupts.follow(owners, self.mode.current == mode.ACT)

    def _end_move(self, context, servers, uuid):
        """See :meth:`nova_ext.live.steps.Steps.end_move`.

        Where the answer is lost, the tracker is charged with what the server
        was claimed, whatever the database has of it.

        :param servers: uuid -> nova.objects.Instance, changed
        """
        try:
            servers[uuid] = self._steps.end_move(context, uuid)
        except Exception as exc:
            # One that can't be helped is not in the others' way.
            self._refuse(servers.pop(uuid), exc)

    def _enforce(self, context, servers, without_numa, left_alone, here):
        """Put threads and memory where they are meant to be.

        :param servers: those that can't be helped are taken out
        :param left_alone, here: see
            :meth:`nova_ext.live.enforce.Enforcer.enforce`
        :returns: uuid -> kongming.intent.merge.Intent
        """
        everybody = {**servers, **without_numa}
        self._steps.moves.retain(everybody.keys())
        intents, failed = self._enforcer.enforce(servers, without_numa,
                                                 left_alone, here)
        repaired = self.jobs.each(
            servers, 'what it owns is put in order',
            lambda server: self._repair(context, server), self._late)
        for uuid in repaired:
            del servers[uuid]
        failed.update(repaired)
        self._record_enforced()
        for uuid, error in failed.items():
            self._refuse(everybody[uuid], error)
        for uuid in without_numa.keys() - failed.keys():
            self._failures.obeyed(uuid)
        return intents

    def _late(self, uuid, error):
        """What took long is done; if it has failed the next pass reports."""
        if error is not None:
            LOG.error('A slow operation on the server failed', exc_info=error,
                      instance_uuid=uuid)

    def _record_enforced(self):
        """What was done and refused, maybe while Nova was away."""
        host = self._driver._tracker.host
        done, refused = self._enforcer.done, self._enforcer.intents.refused
        while done:
            server, words, evidence = done.pop(0)
            self._records.end(record.Change(server, host, words, evidence))
        while refused:
            server, error = refused.pop(0)
            self._records.end(record.Change(server, host), error)

    def reclaim(self, pcpus):
        """See :meth:`nova_ext.live.enforce.Enforcer.reclaim`."""
        if not self.present:
            return frozenset()  # there is nobody who borrows
        return self._enforcer.reclaim(pcpus, self._with_template)

    def evict(self, pcpus):
        """See :meth:`nova_ext.live.enforce.Enforcer.evict`."""
        for server, error in self._enforcer.evict(pcpus):
            record.evicted(server, self._driver._tracker.host, pcpus, error)

    def own_only(self, server):
        """See :meth:`nova_ext.live.enforce.Enforcer.own_only`."""
        self._enforcer.own_only(server, self._with_template)

    def switch(self):
        """Profiles that begin or end by now, without asking Nova."""
        if self.mode.current != mode.ACT:
            return
        with self._affinity_lock:
            self._enforcer.switch()
            self._alarm.set(self._enforcer.next_change)

    def _acts(self):
        """Whether running servers are changed."""
        return self.mode.current == mode.ACT

    def _lends(self, server, profile):
        """See :meth:`nova_ext.live.enforce.Enforcer.lends`."""
        return self._enforcer.lends(server, profile)

    def _lent(self):
        """What borrowers may be on now."""
        return self._enforcer.lent

    @staticmethod
    def _now():
        return enforce.now()

    def _admits(self, server, project):
        """See :meth:`nova_ext.live.places.Places.admits`."""
        return self._places.admits(server, project)

    def _switch_by_load(self, ending, others):
        """See :meth:`nova_ext.live.enforce.Enforcer.switch_by_load`."""
        if self.mode.current != mode.ACT:
            return
        try:
            with self._affinity_lock:
                self._enforcer.switch_by_load(ending, others)
                self._alarm.set(self._enforcer.next_change)
        finally:
            # What was changed is recorded by a pass, and what has failed is
            # tried again by it.
            self._driver.wake()

    def start(self):
        """nova-compute has started."""
        self.jobs.is_stopped = False
        self.load.start()

    def stop(self):
        """Switch by itself no more, and end what is ended soon.

        What runs longer is handed over to the next start: its server owns
        what it has and what it goes to, and the first pass ends it.
        """
        self._alarm.cancel()
        self.load.stop()
        self.jobs.stop(_END)
        for job in self.jobs.all:
            LOG.warning('nova-compute ends during %s; its next start ends '
                        'that', job)

    def _with_template(self):
        everybody = objects.InstanceList.get_by_host(
            nova.context.get_admin_context(), self._driver._tracker.host,
            expected_attrs=_ATTRIBUTES)
        found = [server for server in everybody
                 if template.has_template(server.flavor.extra_specs)]
        self.present.listed(server.uuid for server in found)
        return found

    def _refuse(self, server, error, desired=None):
        """:param desired: its template, where that is what is refused"""
        if isinstance(error, jobs.StillRunning):
            # What comes of it is seen by the pass after its end.
            LOG.warning('%s', error, instance=server)
            return
        self._failures.report(server, self._driver._tracker.host, error,
                              desired)

    def _repair(self, context, server):
        """What else is not as it is owned: memory, a step cut short."""
        if not states.is_changeable(server):
            return
        mine = ownership.Ownership(server.numa_topology)
        domain = self._domains.seen(server)
        if domain is not None and not self._domains.stays(server, domain):
            left = self._steps.moves.misplaced(
                server, domain, mine.current,
                self._domains.pid(server, domain))
            if left:
                LOG.warning('Its memory is moved back: %s', left,
                            instance=server)
                self._steps.move_memory_home(server, domain, mine.current)
        if mine.has_target:
            # A step was cut short.
            server.numa_topology = self._steps.drop_target(context, server)
            self._driver.publisher.ownership_changed({server.uuid})
        if ownership.Ownership(server.numa_topology).lacks_pcpus:
            raise record.ChangeFailed(
                reason='It owns fewer pCPUs than it needs, since its boot was '
                       'cut short; a hard reboot gives it those of its '
                       'template')
        if server.numa_topology.obj_what_changed():
            server.numa_topology = self._steps.unmark(context, server)
