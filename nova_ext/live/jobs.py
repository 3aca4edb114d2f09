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

"""Slow work on servers, each in a thread of its own.

While a job of a server runs, nobody else changes anything of that server.
Passes, profiles and changes of other servers go on.  A job is forgotten with
the process: what it was about to do is in its server's ownership, which is
the journal.

Threads are those of :mod:`threading`: native ones, or eventlet's where Nova
has patched them (``nova.monkey_patch``).  Calls of libvirt leave an eventlet
thread by Nova's own proxy, so that a slow one holds up no other thread.
"""

import collections
import threading
import time

from oslo_log import log as logging

from nova_ext import figures

LOG = logging.getLogger(__name__)
#: Jobs at once.  With eventlet each may take one of the 20 native threads
#: that Nova's own calls of libvirt need, too (eventlet.tpool).
MOST = 8
#: How long a server may hold up others before its work goes on as its job,
#: in seconds.
PATIENCE = 1.0
#: Likewise after another one did, since all of libvirtd may hang: so no sweep
#: takes longer than twice as long as one server may.
_HURRY = PATIENCE / MOST


class StillRunning(Exception):
    """Work on a server takes long; it goes on as a job."""


class Job:
    """Work on servers.

    :ivar servers: their uuids
    :ivar pcpus: what they own or may come to own by it
    :ivar what: the work, in words
    :ivar progress: how far it is, in words; empty: nothing to tell
    :ivar blocks: whether libvirt answers nothing about its domain meanwhile
    """

    def __init__(self, servers, what, pcpus=frozenset(), since=None):
        self.servers = frozenset(servers)
        self.pcpus = pcpus
        self.what = what
        self.progress = ''
        self.blocks = False
        self._since = time.monotonic() if since is None else since
        self._ended = threading.Event()

    @property
    def seconds(self):
        """For how long it has run."""
        return time.monotonic() - self._since

    def __str__(self):
        return ', '.join(filter(None, (
            self.what, self.progress, f'{self.seconds:.0f} s')))

    def wait(self, timeout=None):
        """:returns: whether it has ended"""
        return self._ended.wait(timeout)

    def end(self):
        self._ended.set()


class Jobs:
    """The jobs of a host.

    :param ended: called with each job after its end, in its thread
    """

    def __init__(self, ended=lambda job: None):
        self._ended = ended
        #: guards what follows, and what a sweep is at
        self._lock = threading.Condition()
        #: server -> its Jobs: of one that libvirt does not answer for, each
        #: call that waits is one
        self._running: dict[str, list[Job]] = {}
        #: how many have ended
        self.number_ended = 0
        #: whether nova-compute is about to end
        self.is_stopped = False

    def of(self, server):
        """The job of a server, or None; no lock is waited for.

        Nova asks so for each server, native ones included.
        """
        return next(iter(self._running.get(server, ())), None)

    @property
    def servers(self):
        """Those that have one now."""
        with self._lock:
            return frozenset(self._running)

    @property
    def all(self):
        with self._lock:
            return set().union(*self._running.values())

    @property
    def free(self):
        """How many more may begin now."""
        return 0 if self.is_stopped else max(0, MOST - len(self.all))

    @property
    def pcpus(self):
        """All that servers own or may come to own by what runs."""
        return frozenset().union(*(job.pcpus for job in self.all))

    def start(self, servers, what, work, pcpus=frozenset()):
        """Have a thread do something.

        :param work: called with the Job
        :returns: the Job; None where as many run as may, or one of a server
            does
        """
        job = Job(servers, what, pcpus)
        with self._lock:
            if (self.is_stopped or len(self.all) >= MOST
                    or job.servers & self._running.keys()):
                return None
            self._add(job)
        try:
            threading.Thread(target=self._run, args=(job, work), daemon=True,
                             name='kongming-job').start()
        except RuntimeError:
            # The system gives no thread; its servers are not to wait for it.
            self._remove(job)
            raise
        figures.COUNTS.job_started()
        return job

    def _add(self, job):
        with self._lock:
            for server in job.servers:
                self._running.setdefault(server, []).append(job)

    def _remove(self, job):
        with self._lock:
            for server in job.servers:
                self._running[server].remove(job)
                if not self._running[server]:
                    del self._running[server]
            self._lock.notify_all()

    def _run(self, job, work):
        try:
            work(job)
        except Exception:
            LOG.exception('A job failed: %s', job.what)
        finally:
            self._end(job)

    def _end(self, job):
        with self._lock:
            self._remove(job)
            self.number_ended += 1
        try:
            self._ended(job)
        except Exception:
            LOG.exception('The end of a job failed: %s', job.what)
        finally:
            job.end()

    def wait(self, timeout=None):
        """Wait until no job runs.

        :returns: whether none does
        """
        with self._lock:
            return self._lock.wait_for(lambda: not self._running, timeout)

    def stop(self, timeout):
        """Start no job any more, and no step; wait for what runs.

        :param timeout: in seconds
        """
        with self._lock:
            self.is_stopped = True
        self.wait(timeout)

    def each(self, items, what, work, late=lambda server, error: None):
        """Do the same for servers in turn, without waiting for slow ones.

        Where it takes longer than :data:`PATIENCE` for one, it goes on as
        this server's job, and another thread goes on with the others.

        :param items: server -> argument of ``work``
        :param what: the work, in words
        :param late: called with a server and with the error, or None, where
            it has ended as a job
        :returns: server -> the error, where there is one: StillRunning where
            it goes on, or where the server had a job before
        """
        sweep = _Sweep(self, items, what, work, late)
        while sweep.rest:
            sweep.go_on()
        for error in sweep.errors.values():
            if not isinstance(error, Exception):
                raise error  # it is to end this thread
        return sweep.errors


