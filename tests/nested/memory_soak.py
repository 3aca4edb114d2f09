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
"""``python -m tests.nested.memory_soak``: see :mod:`tests.embedded.soak`.

On the nested host of four nodes (``tools/nested up --nodes 4``), with real
domains and the kernel inside: 200 changes, or ``KONGMING_TEST_CHANGES``.  It
takes hours.  ``KONGMING_TEST_SEED`` repeats a run.
"""

import sys

from testtools import run

from tests.embedded import soak
from tests.libvirt import crash
from tests.nested import kernel
from tests.nested import test_live


class Base(crash.CrashMixin, test_live.LiveBase):

    def setUp(self):
        super().setUp()
        if self.shape.nodes < 4:
            self.skipTest('needs a host of four nodes: '
                          'tools/nested up --nodes 4')
        self.killer.counts = lambda where: 'ReportClient' not in where
        for name in ('set_mems', 'move_slice'):
            self.killer.add(kernel.Inside, name, writes=True)

    def kernel_of(self, server):
        return kernel.Inside, kernel.Inside.pid(self.domain(server))

    def threads_of(self, server):
        return self.threads(server)


class SoakTest(soak.SoakMixin, Base):

    def start_cells(self, nodes, number):
        place = tuple((node, self.dedicated(node)[number % 2])
                      for node in nodes)
        return self.boot(image='dirty', vcpus=len(nodes), grant='template',
                         native={'hw:numa_nodes': str(len(nodes)), **{
                             f'hw:numa_mem.{cell}': str(mib)
                             for cell, mib in enumerate(
                                 self.sizes(len(nodes)))}, **{
                             f'hw:numa_cpus.{cell}': str(cell)
                             for cell in range(len(nodes))}},
                         **self.template(place))

    @staticmethod
    def sizes(cells):
        """Of 64 MiB; the guest writes to the first half."""
        return (64,) if cells == 1 else (64 - 12 * (cells - 1),
                                         *(12,) * (cells - 1))

    def run_pass(self):
        self.reconcile()

    def test_random_joint_changes(self):
        moved, killed = self.soak()
        print(f'{self.CHANGES} changes: {moved} servers moved, '
              f'nova-compute was killed {killed} times', file=sys.stderr)


if __name__ == '__main__':
    run.main(['run', 'tests.nested.memory_soak.SoakTest'], sys.stdout)
