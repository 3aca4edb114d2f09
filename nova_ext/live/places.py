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

"""Which servers of a host are to be somewhere else, planned and started.

Places and their order are decided by :mod:`kongming.live.rearrange`, for all
servers that want something else jointly, beside what is being changed.
"""

import dataclasses
import threading
import time
from typing import Any

from kongming.host import topology
from kongming.host import usage
from kongming.intent import budget
from kongming.live import rearrange
from nova.compute import resource_tracker
import nova.conf
import nova.context
from nova import objects
from nova import utils
from oslo_log import log as logging

from nova_ext import limits
from nova_ext.live import changes
from nova_ext.live import history
from nova_ext.live import keys
from nova_ext.live import record
from nova_ext.live import restored
from nova_ext.live import states
from nova_ext.ownership import claim
from nova_ext.ownership import ownership
from nova_ext import translate

CONF = nova.conf.CONF
LOG = logging.getLogger(__name__)
_WAITS = 'it waits for another change on its host'


class Places:
    """:param domains: nova_ext.live.domains.Domains

    :param moves: nova_ext.live.memory_moves.MemoryMoves
    :param enforcer: nova_ext.live.enforce.Enforcer
    :param failures: nova_ext.live.failures.Failures
    :param jobs: nova_ext.live.jobs.Jobs
    :param changes_: nova_ext.live.changes.Changes
    :param observed: nova_ext.live.observe.Observed
    :param reclaim: has borrowers leave pCPUs; returns those still used
    :param refuse: called with a server and the error
    :param affinity_lock: held while servers are left to their jobs
    """

    def __init__(self, domains, moves, enforcer, failures, jobs, changes_,
                 observed, reclaim, refuse, affinity_lock):
        self._domains = domains
        self._moves = moves
        self._enforcer = enforcer
        self._failures = failures
        self._jobs = jobs
        self._changes = changes_
        self._observed = observed
        self._reclaim = reclaim
        self._refuse = refuse
        self._affinity_lock = affinity_lock
        self._budget = budget.Budget()
        self._budget_lock = threading.Lock()
        self._started = time.monotonic()
        self._is_budget_restored = False
        #: server -> what it is to be, what it owns and the host's layout,
        #: with which it was found where it is to be
        self._satisfied = {}
        self._layout = None
        #: what the tracker said last of the host, and what that is
        self._tracked = None, (None, None, None)

    def start(self, compute, servers, intents, owners, patient, everybody):
        """Start to move servers to where they are wanted, as far as they can
        be.

        :param compute: nova.objects.ComputeNode
        :param servers: uuid -> nova.objects.Instance, idle ones
        :param intents: uuid -> kongming.intent.merge.Intent
        :param owners: pCPU -> who has it, in words
        :param patient: whether to leave alone for a while what failed before
        :param everybody: nova.objects.Instance, all with a template
        :returns: uuid -> why it waits, of those that do
        """
        host, state, layout = self._host(compute)
        if host is None:
            return {}
        self._satisfied = {uuid: known for uuid, known
                           in self._satisfied.items() if uuid in servers}
        elsewhere = [uuid for uuid, server in servers.items()
                     if states.is_changeable(server) and not self._is_there(
                         server, intents[uuid].base, state, layout)]
        for uuid in servers.keys() - set(elsewhere):
            self._failures.obeyed(uuid)
        for uuid in elsewhere:
            self._restore(servers[uuid], intents[uuid].base)
        wanting = [uuid for uuid in elsewhere
                   if not (patient and self._failures.waits(
                       uuid, intents[uuid].base, time.monotonic()))]
        if not wanting:
            return {}
        self.restore_budget(everybody)
        pending: dict[str, rearrange.Resident] = {}
        failed = self._jobs.each(
            {uuid: servers[uuid] for uuid in wanting},
            'the kernel is asked for its memory', lambda server: (
                pending.update({server.uuid: self._resident(
                    server, intents[server.uuid].base)})))
        for uuid, error in failed.items():
            self._refuse(servers[uuid], error)
        # What is late comes to the first one.
        pending = {uuid: pending[uuid] for uuid in wanting
                   if uuid not in failed}
        plan, waiting = self._plan(limits.host_state(host, owners), pending)
        for uuid, reason in plan.refused.items():
            if uuid not in waiting:
                self._refuse(servers[uuid], record.ChangeFailed(
                    reason=reason), intents[uuid].base)
        reasons = dict.fromkeys(waiting, _WAITS)
        plan = self._within_budget(plan, servers, reasons)
        with self._affinity_lock:
            plan = self._without_borrowed(plan, servers, intents)
            if plan.steps:
                reasons.update(dict.fromkeys(
                    self._changes.start(plan, servers, intents), _WAITS))
        return reasons

    def _host(self, compute):
        """What the tracker says of a host, read anew where it is another.

        :returns: nova.objects.NUMATopology, kongming.host.usage.HostState and
            the key of its layout; None each where no template is obeyed
        """
        text = _topology(compute)
        if text != self._tracked[0]:
            found = None, None, None
            host = objects.NUMATopology.obj_from_db_obj(text) if text else None
            if host is not None and not translate.inconsistency(host):
                state = translate.host_state(host)
                layout = keys.layout_key(state)
                if layout == self._layout:
                    layout = self._layout  # quicker to compare
                self._layout = layout
                found = host, state, layout
            self._tracked = text, found
        return self._tracked[1]

    def why_not(self, compute, owners, server, desired):
        """Why a server can't be brought to another place, in words.

        :param desired: kongming.template.template.Template
        """
        host, _state, _layout = self._host(compute)
        if host is None or not states.is_changeable(server):
            return 'it or its host is busy'
        pending: dict[str, rearrange.Resident] = {}
        failed = self._jobs.each(
            {server.uuid: server}, 'the kernel is asked for its memory',
            lambda each: pending.update({
                each.uuid: self._resident(each, desired)}))
        if failed:
            return str(failed[server.uuid])
        plan, _waiting = self._plan(limits.host_state(host, owners), pending)
        return plan.refused.get(server.uuid, '')

    def _restore(self, server, desired):
        """What was refused of a server before nova-compute started."""
        if self._failures.is_restored(server.uuid):
            return
        try:
            found = history.refusal(nova.context.get_admin_context(),
                                    server.uuid)
        except Exception as exc:
            # It is tried at once, then.
            LOG.warning('Earlier refusals of the server are not known: %s',
                        exc, instance=server)
            return
        self._failures.restore(server, server.host, desired, found,
                               time.monotonic())

    def restore_budget(self, servers):
        """Have changes of a minute ago count that another process has made.

        :param servers: nova.objects.Instance, all with a template
        """
        now = time.monotonic()
        if self._is_budget_restored or not CONF.kongming.changes_per_minute:
            return
        self._is_budget_restored = True
        if now - self._started >= budget.WINDOW:
            return
        used = [(now - age, server.project_id) for server, ages
                in restored.changes(nova.context.get_admin_context(), servers)
                for age in ages if now - age < self._started]
        with self._budget_lock:
            self._budget.restore(used)

    def _within_budget(self, plan, servers, reasons):
        """A plan without the steps that the host makes later.

        :param reasons: uuid -> why it waits; is added to
        """
        group = rearrange.groups(plan.steps)
        found: dict[int, dict[str, str]] = {}
        for step in plan.steps:
            found.setdefault(group[step.server], {})[step.server] = (
                servers[step.server].project_id)
        # What can not begin now uses nothing, and nobody leaves for it.
        free = self._jobs.free
        admitted = self._admit(list(found.values()), free)
        now = {uuid for each in admitted for uuid in each}
        for uuid in group.keys() - now:
            reasons[uuid] = _WAITS if len(admitted) == free else (
                f'it waits its turn: this host changes '
                f'{CONF.kongming.changes_per_minute} servers a minute '
                f'([kongming] changes_per_minute)')
        return dataclasses.replace(plan, steps=tuple(
            step for step in plan.steps if step.server in now))

    def admits(self, server, project):
        """Whether a server may be changed now; that is counted.

        :param server: its uuid
        """
        return bool(self._admit([{server: project}]))

    def _admit(self, groups, most=None):
        with self._budget_lock:
            return self._budget.admit(
                groups, CONF.kongming.changes_per_minute, time.monotonic(),
                most)

    def _is_there(self, server, desired, state, layout):
        """See :func:`nova_ext.ownership.claim.satisfied`.

        :param layout: key of the host's
        """
        known = desired, self._domains.key_of(server), layout
        if self._satisfied.get(server.uuid) == known:
            return True
        if not claim.satisfied(desired, server.numa_topology, state):
            self._satisfied.pop(server.uuid, None)
            return False
        self._satisfied[server.uuid] = known
        return True

    def observe(self, compute, with_template, owners):
        """Compute and report what a pass would do; touch nothing."""
        self._observed.retain({server.uuid for server in with_template})
        host, state, _layout = self._host(compute)
        if host is None:
            return
        idle = {server.uuid: server for server in with_template
                if states.is_idle(server)}
        words: dict[str, list[str]] = {}
        pending: dict[str, rearrange.Resident] = {}
        looked_at: list[tuple[Any, Any]] = []

        def look(server):
            intent, found = self._enforcer.observe(server)
            if server.numa_topology is not None and (
                    states.is_changeable(server)) and not claim.satisfied(
                        intent.base, server.numa_topology, state):
                pending[server.uuid] = self._resident(server, intent.base)
            words[server.uuid] = list(found)
            looked_at.append((server, intent))

        failed = self._jobs.each(idle, 'it is looked at', look)
        # What is late comes to the first ones.
        words = {uuid: [str(failed[uuid])] if uuid in failed else words[uuid]
                 for uuid in idle}
        pending = {uuid: found for uuid, found in list(pending.items())
                   if uuid not in failed}
        plan, waiting = self._plan(limits.host_state(host, owners), pending)
        for step in plan.steps:
            words[step.server].append(str(step))
        for uuid in plan.refused.keys() - waiting:
            words[uuid].append(f'refused: {plan.refused[uuid]}')
        for uuid, found in self._observe_classes(looked_at).items():
            if uuid in words:
                words[uuid] += found
        for uuid, found in words.items():
            self._observed.report(idle[uuid], found)

    def _observe_classes(self, looked_at):
        try:
            return self._enforcer.clos.observe(looked_at)
        except Exception as exc:
            LOG.warning('Classes of service could not be looked at: %s', exc)
            return {}

    def _plan(self, host, pending):
        """A plan beside the changes that are being made.

        :param host: kongming.host.usage.HostState
        :param pending: uuid -> Resident
        :returns: the plan, and uuids of those that it refuses only for what
            is being changed
        """
        changing = self._jobs.pcpus
        plan = rearrange.plan(_with_taken(
            host, lambda taken, dedicated: taken | changing & dedicated),
            pending.values())
        if not changing or not plan.refused:
            return plan, set()
        afterwards = rearrange.plan(_with_taken(
            host, lambda taken, dedicated: taken - changing), [
                pending[uuid] for uuid in plan.refused])
        return plan, plan.refused.keys() - afterwards.refused.keys()

    def _without_borrowed(self, plan, servers, intents):
        """A plan without the steps whose pCPUs borrowers don't leave."""
        if not plan.steps:
            return plan
        still_used = self._reclaim(changes.pcpus_of(plan.steps))
        group = rearrange.groups(plan.steps)
        borrowing = self._enforcer.hand_over(
            {uuid: servers[uuid] for uuid in group}, plan.steps, intents)
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

    def _resident(self, server, desired):
        mine = ownership.Ownership(server.numa_topology)
        pins = dict(mine.pins)
        if mine.emulator:
            pins[rearrange.EMULATOR] = min(mine.emulator)
        domain = self._domains.domain(server)
        self._domains.witness.look(server, domain)
        return rearrange.Resident(
            server.uuid, translate.guest_of(server.numa_topology), desired,
            pins,
            [cell.id for cell in server.numa_topology.cells],
            self._moves.why_not(domain) if domain is not None else '')


def _with_taken(host, taken):
    """A host of which something else is taken.

    :param taken: called with what is taken of a node and with its dedicated
        pCPUs; returns what is to be taken
    """
    return usage.HostState(node.holding(taken(node.taken, node.dedicated))
                           for node in host.nodes)


@utils.synchronized(resource_tracker.COMPUTE_RESOURCE_SEMAPHORE, fair=True)
def _topology(compute):
    """What the tracker says of a host; during an audit it says too little.

    :returns: as JSON; empty or None where it has no NUMA topology
    """
    return compute.numa_topology
