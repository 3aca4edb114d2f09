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
"""Where a vCPU's own cgroup is, on the hosts that there are."""

import errno
import os
import pathlib
from unittest import mock

import fixtures

from kongming import exception
from kongming.kernel import cgroup
from tests import base

#: Mounted by hand, one controller each; a v2 hierarchy without the cpu.
BY_HAND = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
33 31 0:30 / /sys/fs/cgroup/cpuacct rw,relatime - cgroup cgroup rw,cpuacct
34 31 0:31 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
"""
IN_MACHINE = """\
3:cpuset:/machine/qemu-1-a.libvirt-qemu/vcpu0
2:cpuacct:/machine/qemu-1-a.libvirt-qemu/vcpu0
1:cpu:/machine/qemu-1-a.libvirt-qemu/vcpu0
0::/
"""
SYSTEMD_1 = """\
30 24 0:26 / /sys/fs/cgroup ro,nosuid shared:9 - tmpfs tmpfs ro,mode=755
35 30 0:31 / /sys/fs/cgroup/cpu,cpuacct rw shared:15 - cgroup cgroup \
rw,cpu,cpuacct
"""
SYSTEMD_2 = """\
30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 \
rw,nsdelegate,memory_recursiveprot
"""
#: The backslashes are in the name.
SCOPE = r'/machine.slice/machine-qemu\x2d1\x2da.scope'


class WriteTest(base.TestCase):
    """What the kernel answers, and what would be right."""

    def refused(self, number):
        folder = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        (folder / 'cpu.weight').write_text('100')
        with mock.patch.object(pathlib.Path, 'write_text', side_effect=OSError(
                number, os.strerror(number))):
            return str(self.assertRaises(
                exception.CgroupError, cgroup._write, folder,
                [('cpu.weight', '300')]))

    def test_not_root(self):
        for number in errno.EACCES, errno.EPERM:
            error = self.refused(number)
            self.assertRegex(error, "'300' can not be written to .*cpu.weight")
            self.assertIn('it is for root to write: [kongming_privileged] in '
                          'nova.conf', error)

    def test_a_container(self):
        self.assertIn('this process sees the cgroups mounted read-only',
                      self.refused(errno.EROFS))


class FindTest(base.TestCase):

    def check(self, version, path, groups, mounts, vcpu=0):
        self.assertEqual((version, pathlib.Path(path)),
                         cgroup.find(groups, mounts, vcpu))

    def refused(self, words, groups, mounts=BY_HAND, vcpu=0):
        error = self.assertRaises(exception.CgroupError, cgroup.find, groups,
                                  mounts, vcpu)
        self.assertIn(words, str(error))

    def test_mounted_by_hand(self):
        self.check(1, '/sys/fs/cgroup/cpu/machine/qemu-1-a.libvirt-qemu/vcpu0',
                   IN_MACHINE, BY_HAND)

    def test_systemd(self):
        self.check(1, f'/sys/fs/cgroup/cpu,cpuacct{SCOPE}/libvirt/vcpu0',
                   f'4:cpu,cpuacct:{SCOPE}/libvirt/vcpu0\n'
                   f'1:name=systemd:{SCOPE}\n0::{SCOPE}\n', SYSTEMD_1)
        self.check(2, f'/sys/fs/cgroup{SCOPE}/libvirt/vcpu12',
                   f'0::{SCOPE}/libvirt/vcpu12\n', SYSTEMD_2, 12)

    def test_odd_names(self):
        """A colon in a name, a blank in a mount point, a mount of a part."""
        self.check(2, '/a b/d:e/vcpu0', '0::/c/d:e/vcpu0\n',
                   r'1 2 0:3 /c /a\040b rw - cgroup2 none rw')

    def test_others_would_have_it_as_well(self):
        for groups in ('1:cpu:/\n', '1:cpu:/system/nova\n',
                       '1:cpu:/machine/qemu-1-a.libvirt-qemu/emulator\n',
                       '1:cpu:/machine/qemu-1-a.libvirt-qemu/vcpu1\n',
                       '1:cpu:/machine/vcpu0 (deleted)\n'):
            self.refused('vCPU 0 has no cgroup of its own', groups)
        self.refused('vCPU 1 has no cgroup of its own', IN_MACHINE, vcpu=1)

    def test_not_to_be_seen(self):
        self.refused('is not mounted', IN_MACHINE, '')
        self.refused('is not mounted', '3:cpuset:/a/vcpu0\n')
        for root in ('/../..', '/mac'):
            self.refused(f'only what is below {root} is', IN_MACHINE,
                         f'1 2 0:3 {root} /x rw - cgroup cgroup rw,cpu')


class RealTest(base.TestCase):

    def test_version(self):
        controllers = pathlib.Path('/proc/self/cgroup').read_text()
        self.assertEqual(1 if ':cpu:' in controllers or ':cpu,' in controllers
                         else 2, cgroup.version())
