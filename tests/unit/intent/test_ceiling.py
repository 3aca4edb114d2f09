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

"""What a flavor says of a vCPU is the most that metadata may ask for it."""

import hypothesis
from hypothesis import strategies as st

from kongming.host import usage
from kongming.intent import ceiling
from kongming.intent import merge
from kongming.live import qos
from kongming.template import cache_claims
from kongming.template import guest
from kongming.template import template
from tests import base


def read(**keys):
    return template.decode({f'kongming:{key}': value
                            for key, value in keys.items()})


@st.composite
def caches(draw):
    """Four vCPUs in some classes of few numbers, so that many are let."""
    closids = draw(st.lists(st.sampled_from((0, 1, 2, None)), min_size=4,
                            max_size=4).filter(any))
    values = [draw(st.sampled_from(('l3=1%', 'l3=2%', 'l3=3%', 'mb=9%')))
              for _ in range(3)]
    found = []
    for number, value in enumerate(values):
        vcpus = [str(vcpu) for vcpu in range(4) if closids[vcpu] == number]
        if vcpus:
            found.append(f'{",".join(vcpus)}:{value}')
    return ' '.join(found)


class AboveTest(base.TestCase):

    def check(self, words, asked, flavor, key='qos'):
        found = [str(problem) for problem in ceiling.above(
            read(**{key: asked}), read(**({key: flavor} if flavor else {})))]
        if words:
            self.assertIn(words, found[0])
            self.assertEqual(1, len(found))
        else:
            self.assertEqual([], found)

    def test_weight(self):
        self.check(None, '0:weight=200', '0:weight=200')
        self.check(None, '0:weight=9', '0:weight=200')
        self.check('vCPU 0 has a weight of at most 200', '0:weight=201',
                   '0:weight=200')
        # Without a weight it would be the usual one.
        self.check('vCPU 1 has a weight of at most 50', '0:weight=9',
                   '0-1:weight=50')
        self.check(None, '0:weight=9', '0-1:weight=100')

    def test_quota_and_burst(self):
        self.check(None, '0:quota=50%,burst=20%', '0:quota=50%,burst=20%')
        for asked in ('0:quota=51%', '0:weight=9', '1:quota=50%',
                      '0:quota=50%,burst=21%'):
            self.check('vCPU 0 has at most the quota and the burst of the '
                       'flavor (0:quota=50%,burst=20%)', asked,
                       '0:quota=50%,burst=20%')
        self.check('the burst of the flavor', '0:quota=20%,burst=20%',
                   '0:quota=50%')

    def test_cache(self):
        """Classes and ways are counted for the flavor."""
        flavor = '0-1:l3=20%,mb=50% 2:mb=10%'
        for asked in (flavor, '0-1:l3=1%,mb=1% 2:mb=1%',
                      '0-1:l3=20%,mb=50% 2-3:mb=10%'):
            self.check(None, asked, flavor, 'cache')
        for words, asked in (
                ('these are 3 classes; the flavor gives 2',
                 '0-1:l3=20%,mb=50% 2:mb=10% 3:mb=10%'),
                ('this is 21% of the L3 cache for what has 20% by the flavor '
                 '(0-1:l3=20%,mb=50%)', '0-1:l3=21%,mb=50% 2:mb=10%'),
                ('this is 22% of the L3 cache',
                 '0:l3=11%,mb=50% 1-2:l3=11%,mb=10%'),
                ('vCPU 1 is in a class with l3=1..20%',
                 '0:l3=20%,mb=50% 2:mb=10%'),
                ('vCPU 2 is in a class with no l3',
                 '0-1:l3=10%,mb=50% 2:l3=10%,mb=10%'),
                ('vCPU 0 has at most mb=50%', '0-1:l3=20% 2:mb=10%'),
                ('vCPU 2 has at most mb=10%', '0-1:l3=20%,mb=50% 2:mb=11%'),
                ('vCPU 2 has at most mb=10%', '0-1:l3=20%,mb=50%')):
            self.check(words, asked, flavor, 'cache')
        self.check('these are 1 classes; the flavor gives 0', '0:mb=10%',
                   None, 'cache')

    @hypothesis.given(caches(), caches())
    def test_cache_that_is_counted(self, asked, flavor):
        """Whatever is let through claims no more than the flavor."""
        if next(ceiling.above(read(cache=asked), read(cache=flavor)), None):
            return
        cells = guest.Guest(tuple(
            guest.Cell(frozenset(vcpus), frozenset(), 64)
            for vcpus in ({0, 1}, {2, 3})))
        most = cache_claims.claims(read(cache=flavor), cells)
        found = cache_claims.claims(read(cache=asked), cells)
        for cell, claim in found.items():
            self.assertLessEqual(
                claim.l3, most.get(cell, usage.CacheClaim()).l3)
        self.assertLessEqual(*(sum(claim.closids for claim in each.values())
                               for each in (found, most)))

    def test_of_what_the_flavor_does_not_say(self):
        self.check(None, '0:weight=10000 1:quota=100%,burst=100%', None)
        self.check(None, '0:weight=7,quota=100% 1:weight=10000',
                   '0:weight=7')

    def test_quota_of_nova(self):
        quota = qos.native({'quota:cpu_quota': '25000',
                            'quota:cpu_period': '50000'}).quota
        self.assertEqual(5000, quota)
        self.assertIsNone(qos.native({'quota:cpu_quota': '-1'}).quota)
        for asked, flavor, fine in (
                ('0:quota=50%', None, True), ('0:weight=10000', None, True),
                ('0:quota=51%', None, False),
                ('0:quota=50%,burst=1%', None, False),
                # What the template says counts for the vCPU that it names.
                ('0:quota=60%', '0:quota=60%', True),
                ('0:quota=60% 1:quota=51%', '0:quota=60%', False)):
            found = list(ceiling.above(
                read(qos=asked), read(**({'qos': flavor} if flavor else {})),
                quota))
            self.assertEqual(fine, not found, asked)
        intent = merge.merge(read(grant='qos'),
                             {'kongming:qos': '0:quota=51%'}, quota=quota)
        self.assertIn("at most 50% and no burst, as the flavor's "
                      'quota:cpu_quota says', str(intent.refused[0]))

    def test_scheduler(self):
        for asked, flavor in (('0:fifo:5', '0:rr:5'), ('0:idle', '0:batch'),
                              ('0:other', '0:fifo:1'), ('1:fifo:99', '0:rr:1'),
                              ('0:rr:3', '1:other')):
            self.check(None, asked, flavor, 'sched')
        for asked, flavor in (('0:fifo:6', '0:rr:5'), ('0:batch', '0:idle'),
                              ('0:other', '0:batch'), ('0:fifo:1', '0:other'),
                              ('1:batch', '0:idle')):
            self.check('vCPU 0 is scheduled no better than the flavor says',
                       asked, flavor, 'sched')

    def test_in_a_server(self):
        flavor = read(qos='0:quota=50%', grant='qos')
        for desired in ('0:quota=51%', '1:weight=1'):
            intent = merge.merge(flavor, {'kongming:qos': desired})
            self.assertIs(flavor, intent.base)
            self.assertEqual(1, len(intent.refused))
        self.assertEqual(4000, merge.merge(
            flavor, {'kongming:qos': '0:quota=40%'}).base.qos[0].quota)
