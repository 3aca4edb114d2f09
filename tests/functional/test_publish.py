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

"""Publishing a host without the hook, on a real Placement over HTTP."""

import collections
import uuid

import testtools

from kongming import exception
from kongming.host import topology
from kongming.host import usage
from kongming.placement import inventory
from kongming.placement import naming
from kongming.placement import reserved as reserved_mod
from kongming.publish import client as placement_mod
from kongming.publish import manual
from kongming.publish import publisher
from tests import placement as placement_server

PREFIX = 'CUSTOM_KONGMING_'


def host(nodes=2, cores=4, memory_mib=8192, offline=()):
    """nodes x cores x 2 threads, siblings side by side."""
    return topology.Host(tuple(
        topology.Node(
            node, tuple(topology.Core((first, first + 1)) for first in range(
                node * cores * 2, (node + 1) * cores * 2, 2)
                if first not in offline),
            memory_mib, {4: memory_mib * 256, 2048: 512})
        for node in range(nodes)))


def usable(of, shared='0-1,8-9', dedicated='2-7,10-15'):
    return usage.of_host(of, topology.parse_cpu_list(dedicated),
                         topology.parse_cpu_list(shared))


class Base(testtools.TestCase):

    _server = None

    def setUp(self):
        super().setUp()
        if Base._server is None:
            # It ends by itself when this process does.
            Base._server = placement_server.Server()
        self.requests = []
        adapter = Base._server.adapter()
        request = adapter.request

        def counted(path, method, **kwargs):
            self.requests.append((method, path))
            return request(path, method, **kwargs)

        adapter.request = counted
        self.placement = placement_mod.Placement(adapter)
        self.root = self.compute(self.getUniqueString())
        self.native = self.placement.inventories(self.root)

    def compute(self, name):
        """The provider of another compute node; its host is :attr:`name`."""
        self.name, root = name, str(uuid.uuid4())
        self.placement._call('POST', '/resource_providers', json={
            'name': name, 'uuid': root})
        self.placement.put_inventories(root, 0, {
            'VCPU': {'total': 4, 'allocation_ratio': 4.0},
            'MEMORY_MB': {'total': 16384, 'allocation_ratio': 1.5},
            'PCPU': {'total': 12}})
        return root

    def publish(self, state=None, occupied=manual.Occupied, **kwargs):
        return manual.publish(
            self.placement, self.name, self.root, state or usable(host()),
            occupied, **kwargs)

    def nodes(self):
        """Names of the host's node providers."""
        return sorted(provider['name'] for provider in
                      self.placement.providers(
                          member_of=naming.aggregate_uuid(self.root)))

    def records(self, node):
        _generation, records = self.placement.inventories(
            naming.provider_uuid(self.root, node))
        return {name.removeprefix(PREFIX): record
                for name, record in records.items()}

    def totals(self, node):
        return {name: record['total']
                for name, record in self.records(node).items()}

    def reserved(self, node):
        return {name: record['reserved']
                for name, record in self.records(node).items()
                if record['reserved']}

    def allocate(self, node, **resources):
        """A consumer of its own with these resources of a node."""
        consumer = str(uuid.uuid4())
        self.placement._call('PUT', f'/allocations/{consumer}', json={
            'allocations': {naming.provider_uuid(self.root, node): {
                'resources': {PREFIX + name: amount for name, amount
                              in resources.items()}}},
            'project_id': 'p', 'user_id': 'u', 'consumer_generation': None})
        return consumer

    def free(self, consumer):
        self.placement._call('DELETE', f'/allocations/{consumer}')


