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

import random

import hypothesis
from hypothesis import strategies as st

from kongming.load import decision
from kongming.load import figures
from tests import base
from tests import load

MINUTE, HOUR = 60, 3600


def guest(when, **kwargs):
    return load.Guest(load.flavor(**{
        'profile.p.when': when, 'profile.p.pin.0': '0-1~v0'}), **kwargs)


class IdleTest(base.TestCase):
    """A profile that gives something up: late in, out at once."""

    def test_only_after_all_of_its_time(self):
        one = guest('use<15% for 10m').live(10 * MINUTE - 5, use=3)
        self.assertIsNone(one.profile)
        one.live(5, use=3)
        self.assertEqual('p', one.profile)
        self.assertEqual('use 3.0%, below 15% for 10m',
                         one.decider.decision.because)

    def test_a_moment_above_begins_its_time_anew(self):
        one = guest('use<15% for 10m').live(9 * MINUTE, use=3)
        one.live(5, use=20).live(9 * MINUTE, use=3)
        self.assertIsNone(one.profile)
        self.assertEqual('p', one.live(MINUTE, use=3).profile)

    def test_between_the_thresholds_it_stays_as_it_is(self):
        one = guest('use<15% for 1m').live(HOUR, use=20)
        self.assertIsNone(one.profile)
        one.live(MINUTE, use=3).live(HOUR, use=29)
        self.assertEqual('p', one.profile)

    def test_it_ends_within_moments(self):
        one = guest('use<15% for 1m').live(MINUTE, use=3)
        self.assertTrue(one.decider.is_urgent)
        one.live(MINUTE, use=3, step=.1)
        began = one.at
        one.live(2, use=100, step=.1)
        (at, profile, because), = one.switches[1:]
        self.assertIsNone(profile)
        self.assertLessEqual(at - began, .3)
        self.assertIn('above 30%', because)
        self.assertFalse(one.decider.is_urgent)

    def test_wanting_counts_as_use(self):
        """Eight vCPUs on two pCPUs run for no more than a quarter."""
        one = guest('use<15% for 1m', vcpus=8).live(MINUTE, use=3)
        one.live(1, use=10, wait=30, step=.1)
        self.assertIsNone(one.profile)

    def test_its_least_time(self):
        one = guest('use<15% for 1m hold 5m').live(MINUTE, use=3)
        one.live(4 * MINUTE, use=100)
        self.assertEqual('p', one.profile)
        self.assertIsNone(one.live(MINUTE, use=100).profile)


class BusyTest(base.TestCase):
    """A profile that gives more: soon in, out late."""

    def test_in_and_out(self):
        one = guest('wait>5% for 30s hold 2m').live(25, use=50, wait=8)
        self.assertIsNone(one.profile)
        one.live(5, use=50, wait=6)
        self.assertEqual('p', one.profile)
        self.assertEqual('wait 6.0%, above 5% for 30s',
                         one.decider.decision.because)
        one.live(115, use=50)
        self.assertEqual('p', one.profile)
        one.live(10, use=50)
        self.assertIsNone(one.profile)
        self.assertIn('wait 0.0%, below 2.5%', one.decider.decision.because)

    def test_memory_is_read_now_and_then(self):
        one = guest('remote>10% for 30s hold 0s')
        for _ in range(3):
            one.remote = 40.0
            one.live(5)
            one.remote = None
            one.live(55)
        self.assertEqual('p', one.profile)
        one.live(decision.GAP_REMOTE)
        self.assertIsNone(one.profile)
        self.assertEqual('remote is not known', one.decider.decision.because)

    def test_memory_is_read_at_any_time(self):
        """Whoever gave something up is read many times a second."""
        one = load.Guest(load.flavor(**load.IDLE, **{
            'profile.remote.when': 'remote>10% for 30s hold 0s',
            'profile.remote.pin.0': '0-1:v0-1'})).live(10 * MINUTE)
        self.assertEqual('idle', one.profile)
        one.live(.1, step=.1)
        one.remote = 40.0
        one.live(.1, step=.1)
        one.remote = None
        one.live(5, step=.1)
        self.assertEqual(40.0, one.decider.figures.remote)


class WindowTest(base.TestCase):

    def test_both(self):
        """20:00 is when it begins."""
        one = guest('22:00-06:00 and use<15% for 10m').live(2 * HOUR - 5)
        self.assertIsNone(one.profile)
        one.live(5)
        self.assertEqual('p', one.profile)
        self.assertIn('below 15%', one.decider.decision.because)
        one.live(8 * HOUR - 5)
        self.assertEqual('p', one.profile)
        self.assertIsNone(one.live(5).profile)

    def test_metadata_win(self):
        one = load.Guest(load.flavor(**load.IDLE, grant='profile', **{
            'profile.day.pin.0': '0-1:v0-1'}),
            metadata={'kongming:profile': 'day'}).live(HOUR)
        self.assertEqual('day', one.profile)
        one.metadata = {'kongming:profile': 'auto'}
        self.assertEqual('idle', one.live(5).profile)

    def test_metadata_without_the_grant_gain_nothing(self):
        for metadata in (
                {'kongming:profile': 'idle'},
                {'kongming:profile.idle.when': '00:00-24:00'},
                {'kongming:profile.idle.when': 'use<99% for 5s'}):
            one = load.Guest(load.flavor(), metadata=metadata)
            self.assertIsNone(one.live(HOUR, use=50).profile)


