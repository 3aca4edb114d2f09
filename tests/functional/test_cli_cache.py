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

"""What is kept of a cloud is what Placement would say, on a real one."""

import collections
import datetime
import os
import random
import tempfile
import time
import types
from unittest import mock
import uuid

import testtools

from kongming.host import usage
from kongming.placement import inventory
from kongming.placement import naming
from kongming.publish import client
from kongming.publish import manual
from kongming.publish import publisher
from osc_plugin import cloud
from osc_plugin import summaries
from tests.functional import test_life
from tests import placement as placement_server

PCPU, MEMORY = inventory.PCPU, inventory.MEMORY_MB


def state(dedicated=range(2, 8)):
    return usage.HostState([usage.NodeState(
        0, frozenset(dedicated), shared=frozenset({0, 1}),
        siblings=[(pcpu,) for pcpu in range(8)], memory_mib=8192)])


class CacheBase(testtools.TestCase):
    """Eight hosts of a node, which is as few as are read at once."""

    def setUp(self):
        super().setUp()
        server = placement_server.Server()
        self.addCleanup(server.stop)
        folder = self.enterContext(tempfile.TemporaryDirectory())
        self.enterContext(mock.patch.dict(os.environ, XDG_CACHE_HOME=folder))
        adapter = server.adapter()
        request = adapter.request
        self.asked = collections.Counter()

        def counted(path, method, **kwargs):
            self.asked[path.partition('?')[0].split('/')[1]] += 1
            return request(path, method, **kwargs)

        adapter.request = counted
        self.placement = client.Placement(adapter)
        self.conn = types.SimpleNamespace(
            placement=adapter, current_user_id='u', current_project_id='p')
        self.nodes = [self.publish(f'compute{number}', str(uuid.uuid4()))
                      for number in range(8)]

    def publish(self, name, root, **kwargs):
        """A host; returns the provider of its node."""
        if not self.placement.providers(uuid=root):
            self.placement._call('POST', '/resource_providers', json={
                'name': name, 'uuid': root})
            self.placement.put_inventories(root, 0, {'DISK_GB': {'total': 9}})
        made = publisher.Publisher(self.placement, name, root)
        made.publish(lambda: inventory.build(name, root, state(**kwargs),
                                             inventory.Ratios()))
        self.placement.put_traits(
            root, self.placement.inventories(root)[0],
            [inventory.TRAIT_HOOK])
        return naming.provider_uuid(root, 0)

    def allocate(self, consumer, project, amounts):
        """:param amounts: node -> how many pCPUs it has there, and the first
        """
        found = self.placement.allocations_of(consumer)
        self.placement._call('PUT', f'/allocations/{consumer}', json={
            **found, 'project_id': project, 'user_id': 'u', 'allocations': {
                node: {'resources': {
                    PCPU: count, MEMORY: 64 * count,
                    **{inventory.pcpu_class(first + pcpu): 1
                       for pcpu in range(count)}}}
                for node, (count, first) in amounts.items()}})

    def delete(self, consumer):
        self.placement._call('DELETE', f'/allocations/{consumer}')

    def read(self):
        """Free pCPUs of each host, and what was asked for."""
        self.asked.clear()
        free = [host.state.nodes[0].n_free
                for host in cloud.hosts(self.conn)]
        return free, dict(self.asked)

    def without_cache(self):
        with tempfile.TemporaryDirectory() as folder, mock.patch.dict(
                os.environ, XDG_CACHE_HOME=folder):
            return self.read()[0]


class HoldsTest(CacheBase):

    def wait(self):
        """What was written a moment ago is not kept."""
        time.sleep(3.1)

    def test_what_holds_and_what_does_not(self):
        servers = [str(uuid.uuid4()) for _server in range(4)]
        for number, server in enumerate(servers):
            self.allocate(server, f'project-{number % 2}',
                          {self.nodes[number]: (number + 1, 2)})
        free = [5, 4, 3, 2, 6, 6, 6, 6]
        self.wait()
        found, asked = self.read()
        self.assertEqual((free, 1), (found, asked['allocation_candidates']))
        again = {'usages': 2, 'resource_providers': 2}
        self.assertEqual((free, again), self.read())
        # To delete an allocation moves no generation.
        self.delete(servers[2])
        free[2] = 6
        self.assertEqual(free, self.read()[0])
        self.assertEqual((free, again), self.read())
        # A move in one request moves that of the other node only.
        self.allocate(servers[3], 'project-1', {self.nodes[4]: (4, 2)})
        free[3:5] = 6, 2
        self.assertEqual(free, self.read()[0])
        self.wait()
        self.read()
        self.assertEqual((free, again), self.read())
        # As much as was deleted, by somebody nobody knew.
        self.delete(servers[0])
        self.allocate(servers[0], 'project-9', {self.nodes[7]: (1, 2)})
        free[0], free[7] = 6, 5
        self.assertEqual(free, self.read()[0])

    def test_a_node_that_was_published_again(self):
        """With other pCPUs; its generation is the one that it had."""
        self.wait()
        self.read()
        self.assertEqual(([6] * 8, {'resource_providers': 2}), self.read())
        provider, = self.placement.providers(uuid=self.nodes[0])
        root, = (found['uuid'] for found in self.placement.providers()
                 if naming.provider_uuid(found['uuid'], 0) == self.nodes[0])
        manual.unpublish(self.placement, root, str)
        self.publish('compute0', root, dedicated=range(2, 5))
        self.assertEqual(
            [provider['generation']],
            [found['generation'] for found
             in self.placement.providers(uuid=self.nodes[0])])
        self.assertEqual([3, *[6] * 7], self.read()[0])


class HistoryTest(CacheBase):

    @test_life.long
    def test_the_same_with_a_cache_and_without(self):
        self.enterContext(mock.patch.object(
            summaries, '_MIN_AGE', datetime.timedelta(seconds=-1)))
        rng = random.Random(21)
        servers = [str(uuid.uuid4()) for _server in range(5)]
        proven, seen = 0, set()
        for step in range(60):
            server = rng.choice(servers)
            what = rng.random()
            if what < 0.3:
                self.delete_if_there(server)
            elif what < 0.7:
                self.allocate(server, rng.choice(('a', 'a', 'b', 'c')), {
                    node: (1, 2 + servers.index(server))
                    for node in rng.sample(self.nodes, rng.randint(1, 2))})
            found, asked = self.read()
            proven += 'allocation_candidates' not in asked
            self.assertEqual(self.without_cache(), found, step)
            seen.add(tuple(found))
        self.assertGreater(proven, 10)
        self.assertGreater(len(seen), 10)

    def delete_if_there(self, server):
        if self.placement.allocations_of(server)['allocations']:
            self.delete(server)
