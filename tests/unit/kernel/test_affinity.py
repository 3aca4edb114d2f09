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
"""Threads of this process, named as QEMU's are, read from the real kernel."""

import os
import threading

import fixtures

from kongming.kernel import affinity
from kongming.kernel import cgroup
from kongming.kernel import cpus
from kongming.live import threads
from kongming.live import witness
from tests import base


class ReaderTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.stop = threading.Event()
        self.addCleanup(self.stop.set)
        self.all = frozenset(os.sched_getaffinity(0))
        self.reader = affinity.Reader()

    def thread(self, name, stop=None):
        """Start a thread of that name; its id."""
        named, found = threading.Event(), []

        def run():
            ident = threading.get_native_id()
            with open(f'/proc/self/task/{ident}/comm', 'w') as comm:
                comm.write(name)
            found.append(ident)
            named.set()
            (stop or self.stop).wait()

        self.running = threading.Thread(target=run, daemon=True)
        self.running.start()
        named.wait()
        return found[0]

    def read(self, *args):
        return {thread.id: thread for thread
                in self.reader.read(os.getpid(), *args)}

    def test_which_thread_is_which(self):
        idents = [self.thread(name) for name in (
            'CPU 3/KVM', 'IO iothread2', 'worker', 'kvm-nx-lpage-re')]
        for _ in range(3):
            found = self.read()
            self.assertEqual([
                (witness.VCPU, 3), (witness.IOTHREAD, 2),
                (witness.EMULATOR, 0)], [
                    (found[ident].kind, found[ident].number)
                    for ident in idents[:3]])
            self.assertNotIn(idents[3], found)
            self.assertEqual(self.all, found[idents[0]].allowed)

    def test_named_late(self):
        """QEMU names a thread after it has started it."""
        ident = self.thread('qemu')
        self.assertEqual(witness.EMULATOR, self.read()[ident].kind)
        with open(f'/proc/self/task/{ident}/comm', 'w') as comm:
            comm.write('CPU 0/KVM')
        self.assertEqual(witness.VCPU, self.read()[ident].kind)

    def test_one_that_ends(self):
        stop = threading.Event()
        ident = self.thread('CPU 0/KVM', stop)
        self.assertIn(ident, self.read())
        stop.set()
        self.running.join()
        self.assertNotIn(ident, self.read())

    def test_a_process_that_ends(self):
        self.assertRaises(FileNotFoundError, self.reader.read, 2 ** 22 + 1)

    def test_moved(self):
        if len(self.all) < 2:
            self.skipTest('there is one CPU only')
        ident = self.thread('CPU 0/KVM')
        one = frozenset({min(self.all)})
        affinity.hold(os.getpid(), {ident: one, 2 ** 22 + 1: one})
        self.assertEqual(one, self.read()[ident].allowed)
        wanted = threads.Threads({0: one})
        self.assertEqual([], witness.freed(self.read().values(), wanted))
        os.sched_setaffinity(ident, self.all)
        self.assertEqual([ident], [thread.id for thread in witness.freed(
            self.read().values(), wanted)])

    def test_some_cpusets_in_turn(self):
        folder = self.useFixture(fixtures.TempDir()).path
        idents = [self.thread(f'CPU {number}/KVM') for number in range(3)]
        for number in range(3):
            path = os.path.join(folder, f'vcpu{number}')
            os.mkdir(path)
            with open(os.path.join(path, 'cpuset.cpus'), 'w') as cpuset:
                cpuset.write(f'{number}\n')
        self.useFixture(fixtures.MonkeyPatch(
            'kongming.kernel.affinity._path',
            lambda _folder, kind, number: f'{folder}/vcpu{number}/cpuset.cpus'
            if kind == witness.VCPU else ''))
        self.assertEqual([{number} for number in range(3)], [
            set(found.cpuset) for ident, found in sorted(self.read().items())
            if ident in idents])
        seen = []
        for _ in range(3):
            found = self.read(1)
            seen += [found[ident].number for ident in idents
                     if found[ident].cpuset is not None]
        self.assertEqual([0, 1, 2], sorted(seen))

    def test_may_hold(self):
        self.assertIn('is not seen', affinity.may_hold(2 ** 22 + 1))
        found = affinity.may_hold(os.getpid())
        self.assertEqual(
            os.geteuid() != 0, bool(found), 'root has CAP_SYS_NICE')


class CpusTest(base.TestCase):

    def test_this_machine(self):
        self.assertLessEqual(os.sched_getaffinity(0), cpus.online())
        found = cpus.read()
        self.assertEqual(cpus.online(), found.online)
        self.assertLessEqual(found.online, frozenset().union(
            *found.nodes.values()))
        for pcpu, core in found.siblings.items():
            self.assertIn(pcpu, core)

    def test_some_are_offline(self):
        folder = self.useFixture(fixtures.TempDir()).path
        self.useFixture(fixtures.MonkeyPatch(
            'kongming.kernel.cpus._SYSTEM', cpus.pathlib.Path(folder)))
        for path, text in (
                ('cpu/online', '0-1,3\n'), ('node/node0/cpulist', '0-1\n'),
                ('cpu/cpu0/topology/thread_siblings_list', '0-1\n'),
                ('cpu/cpu1/topology/thread_siblings_list', '0-1\n'),
                ('cpu/cpu3/topology/thread_siblings_list', '3\n'),
                *((f'node/node{cpu // 2}/cpu{cpu}/x', '')
                  for cpu in range(4))):
            path = cpus.pathlib.Path(folder, path)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        found = cpus.read()
        self.assertEqual(({0, 1, 3}, {0: {0, 1}, 1: {2, 3}},
                          {0: {0, 1}, 1: {0, 1}, 3: {3}}), found)


class FolderTest(base.TestCase):

    def test_cpuset(self):
        mounts = ('33 31 0:30 / /cg/cpuset rw - cgroup cgroup rw,cpuset\n'
                  '34 31 0:31 / /cg/cpu rw - cgroup cgroup rw,cpu\n')
        groups = '3:cpuset:/machine/a/vcpu0\n1:cpu:/machine/a\n0::/\n'
        self.assertEqual('/cg/cpuset/machine/a/vcpu0', str(
            cgroup.folder_in(mounts, groups, 'cpuset')))
        two = '30 23 0:26 / /cg rw,nosuid - cgroup2 cgroup2 rw\n'
        self.assertEqual('/cg/a/vcpu1', str(
            cgroup.folder_in(two, '0::/a/vcpu1\n', 'cpuset')))
        self.assertIsNone(cgroup.folder_in('', groups, 'cpuset'))
        self.assertIsNone(cgroup.folder_in(
            '30 23 0:26 /b /cg rw - cgroup2 cgroup2 rw\n', '0::/a/vcpu1\n',
            'cpuset'))
