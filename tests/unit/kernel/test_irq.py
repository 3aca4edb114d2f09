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

"""/proc/irq as recorded and as it is here; irqbalance's socket."""

import os
import pathlib
import shutil
import socket
import struct
import threading

import fixtures

from kongming import exception
from kongming.interference import irq as irq_mod
from kongming.kernel import irq
from tests import base
from tests.unit.interference import test_parse


class TreeTest(base.TestCase):

    def setUp(self):
        super().setUp()
        folder = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        shutil.copytree(test_parse.DATA / 'offline', folder,
                        dirs_exist_ok=True)
        self.proc, self.sys = folder / 'proc', folder / 'sys'

    def read(self):
        return {each.number: each for each in irq.read(self.proc, self.sys)}

    def test_read(self):
        found = self.read()
        self.assertEqual(irq_mod.Irq(
            28, 'virtio0-req.3', frozenset({7}), frozenset({7}),
            frozenset(), 1, None), found[28])
        self.assertEqual({4, 25, 28, 37}, set(found))

    def test_managed(self):
        """A newer kernel's mode says so, and debugfs where it is there."""
        (self.proc / 'irq/28/smp_affinity').chmod(0o444)
        for number, flags in ((25, 'IRQD_AFFINITY_MANAGED'), (37, 'x')):
            path = self.sys / f'kernel/debug/irq/irqs/{number}'
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f'handler: x\ndstate: {flags}\n')
        self.assertEqual({4: None, 25: True, 28: True, 37: False},
                         {number: each.managed
                          for number, each in self.read().items()})

    def test_nobody_asked_for_it(self):
        (self.sys / 'kernel/irq/4/actions').write_text('\n')
        (self.sys / 'kernel/irq/25/actions').unlink()
        self.assertEqual({28, 37}, set(self.read()))
        # Without sysfs it is a folder.
        (self.proc / 'irq/25/virtio0-req.0').mkdir()
        self.assertEqual('virtio0-req.0', self.read()[25].device)

    def test_gone_meanwhile(self):
        (self.proc / 'irq/28/smp_affinity_list').unlink()
        self.assertEqual({4, 25, 37}, set(self.read()))
        self.assertEqual([], irq.move([(99, {1})], self.proc))

    def test_machine(self):
        (self.sys / 'devices/system/node/node1').mkdir(parents=True)
        (self.sys / 'devices/system/node/node1/cpulist').write_text('4,6-7\n')
        self.assertEqual(irq_mod.Machine(
            frozenset({0, 1, 2, 3, 4, 6, 7}), frozenset(range(8)),
            frozenset({2}), {1: frozenset({4, 6, 7})}),
            irq.machine({2}, self.proc, self.sys))

    def test_move(self):
        self.assertEqual([], irq.move([(28, {1, 2}), (25, {0})], self.proc))
        self.assertEqual(['1-2', '0'], [
            (self.proc / f'irq/{number}/smp_affinity_list').read_text()
            for number in (28, 25)])

    def test_not_there(self):
        error = self.assertRaises(exception.IrqError, irq.read,
                                  self.proc / 'nowhere', self.sys)
        self.assertIn('nowhere/irq', str(error))


class RealTest(base.TestCase):

    def test_this_machine(self):
        for each in irq.read():
            self.assertTrue(each.device)
            self.assertTrue(each.allowed)

    def test_the_kernel_refuses(self):
        managed = [each for each in irq.read() if each.managed]
        if not managed or os.geteuid():
            self.skipTest('no interrupt here is managed, or only root may')
        number = managed[0].number
        refused, = irq.move([(number, managed[0].allowed)])
        self.assertEqual((number, True, 'the kernel manages it'), refused)


class IrqbalanceTest(base.TestCase):
    """One that answers as irqbalance 1.9 does."""

    def setUp(self):
        super().setUp()
        self.asked = []
        self.folder = self.useFixture(fixtures.TempDir()).path
        self.useFixture(fixtures.MonkeyPatch(
            'kongming.kernel.irq._SOCKETS',
            ('/nowhere/{pid}', f'{self.folder}/{{pid}}.sock')))
        self.answer = b'SLEEP 10 IRQ 7 LOAD 1 DIFF 0 CLASS 4 BANNED 00000c,08'
        server = socket.socket(socket.AF_UNIX)
        server.bind(f'{self.folder}/77.sock')
        server.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        server.listen(1)
        self.addCleanup(server.close)
        threading.Thread(target=self.serve, args=(server,),
                         daemon=True).start()

    def serve(self, server):
        while True:
            try:
                one, _address = server.accept()
            except OSError:
                return
            with one:
                words, ancillary, *_rest = one.recvmsg(
                    500, socket.CMSG_SPACE(12))
                who = struct.unpack('3i', ancillary[0][2])
                self.asked.append((words.decode(), who))
                if words == b'setup':
                    one.sendall(self.answer)

    def test_banned(self):
        self.assertEqual({3, 10, 11}, irq.banned(77))
        self.assertEqual([('setup', (os.getpid(), os.geteuid(),
                                     os.getegid()))], self.asked)

    def test_ban(self):
        irq.ban(77, {3, 5, 6})
        irq.ban(77, None)
        self.assertEqual(['settings cpus 3,5-6', 'settings cpus NULL'],
                         [words for words, _who in self.asked])

    def test_no_answer(self):
        self.answer = b''
        self.assertIn('1.4 to 1.9', str(self.assertRaises(
            exception.IrqError, irq.banned, 77)))
        error = self.assertRaises(exception.IrqError, irq.ban, 78, {1})
        self.assertIn('process 78', str(error))
        self.assertIn('has to be stopped', str(error))

    def test_how_it_was_started(self):
        proc = pathlib.Path(self.folder) / 'proc'
        sys = pathlib.Path(self.folder) / 'sys'
        cpu = sys / 'devices/system/cpu'
        cpu.mkdir(parents=True)
        (cpu / 'isolated').write_text('2\n')
        (cpu / 'nohz_full').write_text('3\n')
        self.assertIsNone(irq.irqbalance(self._process(proc, 'systemd'),
                                         sys))
        for environ, expected in (
                ('A=1\0IRQBALANCE_BANNED_CPUS=c\0', {2, 3}),
                ('IRQBALANCE_BANNED_CPULIST=4-5\0B=2', {4, 5}),
                ('IRQBALANCE_BANNED_CPULIST=\0', {2, 3}), ('', {2, 3})):
            self.assertEqual((9, expected), irq.irqbalance(
                self._process(proc, 'irqbalance', environ), sys))

    def _process(self, proc, name, environ=''):
        (proc / '9').mkdir(parents=True, exist_ok=True)
        (proc / '9/comm').write_text(f'{name}\n')
        (proc / '9/environ').write_text(environ)
        return proc
