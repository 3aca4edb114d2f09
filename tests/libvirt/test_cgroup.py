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
"""The cpu controller of this machine's kernel, by the privsep daemon.

Without a domain: a process that is named as QEMU names a vCPU's thread.
"""

import pathlib
import subprocess
import sys
import time
import unittest


from kongming import exception
from kongming.kernel import cgroup
from kongming.live import qos
from nova_ext import privileged
from tests import base
from tests.libvirt import daemon

_CPU = pathlib.Path('/sys/fs/cgroup/cpu')
_NAMED = """
import pathlib, time
pathlib.Path('/proc/self/comm').write_text('CPU 0/KVM')
print(flush=True)
time.sleep(600)
"""


@unittest.skipIf(cgroup.version() != 1, 'nested: version 2')
class CgroupTest(base.TestCase):

    LIMITED = qos.Share(300, 50000, 100000, 20000)

    def setUp(self):
        super().setUp()
        self.process = subprocess.Popen([sys.executable, '-c', _NAMED],
                                        stdout=subprocess.PIPE)
        self.addCleanup(self.process.stdout.close)
        self.process.stdout.readline()
        self.domain = _CPU / f'kongming-test-{self.process.pid}'
        self.vcpu = self.domain / 'vcpu0'
        self.vcpu.mkdir(parents=True)
        self.addCleanup(self.remove)

    def remove(self):
        self.process.kill()
        self.process.wait()
        for folder in (self.vcpu, self.domain):
            for _attempt in range(50):
                try:
                    folder.rmdir()
                    break
                except OSError:
                    time.sleep(0.1)

    def enter(self):
        (self.vcpu / 'tasks').write_text(str(self.process.pid))

    def set(self, share):
        privileged.set_share(self.process.pid, 0, share)

    def read(self):
        return qos.parse(1, {name: (self.vcpu / name).read_text()
                             for name in qos.FILES[1]})

    def test_daemon(self):
        """With the capabilities that the context has by itself."""
        self.enter()
        daemon.start(self, privileged.context)
        self.set(self.LIMITED)
        self.assertEqual(self.LIMITED, self.read())
        (self.domain / 'cpu.cfs_quota_us').write_text('50000')
        error = self.assertRaises(exception.CgroupError, self.set,
                                  self.LIMITED._replace(quota_us=80000))
        self.assertIn(f"'80000' can not be written to {self.vcpu}/"
                      f'cpu.cfs_quota_us', str(error))

    def test_refused_halfway(self):
        self.enter()
        cgroup.set_share(self.process.pid, 0, self.LIMITED)
        (self.domain / 'cpu.cfs_quota_us').write_text('50000')
        for share in (qos.Share(300, 80000, 100000, 30000),
                      qos.Share(100, 150000, 200000, 1000)):
            self.assertRaises(exception.CgroupError, cgroup.set_share,
                              self.process.pid, 0, share)
            self.assertEqual(self.LIMITED, self.read())

    def test_in_nobody_elses_cgroup(self):
        before = self.read()
        error = self.assertRaises(exception.CgroupError, cgroup.set_share,
                                  self.process.pid, 0, self.LIMITED)
        self.assertIn('has no cgroup of its own (', str(error))
        self.assertEqual(before, self.read())
