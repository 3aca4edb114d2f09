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

"""What failed is reported once, and tried again later and later."""

import fixtures
from nova import objects

from nova_ext.live import failures
from nova_ext.live import record
from tests import base

objects.register_all()
UUID = '5f0f2a6d-4a0c-4b1b-9a53-7f1a3a6f7c11'


class BackOffTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.failures = failures.Failures(None)

    def pause(self, desired, now):
        """For how many seconds it waits after one more failure."""
        self.failures.back_off(UUID, desired, now)
        return next(seconds for seconds in range(10000)
                    if not self.failures.waits(UUID, desired, now + seconds))

    def test_nothing_waits_that_has_not_failed(self):
        self.assertFalse(self.failures.waits(UUID, 'a', 0.0))

    def test_longer_each_time_and_an_hour_at_most(self):
        self.assertEqual(
            [60, 120, 240, 480, 960, 1920, 3600, 3600],
            [self.pause('a', 7.0) for _ in range(8)])

    def test_another_template_is_tried_at_once(self):
        self.pause('a', 0.0)
        self.assertFalse(self.failures.waits(UUID, 'b', 0.0))
        self.assertEqual(60, self.pause('b', 0.0))

    def test_after_a_success_soon_again(self):
        self.pause('a', 0.0)
        self.failures.succeeded(UUID)
        self.assertFalse(self.failures.waits(UUID, 'a', 0.0))
        self.assertEqual(60, self.pause('a', 0.0))

    def test_forgets_who_is_gone(self):
        self.pause('a', 0.0)
        self.failures.retain({UUID})
        self.assertTrue(self.failures.waits(UUID, 'a', 0.0))
        self.failures.retain(set())
        self.assertFalse(self.failures.waits(UUID, 'a', 0.0))


class ReportTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.recorded = []
        self.failures = failures.Failures(self)

    def end(self, change, error):
        """Stands for nova_ext.live.record.Records."""
        self.recorded.append(error)

    def report(self, error):
        """The errors that are recorded of one more refusal."""
        self.recorded.clear()
        self.failures.report(objects.Instance(uuid=UUID), 'compute1', error)
        return list(self.recorded)

    def test_once_for_each_reason(self):
        one, other = (record.ChangeFailed(reason=reason) for reason in 'ab')
        self.assertEqual([one], self.report(one))
        self.assertEqual([], self.report(one))
        self.assertEqual([other], self.report(other))
        self.assertEqual([one], self.report(one))

    def test_again_when_it_was_obeyed_meanwhile(self):
        error = record.ChangeFailed(reason='a')
        self.report(error)
        self.failures.obeyed(UUID)
        self.assertEqual([error], self.report(error))

    def test_what_nobody_expected_is_a_failed_change_as_well(self):
        found, = self.report(ValueError('no such thing'))
        self.assertIsInstance(found, record.ChangeFailed)
        self.assertEqual('The change was not made: no such thing', str(found))


class CountTest(ReportTest):
    """What is refused again is counted in the record that there is."""

    def setUp(self):
        super().setUp()
        self.useFixture(fixtures.MonkeyPatch(
            'nova_ext.live.record.Change', lambda *args: Change()))
        self.changes = []

    def end(self, change, error):
        self.changes.append(change)
        super().end(change, error)

    def refuse(self, reason, desired='a template'):
        self.failures.report(objects.Instance(uuid=UUID), 'compute1',
                             record.ChangeFailed(reason=reason), desired)

    def test_one_template(self):
        for reason in 'abba':
            self.refuse(reason)
        first = self.changes[0]
        self.assertEqual([first] * 3, self.changes)
        self.assertEqual(3, first.times)
        self.assertTrue(self.failures.has_failed(UUID, 'a template'))

    def test_another_template_is_another_record(self):
        self.refuse('a')
        self.refuse('b', 'another one')
        self.assertEqual(2, len(set(self.changes)))
        self.assertFalse(self.failures.has_failed(UUID, 'a template'))

    def test_a_change_that_fails_after_it_was_refused(self):
        self.refuse('a')
        change = Change()
        self.failures.failed(UUID, 'a template', change,
                             record.ChangeFailed(reason='b'))
        self.assertEqual(2, self.changes[0].times)
        self.assertEqual([self.changes[0]] * 2, self.changes)

    def test_what_is_made_ends_it(self):
        self.refuse('a')
        self.failures.succeeded(UUID)
        self.failures.obeyed(UUID)
        self.refuse('a')
        self.assertEqual(2, len(set(self.changes)))


class Change:
    """Stands for nova_ext.live.record.Change."""

    def __init__(self):
        self.times = 1

    def again(self, other):
        self.times += 1
