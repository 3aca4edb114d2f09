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

import hypothesis
from hypothesis import strategies as st

from kongming.template import grammar
from kongming.template import tuning
from tests import base


class BadTest(base.TestCase):

    def check(self, parse, value, column, words):
        exc = self.assertRaises(grammar.Malformed, parse, value)
        self.assertEqual(column, exc.column, exc.reason)
        self.assertIn(words, exc.reason)

    def test_sched(self):
        for value, column, words in (
                ('', 1, 'it is empty'),
                ('0', 1, 'has no colon'),
                ('0:high', 3, "'high' is not a scheduling policy"),
                ('0:fifo', 7, 'fifo needs a priority'),
                ('0:fifo:0', 8, 'the lowest priority is 1'),
                ('0:rr:100', 6, 'too large for a priority'),
                ('0:batch:1', 8, 'batch has no priority'),
                ('0:batch 0:idle', 9, 'a second time')):
            self.check(tuning.parse_sched, value, column, words)

    def test_qos(self):
        for value, column, words in (
                ('0:', 3, "'' is not a QoS value"),
                ('0:speed=1', 3, "'speed=1' is not a QoS value"),
                ('0:weight=0', 10, 'the lowest weight is 1'),
                ('0:weight=10001', 10, 'the most is 10000'),
                ('0:quota=50', 9, "'50' is not a quota"),
                ('0:quota=0.5%', 9, '1% to 100%'),
                ('0:quota=101%', 9, '1% to 100%'),
                ('0:quota=5%,quota=6%', 12, 'a second time'),
                ('0:quota=5%,burst=6%', 1, 'at least as large'),
                ('0:burst=6%', 1, 'needs a quota')):
            self.check(tuning.parse_qos, value, column, words)


ranges = st.integers(0, 63).map(lambda n: (grammar.Range(n, n),))


class RoundTripTest(base.TestCase):

    @hypothesis.given(st.lists(
        st.tuples(ranges, st.sampled_from(tuning.POLICIES),
                  st.integers(1, 99)),
        min_size=1, unique_by=lambda entry: entry[0]))
    def test_sched(self, entries):
        sched = tuple(tuning.Sched(
            vcpus, policy, priority if policy in tuning.REALTIME else None)
            for vcpus, policy, priority in entries)
        self.assertEqual(sched, tuning.parse_sched(
            ' '.join(map(str, sched))))

    @hypothesis.given(st.lists(
        st.tuples(ranges, st.integers(1, 10000), st.integers(100, 10000)),
        min_size=1, unique_by=lambda entry: entry[0]))
    def test_qos(self, entries):
        qos = tuple(tuning.Qos(vcpus, weight, quota, max(100, quota // 2))
                    for vcpus, weight, quota in entries)
        self.assertEqual(qos, tuning.parse_qos(' '.join(map(str, qos))))


class CacheTest(base.TestCase):

    def test_both_ways(self):
        for value in ('0-3:l3=25%,mb=50%', '0,2-3:l3=1% 1:mb=100%'):
            found = tuning.parse_cache(value)
            self.assertEqual(value, ' '.join(map(str, found)))
        self.assertEqual([0, 5], [each.first for each in tuning.parse_cache(
            '7,0-3:l3=25% 5-6:mb=9%')])

    def test_malformed(self):
        for value, column, words in (
                ('', 1, 'it is empty'), ('0', 1, 'has no colon'),
                ('0:l3', 3, 'l3=1..100% or mb=1..100%'),
                ('0:l2=5%', 3, "'l2=5%' is not l3=1..100%"),
                ('0:l3=5', 6, '1% to 100%'), ('0:l3=0%', 6, '1% to 100%'),
                ('0:l3=12.5%', 6, 'without decimals'),
                ('0:mb=101%', 6, 'what mb can be'),
                ('0:l3=5%,l3=6%', 9, 'a second time'),
                ('0-2:l3=5% 2:mb=5%', 11, 'vCPU 2 stands here a second')):
            error = self.assertRaises(grammar.Malformed, tuning.parse_cache,
                                      value)
            self.assertIn(words, error.reason)
            self.assertEqual(column, error.column, value)
