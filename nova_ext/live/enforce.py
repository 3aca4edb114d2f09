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

A pCPU that its owner lends is used by others only while the owner's threads
are off it: borrowers leave first, then owners come back; owners go first, then
borrowers come.  Whoever is about to run on a pCPU reclaims it
(:meth:`Enforcer.reclaim`), be it the owner or one that owns it by now.
"""

import dataclasses
import datetime
import threading
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
from nova_ext.live import record
from nova_ext.ownership import ownership

LOG = logging.getLogger(__name__)
NOTHING: frozenset[int] = frozenset()
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

    @property
    def lends(self):
        return threads.lends(
            self.wanted, ownership.Ownership(self.topology).owned,
            self.intent)


class Enforcer:
    """:param steps_: nova_ext.live.steps.Steps

    :param jobs_: nova_ext.live.jobs.Jobs; whoever has one is left alone
    """

    def __init__(self, steps_, jobs_):
        self._steps = steps_
        self._jobs = jobs_
        #: server -> what was last found of it, in a pass that asked Nova
        self._last, self._last_without_numa = {}, {}
        #: server -> (wanted, problems) that it was given last
        self._given = {}
        self.intents = intents.Intents()
        #: borrowing server -> (Enforced, others' pCPUs that it may be on)
        self._borrowers = {}
        #: what borrowers may be on; None: not known yet
        self._lent = None
        self._lending = threading.RLock()
        #: pCPUs reclaimed, and servers that borrow nothing more, since
        #: Nova was asked last
        self._reclaimed = set()
        self._leaving = set()
        #: (server, changes) that were made and not recorded yet
        self.done: list[tuple[Any, list[str]]] = []
        self._cpu_shares = cpu_shares.CpuSharesEnforcer(
            steps_.domain, self.done, self.intents.refused)
        self.clos = clos.ClosEnforcer(steps_.domain, steps_.layout,
                                      self.done, self.intents.refused)
        #: when a profile begins or ends next
        self.next_change = None

    def begin(self):
        """A pass is about to ask Nova."""
        with self._lending:
            self._reclaimed.clear()
            self._leaving.clear()

    def first(self, servers):
        """Begin with nothing lent, so that all borrowers leave.

        :param servers: all servers of the host with a template, idle or not
        """
        with self._lending:
            if self._lent is not None:
                return
            for server in servers:
                if server.numa_topology is None:
                    continue
                try:
                    enforced = self._look(server, None)
                except Exception:
                    continue  # a pass reports why
                if enforced.borrows:
                    # What it may be on is not known.
                    self._borrowers[server.uuid] = (
                        enforced, self._steps.dedicated())
            self._leave({}, NOTHING)

    def enforce(self, servers, without_numa):
        """Put threads where they are meant to be now.

        :param servers: uuid -> nova.objects.Instance, idle ones; those
            that can't be helped are taken out
        :param without_numa: likewise, those without a NUMA topology
        :returns: uuid -> kongming.intent.merge.Intent, and uuid -> the error
            of each that was taken out
        """
        failed = {}
        enforced = {}
        moment = now()
        for known in servers, without_numa:
            for uuid in known.keys() & self._jobs.servers:
                del known[uuid]
        for uuid, server in list(servers.items()):
            try:
                enforced[uuid] = self._look(server, moment)
            except Exception as exc:
                failed[uuid] = exc
        with self._lending:
            lent = NOTHING.union(*(each.lends for each in enforced.values()))
            still_used = self._leave(enforced, lent)
            for uuid, each in enforced.items():
                if each.borrows:
                    self._note(uuid, each)

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
        with self._lending:
            self._lend(healthy)
            for uuid in failed.keys() & servers.keys():
                del servers[uuid]
            self._last = {uuid: server for uuid, server in servers.items()
                          if not self._reclaimed & _pcpus(server)}
        self._last_without_numa = dict(without_numa)
        self._forget(servers.keys() | without_numa.keys())
        self.next_change = min(filter(None, changes), default=None)
        return {uuid: enforced[uuid].intent for uuid in servers}, failed

    def observe(self, server):
        """What would be done to a server's threads; nothing is.

        :returns: kongming.intent.merge.Intent, and the changes in words
        :raises nova_ext.live.record.ChangeFailed: if its template is none
        """
        enforced = self._look(server, now())
        lent = (self._lent or NOTHING) if enforced.borrows else NOTHING
        return enforced.intent, self._steps.differences(
            server, enforced.topology, enforced.intent, lent)

    def switch(self):
        """Profiles that begin or end by now, by what was known last."""
        if self.next_change is not None and now() >= self.next_change:
            self.enforce(dict(self._last), dict(self._last_without_numa))

    def _next_change(self, server, intent, moment):
        return self.intents.next_change(server, intent, moment)

    def _forget(self, servers):
        """Forget all servers but these."""
        for uuid in self._given.keys() - servers - self._jobs.servers:
            self._given.pop(uuid, None)
        self.intents.retain(servers)
        self._cpu_shares.forget(servers)
        self.clos.forget(servers)

    def _look(self, server, moment):
        """Its template with what its metadata may say, and its threads."""
        intent = self.intents.of(server, moment)
        current = ownership.Ownership(server.numa_topology).current
        return Enforced(server, current, intent,
                        *self._steps.wanted(server, current, intent))

    def _put_back(self, enforced, still_used):
        """Put threads on what is owned and meant.

        A difference is a new desired state, or else something that somebody
        did by hand, or a step that was cut short.

        :param still_used: pCPUs that others have not left
        """
        server, before = enforced.server, self._given.get(enforced.server.uuid)
        lent = self._lent if enforced.borrows else NOTHING
        changes = self._steps.differences(
            server, enforced.topology, enforced.intent, lent)
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
            self._run_on(enforced, lent)
            if meant:
                self.done.append((server, changes))
        if enforced.problems and (
                before is None or before[1] != enforced.problems):
            LOG.warning('Not obeyed: %s', km_exc.shown(
                '; '.join(enforced.problems), _LONGEST), instance=server)
        self._given[server.uuid] = enforced.wanted, enforced.problems

    def given_anew(self, uuid):
        """What a server owns has changed, so what is wanted is new."""
        self._given.pop(uuid, None)

    def _run_on(self, enforced, lent):
        self._steps.run_on(enforced.server, enforced.topology,
                           enforced.intent, lent)

    def _late(self, server, error):
        """After what took long of a server; called in its thread."""
        if error is not None:
            LOG.error('It took long, and has failed', exc_info=error,
                      instance_uuid=server)

    def hand_over(self, servers):
        """Leave servers to a job, which has them borrow nothing.

        :param servers: uuids
        :returns: those that did not leave what they borrow
        """
        with self._lending:
            self._last = {uuid: server for uuid, server in self._last.items()
                          if uuid not in servers}
            borrowing = {uuid: known for uuid, (known, borrowed)
                         in self._borrowers.items()
                         if uuid in servers and borrowed}
            failed = self._jobs.each(
                borrowing, 'it gives back what it has borrowed',
                lambda each: self._run_on(each, NOTHING), self._late)
            for uuid in borrowing.keys() - failed.keys():
                self._borrowers[uuid] = borrowing[uuid], NOTHING
        return failed.keys()

    def job_ended(self, servers):
        """Have borrowers leave what was reclaimed while they had a job.

        :param servers: uuids
        """
        with self._lending:
            if self._lent is not None and servers & self._borrowers.keys():
                self._leave({}, self._lent)

    # Lending.

    def _leave(self, enforced, lent):
        """Borrowers leave what is not lent any more.

        :param enforced: uuid -> Enforced, of idle servers
        :param lent: what is to be lent from now on
        :returns: pCPUs that borrowers could not be moved off
        """
        staying = (self._lent or NOTHING) & lent - self._reclaimed
        leaving = {uuid: enforced.get(uuid, known)
                   for uuid, (known, borrowed) in self._borrowers.items()
                   if not borrowed <= staying}
        failed = self._jobs.each(
            leaving, 'it gives back what it has borrowed',
            lambda each: self._run_on(each, staying), self._late)
        stuck = set()
        for uuid in leaving:
            known, borrowed = self._borrowers[uuid]
            if uuid in failed:
                LOG.error('Borrowed pCPUs could not be given back',
                          exc_info=failed[uuid], instance=known.server)
                stuck |= borrowed - staying
            else:
                self._borrowers[uuid] = known, borrowed & staying
        self._lent = staying
        return frozenset(stuck)

    def _lend(self, enforced):
        """Borrowers come to what owners have left.

        :param enforced: uuid -> Enforced, of servers that are where they are
            meant to be
        """
        # A server that is not idle retains what it has, and gets no more.
        left = {uuid: known for uuid, (known, borrowed)
                in self._borrowers.items() if uuid not in enforced}
        running = set()

        def look(known):
            if self._steps.domain(known.server) is not None:
                running.add(known.server.uuid)

        failed = self._jobs.each(
            {uuid: known for uuid, known in left.items()
             if self._borrowers[uuid][1]},
            'libvirt is asked for its domain', look, self._late)
        for uuid in left.keys() - failed.keys() - running:
            del self._borrowers[uuid]
        self._lent = NOTHING.union(*(
            each.lends for each in enforced.values())) - self._reclaimed
        borrowing = {uuid: each for uuid, each in enforced.items()
                     if each.borrows and uuid not in self._leaving}
        for uuid, each in borrowing.items():
            self._note(uuid, each)
        failed = self._jobs.each(
            borrowing, 'it gets what it borrows', self._borrow, self._late)
        for uuid, each in borrowing.items():
            if uuid in failed:
                LOG.error('It could not borrow what others lend',
                          exc_info=failed[uuid], instance=each.server)
            else:
                self._borrowers[uuid] = each, self._lent

    def _note(self, uuid, each):
        """A borrower is about to be on all that is lent."""
        _known, before = self._borrowers.get(uuid, (each, NOTHING))
        self._borrowers[uuid] = each, before | self._lent

    def _borrow(self, each):
        changes = self._steps.differences(
            each.server, each.topology, each.intent, self._lent)
        if changes:
            LOG.info('It borrows what others lend: %s', '; '.join(changes),
                     instance=each.server)
            self._run_on(each, self._lent)

    def reclaim(self, pcpus, everybody):
        """Have borrowers leave pCPUs that somebody is about to run on.

        Called before Nova defines a domain, and before an owner changes.

        :param pcpus: of the domain, owned by its server
        :param everybody: called without arguments where nothing is known yet;
            returns all servers of the host with a template
        :returns: those of the pCPUs that borrowers could not be moved off
        """
        still_used = NOTHING
        with self._lending:
            if self._lent is None:
                self.first(everybody())
            self._reclaimed |= pcpus
            if any(borrowed & pcpus
                   for _known, borrowed in self._borrowers.values()):
                still_used = self._leave({}, self._lent - pcpus) & pcpus
            # What was known of their owners may be so no more.
            self._last = {uuid: server for uuid, server in self._last.items()
                          if not pcpus & _pcpus(server)}
        return still_used

    def evict(self, pcpus):
        """Have the kernel move borrowers that could not be asked to leave.

        What they borrow stays noted, so that the next pass asks libvirt again.

        :param pcpus: that somebody is about to run on
        :returns: [(server, the error where that has failed, or None)]
        """
        moved: list[tuple[Any, Exception | None]] = []
        with self._lending:
            for known, borrowed in self._borrowers.values():
                if not borrowed & pcpus:
                    continue
                try:
                    self._steps.move_off(known.server, pcpus,
                                         known.wanted.pcpus)
                    moved.append((known.server, None))
                except Exception as exc:
                    moved.append((known.server, exc))
        return moved

    def own_only(self, server, everybody):
        """Have one server leave all that it borrows, before it is saved.

        :param everybody: as for :meth:`reclaim`
        """
        with self._lending:
            if self._lent is None:
                self.first(everybody())
            self._leaving.add(server.uuid)
            known, _borrowed = self._borrowers.get(server.uuid, (None, None))
            if known is None:
                return
            failed = self._jobs.each(
                {server.uuid: known}, 'it gives back what it has borrowed',
                lambda each: self._run_on(each, NOTHING), self._late)
            if failed:
                raise failed[server.uuid]
            del self._borrowers[server.uuid]


def _pcpus(server):
    return ownership.Ownership(server.numa_topology).owned.pcpus