class PublishTest(Base):

    def test_from_nothing(self):
        done = self.publish()
        self.assertEqual(6, len(done.written), done)
        self.assertEqual(
            {'PCPU': 6, **{f'PCPU_{p}': 1 for p in range(10, 16)}, 'VCPU': 8,
             'MEMORY_MB': 7168, 'PAGES_2M': 512}, self.totals(1))
        self.assertEqual(
            (1.0, 1.5), (self.records(0)['VCPU']['allocation_ratio'],
                         self.records(0)['MEMORY_MB']['allocation_ratio']))
        self.assertEqual(self.native, self.placement.inventories(self.root))
        state = inventory.read([
            (self.placement.inventories(uuid)[1],
             self.placement.traits(uuid), {}) for uuid in
            (naming.provider_uuid(self.root, node) for node in (0, 1))])
        self.assertEqual([(8, 9), (10, 11), (12, 13), (14, 15)],
                         state.nodes[1].cores())

    def methods(self):
        """How often each was asked for, since this was asked last."""
        found = collections.Counter(method for method, _ in self.requests)
        self.requests.clear()
        return dict(found)

    def test_requests(self):
        """A cloud's first host makes names; any other costs 2 + 4 a node."""
        self.publish()
        self.root = self.compute(f'{self.name}-2')
        self.methods()
        self.publish()
        # The host, and Nova's ratios; then a provider, its aggregate,
        # inventory and traits.
        self.assertEqual({'GET': 2, 'POST': 2, 'PUT': 6}, self.methods())
        self.assertEqual(publisher.Outcome(), self.publish())
        # One for the host, one for the ratios, three a node.
        self.assertEqual({'GET': 8}, self.methods())
        # None of them has a pCPU, or anything else, in its address.
        self.assertEqual([], [path for _method, path in self.requests
                              if 'resources=' in path])

    def test_dry_run_writes_nothing(self):
        self.methods()
        self.assertEqual(6, len(self.publish(dry_run=True).written))
        self.assertEqual({'GET': 2}, self.methods())
        self.assertEqual([], self.nodes())

    def test_outside_the_tree(self):
        """Native servers' queries don't meet them."""
        self.publish()
        self.assertEqual([self.name], [
            found['name'] for found in self.placement.providers(
                in_tree=self.root)])
        self.assertEqual([f'{self.name}_KONGMING_NODE{n}' for n in (0, 1)],
                         self.nodes())
        self.assertEqual(frozenset(), self.placement.traits(self.root))

    def test_servers_without_allocation_are_reserved(self):
        state = usable(host())
        self.publish(state, lambda: manual.Occupied(
            {1: {'a': reserved_mod.Owned(frozenset({10, 11}), 3, 1024)}}))
        self.assertEqual(
            {'PCPU': 2, 'PCPU_10': 1, 'PCPU_11': 1, 'VCPU': 3,
             'MEMORY_MB': 683}, self.reserved(1))
        self.assertEqual({}, self.reserved(0))
        self.assertRaises(exception.Conflict, self.allocate, 1, PCPU_10=1)
        self.publish(state)
        self.assertEqual({}, self.reserved(1))
        self.allocate(1, PCPU_10=1)

    def test_owner_nobody_can_name(self):
        """An emulator's pCPU: counted, and no free one can be named."""
        self.publish(occupied=lambda: manual.Occupied(
            {0: {'a': reserved_mod.Owned(frozenset({2}))}}, {0: 1}))
        self.assertEqual(
            {'PCPU': 2, **{f'PCPU_{p}': 1 for p in range(2, 8)}},
            self.reserved(0))
        self.allocate(0, PCPU=4)

    def test_somebody_else_writes_in_between(self):
        self.publish()
        meddled = []

        def late(uuid, generation, records, put=(
                self.placement.put_inventories)):
            # After it was read, before it is written.
            if len(meddled) < 3:
                meddled.append(self.allocate(0, PCPU=1))
            return put(uuid, generation, records)

        self.placement.put_inventories = late
        self.publish(occupied=lambda: manual.Occupied(
            {0: {'a': reserved_mod.Owned(frozenset({2}))}}))
        self.assertEqual(3, len(meddled))
        self.assertEqual({'PCPU': 1, 'PCPU_2': 1}, self.reserved(0))

    def test_gives_up_in_words(self):
        self.publish()

        def always(uuid, generation, *record, put=(
                self.placement.put_inventory)):
            return put(uuid, generation - 1, *record)

        self.placement.put_inventory = always
        error = self.assertRaises(
            exception.Conflict, self.publish, usable(host(memory_mib=4096)))
        self.assertEqual('placement.concurrent_update', error.code)
        self.assertIn('resource provider generation conflict', str(error))

    def test_no_such_host(self):
        error = self.assertRaises(exception.NotFound, self.placement.root,
                                  'nowhere')
        self.assertIn("no host 'nowhere'", str(error))


