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

import os
import subprocess
import sys

import fixtures
from kongming.template import template
from nova import objects

from nova_ext.live import failures
from nova_ext.live import history
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


class RestoreTest(base.TestCase):
    """What an instance action tells of the time before a restart."""

    def setUp(self):
        super().setUp()
        self.failures = failures.Failures(None)
        self.desired = template.Template(
            nodes={0: 1, 1: 0}, grant=frozenset({'profile', 'template'}))

    def restore(self, times=1, seconds=0.0, desired=None, begun=True):
        self.failures.restore(
            objects.Instance(uuid=UUID), 'compute1', self.desired,
            history.Refusal(record.fingerprint(desired or self.desired),
                            begun, times, seconds, 'req-1'), 100.0)

    def waits(self, now):
        return self.failures.waits(UUID, self.desired, now)

    def test_it_waits_for_what_is_left(self):
        self.restore(times=3, seconds=100.0)
        self.assertTrue(self.waits(239.9))
        self.assertFalse(self.waits(240.0))
        # Then for twice as long.
        self.failures.back_off(UUID, self.desired, 240.0)
        self.assertTrue(self.waits(719.9))
        self.assertFalse(self.waits(720.0))

    def test_an_hour_at_most(self):
        self.restore(times=5000)
        self.assertTrue(self.waits(3699.0))
        self.assertFalse(self.waits(3700.0))

    def test_a_clock_that_was_set_back(self):
        self.restore(seconds=-1e6)
        self.assertFalse(self.waits(160.0))

    def test_another_template_does_not_wait(self):
        self.restore(desired=template.Template(nodes={0: 1, 1: 1}))
        self.assertFalse(self.waits(100.0))
        self.assertFalse(self.failures.has_failed(UUID, self.desired))

    def test_what_was_not_begun_is_looked_at_by_each_pass(self):
        self.restore(begun=False)
        self.assertFalse(self.waits(100.0))
        self.assertTrue(self.failures.has_failed(UUID, self.desired))

    def test_asked_for_once(self):
        self.assertFalse(self.failures.is_restored(UUID))
        self.failures.restore(objects.Instance(uuid=UUID), 'compute1',
                              self.desired, None, 100.0)
        self.assertTrue(self.failures.is_restored(UUID))
        self.assertFalse(self.failures.has_failed(UUID, self.desired))
        self.failures.retain(set())
        self.assertFalse(self.failures.is_restored(UUID))

    def test_fingerprint_in_any_process(self):
        """Whatever the order of sets and dictionaries."""
        program = (
            'from kongming.template import template\n'
            'from nova_ext.live import record\n'
            'print(record.fingerprint(template.Template('
            'nodes={1: 0, 0: 1}, grant=frozenset({"template", "profile"}))))')
        for seed in '1', '2':
            found = subprocess.run(
                [sys.executable, '-W', 'ignore', '-c', program], check=True,
                stdout=subprocess.PIPE, text=True,
                env={**os.environ, 'PYTHONHASHSEED': seed}).stdout.split()
            self.assertEqual(record.fingerprint(self.desired), found[-1])


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
