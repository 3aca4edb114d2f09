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
import zoneinfo

import hypothesis
from hypothesis import strategies as st

from kongming import grammar
from kongming import window
from tests import base

UTC = datetime.timezone.utc


def at(text, zone='UTC'):
    return datetime.datetime.fromisoformat(text).replace(
        tzinfo=zoneinfo.ZoneInfo(zone))


class ContainsTest(base.TestCase):

    def check(self, value, inside=(), outside=(), zone='UTC'):
        windows = window.parse_windows(value)
        for text in inside:
            self.assertTrue(window.active(windows, at(text, zone)), text)
        for text in outside:
            self.assertFalse(window.active(windows, at(text, zone)), text)

    def test_same_day(self):
        self.check('08:00-18:00', ['2026-11-22T08:00', '2026-11-22T17:59:59'],
                   ['2026-11-22T07:59:59', '2026-11-22T18:00'])

    def test_over_midnight_belongs_to_the_day_it_begins(self):
        # 2026-11-20 is a Friday.
        self.check('Mon-Fri 22:00-06:00',
                   ['2026-11-20T22:00', '2026-11-21T05:59',
                    '2026-11-16T23:00'],
                   ['2026-11-21T06:00', '2026-11-21T22:00',
                    '2026-11-16T05:00'])

    def test_whole_day_and_several(self):
        self.check('Sat,Sun 00:00-24:00; Wed 12:00-13:00',
                   ['2026-11-21T00:00', '2026-11-22T23:59',
                    '2026-11-25T12:30'],
                   ['2026-11-23T00:00', '2026-11-25T13:00'])

    def test_until_midnight(self):
        self.check('22:00-00:00', ['2026-11-22T23:59'], ['2026-11-23T00:00'])
        self.check('22:00-24:00', ['2026-11-22T23:59'], ['2026-11-23T00:00'])

    def test_days_around_the_weekend(self):
        self.check('Sat-Mon 10:00-11:00',
                   ['2026-11-21T10:00', '2026-11-23T10:00'],
                   ['2026-11-24T10:00'])

    def test_zone(self):
        # 22:00 in Shanghai is 14:00 UTC.
        self.check('22:00-06:00 Asia/Shanghai',
                   ['2026-11-22T14:00', '2026-11-22T21:59'],
                   ['2026-11-22T13:59', '2026-11-22T22:00'])

    def test_daylight_saving(self):
        """Berlin skips 02:00-03:00 on 2026-03-29, repeats it 2026-10-25."""
        windows = window.parse_windows('02:00-03:00 Europe/Berlin')
        minutes = {}
        for day in ('2026-03-28', '2026-03-29', '2026-10-25', '2026-10-26'):
            start = at(f'{day}T00:00', 'Europe/Berlin').astimezone(UTC)
            minutes[day] = sum(
                window.active(windows, start + datetime.timedelta(minutes=n))
                for n in range(24 * 60))
        self.assertEqual({'2026-03-28': 60, '2026-03-29': 0,
                          '2026-10-25': 120, '2026-10-26': 60}, minutes)


class BadTest(base.TestCase):

    def test_column_and_words(self):
        for value, column, words in (
                ('', 1, 'a window is empty'),
                ('22:00-06:00;', 13, 'a window is empty'),
                ('Mon', 3, 'no hours'),
                ('Mo 22:00-06:00', 1, "'Mo' is not a day"),
                ('Mon-Fr 22:00-06:00', 1, "'Fr' is not a day"),
                ('Mon 22-06', 5, "'22-06' are no hours"),
                ('25:00-06:00', 1, "'25:00' is not a time"),
                ('22:00-24:01', 7, "'24:01' is not a time"),
                ('24:00-06:00', 1, 'begin at 24:00'),
                ('06:00-06:00', 1, 'empty window'),
                ('06:00-07:00 Mars/Base', 13, "is not a time zone"),
                ('06:00-07:00 ../../etc/passwd', 13, 'is not a time zone'),
                ('06:00-07:00 UTC; 08:00-09:00 UTC x', 34, 'too many')):
            exc = self.assertRaises(grammar.Malformed, window.parse_windows,
                                    value)
            self.assertEqual(column, exc.column, (value, exc.reason))
            self.assertIn(words, exc.reason)


days = st.none() | st.lists(
    st.tuples(st.integers(0, 6), st.integers(0, 6)).map(
        lambda pair: grammar.Range(*pair)), min_size=1, max_size=3).map(tuple)


class PropertyTest(base.TestCase):

    @hypothesis.given(days, st.integers(0, 1439), st.integers(0, 1440),
                      st.sampled_from([None, 'UTC', 'Asia/Shanghai']))
    def test_round_trip(self, on, start, end, zone):
        hypothesis.assume(start != end)
        windows = (window.Window(on, start, end, zone),)
        self.assertEqual(windows, window.parse_windows(
            window.format_windows(windows)))

    @hypothesis.given(st.integers(0, 1439), st.integers(0, 1439),
                      st.datetimes(datetime.datetime(2025, 1, 1),
                                   datetime.datetime(2027, 1, 1)))
    def test_a_window_and_its_complement(self, start, end, moment):
        hypothesis.assume(start != end)
        moment = moment.replace(tzinfo=UTC)
        self.assertNotEqual(
            window.Window(None, start, end).contains(moment),
            window.Window(None, end, start).contains(moment))
