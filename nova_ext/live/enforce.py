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

"""Threads of idle servers, enforced where they are meant to be.

Nothing here changes what is owned, and nothing here needs Nova's database:
a profile begins and ends on time while the control plane is away.

Who may be on lent pCPUs is decided by :mod:`nova_ext.live.lending`.
"""

import dataclasses
import datetime
import functools
from typing import Any

from kongming import exception as km_exc
from kongming.host import topology
from kongming.intent import merge
from kongming.live import threads
from kongming.template import template
from oslo_log import log as logging

from nova_ext.live import clos
from nova_ext.live import cpu_shares
from nova_ext.live import intents
from nova_ext.live import jobs
from nova_ext.live import lending
from nova_ext.live import record
from nova_ext.ownership import ownership

LOG = logging.getLogger(__name__)
NOTHING = lending.NOTHING
#: Characters of a line about what a tenant wrote.
_LONGEST = 2000


def now():
    """The moment; tests have others."""
    return datetime.datetime.now(datetime.UTC)


@dataclasses.dataclass(frozen=True)
class Enforced:
    """A server as it is enforced.

    :ivar server: nova.objects.Instance
    :ivar topology: what it owns, without the place that it is going to
    :ivar wanted: its threads where nobody lends anything
    """

    server: Any
    topology: Any
    intent: merge.Intent
    wanted: threads.Threads
    problems: list[str]

    @property
    def borrows(self):
        return bool(self.intent.base.borrow)

    @functools.cached_property
    def lends(self):
        return threads.lends(
            self.wanted, ownership.Ownership(self.topology).owned,
            self.intent)


