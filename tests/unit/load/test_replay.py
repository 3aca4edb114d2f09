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

import datetime
import json

import hypothesis
from hypothesis import strategies as st

from kongming import exception
from kongming.load import figures
from kongming.load import recording
from kongming.load import replay
from kongming.template import template
from tests import base
from tests import load

SPECS = {f'kongming:{key}': value for key, value in load.IDLE.items()}
SERVER = recording.Server('1', 'web-1', SPECS)


def lines(*entries):
    return [f'{line}\n' for line in (
        recording.header('compute1'), *map(recording.dump, entries))]


def day(bursts, step=5):
    """A recording of 24 hours; a burst of a second at each of the times."""
    yield SERVER
    run = 0
    for at in range(0, 86400, step):
        if any(at <= burst < at + step for burst in bursts):
            run += step * 10 ** 9
        yield recording.Reading(
            '1', load.EVENING + datetime.timedelta(seconds=at),
            figures.Counters(1000.0 + at, {0: figures.Times(run, 0)}, 7))


texts = st.text(max_size=5)
counts = st.integers(0, 2 ** 64)
READINGS = st.builds(
    recording.Reading, st.just('1'),
    st.datetimes(timezones=st.just(datetime.timezone.utc)),
    st.builds(figures.Counters, st.floats(0, 1e9), st.dictionaries(
        st.integers(0, 300), st.builds(figures.Times, counts, counts)),
        counts, st.none() | st.floats(0, 100)))


class RecordingTest(base.TestCase):

    @hypothesis.given(st.lists(READINGS | st.builds(
        recording.Server, st.just('1'), texts, st.dictionaries(texts, texts),
        st.dictionaries(texts, texts))))
    def test_what_is_written_is_read_back(self, entries):
        entries.insert(0, SERVER)
        self.assertEqual(entries, list(recording.load(lines(*entries))))

    def test_a_line_that_was_cut_short_is_the_last(self):
        found = lines(*list(day(()))[:3])
        found[-1] = found[-1][:20]
        self.assertEqual(2, len(list(recording.load(found))))

    def test_what_is_wrong_and_where(self):
        good = lines(*list(day(()))[:2])
        reading = json.loads(good[2])
        for found, line, reason in (
                ([], 1, 'the file is empty'),
                (['nothing\n'], 1, 'it is no JSON'),
                (['{}\n'], 1, "'kongming watch --record' writes such files"),
                (['{"kongming_figures": 2}\n'], 1, 'version 2 is not known'),
                ([good[0], 'x\n', good[1]], 2, 'it is no JSON'),
                ([good[0], good[2]], 2, 'a reading of 1, of which no line'),
                ([good[0], '[]\n'], 2, 'neither a server nor a reading'),
                ([*good, '{"server": "1"}\n'], 4, 'name is missing'),
                *(([*good[:2], json.dumps({**reading, **wrong}) + '\n'], 3,
                   reason) for wrong, reason in (
                       ({'time': '2026-11-27T20:00'}, 'has no offset'),
                       ({'at': 'x'}, "'x' is no number"),
                       ({'vcpus': {'0': [1]}}, 'is neither'),
                       ({'vcpus': {'0': [-1, 0]}}, '-1 is no count'),
                       ({'start': 1.5}, '1.5 is no count'),
                       ({'remote': True}, 'True is no number')))):
            caught = self.assertRaises(exception.InvalidRecording, list,
                                       recording.load(found))
            self.assertEqual(line, caught.kwargs['line'], found)
            self.assertIn(reason, str(caught))


class ReplayTest(base.TestCase):

    def test_an_idle_day_with_two_bursts(self):
        found = replay.Replay()
        switches = list(found.run(recording.load(lines(
            *day((7200, 43200))))))
        self.assertEqual(
            ['idle', None, 'idle', None, 'idle'],
            [switch.profile for switch in switches])
        self.assertEqual(
            datetime.timedelta(minutes=10), switches[0].time - load.EVENING)
        self.assertEqual('use 100.0%, above 30%', switches[1].because)
        summary = found.summaries['1']
        self.assertEqual((5, 2, 0), (summary.switches, summary.most,
                                     summary.waited))
        self.assertAlmostEqual(86395, sum(summary.seconds.values()))
        self.assertGreater(summary.seconds['idle'], 84000)

    def test_every_second_line_tells_the_same(self):
        entries = list(day((7200, 43200)))
        thin = [entries[0], *entries[1::2]]
        found = [[switch.profile for switch in replay.Replay().run(each)]
                 for each in (entries, thin)]
        self.assertEqual(*found)

    def test_other_thresholds(self):
        other = template.decode({**SPECS, 'kongming:profile.idle.when':
                                 'use<15% for 4h'})
        switches = list(replay.Replay(lambda _server: other).run(
            day((7200, 43200))))
        self.assertEqual(3, len(switches))

    def test_a_trace_made_to_flap(self):
        """24 hours; a burst whenever it would be due to begin."""
        for every in (610, 1500):
            found = replay.Replay()
            list(found.run(day(range(0, 86400, every))))
            summary = found.summaries['1']
            self.assertLessEqual(summary.most, 12)
            self.assertLessEqual(summary.switches, 6)

    def test_who_has_no_conditions_is_left_out(self):
        entries = [recording.Server('1', 'x', {'kongming:qos': '0:weight=2'}),
                   *list(day(()))[1:]]
        found = replay.Replay()
        self.assertEqual([], list(found.run(entries)))
        self.assertEqual({}, found.summaries)
