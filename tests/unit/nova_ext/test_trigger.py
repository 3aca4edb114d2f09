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
