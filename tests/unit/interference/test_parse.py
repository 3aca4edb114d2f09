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

"""The texts of /proc, as kernels have written them."""

import pathlib

from kongming.interference import parse
from kongming.interference import snapshot
from tests import base

DATA = pathlib.Path(__file__).parents[2] / 'data' / 'proc'
HOSTILE, OFFLINE = DATA / 'hostile' / 'proc', DATA / 'offline' / 'proc'


class ThreadTest(base.TestCase):

    def test_hostile_names(self):
        """Brackets, newlines and escapes are the name, and no fields."""
        found = {}
        for path in HOSTILE.glob('1*/task/*/stat'):
            found[int(path.parent.name)] = parse.stat(path.read_bytes())
        self.assertEqual(
            ['a) R 1 (b', 'new\nline', '\x1b[31mred\x1b[0m', '  two  ',
             '(((', 'CPU 0/KVM', '\ufffd\ufffd', 'kworker/0:1-x'],
            [found[number].name for number in range(101, 109)])
        for number in range(101, 109):
            self.assertFalse(found[number].kernel)
            self.assertIn(found[number].last, (0, 1))
            self.assertGreater(found[number].start, 0)

    def test_kernel_threads(self):
        for number in range(11, 17):
            found = parse.stat((
                HOSTILE / f'{number}/task/{number}/stat').read_bytes())
            self.assertTrue(found.kernel)
            self.assertTrue(found.bound)
            self.assertTrue(found.name.startswith('kworker/'))

    def test_cut_short(self):
        for text in (b'', b'1 (a) S 1', b'1 a S'):
            self.assertRaises(ValueError, parse.stat, text)
        for text in (b'', b'1 2\n', b'1 2 x\n'):
            self.assertRaises(ValueError, parse.schedstat, text)

    def test_schedstat(self):
        self.assertEqual(snapshot.Times(472646, 98101, 2),
                         parse.schedstat(b'472646 98101 2\n'))

    def test_switches(self):
        self.assertEqual(snapshot.Switches(1, 7), parse.switches((
            HOSTILE / '101/task/101/status').read_bytes()))


class InterruptTest(base.TestCase):

    def read(self, folder, wanted):
        header, *lines = (folder / 'interrupts').read_bytes().splitlines()
        pcpus = parse.columns(header)
        return pcpus, dict(filter(None, (
            parse.interrupts(line, pcpus, wanted) for line in lines)))

    def test_modern(self):
        pcpus, found = self.read(HOSTILE, [1])
        self.assertEqual((0, 1), pcpus)
        self.assertEqual((36, 'virtio1-req.0'), found['36'][:2])
        self.assertGreater(found['36'].counts[1], 10 ** 6)
        self.assertEqual((None, 'Local timer interrupts'), found['LOC'][:2])
        # Of the whole machine.
        self.assertNotIn('ERR', found)

    def test_offline(self):
        """Columns are the pCPUs that are online; 5 is not."""
        pcpus, found = self.read(OFFLINE, [5, 6, 7])
        self.assertEqual((0, 1, 2, 3, 4, 6, 7), pcpus)
        self.assertEqual((28, 'virtio0-req.3'), found['28'][:2])
        self.assertEqual({6, 7}, set(found['28'].counts))
        self.assertGreater(found['28'].counts[7], 0)
        self.assertEqual('timer', found['0'].name)
        self.assertEqual('acpi', found['9'].name)

    def test_softirqs_have_columns_of_all(self):
        found = parse.softirqs((OFFLINE / 'softirqs').read_bytes(), [5, 7])
        self.assertEqual({5, 7}, set(found['TIMER']))
        self.assertIn('NET_RX', found)
        self.assertEqual({}, parse.softirqs(b'', [1]))

    def test_other_machines(self):
        """GIC of ARM; a device with a name of several words."""
        for line, expected in (
                (b' 14:    7   9     GICv3  27 Level     arch_timer',
                 'arch_timer'),
                (b' 96:    7   9  ITS-MSI 524288 Edge      nvme0q0',
                 'nvme0q0'),
                (b' 40:    7   9  IR-PCI-MSIX-0000:01:00.0    3-edge      '
                 b'i40e-eth0-TxRx-2', 'i40e-eth0-TxRx-2'),
                (b' 16:    7   9  IR-IO-APIC   16-fasteoi   i801_smbus, usb1',
                 'i801_smbus, usb1')):
            label, found = parse.interrupts(line, (0, 1), [1])
            self.assertEqual((int(label), expected, {1: 9}), found)

    def test_no_line(self):
        for line in (b'', b'x', b'ERR:          0', b'36: 1'):
            self.assertIsNone(parse.interrupts(line, (0, 1), [1]))


class HostTest(base.TestCase):

    def test_stolen(self):
        self.assertEqual({6: 0}, parse.stolen(
            (OFFLINE / 'stat').read_bytes(), frozenset({5, 6}), 10))
        self.assertEqual({1: 50}, parse.stolen(
            b'cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 1 1 1 1 1 1 1 1 1 1\n'
            b'cpu1 1 1 1 1 1 1 1 5 1 1\nintr 7 1\n', frozenset({1}), 10))

    def test_queues(self):
        found = parse.queues((OFFLINE / 'schedstat').read_bytes(),
                             frozenset({1, 5}))
        self.assertEqual({1: snapshot.Times(
            32549778016, 15675129757, 1737)}, found)

    def test_command_line(self):
        for text, option, expected in (
                ('quiet isolcpus=managed_irq,domain,2-3', 'isolcpus', {2, 3}),
                ('irqaffinity=0,2', 'irqaffinity', {0, 2}),
                ('nohz_full=1 nohz_full=3', 'nohz_full', {3}),
                ('quiet', 'isolcpus', None), ('isolcpus', 'isolcpus', None),
                ('isolcpus=domain', 'isolcpus', set())):
            self.assertEqual(expected, parse.pcpus_of_option(text, option))

    def test_lists_and_masks(self):
        self.assertEqual(frozenset(), parse.cpu_list('  (null)\n'))
        self.assertEqual({0, 1, 5}, parse.cpu_list('0-1,5\n'))
        for text, expected in (('ff,00000001', {0, *range(32, 40)}),
                               ('"0x6"', {1, 2}), ('', set()),
                               ('nonsense', set()), ('00', set())):
            self.assertEqual(expected, parse.mask(text))
        for pcpus in ({0}, {1, 31}, {32}, {3, 64, 95}):
            self.assertEqual(pcpus, parse.mask(parse.format_mask(pcpus)))
        self.assertEqual('00000001,80000000', parse.format_mask({31, 32}))