class ChangeTest(Base):
    """The host is not what it was."""

    def test_sets_change(self):
        self.publish()
        self.publish(usable(host(), shared='0-3,8-9', dedicated='4-7,10-15'))
        self.assertEqual(
            (4, 16), (self.totals(0)['PCPU'], self.totals(0)['VCPU']))
        self.assertNotIn('PCPU_2', self.totals(0))

    def test_core_goes_offline_and_comes_back(self):
        self.publish()
        before = self.placement.traits(naming.provider_uuid(self.root, 1))
        done = self.publish(usable(host(offline={12})))
        self.assertEqual(2, len(done.written), done)
        self.assertEqual(4, self.totals(1)['PCPU'])
        self.publish()
        self.assertEqual(6, self.totals(1)['PCPU'])
        self.assertEqual(before, self.placement.traits(
            naming.provider_uuid(self.root, 1)))

    def test_memory_is_added(self):
        self.publish()
        done = self.publish(usable(host(memory_mib=16384)))
        self.assertEqual(2, len(done.written), done)
        self.assertEqual(15360, self.totals(0)['MEMORY_MB'])

    def test_node_is_gone(self):
        self.publish()
        done = self.publish(usable(host(nodes=1)))
        self.assertIn(f'{self.name}_KONGMING_NODE1 deleted', done.written)
        self.assertEqual([f'{self.name}_KONGMING_NODE0'], self.nodes())

    def test_gone_but_allocated(self):
        """It says whose, gives out nothing of it, and goes when it is free."""
        self.publish()
        consumer = self.allocate(1, PCPU=2, PCPU_12=1)
        names = manual.Occupied(names={consumer: 'server du-1'})
        done = self.publish(usable(host(nodes=1)), lambda: names)
        self.assertEqual(
            (f'{self.name}_KONGMING_NODE1 has no {PREFIX}PCPU, '
             f'{PREFIX}PCPU_12 any more, but server du-1 has it allocated; '
             f'nothing of it is given out until it is free',), done.in_use)
        self.assertEqual({'PCPU': 6, 'PCPU_12': 1}, self.reserved(1))
        self.assertRaises(exception.Conflict, self.allocate, 1, PCPU=1)
        # The rest of the host is published all the same.
        self.assertEqual(6, self.totals(0)['PCPU'])
        self.free(consumer)
        self.publish(usable(host(nodes=1)))
        self.assertEqual([f'{self.name}_KONGMING_NODE0'], self.nodes())


class UnpublishTest(Base):

    def unpublish(self, **kwargs):
        return manual.unpublish(self.placement, self.root,
                                'server {}'.format, **kwargs)

    def test_leaves_nova_as_it_was(self):
        self.publish()
        self.assertEqual(2, len(self.unpublish(dry_run=True).written))
        self.assertEqual(2, len(self.nodes()))
        self.assertEqual(2, len(self.unpublish().written))
        self.assertEqual(self.native, self.placement.inventories(self.root))
        self.assertEqual(1, len(self.placement.providers(
            in_tree=self.root)))
        self.assertEqual((), self.unpublish().written)

    def test_refuses_while_allocated(self):
        self.publish()
        consumer = self.allocate(1, PCPU_12=1)
        error = self.assertRaises(exception.InUse, self.unpublish)
        self.assertIn(f'server {consumer}', str(error))
        self.assertEqual(2, len(self.nodes()))
        self.free(consumer)
        self.unpublish()

    def test_unhook(self):
        """What Nova has on it stays, and who comes between is no harm."""
        nova = {'COMPUTE_NODE', 'HW_CPU_X86_AVX2'}
        generation, _records = self.placement.inventories(self.root)
        self.placement.put_traits(self.root, generation,
                                  {*nova, inventory.TRAIT_HOOK})
        put, done = self.placement.put_traits, []

        def late(uuid_, generation, traits):
            if not done:
                done.append(self.placement.put_aggregates(
                    uuid_, generation, [str(uuid.uuid4())]))
            return put(uuid_, generation, traits)

        self.placement.put_traits = late
        words = (f'trait {inventory.TRAIT_HOOK} removed',)
        for dry_run in True, False:
            self.assertEqual(words, manual.unhook(
                self.placement, self.root, dry_run).written)
        self.assertEqual(nova, self.placement.traits(self.root))
        self.assertEqual((), manual.unhook(
            self.placement, self.root).written)


