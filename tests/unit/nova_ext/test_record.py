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

"""What can not be recorded now is recorded later, once and in order."""

import fixtures
from nova import exception
from nova import objects
import oslo_messaging as messaging

from nova_ext.live import record
from tests import base

objects.register_all()
UUID = '5f0f2a6d-4a0c-4b1b-9a53-7f1a3a6f7c11'


class Change:
    """Stands for a change of which a part is recorded each time."""

    def __init__(self, test, name, errors=()):
        self.test, self.name, self.errors = test, name, list(errors)

    def log(self, error=None):
        self.test.logged.append(self.name)

    def end(self, error=None):
        if self.errors:
            raise self.errors.pop(0)
        self.test.recorded.append((self.name, error))


class EvidenceTest(base.TestCase):

    def test_once_where_an_answer_is_lost(self):
        """It is counted by who starts next (nova_ext.live.restored)."""
        called, away = [], [True]

        def note(what):
            def call(_context, _uuid, name='', **_kwargs):
                called.append((what, name))
                if what == 'event_finish' and away.pop():
                    away.append(False)
                    raise TimeoutError()
            return call

        for where, whats in (
                (objects.InstanceAction, ['action_start']),
                (objects.InstanceActionEvent, [
                    'event_start', 'event_finish',
                    'event_finish_with_failure'])):
            for what in whats:
                self.useFixture(fixtures.MockPatchObject(
                    where, what, note(what)))
        self.useFixture(fixtures.MockPatchObject(record, '_notify'))
        records = record.Records()
        records.end(record.Change(
            objects.Instance(uuid=UUID, display_name='a'), 'host', ['step'],
            'profile p: use 3.0%'))
        records.flush()
        records.flush()
        evidence = 'kongming_by_load: profile p: use 3.0%'
        self.assertEqual(1, called.count(('event_start', evidence)))
        self.assertEqual(1, called.count(
            ('event_start', record.EVENT)))


class RecordsTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.logged, self.recorded = [], []
        self.records = record.Records()

    def test_nobody_is_asked_before_the_flush(self):
        self.records.end(Change(self, 'a'), 'why')
        self.assertEqual((['a'], []), (self.logged, self.recorded))
        self.records.flush()
        self.records.flush()
        self.assertEqual([('a', 'why')], self.recorded)

    def test_in_order_when_it_can_be_done(self):
        self.records.end(Change(self, 'a', [TimeoutError(), TimeoutError()]))
        self.records.end(Change(self, 'b'))
        for _ in range(2):
            self.records.flush()
            self.assertEqual([], self.recorded)
        self.records.flush()
        self.assertEqual([('a', None), ('b', None)], self.recorded)
        self.assertEqual(['a', 'b'], self.logged)

    def test_what_conductor_can_not_record_is_in_nobodys_way(self):
        self.records.end(Change(self, 'a', [
            messaging.RemoteError('DataError') for _ in range(3)]))
        self.records.end(Change(self, 'b'))
        for _ in range(2):
            self.records.flush()
        self.assertEqual([('b', None)], self.recorded)
        for _ in range(2):
            self.records.flush()
        self.assertEqual([('b', None), ('a', None)], self.recorded)

    def test_a_server_that_is_gone_is_in_nobodys_way(self):
        self.records.end(Change(self, 'a', [
            exception.InstanceActionNotFound(request_id='r',
                                             instance_uuid='u')]))
        self.records.end(Change(self, 'b'))
        self.records.flush()
        self.assertEqual([('b', None)], self.recorded)
