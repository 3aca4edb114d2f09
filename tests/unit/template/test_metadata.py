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
from kongming.template import metadata as metadata_mod
from kongming.template import template
from tests import base


def decoded(**keys):
    return template.decode({
        f'kongming:{key.replace("_", ".")}': value
        for key, value in keys.items()})


class SayTest(base.TestCase):

    def test_beside_other_keys(self):
        before = {'mine': '1', 'kongming:node.0': '0',
                  'kongming:pin.1': '4:4'}
        changes = metadata_mod.express(before,
                                       decoded(pin_0='0:5', node_0='0'))
        self.assertEqual(({'kongming:pin.0': '0:5'}, []), changes)
        self.assertEqual({**before, 'kongming:pin.0': '0:5'},
                         changes.applied(before))

    def test_end_of_a_longer_map_is_removed_first(self):
        before = {f'kongming:pin.1{part}': '0:1' for part in
                  ('', '.1', '.2', '.10')}
        before['kongming:pin.10.1'] = before['kongming:pin.10'] = '9:9'
        self.assertEqual(
            ['kongming:pin.1.10', 'kongming:pin.1.2', 'kongming:pin.1.1'],
            metadata_mod.express(before, decoded(pin_1='0:5')).remove)

    def test_goes_on_in_a_second_value(self):
        pins = ' '.join(f'{v}:{v * 2 + 1000}' for v in range(64))
        put = metadata_mod.express({}, decoded(pin_0=pins)).put
        self.assertLess(1, len(put))
        self.assertEqual(decoded(pin_0=pins), template.decode(put))
        self.assertEqual({},
                         metadata_mod.express(put, decoded(pin_0=pins)).put)

    def test_too_long_for_one_and_without_a_second(self):
        sched = ' '.join(f'{v}:fifo:{v + 1}' for v in range(0, 98))
        self.assertRaisesRegex(exception.InvalidTemplate, 'kongming:sched',
                               metadata_mod.express, {}, decoded(sched=sched))

    def test_it_is_said_how_long_it_is(self):
        wanted = decoded(sched=' '.join(
            f'{v}:fifo:{v + 1}' for v in range(0, 98)))
        self.assertRaisesRegex(
            exception.InvalidTemplate,
            'it has [0-9]{3,} characters and Nova keeps 255; ranges',
            template.encode, wanted)

    @hypothesis.given(st.integers(1, 90), st.integers(1, 90))
    def test_each_state_on_the_way_is_a_template(self, first, second):
        def pins(count, base):
            return decoded(pin_0=' '.join(
                f'{v}:{base + v * 2}' for v in range(count)))

        metadata = metadata_mod.express({}, pins(first, 1000)).put
        changes = metadata_mod.express(metadata, pins(second, 2001))
        for key in changes.remove:
            del metadata[key]
            template.decode(metadata)
        metadata.update(changes.put)
        self.assertEqual(pins(second, 2001), template.decode(metadata))


class FollowTest(base.TestCase):

    def follow(self, booted, metadata, wanted):
        specs = template.encode(template.decode({'kongming:pin.0': booted}))
        return metadata_mod.follow(specs, metadata, decoded(pin_0=wanted))

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
            exception.CannotFollow, metadata_mod.follow,
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
            metadata_mod.unset_others(metadata, decoded(pin_0='0:5')))

    def test_some(self):
        self.assertEqual(
            ({}, ['kongming:pin.0.1', 'kongming:pin.0']),
            metadata_mod.unset(self.BEFORE, ['pin.0', 'node.0']))

    def test_all(self):
        changes = metadata_mod.unset(self.BEFORE)
        self.assertEqual({'mine': '1'}, changes.applied(self.BEFORE))
