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

"""Profiles by load, on this host and by its own figures.

``[kongming] by_load`` says whether servers with conditions in their profiles
are looked at (``advise``) and switched (``act``).  A thread reads what their
vCPUs did, every few seconds; a server that has given something up, many times
a second (:mod:`kongming.load.decision`).  Neither Nova's database nor its API
is asked for that.

Cells of servers that say so go to other nodes of the host
(:mod:`nova_ext.live.balance`).

A server that begins a profile by its load takes a part of the host's budget
of changes; one that ends it takes none, as it gets what is its own.
"""

import threading
import time

from kongming.kernel import vcpu_times
from kongming.load import decision
from kongming.template import condition
import nova.conf
from oslo_log import log as logging

from nova_ext import figures as counts
from nova_ext.live import balance
from nova_ext.live import watched

CONF = nova.conf.CONF
LOG = logging.getLogger(__name__)
OFF, ADVISE, ACT = 'off', 'advise', 'act'
#: Seconds between readings of all.
INTERVAL = decision.PERIOD
#: Seconds between readings of those who may want something back, at least and
#: at most.  With the time that figures cover this bounds for how long an owner
#: waits.
URGENT, SELDOM = 0.05, 0.1
#: In between, so many times what a reading takes: of many servers it would
#: else be what nova-compute does most.
_PAUSES = 10
#: Seconds between two looks at where memory is.
_MEMORY_INTERVAL = 60.0
_HOUR = 3600.0
_BUDGET = ('this host has changed as many servers as it may in a minute '
           '([kongming] changes_per_minute)')


def clock():
    """Seconds, as those of readings; tests have others."""
    return time.monotonic()


def pause_after(took):
    """Seconds until those are read again who may want something back.

    :param took: seconds that reading them has taken
    """
    return min(max(URGENT, _PAUSES * took), SELDOM)


