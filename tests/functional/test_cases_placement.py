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

"""What Placement answers and allows, on a real Placement over HTTP."""

import collections
from concurrent import futures
import shutil
import threading
import uuid

import testtools

from benchmarks import placement as benchmark
from kongming import exception
from kongming.placement import flavor as flavor_mod
from kongming.placement import inventory
from kongming.publish import client as placement_mod
from kongming.template import template
from nova import objects
from nova.scheduler import utils
from tests.functional import test_publish
from tests import placement as placement_server

objects.register_all()


class CandidatesTest(test_publish.Base):
    """What the scheduler asks for a flavor of several open cells."""

    def host(self, nodes):
        """A host that obeys templates, 2 pCPUs of each node are shared."""
        self.publish(test_publish.usable(
            test_publish.host(nodes),
            ','.join(f'{8 * n}-{8 * n + 1}' for n in range(nodes)),
            ','.join(f'{8 * n + 2}-{8 * n + 7}' for n in range(nodes))))
        generation, _records = self.placement.inventories(self.root)
        self.placement.put_traits(self.root, generation,
                                  [inventory.TRAIT_HOOK])

    def candidates(self, cells, ports=0):
        """How many there are on this host.

        :param cells: of the flavor, of one dedicated vCPU each
        :param ports: each of one virtual function
        """
        specs = {'hw:cpu_policy': 'dedicated', 'hw:numa_nodes': str(cells),
                 'kongming:memory.0': 'strict'}
        specs |= flavor_mod.changes(specs, template.decode(specs)).put
        asked = utils.ResourceRequest.from_request_spec(objects.RequestSpec(
            flavor=objects.Flavor(
                name='f', flavorid='f', vcpus=cells, memory_mb=64 * cells,
                root_gb=0, ephemeral_gb=0, swap=0, extra_specs=specs),
            image=objects.ImageMeta(properties=objects.ImageMetaProps()),
            is_bfv=False, requested_resources=[
                objects.RequestGroup(requester_id=str(uuid.uuid4()),
                                     resources={'SRIOV_NET_VF': 1})
                for _ in range(ports)], pci_requests=None,
            request_level_params=objects.RequestLevelParams(),
            numa_topology=None, availability_zone=None, project_id='p'))
        if ports > 1 and not asked.group_policy:
            # As resources_from_request_spec does (nova/scheduler/utils.py).
            asked.group_policy = 'none'
        query = '&'.join(part for part in asked.to_querystring().split('&')
                         if not part.startswith('limit='))
        # As the scheduler asks; names of groups are known from 1.33 on.
        answer = self._server.adapter().get(
            f'/allocation_candidates?{query}&in_tree={self.root}',
            microversion='1.36')
        return len(answer.json()['allocation_requests'])

    def test_a_host_is_one_candidate(self):
        """4 cells of one size are 8 * 7 * 6 * 5 ways over 8 nodes.

        A scheduler takes 1,000 candidates, so it would not see the second
        host if it were asked for the cells.
        """
        self.host(nodes=8)
        self.assertEqual(1, self.candidates(cells=4))

    def test_two_ports_of_one_physical_function(self):
        """group_policy=isolate would be for all groups, for ports' too."""
        self.host(nodes=2)
        device = str(uuid.uuid4())
        self.placement._call('POST', '/resource_providers', json={
            'name': f'{self.name}_pf', 'uuid': device,
            'parent_provider_uuid': self.root})
        self.placement.put_inventories(device, 0,
                                       {'SRIOV_NET_VF': {'total': 8}})
        self.assertEqual(1, self.candidates(cells=2))
        self.assertEqual(1, self.candidates(cells=2, ports=2))

    def test_a_host_that_obeys_nothing(self):
        self.publish()
        # One that is not known is an error; another host has it.
        self.placement._call('PUT', f'/traits/{inventory.TRAIT_HOOK}')
        self.assertEqual(0, self.candidates(cells=2))


@testtools.skipUnless(shutil.which('mariadbd'),
                      'mariadbd is not installed (apt: mariadb-server)')
class ClaimsTest(testtools.TestCase):
    """Simultaneous claims of one pCPU.

    On MariaDB Placement repeats a claim that met another one within the
    transaction of the first try, which does not see what the other one has
    used (placement/objects/allocation.py, replace_all). With
    ``[placement] allocation_conflict_retry_count = 1`` it does not repeat it,
    and its client does.
    """

    CLAIMS, ROUNDS = 4, 10

    def serve(self, conflict_retries=None):
        database = benchmark.MariaDB()
        self.addCleanup(database.stop)
        server = placement_server.Server(database.url, conflict_retries)
        self.addCleanup(server.stop)
        self.placement = placement_mod.Placement(server.adapter())
        self.root = str(uuid.uuid4())
        self.placement._call('POST', '/resource_providers', json={
            'name': 'host', 'uuid': self.root})
        self.pcpu = inventory.pcpu_class(7)
        self.placement._call('PUT', f'/resource_classes/{self.pcpu}')
        self.placement.put_inventories(self.root, 0,
                                       {self.pcpu: {'total': 1}})

    def claim(self, start):
        """The consumer that has the pCPU, or None."""
        consumer = str(uuid.uuid4())
        start.wait(60)
        while True:
            try:
                self.placement._call('PUT', f'/allocations/{consumer}', json={
                    'allocations': {self.root: {'resources': {
                        self.pcpu: 1}}}, 'project_id': 'p', 'user_id': 'u',
                    'consumer_generation': None})
                return consumer
            except exception.Conflict as exc:
                if exc.code != 'placement.concurrent_update':
                    return None

    def winners(self):
        """Number of those who have it -> in how many rounds."""
        found = collections.Counter()
        with futures.ThreadPoolExecutor(self.CLAIMS) as pool:
            for _ in range(self.ROUNDS):
                start = threading.Barrier(self.CLAIMS)
                won = [*filter(None, pool.map(self.claim,
                                              [start] * self.CLAIMS))]
                found[len(won)] += 1
                for consumer in won:
                    self.placement._call('DELETE', f'/allocations/{consumer}')
        return found

    def test_one_has_it(self):
        """As admin.rst has Placement configured."""
        self.serve(conflict_retries=1)
        self.assertEqual({1: self.ROUNDS}, self.winners())

    def test_by_default(self):
        """Somebody has it; where several have, their hosts' claim decides."""
        self.serve()
        winners = self.winners()
        self.assertEqual(self.ROUNDS, winners.total())
        self.assertNotIn(0, winners)
