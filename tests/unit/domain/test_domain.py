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

from xml.etree import ElementTree

from kongming.domain import domain
from kongming.kernel import process
from kongming.live import threads
from tests import base

XML = """
<domain type='kvm' id='7'>
  <name>instance-00000001</name>
  <uuid>bd2b93bd-d500-4b2d-a266-51b7a64d29dc</uuid>
  <metadata>
    <x:other xmlns:x='http://example.org/x'><x:y/></x:other>
    <nova:instance xmlns:nova="http://openstack.org/xmlns/libvirt/nova/1.1">
      <nova:name>du-1</nova:name>
      <nova:flavor name="nfv.l" id="05c82343-a98c-40bc-bb13-107a26a13c94">
        <nova:vcpus>4</nova:vcpus>
        <nova:extraSpecs>
          <nova:extraSpec name="hw:cpu_policy">mixed</nova:extraSpec>
          <nova:extraSpec name="hw:cpu_dedicated_mask">0-1</nova:extraSpec>
          <nova:extraSpec name="kongming:pin.0">0:5</nova:extraSpec>
        </nova:extraSpecs>
      </nova:flavor>
      <nova:image uuid="9f62bafb-c942-4b6c-8973-7626a266ce7d">
        <nova:properties>
          <nova:property name="hw_cpu_thread_policy">isolate</nova:property>
          <nova:property name="hw_cpu_policy">dedicated</nova:property>
        </nova:properties>
      </nova:image>
    </nova:instance>
  </metadata>
  <memory unit='KiB'>2097152</memory>
  <vcpu placement='static' cpuset='0-7'>4</vcpu>
  <iothreads>2</iothreads>
  <iothreadids><iothread id='1'/><iothread id='4'/></iothreadids>
  <cputune>
    <vcpupin vcpu='0' cpuset='5'/>
    <vcpupin vcpu='1' cpuset='1,6-7'/>
    <emulatorpin cpuset='0'/>
    <iothreadpin iothread='4' cpuset='2'/>
    <vcpusched vcpus='0-1' scheduler='fifo' priority='3'/>
  </cputune>
  <numatune>
    <memory mode='restrictive' nodeset='0-1'/>
    <memnode cellid='0' mode='strict' nodeset='0'/>
    <memnode cellid='1' mode='strict' nodeset='1'/>
  </numatune>
  <cpu>
    <numa>
      <cell id='0' cpus='0-1' memory='1048576' unit='KiB'/>
      <cell id='1' cpus='2-3' memory='1048576' unit='KiB'/>
    </numa>
  </cpu>
</domain>
"""


def pcpus(*ids):
    return frozenset(ids)


class ParseTest(base.TestCase):

    def test_whole(self):
        found = domain.parse(XML)
        self.assertEqual(('instance-00000001', 4), (found.name, found.vcpus))
        self.assertEqual((pcpus(0, 1), pcpus(2, 3)), found.cells)
        self.assertEqual((1048576, 1048576), found.memory_kib)
        self.assertEqual(pcpus(1, 4), found.iothreads)
        self.assertEqual(threads.Threads(
            {0: pcpus(5), 1: pcpus(1, 6, 7)}, pcpus(0), {4: pcpus(2)},
            dict.fromkeys((0, 1), threads.Sched('fifo', 3))), found.pins)
        self.assertEqual(('restrictive', pcpus(0, 1)),
                         (found.mode, found.nodes))
        self.assertEqual({0: pcpus(0), 1: pcpus(1)}, found.memnodes)

    def test_intended(self):
        """What has no pin of its own follows the domain's cpuset."""
        found = domain.parse(XML)
        everywhere = frozenset(range(8))
        for kind, number, expected in (
                (domain.VCPU, 0, pcpus(5)), (domain.VCPU, 2, everywhere),
                (domain.IOTHREAD, 4, pcpus(2)),
                (domain.IOTHREAD, 1, everywhere),
                (domain.EMULATOR, 0, pcpus(0))):
            self.assertEqual(expected, found.intended(kind, number))

    def test_server(self):
        """The flavor before the image, as Nova has it."""
        flavor = domain.parse(XML).flavor
        self.assertEqual('du-1', flavor.server)
        cell, = flavor.guest.cells
        self.assertEqual((pcpus(0, 1), pcpus(2, 3)),
                         (cell.dedicated, cell.shared))
        self.assertEqual('isolate', flavor.guest.thread_policy)
        self.assertEqual('0:5', flavor.specs['kongming:pin.0'])

    def test_without_devices(self):
        found = domain.parse('<domain><name>a</name><uuid>u</uuid>'
                             '<memory unit="KiB">64</memory>'
                             '<vcpu>2</vcpu></domain>')
        self.assertEqual(domain.Domain('a', 'u', 2, (pcpus(0, 1),),
                                       memory_kib=(64,)), found)
        self.assertIsNone(found.intended(domain.VCPU, 0))


