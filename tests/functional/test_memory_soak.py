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

"""Many random changes of cells, cut short at random; see tests.embedded.soak.

On the simulated libvirt, with a model of the kernel's memory policies; a few
of them, and 200 with ``KONGMING_TEST_LONG``.
"""

import os

import fixtures

from nova_ext.live import jobs
from nova_ext.live import reconciler
from nova_ext.live import record
from tests.embedded import soak
from tests.functional import test_crash
from tests.functional import test_live
from tests import numa

#: A pass, a thread that goes through servers, and a job.
_PASS = (reconciler.Reconciler._run.__code__, jobs._Sweep._do.__code__,
         jobs.Jobs._run.__code__)


def _in_pass(frame):
    while frame is not None:
        if frame.f_code in _PASS:
            return True
        frame = frame.f_back
    return False


class SoakTest(soak.SoakMixin, test_live.MemoryBase):

    CHANGES = soak.SoakMixin.CHANGES if os.environ.get(
        'KONGMING_TEST_LONG') else 8
    SHAPE = {'cpu_nodes': 4, 'cpu_sockets': 1, 'cpu_cores': 4,
             'cpu_threads': 2, 'kB_mem': 16 * 1024 ** 2}
    SHARED = '0-4,8-12,16-20,24-28'
    DEDICATED = '5-7,13-15,21-23,29-31'

    def setUp(self):
        super().setUp()
        self.killer = self.useFixture(test_crash.Killer())
        self.killer.inside = _in_pass
        self.killer.counts = lambda where: 'ReportClient' not in where
        for owner, name in ((numa.Kernel, 'set_mems'),
                            (numa.Kernel, 'move_slice'),
                            (record.Change, 'start'),
                            (record.Change, 'end')):
            self.killer.add(owner, name, writes=True)
        for name in ('set_mems', 'move_slice'):
            # The one with the crash points, wherever it is called from.
            self.useFixture(fixtures.MonkeyPatch(
                f'nova_ext.privileged.{name}',
                lambda *args, name=name: getattr(self.numa, name)(*args)))
        self.useFixture(fixtures.MonkeyPatch(
            'threading.excepthook', lambda args: None))

    def dedicated(self, node):
        return range(8 * node + 5, 8 * node + 8)

    def say(self, server, **metadata):
        self.api.post_server_metadata(server['id'], {
            f'kongming:{key.replace("_", ".")}': value
            for key, value in metadata.items()})

    def start_cells(self, nodes, number):
        place = tuple((node, self.dedicated(node)[number]) for node in nodes)
        return self.boot(self.flavor({
            'grant': 'template', **{
                key.replace('_', '.'): value
                for key, value in self.template(place).items()}},
            vcpus=len(nodes), memory=len(nodes) * 256,
            numa_nodes=str(len(nodes))))

    def run_pass(self):
        reconciler = self.computes['compute1'].driver._reconciler
        reconciler.run()
        reconciler.jobs.wait()

    def restart(self):
        self.restart_compute_service('compute1')

    def threads_of(self, server):
        return self.pins(server)[0]

    def kernel_of(self, server):
        return self.numa, self.kernel._pid(self.domain(server))

    def test_random_joint_changes(self):
        moved, killed = self.soak()
        self.assertGreater(killed, self.CHANGES // 8)
