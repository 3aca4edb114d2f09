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

"""What metadata is to say, and what of it a server has."""


from kongming.host import usage
from kongming.live import drift
from kongming.template import template
from tests import base


def decoded(**keys):
    return template.decode({
        f'kongming:{key.replace("_", ".")}': value
        for key, value in keys.items()})


class UnmetTest(base.TestCase):

    HOST = usage.HostState([
        usage.NodeState(0, {2, 3}, shared={0, 1}, siblings=[{0, 1}, {2, 3}]),
        usage.NodeState(1, {6, 7}, shared={4, 5}, siblings=[{4, 5}, {6, 7}])])

    def unmet(self, cells, isolated=False, **keys):
        return drift.unmet(decoded(**keys), cells, self.HOST, isolated)

    def test_all_is_had(self):
        self.assertEqual([], self.unmet(
            [(0, {0: 2, 1: 3}), (1, {2: 7})], node_1='1', pin_0='0:2',
            pin_1='2:n1c1t1 3~4-5', emulator='2', iothread_2='shared',
            sched='0:fifo:1'))

    def test_what_ids_say_is_the_same_on_any_host(self):
        named = decoded(node_0='0', pin_0='0-1:2-3 2:6', qos='0:quota=50%')
        self.assertFalse(drift.needs_host(named))
        for cells in ([(0, {0: 2, 1: 3, 2: 6})], [(1, {0: 7})], []):
            self.assertEqual(
                drift.unmet(named, cells, self.HOST, False),
                drift.unmet(named, cells, usage.HostState(()), False))
        for keys in ({'pin_0': '0:n0c1t0'}, {'pin_0': '0:2 1~4-5'},
                     {'emulator': '2'}, {'iothread_1': 'shared'},
                     {'sched': '0:fifo:1'}):
            self.assertTrue(drift.needs_host(decoded(**keys)), keys)

    def test_elsewhere(self):
        self.assertEqual(
            ['cell 0 is on node 0, not on node 1',
             'cell 1: the server has 1 NUMA cell(s), counted from 0',
             'vCPU 0 owns pCPU 2, not pCPU 6', 'vCPU 5 owns no pCPU'],
            self.unmet([(0, {0: 2})], node_0='1', node_1='0',
                       pin_0='0:6 5:7'))

    def test_no_such_place(self):
        found, = self.unmet([(0, {0: 2})], pin_0='0:n5c0t0')
        self.assertIn('the host has no node 5', found)

    def test_threads_where_they_may_not_run(self):
        words = 'is neither its own nor in cpu_shared_set'
        self.assertEqual(
            [f'emulator: pCPU 6 {words}', f'iothread.1: pCPU 7 {words}'],
            self.unmet([(0, {0: 2})], emulator='6', iothread_1='7'))
        # Its own one for them is reported to nobody.
        self.assertEqual([], self.unmet([(0, {0: 2})], True, emulator='6'))
