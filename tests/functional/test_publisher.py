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

"""nova-compute's publisher and what it meets, on a real Placement."""

from keystoneauth1 import exceptions as ksa_exc

from kongming import exception
from kongming.host import topology
from kongming.placement import inventory
from kongming.placement import naming
from kongming.placement import reserved as reserved_mod
from kongming.publish import leftovers
from kongming.publish import manual
from kongming.publish import publisher
from tests.functional import test_publish


class PublisherTest(test_publish.Base):
    """nova-compute's own, which remembers what it has read."""

    def setUp(self):
        super().setUp()
        self.publisher = publisher.Publisher(self.placement, self.name,
                                             self.root)
        self.write()

    def write(self, reserved=None, nodes=2, publisher=None):
        """Publish, with these reserved; returns the requests that it took."""
        self.requests.clear()
        (publisher or self.publisher).publish(lambda: inventory.build(
            self.name, self.root,
            test_publish.usable(test_publish.host(nodes)), inventory.Ratios(),
            reserved))
        return [method for method, _path in self.requests]

    def pcpu(self, pcpu, node=0):
        """One that is taken."""
        return {node: {inventory.PCPU: 1, inventory.pcpu_class(pcpu): 1}}

    def test_unchanged_costs_nothing(self):
        self.assertEqual([], self.write())

    def test_look_at_an_unchanged_host_is_one_request(self):
        self.requests.clear()
        self.publisher.look()
        self.assertEqual(1, len(self.requests))
        self.assertEqual([], self.write())

    def test_one_pcpu(self):
        self.assertEqual(['PUT'], self.write(self.pcpu(2)))
        self.assertEqual({'PCPU': 1, 'PCPU_2': 1}, self.reserved(0))

    def test_one_class(self):
        self.assertEqual(['PUT'], self.write({0: {inventory.VCPU: 1}}))
        self.assertTrue(self.requests[0][1].endswith(
            'inventories/CUSTOM_KONGMING_VCPU'))
        self.assertEqual({'VCPU': 1}, self.reserved(0))

    def test_somebody_claims_meanwhile(self):
        """Refused; the list of the host, that node, and again."""
        self.allocate(0, PCPU=1)
        self.assertEqual(['PUT', 'GET', 'GET', 'GET', 'GET', 'PUT'],
                         self.write(self.pcpu(2)))
        self.assertEqual({'PCPU': 1, 'PCPU_2': 1}, self.reserved(0))
        node = self.publisher.nodes[naming.provider_uuid(self.root, 0)]
        self.assertEqual([{inventory.PCPU: 1}], [*node.allocations.values()])

    def test_somebody_writes_meanwhile(self):
        """The ``kongming host publish`` of an admin, say."""
        other = publisher.Publisher(self.placement, self.name, self.root)
        self.write(self.pcpu(3), publisher=other)
        self.write(self.pcpu(2))
        self.assertEqual({'PCPU': 1, 'PCPU_2': 1}, self.reserved(0))

    def test_two_publishers_take_turns(self):
        other = publisher.Publisher(self.placement, self.name, self.root)
        for pcpu in range(2, 8):
            one = self.publisher if pcpu % 2 else other
            self.write(self.pcpu(pcpu), publisher=one)
            self.assertEqual({'PCPU': 1, f'PCPU_{pcpu}': 1},
                             self.reserved(0))

    def test_inventory_that_is_allocated_is_taken_away(self):
        """By somebody who comes between the look and the write."""
        consumer = self.allocate(1, PCPU=1)
        self.write(nodes=1)
        self.assertEqual(2, len(self.nodes()))
        self.assertEqual({'PCPU': 6}, self.reserved(1))
        self.free(consumer)
        self.write(nodes=1)
        self.assertEqual(1, len(self.nodes()))
        self.assertEqual([], self.write(nodes=1))

    def test_provider_is_gone(self):
        """An admin has deleted it; after the error it is made again."""
        self.placement.delete(naming.provider_uuid(self.root, 0))
        self.assertRaises(exception.NotFound, self.write, self.pcpu(2))
        self.write(self.pcpu(2))
        self.assertEqual({'PCPU': 1, 'PCPU_2': 1}, self.reserved(0))

    def test_aggregate_is_lost(self):
        uuid_ = naming.provider_uuid(self.root, 0)
        generation, _records = self.placement.inventories(uuid_)
        self.placement.put_aggregates(uuid_, generation, [])
        consumer = self.allocate(0, PCPU=1)
        self.publisher.look()
        self.write(self.pcpu(2))
        self.assertEqual(2, len(self.nodes()))
        self.assertEqual({'PCPU': 1, 'PCPU_2': 1}, self.reserved(0))
        self.assertIn(consumer, self.placement.allocations(uuid_))

    def test_placement_does_not_answer(self):
        """Half of it may be written; all is read again."""
        request = self.placement._adapter.request

        def fails(path, method, **kwargs):
            if method == 'PUT':
                raise ksa_exc.ConnectFailure('unplugged')
            return request(path, method, **kwargs)

        self.placement._adapter.request = fails
        self.assertRaises(exception.CloudError, self.write, self.pcpu(2))
        self.placement._adapter.request = request
        self.assertEqual(7, self.write(self.pcpu(2)).count('GET'))
        self.assertEqual({'PCPU': 1, 'PCPU_2': 1}, self.reserved(0))


