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

"""What nova-compute remembers of the claims of servers here."""

from unittest import mock

from nova import objects

from kongming.host import usage
from nova_ext.placement import publisher
from tests import base

objects.register_all()
CLAIM = usage.CacheClaim(1, 20, False)


class CacheClaimsTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.driver = mock.Mock()
        self.here('here', 'boots')
        self.publisher = publisher.Publisher(self.driver)
        #: as a server has it that waits for others to settle
        self.claims = self.publisher.cache_claims

    def here(self, *uuids):
        self.driver._tracker.tracked_instances = set(uuids)
        self.driver._tracker.tracked_migrations = {}

    def server(self, uuid, **specs):
        cell = objects.InstanceNUMACell(
            id=1, cpuset=set(), pcpuset={0}, cpu_pinning={0: 9},
            cpuset_reserved=None, memory=64, cpu_policy='dedicated',
            cpu_thread_policy=None, pagesize=4)
        return objects.Instance(
            uuid=uuid, flavor=objects.Flavor(extra_specs=specs),
            numa_topology=objects.InstanceNUMATopology(cells=[cell]))

    def test_one_that_boots_after_they_were_listed(self):
        self.claims['boots'] = {0: CLAIM}
        self.publisher.claim_caches([
            self.server('here', **{'kongming:cache': '0:l3=30%'})])
        self.assertEqual({'here': {1: usage.CacheClaim(1, 30, False)},
                          'boots': {0: CLAIM}},
                         self.publisher.cache_claims)
        # It claims where those look that come next.
        self.claims['boots'] = {1: CLAIM}
        self.assertEqual({1: CLAIM}, self.publisher.cache_claims['boots'])

    def test_who_has_gone_or_claims_nothing_any_more(self):
        self.claims.update(dict.fromkeys(('here', 'boots', 'gone'),
                                         {0: CLAIM}))
        self.here('here')
        self.publisher.claim_caches([self.server('here')])
        self.assertEqual({}, self.publisher.cache_claims)


class NoticeTest(base.TestCase):
    """Nova's audit finds all as it was reported."""

    def test_what_waits_for_nova_is_tried_again(self):
        found = publisher.Publisher(mock.MagicMock())
        tracker = found._driver._tracker
        tracker.tracked_instances, tracker.tracked_migrations = {'s'}, {}
        tracker.compute_nodes = {'node': mock.Mock(numa_topology='{}')}
        found._hosts['node'] = mock.Mock(reported=('{}', set()),
                                         allocated=set())
        found.notice('node')
        self.assertFalse(found._wake.is_set())
        found.allocations.stale.add('s')
        found.notice('node')
        self.assertTrue(found._wake.is_set())
