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

from kongming.host import usage
from kongming.intent import calendar
from kongming.intent import merge
from kongming.live import threads
from kongming.template import template
from tests import base

UTC = datetime.timezone.utc
HOST = usage.HostState([
    usage.NodeState(0, {2, 3, 10, 11}, shared={0, 8},
                    siblings=[{0, 8}, {2, 10}, {3, 11}])])
NIGHT = {'profile.night.when': '22:00-06:00',
         'profile.night.pin.0': '0-1~2', 'profile.night.qos': '0:weight=9'}


def at(text):
    return datetime.datetime.fromisoformat(f'{text}+00:00')


def desired(**specs):
    return template.decode({f'kongming:{key}': value
                            for key, value in specs.items()})


def server(name, owned, metadata=None, isolated=False, idle_siblings=(),
           **specs):
    """:param owned: pCPUs of its vCPUs, in their order"""
    return calendar.Resident(name, desired(**specs), metadata or {},
                             dict(enumerate(owned)),
                             frozenset(owned).union(idle_siblings), isolated)


class PeriodsTest(base.TestCase):

    def periods(self, begin, end, metadata=None, **specs):
        return [tuple(found) for found in calendar.periods(
            desired(**specs or NIGHT), metadata, at(begin), end and at(end))]

    def test_cut_at_both_ends(self):
        self.assertEqual(
            [(at('2026-11-22T23:00'), at('2026-11-23T06:00'), 'night'),
             (at('2026-11-23T06:00'), at('2026-11-23T22:00'), None),
             (at('2026-11-23T22:00'), at('2026-11-23T23:30'), 'night')],
            self.periods('2026-11-22T23:00', '2026-11-23T23:30'))

    def test_ends_at_a_switch(self):
        self.assertEqual(
            [(at('2026-11-22T22:00'), at('2026-11-23T06:00'), 'night')],
            self.periods('2026-11-22T22:00', '2026-11-23T06:00'))

    def test_one_moment(self):
        self.assertEqual(
            [(at('2026-11-22T23:00'), at('2026-11-23T06:00'), 'night')],
            self.periods('2026-11-22T23:00', None))
        self.assertEqual([(at('2026-11-22T23:00'), None, None)],
                         self.periods('2026-11-22T23:00', None, grant='qos'))

    def test_metadata_wins(self):
        specs = {**NIGHT, 'grant': 'profile'}
        self.assertEqual(
            [(at('2026-11-22T12:00'), at('2026-12-22T12:00'), 'night')],
            self.periods('2026-11-22T12:00', '2026-12-22T12:00',
                         {'kongming:profile': 'night'}, **specs))

    def test_several_open(self):
        """Of two whose windows are open, the first by name."""
        specs = {**NIGHT, 'profile.backup.when': 'Sun 23:00-01:00'}
        self.assertEqual(
            ['night', 'backup', 'night', None], [
                profile for _begin, _end, profile in self.periods(
                    '2026-11-22T22:00', '2026-11-23T12:00', **specs)])

    def test_other_zones_in(self):
        zone = datetime.timezone(datetime.timedelta(hours=8))
        period, = calendar.periods(
            desired(**NIGHT), None, at('2026-11-22T22:00').astimezone(zone),
            at('2026-11-22T23:00').astimezone(zone))
        self.assertEqual(at('2026-11-22T22:00'), period.begin)
        self.assertIs(UTC, period.begin.tzinfo)
        self.assertIs(UTC, period.end.tzinfo)

    def test_a_year_is_what_each_quarter_of_an_hour_says(self):
        """Windows and changes of offsets are at quarters here."""
        flavor = desired(**{
            'profile.a.when': 'Sat-Sun 01:30-02:45 Europe/Berlin',
            'profile.b.when': '22:00-06:00 America/New_York; '
                              'Wed 12:00-13:00 Australia/Lord_Howe',
            'profile.c.when': 'Mon-Fri 02:15-10:00 Europe/Berlin'})
        step, end = datetime.timedelta(minutes=15), at('2027-01-01T00:00')
        found = {period.begin: period.profile for period in calendar.periods(
            flavor, None, at('2026-01-01T00:00'), end)}
        expected, before = {}, ''
        moment = at('2026-01-01T00:00')
        while moment < end:
            name = merge.merge(flavor, None, moment).profile
            if name != before:
                expected[moment] = before = name
            moment += step
        self.assertEqual(expected, found)
        self.assertEqual({'a', 'b', 'c', None}, set(found.values()))

    def test_a_year_of_nights(self):
        """One of them has seven hours, one nine."""
        specs = {'profile.night.when': '22:00-06:00 Europe/Berlin'}
        found = self.periods('2026-01-01T00:00', '2027-01-01T00:00', **specs)
        self.assertEqual(2 * 365 + 1, len(found))
        hours = [(end - begin) // datetime.timedelta(hours=1)
                 for begin, end, profile in found[1:-1] if profile]
        self.assertEqual([7, 8, 9], sorted(set(hours)))
        self.assertEqual((1, 1), (hours.count(7), hours.count(9)))


