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

from kongming import exception
from kongming.host import capabilities
from kongming.host import topology
from tests import base

# Two nodes with CPUs and memory, SMT siblings 8 apart, one CPU offline; node
# 2 has memory only (CXL), node 5 CPUs only.
CAPABILITIES = """
<capabilities><host>
  <topology><cells num='4'>
    <cell id='1'>
      <memory unit='KiB'>8388608</memory>
      <pages unit='KiB' size='4'>1048576</pages>
      <pages unit='KiB' size='2048'>512</pages>
      <distances><sibling id='0' value='21'/><sibling id='1' value='10'/>
      </distances>
      <cpus num='4'>
        <cpu id='2' socket_id='1' die_id='0' core_id='0' siblings='2,10'/>
        <cpu id='3'/>
        <cpu id='10' socket_id='1' die_id='0' core_id='0' siblings='2,10'/>
        <cpu id='11' socket_id='1' die_id='0' core_id='1' siblings='11'/>
      </cpus>
    </cell>
    <cell id='0'>
      <memory unit='KiB'>4194304</memory>
      <distances><sibling id='0' value='10'/><sibling id='1' value='21'/>
      </distances>
      <cpus num='4'>
        <cpu id='9' socket_id='0' core_id='1' siblings='1,9'/>
        <cpu id='0' socket_id='0' core_id='0' siblings='0,8'/>
        <cpu id='1' socket_id='0' core_id='1' siblings='1,9'/>
        <cpu id='8' socket_id='0' core_id='0' siblings='0,8'/>
      </cpus>
    </cell>
    <cell id='2'><memory unit='KiB'>1048576</memory><cpus num='0'/></cell>
    <cell id='5'>
      <cpus num='1'><cpu id='12' socket_id='2' core_id='0' siblings='12'/>
      </cpus>
    </cell>
  </cells></topology>
  <cache>
    <bank id='0' level='3' type='both' size='32' unit='MiB' cpus='0-1,8-9'/>
    <bank id='7' level='3' type='both' size='32' unit='MiB' cpus='2-3,10-11'/>
    <bank id='0' level='2' type='both' size='1' unit='MiB' cpus='2-3'/>
  </cache>
</host></capabilities>
"""


class CapabilitiesTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.host = capabilities.parse(CAPABILITIES)

    def test_nodes_ascend_whatever_their_order(self):
        self.assertEqual((0, 1, 2, 5), self.host.node_ids())

    def test_cores_are_counted_by_their_lowest_pcpu(self):
        self.assertEqual(((0, 8), (1, 9)), self.host.cores_on(0))
        self.assertIsNone(self.host.cores_on(3))

    def test_offline_pcpu_is_in_no_core(self):
        node = self.host.node(1)
        self.assertEqual(frozenset({3}), node.offline)
        self.assertEqual(((2, 10), (11,)), self.host.cores_on(1))
        self.assertIsNone(self.host.node_of(3))

    def test_socket_and_l3(self):
        self.assertEqual((1, 7), (self.host.core_of(10).socket,
                                  self.host.core_of(10).l3))
        self.assertIsNone(self.host.core_of(12).l3)

    def test_memory_pages_distances(self):
        node = self.host.node(1)
        self.assertEqual(8192, node.memory_mib)
        self.assertEqual({4: 1048576, 2048: 512}, dict(node.pages))
        self.assertEqual({0: 21, 1: 10}, dict(node.distances))

    def test_nodes_without_cpus_or_without_memory(self):
        self.assertEqual((), self.host.cores_on(2))
        self.assertEqual(1024, self.host.node(2).memory_mib)
        self.assertEqual(0, self.host.node(5).memory_mib)
        self.assertEqual(5, self.host.node_of(12).id)

    def test_restricted_host_counts_what_is_left(self):
        host = self.host.restricted_to({1, 8, 9, 11})
        self.assertEqual(((1, 9), (8,)), host.cores_on(0))
        self.assertEqual(((11,),), host.cores_on(1))

    def test_no_xml(self):
        self.assertRaisesRegex(exception.InvalidTopology, 'not XML',
                               capabilities.parse, '<host>')

    def test_no_cells(self):
        self.assertRaisesRegex(exception.InvalidTopology, 'no host/topology',
                               capabilities.parse, '<host/>')

    def test_bad_unit_is_named(self):
        self.assertRaisesRegex(
            exception.InvalidTopology, "unknown unit 'PiB'",
            capabilities.parse,
            CAPABILITIES.replace("memory unit='KiB'>4", "memory unit='PiB'>4"))

    def test_pcpu_on_two_nodes(self):
        nodes = [topology.Node(n, (topology.Core((4,)),)) for n in (0, 1)]
        self.assertRaisesRegex(
            exception.InvalidTopology, 'pCPU 4 is on node 0 and on node 1',
            topology.Host, tuple(nodes))


class CpuListTest(base.TestCase):

    def test_both_ways(self):
        for text in ('0', '0-3', '0,2', '0-1,4-7,9'):
            self.assertEqual(text, topology.format_cpu_list(
                topology.parse_cpu_list(text)))

    def test_empty(self):
        self.assertEqual('', topology.format_cpu_list([]))

    def test_bad(self):
        for text in ('', 'a', '3-1', '1-', '0,,1'):
            self.assertRaises(ValueError, topology.parse_cpu_list, text)
