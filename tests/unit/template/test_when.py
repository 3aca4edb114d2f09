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

import hypothesis
from hypothesis import strategies as st

from kongming import exception
from kongming.template import condition
from kongming.template import grammar
from kongming.template import template
from kongming.template import when
from kongming.template import window
from tests import base

UTC = datetime.timezone.utc
EVENING = datetime.datetime(2026, 11, 27, 23, tzinfo=UTC)
NOON = EVENING.replace(hour=12)


def one(text):
    clause, = when.parse(text)
    found, = clause.conditions
    return found


@st.composite
def conditions(draw, figure=st.sampled_from(condition.FIGURES),
               below=st.booleans()):
    below = draw(below)
    threshold = draw(st.integers(1, 9999))
    until = draw(st.none() | (
        st.integers(threshold + 1, 10000) if below
        else st.integers(0, threshold - 1)))
    return condition.Condition(
        draw(figure), below, threshold, until,
        draw(st.none() | st.integers(condition.MIN_FOR, condition.MAX_FOR)),
        draw(st.none() | st.integers(0, condition.MAX_FOR)))


WINDOWS = st.sampled_from((
    None, *when.windows(when.parse(
        '22:00-06:00; Mon-Fri 08:00-18:00 Asia/Shanghai; Sat,Sun 0'
        '0:00-24:00 Europe/Berlin'))))


@st.composite
def clauses(draw):
    found = draw(st.lists(conditions(), max_size=6, unique_by=lambda each: (
        each.figure, each.below)))
    opened = draw(WINDOWS)
    if opened is None and not found:
        found = [draw(conditions())]
    return when.Clause(opened, tuple(found))


class RoundTripTest(base.TestCase):

    @hypothesis.given(st.lists(clauses(), min_size=1, max_size=4))
    def test_what_is_printed_is_read_back(self, found):
        text = when.format_when(tuple(found))
        self.assertEqual(tuple(found), when.parse(text))
        self.assertEqual(text, when.format_when(when.parse(text)))

    def test_normal_form(self):
        for text, expected in (
                ('  use<15%   for 600s ', 'use<15% for 10m'),
                ('wait>5.50% hold 0s for 90s until 2.0%',
                 'wait>5.5% until 2% for 90s hold 0s'),
                ('remote>10% and 22:00-06:00 UTC', '22:00-06:00 UTC and '
                                                   'remote>10%'),
                ('use<5% for 24h;22:00-06:00', 'use<5% for 24h; 22:00-06:00')):
            self.assertEqual(expected, when.format_when(when.parse(text)))

    def test_in_a_template(self):
        specs = {'kongming:profile.idle.when':
                 '22:00-06:00 and use<15% until 40% for 10m; use<5%',
                 'kongming:profile.idle.pin.0': '0-1~v0'}
        self.assertEqual(specs, template.encode(template.decode(specs)))