class NewNamesTest(test_publish.Base):
    """Of a cloud's first hosts."""

    def test_somebody_else_makes_them_meanwhile(self):
        """Between the refusal and the look at what is missing."""
        call, trait = self.placement._call, f'CUSTOM_{self.root[:8].upper()}'

        def late(method, path, *args, **kwargs):
            if path.startswith('/traits?'):
                call('PUT', f'/traits/{trait}')
            return call(method, path, *args, **kwargs)

        self.placement._call = late
        generation, _records = self.placement.inventories(self.root)
        self.placement.put_traits(self.root, generation, [trait])
        self.assertEqual({trait}, self.placement.traits(self.root))

    def test_what_is_no_name_is_refused(self):
        generation, _records = self.placement.inventories(self.root)
        for write, names in ((self.placement.put_traits, ['NO_SUCH_TRAIT']),
                             (self.placement.put_inventories,
                              {'CUSTOM_x': {'total': 1}})):
            self.assertRaises(exception.Invalid, write, self.root, generation,
                              names)


class AnewTest(test_publish.Base):
    """Providers that are not where, or whose, they should be."""

    def test_installed_anew_under_its_old_name(self):
        self.publish()
        old = [naming.provider_uuid(self.root, node) for node in (0, 1)]
        self.allocate(0, PCPU_2=1)
        self.placement.delete(self.root)
        self.root = self.compute(self.name)
        self.publish()
        # What is allocated on the old one can't be deleted.
        self.assertEqual(
            sorted([f'{self.name}_{self.root[:8]}_KONGMING_NODE0',
                    f'{self.name}_KONGMING_NODE1']), self.nodes())
        self.assertEqual([old[0]], [
            found['uuid'] for uuid_ in old
            for found in self.placement.providers(uuid=uuid_)])
        self.allocate(0, PCPU_2=1)
        self.assertEqual((), self.publish().written)

    def child(self, node):
        """As a build before the first release has made it."""
        provider = inventory.build(
            self.name, self.root, test_publish.usable(test_publish.host()),
            inventory.Ratios())[node]
        self.placement._call('POST', '/resource_providers', json={
            'name': provider.name, 'uuid': provider.uuid,
            'parent_provider_uuid': self.root})
        generation = self.placement.put_inventories(
            provider.uuid, 0, provider.inventory)
        self.placement.put_traits(provider.uuid, generation, {
            *provider.traits, inventory.TRAIT_HOOK})
        return provider.uuid

    def test_child_of_an_older_build_is_adopted(self):
        uuids = [self.child(node) for node in (0, 1)]
        consumer = self.allocate(1, PCPU=1)
        self.publish(occupied=lambda: manual.Occupied(
            {1: {consumer: reserved_mod.Owned(frozenset({12}))}}))
        self.assertEqual(2, len(self.nodes()))
        self.assertEqual(1, len(self.placement.providers(
            in_tree=self.root)))
        self.assertEqual({inventory.PCPU: 1},
                         self.placement.allocations(uuids[1])[consumer])
        self.assertEqual({'PCPU_12': 1}, self.reserved(1))
        for uuid_ in uuids:
            self.assertNotIn(inventory.TRAIT_HOOK,
                             self.placement.traits(uuid_))

    def leftovers(self):
        """Those of this test's host."""
        return [left for left in leftovers.find(self.placement.providers())
                if left.name.startswith(self.name)]

    def clear(self, **kwargs):
        return [(left.name.removeprefix(self.name),
                 *leftovers.clear(self.placement, left, **kwargs))
                for left in self.leftovers()]

    def test_clear_children_of_an_older_build(self):
        first, second = (self.child(node) for node in (0, 1))
        consumer = self.allocate(1, PCPU=1)
        done = [('_KONGMING_NODE0', 'deleted', []),
                ('_KONGMING_NODE1', "taken out of its compute node's tree",
                 [consumer])]
        self.assertEqual(done, self.clear(dry_run=True))
        self.assertEqual(done, self.clear())
        self.assertEqual([], self.clear())
        self.assertEqual([], self.placement.providers(uuid=first))
        self.assertEqual([consumer], [*self.placement.allocations(second)])
        # Its publisher finds it.
        self.assertEqual([f'{self.name}_KONGMING_NODE1'], self.nodes())

    def test_clear_after_the_compute_node(self):
        """What a server has on other hosts stays."""
        self.publish()
        gone = naming.provider_uuid(self.root, 0)
        evacuated, deleted = self.allocate(0, PCPU=1), self.allocate(0, PCPU=1)
        other = self.compute(f'{self.name}-2')
        body = self.placement.get(f'/allocations/{evacuated}')
        self.placement._call('PUT', f'/allocations/{evacuated}', json={
            **body, 'allocations': {
                gone: {'resources': {inventory.PCPU: 1}},
                other: {'resources': {'PCPU': 1}}}})
        self.assertEqual([], self.leftovers())
        self.placement.delete(self.root)
        done = [('_KONGMING_NODE0', 'deleted', sorted([evacuated, deleted])),
                ('_KONGMING_NODE1', 'deleted', [])]
        self.name = self.name.removesuffix('-2')
        self.assertEqual(done, self.clear(dry_run=True))
        self.assertEqual(2, len(self.leftovers()))
        self.assertEqual(done, self.clear())
        self.assertEqual([], self.leftovers())
        self.assertEqual({other}, set(self.placement.get(
            f'/allocations/{evacuated}')['allocations']))
        self.assertEqual({}, self.placement.get(
            f'/allocations/{deleted}')['allocations'])

    def test_cleared_by_two(self):
        self.publish()
        self.placement.delete(self.root)
        left = self.leftovers()
        self.clear()
        self.assertEqual(
            [('gone meanwhile', [])] * 2,
            [leftovers.clear(self.placement, one) for one in left])


class NameTest(test_publish.Base):

    def test_host_of_a_long_name(self):
        self.root = self.compute('n' * 200)
        self.publish()
        self.assertEqual(2, len(self.nodes()))
        self.assertEqual({200}, {len(name) for name in self.nodes()})

    def test_core_of_many_threads(self):
        """Its siblings are in two traits, and read back."""
        threads = (*range(4, 64), *range(68, 128))
        self.publish(test_publish.usable(topology.Host((topology.Node(
            0, (topology.Core(threads),), 1024, {4: 262144}),)),
            shared='4-7', dedicated='8-63,68-127'))
        node = naming.provider_uuid(self.root, 0)
        traits = self.placement.traits(node)
        self.assertEqual(2, len([name for name in traits
                                 if '_CORE_' in name]))
        state = inventory.read([(self.placement.inventories(node)[1],
                                 traits, {})])
        self.assertEqual([threads], state.nodes[0].cores())
