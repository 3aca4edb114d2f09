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

import datetime

from kongming.intent import merge
from kongming.template import choices
from kongming.template import template
from tests import base

FLAVOR = {'node.0': '0', 'pin.0': '0:2 1:3', 'qos': '0:weight=200',
          'profile.night.when': '22:00-06:00',
          'profile.night.pin.0': '0-1~2', 'profile.late.when': '23:00-24:00',
          'profile.spare.qos': '0:quota=10%'}
DAY = datetime.datetime(2026, 11, 22, 12, tzinfo=datetime.timezone.utc)
NIGHT = DAY.replace(hour=23)


def flavor(grant=''):
    specs = {f'kongming:{k}': v for k, v in FLAVOR.items()}
    if grant:
        specs['kongming:grant'] = grant
    return template.decode(specs)


def intent(grant='', moment=DAY, /, **metadata):
    return merge.merge(flavor(grant), {
        f'kongming:{key.replace("_", ".")}': value
        for key, value in metadata.items()}, moment)


class ProfileTest(base.TestCase):

    def test_by_window_the_first_by_name(self):
        self.assertIsNone(intent().profile)
        self.assertEqual('late', intent('', NIGHT).profile)
        self.assertEqual('night', intent(
            '', NIGHT.replace(hour=5)).profile)

    def test_request_wins_over_the_windows(self):
        self.assertEqual('spare', intent('profile', NIGHT,
                                         profile='spare').profile)
        self.assertEqual('late', intent('profile', NIGHT,
                                        profile='auto').profile)

    def test_request_without_grant(self):
        result = intent('template qos', NIGHT, profile='spare')
        self.assertEqual('late', result.profile)
        self.assertIn('grants no choice', str(result.refused[0]))

    def test_no_such_profile(self):
        result = intent('profile', profile='x\ny')
        self.assertIsNone(result.profile)
        self.assertIn('late, night, spare, auto', str(result.refused[0]))

    def test_a_profile_lies_over_the_base(self):
        result = intent('profile', profile='night')
        self.assertEqual('0:2 1:3', ' '.join(map(
            str, result.base.pins[0])))
        self.assertEqual('0-1~2', str(result.overlay.pins[0][0]))
        self.assertEqual(result.base.qos, result.qos)
        self.assertEqual({}, intent().overlay.pins)


class NextChangeTest(base.TestCase):

    def change(self, moment, grant='', **metadata):
        return merge.next_change(flavor(grant), {
            f'kongming:{key}': value for key, value in metadata.items()},
            moment)

    def test_by_windows(self):
        expected = [(22, 'night'), (23, 'late'), (0, 'night'), (6, None)]
        moment = DAY
        for hour, profile in expected:
            moment = self.change(moment)
            self.assertEqual((hour, profile), (
                moment.hour, intent('', moment).profile))

    def test_a_profile_named_by_metadata_stays(self):
        self.assertIsNone(self.change(DAY, 'profile', profile='spare'))

    def test_otherwise_the_windows_have_it(self):
        for grant, name in (('profile', 'auto'), ('profile', 'none-such'),
                            ('template', 'spare')):
            self.assertEqual(22, self.change(DAY, grant, profile=name).hour)

    def test_one_that_does_not_come_first_is_no_change(self):
        desired = template.decode({'kongming:profile.a.when': '08:00-20:00',
                                   'kongming:profile.b.when': '10:00-22:00'})
        moment = merge.next_change(desired, None, DAY.replace(hour=8))
        self.assertEqual(20, moment.hour)
        self.assertEqual('b', merge.merge(desired, None, moment).profile)

    def test_no_windows(self):
        self.assertIsNone(merge.next_change(template.decode(
            {'kongming:profile.a.qos': '0:quota=10%'}), None, DAY))


class OverlayTest(base.TestCase):

    def test_granted(self):
        result = intent('template', pin_0='0:4 1:5', node_0='1')
        self.assertEqual(({0: 1}, '0:4'), (
            result.base.nodes, str(result.base.pins[0][0])))
        self.assertEqual((), result.refused)

    def test_every_key_needs_its_grant(self):
        for key, value, needed in (
                ('node_0', '1', 'template'), ('pin_0', '0:4', 'template'),
                ('memory_0', 'preferred', 'template'),
                ('emulator', 'shared', 'template'),
                ('iothread_1', 'shared', 'template'),
                ('sched', '0:idle', 'template'),
                ('qos', '0:weight=9', 'qos')):
            others = ' '.join(g for g in choices.GRANTS if g != needed)
            result = intent(others, **{key: value})
            self.assertEqual(flavor(others), result.base)
            self.assertIn(f"needs the grant '{needed}'",
                          str(result.refused[0]))
            result = intent(needed, **{key: value})
            self.assertNotEqual(flavor(needed), result.base)

    def test_never_the_grant_nor_a_profile(self):
        for key, value in (('grant', 'template'),
                           ('profile_mine_qos', '0:weight=10000'),
                           ('profile_night_lend', 'true'),
                           ('borrow', 'host'), ('balance', 'node')):
            result = intent('profile template qos', **{key: value})
            self.assertEqual(flavor('profile template qos'), result.base)
            self.assertEqual(1, len(result.refused))

    def test_all_or_nothing(self):
        result = intent('template', pin_0='0:4', node_0='x')
        self.assertEqual(flavor('template'), result.base)
        result = intent('template', pin_0='0:4', qos='0:weight=1')
        self.assertEqual(flavor('template'), result.base)

    def test_foreign_metadata_is_nothing_to_us(self):
        self.assertEqual((), merge.merge(flavor(), {'a': 'b'}).refused)
