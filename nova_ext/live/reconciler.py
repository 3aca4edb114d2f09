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

import dataclasses
import threading
import time

from kongming import exception as km_exc
from kongming.host import topology
from kongming.host import usage
from kongming.libvirt import memory
from kongming.live import rearrange
from kongming.template import cache_claims
from kongming.template import template
from nova.compute import resource_tracker
from nova.compute import vm_states
import nova.context
from nova import objects
from nova import utils
from nova_ext.ownership import write_ahead
from oslo_log import log as logging

from nova_ext import limits
from nova_ext.live import changes
from nova_ext.live import enforce
from nova_ext.live import failures
from nova_ext.live import jobs
from nova_ext.live import record
from nova_ext.live import steps
from nova_ext.ownership import claim
from nova_ext.ownership import ownership
from nova_ext import translate

LOG = logging.getLogger(__name__)
_ATTRIBUTES = ['flavor', 'numa_topology', 'metadata', 'migration_context',
               'system_metadata']
_LOOKING = 'the host looks at its servers'
_WAITING = 'it waits for another change on its host'


class Reconciler:
    """:param driver: nova_ext.driver.LibvirtDriver

    :ivar jobs: nova_ext.live.jobs.Jobs
    """

    def __init__(self, driver):
        self._driver = driver
        self._steps = steps.Steps(driver)
        self.jobs = jobs.Jobs(self._job_ended)
        self._enforcer = enforce.Enforcer(self._steps, self.jobs)
        self._one_pass = threading.Lock()
        #: held while threads are moved, but for those of servers with a job
        self._affinity_lock = threading.Lock()
        self._alarm = None
        #: guards what is set when the pass ends that is made next
        self._asking = threading.Lock()
        self._next_pass: threading.Event | None = None
        self._patient = False
        self._records = record.Records()
        self._failures = failures.Failures(self._records)
        self._changes = changes.Changes(driver, self._steps, self._enforcer,
                                        self._failures, self.jobs,
                                        self._records)
        #: servers whose change was not begun, as others were being made
        self._waiting: frozenset[str] = frozenset()

    def look(self, uuid, patience):
        """Have a pass made by a thread, and wait for what concerns a server.

        Many who ask at once are answered by the same pass.

        :param patience: for how long, in seconds
        :returns: what is going on then, in words; empty where all is done
        """
        until = time.monotonic() + patience
        is_looked_at = self._request().wait(patience)
        job = self.jobs.of(uuid)
        if job is not None and not job.wait(max(
                0.0, until - time.monotonic())):
            return str(job)
        if not is_looked_at:
            return _LOOKING
        return _WAITING if uuid in self._waiting else ''

    def _request(self):
        """:returns: threading.Event, set after a pass that begins by now"""
        with self._asking:
            if self._next_pass is None:
                self._next_pass = threading.Event()
                threading.Thread(target=self._on_request, daemon=True,
                                 args=(self._next_pass,),
                                 name='kongming-pass').start()
            return self._next_pass

    def _on_request(self, ended):
        with self._one_pass:
            with self._asking:
                self._next_pass = None
            try:
                self._run(patient=False)
            except Exception:
                # The next pass tries again.
                LOG.exception('A pass over the servers with a template '
                              'failed')
            finally:
                ended.set()

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
        return any([self._resolve(context, rt),
                    *(self._pass(context, rt, nodename)
                      for nodename in list(rt.compute_nodes))])

    def _job_ended(self, job):
        self._enforcer.job_ended(job.servers)
        # Others may have waited for it, and it borrows again.
        self._driver.wake()

    def _resolve(self, context, rt):
        """See :func:`nova_ext.ownership.write_ahead.resolve`."""
        try:
            return write_ahead.resolve(context, rt, self._steps.leave)
        except Exception:
            # The database is away still, or the audit failed.
            LOG.warning('What servers own is not known yet', exc_info=True)
            return True

    def _pass(self, context, rt, nodename):
        compute = rt.compute_nodes[nodename]
        self._enforcer.begin()
        # Before Nova is asked: what it tells of these may be old.
        busy = self.jobs.servers
        everybody = objects.InstanceList.get_by_host_and_node(
            context, rt.host, nodename, expected_attrs=_ATTRIBUTES)
        with_template = [
            server for server in everybody
            if template.has_template(server.flavor.extra_specs)]
        uncertain = write_ahead.uncertain(rt)
        idle = [server for server in with_template
                if _is_idle(server) and server.uuid not in busy]
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
        self._steps.forget(servers.keys() | busy)
        self._enforcer.intents.retain_rates(
            {server.uuid for server in with_template})
        self._enforcer.first(with_template)
        self._enforcer.clos.here = {
            server.uuid for server in with_template
            if cache_claims.mentioned(server.flavor.extra_specs)}
        self._driver.publisher.claim_caches(with_template)
        with self._affinity_lock:
            self._waiting = self._reconcile(
                context, compute, servers, without_numa, _owners(everybody))
        self._set_alarm()
        return bool(self._waiting) or self._enforcer.intents.waiting() or any(
            server.task_state for server in with_template)

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

    def _reconcile(self, context, compute, servers, without_numa, owners):
        """Start to move servers to where they are wanted, as far as they can
        be.

        :param without_numa: servers without a NUMA topology
        :param owners: pCPU -> who has it, in words
        :returns: uuids of those that wait for what others are doing
        """
        intents = self._enforce(context, servers, without_numa)
        if not compute.numa_topology:
            return frozenset()
        host = _topology(compute)
        if translate.inconsistency(host):
            return frozenset()
        wanting = [uuid for uuid, server in servers.items()
                   if _is_changeable(server) and not claim.satisfied(
                       intents[uuid].base, server.numa_topology, host)
                   and not (self._patient and self._failures.waits(
                       uuid, intents[uuid].base, time.monotonic()))]
        for uuid in servers.keys() - set(wanting):
            self._failures.obeyed(uuid)
        if not wanting:
            return frozenset()
        pending: dict[str, rearrange.Resident] = {}
        failed = self.jobs.each(
            {uuid: servers[uuid] for uuid in wanting},
            'libvirt is asked for its memory', lambda server: (
                pending.update({server.uuid: self._resident(
                    server, intents[server.uuid].base)})))
        for uuid, error in failed.items():
            self._refuse(servers[uuid], error)
        plan, waiting = self._plan(limits.host_state(host, owners), pending)
        for uuid, reason in plan.refused.items():
            if uuid not in waiting:
                self._refuse(servers[uuid],
                             record.ChangeFailed(reason=reason))
        plan = self._without_borrowed(plan, servers)
        if plan.steps:
            waiting |= self._changes.start(plan, servers, intents)
        return waiting

    def _plan(self, host, pending):
        """A plan beside the changes that are being made.

        :param host: kongming.host.usage.HostState
        :param pending: uuid -> Resident
        :returns: the plan, and uuids of those that it refuses only for what
            is being changed
        """
        changing = self.jobs.pcpus
        plan = rearrange.plan(_with_taken(
            host, lambda taken, dedicated: taken | changing & dedicated),
            pending.values())
        if not changing or not plan.refused:
            return plan, set()
        afterwards = rearrange.plan(_with_taken(
            host, lambda taken, dedicated: taken - changing), [
                pending[uuid] for uuid in plan.refused])
        return plan, plan.refused.keys() - afterwards.refused.keys()

    def _without_borrowed(self, plan, servers):
        """A plan without the steps whose pCPUs borrowers don't leave."""
        if not plan.steps:
            return plan
        still_used = self.reclaim(changes.pcpus_of(plan.steps))
        group = rearrange.groups(plan.steps)
        borrowing = self._enforcer.hand_over(group.keys())
        if not still_used and not borrowing:
            return plan
        refused = {group[step.server] for step in plan.steps
                   if step.server in borrowing
                   or changes.pcpus_of([step]) & still_used}
        for uuid in dict.fromkeys(step.server for step in plan.steps):
            if group[uuid] in refused:
                self._refuse(servers[uuid], record.ChangeFailed(
                    reason=f'pCPU {topology.format_cpu_list(still_used)} is '
                           f'still used by a server that borrowed it'
                    if still_used else 'a server of the exchange does not '
                                       'give back what it has borrowed'))
        return dataclasses.replace(plan, steps=tuple(
            step for step in plan.steps
            if group[step.server] not in refused))

    def _enforce(self, context, servers, without_numa):
        """Threads and memory to where they are meant to be.

        :param servers: those that can't be helped are taken out
        :returns: uuid -> kongming.intent.merge.Intent
        """
        everybody = {**servers, **without_numa}
        intents, failed = self._enforcer.enforce(servers, without_numa)
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
            LOG.error('It took long, and has failed', exc_info=error,
                      instance_uuid=uuid)

    def _record_enforced(self):
        """What was done and refused, maybe while Nova was away."""
        host = self._driver._tracker.host
        done, refused = self._enforcer.done, self._enforcer.intents.refused
        self._records.flush()
        while done:
            server, words = done.pop(0)
            self._records.end(record.Change(server, host, words))
        while refused:
            server, error = refused.pop(0)
            self._records.end(record.Change(server, host), error)

    def reclaim(self, pcpus):
        """See :meth:`nova_ext.live.enforce.Enforcer.reclaim`."""
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
        with self._affinity_lock:
            self._enforcer.switch()
        self._set_alarm()

    def _set_alarm(self):
        """Switch when the next profile begins or ends."""
        self.stop()
        moment = self._enforcer.next_change
        if moment is not None:
            self._alarm = threading.Timer(
                max(0.0, (moment - enforce.now()).total_seconds()),
                self._on_alarm)
            self._alarm.daemon = True
            self._alarm.start()

    def _on_alarm(self):
        try:
            self.switch()
        except Exception:
            # The next pass tries again.
            LOG.exception('Profiles could not be switched')
        # What was changed is recorded by a pass.
        self._driver.wake()

    def stop(self):
        """Switch by itself no more."""
        if self._alarm is not None:
            self._alarm.cancel()

    def _with_template(self):
        everybody = objects.InstanceList.get_by_host(
            nova.context.get_admin_context(), self._driver._tracker.host,
            expected_attrs=_ATTRIBUTES)
        return [server for server in everybody
                if template.has_template(server.flavor.extra_specs)]

    def _refuse(self, server, error):
        if isinstance(error, jobs.StillRunning):
            # What comes of it is seen by the pass after its end.
            LOG.warning('%s', error, instance=server)
            return
        self._failures.report(server, self._driver._tracker.host, error)

    def _resident(self, server, desired):
        owned = ownership.Ownership(server.numa_topology)
        pins = dict(owned.pins)
        if owned.emulator:
            pins[rearrange.EMULATOR] = min(owned.emulator)
        domain = self._steps.domain(server)
        return rearrange.Resident(
            server.uuid, translate.guest_of(server.numa_topology), desired,
            pins,
            [cell.id for cell in server.numa_topology.cells],
            memory.why_not(memory.read(domain)) if domain is not None else '')

    def _repair(self, context, server):
        """What else is not as it is owned: memory, a step cut short."""
        if not _is_changeable(server):
            return
        mine = ownership.Ownership(server.numa_topology)
        node = mine.current.cells[0].id
        domain = self._steps.domain(server)
        if domain is not None:
            bound = memory.read(domain)
            if not memory.why_not(bound) and bound.nodes != {node}:
                LOG.warning('Its memory was bound to node %s and is moved '
                            'back', sorted(bound.nodes), instance=server)
                self._steps.move_memory_home(server, domain)
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


def _with_taken(host, taken):
    """A host of which something else is taken.

    :param taken: called with what is taken of a node and with its dedicated
        pCPUs; returns what is to be taken
    """
    return usage.HostState(node.holding(taken(node.taken, node.dedicated))
                           for node in host.nodes)


@utils.synchronized(resource_tracker.COMPUTE_RESOURCE_SEMAPHORE, fair=True)
def _topology(compute):
    """What the tracker says of a host; during an audit it says too little."""
    return objects.NUMATopology.obj_from_db_obj(compute.numa_topology)


def _owners(servers):
    """pCPU -> its server, in words that an admin reads."""
    return {pcpu: f'server {km_exc.printable(server.display_name)} '
                  f'({server.uuid})'
            for server in servers if server.numa_topology is not None
            for pcpu in ownership.pcpus_of(server)}


def _is_idle(server):
    """Whether nothing else is being done to it."""
    return server.task_state is None and (
        _is_changeable(server) or server.vm_state == vm_states.RESCUED)


def _is_changeable(server):
    """Whether its domain is defined anew whenever it starts."""
    return server.vm_state in steps.CHANGEABLE