class Load:
    """:param acts: whether this host changes servers at all

    :param admit: whether a server's change is within the host's budget;
        called with its uuid and its project
    :param switch: called with uuids of servers whose profile is another one
        by now; those that end one by load, and all others
    :param lends: gives the pCPUs that a server would lend in a profile; called
        with its uuid and the profile
    :param now: gives the moment
    :param lent: gives the pCPUs that are lent now
    :param wake: called where a pass has something to begin
    :ivar balance: nova_ext.live.balance.Balance
    """

    def __init__(self, acts, admit, switch, lends, now, lent=frozenset,
                 wake=lambda: None):
        self._acts, self._admit = acts, admit
        self._switch, self._lends, self._now = switch, lends, now
        self.balance = balance.Balance(lambda: self.mode, lent,
                                       lambda: clock(), wake)
        #: guards what follows
        self._lock = threading.RLock()
        self._watched: dict[str, watched.Watched] = {}
        self._started = clock()
        #: servers of which is known what was done before
        self._restored: set[str] = set()
        #: files of servers that are watched no more; closed by the thread
        self._left: list[vcpu_times.Domain] = []
        self._is_stopped = False
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self._next_reading = self._next_memory = 0.0

    @property
    def mode(self):
        """OFF, ADVISE or ACT."""
        mode = CONF.kongming.by_load
        return ADVISE if mode == ACT and not self._acts() else mode

    def met(self, server, flavor, metadata, moment):
        """Conditions of a server's profiles that count now.

        The server is looked at from now on, where it has any.

        :param server: nova.objects.Instance
        :param flavor: its template
        :param metadata: as far as they are obeyed
        :returns: frozenset of kongming.template.condition.Condition
        """
        if self.mode == OFF or not (flavor.balance or flavor.profiles and
                                    decision.of_template(flavor)):
            if server.uuid in self._watched:
                self._forget([server.uuid])
            return frozenset()
        with self._lock:
            known = self._watched.get(server.uuid)
            if known is None:
                known = self._watched[server.uuid] = watched.Watched.of(
                    server, flavor, metadata)
                self._wake.set()
            if self._thread is None:
                self._begin()
            known.server, known.template = server, flavor
            known.metadata = metadata
            was_urgent = known.decider.is_urgent
            found = self._decide(known, moment)
            if known.decider.is_urgent and not was_urgent:
                self._wake.set()
        return found.met if self.mode == ACT else frozenset()

    def _decide(self, known, moment):
        before = known.decider.decision
        found = known.decider.decide(
            known.template, known.metadata, moment, clock(),
            CONF.kongming.load_switches_per_hour,
            (lambda: '' if self._admit(
                known.server.uuid, known.server.project_id) else _BUDGET)
            if self.mode == ACT else None)
        if found.profile != before.profile:
            if before.by_load or found.by_load:
                counts.COUNTS.load_switched()
            known.evidence = (f'profile {found.profile or "-"}: '
                              f'{found.because}')
            LOG.info('%s %s (until now %s)',
                     'By its load' if self.mode == ACT else 'Advice:',
                     known.evidence, before.profile or '-',
                     instance=known.server)
        return found

    def needs_history(self, uuid):
        """Whether what was done by load before nova-compute started counts.

        Of a server that is looked at, in the first hour, once.
        """
        return (uuid in self._watched and uuid not in self._restored
                and clock() - self._started < _HOUR)

    def restore(self, uuid, changes):
        """Have changes count that were made before nova-compute started.

        :param changes: [(seconds since, evidence, whether on this host)]
        """
        now = clock()
        moves = [age for age, words, is_here in changes
                 if words.startswith(balance.EVIDENCE) and is_here]
        with self._lock:
            self._restored.add(uuid)
            known = self._watched.get(uuid)
            if known is None:
                return
            # Later ones it has seen itself.
            known.decider.restore([
                now - age for age, words, _is_here in changes
                if not words.startswith(balance.EVIDENCE)
                and now - age < self._started])
        self.balance.restore(uuid, [age for age in moves
                                    if now - age < self._started])

    def evidence(self, uuid):
        """Why a server has switched, once; to be recorded.

        :returns: in words; empty where its load has nothing to do with it
        """
        with self._lock:
            known = self._watched.get(uuid)
            if known is None or self.mode != ACT:
                return ''
            found, known.evidence = known.evidence, ''
            return found

    def advice(self, uuid):
        """What is measured of a server, and what that calls for.

        :returns: a dictionary of plain values; None where it has no
            conditions, or nobody looks at them.  ``lends`` are pCPUs that
            others could use in that profile, ``saves`` is the wait that it
            could save at most, in per cent
        """
        found = self._advice(uuid)
        if found is None:
            return None
        found['move'] = self.balance.advice(uuid)
        found['floats'] = self.balance.floats
        found['floating'] = self.balance.waits(uuid)
        if found['profile'] != found['usual']:
            found['lends'] = sorted(self._lends(uuid, found['profile']))
            if any(each.figure == condition.WAIT and not each.below
                   for each in self._conditions_of(uuid, found['profile'])):
                found['saves'] = found['wait']
        return found

    def _conditions_of(self, uuid, profile):
        with self._lock:
            known = self._watched.get(uuid)
            return () if known is None else decision.of_profiles(
                known.template, {profile})

    def _advice(self, uuid):
        with self._lock:
            known = self._watched.get(uuid)
            if known is None or self.mode == OFF:
                return None
            found, measured = known.decider.decision, known.decider.figures
            return {
                'mode': self.mode, 'profile': found.profile,
                'usual': found.usual, 'because': found.because,
                'waits': found.waits,
                'use': measured and round(measured.use, 1),
                'wait': measured and round(measured.wait, 1),
                'remote': (None if measured is None
                           or measured.remote is None
                           else round(measured.remote, 1)),
                'lends': [], 'saves': None,
                'progress': known.decider.progress(clock())}

    def counts(self):
        """Servers that are looked at, those that have or would have another
        profile by it, and those that would better be on another node.
        """
        with self._lock:
            found = [known.decider.decision.by_load
                     for known in self._watched.values()]
        return len(found), sum(found), self.balance.advised

    def retain(self, servers):
        """Forget all servers but these.

        :param servers: uuids
        """
        self._forget(self._watched.keys() - servers)
        self._restored.intersection_update(servers)
        self.balance.retain(servers)

    def _forget(self, servers):
        with self._lock:
            for uuid in list(servers):
                known = self._watched.pop(uuid, None)
                if known is not None:
                    self._left.append(known.domain)
        self._wake.set()

    # The thread.

    def _begin(self):
        """Have servers read from now on; called with the lock."""
        if not self._is_stopped:
            thread = threading.Thread(
                target=self._run_forever, daemon=True, name='kongming-load')
            # Where the system gives no thread, the next one to ask tries.
            thread.start()
            self._thread = thread

    def start(self):
        """nova-compute has started."""
        self._is_stopped = False

    def stop(self):
        """Read nothing any more."""
        self._is_stopped = True
        self._wake.set()

    def _run_forever(self):
        while True:
            # Whoever sets it from here on is heard.
            self._wake.clear()
            if self._is_stopped:
                break
            try:
                pause = self.read()
            except Exception:
                # Nothing that goes wrong here ends it.
                LOG.exception('The load of servers could not be looked at')
                pause = INTERVAL
            self._wake.wait(pause)
        with self._lock:
            for known in self._watched.values():
                known.domain.close()
            for domain in self._left:
                domain.close()
            self._watched.clear()
            self._left = []
            self._thread = None

    def read(self):
        """Read those that are due, and have them switch where they are to.

        :returns: seconds until somebody is due; None: nobody is
        """
        now = clock()
        everybody = now >= self._next_reading
        with self._lock:
            left, self._left = self._left, []
            due = [known for known in self._watched.values()
                   if everybody or known.decider.is_urgent]
        for domain in left:
            domain.close()
        ending: set[str] = set()
        others: set[str] = set()
        for known in due:
            counters = known.counters()
            with self._lock:
                before = known.decider.decision
                known.decider.read(known.template, counters,
                                   clock())
                if self._decide(known,
                                self._now()).profile != before.profile:
                    (ending if before.by_load else others).add(
                        known.server.uuid)
        took = clock() - now
        if (ending or others) and self.mode == ACT:
            self._switch(ending, others)
        if everybody:
            self._next_reading = now + INTERVAL
            self._look_at_memory(now)
            self.balance.read({known.server.uuid: known.reading
                               for known in due})
        with self._lock:
            if not self._watched:
                return None
            if any(known.decider.is_urgent
                   for known in self._watched.values()):
                return pause_after(took)
        return max(0.0, self._next_reading - clock())

    def _look_at_memory(self, now):
        if now < self._next_memory:
            return
        with self._lock:
            wanted = [known for known in self._watched.values()
                      if known.wants_memory]
        self._next_memory = now + _MEMORY_INTERVAL
        if wanted:
            watched.read_memory(wanted)
