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

"""Placement never promises a pCPU that is taken, whoever took it."""

import os
import threading
import time

import fixtures

from nova.tests.fixtures import libvirt as fakelibvirt
from nova_ext.ownership import claim
from oslo_utils import importutils
from tests.functional import test_boot


class ReservedTest(test_boot.BootBase):

    def reserved(self):
        """node -> class without the prefix -> amount, nothing left out."""
        return {node: {name.removeprefix('CUSTOM_KONGMING_'): r['reserved']
                       for name, r in inventories.items() if r['reserved']}
                for node, (inventories, _usages, _t) in
                self.children().items()}

    def test_native_server_raises_reserved(self):
        self.start_host()
        native = self.boot(self._create_flavor(
            vcpu=2, memory_mb=1024, extra_spec=test_boot.PINNED))
        pins, nodes = self.pins(native)
        node, = nodes[0]
        owned = sorted(p for pcpus in pins.values() for p in pcpus)
        self.assertEqual({
            node: {'PCPU': 2, 'MEMORY_MB': 1024,
                   **{f'PCPU_{p}': 1 for p in owned}},
            1 - node: {}}, self.reserved())
        named = ' '.join(f'{v}:{p}' for v, p in enumerate(owned))
        refused = self.boot(self.flavor({'pin.0': named}), 'ERROR')
        self.assertIn('No valid host', refused['fault']['message'])

        self._delete_server(native)
        self.audit()
        self.assertEqual({0: {}, 1: {}}, self.reserved())
        self.boot(self.flavor({'pin.0': named}))

    def test_what_is_allocated_is_not_reserved_too(self):
        self.start_host()
        self.boot(self.flavor({'node.0': '1', 'pin.0': '0:15 1:12'}))
        self.audit()
        self.assertEqual({0: {}, 1: {}}, self.reserved())
        _inventories, usages, _traits = self.children()[1]
        self.assertEqual((2, 1, 1024), (
            usages['CUSTOM_KONGMING_PCPU'],
            usages['CUSTOM_KONGMING_PCPU_15'],
            usages['CUSTOM_KONGMING_MEMORY_MB']))

    def test_on_a_forced_host_it_is_reserved(self):
        """No filter runs, so nothing is claimed."""
        self.start_host()
        self.force(self.flavor({'pin.0': '0:15 1:12'}))
        self.assertEqual(
            {0: {}, 1: {'PCPU': 2, 'PCPU_12': 1, 'PCPU_15': 1,
                        'MEMORY_MB': 1024}}, self.reserved())

    def test_counted_beside_named(self):
        """A server that counts takes a pCPU that another could name."""
        self.start_host()
        counted = self.boot(self.flavor({'node.0': '1'}, vcpus=2))
        self.audit()
        pins, _nodes = self.pins(counted)
        owned = sorted(p for pcpus in pins.values() for p in pcpus)
        self.assertEqual({0: {}, 1: {f'PCPU_{p}': 1 for p in owned}},
                         self.reserved())

    def test_shared_vcpus_and_memory_of_native_servers(self):
        self.start_host()
        native = self.boot(self._create_flavor(
            vcpu=2, memory_mb=512, extra_spec={'hw:numa_nodes': '1'}))
        node, = self.pins(native)[1][0]
        # Two of 2 pCPUs x 4 (cpu_allocation_ratio) are in use.
        self.assertEqual(8, self.children()[node][0][
            'CUSTOM_KONGMING_VCPU']['total'])
        self.assertEqual({node: {'VCPU': 2, 'MEMORY_MB': 512}, 1 - node: {}},
                         self.reserved())


