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

import hypothesis
from hypothesis import strategies as st

from kongming import exception
from kongming import template
from kongming import usage
from kongming import wish
from tests import base


def decoded(**keys):
    return template.decode({
        f'kongming:{key.replace("_", ".")}': value
        for key, value in keys.items()})


class SayTest(base.TestCase):

    def test_beside_other_keys(self):
        before = {'mine': '1', 'kongming:node.0': '0',
                  'kongming:pin.1': '4:4'}
        changes = wish.say(before, decoded(pin_0='0:5', node_0='0'))
        self.assertEqual(({'kongming:pin.0': '0:5'}, []), changes)
        self.assertEqual({**before, 'kongming:pin.0': '0:5'},
                         changes.applied(before))

    def test_end_of_a_longer_map_goes_from_behind(self):
        before = {f'kongming:pin.1{part}': '0:1' for part in
                  ('', '.1', '.2', '.10')}
        before['kongming:pin.10.1'] = before['kongming:pin.10'] = '9:9'
        self.assertEqual(
            ['kongming:pin.1.10', 'kongming:pin.1.2', 'kongming:pin.1.1'],
            wish.say(before, decoded(pin_1='0:5')).remove)

    def test_goes_on_in_a_second_value(self):
        pins = ' '.join(f'{v}:{v * 2 + 1000}' for v in range(64))
        put = wish.say({}, decoded(pin_0=pins)).put
        self.assertLess(1, len(put))
        self.assertEqual(decoded(pin_0=pins), template.decode(put))
        self.assertEqual({}, wish.say(put, decoded(pin_0=pins)).put)

    def test_too_long_for_one_and_without_a_second(self):
        sched = ' '.join(f'{v}:fifo:{v + 1}' for v in range(0, 98))
        self.assertRaisesRegex(exception.InvalidTemplate, 'kongming:sched',
                               wish.say, {}, decoded(sched=sched))

    @hypothesis.given(st.integers(1, 90), st.integers(1, 90))
    def test_each_state_on_the_way_is_a_template(self, first, second):
        def pins(count, base):
            return decoded(pin_0=' '.join(
                f'{v}:{base + v * 2}' for v in range(count)))

        metadata = wish.say({}, pins(first, 1000)).put
        changes = wish.say(metadata, pins(second, 2001))
        for key in changes.remove:
            del metadata[key]
            template.decode(metadata)
        metadata.update(changes.put)
        self.assertEqual(pins(second, 2001), template.decode(metadata))


class FollowTest(base.TestCase):

    def follow(self, booted, metadata, wanted):
        specs = template.encode(template.decode({'kongming:pin.0': booted}))
        return wish.follow(specs, metadata, decoded(pin_0=wanted))

    def test_there_and_back(self):
        there = self.follow('0:1', {}, '0:2')
        self.assertEqual(({'kongming:pin.0': '0:2'}, []), there)
        self.assertEqual(({}, ['kongming:pin.0']), self.follow(
            '0:1', there.put, '0:1'))

    def test_maps_of_several_values(self):
        def long(first):
            return ' '.join(f'{v}:{v * 7 % 128 + first}' for v in range(60))

        same = self.follow(long(100), {}, long(100))
        self.assertEqual(({}, []), same)
        there = self.follow(long(100), {}, long(300))
        self.assertIn('kongming:pin.0.1', there.put)
        self.assertEqual(({}, ['kongming:pin.0.1', 'kongming:pin.0']),
                         self.follow(long(100), there.put, long(100)))
        # A shorter map than the flavor's is one that metadata can say.
        self.assertEqual(({'kongming:pin.0': '0:1'}, []),
                         self.follow(long(100), {}, '0:1'))

    def test_more_than_can_be_taken_back(self):
        error = self.assertRaises(
            exception.CannotFollow, wish.follow,
            {'kongming:emulator': 'shared'}, {}, decoded(pin_0='0:1'))
        self.assertIn('says kongming:emulator', str(error))


class TakeBackTest(base.TestCase):

    BEFORE = {'mine': '1', 'kongming:pin.0': '0:1', 'kongming:pin.0.1': '1:2',
              'kongming:pin.01': 'x', 'kongming:sched': '0:idle'}

    def test_strange(self):
        metadata = {'kongming:pin.0': '0:1', 'kongming:pin.0.1': '1:2',
                    'kongming:pin.1': '2:3', 'kongming:profile': 'night',
                    'kongming:emulator': 'shared', 'other': 'x'}
        self.assertEqual(
            ({}, ['kongming:pin.1', 'kongming:emulator']),
            wish.strange(metadata, decoded(pin_0='0:5')))

    def test_some(self):
        self.assertEqual(
            ({}, ['kongming:pin.0.1', 'kongming:pin.0']),
            wish.take_back(self.BEFORE, ['pin.0', 'node.0']))

    def test_all(self):
        changes = wish.take_back(self.BEFORE)
        self.assertEqual({'mine': '1'}, changes.applied(self.BEFORE))


class UnmetTest(base.TestCase):

    HOST = usage.HostState([
        usage.NodeState(0, {2, 3}, shared={0, 1}, siblings=[{0, 1}, {2, 3}]),
        usage.NodeState(1, {6, 7}, shared={4, 5}, siblings=[{4, 5}, {6, 7}])])

    def unmet(self, cells, isolated=False, **keys):
        return wish.unmet(decoded(**keys), cells, self.HOST, isolated)

    def test_all_is_had(self):
        self.assertEqual([], self.unmet(
            [(0, {0: 2, 1: 3}), (1, {2: 7})], node_1='1', pin_0='0:2',
            pin_1='2:n1c1t1 3~4-5', emulator='2', iothread_2='shared',
            sched='0:fifo:1'))

    def test_what_ids_say_is_the_same_on_any_host(self):
        plain = decoded(node_0='0', pin_0='0-1:2-3 2:6', qos='0:quota=50%')
        self.assertFalse(wish.reads_host(plain))
        for cells in ([(0, {0: 2, 1: 3, 2: 6})], [(1, {0: 7})], []):
            self.assertEqual(
                wish.unmet(plain, cells, self.HOST, False),
                wish.unmet(plain, cells, usage.HostState(()), False))
        for keys in ({'pin_0': '0:n0c1t0'}, {'pin_0': '0:2 1~4-5'},
                     {'emulator': '2'}, {'iothread_1': 'shared'},
                     {'sched': '0:fifo:1'}):
            self.assertTrue(wish.reads_host(decoded(**keys)), keys)

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
        # Its own one for them is told nobody.
        self.assertEqual([], self.unmet([(0, {0: 2})], True, emulator='6'))
