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

"""Passes of the reconciler, made in a thread of their own now and then."""

import random
import threading
import time

import nova.conf
from oslo_log import log as logging

from nova_ext import figures

CONF = nova.conf.CONF
LOG = logging.getLogger(__name__)
#: How soon to look again at a server that was busy, in seconds.
_RETRY_INTERVAL = 5.0
#: What happens to domains within this time is seen to by one pass, in seconds.
_EVENT_DELAY = 1.0


class Passes:
    """:param reconciler: nova_ext.live.reconciler.Reconciler"""

    def __init__(self, reconciler):
        self._reconciler = reconciler
        self._stop = threading.Event()
        self._wake = threading.Event()

    def start(self):
        """Make passes from now on, where the configuration says so."""
        if CONF.kongming.reconcile_interval:
            threading.Thread(target=self._run_forever, daemon=True,
                             name='kongming').start()

    def stop(self):
        self._stop.set()
        self._wake.set()

    def wake(self):
        """Have a pass made now rather than later."""
        self._wake.set()

    def run(self, patient=False):
        """One pass; nothing that goes wrong in it is raised.

        :param patient: whether to leave alone for a while what failed before
        :returns: whether to look again soon
        """
        began, failed = time.monotonic(), True
        try:
            busy = (self._reconciler.has_work
                    and self._reconciler.run(patient))
            failed = False
            return busy
        except Exception:
            # Nothing that goes wrong here ends the passes, or nova-compute.
            LOG.exception('A pass over the servers with a template failed')
            return False
        finally:
            figures.COUNTS.pass_ended(time.monotonic() - began, failed)

    def _run_forever(self):
        pause = interval = CONF.kongming.reconcile_interval
        while not self._stop.is_set():
            # Computes that were started together don't ask together.
            if self._wake.wait(pause * random.uniform(0.8, 1.2)):
                # Whoever pauses and resumes servers in a loop is no reason
                # for a pass each time.
                self._stop.wait(_EVENT_DELAY)
            self._wake.clear()
            if not self._stop.is_set():
                busy = self.run(patient=True)
                pause = min(interval, _RETRY_INTERVAL) if busy else interval