class FollowTest(test_boot.BootBase):
    """Inventories follow the host's configuration."""

    def total(self, node):
        return sorted(
            int(name.rpartition('_')[2])
            for name in self.children()[node][0]
            if name.startswith('CUSTOM_KONGMING_PCPU_'))

    def test_dedicated_set_shrinks_and_grows(self):
        self.start_host()
        self.flags(cpu_dedicated_set='2-5,12-15', cpu_shared_set='0-1,8-9',
                   group='compute')
        self.restart_compute_service('compute1')
        self.assertEqual(([2, 3, 4, 5], [12, 13, 14, 15]),
                         (self.total(0), self.total(1)))
        self.flags(cpu_dedicated_set=self.DEDICATED, group='compute')
        self.restart_compute_service('compute1')
        self.assertEqual(([2, 3, 4, 5, 6, 7], [10, 11, 12, 13, 14, 15]),
                         (self.total(0), self.total(1)))

    def test_what_is_allocated_can_not_be_taken_away(self):
        """Native servers still boot; the class is held back until it's free.

        Placement refuses to drop a class in use, and Nova's whole update of
        the host fails with that.
        """
        self.start_host()
        mixed = self.boot(self.flavor(
            {'node.0': '1'}, vcpus=2, cpu_policy='mixed',
            cpu_dedicated_mask='0'))
        self.flags(cpu_shared_set='0-1', group='compute')
        self.restart_compute_service('compute1')
        record = self.children()[1][0]['CUSTOM_KONGMING_VCPU']
        self.assertEqual(record['total'], record['reserved'])
        self.boot(self._create_flavor(vcpu=1, memory_mb=64, disk=1,
                                      ephemeral=0, swap=0))
        self._delete_server(mixed)
        self.audit()
        self.assertNotIn('CUSTOM_KONGMING_VCPU', self.children()[1][0])

    def reshape(self, change=lambda host: None, **shape):
        """Restart nova-compute on another host with the same domains."""
        connection = self.computes['compute1'].driver._host.get_connection()
        connection.host_info = fakelibvirt.HostInfo(
            **{**self.SHAPE, **shape})
        change(connection.host_info)
        self.restart_compute_service('compute1')

    @staticmethod
    def without(*pcpus):
        def change(host):
            for cell in host.numa_topology.cells:
                cell.cpus = [cpu for cpu in cell.cpus if cpu.id not in pcpus]
                for cpu in cell.cpus:
                    cpu.siblings = set(cpu.siblings) - set(pcpus)
        return change

    def test_pcpu_goes_offline_and_comes_back(self):
        self.start_host()
        self.boot(self.flavor({'pin.0': '0:12 1:13'}))
        self.reshape(self.without(15))
        self.assertEqual([10, 11, 12, 13, 14], self.total(1))
        self.assertEqual(5, self.children()[1][0][
            'CUSTOM_KONGMING_PCPU']['total'])
        self.assertIn('CUSTOM_KONGMING_CORES_14_14_0_0_1',
                      self.children()[1][2])
        self.reshape()
        self.assertEqual([10, 11, 12, 13, 14, 15], self.total(1))

    def test_memory_is_added(self):
        self.start_host()
        before = self.children()[0][0]['CUSTOM_KONGMING_MEMORY_MB']['total']
        self.reshape(kB_mem=32 * 1024 ** 2)
        after = self.children()[0][0]['CUSTOM_KONGMING_MEMORY_MB']['total']
        self.assertGreater(after, before)
        self.boot(self.flavor({'pin.0': '0:12 1:13'}))

    def test_node_is_gone(self):
        self.flags(cpu_dedicated_set='2-7', cpu_shared_set='0-1',
                   group='compute')
        self.start_host()
        self.assertEqual({0, 1}, set(self.children()))
        self.reshape(cpu_nodes=1)
        self.assertEqual({0}, set(self.children()))
        self.boot(self.flavor({'pin.0': '0:2 1:3'}))

    def test_what_is_in_the_way_is_said_by_name(self):
        """A server's node is gone; nova-compute goes on, with the reason."""
        self.flags(cpu_dedicated_set='2-7', cpu_shared_set='0-1,8-9',
                   group='compute')
        self.start_host()
        server = self.boot(self.flavor(
            {'node.0': '1'}, vcpus=1, cpu_policy='shared', numa_nodes='1'))
        self.assertEqual(1, self.children()[1][1]['CUSTOM_KONGMING_VCPU'])
        self.flags(cpu_shared_set='0-1', group='compute')
        self.reshape(cpu_nodes=1)
        self.assertRegex(
            self.stdlog.logger.output,
            'compute1_KONGMING_NODE1 has no CUSTOM_KONGMING_MEMORY_MB, '
            'CUSTOM_KONGMING_VCPU any more, but server .* '
            fr'\({server["id"]}\) has it allocated')
        self.assertEqual([2, 3, 4, 5, 6, 7], self.total(0))
        self.boot(self.flavor({'pin.0': '0:2 1:3'}))
        self._delete_server(server)
        self.audit()
        self.assertEqual({0}, set(self.children()))

    def test_restart_changes_nothing(self):
        self.start_host()
        self.boot(self.flavor({'pin.0': '0:15 1:12'}))
        self.audit()
        before = self.children()
        self.restart_compute_service('compute1')
        self.audit()
        self.assertEqual(before, self.children())


