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


"""Cells of running guests change nodes; the nested host's kernel tells."""

from unittest import mock

import fixtures
import libvirt
import testtools

from kongming import exception
from kongming.kernel import mover
from kongming.memory import maps
from kongming.memory import move
from tests.embedded import guests
from tests.nested import host
from tests.nested import kernel

#: Of each cell; the guest writes to the first one.
CELL_MIB = 64


class MemoryBase(testtools.TestCase):

    def setUp(self):
        super().setUp()
        self.host = host.Host()
        if self.host.shape.nodes < 4:
            self.skipTest('needs a host of four nodes: '
                          'tools/nested up --nodes 4')
        libvirt.registerErrorHandler(lambda *_: None, None)
        self.connection = libvirt.open(self.host.uri)
        self.addCleanup(self.connection.close)
        self.kernel = kernel.Kernel(self.host)
        self.addCleanup(self.kernel.close)
        folder = self.useFixture(
            fixtures.TempDir(rootdir=str(self.host.share))).path
        self.disk = guests.write(folder, 'dirty')

    def start(self, nodes, backing='', mode='strict', cell_mib=CELL_MIB):
        """A guest with a cell on each of some nodes, as Nova makes it."""
        cells = ''.join(
            f'<cell id="{cell}" cpus="{cell}" memory="{cell_mib}" '
            f'unit="MiB"/>'
            for cell in range(len(nodes)))
        tune = ''.join(f'<memnode cellid="{cell}" mode="{mode}" '
                       f'nodeset="{node}"/>'
                       for cell, node in enumerate(nodes))
        pins = ''.join(
            f'<vcpupin vcpu="{cell}" '
            f'cpuset="{self.host.shape.pcpus(node)[1]}"/>'
            for cell, node in enumerate(nodes))
        name = self.id().rpartition('.')[2]
        domain = self.connection.createXML(f'''
          <domain type="qemu">
            <name>{name}</name>
            <memory unit="MiB">{cell_mib * len(nodes)}</memory>
            <memoryBacking>{backing}</memoryBacking>
            <vcpu>{len(nodes)}</vcpu>
            <iothreads>1</iothreads>
            <cputune>{pins}</cputune>
            <numatune>
              <memory mode="{mode}" nodeset="{','.join(map(str, nodes))}"/>
              {tune}
            </numatune>
            <os><type arch="x86_64" machine="pc">hvm</type></os>
            <cpu><numa>{cells}</numa></cpu>
            <devices>
              <disk type="file" device="disk">
                <driver name="qemu" type="raw"/>
                <source file="{self.disk}"/>
                <target dev="vda" bus="virtio"/>
              </disk>
            </devices>
          </domain>''')
        self.addCleanup(domain.destroy)
        # An emulated host that shares its processor takes its time.
        self.host.wait_for_memory(domain, guests.DIRTY_MIB, 600)
        self.pid = self.host.pid(name)
        self.sizes_kib = [cell_mib * 1024] * len(nodes)
        self.mover = mover.Mover(self.kernel, self.pid, self.sizes_kib,
                                 budget=60)
        return domain

    def fill(self, cell, nodes):
        """Have a cell's pages exist that the guest never wrote to."""
        mapping = self.mover.look(nodes).cells[cell]
        self.host.shell(
            f'head -c {CELL_MIB << 20} /dev/zero | dd of=/proc/{self.pid}/mem '
            f'bs=1M oflag=seek_bytes seek={mapping.first} conv=notrunc '
            f'iflag=fullblock 2>/dev/null')

    def assertAt(self, nodes, policies=None):
        seen = self.mover.look(nodes)
        self.assertTrue(all(cell.present_kib for cell in seen.cells), seen)
        for cell, node in zip(seen.cells, nodes):
            self.assertEqual({node}, set(cell.kib))
        self.assertEqual([{node} for node in policies or nodes],
                         [cell.nodes for cell in seen.cells])
        self.assertEqual({frozenset(nodes)}, set(seen.groups.values()))
        return seen


