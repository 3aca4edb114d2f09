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

from kongming.template import grammar
from kongming.template import when
from kongming.template import window
from tests import base

UTC = datetime.timezone.utc


def parse_windows(value):
    return when.windows(when.parse(value))


def format_windows(windows):
    return '; '.join(map(str, windows))


def at(text, zone='UTC'):
    return datetime.datetime.fromisoformat(text).replace(
        tzinfo=zoneinfo.ZoneInfo(zone))


class ContainsTest(base.TestCase):

    def check(self, value, inside=(), outside=(), zone='UTC'):
        windows = parse_windows(value)
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
        windows = parse_windows('02:00-03:00 Europe/Berlin')
        minutes = {}
        for day in ('2026-03-28', '2026-03-29', '2026-10-25', '2026-10-26'):
            start = at(f'{day}T00:00', 'Europe/Berlin').astimezone(UTC)
            minutes[day] = sum(
                window.active(windows, start + datetime.timedelta(minutes=n))
                for n in range(24 * 60))
        self.assertEqual({'2026-03-28': 60, '2026-03-29': 0,
                          '2026-10-25': 120, '2026-10-26': 60}, minutes)


MINUTE = datetime.timedelta(minutes=1)


def week(windows):
    """Zone -> for each minute of its local week, whether one is open."""
    tables = {}
    for one in windows:
        table = tables.setdefault(one.tzinfo, bytearray(7 * 1440))
        length = (one.end - one.start) % 1440 or 1440
        for part in one.days or (grammar.Range(0, 6),):
            for day in range(part.low, part.low + 1
                             + (part.high - part.low) % 7):
                for minute in range(one.start, one.start + length):
                    table[(day * 1440 + minute) % len(table)] = True
    return tables


def changes_by_minute(windows, moment, end):
    """Each change up to ``end``, found by looking at each minute."""
    tables = week(windows).items()
    before, found = None, []
    while moment <= end:
        now = False
        for zone, table in tables:
            local = moment.astimezone(zone)
            if table[local.weekday() * 1440 + local.hour * 60
                     + local.minute]:
                now = True
        if now != before and before is not None:
            found.append((moment, now))
        before = now
        moment += MINUTE
    return found


def changes(windows, moment, end):
    """Each change up to ``end``, from one to the next."""
    found = []
    while ((change := window.next_change(windows, moment))
           and change <= end):
        found.append((change, window.active(windows, change)))
        moment = change
    return found


class NextChangeTest(base.TestCase):

    def check(self, value, after, *expected):
        """The changes after a moment, one from another."""
        windows = parse_windows(value)
        moment = at(after)
        for text in expected:
            moment = window.next_change(windows, moment)
            self.assertEqual(at(text), moment)
            self.assertIs(UTC, moment.tzinfo)

    def year(self, value):
        windows = parse_windows(value)
        start, end = at('2026-01-01T00:00'), at('2027-01-01T00:00:01')
        self.assertEqual(changes_by_minute(windows, start, end),
                         changes(windows, start, end))

    def test_strictly_after(self):
        self.check('22:00-06:00', '2026-11-22T21:59:59.999999',
                   '2026-11-22T22:00', '2026-11-23T06:00')
        self.check('22:00-06:00', '2026-11-22T22:00:00.000001',
                   '2026-11-23T06:00')

    def test_any_zone_in(self):
        windows = parse_windows('22:00-06:00')
        self.assertEqual(
            at('2026-11-22T22:00'), window.next_change(
                windows, at('2026-11-23T05:59', 'Asia/Shanghai')))

    def test_windows_that_touch_or_overlap_are_one(self):
        self.check('08:00-12:00; 12:00-14:00; 13:00-24:00',
                   '2026-11-22T07:00', '2026-11-22T08:00',
                   '2026-11-23T00:00', '2026-11-23T08:00')

    def test_never(self):
        for value in ('00:00-24:00', '00:00-24:00 Europe/Berlin',
                      'Mon-Fri 00:00-24:00; Sat,Sun 06:00-24:00; '
                      'Sat-Sun 00:00-06:00'):
            self.assertIsNone(window.next_change(
                parse_windows(value), at('2026-11-22T12:00')))
        self.assertIsNone(window.next_change((), at('2026-11-22T12:00')))

    def test_skipped_hour(self):
        # Berlin goes from 02:00 to 03:00 at 01:00 UTC on 2026-03-29.
        self.check('02:15-02:45 Europe/Berlin', '2026-03-28T02:00',
                   '2026-03-30T00:15')
        self.check('01:30-02:30 Europe/Berlin', '2026-03-29T00:00',
                   '2026-03-29T00:30', '2026-03-29T01:00')
        self.check('02:30-04:00 Europe/Berlin', '2026-03-29T00:00',
                   '2026-03-29T01:00', '2026-03-29T02:00')
        self.check('Sun 02:00-03:00 Europe/Berlin', '2026-03-28T00:00',
                   '2026-04-05T00:00')

    def test_repeated_hour(self):
        # And from 03:00 to 02:00 at 01:00 UTC on 2026-10-25.
        self.check('02:15-02:45 Europe/Berlin', '2026-10-24T12:00',
                   '2026-10-25T00:15', '2026-10-25T00:45',
                   '2026-10-25T01:15', '2026-10-25T01:45')
        self.check('01:00-02:30 Europe/Berlin', '2026-10-24T12:00',
                   '2026-10-24T23:00', '2026-10-25T00:30',
                   '2026-10-25T01:00', '2026-10-25T01:30')
        self.check('01:00-03:00 Europe/Berlin', '2026-10-24T12:00',
                   '2026-10-24T23:00', '2026-10-25T02:00')

    def test_a_week_ahead(self):
        # 2026-11-21 is a Saturday.
        self.check('Sat 10:00-11:00', '2026-11-21T10:30',
                   '2026-11-21T11:00', '2026-11-28T10:00')

    def test_clocks_set_back_to_the_day_before(self):
        # From Sunday 00:01 to Saturday 23:01, at 02:31 UTC.
        self.check('Sat 23:30-23:45 America/St_Johns', '2010-11-07T02:30:30',
                   '2010-11-07T03:00', '2010-11-07T03:15')

    def test_two_midnights_within_a_day(self):
        """From 23:30 to 00:30, 24 hours that are 25 of the clock."""
        self.check('Mon 00:10-01:00 Europe/Berlin; Wed 22:20-22:25',
                   '2026-03-28T22:30', '2026-03-29T22:10')

    def test_rare(self):
        """The gap opens only while Europe and America disagree."""
        self.check('00:00-12:00 Europe/Berlin; '
                   '06:00-18:00 America/New_York', '2026-11-24T00:00',
                   '2027-03-14T22:00', '2027-03-14T23:00')

    def test_a_day_that_was_skipped(self):
        # Samoa had no Friday 2011-12-30.
        self.check('Fri 00:00-24:00 Pacific/Apia', '2011-12-25T00:00',
                   '2012-01-05T10:00', '2012-01-06T10:00')
        self.check('Thu 20:00-04:00 Pacific/Apia', '2011-12-30T00:00',
                   '2011-12-30T06:00', '2011-12-30T10:00',
                   '2012-01-05T06:00')

    def test_year_in_berlin(self):
        self.year('Mon-Fri 22:00-06:00 Europe/Berlin; '
                  'Sat,Sun 02:30-02:31 Europe/Berlin')

    def test_year_in_new_york(self):
        self.year('Sun 01:17-02:59 America/New_York; '
                  'Tue,Thu 00:00-24:00 America/New_York')

    def test_year_in_lord_howe(self):
        """It goes half an hour forth and back."""
        self.year('01:45-02:15 Australia/Lord_Howe')

    def test_year_without_daylight_saving(self):
        self.year('Fri-Mon 22:00-06:00 Asia/Shanghai')

    def test_year_in_casablanca(self):
        """It goes back for Ramadan."""
        self.year('Sun-Mon 01:30-03:30 Africa/Casablanca; '
                  '14:00-15:00 Europe/Berlin')


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
            exc = self.assertRaises(grammar.Malformed, parse_windows,
                                    value)
            self.assertEqual(column, exc.column, (value, exc.reason))
            self.assertIn(words, exc.reason)


