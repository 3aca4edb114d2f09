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
"""Classes of service: the privsep daemon's rights, and real vCPU threads.

The file system is a folder with the mode that the kernel's has, or the
stand-in for it, whose rules are in tests.unit.resctrl.test_resctrl.
"""

import os
import pathlib
import subprocess
import sys
import unittest

import fixtures

from kongming.kernel import resctrlfs
from kongming.placement import flavor
from nova_ext import privileged
from tests import base
from tests.embedded import guests
from tests.libvirt import daemon
from tests.libvirt import test_cgroup
from tests.libvirt import test_qos
from tests import resctrl as fake

SERVER = '00000000-0000-0000-0000-000000000001'
GROUP = f'kongming-{SERVER}-0'
FILES = {'info/L3/num_closids': '4', 'info/L3/cbm_mask': '7ff',
         'info/L3/min_cbm_bits': '1', 'info/L3/shareable_bits': '600',
         'schemata': 'L3:0=7c0', 'tasks': '',
         'info/last_cmd_status': 'ok'}


@unittest.skipIf(os.getuid(), 'as root only')
class DaemonTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.root = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        for path, text in FILES.items():
            file = self.root / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text + '\n')
        self.root.chmod(0o555)
        self.useFixture(fixtures.MonkeyPatch('kongming.kernel.resctrlfs.ROOT',
                                             self.root))
        self.process = subprocess.Popen(
            [sys.executable, '-c', test_cgroup._NAMED, SERVER],
            stdout=subprocess.PIPE)
        self.addCleanup(self.process.wait)
        self.addCleanup(self.process.kill)
        self.addCleanup(self.process.stdout.close)
        self.process.stdout.readline()

    def host(self, *wanted):
        return resctrlfs.Host(wanted, ('b' * 36,), ((SERVER, 1),), 3)

    def test_makes_and_removes(self):
        daemon.start(self, privileged.resctrl_context)
        wanted = resctrlfs.Wanted(GROUP, 20, None, (0,), self.process.pid,
                                  (0,))
        outcome = resctrlfs.Outcome(
            *privileged.arrange_clos(*self.host(wanted)))
        # It was made, and there is no kernel to put files into it.
        self.assertEqual(((SERVER, 'class of vCPU 0 made'),),
                         tuple(map(tuple, outcome.done)))
        self.assertIn('class of vCPU 0: L3:0=3', outcome.refused[GROUP])
        self.assertIn('No such file or directory', outcome.refused[GROUP])
        self.assertFalse((self.root / GROUP).exists())

        self.root.chmod(0o755)
        (self.root / GROUP).mkdir()
        (self.root / GROUP / 'schemata').touch()
        (self.root / GROUP / 'tasks').touch()
        self.root.chmod(0o555)
        outcome = resctrlfs.Outcome(
            *privileged.arrange_clos(*self.host(wanted)))
        self.assertEqual('L3:0=3\n', (self.root / GROUP
                                      / 'schemata').read_text())
        self.assertEqual(f'{self.process.pid}\n',
                         (self.root / GROUP / 'tasks').read_text())
        self.assertEqual({}, outcome.refused)


class Threads(dict):
    """Group of each thread of this machine: the default one by itself."""

    def __contains__(self, thread):
        return pathlib.Path(f'/proc/{thread}').exists()


class RealThreadsTest(test_qos.QosBase):

    def start_host(self, name='compute1'):
        self.kernel = fake.Kernel(domains=set(resctrlfs.l3_of().values()))
        self.kernel.set_aside(6)
        self.kernel.threads = Threads()
        self.useFixture(fixtures.MonkeyPatch(
            'kongming.kernel.resctrlfs.Files', lambda root=None: self.kernel))
        return super().start_host(name)

    def groups(self, server):
        """First vCPU of a class -> its vCPUs."""
        tasks = {int(task.name): vcpu
                 for vcpu, task in self.tasks(server).items()}
        return {int(name.rpartition('-')[2]): {
            tasks[thread] for thread in self.kernel.tasks_of(name)
            if thread in tasks}
            for name in self.kernel.groups if server['id'] in name}

    def test_threads_of_a_real_domain(self):
        self.flags(shutdown_timeout=1)
        hw = {'hw:numa_nodes': '1'}
        specs = {'kongming:cache': '0:l3=20% 1:mb=50%',
                 'kongming:profile.less.cache': '0:l3=10%',
                 'kongming:grant': 'profile'}
        server = self._create_server(
            image_uuid=guests.IDS['idle'], networks='none',
            flavor_id=self._create_flavor(
                vcpu=2, memory_mb=64, disk=1, ephemeral=0, swap=0,
                extra_spec={**hw, **specs,
                            flavor.TRAIT_KEY: flavor.REQUIRED}))
        self.reconciler.run()
        self.assertEqual({0: {0}, 1: {1}}, self.groups(server))
        self.api.post_server_metadata(
            server['id'], {'kongming:profile': 'less'})
        self.reconciler.run()
        self.assertEqual({0: {0}}, self.groups(server))
        self.assertEqual(('Success', ''), self.change(server))
        self.api.post_server_action(server['id'],
                                    {'reboot': {'type': 'HARD'}})
        # A busy machine takes longer than Nova's fixture waits.
        self._wait_for_state_change(server, 'ACTIVE')
        self.reconciler.run()
        self.assertEqual({0: {0}}, self.groups(server))
