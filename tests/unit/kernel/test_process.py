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

"""Threads of a process on this machine."""

import errno
import os
import pathlib
import subprocess
import sys
import unittest
from unittest import mock

import fixtures

from kongming.kernel import process
from tests import base

PCPUS = sorted(os.sched_getaffinity(0))
_THREADS = """
import threading
for _ in range(3):
    threading.Thread(target=input).start()
print()
input()
"""
#: Calls itself what each line says, in hexadecimal.
_NAMED = """
import sys
print()
for line in sys.stdin:
    with open('/proc/self/comm', 'wb') as file:
        file.write(bytes.fromhex(line))
    print()
"""


class RealTimeTest(base.TestCase):
    """A kernel with CONFIG_RT_GROUP_SCHED and cgroup version 1."""

    def setUp(self):
        super().setUp()
        folder = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        task = folder / 'proc' / '1' / 'task' / '11'
        group = folder / 'cgroup' / 'cpu,cpuacct' / 'machine' / 'vcpu0'
        for each in task, group:
            each.mkdir(parents=True)
        (task / 'comm').write_text('CPU 0/KVM')
        (task / 'cgroup').write_text('2:cpuset:/\n'
                                     '1:cpu,cpuacct:/machine/vcpu0\n')
        self.runtime = group / 'cpu.rt_runtime_us'
        for name in 'proc', 'cgroup':
            self.useFixture(fixtures.MonkeyPatch(
                f'kongming.kernel.process._{name.upper()}', folder / name))
        self.useFixture(fixtures.MockPatchObject(
            os, 'sched_setscheduler', side_effect=PermissionError(
                errno.EPERM, 'Operation not permitted')))

    def refused(self, runtime):
        self.runtime.write_text(f'{runtime}\n')
        return str(self.assertRaises(
            PermissionError, process.set_scheduler, 1, 0, 'fifo', 1))

    def test_its_cgroup_has_no_time(self):
        self.assertIn("the host gives real-time threads no time in the "
                      "domain's cgroup (cpu.rt_runtime_us is 0)",
                      self.refused(0))

    def test_it_has_some(self):
        self.assertNotIn('cgroup', self.refused(950000))


@unittest.skipIf(len(PCPUS) < 2, 'needs two pCPUs')
class MoveOffTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.first, self.second = (frozenset({pcpu}) for pcpu in PCPUS[:2])
        self.process = subprocess.Popen(
            [sys.executable, '-u', '-c', _THREADS], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE)
        self.addCleanup(self.process.communicate)
        self.addCleanup(self.process.kill)
        self.process.stdout.readline()

    def allowed(self):
        found = process.tasks(self.process.pid)
        self.assertEqual(4, len(found))
        return {task.allowed for task in found}

    def test_they_stay_on_what_is_left(self):
        process.move_off(self.process.pid, self.first, frozenset())
        self.assertEqual({frozenset(PCPUS) - self.first}, self.allowed())

    def test_nothing_is_left(self):
        process.move_off(self.process.pid, frozenset(PCPUS) - self.second,
                         frozenset())
        process.move_off(self.process.pid, self.second,
                         self.first | self.second)
        self.assertEqual({self.first}, self.allowed())

    def test_nowhere_to_go(self):
        self.assertRaises(OSError, process.move_off, self.process.pid,
                          frozenset(PCPUS), frozenset(PCPUS))
        self.assertEqual({frozenset(PCPUS)}, self.allowed())

    def test_the_kernel_does_not_obey(self):
        with mock.patch('os.sched_setaffinity'):
            self.assertRaisesRegex(
                OSError, 'are still allowed on pCPU', process.move_off,
                self.process.pid, self.first, self.second)

    def test_it_has_ended(self):
        self.process.kill()
        self.process.wait()
        self.assertRaises(OSError, process.move_off, self.process.pid,
                          self.first, self.second)


class TasksTest(base.TestCase):
    """What the kernel says of a thread."""

    def setUp(self):
        super().setUp()
        self.process = subprocess.Popen(
            [sys.executable, '-u', '-c', _NAMED], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE)
        self.addCleanup(self.process.communicate)
        self.addCleanup(self.process.kill)
        self.process.stdout.readline()

    def task(self, name):
        self.process.stdin.write(name.hex().encode() + b'\n')
        self.process.stdin.flush()
        self.process.stdout.readline()
        return process.tasks(self.process.pid)

    def test_names(self):
        """Whatever is in a name, it is one name."""
        for name, kind in ((b'CPU 3/KVM', ('vCPU', 3)),
                           (b'IO iothread12', ('I/O thread', 12)),
                           (b'a) R 1 2 3 4', ('emulator', 0)),
                           (b'x (CPU 7/KVM)', ('emulator', 0)),
                           (b'\xff\nb', ('emulator', 0))):
            task, = self.task(name)
            self.assertEqual(kind, (task.kind, task.number), name)
            self.assertEqual(
                (self.process.pid, frozenset(PCPUS)),
                (task.id, task.allowed))
            self.assertIn(task.last, task.allowed)
        self.assertEqual([], self.task(b'kvm-pit/7'))

    def test_scheduler(self):
        os.sched_setscheduler(
            self.process.pid, os.SCHED_BATCH | os.SCHED_RESET_ON_FORK,
            os.sched_param(0))
        task, = process.tasks(self.process.pid)
        self.assertEqual(('batch', 0), tuple(task.sched))
