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

"""What the hook puts on the bus is what is told to Ceilometer's tests."""

from unittest import mock

import fixtures
from nova_ext.live import record
from tests import base
from tests import notifications


class PayloadTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.sent = []
        notifier = mock.Mock()
        for name in ('info', 'error'):
            getattr(notifier, name).side_effect = (
                lambda _context, event, payload: self.sent.append(
                    (event, payload)))
        self.publisher = self.useFixture(fixtures.MockPatch(
            'nova.rpc.get_versioned_notifier', return_value=notifier)).mock
        # Instance actions are another test's.
        self.useFixture(fixtures.MockPatch('nova_ext.live.record.objects'))
        self.server = mock.Mock(uuid=notifications.SERVER,
                                display_name='web-1')

    def check(self, wanted, *unlike):
        """:param unlike: fields that are of the moment"""
        (event, payload), = self.sent
        self.assertEqual(wanted['event_type'], event)
        self.publisher.assert_called_once_with(wanted['publisher_id'])
        data, expected = (dict(found['nova_object.data'])
                          for found in (payload, wanted['payload']))
        self.assertEqual(expected.keys(), data.keys())
        for name in unlike:
            self.assertIsInstance(data.pop(name), type(expected.pop(name)))
        self.assertEqual(expected, data)
        self.assertEqual({**wanted['payload'], 'nova_object.data': None},
                         {**payload, 'nova_object.data': None})

    def test_live_change(self):
        change = record.Change(self.server, 'compute1', ['vCPU 0 to pCPU 9'])
        change.moved_kib = 2048
        change.end()
        self.check(notifications.live_change(), 'request_id', 'seconds')

    def test_live_change_that_failed(self):
        record.Change(self.server, 'compute1', ['vCPU 0 to pCPU 9']).end(
            record.ChangeFailed(reason='x'))
        self.check(notifications.live_change(
            'Error', 'The change was not made: x', 0), 'request_id',
            'seconds')

    def test_eviction(self):
        record.evicted(self.server, 'compute1', {5, 4})
        self.check(notifications.eviction())

    def test_stop(self):
        record.stopped('compute1', 'five failed')
        self.check(notifications.stop())
