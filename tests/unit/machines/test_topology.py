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

"""Reading every named host, and those that contradict themselves."""

from xml.etree import ElementTree

import testtools

from kongming import exception
from kongming.host import capabilities
from tests import base
from tests import machines

#: Name -> node ids, pCPUs, threads of each core on a node: sorted, each once.
FIGURES = {
    'two_sockets_smt': ((0, 1), 96, (2,)),
    'epyc_nps4': (tuple(range(8)), 256, (2,)),
    'power_nodes_0_8': ((0, 8), 128, (4,)),
    'grace_34_nodes': (tuple(range(34)), 144, (1,)),
    'arm_64k_pages': ((0, 1), 80, (1,)),
    'cxl': ((0, 1, 2), 16, (2,)),
    'hybrid': ((0,), 32, (1, 2)),
    'memoryless_node': (tuple(range(8)), 32, (2,)),
    'big': (tuple(range(16)), 1792, (2,)),
}


@machines.on_each
class TopologyTest(base.TestCase):

    def cells(self, machine):
        return ElementTree.fromstring(machine.capabilities).findall(
            'host/topology/cells/cell')

    def test_nodes_pcpus_and_threads(self, machine):
        host = machine.host()
        self.assertEqual(FIGURES[machine.name], (
            host.node_ids(), len(host.pcpus),
            tuple(sorted({len(core.pcpus) for node in host.nodes
                          for core in node.cores}))))

    def test_each_pcpu_is_on_the_node_that_libvirt_puts_it_on(self, machine):
        host = machine.host()
        found = {int(cpu.get('id')): int(cell.get('id'))
                 for cell in self.cells(machine)
                 for cpu in cell.findall('cpus/cpu')}
        self.assertEqual(found, {
            pcpu: host.node_of(pcpu).id for pcpu in host.pcpus})

    def test_each_pcpu_is_in_one_core_with_its_siblings(self, machine):
        host = machine.host()
        cores = [core.pcpus for node in host.nodes for core in node.cores]
        self.assertEqual(sorted(host.pcpus),
                         sorted(pcpu for core in cores for pcpu in core))
        for node in host.nodes:
            self.assertEqual(sorted(core.pcpus for core in node.cores),
                             [core.pcpus for core in node.cores])
            for core in node.cores:
                for pcpu in core.pcpus:
                    self.assertEqual(core, host.core_of(pcpu))

    def test_memory_and_pages_are_those_of_the_document(self, machine):
        for cell in self.cells(machine):
            node = machine.host().node(int(cell.get('id')))
            self.assertEqual(int(cell.findtext('memory')) // 1024,
                             node.memory_mib)
            self.assertEqual({int(pages.get('size')): int(pages.text)
                              for pages in cell.findall('pages')},
                             dict(node.pages))

    def test_distances_are_of_nodes_that_are_there(self, machine):
        host = machine.host()
        for node in host.nodes:
            if node.distances:
                self.assertEqual(set(host.node_ids()), set(node.distances))
                self.assertEqual(10, node.distances[node.id])

    def test_usage_has_every_node_and_every_pcpu(self, machine):
        host, state = machine.host(), machine.state()
        self.assertEqual(list(host.node_ids()), state.node_ids())
        for node in state.nodes:
            self.assertEqual(host.node(node.id).pcpus,
                             node.dedicated | node.shared)
            self.assertFalse(node.dedicated & node.shared)
            self.assertEqual(list(host.cores_on(node.id)), node.cores())
            self.assertEqual(frozenset(), node.offline())

    def test_identity_of_a_host_is_not_in_its_document(self, machine):
        root = ElementTree.fromstring(machine.capabilities)
        self.assertLessEqual({child.tag for child in root.find('host')},
                             {'cpu', 'topology', 'cache'})


class SpecialTest(base.TestCase):
    """What the descriptions of the hosts say."""

    def test_node_ids_with_a_gap(self):
        host = machines.power_nodes_0_8.host()
        self.assertIsNone(host.node(1))
        self.assertEqual(8, host.node_of(64).id)
        self.assertEqual({0: 40, 8: 10}, dict(host.node(8).distances))

    def test_nodes_without_memory(self):
        host = machines.memoryless_node.host()
        self.assertEqual([0, 4], [node.id for node in host.nodes
                                  if node.memory_mib])
        self.assertTrue(all(node.cores for node in host.nodes))

    def test_nodes_without_cpus(self):
        self.assertEqual([2], [node.id for node in machines.cxl.host().nodes
                               if not node.cores])
        host = machines.grace_34_nodes.host()
        self.assertEqual([0, 1], [n.id for n in host.nodes if n.cores])
        self.assertEqual([0, 1, 2, 3],
                         [n.id for n in host.nodes if n.memory_mib])

    def test_smallest_pages(self):
        for machine in machines.ALL:
            large = machine in (machines.arm_64k_pages,
                                machines.grace_34_nodes,
                                machines.power_nodes_0_8)
            self.assertEqual({64 if large else 4}, {
                min(node.pages) for node in machine.host().nodes},
                machine.name)

    def test_two_caches_a_node(self):
        host = machines.epyc_nps4.host()
        for node in host.nodes:
            self.assertEqual(2, len({core.l3 for core in node.cores}))

    def test_cores_of_two_kinds(self):
        node, = machines.hybrid.host().nodes
        self.assertEqual([2] * 8 + [1] * 16,
                         [len(core.pcpus) for core in node.cores])


class InconsistentTest(base.TestCase):
    """Such a host must be neither published nor given templates: issue 2.

    A state that comes from Nova's objects is not checked yet; tests of that
    belong to whoever makes the state.
    """

    def test_cpu_of_several_nodes(self):
        with testtools.ExpectedException(
                exception.InvalidTopology,
                '.*pCPU 0 is on node 0 and on node 1'):
            capabilities.parse(machines.numa_fake.capabilities)

    def test_none_is_among_those_on_which_tests_run(self):
        for machine in machines.INCONSISTENT:
            self.assertNotIn(machine, machines.ALL)
            self.assertRaises(exception.InvalidTopology, machine.host)


class RegistryTest(base.TestCase):

    def test_every_document_has_an_entry(self):
        folder = machines.cxl.path.parent
        self.assertEqual({path.stem for path in folder.glob('*.xml')},
                         set(machines.MACHINES))

    def test_every_entry_says_what_is_special(self):
        for machine in machines.MACHINES.values():
            self.assertTrue(machine.description and machine.source)
            self.assertIs(machine, getattr(machines, machine.name))
        self.assertEqual({machine.name for machine in machines.ALL},
                         set(FIGURES))

    def test_a_test_runs_on_each_and_is_named_by_it(self):
        ran = []

        @machines.on_each
        class Case:
            def test_any(self, machine):
                """Words."""
                ran.append(machine)

            @machines.only(machines.cxl)
            def test_one(self, machine):
                ran.append(machine)

            @machines.without(machines.big, machines.cxl)
            def test_some(self, machine):
                ran.append(machine)

            def test_none(self):
                pass

            def helper(self, machine):
                pass

        names = [name for name in vars(Case) if name.startswith('test')]
        self.assertEqual({
            *(f'test_any_on_{machine.name}' for machine in machines.ALL),
            'test_one_on_cxl', 'test_none',
            *(f'test_some_on_{machine.name}' for machine in machines.ALL
              if machine not in (machines.big, machines.cxl))}, set(names))
        for name in ('test_any_on_hybrid', 'test_one_on_cxl'):
            getattr(Case(), name)()
        self.assertEqual([machines.hybrid, machines.cxl], ran)
        self.assertEqual('Words.', Case.test_any_on_big.__doc__)
