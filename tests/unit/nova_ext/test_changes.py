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

"""A live change whose record can't be written."""

from unittest import mock

import fixtures
from kongming import conf as km_conf
import nova.conf
from nova import objects

from nova_ext.live import changes
from nova_ext.live import failures
from nova_ext.live import jobs
from nova_ext.live import record
from tests import base

objects.register_all()
km_conf.register_opts(nova.conf.CONF)
UUID = '5f0f2a6d-4a0c-4b1b-9a53-7f1a3a6f7c11'


class RecordTest(base.TestCase):
    """The database, RabbitMQ or conductor is away before it begins."""

    def setUp(self):
        super().setUp()
        self.log = self.useFixture(fixtures.FakeLogger())
        self.steps, self.jobs = mock.Mock(), jobs.Jobs()
        self.changes = changes.Changes(
            mock.Mock(), self.steps, mock.Mock(),
            failures.Failures(record.Records()), self.jobs, record.Records(),
            mock.Mock())

    def start(self):
        step = mock.Mock(server=UUID, moves=(), moves_memory=False)
        with mock.patch('kongming.live.rearrange.groups',
                        return_value={UUID: 0}):
            left = self.changes.start(
                mock.Mock(steps=(step,)), {UUID: objects.Instance(uuid=UUID)},
                {UUID: mock.Mock()})
        self.assertEqual(set(), left)
        self.assertTrue(self.jobs.wait(20))

    def test_nothing_is_begun(self):
        with mock.patch.object(record.Change, 'start',
                               side_effect=Exception('timed out')):
            self.start()
        self.steps.take.assert_not_called()
        self.assertIn('A live change waits until it can be recorded',
                      self.log.output)

    def test_what_was_recorded_of_the_others_is_ended(self):
        ended = []
        records = self.changes._records
        with mock.patch.object(objects.InstanceAction, 'action_start'), (
                mock.patch.object(
                    objects.InstanceActionEvent, 'event_start', side_effect=[
                        None, Exception('timed out')])), (
                mock.patch.object(records, 'end', lambda change, error: (
                    ended.append((change, str(error)))))):
            job = jobs.Job(['1', '2'], 'a change')
            self.changes._carry_out(
                [], {uuid: objects.Instance(uuid=uuid) for uuid in '12'},
                {uuid: mock.Mock() for uuid in '12'}, job)
        self.steps.take.assert_not_called()
        self.assertEqual(
            2 * ['The change was not made: it could not be recorded of all '
                 'its servers; it is tried again'],
            [error for _change, error in ended])

    def test_what_can_not_be_rolled_back(self):
        """The others are all the same, and what is reported is the cause."""
        first, second = mock.Mock(server='1'), mock.Mock(server='2')
        self.steps.take.side_effect = [RuntimeError('libvirt said no'), 0]
        job = jobs.Job(['1', '2'], 'a change')
        self.changes._roll_back(
            None, [first, second],
            {uuid: objects.Instance(uuid=UUID) for uuid in '12'},
            dict.fromkeys('12'), job)
        self.assertEqual(
            [second.back.return_value, first.back.return_value],
            [call.args[2] for call in self.steps.take.call_args_list])
        self.assertEqual(1, self.log.output.count(
            'A step could not be rolled back'))
        self.assertIn('libvirt said no', self.log.output)
        self.assertEqual('it is rolled back', job.progress)

    def test_begun_when_it_can_be(self):
        self.steps.take.return_value = 0
        with mock.patch.object(record.Change, 'start') as start, (
                mock.patch.object(record.Change, 'end')):
            self.start()
        start.assert_called_once_with()
        self.steps.take.assert_called_once()
        self.assertNotIn('waits until', self.log.output)
