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

"""Passes that somebody asks for, and what they are told.

Whoever asks is answered in time, whatever goes on: the pass is made by a
thread, and many who ask at once are answered by the same pass.
"""

import functools
import threading
import time

from kongming.live import progress
from oslo_log import log as logging

LOG = logging.getLogger(__name__)


class Trigger:
    """:param run: makes a pass; others wait while one is made

    :param jobs: nova_ext.live.jobs.Jobs
    """

    def __init__(self, run, jobs):
        self._run, self._jobs = run, jobs
        #: guards what follows
        self._lock = threading.Lock()
        #: set when the pass has ended that begins next; None: none is asked
        #: for
        self._next: threading.Event | None = None
        #: numbers of the last pass that was asked for and that has ended
        self._asked = self._ended = 0
        #: held while a pass is made by a thread
        self._one_thread = threading.Lock()

    def look(self, server, patience):
        """Have a pass made.

        :param server: its uuid
        :param patience: for how long to wait from now on, in seconds
        :returns: called without arguments it waits for what concerns the
            server, and returns what goes on then, in words; empty where all
            is done
        """
        with self._lock:
            ended, number = self._request(), self._asked
        return functools.partial(self._wait, server, ended, number,
                                 time.monotonic() + patience)

    def _wait(self, server, ended, number, until):
        is_looked_at = ended.wait(max(0.0, until - time.monotonic()))
        job = self._jobs.of(server)
        if job is not None and not job.wait(max(
                0.0, until - time.monotonic())):
            return str(job)
        return '' if is_looked_at else progress.looks(number, self._ended)

    def request(self):
        """Have a pass made that begins after this call.

        :returns: threading.Event, set when it has ended
        """
        with self._lock:
            return self._request()

    def _request(self):
        if self._next is None:
            ended = threading.Event()
            # Where the system gives no thread, nobody waits for it.
            threading.Thread(target=self._answer, daemon=True,
                             args=(ended,), name='kongming-pass').start()
            self._next = ended
            self._asked += 1
        return self._next

    def _answer(self, ended):
        with self._one_thread:
            with self._lock:
                self._next, number = None, self._asked
            try:
                self._run()
            except Exception:
                # The next pass tries again.
                LOG.exception('A pass over the servers with a template '
                              'failed')
            finally:
                self._ended = number
                ended.set()
