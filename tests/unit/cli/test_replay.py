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
import json
import os
import pathlib
import tempfile

import fixtures

from kongming.cli import replay
from kongming import exception
from kongming.kernel import vcpu_times
from kongming.load import recording
from tests import base
from tests.unit.load import test_replay

DAY = ''.join(test_replay.lines(*test_replay.day((7200,), step=60)))


class ReplayTest(base.TestCase):

    def setUp(self):
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        (self.folder / 'day.jsonl').write_text(DAY)
        self.command = replay.Replay(None, None)

    def run_(self, *args, file='day.jsonl'):
        parsed = self.command.get_parser('kongming replay').parse_args(
            [str(self.folder / file), *args])
        names, rows = self.command.take_action(parsed)
        return [dict(zip(names, row)) for row in rows]

    def test_switches(self):
        rows = self.run_()
        self.assertEqual(['2026-11-27T20:10:00+00:00',
                          '2026-11-27T22:00:00+00:00'],
                         [row['time'] for row in rows[:2]])
        self.assertEqual('idle', rows[0]['to'].machine_readable())
        self.assertEqual('-', rows[0]['from'].human_readable())
        self.assertEqual('use 0.0%, below 15% for 10m', rows[0]['because'])

    def test_summary(self):
        row, = self.run_('--summary')
        self.assertEqual(('web-1', 3, 2, 0), (
            row['server'], row['switches'], row['most_in_an_hour'],
            row['waited']))
        self.assertEqual(
            'idle', row['profiles'].machine_readable()[0]['profile'])
        self.assertRegex(row['profiles'].human_readable(),
                         r'idle 9\d\.\d%\n- \d\.\d%')

    def test_other_thresholds(self):
        (self.folder / 'web.yaml').write_text(
            'version: 1\nprofiles: {p: {when: use<15% for 5h, '
            'qos: "0:weight=50"}}\n')
        rows = self.run_('--template', str(self.folder / 'web.yaml'))
        self.assertEqual(['p'], [row['to'].machine_readable()
                                 for row in rows])

    def test_what_can_not_be_replayed(self):
        (self.folder / 'no.yaml').write_text('version: 1\nqos: "0:weight=2"')
        (self.folder / 'no.jsonl').write_text('x')
        for args, file, error, words in (
                (('--server', 'no'), 'day.jsonl', exception.NotFound,
                 "the name or ID 'no'; --template names"),
                ((), 'none', exception.NotFound, 'can not be read: No such'),
                ((), 'no.jsonl', exception.InvalidRecording, 'Line 1 of'),
                (('--template', str(self.folder / 'no.yaml')), 'day.jsonl',
                 exception.NotFound, 'has a condition, such as')):
            caught = self.assertRaises(error, self.run_, *args, file=file)
            self.assertIn(words, str(caught))

    def test_standard_input(self):
        self.useFixture(fixtures.MonkeyPatch('sys.stdin', io.StringIO(DAY)))
        parsed = self.command.get_parser('x').parse_args(['-'])
        self.assertEqual(3, len(self.command.take_action(parsed)[1]))


class RecordTest(base.TestCase):
    """Threads of this very process stand for vCPUs."""

    def test_what_a_process_did(self):
        pid = os.getpid()
        self.useFixture(fixtures.MonkeyPatch(
            'kongming.kernel.process.pid_of', lambda _name, _server: pid))
        self.useFixture(fixtures.MonkeyPatch(
            'kongming.kernel.process.vcpu_threads', lambda _pid: {0: pid}))
        domain = vcpu_times.Domain('one', '1')
        first = domain.read()
        sum(range(10 ** 6))
        second = domain.read()
        domain.close()
        self.assertEqual(first.start, second.start)
        ran = second.vcpus[0].run_ns - first.vcpus[0].run_ns
        self.assertGreater(ran, 0)
        self.assertLess(ran, 1e9 * (second.at - first.at) * 1.1)
        line = recording.dump(recording.Reading(
            '1', test_replay.load.EVENING, second))
        self.assertEqual(first.start, json.loads(line)['start'])

    def test_a_domain_that_is_not_here(self):
        self.assertIsNone(vcpu_times.Domain('no-such-domain', 'x').read())
