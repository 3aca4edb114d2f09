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


"""The nested host is what QEMU was told, and moves memory as a host does."""

from xml.etree import ElementTree

import fixtures
import libvirt
import testtools

from kongming.host import topology
from kongming.libvirt import hypervisor
from tests.embedded import guests
from tests.nested import host

LIVE = libvirt.VIR_DOMAIN_AFFECT_LIVE


class HostTest(testtools.TestCase):

    def setUp(self):
        super().setUp()
        self.host = host.Host()
        self.shape = self.host.shape
        self.name, self.found = hypervisor.host(self.host.uri)

    def test_nodes_cores_and_distances(self):
        nodes = range(self.shape.nodes)
        self.assertEqual('nested', self.name)
        self.assertEqual(tuple(nodes), self.found.node_ids())
        for node in self.found.nodes:
            self.assertEqual(self.shape.siblings(node.id),
                             self.found.cores_on(node.id))
            self.assertEqual({other: self.shape.distance(node.id, other)
                              for other in nodes}, node.distances)

    def test_memory_and_huge_pages(self):
        for node in self.found.nodes:
            # The kernel keeps some for itself.
            self.assertLess(node.memory_mib, self.shape.node_mib + 1)
            self.assertGreater(node.memory_mib, self.shape.node_mib * 0.8)
            self.assertEqual(self.shape.huge_pages, node.pages[2048])

    def test_cgroups_are_of_the_version_that_was_asked_for(self):
        self.assertEqual(
            {'v1': 'tmpfs', 'v2': 'cgroup2fs'}[self.host.shape.cgroup],
            self.host.shell('stat -fc %T /sys/fs/cgroup').strip())

    def test_numa_balancing_is_on(self):
        self.assertEqual('1\n', self.host.shell(
            'cat /proc/sys/kernel/numa_balancing'))


class DomainBase(testtools.TestCase):
    """A guest that writes to its memory and then does nothing."""

    def setUp(self):
        super().setUp()
        self.host = host.Host()
        # libvirt prints what it also raises.
        libvirt.registerErrorHandler(lambda *_: None, None)
        self.connection = libvirt.open(self.host.uri)
        self.addCleanup(self.connection.close)
        folder = self.useFixture(
            fixtures.TempDir(rootdir=str(self.host.share))).path
        self.disk = guests.write(folder, 'dirty')

    def start(self, mode=None, node=0, huge_pages=False, wait=True):
        """Start a domain of two vCPUs.

        :param wait: until it has its memory
        """
        shape = self.host.shape
        domain = self.connection.createXML(f'''
          <domain type="qemu">
            <name>{self.id().rpartition(".")[2]}</name>
            <memory unit="MiB">64</memory>
            {"<memoryBacking><hugepages/></memoryBacking>" * huge_pages}
            <vcpu>2</vcpu>
            <cputune>
              <vcpupin vcpu="0" cpuset="{shape.pcpus(node)[0]}"/>
              <vcpupin vcpu="1" cpuset="{shape.pcpus(node)[1]}"/>
            </cputune>
            {f'<numatune><memory mode="{mode}" nodeset="{node}"/></numatune>'
             if mode else ''}
            <os><type arch="x86_64" machine="pc">hvm</type></os>
            <devices>
              <disk type="file" device="disk">
                <driver name="qemu" type="raw"/>
                <source file="{self.disk}"/>
                <target dev="vda" bus="virtio"/>
              </disk>
            </devices>
          </domain>''')
        self.addCleanup(domain.destroy)
        if wait:
            self.host.wait_for_memory(domain, guests.DIRTY_MIB)
        return domain


class DomainTest(DomainBase):

    def move(self, domain, node):
        domain.setNumaParameters({'numa_nodeset': str(node)}, LIVE)

    def assertOn(self, domain, node):
        """All pages of the guest's memory are on one node."""
        memory = self.host.memory(domain)
        self.assertEqual({node}, set(memory.pages))
        self.assertGreaterEqual(memory.mib[node], guests.DIRTY_MIB)
        return memory

    def test_strict(self):
        domain = self.start('strict')
        self.assertEqual('bind:0', self.assertOn(domain, 0).policy)
        refusal = self.assertRaises(libvirt.libvirtError, self.move,
                                    domain, 1)
        self.assertIn('requires restrictive numa mode', str(refusal))
        self.assertOn(domain, 0)

    def test_strict_on_the_other_node(self):
        self.assertEqual('bind:1', self.assertOn(
            self.start('strict', node=1), 1).policy)

    def test_restrictive_there_and_back_again(self):
        domain = self.start('restrictive')
        self.assertEqual('default', self.assertOn(domain, 0).policy)
        for node in (1, 0, 1):
            self.move(domain, node)
            self.assertOn(domain, node)
            self.assertEqual(str(node), self.host.cgroup(
                domain.name(), 'cpuset.mems'))
            nodeset = ElementTree.fromstring(domain.XMLDesc()).find(
                './numatune/memory').get('nodeset')
            self.assertEqual(str(node), nodeset)

    def test_huge_pages(self):
        domain = self.start('restrictive', huge_pages=True)
        self.assertEqual(2048, self.assertOn(domain, 0).page_kib)
        self.move(domain, 1)
        self.assertOn(domain, 1)

    def test_pins_move_threads_and_no_memory(self):
        domain = self.start('strict')
        shape = self.host.shape
        self.assertEqual({vcpu: {shape.pcpus(0)[vcpu]} for vcpu in (0, 1)},
                         self.host.threads(domain.name()))
        for vcpu in (0, 1):
            pcpu = shape.pcpus(1)[vcpu]
            domain.pinVcpuFlags(vcpu, (False,) * pcpu + (True,), LIVE)
        self.assertEqual({vcpu: {shape.pcpus(1)[vcpu]} for vcpu in (0, 1)},
                         self.host.threads(domain.name()))
        self.assertEqual(str(shape.pcpus(1)[0]), topology.format_cpu_list(
            topology.parse_cpu_list(self.host.cgroup(
                domain.name(), 'cpuset.cpus'))))
        self.assertOn(domain, 0)
