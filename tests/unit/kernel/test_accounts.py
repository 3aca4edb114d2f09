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

"""The reader of the kernel's accounts: recorded trees, and this machine."""

import ctypes
import os
import pathlib
import shutil
import subprocess
import sys
import threading
import time

import fixtures

from kongming.interference import difference
from kongming.kernel import accounts
from tests import base
from tests.unit.interference import test_parse

_RENAME = 15  # PR_SET_NAME


class TreeTest(base.TestCase):
    """A tree as recorded, which a test may change."""

    def tree(self, name):
        folder = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        shutil.copytree(test_parse.DATA / name, folder, dirs_exist_ok=True)
        reader = accounts.Reader(str(folder / 'proc'), str(folder / 'sys'),
                                 most_files=0)
        self.addCleanup(reader.close)
        return folder, reader

    def test_hostile(self):
        _folder, reader = self.tree('hostile')
        found = reader.read({1}, [101, 999])
        self.assertEqual({*range(11, 17), *range(101, 109)},
                         set(found.threads))
        thread = found.threads[102]
        self.assertEqual(('new\nline', 102, {0, 1}, False), (
            thread.name, thread.pid, thread.allowed, thread.kernel))
        self.assertGreater(thread.times.run_ns, 0)
        self.assertEqual({101: (1, 7)}, found.switches)
        self.assertEqual({1}, set(found.interrupts['36'].counts))
        self.assertEqual({}, found.queues)

    def test_settings(self):
        folder, reader = self.tree('hostile')
        found = reader.settings()
        self.assertEqual(({0, 1}, {0}, None, {}), (
            found.online, found.irqaffinity, found.workqueues,
            found.governors))
        for pcpu, governor in ((0, 'performance'), (1, 'powersave')):
            path = folder / (f'sys/devices/system/cpu/cpu{pcpu}/cpufreq/'
                             f'scaling_governor')
            path.parent.mkdir(parents=True)
            path.write_text(f'{governor}\n')
        self.assertEqual({0: 'performance', 1: 'powersave'},
                         reader.settings().governors)

    def test_units(self):
        folder, reader = self.tree('hostile')
        (folder / 'proc/102/cgroup').write_text('0::/user.slice\n')
        self.assertEqual({101: 'noisy.service'},
                         reader.units([101, 102, 7]))

    def test_who_has_not_run_is_the_same(self):
        folder, reader = self.tree('hostile')
        first = reader.read({1})
        (folder / 'proc/103/task/103/schedstat').write_text('10 9 8\n')
        found = difference.between(first, reader.read({1}))
        self.assertEqual([103], [each.thread.tid for each in found.ran])
        self.assertEqual({}, found.interrupts)

    def test_vanished_in_the_middle(self):
        """Between the list and a file, and between two files."""
        folder, reader = self.tree('hostile')
        (folder / 'proc/103/task/103/schedstat').unlink()
        (folder / 'proc/104/task/104/stat').unlink()
        (folder / 'proc/105/task/105/stat').write_bytes(b'105 (x')
        (folder / 'proc/106/task').rename(folder / 'gone')
        found = reader.read({1}, [103])
        self.assertEqual({101, 102, 107, 108},
                         {tid for tid in found.threads if tid > 100})
        self.assertEqual({}, found.switches)
        # It is back: the list is made anew.
        shutil.copytree(test_parse.HOSTILE / '103', folder / 'proc/103',
                        dirs_exist_ok=True)
        self.assertIn(103, reader.read({1}).threads)

    def test_new_and_ended(self):
        folder, reader = self.tree('hostile')
        reader.read({1})
        shutil.rmtree(folder / 'proc/101')
        shutil.copytree(test_parse.HOSTILE / '102/task/102',
                        folder / 'proc/102/task/120')
        # The kernel says so: another number of threads, or another last one.
        (folder / 'proc/loadavg').write_text('1 1 1 1/700 4242\n')
        found = reader.read({1}).threads
        self.assertNotIn(101, found)
        self.assertEqual(102, found[120].pid)

    def test_offline(self):
        """A pCPU that goes offline takes its column with it."""
        folder, reader = self.tree('offline')
        found = reader.read({5, 7})
        self.assertEqual({0, 1, 2, 3, 4, 6, 7}, found.online)
        self.assertEqual({7}, set(found.interrupts['28'].counts))
        self.assertEqual({7}, set(found.queues))
        self.assertEqual({7}, set(found.stolen_ns))
        path = folder / 'proc/interrupts'
        lines = path.read_text().splitlines(keepends=True)
        at = lines[0].index('CPU7')
        path.write_text(''.join(
            line if line.split(':')[0].strip() in ('ERR', 'MIS')
            else line[:at] + line[at + 11:] for line in lines))
        (folder / 'sys/devices/system/cpu/online').write_text('0-4,6\n')
        again = reader.read({5, 7})
        self.assertEqual({}, again.interrupts['28'].counts)
        self.assertEqual('virtio0-req.3', again.interrupts['28'].name)
        self.assertEqual({}, difference.between(found, again).interrupts)

    def test_no_proc(self):
        reader = accounts.Reader('/nowhere')
        self.assertRaises(FileNotFoundError, reader.read, {1})


class RealTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.reader = accounts.Reader()
        self.addCleanup(self.reader.close)
        self.pcpu = min(os.sched_getaffinity(0))

    def test_a_process(self):
        """Its own counters, exactly."""
        first = self.reader.read({self.pcpu}, [os.getpid()])
        process = subprocess.Popen(
            [sys.executable, '-c', 'input()'], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE)
        self.addCleanup(process.wait)
        self.addCleanup(process.communicate, b'\n')
        os.sched_setaffinity(process.pid, {self.pcpu})
        path = pathlib.Path(f'/proc/{process.pid}/schedstat')
        while 'pipe' not in pathlib.Path(
                f'/proc/{process.pid}/wchan').read_text():
            time.sleep(0.01)
        second = self.reader.read({self.pcpu})
        before = path.read_text()
        third = self.reader.read({self.pcpu})
        thread = third.threads[process.pid]
        self.assertEqual(before.split(), [str(each) for each in
                                          thread.times])
        self.assertEqual(({self.pcpu}, self.pcpu), (thread.allowed,
                                                    thread.last))
        # It sleeps.
        self.assertIs(second.threads[process.pid], thread)
        self.assertIn(process.pid, {
            each.thread.tid for each in difference.between(
                first, second).ran})
        self.assertIn(os.getpid(), first.switches)

    def test_a_thread_with_a_name(self):
        event = threading.Event()
        started = threading.Event()

        def run():
            ctypes.CDLL(None).prctl(_RENAME, b'a) R\n\x1b[1m', 0, 0, 0)
            started.set()
            event.wait()
        thread = threading.Thread(target=run)
        self.reader.read({0})
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(event.set)
        started.wait()
        found = self.reader.read({0}).threads[thread.native_id]
        self.assertEqual(('a) R\n\x1b[1m', os.getpid()),
                         (found.name, found.pid))
        event.set()
        thread.join()
        # Python's end of a thread is not the kernel's yet.
        deadline = time.monotonic() + 30
        while (os.path.exists(f'/proc/self/task/{thread.native_id}')
               and time.monotonic() < deadline):
            time.sleep(0.001)
        self.assertNotIn(thread.native_id, self.reader.read({0}).threads)

    def test_files(self):
        """No more than allowed stay open, and none afterwards."""
        def number():
            return len(os.listdir('/proc/self/fd'))
        before = number()
        with accounts.Reader(most_files=10) as reader:
            first = reader.read({0})
            self.assertLessEqual(number(), before + 10)
            self.assertGreater(len(first.threads), 10)
        self.assertEqual(before, number())

    def test_kernel_threads(self):
        found = {thread.name: thread
                 for thread in self.reader.read({0}).threads.values()
                 if thread.kernel}
        if 'ksoftirqd/0' not in found:
            self.skipTest("the kernel's threads are not to be seen here")
        self.assertTrue(found['ksoftirqd/0'].bound)
        self.assertEqual({0}, found['ksoftirqd/0'].allowed)
        self.assertEqual(2, found['kthreadd'].pid)
