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

"""What the kernel of this machine says, and where cgroups are."""

import array
import ctypes
import errno
import mmap
import os
import pathlib
from unittest import mock

import fixtures

from kongming import exception
from kongming.kernel import numa
from tests import base

V1 = """\
31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw
32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu
34 31 0:31 / /sys/fs/cgroup/cpu\\040set rw - cgroup cgroup rw,cpuset
41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
"""
V2 = '31 23 0:28 /outer /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n'


class FilesTest(base.TestCase):
    """A process and cgroups that are made of files."""

    def setUp(self):
        super().setUp()
        self.root = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        self.proc = self.root / 'proc'
        self.useFixture(fixtures.MonkeyPatch('kongming.kernel.numa._PROC',
                                             self.proc))

    def make(self, mounts, threads):
        """:param threads: id -> its lines of cgroups"""
        (self.proc / 'self').mkdir(parents=True)
        (self.proc / 'self/mountinfo').write_text(
            mounts.replace('/sys/fs', f'{self.root}/sys/fs'))
        for thread, lines in threads.items():
            folder = self.proc / '7/task' / str(thread)
            folder.mkdir(parents=True)
            (folder / 'cgroup').write_text(lines)

    def group(self, path, mems, effective=None):
        folder = self.root / 'sys/fs/cgroup' / path
        folder.mkdir(parents=True)
        (folder / 'cpuset.mems').write_text(mems)
        if effective is not None:
            (folder / 'cpuset.mems.effective').write_text(effective)
        return folder

    def test_version_1(self):
        where = 'machine/qemu-1-a.libvirt-qemu'
        folders = [self.group(f'cpu set/{where}/{name}', '0-1\n')
                   for name in ('emulator', 'vcpu0')]
        self.make(V1, {7: f'5:cpuset:/{where}/emulator\n0::/x\n',
                       8: f'5:cpuset:/{where}/emulator\n0::/x\n',
                       9: f'5:cpuset:/{where}/vcpu0\n4:cpu:/y\n'})
        self.assertEqual({'emulator': {0, 1}, 'vcpu0': {0, 1}},
                         numa.groups(7))
        numa.set_mems(7, [0, 1, 3], 'emulator')
        self.assertEqual({'emulator': {0, 1, 3}, 'vcpu0': {0, 1}},
                         numa.groups(7))
        numa.set_mems(7, [0, 3])
        self.assertEqual(['0,3'] * 2, [
            (folder / 'cpuset.mems').read_text() for folder in folders])

    def test_version_2(self):
        self.group('a.scope/libvirt/emulator', '1\n', '1\n')
        self.make(V2, {7: '0::/outer/a.scope/libvirt/emulator\n'})
        self.assertEqual({'emulator': {1}}, numa.groups(7))
        # Those above have less.
        error = self.assertRaises(exception.CgroupError, numa.set_mems, 7,
                                  [3])
        self.assertIn('has 3 and gives 1; a cgroup above', str(error))

    def test_out_of_sight(self):
        self.make(V2, {7: '0::/a.scope/libvirt/emulator\n'})
        self.assertIn("needs the host's cgroups", str(self.assertRaises(
            exception.CgroupError, numa.groups, 7)))


class SystemCallTest(base.TestCase):

    def setUp(self):
        super().setUp()
        # This process is no domain's.
        self.useFixture(fixtures.MonkeyPatch(
            'kongming.kernel.numa._check_domain', lambda pid: None))
        self.memory = mmap.mmap(-1, 1 << 20, mmap.MAP_PRIVATE
                                | mmap.MAP_ANONYMOUS)
        self.first = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))

    def slice(self, node=0):
        try:
            return numa.move_slice(os.getpid(), self.first, 1024, 4, node)
        except PermissionError as exc:
            self.skipTest(f'this machine forbids move_pages: {exc}')

    def test_pages_that_exist_are_counted(self):
        self.memory[:4096 * 3] = b'x' * 4096 * 3
        there, anywhere = self.slice()
        self.assertEqual(there, anywhere)
        self.assertGreaterEqual(there, 12)
        self.memory[:] = b'x' * len(self.memory)
        self.assertEqual([1024, 1024], self.slice())
        self.assertEqual(0, numa.migrate_pages(os.getpid(), [0], 0))
        self.assertEqual(b'x' * len(self.memory), self.memory[:])

    def test_node_without_free_pages(self):
        """What stays is seen, and is no error of the call's."""
        self.memory[:] = b'x' * len(self.memory)
        real, asked = numa._call, []

        def call(which, pid, *args):
            if which == 0 or args[2] is not None:
                asked.append(which)
                raise OSError(errno.ENOMEM, 'no page')
            return real(which, pid, *args)

        with mock.patch.object(numa, '_call', call), mock.patch.object(
                numa, '_where', return_value=array.array('i', [1] * 256)):
            self.assertEqual([0, 1024], self.slice())
            numa.migrate_pages(os.getpid(), [0], 0)
        self.assertEqual({0, 1}, set(asked))

    def test_node_that_is_not_there(self):
        self.memory[:] = b'x' * len(self.memory)
        self.slice()
        for call in (lambda: self.slice(1023),
                     lambda: numa.migrate_pages(os.getpid(), [0], 1023),
                     lambda: numa.move_slice(2 ** 22 + 1, self.first, 4, 4,
                                             0)):
            self.assertRaises(OSError, call)


class OtherProcessTest(base.TestCase):

    def test_process_that_is_no_domain(self):
        """No pages are moved, and no cgroup is written that others use."""
        for call in (
                numa.groups, numa.texts, numa.in_the_way,
                lambda pid: numa.migrate_pages(pid, [0], 0),
                lambda pid: numa.move_slice(pid, 0, 4, 4, 0)):
            error = self.assertRaises(exception.CgroupError, call,
                                      os.getpid())
            self.assertRegex(str(error), 'no cgroup of its own|not mounted')
        self.assertRaises(exception.CgroupError, numa.set_mems, os.getpid(),
                          [0])
