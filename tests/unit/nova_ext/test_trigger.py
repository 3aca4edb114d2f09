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

"""A pass that somebody asks for.

tests.functional.test_live has the real services.
"""

import threading
from unittest import mock

from kongming.live import progress
from nova_ext.live import jobs
from nova_ext.live import trigger
from tests import base


class TriggerTest(base.TestCase):

    def test_no_thread_is_to_be_had(self):
        """Who asks next has a pass made all the same."""
        passes = []
        found = trigger.Trigger(lambda: passes.append(1), jobs.Jobs())
        with mock.patch.object(threading.Thread, 'start',
                               side_effect=RuntimeError('no new thread')):
            self.assertRaises(RuntimeError, found.request)
        self.assertTrue(found.request().wait(20))
        self.assertEqual([1], passes)

    def test_each_pass_takes_longer_than_anybody_waits(self):
        """Who asks again is told when the first one of his has ended."""
        begun, go_on = threading.Semaphore(0), threading.Semaphore(0)

        def run():
            begun.release()
            self.assertTrue(go_on.acquire(timeout=20))

        found = trigger.Trigger(run, jobs.Jobs())
        ended = found.request()
        self.assertTrue(begun.acquire(timeout=20))

        def look():
            return progress.read_looks(found.look('s', 0)())

        self.assertEqual([(2, 0), (2, 0)], [look(), look()])
        for number in 1, 2:
            asked = found.request()
            go_on.release()
            self.assertTrue(ended.wait(20))
            self.assertTrue(begun.acquire(timeout=20))
            ended, last = asked, look()
            self.assertEqual((number + 2, number), last)
        go_on.release(9)
        self.assertTrue(found.request().wait(20))
        self.assertEqual('', found.look('s', 20)())
