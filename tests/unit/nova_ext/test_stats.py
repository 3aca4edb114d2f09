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

"""What a host reports of itself to the scheduler."""

from kongming.host import usage
from kongming.template import zones
from nova_ext import stats
from tests import base

FULL = stats.Reported(
    frozenset({'boot', 'live'}), frozenset({0, 1}), frozenset({0, 64}),
    {**dict.fromkeys((*range(8), *range(64, 72)), 0),
     **dict.fromkeys((*range(8, 16), *range(72, 80)), 1)},
    {0: usage.CacheCapacity(7, 60, 5, True),
     1: usage.CacheCapacity(7, 0, 1, False)}, 'observe:3')


class StatsTest(base.TestCase):

    def test_as_the_page_shows_them(self):
        found = stats.report(FULL)
        self.assertTrue(found.pop('kongming_version'))
        self.assertEqual(zones.database().version,
                         found.pop('kongming_tzdata'))
        self.assertEqual({
            'kongming_obeys': 'boot live',
            'kongming_published': '0-1',
            'kongming_never': '0,64',
            'kongming_l3': '0-7,64-71 8-15,72-79',
            'kongming_cache': '0:7:60:5:1 1:7:0:1:0',
            'kongming_live': 'observe:3'}, found)

    def test_read_again(self):
        for reported in (FULL, stats.Reported(frozenset({'boot'}))):
            self.assertEqual(reported, stats.reported(
                {'num_instances': '3', **stats.report(reported)}))

    def test_a_host_without_the_hook(self):
        for found in ({}, None, {'num_instances': '3'}):
            self.assertEqual(stats.NOTHING, stats.reported(found))

    def test_of_another_build(self):
        """What can't be read is a host that reports nothing."""
        found = stats.report(FULL)
        for key, value in (('published', 'all'), ('cache', '0:7'),
                           ('l3', 'x')):
            self.assertEqual(stats.NOTHING, stats.reported(
                {**found, f'kongming_{key}': value}), key)
        self.assertEqual({'boot', 'pause'}, stats.reported(
            {**found, 'kongming_obeys': 'boot pause',
             'kongming_new': '1'}).obeys)
