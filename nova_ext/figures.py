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

"""What this nova-compute counts, and the file that tells others of it.

Counting costs a lock that is held for nothing else.  The file is written by a
thread of its own, under no lock of Nova's, and replaced as a whole: whoever
reads it (``kongming metrics``) finds all of it, and nova-compute serves
nobody.
"""

import contextlib
import copy
import os
import tempfile
import threading
import time

from kongming import conf as km_conf
from kongming.metrics import account
import nova.conf
from oslo_log import log as logging

CONF = nova.conf.CONF
km_conf.register_opts(CONF)
LOG = logging.getLogger(__name__)


class Counts:
    """Of one process."""

    def __init__(self):
        self._lock = threading.Lock()
        self._account = account.Account()
        #: by the monotonic clock; None: Placement has been told
        self._pending_since = None

    def change_ended(self, seconds, failed, moved_kib):
        """A live change of a server has ended."""
        with self._lock:
            self._account.changes[_result(failed)].add(seconds)
            self._account.moved_kib += moved_kib

    def pass_ended(self, seconds, failed):
        """A pass over the servers with a template has ended."""
        with self._lock:
            self._account.passes[_result(failed)].add(seconds)
            if not failed:
                self._account.last_pass = time.time()

    def job_started(self):
        with self._lock:
            self._account.jobs_started += 1

    def load_switched(self):
        """A profile has begun or ended by load, or would have."""
        with self._lock:
            self._account.load_switches += 1

    def load_moved(self):
        """A cell is sent to another node by load."""
        with self._lock:
            self._account.load_moves += 1

    def publish_wanted(self):
        """What is taken of the host may differ from what Placement knows."""
        with self._lock:
            if self._pending_since is None:
                self._pending_since = time.monotonic()

    def published(self, began, failed):
        """:param began: by the monotonic clock; what has come since waits"""
        with self._lock:
            if failed:
                self._account.publisher_failures += 1
                if self._pending_since is None:
                    self._pending_since = began
            elif self._pending_since is not None and (
                    self._pending_since <= began):
                self._pending_since = None

    def account(self, jobs_running, load=(0, 0, 0)):
        """
        :param load: servers that are looked at, those that would have another
            profile, and those that would better be on another node
        :returns: kongming.metrics.account.Account, as of now
        """
        with self._lock:
            found = copy.deepcopy(self._account)
            if self._pending_since is not None:
                found.publisher_lag = round(
                    time.monotonic() - self._pending_since, 3)
        found.written = time.time()
        found.jobs_running = jobs_running
        (found.load_servers, found.advised_profiles,
         found.advised_moves) = load
        return found


def _result(failed):
    return account.RESULTS[bool(failed)]


#: All that this process does is counted here.
COUNTS = Counts()


class Writer:
    """Writes the file now and then, where one is configured.

    :param jobs: nova_ext.live.jobs.Jobs
    :param load: gives what :meth:`Counts.account` takes of load
    """

    def __init__(self, jobs, load):
        self._jobs, self._load = jobs, load
        self._stop = threading.Event()
        self._said = ''

    def start(self):
        if CONF.kongming.metrics_file:
            self._stop.clear()
            threading.Thread(target=self._run_forever, daemon=True,
                             name='kongming-metrics').start()

    def stop(self):
        self._stop.set()

    def _run_forever(self):
        while not self._stop.is_set():
            self.write()
            self._stop.wait(CONF.kongming.metrics_interval)

    def write(self):
        """Write it now; what goes wrong is logged, once."""
        path = CONF.kongming.metrics_file
        try:
            _replace(path, COUNTS.account(
                len(self._jobs.all), self._load()).to_json())
            self._said = ''
        except Exception as exc:
            if repr(exc) != self._said:
                self._said = repr(exc)
                LOG.warning('The file of [kongming] metrics_file is not '
                            'written: %s', exc)


def _replace(path, text):
    folder = os.path.dirname(os.path.abspath(path))
    made, name = tempfile.mkstemp(dir=folder, prefix='.kongming-')
    try:
        with open(made, 'w') as file:
            # There is nothing in it that not everybody may know.
            os.fchmod(file.fileno(), 0o644)
            file.write(text)
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