class ReallocateTest(Base):
    """A server's allocations after it was moved."""

    def move(self, wanted):
        """:param wanted: consumer -> provider's uuid -> class -> amount"""
        body = {}
        for consumer, resources in wanted.items():
            body[consumer] = {
                **self.placement.allocations_of(consumer),
                'allocations': {uuid_: {'resources': amounts}
                                for uuid_, amounts in resources.items()}}
        self.placement.reallocate(body)

    def test_follow(self):
        self.publish()
        first, second = (naming.provider_uuid(self.root, node)
                         for node in (0, 1))
        consumer = self.allocate(0, PCPU=2, PCPU_2=1, PCPU_3=1, MEMORY_MB=64)
        owned = {second: reserved_mod.Owned(frozenset({10, 13}),
                                            memory_mib=64)}
        self.move({consumer: reserved_mod.allocated(owned, {10, 13})})
        self.assertEqual({}, self.placement.allocations(first))
        self.assertEqual(
            {f'{PREFIX}PCPU': 2, f'{PREFIX}PCPU_10': 1, f'{PREFIX}PCPU_13': 1,
             f'{PREFIX}MEMORY_MB': 64},
            self.placement.allocations(second)[consumer])
        self.allocate(0, PCPU_2=1)

    def test_two_swap_at_once(self):
        self.publish()
        node = naming.provider_uuid(self.root, 0)
        one, two = self.allocate(0, PCPU_2=1), self.allocate(0, PCPU_3=1)
        self.move({one: {node: {f'{PREFIX}PCPU_3': 1}},
                   two: {node: {f'{PREFIX}PCPU_2': 1}}})
        self.assertEqual(
            {one: {f'{PREFIX}PCPU_3': 1}, two: {f'{PREFIX}PCPU_2': 1}},
            self.placement.allocations(node))

    def test_changed_by_somebody_else_meanwhile(self):
        self.publish()
        node = naming.provider_uuid(self.root, 0)
        consumer = self.allocate(0, PCPU_2=1)
        stale = self.placement.allocations_of(consumer)
        self.move({consumer: {node: {f'{PREFIX}PCPU_5': 1}}})
        error = self.assertRaises(
            exception.Conflict, self.placement.reallocate, {consumer: stale})
        self.assertEqual('placement.concurrent_update', error.code)
        self.assertEqual({f'{PREFIX}PCPU_5': 1},
                         self.placement.allocations(node)[consumer])

    def test_withdraw(self):
        """What it has elsewhere stays, and it costs one write."""
        self.publish()
        first, second = (naming.provider_uuid(self.root, node)
                         for node in (0, 1))
        consumer = self.allocate(0, PCPU=1)
        self.move({consumer: {first: {inventory.PCPU: 1},
                              second: {inventory.PCPU: 2}}})
        self.placement.withdraw(consumer, {first})
        self.assertEqual({}, self.placement.allocations(first))
        self.assertEqual({consumer: {inventory.PCPU: 2}},
                         self.placement.allocations(second))
        self.requests.clear()
        self.placement.withdraw(consumer, {first})
        self.placement.withdraw(str(uuid.uuid4()), {first})
        self.assertEqual(['GET', 'GET'],
                         [method for method, _path in self.requests])
        self.placement.withdraw(consumer, {first, second})
        self.assertEqual({}, self.placement.allocations(second))