class _Sweep:
    """What :meth:`Jobs.each` has to do still.

    :ivar rest: (server, argument)
    :ivar errors: server -> the error
    """

    def __init__(self, jobs, items, what, work, late):
        self._jobs = jobs
        self._lock = jobs._lock
        self._what, self._work, self._late = what, work, late
        self.rest = collections.deque(items.items())
        self.errors = {}
        self._patience = PATIENCE

    def go_on(self):
        """Until all is done, or one takes long."""
        turn = _Turn()
        threading.Thread(target=self._do, args=(turn,), daemon=True,
                         name='kongming-job').start()
        with self._lock:
            while not turn.is_over:
                left = turn.since + self._patience - time.monotonic()
                if left > 0:
                    self._lock.wait(left)
                elif turn.server is None:
                    self._lock.wait(PATIENCE)  # the thread starts late
                else:
                    self._detach(turn)
                    return

    def _detach(self, turn):
        """What is being done goes on as a job; called with the lock."""
        server = turn.server
        turn.job = Job({server}, self._what, since=turn.since)
        # libvirt has not answered, and would not answer anybody else.
        turn.job.blocks = True
        self._jobs._add(turn.job)
        self.errors[server] = StillRunning(
            f'{self._what}: not done after {self._patience:g} s; it goes on')
        self._patience = min(PATIENCE, _HURRY)
        if len(self._jobs.all) >= MOST:
            for other, _argument in self.rest:
                self.errors[other] = StillRunning(
                    f'{self._what}: as many jobs run as may')
            self.rest.clear()

    def _do(self, turn):
        while True:
            with self._lock:
                turn.server = None
                while self.rest:
                    server, argument = self.rest.popleft()
                    if server not in self._jobs._running:
                        turn.server = server
                        break
                    self.errors[server] = StillRunning(
                        str(self._jobs.of(server)))
                if turn.server is None:
                    turn.is_over = True
                    self._lock.notify_all()
                    return
                # Who waits looks at it when the one before would be late.
                turn.since = time.monotonic()
            error = None
            try:
                self._work(argument)
            except BaseException as exc:
                error = exc
            with self._lock:
                job = turn.job
                if job is None:
                    # Done is not late, whenever this thread is run next.
                    turn.server = None
                    if error is not None:
                        self.errors[server] = error
            if job is not None:
                try:
                    self._late(server, error)
                finally:
                    self._jobs._end(job)
                return


class _Turn:
    """What one thread of a sweep is at.

    :ivar since: by the monotonic clock
    :ivar job: once it has taken too long
    """

    def __init__(self):
        self.server = None
        self.since = time.monotonic()
        self.is_over = False
        self.job = None