class SchedTest(base.TestCase):

    def test_written_and_read(self):
        wanted = {0: threads.Sched('batch'), 3: threads.Sched('rr', 9)}
        xml = domain.with_sched(XML, wanted)
        found = domain.parse(xml)
        self.assertEqual(wanted, found.pins.sched)
        self.assertEqual(domain.parse(XML).pins.vcpus, found.pins.vcpus)
        # What is others' reads as before.
        for text in ('<nova:name>du-1', 'xmlns:x="http://example.org/x"',
                     '<x:y />'):
            self.assertIn(text, xml)
        self.assertEqual({}, domain.parse(
            domain.with_sched(xml, {})).pins.sched)

    def test_without_cputune(self):
        xml = domain.with_sched('<domain><vcpu>1</vcpu></domain>',
                                {0: threads.Sched('idle')})
        self.assertEqual('idle', ElementTree.fromstring(xml).find(
            './cputune/vcpusched').get('scheduler'))


class NodesTest(base.TestCase):

    XML = ('<domain><numatune><memory mode="strict" nodeset="0-1" />'
           '<memnode cellid="0" mode="strict" nodeset="0" />'
           '<memnode cellid="1" mode="strict" nodeset="1" /></numatune>'
           '</domain>')

    def test_each_cell(self):
        found = domain.parse(domain.with_nodes(self.XML, (1, 3)))
        self.assertEqual((pcpus(1, 3), {0: pcpus(1), 1: pcpus(3)}),
                         (found.nodes, dict(found.memnodes)))
        self.assertEqual('strict', found.mode)

    def test_nothing_to_change(self):
        self.assertIsNone(domain.with_nodes(self.XML, (0, 1)))
        self.assertIsNone(domain.with_nodes('<domain/>', (0, 1)))

    def test_without_cells(self):
        xml = ('<domain><numatune><memory mode="restrictive" nodeset="0" />'
               '</numatune></domain>')
        self.assertEqual(xml.replace('"0"', '"2"'),
                         domain.with_nodes(xml, (2,)))


MAPS = """\
55bfa471f000-55bfa4b1f000 rw-p 00000000 00:00 0     [heap]
7f0000000000-7f0004000000 rw-p 00000000 00:00 0
7f1000000000-7f1010000000 rwxp 00000000 00:00 0
7f2000000000-7f2000100000 rw-p 00000000 00:00 0
7f3000000000-7f3008000000 r-xp 00000000 08:01 99  /usr/bin/qemu
7f4000000000-7f4004000000 rw-s 00000000 00:21 12  /memfd:ram (deleted)
7f5000000000-7f5004000000 rw-p 00000000 00:00 0
"""
NUMA_MAPS = """\
55bfa471f000 default heap anon=995 dirty=995 N1=995 kernelpagesize_kB=4
7f0000000000 default anon=300 dirty=300 N0=256 N1=44 kernelpagesize_kB=4
7f1000000000 default anon=900 dirty=900 N1=900 kernelpagesize_kB=4
7f2000000000 default anon=200 dirty=200 N1=200 kernelpagesize_kB=4
7f3000000000 default file=/usr/bin/qemu mapped=999 N1=999 kernelpagesize_kB=4
7f4000000000 bind:0-1 file=/memfd:ram\\040(deleted) huge dirty=32 N1=32 \
kernelpagesize_kB=2048
7f5000000000 prefer:0 anon=1 dirty=1 N0=1 kernelpagesize_kB=4
"""


class RamTest(base.TestCase):

    def test_what_is_the_guests(self):
        """64 MiB each; code, heap and what is small is QEMU's own."""
        self.assertEqual(
            [domain.Ram(None, {0: 1024, 1: 176}),
             domain.Ram(pcpus(0, 1), {1: 65536}), domain.Ram(None, {0: 4})],
            process.parse_ram(MAPS, NUMA_MAPS, 65536))

    def test_bound_whatever_its_size(self):
        self.assertEqual(
            [domain.Ram(pcpus(0, 1), {1: 65536})],
            process.parse_ram(MAPS, NUMA_MAPS, 2 ** 30))