days = st.none() | st.lists(
    st.tuples(st.integers(0, 6), st.integers(0, 6)).map(
        lambda pair: grammar.Range(*pair)), min_size=1, max_size=3).map(tuple)


ZONES = (None, 'UTC', 'Asia/Shanghai', 'Europe/Berlin', 'America/New_York',
         'Australia/Lord_Howe', 'America/Havana', 'Asia/Kathmandu',
         'Africa/Casablanca')


@st.composite
def some_windows(draw):
    found = []
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, 1439))
        end = draw(st.integers(0, 1440).filter(lambda end: end != start))
        found.append(window.Window(draw(days), start, end,
                                   draw(st.sampled_from(ZONES))))
    return tuple(found)


@st.composite
def some_moment(draw):
    """Often near a change of daylight saving."""
    near = draw(st.sampled_from((
        '2026-03-29T01:00', '2026-10-25T01:00', '2026-03-08T07:00',
        '2026-11-01T06:00', '2026-04-04T15:00', '2026-10-03T15:30',
        '2026-03-08T05:00', '2026-11-01T05:00', '2026-02-15T02:00',
        '2026-07-01T00:00')))
    return at(near).astimezone(UTC) + datetime.timedelta(
        seconds=draw(st.integers(-2 * 86400, 2 * 86400)))


class PropertyTest(base.TestCase):

    @hypothesis.given(days, st.integers(0, 1439), st.integers(0, 1440),
                      st.sampled_from([None, 'UTC', 'Asia/Shanghai']))
    def test_round_trip(self, on, start, end, zone):
        hypothesis.assume(start != end)
        windows = (window.Window(on, start, end, zone),)
        self.assertEqual(windows, parse_windows(
            format_windows(windows)))

    @hypothesis.given(st.integers(0, 1439), st.integers(0, 1439),
                      st.datetimes(datetime.datetime(2025, 1, 1),
                                   datetime.datetime(2027, 1, 1)))
    def test_a_window_and_its_complement(self, start, end, moment):
        hypothesis.assume(start != end)
        moment = moment.replace(tzinfo=UTC)
        self.assertNotEqual(
            window.Window(None, start, end).contains(moment),
            window.Window(None, end, start).contains(moment))

    @hypothesis.settings(max_examples=100)
    @hypothesis.given(some_windows(), some_moment())
    def test_next_change(self, windows, moment):
        end = moment + datetime.timedelta(days=1)
        expected = changes_by_minute(windows, moment, end)
        self.assertEqual(expected, [
            (ceiling(change, moment), now)
            for change, now in changes(windows, moment, end)])


def ceiling(change, start):
    """The first whole number of minutes after ``start``, from a change on."""
    return start - (start - change) // MINUTE * MINUTE
