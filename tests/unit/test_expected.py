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

import io

import subunit
import testtools

from tests import base
from tests import expected


class _Marked(testtools.TestCase):
    """One test for each way in which a marked test can end."""

    @expected.failure(issue=7, because='2 != 3')
    def fails_as_stated(self):
        self.assertEqual(2, 3)

    @expected.failure(issue=7, because='^TypeError: ')
    def raises_as_stated(self):
        sum(['a'])

    @expected.failure(issue=7, because='2 != 3')
    def fails_otherwise(self):
        self.assertEqual(2, 4)

    @expected.failure(issue=7, because='2 != 3')
    def raises_otherwise(self):
        sum(['a'])

    @expected.failure(issue=7, because='2 != 3')
    def succeeds(self):
        self.assertEqual(2, 2)

    @expected.failure(issue=7, because='2 != 3')
    def is_skipped(self):
        self.skipTest('nothing to run it on')


class FailureTest(base.TestCase):

    def result(self, name):
        result = testtools.TestResult()
        _Marked(name).run(result)
        self.assertEqual(1, result.testsRun)
        return result

    def test_the_stated_reason_is_an_expected_failure(self):
        for name in ('fails_as_stated', 'raises_as_stated'):
            result = self.result(name)
            self.assertTrue(result.wasSuccessful())
            self.assertEqual(1, len(result.expectedFailures))

    def test_the_cause_is_in_the_report(self):
        (_case, text), = self.result('raises_as_stated').expectedFailures
        self.assertIn('issue 7: ^TypeError:', text)
        self.assertIn("sum(['a'])", text)

    def test_another_reason_is_an_error(self):
        for name, seen in (('fails_otherwise', '2 != 4'),
                           ('raises_otherwise', 'TypeError')):
            result = self.result(name)
            self.assertFalse(result.wasSuccessful())
            self.assertEqual([], result.failures)
            (_case, text), = result.errors
            self.assertIn("issue 7: the test is expected to fail because of "
                          "'2 != 3'; it fails with", text)
            self.assertIn(seen, text)

    def test_success_is_a_failure(self):
        result = self.result('succeeds')
        self.assertFalse(result.wasSuccessful())
        (_case, text), = result.failures
        self.assertIn('issue 7 seems mended: take the mark away', text)

    def test_skipped_stays_skipped(self):
        result = self.result('is_skipped')
        self.assertEqual(['nothing to run it on'], list(result.skip_reasons))

    def test_a_subunit_stream_says_xfail(self):
        """Which is what stestr reads."""
        stream = io.BytesIO()
        result = testtools.ExtendedToStreamDecorator(
            subunit.StreamResultToBytes(stream))
        result.startTestRun()
        _Marked('fails_as_stated').run(result)
        result.stopTestRun()
        events = testtools.StreamSummary()
        events.startTestRun()
        subunit.ByteStreamToStreamResult(
            io.BytesIO(stream.getvalue())).run(events)
        events.stopTestRun()
        self.assertTrue(events.wasSuccessful())
        self.assertEqual(1, len(events.expectedFailures))