class EffectTest(base.TestCase):

    def test_keys_of_the_flavor(self):
        self.assertEqual(
            {'pin.0': '0-1~2', 'qos': '0:weight=9', 'lend': 'true'},
            calendar.effect(desired(**{
                **NIGHT, 'profile.night.lend': 'true'}).profiles['night']))


def refused(one):
    """What the host would not obey of profile p."""
    default = threads.Threads(
        {vcpu: frozenset({pcpu}) for vcpu, pcpu in one.pins.items()},
        frozenset(one.pins.values()))
    return threads.shape(default, HOST, threads.Owned(one.pins),
                         merge.Intent(one.flavor, 'p'))[1]


class ConflictsTest(base.TestCase):

    def conflicts(self, one, *others):
        return list(calendar.conflicts(
            one.flavor.profiles['p'], one, [one, *others], HOST))

    def check(self, words, one, *others):
        self.assertEqual(words, list(map(str, self.conflicts(one, *others))))
        self.assertEqual(bool(words), bool(refused(one)))

    @hypothesis.given(
        st.permutations([2, 3, 10, 11]),
        st.lists(st.sampled_from(['0', '2-3', '8,10', '11', 'v0', 'v1,3',
                                  'n0c0-2t1', 'n0c2t0', '12']),
                 min_size=3, max_size=3))
    def test_as_the_host_finds_it(self, pcpus, targets):
        one = server('a', pcpus[:2], **{
            'profile.p.pin.0': f'0~{targets[0]} 1~{targets[1]}',
            'profile.p.emulator': targets[2]})
        self.assertEqual(bool(refused(one)), bool(self.conflicts(
            one, server('b', pcpus[2:3]))))

    def test_own_and_shared(self):
        self.check([], server('a', [2, 3], **{
            'profile.p.pin.0': '0~2 1~0,3,n0c0t1 2-3:2-3',
            'profile.p.emulator': 'shared'}), server('b', [10, 11]))

    def test_of_another(self):
        one = server('a', [2, 3], **{'profile.p.pin.0': '0~2,10 1:n0c2t1'})
        found = self.conflicts(one, server('b', [10]), server('c', [11]))
        self.assertEqual([('pin.0', (10,), 'b'), ('pin.0', (11,), 'c')],
                         [conflict[:3] for conflict in found])
        self.assertEqual('pin.0: pCPU 10 is owned by b', str(found[0]))

    def test_sibling_of_an_isolated_one(self):
        self.check(['emulator: pCPU 10 is owned by b'],
                   server('a', [3], **{'profile.p.emulator': '3,10'}),
                   server('b', [2], idle_siblings={10}))

    def test_of_nobody(self):
        self.check(['pin.0: pCPU 2,10 is neither its own nor in '
                    'cpu_shared_set'],
                   server('a', [3], **{'profile.p.pin.0': '0~2-3,10'}))

    def test_not_on_this_host(self):
        self.check(['pin.0: n1c0t0: the host has no node 1, it has node(s) '
                    '0'], server('a', [3], **{'profile.p.pin.0': '0~n1c0t0'}))

    def test_what_its_own_vcpus_own(self):
        self.check([], server('a', [2, 3], **{
            'profile.p.pin.0': '0-1~v1', 'profile.p.emulator': 'v0'}))
        self.check(['pin.0: v2: vCPU 2 owns no pCPU'], server(
            'a', [2, 3], **{'profile.p.pin.0': '0-1~v2'}))

    def test_what_another_lends_is_not_to_be_named(self):
        self.check(['pin.0: pCPU 2 is owned by b'],
                   server('a', [3], borrow='host', **{
                       'profile.p.pin.0': '0~2'}),
                   server('b', [2, 10], metadata={'kongming:profile': 'x'},
                          grant='profile', **{'profile.x.pin.0': '0-1~10',
                                              'profile.x.lend': 'true'}))

    def test_emulator_pcpu_that_nobody_knows(self):
        specs = {'profile.p.emulator': '10'}
        self.assertEqual([], self.conflicts(
            server('a', [2], isolated=True, **specs)))
        self.check(['emulator: pCPU 10 is owned by b'],
                   server('a', [2], isolated=True, **specs),
                   server('b', [10]))


class HostTest(base.TestCase):

    def test_intervals_and_both_names(self):
        one = server('a', [3], **NIGHT)
        two = server('b', [2], **{**NIGHT, 'profile.night.when':
                                  '23:00-24:00'})
        entries = calendar.of_host(
            [two, one, server('native', [10])], HOST,
            at('2026-11-22T12:00'), at('2026-11-23T12:00'))
        self.assertEqual(
            [('12:00', 'a', None, []), ('12:00', 'b', None, []),
             ('22:00', 'a', 'night', ['pin.0: pCPU 2 is owned by b']),
             ('23:00', 'b', 'night', []), ('00:00', 'b', None, []),
             ('06:00', 'a', None, [])],
            [(f'{entry.period.begin:%H:%M}', entry.server.name,
              entry.period.profile, list(map(str, entry.conflicts)))
             for entry in entries])

    def test_one_moment(self):
        entry, = calendar.of_host([server('a', [2], **NIGHT)], HOST,
                                  at('2026-11-22T23:00'), None)
        self.assertEqual((at('2026-11-23T06:00'), 'night', ()), (
            entry.period.end, entry.period.profile, entry.conflicts))
