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

"""What a request for diagnostics is told of a server without a job."""

from unittest import mock

from kongming.live import progress
from nova_ext.live import reconciler
from tests import base


class LookTest(base.TestCase):

    def look(self, going_on, waiting=None, skipped=()):
        found = reconciler.Reconciler.__new__(reconciler.Reconciler)
        found._trigger = mock.Mock()
        found._trigger.look.return_value = lambda: going_on
        found._waiting = {'s': waiting} if waiting else {}
        found._skipped = {*skipped}
        return found.look('s', 0)()

    def test_looked_at(self):
        self.assertEqual('', self.look(''))
        later = progress.looks(7, 5)
        self.assertEqual(later, self.look(later))

    def test_the_pass_has_left_it_to_a_job_that_has_ended(self):
        """What was asked for since is not done yet."""
        for going_on in '', progress.looks(7, 6):
            found = self.look(going_on, skipped={'s'})
            self.assertIn('a job that has ended', found)
            self.assertIsNone(progress.read_looks(found))
        self.assertEqual('', self.look('', skipped={'other'}))

    def test_a_job(self):
        self.assertEqual('a live change, 1 s', self.look(
            'a live change, 1 s', 'it waits', {'s'}))

    def test_why_it_waits(self):
        for going_on in '', progress.looks(7, 6):
            self.assertEqual('it waits', self.look(going_on, 'it waits'))