class UnknownTest(base.TestCase):

    def idle(self):
        one = guest('use<15% for 1m').live(2 * MINUTE)
        self.assertEqual('p', one.profile)
        return one

    def test_started_anew(self):
        one = self.idle().restart().live(5)
        self.assertIsNone(one.profile)
        self.assertEqual('use is not known', one.decider.decision.because)

    def test_readings_that_are_missing(self):
        one = self.idle().live(MINUTE, read=False)
        self.assertEqual('p', one.profile)
        self.assertIsNone(one.live(5, read=False).profile)

    def test_a_gap(self):
        one = self.idle()
        one.at += decision.GAP + 1
        one.read()
        self.assertIsNone(one.profile)
        # What was measured before it does not count.
        self.assertIsNone(one.live(MINUTE - 5).profile)
        self.assertEqual('p', one.live(2 * MINUTE).profile)

    def test_a_clock_that_goes_back(self):
        one = self.idle()
        one.at -= HOUR
        one.read()
        self.assertIsNone(one.profile)
        self.assertEqual('p', one.live(3 * MINUTE).profile)

    def test_a_counter_that_goes_back(self):
        one = guest('use<15% for 1m').live(50)
        one.vcpus = {0: [0, 0], 1: [0, 0]}
        one.vcpus[0][0] = -1
        one.live(10)
        self.assertIsNone(one.profile)
        self.assertEqual('p', one.live(MINUTE).profile)

    def test_a_vcpu_that_is_added_changes_nothing(self):
        one = self.idle()
        one.vcpus[2] = [10 ** 15, 10 ** 15]
        self.assertEqual('p', one.live(MINUTE, use=1).profile)
        self.assertIsNone(one.live(MINUTE, use=50).profile)

    def test_a_flavor_without_the_condition(self):
        one = self.idle()
        one.template = load.flavor(qos='0:weight=200')
        self.assertIsNone(one.live(5).profile)
        self.assertEqual(frozenset(), one.decider.decision.met)


class FlappingTest(base.TestCase):

    DAY = 24 * HOUR

    def flap(self, one, idle, busy, seconds=None):
        end = one.at + (seconds or self.DAY)
        while one.at < end:
            one.live(idle, use=1)
            one.live(busy, use=100)
        return one

    def test_a_day_of_bursts_at_the_worst_time(self):
        one = self.flap(guest('use<15% for 1m'), 65, 1)
        self.assertLessEqual(one.in_an_hour(), decision.SWITCHES)
        # What has to be earned for longer is not reached at all.
        self.assertLessEqual(len(one.switches), 4)

    def test_who_adapts_gets_one_an_hour(self):
        """A guest that is idle until it has switched, and then busy."""
        one = guest('use<15% for 1m')
        end = one.at + self.DAY
        while one.at < end:
            while one.profile is None and one.at < end:
                one.live(5)
            one.live(2, use=100, step=.1)
        self.assertLessEqual(one.in_an_hour(), decision.SWITCHES)
        self.assertLess(len(one.switches), 2 * 24 + 10)

    def test_without_a_guard_it_would_flap(self):
        """What the tests above would see, had conditions one threshold."""
        one = guest('use<15% until 15.01% for 5s', most=0)
        decider = one.decider
        for _ in range(400):
            decider._factors.clear()
            one.live(10).live(1, use=100)
        self.assertGreater(one.in_an_hour(), 100)

    def test_the_limit(self):
        one = guest('use<15% for 5s', most=4)
        for _ in range(400):
            one.decider._factors.clear()
            one.live(10).live(1, use=100)
        self.assertEqual(4, one.in_an_hour())

    def test_it_says_that_it_waits(self):
        one = guest('use<15% for 5s', most=2)
        one.live(10).live(1, use=100).live(20)
        self.assertIsNone(one.profile)
        self.assertEqual('profile p: it has switched as often as it may in '
                         'an hour (2 times)', one.waited)
        one.live(HOUR)
        self.assertEqual(('p', ''), (one.profile, one.waited))

    @hypothesis.given(st.integers(0, 2 ** 32), st.integers(2, 8))
    def test_whatever_a_guest_does(self, seed, most):
        rng = random.Random(seed)
        specs = {}
        for name in 'abc':
            specs[f'profile.{name}.when'] = rng.choice((
                'use<15% for 5s', 'wait>5% until 4% for 5s hold 0s',
                'use>80% for 5s hold 0s and wait<3% for 5s',
                'remote>10% for 5s hold 5s',
                '20:00-20:30 and use<30% until 31% for 10s'))
            specs[f'profile.{name}.pin.0'] = '0-1~v0'
        one = load.Guest(load.flavor(**specs), most=most)
        for _ in range(60):
            kind = rng.randrange(40)
            if kind == 0:
                one.restart()
            elif kind == 1:
                one.at += rng.choice((-50, 30, 500))
            elif kind == 2:
                one.vcpus[len(one.vcpus)] = [0, 0]
            one.remote = rng.choice((None, None, 0.0, 50.0))
            one.live(rng.choice((1, 5, 10, 60)), rng.choice((0, 10, 50, 90)),
                     rng.choice((0, 0, 8)), step=rng.choice((.5, 5)),
                     read=rng.random() < .95)
            found = one.decider.decision
            self.assertLessEqual(found.met,
                                 decision.of_template(one.template))
            if kind == 1:
                one.switches.clear()
        times = [at for at, _profile, _because in one.switches]
        if times == sorted(times):
            # The clock opens and closes windows beside it.
            self.assertLessEqual(one.in_an_hour(), most + 2)


class ProgressTest(base.TestCase):

    def test_in_words(self):
        one = guest('use<15% for 10m').live(2 * MINUTE, use=3)
        self.assertEqual(['use<15% for 10m: true for 2m of 10m'],
                         one.decider.progress(one.at))
        self.assertEqual(figures.Figures(5, 3, 0), one.decider.figures)