class MoveTest(MemoryBase):

    def assertMoves(self, *path, backing='', policies=None):
        """A guest that starts at the first nodes, and goes to the others."""
        self.start(path[0], backing)
        for cell in range(len(path[0])):
            if 'hugepages' not in backing:
                self.fill(cell, path[0])
        seen = self.assertAt(path[0])
        self.assertEqual({'emulator', 'iothread1'} | {
            f'vcpu{cell}' for cell in range(len(path[0]))}, set(seen.groups))
        for slice_mib in (16, 0):
            self.mover._slice_kib = slice_mib * 1024
            for before, after in zip(path, path[1:]):
                self.mover.check(before, after)
                self.mover.go(after)
                self.assertAt(after, policies)
            path = path[::-1]

    def test_two_cells(self):
        self.assertMoves((0, 1), (0, 2), (1, 2), (1, 3))

    def test_three_cells(self):
        self.assertMoves((0, 1, 2), (0, 1, 3), (0, 2, 3))

    def test_one_cell(self):
        self.assertMoves((1,), (3,), (0,))

    def test_cells_that_are_not_in_the_order_of_nodes(self):
        self.assertMoves((2, 0), (3, 0), (3, 1))

    def test_huge_pages(self):
        self.assertMoves((0, 1), (0, 2), (1, 2), backing='<hugepages/>')

    def test_shared_huge_pages(self):
        self.assertMoves(
            (0, 1), (0, 3),
            backing='<hugepages/><access mode="shared"/>')

    def test_memfd_moves_and_stays_bound(self):
        self.assertMoves(
            (0, 1), (0, 3), policies=(0, 1),
            backing='<source type="memfd"/><access mode="shared"/>')

    def test_restrictive_of_one_cell(self):
        domain = self.start((0,), mode='restrictive')
        self.mover.check((0,), (2,))
        self.mover.go((2,))
        self.assertEqual({2}, set(self.host.memory(domain).pages))
        self.assertEqual('2', self.host.cgroup(domain.name(),
                                               'cpuset.mems'))


class CutShortTest(MemoryBase):

    def test_killed_before_each_call(self):
        """And then it goes on, or back."""
        self.start((1, 3))
        for cell in (0, 1):
            self.fill(cell, (1, 3))
        nodes = (1, 3)
        for number in range(20):
            goal = (0, 3) if nodes == (1, 3) else (1, 3)
            left = number
            real = kernel.Kernel.__getattr__

            def call(asked, name):
                nonlocal left
                if name in ('set_mems', 'move_slice', 'migrate_pages'):
                    left -= 1
                    if left < 0:
                        raise InterruptedError()
                return real(asked, name)

            with mock.patch.object(kernel.Kernel, '__getattr__', call):
                try:
                    self.mover.go(goal)
                except InterruptedError:
                    pass
                else:
                    break
            back = number % 2
            self.mover.go(nodes if back else goal)
            self.assertAt(nodes if back else goal)
            nodes = nodes if back else goal
        self.assertGreater(number, 4)

    def test_full_target(self):
        """What can't move is seen, and all is rolled back."""
        self.start((0, 1), '<hugepages/>')
        pool = ('/sys/devices/system/node/node3/hugepages/hugepages-2048kB/'
                'nr_hugepages')
        was = self.host.shell(f'cat {pool}; echo 2 >{pool}').strip()
        self.addCleanup(self.host.shell, f'echo {was} >{pool}')
        self.host.shell('echo 0 >/proc/sys/vm/nr_overcommit_hugepages')
        eaten = '/tmp/eat'
        free = self.connection.getMemoryStats(3)['free'] // 1024
        self.host.shell(
            f'mkdir -p {eaten} && mount -t tmpfs -o mpol=bind:3,size={free}m '
            f'none {eaten} && head -c {free - 24}M /dev/zero >{eaten}/x')
        self.addCleanup(self.host.shell, f'umount {eaten}')
        self.mover._budget = 5
        error = self.assertRaises(exception.NotMoved, self.mover.go, (0, 3))
        self.assertIn('pages of 2048 KiB of cell 1', str(error))
        self.mover.go((0, 1))
        self.assertAt((0, 1))


class RefusalTest(MemoryBase):

    def test_threads_that_never_sleep(self):
        self.start((0, 1))
        self.host.shell(
            'cat /proc/sys/kernel/sched_rt_runtime_us >/tmp/was\n'
            'echo -1 >/proc/sys/kernel/sched_rt_runtime_us\n'
            'nohup chrt -f 1 taskset -c 15 timeout 30 '
            'sh -c "while :; do :; done" >/dev/null 2>&1 & '
            'echo $! >/tmp/spinner; sleep 1')
        try:
            error = self.assertRaises(exception.NotMoved, self.mover.check,
                                      (0, 1), (0, 2))
        finally:
            self.host.shell(
                'cat /tmp/was >/proc/sys/kernel/sched_rt_runtime_us\n'
                'kill $(cat /tmp/spinner) || :')
        self.assertIn('never sleep (sh (', str(error))
        self.mover.check((0, 1), (0, 2))

    def test_thread_groups_that_differ(self):
        domain = self.start((0, 1))
        self.kernel.set_mems(self.pid, [0, 3], 'vcpu1')
        error = self.assertRaises(exception.NotMoved, self.mover.check,
                                  (0, 1), (0, 2))
        self.assertIn('thread group vcpu1', str(error))
        domain.info()

    def test_order(self):
        self.start((0, 1))
        error = self.assertRaises(exception.NotMoved, self.mover.check,
                                  (0, 1), (1, 0))
        self.assertIn('keeps the order', str(error))
        self.assertEqual(2, len(maps.parse(
            *self.kernel.texts(self.pid)[:2])[:2]))
        self.assertTrue(move.is_there(self.mover.look((0, 1)), (0, 1)))
