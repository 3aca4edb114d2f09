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

"""nova-compute is killed between any two steps of a live change.

As in :mod:`tests.functional.test_crash`, with real domains: a dead process
tells libvirt nothing either.
"""

import itertools
import threading

import fixtures
import libvirt

from nova_ext.live import jobs
from nova_ext.live import reconciler
from nova_ext.live import record
from tests.functional import test_crash

#: A pass, a thread that goes through servers, and a job.
_PASS = (reconciler.Reconciler._run.__code__, jobs._Sweep._do.__code__,
         jobs.Jobs._run.__code__)


def in_pass(frame):
    """Whether a call is a part of a pass, or of what it has started."""
    while frame is not None:
        if frame.f_code in _PASS:
            return True
        frame = frame.f_back
    return False


class CrashMixin:
    """Of any cloud with real domains."""

    def setUp(self):
        super().setUp()
        self.killer = self.useFixture(test_crash.Killer())
        self.killer.inside = in_pass
        for owner, name in ((libvirt.virDomain, 'pinVcpuFlags'),
                            (libvirt.virDomain, 'pinEmulator'),
                            (record.Change, 'start'),
                            (record.Change, 'end')):
            self.killer.add(owner, name, writes=True)
        # A process that is gone doesn't say so.
        self.useFixture(fixtures.MonkeyPatch(
            'threading.excepthook', lambda args: None))

    def reconcile(self):
        reconciler = self.computes['compute1'].driver._reconciler
        reconciler.run()
        reconciler.jobs.wait()

    def kill_at_every_point(self, ask, holds, check):
        """Have changes made, each cut short at another point.

        :param ask: called with a number, one more each time; asks for a
            change
        :param holds: called with it, asserts that this is so
        :param check: asserts what is so at any time
        :returns: the points
        """
        found = []
        for number in itertools.count(1):
            ask(number)
            self.killer.arm(number)
            process = threading.Thread(target=self.reconcile)
            process.start()
            process.join()
            self.killer.countdown = None
            if self.killer.where is None:
                holds(number)
                return found
            found.append(self.killer.where)
            check()
            self.restart()
            self.killer.dead.clear()
            check()
            self.reconcile()
            holds(number)

    def restart(self):
        """As a process of its own would: nothing of the old one is left."""
        self.computes['compute1'] = self.restart_compute_service(
            self.computes['compute1'], keep_hypervisor_state=False)
        # While there is somebody to do it.
        self.addCleanup(self._delete_servers)
