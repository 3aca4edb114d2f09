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

"""What is published in Placement, of every named host."""

import re
import uuid

from kongming.fit import demand
from kongming.fit import fit
from kongming.host import usage
from kongming.placement import cores
from kongming.placement import inventory
from kongming.placement import naming
from kongming.template import guest
from kongming.template import template
from tests import base
from tests import machines

COMPUTE = str(uuid.UUID(int=7))
#: placement/schemas/common.py and placement/schemas/inventory.py.
NAME = re.compile('CUSTOM_[A-Z0-9_]+')
MOST_LETTERS, MOST_UNITS = 255, 2147483647
#: placement/schemas/resource_provider.py.
MOST_LETTERS_OF_A_PROVIDER = 200


def build(state, **fields):
    return inventory.build('compute-1.example.org', COMPUTE, state,
                           inventory.Ratios(cpu=4.0, ram=1.5), **fields)


def read(providers, usages=()):
    """The host as a client sees it.

    :param usages: classes of which one is allocated
    """
    return inventory.read(
        (provider.inventory, provider.traits,
         {name: 1 for name in usages if name in provider.inventory})
        for provider in providers)


def total(provider, name):
    return provider.inventory.get(name, {}).get('total', 0)


@machines.on_each
class BuildTest(base.TestCase):

    def pairs(self, machine, state=None):
        """Each node of the topology with its provider."""
        providers = build(state or machine.state())
        nodes = machine.host().nodes
        self.assertEqual(len(nodes), len(providers))
        return zip(nodes, providers)

    def test_a_provider_a_node(self, machine):
        providers = build(machine.state())
        self.assertEqual(
            [f'compute-1.example.org_KONGMING_NODE{number}'
             for number in machine.host().node_ids()],
            [provider.name for provider in providers])
        self.assertEqual(len(providers),
                         len({provider.uuid for provider in providers}))
        for number, provider in zip(machine.host().node_ids(), providers):
            self.assertTrue(naming.is_ours(provider.name))
            self.assertEqual(number, inventory.node_of_traits(
                provider.traits))
            self.assertLessEqual({'HW_NUMA_ROOT', 'CUSTOM_KONGMING',
                                  'CUSTOM_OWNER_KONGMING'}, provider.traits)

    def test_pcpus_are_counted_and_named(self, machine):
        shared = machine.first_cores()
        for node, provider in self.pairs(machine):
            dedicated = node.pcpus - shared
            self.assertEqual(len(dedicated),
                             total(provider, 'CUSTOM_KONGMING_PCPU'))
            self.assertEqual(sorted(dedicated), inventory.named_pcpus(
                provider.inventory))
            self.assertEqual({1} if dedicated else set(), {
                total(provider, inventory.pcpu_class(pcpu))
                for pcpu in dedicated})
            self.assertEqual(4 * len(node.pcpus & shared),
                             total(provider, 'CUSTOM_KONGMING_VCPU'))

    def test_memory_is_what_is_no_huge_page(self, machine):
        for node, provider in self.pairs(machine):
            pages = dict(node.pages)
            small = min(pages)
            if sum(size * count for size, count in pages.items()
                   ) != node.memory_mib * 1024:
                # The memory of an accelerator: the kernel counts no pages.
                continue
            self.assertEqual(pages.pop(small) * small // 1024, total(
                provider, 'CUSTOM_KONGMING_MEMORY_MB'))

    def test_huge_pages_are_counted_by_their_size(self, machine):
        for node, provider in self.pairs(machine):
            names = {64: '64K', 2048: '2M', 524288: '512M', 1048576: '1G',
                     16777216: '16G'}
            for size in sorted(node.pages)[1:]:
                self.assertEqual(node.pages[size], total(
                    provider, f'CUSTOM_KONGMING_PAGES_{names[size]}'))

    def test_a_node_without_cpus_has_none_to_allocate(self, machine):
        for node, provider in self.pairs(machine):
            if not node.cores:
                self.assertFalse([name for name in provider.inventory
                                  if 'CPU' in name])
                self.assertEqual([], cores.cores_of_traits(
                    provider.traits))

    def test_placement_accepts_names_and_amounts(self, machine):
        for _node, provider in self.pairs(machine):
            self.assertLessEqual(len(provider.name),
                                 MOST_LETTERS_OF_A_PROVIDER)
            for name in {*provider.inventory, *provider.traits}:
                self.assertLessEqual(len(name), MOST_LETTERS)
                self.assertTrue(NAME.fullmatch(name)
                                or name == 'HW_NUMA_ROOT', name)
            for record in provider.inventory.values():
                self.assertGreater(record['allocation_ratio'], 0)
                for field in ('total', 'max_unit', 'min_unit', 'step_size'):
                    self.assertIn(record[field], range(1, MOST_UNITS + 1))
                self.assertIn(record['reserved'],
                              range(record['total'] + 1))

    def test_two_traits_give_the_cores_of_a_node(self, machine):
        """However many: traits are names that a whole cloud shares."""
        for node, provider in self.pairs(machine):
            names = [name for name in provider.traits
                     if name.startswith('CUSTOM_KONGMING_CORE')]
            self.assertLessEqual(len(names), 2)
            self.assertEqual(list(machine.host().cores_on(node.id)),
                             cores.cores_of_traits(names))

    def test_nothing_is_to_be_done_where_all_is_published(self, machine):
        providers = build(machine.state())
        plan = inventory.plan(providers, build(machine.state()),
                              lambda _uuid: set())
        self.assertEqual((tuple(providers), (), {}),
                         (plan.wanted, plan.gone, plan.in_use))


