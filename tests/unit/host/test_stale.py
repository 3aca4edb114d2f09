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
"""libvirtd's picture of the CPUs beside the kernel's."""

from kongming.host import stale
from tests import base

only = frozenset
#: Two nodes, each of two cores with two threads.
CORES = [only({0, 1}), only({2, 3}), only({4, 5}), only({6, 7})]
NODES = {0: only(range(4)), 1: only(range(4, 8))}


def cpus(offline=()):
    online = only(range(8)) - only(offline)
    return stale.Cpus(online, NODES, {
        pcpu: core & online for core in CORES for pcpu in core & online})


class DifferencesTest(base.TestCase):

    def check(self, words, found, nodes=NODES, cores=CORES):
        reported = stale.differences(found, nodes, cores)
        self.assertEqual(bool(words), bool(reported))
        self.assertIn(words, '; '.join(reported))

    def test_alike(self):
        self.check('', cpus())
        self.check('', cpus({5, 6, 7}))

    def test_less_than_all_is_used(self):
        self.check('', cpus(), {0: {2, 3}, 1: {6, 7}},
                   [only({2, 3}), only({6, 7})])

    def test_alone_since_it_was_offline(self):
        cores = [*CORES[:3], only({6}), only({7})]
        self.check('pCPU 6-7 has other siblings than libvirtd says (pCPU 6: '
                   '6-7, not 6)', cpus(), NODES, cores)
        # Nobody knows while it is off.
        self.check('', cpus({7}), NODES, cores)

    def test_elsewhere(self):
        self.check('pCPU 3 is not on node 1, where libvirtd has it', cpus(),
                   {0: {0, 1, 2}, 1: {3, 4, 5, 6, 7}})

    def test_missing(self):
        nodes = {0: only(range(4)), 1: only(range(4, 7))}
        self.assertEqual({7}, stale.missing(cpus({7}), nodes, range(2, 8)))
        self.assertEqual(set(), stale.missing(cpus(), nodes, range(2, 7)))
        self.assertEqual(set(), stale.missing(cpus(), nodes, {9}))


class CorrectedTest(base.TestCase):

    def test_by_the_kernel(self):
        self.assertEqual(CORES, stale.corrected(
            cpus(), [*CORES[:3], only({6}), only({7})]))

    def test_offline_ones_as_libvirt_has_them(self):
        self.assertEqual(CORES, stale.corrected(cpus({1, 6, 7}), CORES))

    def test_offline_ones_as_they_were(self):
        now = stale.remembered(cpus(), cpus({6, 7, 1}))
        self.assertEqual(CORES, stale.corrected(
            now, [only({pcpu}) for pcpu in range(8)]))
        self.assertIs(now, stale.remembered(None, now))
