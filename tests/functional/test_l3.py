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

"""Open pCPUs are of one L3 cache where one has enough, at boot and live.

::

    node 0   L3 0   [0 1] shared   [2 3]
             L3 1   [4 5] [6 7]
    node 1   L3 2   [8 9] shared   [10 11]
             L3 3   [12 13] [14 15]
"""

import fixtures

from tests.embedded import hypervisor
from tests.functional import test_live

_L3 = {pcpu: pcpu // 4 for pcpu in range(16)}


class WholeL3Test(test_live.LiveBase):

    def setUp(self):
        # The simulated host has no caches in sysfs.
        self.useFixture(fixtures.MonkeyPatch(
            'nova_ext.limits.l3', lambda: _L3))
        super().setUp()

    def open(self, node):
        return self.flavor({'node.0': str(node), 'grant': 'template'},
                           vcpus=4)

    def test_boot(self):
        self.boot(self.open(1))
        self.assertEqual({12, 13, 14, 15}, self.owned()[1])

    def test_live(self):
        self.useFixture(hypervisor.Numa())
        server = self.boot(self.open(0))
        self.assertEqual({4, 5, 6, 7}, self.owned()[0])
        self.want(server, node_0='1')
        self.assertEqual({12, 13, 14, 15}, self.owned()[1])
        self.assertEqual(set(), self.owned()[0])

    def test_reported(self):
        """The scheduler's filter fits by what the host says of them."""
        tracker = self.computes['compute1'].manager.rt
        self.assertEqual(
            '0-3 4-7 8-11 12-15',
            tracker.compute_nodes['compute1'].stats['kongming_l3'])