class ErrorTest(base.TestCase):

    def test_one_error_with_its_column(self):
        for text, column, reason in (
                ('use', 1, "'use' is no condition"),
                ('load<15%', 1, "'load' is not measured; use, wait, remote"),
                ('use<15', 5, "'15' is not per cent"),
                ('use<15.555%', 5, "'15.555%' is not per cent"),
                ('use<0%', 5, '0% is always or never reached'),
                ('use>100%', 5, '100% is always or never reached'),
                ('use<15% for', 12, "nothing follows 'for'; write for 10m"),
                ('use<15% for 4s', 13, "'4s' is no time; 5s to 24h is"),
                ('use<15% for 25h', 13, "'25h' is no time"),
                ('use<15% for ten', 13, "'ten' is no time"),
                ('use<15% hold 25h', 14, "'25h' is no time; 0s to 24h is"),
                ('use<15% until 15%', 15, 'use<15% can not end at 15%; the '
                                          'second threshold is above'),
                ('wait>5% until 6%', 15, 'below the first one'),
                ('use<15% until 101%', 15, '100% at most'),
                ('use<15% for 5m for 6m', 16, "'for' stands here a second"),
                ('use<15% wait>5%', 9, "'wait>5%' can not stand here; until, "
                                       "for, hold can, and 'and' before"),
                ('use<15% and', 12, 'a window or a condition goes on each'),
                ('and use<15%', 1, 'a window or a condition goes on each'),
                ('use<15% and and wait>5%', 12, 'on each side'),
                ('use<15% and use<20%', 13, 'use< stands here a second time'),
                ('22:00-06:00 and 08:00-09:00 and use<5%', 17,
                 'a second window; a semicolon goes between windows'),
                ('22:00-06:00; use<15% and Mo 1:00', 26, "'Mo' is not a day"),
                ('22:00-06:00; use<1x', 18, "'1x' is not per cent"),
                ('use<15% and 22:00', 13, "'22:00' are no hours"),
                ('for 10m', 1, "'for' is no condition"),
                ('use<15%;', 9, 'a window is empty')):
            caught = self.assertRaises(grammar.Malformed, when.parse, text)
            self.assertEqual(column, caught.column, (text, str(caught)))
            self.assertIn(reason, caught.reason, text)

    def test_the_key_is_named(self):
        caught = self.assertRaises(
            exception.InvalidTemplate, template.check_entry,
            'kongming:profile.idle.when', 'use<15 for 10m')
        self.assertEqual(
            "kongming:profile.idle.when = 'use<15 for 10m', column 5: '15' "
            "is not per cent; 15% is, two decimals at most", str(caught))

    @hypothesis.given(st.text(
        'useawitrmo<>%0123456789. forhldnt;:-UTCMF', max_size=40))
    def test_anything_is_read_or_refused(self, text):
        try:
            found = when.parse(text)
        except grammar.Malformed as exc:
            self.assertTrue(1 <= exc.column <= len(text) + 1)
        else:
            self.assertEqual(found, when.parse(when.format_when(found)))


class DefaultsTest(base.TestCase):

    def test_little_is_given_up_late_and_taken_back_at_once(self):
        found = one('use<15%')
        self.assertEqual((3000, 600, 0),
                         (found.ends_at, found.lasts, found.holds))
        self.assertEqual(9000, one('use<80%').ends_at)

    def test_much_begins_soon_and_stays(self):
        found = one('wait>5%')
        self.assertEqual((250, 30, 600),
                         (found.ends_at, found.lasts, found.holds))

    def test_each_can_end(self):
        """Figures are from 0 to 100 per cent, both of them included."""
        for text, figure in (('use<50% until 100%', 100.0),
                             ('use<99.99%', 100.0),
                             ('wait>5% until 0%', 0.0),
                             ('wait>0.01%', 0.0)):
            self.assertTrue(one(text).ends(figure), text)

    @hypothesis.given(conditions())
    def test_no_figure_both_begins_and_ends_it(self, found):
        for value in (0, found.threshold / 100, found.ends_at / 100, 100,
                      (found.threshold + found.ends_at) / 200):
            self.assertFalse(found.begins(value) and found.ends(value))

    @hypothesis.given(conditions(), conditions(), st.floats(0, 100))
    def test_relations(self, this, other, value):
        if this.excludes(other):
            self.assertFalse(this.begins(value) and other.begins(value))
        if this.implies(other) and this.begins(value):
            self.assertTrue(other.begins(value))


class ActiveTest(base.TestCase):

    def active(self, text, moment, *met):
        return window.active(when.windows(
            when.parse(text), [one(each) for each in met]), moment)

    def test_both_have_to_be_true(self):
        text = '22:00-06:00 and use<15%'
        self.assertTrue(self.active(text, EVENING, 'use<15%'))
        self.assertFalse(self.active(text, EVENING))
        self.assertFalse(self.active(text, NOON, 'use<15%'))
        self.assertFalse(self.active(text, EVENING, 'use<15% for 1h'))

    def test_one_clause_is_enough(self):
        text = '22:00-06:00; use<15% and wait<5%'
        self.assertTrue(self.active(text, EVENING))
        self.assertTrue(self.active(text, NOON, 'use<15%', 'wait<5%'))
        self.assertFalse(self.active(text, NOON, 'use<15%'))

    def test_zones(self):
        for text, expected in (('use<15%', False), ('22:00-06:00', False),
                               ('22:00-06:00 Asia/Shanghai and use<15%',
                                True)):
            self.assertEqual(expected, bool(template.decode(
                {'kongming:profile.x.when': text}).goes_by_zones))