class Enforcer:
    """:param domains: nova_ext.live.domains.Domains

    :param jobs_: nova_ext.live.jobs.Jobs; whoever has one is left alone
    :param intents_: nova_ext.live.intents.Intents
    :param evidence: called with a server's uuid; returns why its load has it
        changed, in words, once; empty: it has nothing to do with it
    """

    def __init__(self, domains, jobs_, intents_=None,
                 evidence=lambda uuid: ''):
        self._domains = domains
        self._jobs = jobs_
        #: server -> what was last found of it, in a pass that asked Nova
        self._last, self._last_without_numa = {}, {}
        #: server -> (wanted, problems) that it was given last
        self._given = {}
        self.intents = intents_ or intents.Intents()
        self._lending = lending.Lending(
            domains, jobs_, lambda server: self._look(server, None),
            self._late)
        self._evidence = evidence
        #: (server, changes, evidence) that were made and not recorded yet
        self.done: list[tuple[Any, list[str], str]] = []
        self._cpu_shares = cpu_shares.CpuSharesEnforcer(
            domains.domain, self._note, self.intents.refused)
        self.clos = clos.ClosEnforcer(domains.domain, domains.layout,
                                      self._note, self.intents.refused)
        #: when a profile begins or ends next
        self.next_change = None

    @property
    def is_shared(self):
        """Whether what one server has decides what another one gets."""
        return bool(self._lending.borrows or self.clos.here)

    def begin(self):
        """A pass is about to ask Nova, and nothing is enforced meanwhile."""
        self._lending.begin()

    def learn(self, servers):
        """See :meth:`nova_ext.live.lending.Lending.learn`."""
        self._lending.learn(servers)

    def first(self, servers):
        """See :meth:`nova_ext.live.lending.Lending.first`."""
        self._lending.first(servers)

    def enforce(self, servers, without_numa, left_alone=frozenset(),
                here=None):
        """Put threads where they are meant to be now.

        :param servers: uuid -> nova.objects.Instance, idle ones; those
            that can't be helped are taken out
        :param without_numa: likewise, those without a NUMA topology
        :param left_alone: uuids of idle servers that have a job, or had one
            when Nova was asked
        :param here: uuids of all servers of the host with a template, idle or
            not; None: Nova was not asked
        :returns: uuid -> kongming.intent.merge.Intent, and uuid -> the error
            of each that was taken out
        """
        failed = {}
        enforced = {}
        moment = now()
        for known in servers, without_numa:
            busy = known.keys() & self._jobs.servers
            left_alone = left_alone | busy
            for uuid in busy:
                del known[uuid]
        for uuid, server in list(servers.items()):
            try:
                enforced[uuid] = self._look(server, moment)
            except Exception as exc:
                failed[uuid] = exc
        with self._lending.lock:
            lent = self._lending.look(enforced, left_alone)
            still_used = self._lending.leave(enforced, lent)
            for uuid, each in enforced.items():
                if each.borrows:
                    self._lending.note(uuid, each)

        def enforce(each):
            self._put_back(each, still_used)
            self._cpu_shares.enforce(each.server, each.intent)

        # One that can't be helped is not in the others' way.
        failed.update(self._jobs.each(
            enforced, 'its threads are put where they are meant to be',
            enforce, self._late))
        healthy = {uuid: each for uuid, each in enforced.items()
                   if uuid not in failed}
        changes = [self._next_change(each.server, each.intent, moment)
                   for each in enforced.values()]
        looked_at = [(each.server, each.intent) for each in healthy.values()]

        def enforce_shares(server):
            intent = self.intents.of(server, moment)
            self._cpu_shares.enforce(server, intent)
            looked_at.append((server, intent))
            changes.append(self._next_change(server, intent, moment))

        failed.update(self._jobs.each(
            without_numa, 'it gets its QoS', enforce_shares, self._late))
        self.clos.enforce(looked_at)
        with self._lending.lock:
            self._lending.lend(healthy, {
                uuid for uuid, error in failed.items()
                if not isinstance(error, jobs.StillRunning)})
            for uuid in failed.keys() & servers.keys():
                del servers[uuid]
            reclaimed = self._lending.reclaimed
            self._last = {uuid: server for uuid, server in servers.items()
                          if not (reclaimed and reclaimed & _pcpus(server))}
        self._last_without_numa = dict(without_numa)
        self._forget(servers.keys() | without_numa.keys(), here)
        self.next_change = min(filter(None, changes), default=None)
        return {uuid: enforced[uuid].intent for uuid in servers}, failed

    def observe(self, server):
        """What would be done to a server's threads and QoS; nothing is.

        :returns: kongming.intent.merge.Intent, and the changes in words
        :raises nova_ext.live.record.ChangeFailed: if its template is none
        """
        if server.numa_topology is None:
            intent = self.intents.of(server, now())
            return intent, self._cpu_shares.observe(server, intent)
        enforced = self._look(server, now())
        lent = (self._lending.lent or NOTHING) if enforced.borrows else NOTHING
        return enforced.intent, [
            *self._domains.differences(
                server, enforced.topology, enforced.intent, lent),
            *self._cpu_shares.observe(server, enforced.intent)]

    def switch(self):
        """Profiles that begin or end by now, by what was known last."""
        if self.next_change is not None and now() >= self.next_change:
            self._enforce_last()

    def _enforce_last(self):
        """As :meth:`enforce`, by what was known last."""
        self.enforce(dict(self._last), dict(self._last_without_numa),
                     self._lending.lenders)

    def lends(self, uuid, profile):
        """The pCPUs that a server would lend in a profile.

        :param uuid: of a server
        :returns: nothing where nobody has looked at it yet
        """
        server = self._last.get(uuid)
        if server is None:
            return NOTHING
        intent = dataclasses.replace(self.intents.of(server, None),
                                     profile=profile)
        return self._lends_at(
            server, ownership.Ownership(server.numa_topology).current, intent)

    @property
    def lent(self):
        """pCPUs that borrowers may be on now."""
        return self._lending.lent or NOTHING

    def switch_by_load(self, ending, others):
        """Servers whose load calls for another profile than before.

        Who wants back what it lends is not made to wait for anybody else.

        :param ending: uuids of those that end a profile by load
        :param others: uuids of those that begin one
        """
        if self._lending.lent is None:
            # Who borrows has to be made to leave first; by a pass.
            return
        if ending:
            self._end(ending)
        if others - self._jobs.servers:
            self._enforce_last()

    def _end(self, servers):
        moment = now()
        ending = {}
        for uuid in servers - self._jobs.servers:
            server = self._last.get(uuid)
            if server is None:
                continue  # it may be starting by now, or have a job
            try:
                ending[uuid] = self._look(server, moment)
            except Exception:
                # A pass reports why.
                LOG.warning('The server can not be looked at', exc_info=True,
                            instance=server)
        with self._lending.lock:
            lent = (self._lending.lent or NOTHING).difference(*(
                each.wanted.pcpus for each in ending.values()))
            self._lending.look(ending, self._lending.lenders)
            still_used = self._lending.leave({}, lent)

        def enforce(each):
            self._put_back(each, still_used)
            self._cpu_shares.enforce(each.server, each.intent)

        failed = self._jobs.each(
            ending, 'its threads are put where they are meant to be', enforce,
            self._late)
        for uuid, error in failed.items():
            # The next pass, which follows, tries again and reports it.
            LOG.warning('It has not all that it owns back yet: %s', error,
                        instance=self._last.get(uuid))
        without = servers & self._last_without_numa.keys()
        for uuid in without - self._jobs.servers:
            server = self._last_without_numa[uuid]
            self._cpu_shares.enforce(server, self.intents.of(server, moment))

    def _next_change(self, server, intent, moment):
        return self.intents.next_change(server, intent, moment)

    def _forget(self, looked_at, here):
        """Forget servers that are gone, with what was reported of them.

        :param looked_at: uuids; what others were given they may have no more
        """
        for uuid in self._given.keys() - looked_at - self._jobs.servers:
            self._given.pop(uuid, None)
        if here is not None:
            self.intents.retain(here)
            self._cpu_shares.forget(here)
            self.clos.forget(here)

    def _look(self, server, moment):
        """Its template with what its metadata may say, and its threads."""
        intent = self.intents.of(server, moment)
        current = ownership.Ownership(server.numa_topology).current
        return Enforced(server, current, intent,
                        *self._domains.wanted(server, current, intent))

    def _put_back(self, enforced, still_used):
        """Put threads on what is owned and meant.

        A difference is a new desired state, or else something that somebody
        did by hand, or a step that was cut short.

        :param still_used: pCPUs that others have not left
        """
        server, before = enforced.server, self._given.get(enforced.server.uuid)
        lent = self._lending.lent if enforced.borrows else NOTHING
        changes = self._domains.differences(
            server, enforced.topology, enforced.intent, lent, act=True)
        meant = (before[0] != enforced.wanted if before else
                 enforced.intent.profile
                 or template.has_template(server.metadata))
        if changes:
            waited = still_used & enforced.wanted.pcpus
            if waited:
                raise record.ChangeFailed(
                    reason=f'a borrower could not leave pCPU '
                           f'{topology.format_cpu_list(waited)} yet')
            LOG.log(*((logging.INFO, 'Threads are put where they are meant '
                                     'to be%s: %s') if meant else
                      (logging.WARNING, 'Threads were not where they belong '
                                        'and are put back%s: %s')),
                    f' in profile {enforced.intent.profile}'
                    if enforced.intent.profile else '', '; '.join(changes),
                    instance=server)
            self._lending.run_on(enforced, lent)
            if meant:
                self._note(server, changes)
        elif server.uuid in self._domains.freed:
            # Said so by the kernel only.
            self._lending.run_on(enforced, lent)
        self._domains.power_down(server, enforced.topology, enforced.intent)
        if enforced.problems and (
                before is None or before[1] != enforced.problems):
            LOG.warning('Not obeyed: %s', km_exc.shown(
                '; '.join(enforced.problems), _LONGEST), instance=server)
        self._given[server.uuid] = enforced.wanted, enforced.problems

    def _note(self, server, changes):
        """A change that is to be recorded, with what has led to it.

        By the time that it is, its load may have led to another one.
        """
        self.done.append((server, changes, self._evidence(server.uuid)))

    def given_anew(self, uuid):
        """What a server owns has changed, so what is wanted is new."""
        self._given.pop(uuid, None)

    def _late(self, server, error):
        """After what took long of a server; called in its thread."""
        if error is not None:
            LOG.error('A slow operation on the server failed', exc_info=error,
                      instance_uuid=server)
            self._lending.withdraw(server)

    def hand_over(self, servers, steps, intents):
        """Leave servers to jobs.

        A lender goes on to lend what its job leaves lent, so that borrowers
        stay there.

        :param servers: uuid -> nova.objects.Instance
        :param steps: kongming.live.rearrange.Step of all of them, in order
        :param intents: uuid -> kongming.intent.merge.Intent
        :returns: see :meth:`nova_ext.live.lending.Lending.hand_over`
        """
        lenders = self._lending.lenders
        lends = {uuid: self._lends_during(
            server, [step for step in steps if step.server == uuid],
            intents[uuid]) if uuid in lenders else NOTHING
            for uuid, server in servers.items()}
        with self._lending.lock:
            self._last = {uuid: server for uuid, server in self._last.items()
                          if uuid not in servers}
            return self._lending.hand_over(lends)

    def _lends_during(self, server, steps, intent):
        """What a server lends at the start and at the end of each step."""
        topology = ownership.Ownership(server.numa_topology).current
        places = [topology]
        for step in steps:
            topology = ownership.Ownership(topology).at_end_of(step)
            places.append(topology)
        try:
            return frozenset.intersection(*(
                self._lends_at(server, place, intent) for place in places))
        except Exception:
            LOG.exception('What it lends meanwhile is not known',
                          instance=server)
            return NOTHING

    def _lends_at(self, server, topology, intent):
        wanted, _problems = self._domains.wanted(server, topology, intent)
        return threads.lends(wanted, ownership.Ownership(topology).owned,
                             intent)

    def job_ended(self, servers):
        """See :meth:`nova_ext.live.lending.Lending.job_ended`."""
        self._lending.job_ended(servers)

    def reclaim(self, pcpus, everybody):
        """See :meth:`nova_ext.live.lending.Lending.reclaim`."""
        with self._lending.lock:
            still_used = self._lending.reclaim(pcpus, everybody)
            # What was known of their owners may be so no more.
            self._last = {uuid: server for uuid, server in self._last.items()
                          if not pcpus & _pcpus(server)}
        return still_used

    def evict(self, pcpus):
        """See :meth:`nova_ext.live.lending.Lending.evict`."""
        return self._lending.evict(pcpus)

    def own_only(self, server, everybody):
        """See :meth:`nova_ext.live.lending.Lending.own_only`."""
        with self._lending.lock:
            # It is about to be busy, and a pass sees when it is idle again.
            self._last = {uuid: known for uuid, known in self._last.items()
                          if uuid != server.uuid}
            self._lending.own_only(server, everybody)


def _pcpus(server):
    return ownership.Ownership(server.numa_topology).owned.pcpus