class RaceTest(test_boot.BootBase):

    def wait_for_status(self, server):
        for _ in range(120):
            status = self.api.get_server(server['id'])['status']
            if status != 'BUILD':
                return status
            time.sleep(0.5)
        self.fail('a server was still in BUILD after a minute')

    def meet_at(self, where):
        """Two servers wait for each other before either goes on."""
        place, _dot, name = where.rpartition('.')
        real = getattr(importutils.try_import(place) or
                       importutils.import_class(place), name)
        together = threading.Barrier(2, timeout=60)

        def call(*args, **kwargs):
            together.wait()
            return real(*args, **kwargs)

        self.useFixture(fixtures.MonkeyPatch(where, call))

    def test_same_exact_pcpus_at_the_same_instant(self):
        """One wins at Placement, the others get no host; nothing leaks."""
        self.start_host()
        flavor_id = self.flavor({'pin.0': '0:15 1:12'})
        servers = [self.api.post_server({'server': self._build_server(
            flavor_id=flavor_id, networks='none')}) for _ in range(4)]
        states = [self.wait_for_status(server) for server in servers]
        self.assertEqual(['ACTIVE', 'ERROR', 'ERROR', 'ERROR'],
                         sorted(states))
        self.assertEqual({0: set(), 1: {12, 15}}, self.owned())
        for server in servers:
            self._delete_server(server)
        self.assertNothingOwned()

    def test_the_loser_gets_its_next_candidate(self):
        """Three at once for the same pCPUs on two hosts: one each."""
        self.start_host()
        self.start_host('compute2')
        flavor_id = self.flavor({'pin.0': '0:15 1:12'})
        servers = [self.api.post_server({'server': self._build_server(
            flavor_id=flavor_id, networks='none')}) for _ in range(3)]
        states = [self.wait_for_status(server) for server in servers]
        self.assertEqual(['ACTIVE', 'ACTIVE', 'ERROR'], sorted(states))
        for host in ('compute1', 'compute2'):
            self.assertEqual({0: set(), 1: {12, 15}}, self.owned(host))
        for server in servers:
            self._delete_server(server)
        self.assertNothingOwned()

    def test_named_by_one_and_claimed_by_another_that_boots(self):
        """The filter lets through what Placement gives."""
        self.start_host()
        repin, go, claimed = claim.repin, threading.Event(), []

        def wait(rt, context, claimed_server, *args):
            claimed.extend(claimed_server.topology.cpu_pinning)
            go.wait(60)
            return repin(rt, context, claimed_server, *args)

        self.useFixture(fixtures.MonkeyPatch(
            'nova_ext.ownership.claim.repin', wait))
        self.addCleanup(go.set)

        def post(pcpu):
            return self.api.post_server({'server': self._build_server(
                flavor_id=self.flavor({'pin.0': f'0:{pcpu}'}, vcpus=1),
                networks='none')})

        def wait_until(happened):
            for _ in range(600):
                if happened():
                    return
                time.sleep(0.1)
            self.fail('not so after a minute')

        first = post(15)
        wait_until(lambda: claimed)
        second = post(claimed[0])
        wait_until(lambda: len(claimed) > 1 or self.api.get_server(
            second['id'])['status'] == 'ERROR')
        go.set()
        self.assertEqual(['ACTIVE'] * 2, [
            self.wait_for_status(server) for server in (first, second)])
        self.assertEqual({15, claimed[0]}, set().union(
            *self.owned().values()))

    def test_memory_of_those_that_still_boot(self):
        """Each is claimed where the other wants to be, memory and all."""
        self.start_host()
        flavors = [self.flavor({'pin.0': f'0:{pcpu}'}, vcpus=1, memory=5120)
                   for pcpu in (10, 2)]
        for where in ('nova.compute.resource_tracker.ResourceTracker.'
                      'instance_claim', 'nova_ext.ownership.claim.repin'):
            self.meet_at(where)
        servers = [self.api.post_server({'server': self._build_server(
            flavor_id=flavor, networks='none')}) for flavor in flavors]
        self.assertEqual(['ACTIVE'] * 2, [
            self.wait_for_status(server) for server in servers])
        self.assertEqual({0: {2}, 1: {10}}, self.owned())
        self.audit()
        self.assertEqual([5120, 5120], [
            memory for _pcpus, memory in self.usage().values()])

    #: KONGMING_TEST_SERVERS=100 takes four minutes on two cores.
    MANY = int(os.environ.get('KONGMING_TEST_SERVERS', 16))

    def test_many_on_the_last_pcpus(self):
        """Twelve dedicated pCPUs, many more servers that name them."""
        self.flags(cores=-1, instances=-1, ram=-1, group='quota')
        self.flags(max_concurrent_builds=10)
        self.start_host()
        flavors = [self.flavor({'pin.0': f'0:{pcpu}'}, vcpus=1)
                   for pcpu in (*range(2, 8), *range(10, 16))]
        servers = [self.api.post_server({'server': self._build_server(
            flavor_id=flavors[number % 12], networks='none')})
            for number in range(self.MANY)]
        active = [server for server in servers
                  if self.wait_for_status(server) == 'ACTIVE']
        self.assertEqual(12, len(active))
        owners = {}
        for server in active:
            (pcpu,), = self.pins(server)[0].values()
            self.assertNotIn(pcpu, owners)
            owners[pcpu] = server['id']
        self.assertEqual(set(owners), self.owned()[0] | self.owned()[1])
        for server in servers:
            self._delete_server(server)
        self.assertNothingOwned()
