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

"""Lending: who may be on pCPUs that their owner lends.

A pCPU that its owner lends is used by others only while the owner's threads
are off it: borrowers leave first, then owners come back; owners go first, then
borrowers come.  Whoever is about to run on a pCPU reclaims it
(:meth:`Lending.reclaim`), be it the owner or one that owns it by now.
"""

import threading
from typing import Any

from oslo_log import log as logging

from nova_ext.live import record
from nova_ext.ownership import ownership

LOG = logging.getLogger(__name__)
NOTHING: frozenset[int] = frozenset()


class Lending:
    """What is lent on a host, and to whom.

    :param domains: nova_ext.live.domains.Domains
    :param jobs: nova_ext.live.jobs.Jobs; whoever has one is left alone
    :param look: called with a nova.objects.Instance; returns its
        nova_ext.live.enforce.Enforced
    :param late: called with a server and its error, or None, after what took
        long of it
    :ivar lock: held while it is decided who is on lent pCPUs
    :ivar lent: what borrowers may be on; None: not known yet
    :ivar reclaimed: pCPUs reclaimed since Nova was asked last
    """

    def __init__(self, domains, jobs, look, late):
        self._domains, self._jobs = domains, jobs
        self._look, self._late = look, late
        #: borrowing server -> (Enforced, others' pCPUs that it may be on)
        self._borrowers = {}
        self.lent = None
        self.lock = threading.RLock()
        self.reclaimed = set()
        #: servers that borrow nothing more, since Nova was asked last
        self._leaving = set()
        #: server -> pCPUs that it lends and is off, as long as nobody else
        #: than its job changes it
        self._lenders = {}

    def begin(self):
        """A pass is about to ask Nova."""
        with self.lock:
            self.reclaimed.clear()
            self._leaving.clear()

    def learn(self, servers):
        """Nothing is lent where nobody borrows; no thread is moved.

        So the first domain that is defined need not wait for a list of the
        host's servers.

        :param servers: all servers of the host with a template, idle or not
        """
        with self.lock:
            if self.lent is None and not any(map(_may_borrow, servers)):
                self.lent = NOTHING

    def first(self, servers):
        """Begin with what borrowers are on and its owners are off.

        libvirt is told so anew: after a crash it may be at a call still that
        puts one elsewhere.  What is not lent any more they leave when servers
        were looked at.

        :param servers: all servers of the host with a template, idle or not
        """
        with self.lock:
            if self.lent is not None:
                return
            dedicated = self._domains.dedicated()
            for server in servers:
                if server.numa_topology is None:
                    continue
                try:
                    enforced = self._look(server)
                except Exception:
                    continue  # a pass reports why
                if enforced.borrows:
                    # What it may be on is not known.
                    self._borrowers[server.uuid] = enforced, dedicated
            self._stay(servers, dedicated)

    def _stay(self, servers, dedicated):
        """Have borrowers stay where they are and no owner is."""
        mine = {server.uuid: ownership.Ownership(server.numa_topology).pcpus
                for server in servers if server.numa_topology is not None}
        borrowers = {uuid: known for uuid, (known, _all)
                     in self._borrowers.items()}
        on, failed = self._where({uuid: known.server for uuid, known
                                  in borrowers.items()})
        here = {uuid: pcpus & dedicated - mine[uuid]
                for uuid, pcpus in on.items()}
        borrowed = NOTHING.union(*here.values())
        on, unknown = self._where({
            server.uuid: server for server in servers
            if mine.get(server.uuid, NOTHING) & borrowed})
        # Who can't be asked may be on all that it owns.
        used = NOTHING.union(*(mine[uuid] for uuid in unknown), *(
            pcpus & mine[uuid] for uuid, pcpus in on.items()))
        here = {uuid: pcpus - used for uuid, pcpus in here.items()}
        self.lent = borrowed - used
        failed |= self._jobs.each(
            {uuid: borrowers[uuid] for uuid in here},
            'it stays on what it borrows', lambda known: self.run_on(
                known, here[known.server.uuid]), self._late)
        for uuid, known in borrowers.items():
            if uuid in failed:
                LOG.error('What it borrows is not known',
                          exc_info=failed[uuid], instance=known.server)
            else:
                self._borrowers[uuid] = known, here[uuid]

    def _where(self, servers):
        """Where libvirt has servers.

        :param servers: uuid -> nova.objects.Instance
        :returns: uuid -> pCPUs, and uuid -> the error of those that could not
            be asked
        """
        found = {}

        def look(server):
            found[server.uuid] = self._domains.pcpus(server)

        failed = self._jobs.each(
            servers, 'libvirt is asked where it is', look, self._late)
        # One that goes on may come to be found at any moment.
        return {uuid: found[uuid] for uuid in servers
                if uuid not in failed}, failed

    def look(self, enforced, left_alone):
        """What servers lend; no thread is moved.

        A server that has a job lends what it has lent before.

        :param enforced: uuid -> Enforced, of idle servers
        :param left_alone: uuids of those that have a job
        :returns: what is to be lent from now on
        """
        lenders = {uuid: pcpus for uuid, pcpus in self._lenders.items()
                   if uuid in left_alone and uuid not in enforced}
        lent = self._domains.powered(NOTHING.union(
            *(each.lends for each in enforced.values()), *lenders.values()))
        # What is to be lent anew is not left yet.
        now = (self.lent or NOTHING) - self.reclaimed
        self._lenders = lenders | {uuid: each.lends & now
                                   for uuid, each in enforced.items()}
        return lent

    @property
    def lenders(self):
        """uuids of those that lend, as far as they were looked at."""
        with self.lock:
            return {uuid for uuid, pcpus in self._lenders.items() if pcpus}

    def withdraw(self, server):
        """A server could not be put where it is meant to be; lend nothing.

        :param server: its uuid
        """
        with self.lock:
            pcpus = self._lenders.pop(server, NOTHING)
            if pcpus & (self.lent or NOTHING):
                self.leave({}, self.lent - pcpus)

    def leave(self, enforced, lent):
        """Borrowers leave what is not lent any more.

        :param enforced: uuid -> Enforced, of idle servers
        :param lent: what is to be lent from now on
        :returns: pCPUs that borrowers could not be moved off
        """
        staying = (self.lent or NOTHING) & lent - self.reclaimed
        # Nobody gets what is lent, but was not to this one yet.
        leaving = {uuid: (enforced.get(uuid, known), borrowed & staying)
                   for uuid, (known, borrowed) in self._borrowers.items()
                   if not borrowed <= staying}
        failed = self._jobs.each(
            leaving, 'it gives back what it has borrowed',
            lambda each: self.run_on(*each), self._late)
        stuck = set()
        for uuid in leaving:
            known, borrowed = self._borrowers[uuid]
            if uuid in failed:
                LOG.error('Borrowed pCPUs could not be given back',
                          exc_info=failed[uuid], instance=known.server)
                stuck |= borrowed - staying
            else:
                self._borrowers[uuid] = known, borrowed & staying
        self.lent = staying
        return frozenset(stuck)

    def lend(self, enforced, failed=()):
        """Borrowers come to what owners have left.

        :param enforced: uuid -> Enforced, of servers that are where they are
            meant to be
        :param failed: uuids of those that are not, and have no job that
            sees to it
        """
        for uuid in failed:
            self._lenders.pop(uuid, None)
        self._lenders.update({uuid: each.lends - self.reclaimed
                              for uuid, each in enforced.items()})
        # A server that is not idle retains what it has, and gets no more.
        left = {uuid: known for uuid, (known, borrowed)
                in self._borrowers.items() if uuid not in enforced}
        running = set()

        def look(known):
            if self._domains.domain(known.server) is not None:
                running.add(known.server.uuid)

        failed = self._jobs.each(
            {uuid: known for uuid, known in left.items()
             if self._borrowers[uuid][1]},
            'libvirt is asked for its domain', look, self._late)
        for uuid in left.keys() - failed.keys() - running:
            del self._borrowers[uuid]
        # Of one that has stopped nothing has power, where Nova manages that.
        self.lent = self._domains.powered(NOTHING.union(
            *self._lenders.values())) - self.reclaimed
        borrowing = {uuid: each for uuid, each in enforced.items()
                     if each.borrows and uuid not in self._leaving}
        for uuid, each in borrowing.items():
            self.note(uuid, each)
        failed = self._jobs.each(
            borrowing, 'it gets what it borrows', self._borrow, self._late)
        for uuid, each in borrowing.items():
            if uuid in failed:
                LOG.error('It could not borrow what others lend',
                          exc_info=failed[uuid], instance=each.server)
            else:
                self._borrowers[uuid] = each, self.lent

    def note(self, uuid, each):
        """A borrower is about to be on all that is lent."""
        _known, before = self._borrowers.get(uuid, (each, NOTHING))
        self._borrowers[uuid] = each, before | self.lent

    def _borrow(self, each):
        changes = self._domains.differences(
            each.server, each.topology, each.intent, self.lent)
        if changes:
            LOG.info('It borrows what others lend: %s', '; '.join(changes),
                     instance=each.server)
            self.run_on(each, self.lent)

    def hand_over(self, servers):
        """Leave servers to a job, which has them borrow nothing.

        :param servers: uuid -> pCPUs that it lends as long as its job runs,
            if it lends them now
        :returns: those that did not leave what they borrow
        """
        with self.lock:
            for uuid in self._lenders.keys() & servers:
                self._lenders[uuid] &= servers[uuid]
            borrowing = {uuid: known for uuid, (known, borrowed)
                         in self._borrowers.items()
                         if uuid in servers and borrowed}
            failed = self._jobs.each(
                borrowing, 'it gives back what it has borrowed',
                lambda each: self.run_on(each, NOTHING), self._late)
            for uuid in borrowing.keys() - failed.keys():
                self._borrowers[uuid] = borrowing[uuid], NOTHING
        return failed.keys()

    @property
    def borrows(self):
        """Whether any server does, or did when it was last looked at."""
        return bool(self._borrowers)

    def job_ended(self, servers):
        """Have borrowers leave what was reclaimed while they had a job.

        :param servers: uuids
        """
        with self.lock:
            if self.lent is not None and servers & self._borrowers.keys():
                self.leave({}, self.lent)

    def reclaim(self, pcpus, everybody):
        """Have borrowers leave pCPUs that somebody is about to run on.

        Called before Nova defines a domain, and before an owner changes.

        :param pcpus: of the domain, owned by its server
        :param everybody: called without arguments where nothing is known yet;
            returns all servers of the host with a template
        :returns: those of the pCPUs that borrowers could not be moved off
        """
        still_used = NOTHING
        with self.lock:
            if self.lent is None:
                self.first(everybody())
            self.reclaimed |= pcpus
            self._lenders = {uuid: lends - pcpus for uuid, lends
                             in self._lenders.items()}
            if any(borrowed & pcpus
                   for _known, borrowed in self._borrowers.values()):
                still_used = self.leave({}, self.lent - pcpus) & pcpus
            # Nor lent where nobody is on them: they are not to be had until
            # a pass has found that their owner has left them.
            self.lent -= pcpus
        return still_used

    def evict(self, pcpus):
        """Have the kernel move borrowers that could not be asked to leave.

        What they borrow stays noted, so that the next pass asks libvirt again.

        :param pcpus: that somebody is about to run on
        :returns: [(server, the error where that has failed, or None)]
        """
        moved: list[tuple[Any, Exception | None]] = []
        with self.lock:
            for known, borrowed in self._borrowers.values():
                if not borrowed & pcpus:
                    continue
                try:
                    self._domains.move_off(known.server, pcpus,
                                           known.wanted.pcpus)
                    moved.append((known.server, None))
                except Exception as exc:
                    moved.append((known.server, exc))
        return moved

    def own_only(self, server, everybody):
        """Have one server leave all that it borrows, before it is saved.

        :param everybody: as for :meth:`reclaim`
        """
        with self.lock:
            if self.lent is None:
                self.first(everybody())
            self._leaving.add(server.uuid)
            known, _borrowed = self._borrowers.get(server.uuid, (None, None))
            if known is None:
                return
            failed = self._jobs.each(
                {server.uuid: known}, 'it gives back what it has borrowed',
                lambda each: self.run_on(each, NOTHING), self._late)
            if failed:
                raise failed[server.uuid]
            del self._borrowers[server.uuid]

    def run_on(self, enforced, lent):
        """Have a server's threads where they are wanted.

        What is reclaimed while libvirt hangs has no borrower any more, by
        the kernel, and libvirt may put its threads there again when it goes
        on.  So it is asked for nothing more then, and the kernel moves these
        as well.  That libvirt knows of it is seen to when the job has ended.

        :param lent: others' pCPUs that it may be on
        :raises nova_ext.live.record.ChangeFailed: if they were reclaimed
        """
        def check():
            if self._is_late(lent):
                raise record.ChangeFailed(
                    reason='what it was to borrow was reclaimed meanwhile')

        try:
            self._domains.run_on(enforced.server, enforced.topology,
                                 enforced.intent, lent, check)
            check()
        finally:
            late = self._is_late(lent)
            if late:
                self._domains.move_off(enforced.server, late,
                                       enforced.wanted.pcpus)

    def _is_late(self, lent):
        """Those of the pCPUs that are lent no more."""
        return lent - (self.lent or NOTHING) | lent & self.reclaimed


def _may_borrow(server):
    """Whether its flavor says anything of that, right or wrong."""
    return any('borrow' in key for key in server.flavor.extra_specs)
