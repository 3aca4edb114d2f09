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
"""What is said of QoS and classes that a server had to be given anew."""

from unittest import mock

import fixtures
from nova import objects

from nova_ext.live import report_once
from tests import base

objects.register_all()


class GivenTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.log = self.useFixture(fixtures.FakeLogger())
        self.done = []
        self.reported = report_once.ReportOnce(
            'QoS', lambda *change: self.done.append(change), [])
        self.server = objects.Instance(
            uuid='5f0f2a6d-4a0c-4b1b-9a53-7f1a3a6f7c11', metadata={})
        self.domain = mock.Mock()
        self.domain.ID.return_value = 1

    def given(self, wanted, *changes):
        self.reported.given(self.server, self.domain, wanted, list(changes))

    def test_somebody_has_changed_it(self):
        self.given(300, 'cpu_shares: 100 -> 300')
        self.given(300)
        self.assertNotIn('put back', self.log.output)
        self.given(300, 'cpu_shares: 7 -> 300')
        self.assertIn('Its QoS was not what it is to be and is put back: '
                      'cpu_shares: 7 -> 300', self.log.output)
        self.assertEqual([], self.done)

    def test_a_domain_that_has_started_anew(self):
        self.given(300, 'cpu_shares: 100 -> 300')
        self.domain.ID.return_value = 2
        self.given(300, 'cpu_shares: 100 -> 300')
        self.assertNotIn('put back', self.log.output)

    def test_somebody_wants_something_else(self):
        self.given(300, 'cpu_shares: 100 -> 300')
        self.given(400, 'cpu_shares: 300 -> 400')
        self.assertNotIn('put back', self.log.output)
        self.assertEqual([(self.server, ['cpu_shares: 300 -> 400'])],
                         self.done)
