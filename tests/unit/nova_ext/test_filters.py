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

"""What the filter passes, and what it writes into the candidates."""

import copy
import logging
import types

import fixtures

from kongming.placement import inventory
from kongming.placement import naming
from nova import objects
from nova_ext import filters
from nova_ext.private import check
from nova_ext.private import installed
from nova_ext.private import symbols
from nova_ext import stats
from tests import base
from tests.unit.nova_ext import taking

objects.register_all()
HOST = '5ed6eb37-3f2f-4f38-8f7e-0a4a6d0f6a11'
NODES = [naming.provider_uuid(HOST, number) for number in (0, 1)]
OBEYS = stats.report(stats.Reported(
    frozenset({stats.BOOT}), frozenset({0, 1})))
ROOT = {'allocations': {HOST: {'resources': {'PCPU': 2}}}, 'mappings': {}}


def topology(taken=()):
    """2 nodes x 4 pCPUs."""
    return objects.NUMATopology(cells=[objects.NUMACell(
        id=node, cpuset=set(), pcpuset=set(range(4 * node, 4 * node + 4)),
        memory=4096, cpu_usage=0, memory_usage=0, mempages=[],
        siblings=[{4 * node, 4 * node + 1}, {4 * node + 2, 4 * node + 3}],
        pinned_cpus={pcpu for pcpu in taken if pcpu // 4 == node})
        for node in (0, 1)])


def host(name='compute1', taken=(), reported=OBEYS, **more):
    found = types.SimpleNamespace(
        host=name, uuid=HOST, stats=dict(reported), num_instances=0,
        numa_topology=topology(taken), cpu_allocation_ratio=1.0,
        ram_allocation_ratio=1.0, allocation_candidates=[
            copy.deepcopy(ROOT)])
    vars(found).update(more)
    return found


def request(specs, vcpus=2):
    specs = {'hw:cpu_policy': 'dedicated',
             **{f'kongming:{key}': value for key, value in specs.items()}}
    return objects.RequestSpec(
        instance_uuid=HOST, scheduler_hints={},
        flavor=objects.Flavor(name='f', extra_specs=specs),
        numa_topology=objects.InstanceNUMATopology(
            emulator_threads_policy=None, cells=[objects.InstanceNUMACell(
                id=0, cpuset=set(), pcpuset=set(range(vcpus)), memory=64,
                cpu_policy='dedicated', cpu_thread_policy=None,
                pagesize=None)]))


class FilterTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.log = self.useFixture(fixtures.FakeLogger(
            'nova_ext.filters', level=logging.INFO))

    def passed(self, hosts, asked):
        return [each.host for each in
                filters.KongmingFilter().filter_all(hosts, asked)]

    def claimed(self, candidate):
        return {node: candidate['allocations'][uuid]['resources']
                for node, uuid in enumerate(NODES)
                if uuid in candidate['allocations']}

    def test_named_pcpus_are_claimed(self):
        found = host()
        self.assertEqual(['compute1'], self.passed(
            [found], request({'pin.0': '0:5'})))
        candidate, = found.allocation_candidates
        self.assertEqual({1: {
            inventory.PCPU: 2, inventory.MEMORY_MB: 64,
            inventory.pcpu_class(5): 1}}, self.claimed(candidate))
        self.assertEqual({'PCPU': 2},
                         candidate['allocations'][HOST]['resources'])

    def test_what_is_open_is_not_claimed(self):
        found = host()
        self.passed([found], request({'qos': '0:weight=200'}))
        self.assertEqual([ROOT], found.allocation_candidates)

    def test_a_host_without_a_numa_topology(self):
        self.assertEqual([], self.passed(
            [host(numa_topology=None)], request({'pin.0': '0:5'})))
        self.assertIn('the host reports no NUMA topology', self.log.output)

    def test_no_candidate_is_left(self):
        self.assertEqual([], self.passed(
            [host(allocation_candidates=[])], request({'pin.0': '0:5'})))
        self.assertIn('Placement left no allocation candidate',
                      self.log.output)

    def test_candidates_of_others_stay(self):
        """A scheduler may hand one list to several hosts."""
        shared = [copy.deepcopy(ROOT), copy.deepcopy(ROOT)]
        found = host(allocation_candidates=shared)
        self.passed([found], request({'pin.0': '0:5'}))
        self.assertEqual([ROOT, ROOT], shared)
        self.assertEqual(2, len(found.allocation_candidates))

    def test_what_it_wrote_itself_is_taken_out(self):
        found = host()
        found.allocation_candidates[0]['allocations'][NODES[0]] = {
            'resources': {inventory.PCPU: 9}}
        self.passed([found], request({'pin.0': '0:5'}))
        candidate, = found.allocation_candidates
        self.assertEqual({1}, set(self.claimed(candidate)))

    def test_not_where_it_is_not_published(self):
        for published in ((), (0,)):
            found = host(reported=stats.report(stats.Reported(
                frozenset({stats.BOOT}), frozenset(published))))
            self.assertEqual(['compute1'], self.passed(
                [found], request({'pin.0': '0:5'})))
            self.assertEqual([ROOT], found.allocation_candidates)

    def test_nova_looks_different(self):
        symbol = next(each for each in symbols.SYMBOLS
                      if each.need == check.SCHEDULER)
        with taking.taken_away(symbol):
            installed.differences.cache_clear()
            filters.KongmingFilter()
        installed.differences.cache_clear()
        self.assertIn('Servers with a template may be refused or misplaced: '
                      'the installed Nova has parts that look different',
                      self.log.output)

    def test_a_host_without_the_hook(self):
        self.assertEqual([], self.passed(
            [host(reported={})], request({'pin.0': '0:5'})))
        self.assertIn('1: its nova-compute obeys no templates',
                      self.log.output)

    def test_a_pcpu_of_two_nodes(self):
        """As Linux with numa=fake tells of them."""
        fake = topology()
        fake.cells[1].pcpuset = {3, 4, 5, 6}
        self.assertEqual(['compute2'], self.passed(
            [host(numa_topology=fake), host('compute2')],
            request({'pin.0': '0:5'})))
        self.assertIn('pCPU 3 is on node 0 and on node 1', self.log.output)

    def test_never_given(self):
        found = host(reported=stats.report(stats.Reported(
            frozenset({stats.BOOT}), frozenset({0, 1}), frozenset({5}))))
        self.assertEqual([], self.passed([found], request({'pin.0': '0:5'})))

    def test_one_line_a_request(self):
        self.assertEqual(['c'], self.passed(
            [host('a', {5}), host('b', {5}), host('c'),
             host('d', {*range(8)}), host('e', reported={})],
            request({'pin.0': '0:5'})))
        line, = self.log.output.splitlines()
        self.assertIn('The template fits on 1 of 5 hosts; 3: a pCPU that the '
                      'template names is not to be had (a: node 0: pCPU 5 ',
                      line)
        self.assertIn('1: its nova-compute obeys no templates (e)', line)

    def test_owners_that_may_be_about_to_leave(self):
        """Nova's own choice for a server that boots, until it is swapped."""
        asked = request({'pin.0': '0:5'})
        self.assertEqual([], self.passed([host(taken={5})], asked))
        booting = {**OBEYS, 'num_vm_building': '1'}
        found = host(taken={5}, reported=booting)
        self.assertEqual(['compute1'], self.passed([found], asked))
        # Placement decides who has it.
        self.assertIn(inventory.pcpu_class(5), self.claimed(
            found.allocation_candidates[0])[1])
        # It does not know of what is not published.
        self.assertEqual([], self.passed([host(taken={5}, reported={
            **booting, 'kongming_published': '0'})], asked))

    def test_servers_of_one_request_beside_each_other(self):
        """Nova counts them where its own fitter would have put them."""
        found, asked = host(), request({'qos': '0:weight=200'})
        for count in range(4):
            found.num_instances = count
            self.assertEqual(['compute1'], self.passed([found], asked))
        found.num_instances = 4
        self.assertEqual([], self.passed([found], asked))

    def test_not_chosen_nothing_is_beside(self):
        found, asked = host(), request({'qos': '0:weight=200'}, vcpus=4)
        for _again in range(3):
            self.assertEqual(['compute1'], self.passed([found], asked))

    def test_cells_that_nova_takes_for_one_another(self):
        """Its NUMATopologyFilter would let pass what its claim can't be."""
        def cells(n_nodes, taken):
            return objects.NUMATopology(cells=[objects.NUMACell(
                id=node, cpuset=set(),
                pcpuset=set(range(4 * node, 4 * node + 4)), memory=4096,
                cpu_usage=0, memory_usage=0, mempages=[],
                siblings=[{pcpu} for pcpu in range(4 * node, 4 * node + 4)],
                pinned_cpus={pcpu for pcpu in taken if pcpu // 4 == node})
                for node in range(n_nodes)])

        asked = request({'node.2': '1'}, 6)
        sizes = ({0}, {1}, {2, 3, 4, 5})
        asked.numa_topology = objects.InstanceNUMATopology(
            emulator_threads_policy=None, cells=[objects.InstanceNUMACell(
                id=number, cpuset=set(), pcpuset=vcpus, memory=64,
                cpu_policy='dedicated', cpu_thread_policy=None, pagesize=None)
                for number, vcpus in enumerate(sizes)])
        asked.pci_requests = None
        reported = stats.report(stats.Reported(
            frozenset({stats.BOOT}), frozenset(range(4))))
        found = host(numa_topology=cells(4, (0, 12)), reported=reported,
                     pci_stats=None)
        self.assertEqual([], self.passed([found], asked))
        self.assertIn('gives cell 0 pCPUs of another node', self.log.output)
        self.assertEqual(['compute1'], self.passed([host(
            numa_topology=cells(4, ()), reported=reported, pci_stats=None)],
            asked))

    def test_without_a_template(self):
        hosts = [host(reported={})]
        asked = request({})
        self.assertIs(hosts, filters.KongmingFilter().filter_all(
            hosts, asked))
