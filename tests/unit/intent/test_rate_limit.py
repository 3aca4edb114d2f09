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

"""How often what is wanted of a server may change."""

import hypothesis
from hypothesis import strategies as st

from kongming.intent import rate_limit
from tests import base

INTERVAL = 5.0


class RateLimiterTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.rate_limiter = rate_limit.RateLimiter()
        self.admit('first')

    def admit(self, desired, now=0.0, server='a', interval=INTERVAL):
        return self.rate_limiter.admit(server, desired, now, interval)

    def test_ten_at_once_and_then_one_an_interval(self):
        for number in range(rate_limit.BURST):
            self.assertEqual((number, False), self.admit(number))
        self.assertEqual((9, True), self.admit('x'))
        self.assertTrue(self.rate_limiter.waiting())
        # Reported once, and the last that is asked for is what comes.
        self.assertEqual((9, False), self.admit('y', 4.9))
        self.assertEqual(('y', False), self.admit('y', 5.0))
        self.assertFalse(self.rate_limiter.waiting())
        self.assertEqual(('y', False), self.admit('z', 9.9))
        self.assertEqual(('z', False), self.admit('z', 10.0))

    def test_reported_again_after_the_bucket_was_full(self):
        for number in range(rate_limit.BURST):
            self.admit(number)
        self.assertEqual((9, True), self.admit('x'))
        self.assertEqual(('x', False), self.admit('x', 10.0))
        for number in range(rate_limit.BURST):
            self.assertEqual((number, False), self.admit(number, 1000.0))
        self.assertEqual((9, True), self.admit('x', 1000.0))

    def test_changes_from_before_have_taken_tokens(self):
        """As nova-compute works out again when it has started."""
        self.assertFalse(self.rate_limiter.changed('a', 'first'))
        self.assertFalse(self.rate_limiter.changed('b', 'x'))
        self.assertTrue(self.rate_limiter.changed('a', 'x'))
        # Ten at second -1, of which one has come back by second 4.
        self.rate_limiter.restore('a', [-1.0] * rate_limit.BURST, INTERVAL)
        self.assertEqual(('first', True), self.admit('x', 3.9))
        self.assertEqual(('x', False), self.admit('x', 4.0))

    def test_changes_from_long_before_are_forgotten(self):
        self.rate_limiter.restore('a', [-1000.0] * rate_limit.BURST,
                                  INTERVAL)
        for number in range(rate_limit.BURST):
            self.assertEqual((number, False), self.admit(number))

    def test_the_same_is_free_and_the_same_object(self):
        desired = frozenset('w')
        self.admit(desired)
        for _ in range(100):
            self.assertIs(desired, self.admit(frozenset('w'))[0])
        self.assertFalse(self.rate_limiter.waiting())

    def test_who_goes_back_waits_no_more(self):
        for number in range(rate_limit.BURST):
            self.admit(number)
        self.admit('x')
        self.assertEqual((9, False), self.admit(9))
        self.assertFalse(self.rate_limiter.waiting())

    def test_servers_do_not_share(self):
        for number in range(rate_limit.BURST + 1):
            self.admit(number)
        self.assertEqual((1, False), self.admit(1, server='b'))
        self.assertEqual((2, False), self.admit(2, server='b'))

    def test_no_limit(self):
        for number in range(1000):
            self.assertEqual((number, False), self.admit(number, interval=0))

    def test_forgets_who_is_gone(self):
        for number in range(rate_limit.BURST + 1):
            self.admit(number)
        self.rate_limiter.retain({'a'})
        self.assertTrue(self.rate_limiter.waiting())
        self.rate_limiter.retain(set())
        self.assertFalse(self.rate_limiter.waiting())
        self.assertEqual(('new', False), self.admit('new'))

    @hypothesis.given(st.lists(st.floats(0, 20), max_size=200),
                      st.floats(0.1, 60))
    def test_never_more_than_the_bucket_gives(self, gaps, interval):
        limiter, now, admitted = rate_limit.RateLimiter(), 0.0, []
        limiter.admit('a', -1, now, interval)
        for number, gap in enumerate(gaps):
            now += gap
            if limiter.admit('a', number, now, interval)[0] == number:
                admitted.append(now)
        for first, begun in enumerate(admitted):
            for last, ended in enumerate(admitted[first:], 1):
                self.assertLessEqual(
                    last, rate_limit.BURST + (ended - begun) / interval + 1e-3)
        # A token that is there is given.
        self.assertLessEqual(min(len(gaps), rate_limit.BURST), len(admitted))
