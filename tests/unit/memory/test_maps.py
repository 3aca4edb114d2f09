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

"""Cells in the kernel's texts; the first is a real process of QEMU 7.2."""

from kongming import exception
from kongming.kernel import process
from kongming.memory import maps
from tests import base

MIB = 1024

#: Two cells of 64 MiB, a video memory of 16 MiB, code and a heap.
MAPS = """\
55cdd0000000-55cdd0a00000 r-xp 00000000 08:01 131 /usr/bin/qemu-system-x86_64
55cdd2000000-55cdd2400000 rw-p 00000000 00:00 0 [heap]
7f40bfe00000-7f40c3e00000 rw-p 00000000 00:00 0
7f40c3e00000-7f40c3e01000 ---p 00000000 00:00 0
7f40c4000000-7f40c8000000 rw-p 00000000 00:00 0
7f40c9000000-7f40ca000000 rw-p 00000000 00:00 0
"""
NUMA_MAPS = """\
55cdd0000000 default file=/usr/bin/qemu-system-x86_64 mapped=2560 N0=2560 \
kernelpagesize_kB=4
55cdd2000000 default heap anon=1000 dirty=1000 N0=900 N1=100 \
kernelpagesize_kB=4
7f40bfe00000 bind:1 anon=7680 dirty=7680 N1=7680 kernelpagesize_kB=4
7f40c3e00000 default
7f40c4000000 bind:0 anon=16384 dirty=16384 N0=16000 N1=384 \
kernelpagesize_kB=4
7f40c9000000 default anon=4096 dirty=4096 N0=4096 kernelpagesize_kB=4
"""


def one(policy, first=0x1000, kib=64 * MIB, **pages):
    last = first + kib * 1024
    counts = ' '.join(f'N{name[1:]}={count}'
                      for name, count in pages.items())
    return (f'{first:x}-{last:x} rw-p 00000000 00:00 0\n',
            f'{first:x} {policy} anon=1 {counts} kernelpagesize_kB=4\n')


def cells(lines, sizes_kib, nodes):
    texts = [''.join(part) for part in zip(*lines)]
    return maps.cells_of(maps.parse(*texts), sizes_kib, nodes)


class MapsTest(base.TestCase):

    def test_real_process(self):
        for nodes in ((0, 1), (1, 0)):
            found = maps.cells_of(maps.parse(MAPS, NUMA_MAPS),
                                  [64 * MIB] * 2, nodes)
            by_node = dict(zip(nodes, found))
            self.assertEqual({0: 64000, 1: 1536}, by_node[0].kib)
            self.assertEqual(1536, by_node[0].elsewhere_kib(0))
            self.assertEqual({1: 30720}, by_node[1].kib)
            self.assertEqual(65536, by_node[1].size_kib)
            self.assertTrue(by_node[1].is_bound_to(1))
            self.assertFalse(by_node[1].is_bound_to(0))

    def test_cells_of_different_size(self):
        lines = [one('bind:0', 0x10000000, N0=1),
                 one('bind:2', 0x90000000, 128 * MIB)]
        found = cells(lines, [128 * MIB, 64 * MIB], (2, 0))
        self.assertEqual([0x90000000, 0x10000000],
                         [each.first for each in found])
        error = self.assertRaises(exception.MemoryUnknown, cells, lines,
                                  [128 * MIB, 64 * MIB], (0, 2))
        self.assertIn('cell 0 has 131072 KiB', str(error))

    def test_in_the_middle_of_a_move(self):
        """Cell 1 goes from 1 to 3; its policy is either."""
        for now in (1, 3):
            lines = [one('bind:0', 0x10000000), one(f'bind:{now}', 0x90000000)]
            for nodes in ((0, 1), (0, 3)):
                self.assertEqual([0x10000000, 0x90000000], [
                    each.first for each in cells(lines, [64 * MIB] * 2,
                                                 nodes)])

    def test_restrictive_guest_of_one_cell(self):
        lines = [one('default', 0x10000000, N0=5),
                 one('default', 0x90000000, N0=500),
                 one('default', 0xf0000000, 256 * MIB, N0=9000)]
        found, = cells(lines, [64 * MIB], (0,))
        self.assertEqual(0x90000000, found.first)
        self.assertTrue(found.is_bound_to(3))

    def test_policies_that_fell_together(self):
        for policies in (('bind:1', 'bind:1'), ('bind:0-1', 'bind:2')):
            lines = [one(policy, number << 32)
                     for number, policy in enumerate(policies, 1)]
            error = self.assertRaises(exception.MemoryUnknown, cells, lines,
                                      [64 * MIB] * 2, (0, 1))
            self.assertIn('hard reboot', str(error))

    def test_restrictive_cells_can_not_be_distinguished(self):
        lines = [one('default', number << 32) for number in (1, 2)]
        error = self.assertRaises(exception.MemoryUnknown, cells, lines,
                                  [64 * MIB] * 2, (0, 1))
        self.assertIn('0 mapping(s)', str(error))

    def test_kinds_of_pages(self):
        for words, expected in (
                ('bind:0 file=/memfd:memory-backend-memfd\\040(deleted) '
                 'dirty=2 N0=2 kernelpagesize_kB=4', (8, True, '')),
                ('bind:0 file=/memfd:x huge dirty=2 N0=2 '
                 'kernelpagesize_kB=2048', (4096, False, '')),
                ('bind:0 file=/dev/hugepages/libvirt/qemu/x huge dirty=2 '
                 'N0=2 kernelpagesize_kB=2048', (4096, False, '')),
                ('bind:0 file=/var/lib/libvirt/qemu/ram/x dirty=2 N0=2 '
                 'kernelpagesize_kB=4',
                 (8, False, '/var/lib/libvirt/qemu/ram/x')),
                ('bind=static:0 anon=2 N0=2 kernelpagesize_kB=4',
                 (8, False, ''))):
            found, = maps.parse('1000-2000 rw-s 0 0 0\n', f'1000 {words}\n')
            self.assertEqual(expected, (
                found.kib[0], found.policy_is_of_file, found.file))
            self.assertEqual(('bind', {0}), (found.mode, found.nodes))

    def test_file_on_a_disk_is_no_cell(self):
        line = one('bind:0')
        error = self.assertRaises(
            exception.MemoryUnknown, cells,
            [(line[0], line[1].replace('anon', 'file=/ram anon'))],
            [64 * MIB], (0,))
        self.assertIn('a file on a disk (/ram)', str(error))

    def test_what_a_check_of_the_host_sees(self):
        """A memfd that has moved is not elsewhere than it is bound."""
        found = process.parse_ram(MAPS, NUMA_MAPS, 64 * MIB)
        self.assertEqual([({1}, {1: 30720}), ({0}, {0: 64000, 1: 1536})],
                         [(each.bound, each.kib) for each in found])
        memfd, = process.parse_ram(
            '1000-2000 rw-s 0 0 0\n', '1000 bind:0 file=/memfd:x dirty=2 '
            'N1=2 kernelpagesize_kB=4\n', 4)
        self.assertEqual((None, {1: 8}), (memfd.bound, memfd.kib))
