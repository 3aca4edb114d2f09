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

"""Hosts whose published inventory is not what they have."""

import pathlib
import uuid

from kongming import exception
from kongming.host import capabilities
from kongming.host import topology
from kongming.host import usage
from kongming.libvirt import memory
from kongming.placement import inventory
from kongming.placement import reserved
from kongming.resctrl import schemata
from tests import base
from tests import machines

COMPUTE = str(uuid.UUID(int=1))
#: Two nodes of 64 GiB, half of each in pages of 512 MiB; small pages have
#: 64 KiB.
ARM_64K_PAGES = (pathlib.Path(__file__).parents[2] / 'data' / 'cases'
                 / 'caps-arm64k.xml').read_text(encoding='utf-8')


class PagesTest(base.TestCase):

    def setUp(self):
        super().setUp()
        host = usage.of_host(
            capabilities.parse(ARM_64K_PAGES),
            topology.parse_cpu_list('4-79'), topology.parse_cpu_list('0-3'))
        self.providers = inventory.build('arm', COMPUTE, host,
                                         inventory.Ratios())

    def test_huge_pages_of_any_size_are_no_small_memory(self):
        self.assertEqual([32768, 32768], [
            provider.inventory[inventory.MEMORY_MB]['total']
            for provider in self.providers])

    def test_pages_are_read_back_as_the_host_has_them(self):
        host = inventory.read((provider.inventory, provider.traits, {})
                              for provider in self.providers)
        self.assertEqual([{64: 524288, 524288: 64}] * 2, [
            {pages.size_kib: pages.total for pages in node.pages
             if pages.total} for node in host.nodes])


class AllocationRatioTest(base.TestCase):
    """A native vCPU floats over shared pCPUs, cpu_allocation_ratio is 16."""

    def child(self, shared):
        node = usage.NodeState(
            0, frozenset(range(8, 16)), shared=frozenset(range(shared)),
            siblings=[(p,) for p in range(16)], memory_mib=1024,
            shared_used=1)
        found, = inventory.build(
            'h', COMPUTE, usage.HostState([node]), inventory.Ratios(cpu=16.0),
            {0: {inventory.VCPU: 1}})
        return found

    def test_one_vcpu_takes_the_place_of_one(self):
        records = [self.child(shared).inventory[inventory.VCPU]
                   for shared in (1, 2, 4)]
        self.assertEqual([15, 31, 63], [
            int((record['total'] - record['reserved'])
                * record['allocation_ratio']) for record in records])

    def test_one_vcpu_is_read_back_as_one(self):
        child = self.child(2)
        node, = inventory.read([(child.inventory, child.traits, {})]).nodes
        self.assertEqual(1, node.shared_used)


class ClassesOfServiceTest(base.TestCase):

    def test_a_node_without_cpus_has_none(self):
        """Two sockets with 8 CLOSIDs, and two nodes of CXL memory."""
        info = schemata.parse_info({'L3': {
            'num_closids': '8', 'cbm_mask': '7ff', 'min_cbm_bits': '1',
            'shareable_bits': '600'}})
        tree = schemata.Tree(
            info, {'': schemata.parse_schemata('L3:0=600;1=600\n')}, {})
        self.assertEqual({0: 4, 1: 3}, {
            node: found.closids for node, found in schemata.capacities(
                tree, {0: [0], 1: [1], 2: [], 3: []}).items()
            if found.closids})


class NamesTest(base.TestCase):
    """Placement takes 200 characters for a provider, 255 for a trait.

    Nova's report of the whole host fails where one of them is longer, and
    with it each native server's claim.
    """

    def longest(self, nodename, siblings):
        """Lengths of the longest provider name and of the longest trait."""
        nodes = [usage.NodeState(
            number, frozenset(p for core in siblings for p in core),
            siblings=siblings, memory_mib=1024) for number in range(2)]
        providers = inventory.build(nodename, COMPUTE,
                                    usage.HostState(nodes),
                                    inventory.Ratios())
        names = {provider.name for provider in providers}
        self.assertEqual(len(providers), len(names))
        return (max((len(name) for name in names), default=0),
                max((len(trait) for provider in providers
                     for trait in provider.traits), default=0))

    def test_a_host_with_a_long_fqdn(self):
        name, _trait = self.longest('x' * 190, [(0, 1)])
        self.assertLessEqual(name, 200)

    def test_a_core_of_many_threads(self):
        """128 threads of one core, less the host's own 0-3 and 64-67."""
        _name, trait = self.longest('h', [(*range(4, 64),
                                           *range(68, 128))])
        self.assertLessEqual(trait, 255)


class EachMachineTest(base.TestCase):
    """What a server has of a node's pages, whatever the sizes are."""

    def of(self, machine):
        state = machine.state()
        providers = inventory.build('h', COMPUTE, state, inventory.Ratios())
        return state, inventory.read(
            (provider.inventory, provider.traits, {})
            for provider in providers)

    def test_sizes_and_numbers_are_read_back(self):
        for machine in machines.ALL:
            state, found = self.of(machine)
            for node, back in zip(state.nodes, found.nodes):
                if not node.pages:
                    continue
                self.assertEqual(
                    {p.size_kib: p.total for p in node.pages[1:] if p.total},
                    {p.size_kib: p.total for p in back.pages[1:]}, machine)
                self.assertEqual(node.small_page_kib, back.small_page_kib)

    def test_a_server_is_accounted_by_the_size_of_its_pages(self):
        """Pages of 64 KiB are small ones on one host, huge on another."""
        node, = usage.HostState([usage.NodeState(
            0, frozenset(), memory_mib=1024, pages=[
                usage.Pages(4, 131072, 131072),
                usage.Pages(64, 8192, 8192)])]).nodes
        arm = machines.arm_64k_pages.state().nodes[0]
        for at, kib, amounts in (
                (node, 4, {'CUSTOM_KONGMING_MEMORY_MB': 512}),
                (node, 64, {'CUSTOM_KONGMING_PAGES_64K': 8192}),
                (arm, 64, {'CUSTOM_KONGMING_MEMORY_MB': 512}),
                (arm, 524288, {'CUSTOM_KONGMING_PAGES_512M': 1}),
                (arm, None, {'CUSTOM_KONGMING_MEMORY_MB': 512})):
            owned = reserved.Owned(memory_mib=512,
                                   page_kib=at.huge_page_kib(kib))
            self.assertEqual(amounts, {
                name: amount for name, amount in owned.amounts().items()
                if amount})
            full = reserved.occupied(at, {'a': owned})
            size = at.huge_page_kib(kib) or at.small_page_kib
            before, after = (
                next(p.free for p in host.pages if p.size_kib == size)
                for host in (at, full))
            self.assertEqual(512 * 1024 // size, before - after)

    def test_free_memory_is_asked_for_by_the_size_of_the_host(self):
        class Connection:
            def getCapabilities(self):
                return ARM_64K_PAGES

            def getFreePages(self, sizes, node, count):
                return {node: {size: 4096 for size in sizes}}

        def check(mib):
            memory.check_free_memory(Connection(), mib * 1024, None, 1)

        check(128)  # 4096 x 64 KiB less 128 MiB
        error = self.assertRaises(exception.InsufficientMemory, check, 129)
        self.assertIn('4096 free pages of 64 KiB', str(error))