@machines.on_each
class ReadTest(base.TestCase):
    """The host that a client makes of what is published."""

    def test_the_layout_is_the_same(self, machine):
        state = machine.state()
        again = read(build(state))
        self.assertEqual(state.node_ids(), again.node_ids())
        for node, back in zip(state.nodes, again.nodes):
            self.assertEqual(
                (node.dedicated, node.shared, node.cores(),
                 node.memory_mib, set()),
                (back.dedicated, back.shared, back.cores(),
                 back.memory_mib, set(back.taken)))

    def test_what_is_allocated_is_taken(self, machine):
        pcpus = sorted(machine.host().pcpus - machine.first_cores())[::3]
        again = read(build(machine.state()),
                     [inventory.pcpu_class(pcpu) for pcpu in pcpus])
        for node in again.nodes:
            self.assertEqual(node.dedicated & set(pcpus), node.taken)

    def test_what_is_reserved_is_taken(self, machine):
        """By servers that have no allocation on it."""
        pcpus = machine.host().pcpus - machine.first_cores()
        taken = sorted(pcpus)[::2]
        reserved = {node.id: {inventory.pcpu_class(pcpu): 1
                              for pcpu in node.pcpus.intersection(taken)}
                    for node in machine.host().nodes}
        again = read(build(machine.state(), reserved=reserved))
        self.assertEqual(taken, sorted(
            pcpu for node in again.nodes for pcpu in node.taken))

    def test_pages_are_the_same(self, machine):
        state = machine.state()
        for node, back in zip(state.nodes, read(build(state)).nodes):
            if node.memory_mib and not any(
                    pages.total for pages in node.pages):
                # The memory of an accelerator: the kernel counts no pages.
                continue
            self.assertEqual(
                [tuple(pages) for pages in node.pages
                 if pages.total or pages == node.smallest],
                [tuple(pages) for pages in back.pages])

    def test_what_floats_is_counted_in_vcpus_at_any_ratio(self, machine):
        """One vCPU of a native server takes the place of one."""
        nodes = [node.holding(node.taken, shared=1) if node.shared else node
                 for node in machine.state().nodes]
        state = usage.HostState(nodes)
        for ratio in (1.0, 1.5, 3.7, 16.0):
            providers = inventory.build(
                'compute-1', COMPUTE, state, inventory.Ratios(cpu=ratio),
                {node.id: {inventory.VCPU: node.shared_used}
                 for node in nodes if node.shared})
            for node, provider in zip(nodes, providers):
                if node.shared:
                    record = provider.inventory[inventory.VCPU]
                    self.assertEqual(
                        int(len(node.shared) * ratio) - 1, int((
                            record['total'] - record['reserved'])
                            * record['allocation_ratio']))

    def test_a_fit_says_the_same(self, machine):
        """Whether and why not; a client knows no L3, so not where."""
        state = machine.state()
        again = read(build(state))
        largest = max(node.n_free for node in state.nodes)
        for node in state.nodes[:2] + state.nodes[2:][-1:]:
            for policy in (None, 'require', 'isolate'):
                for count in (1, 2, 3, largest, largest + 1):
                    asked = demand.Demand(guest.Guest((guest.Cell(
                        frozenset(range(count)), frozenset(), 64),), policy),
                        template.Template(nodes={0: node.id}))
                    one, other = (fit.fit(host, asked)
                                  for host in (state, again))
                    self.assertEqual(bool(one), bool(other),
                                     (count, policy, str(one), str(other)))
                    if not one:
                        self.assertEqual(str(one), str(other))
