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
"""Power and the kernel's word on a host whose CPUs really go offline.

Nova, which is outside, is given the files of the kernel inside.
"""

import shlex

import fixtures
import libvirt

from kongming.kernel import cgroup
from kongming.live import witness
from tests.functional import test_profile
from tests.nested import inside as inside_mod
from tests.nested import test_live


class Base(test_live.LiveBase):

    def setUp(self):
        super().setUp()
        self.addCleanup(self.shell, f'for cpu in {inside_mod.CPU}/cpu*/'
                                    f'online; do echo 1 > $cpu; done')

    @property
    def log(self):
        return self.stdlog.logger.output


class PowerTest(Base):

    def start_host(self, *args):
        inside = self.inside
        for name, function in (
                ('exists', lambda core: True),
                ('get_online', lambda core: core in inside.online()),
                ('set_online', lambda core: inside.set_online(core, 1)),
                ('set_offline', lambda core: inside.set_online(core, 0)),
                ('get_governor', lambda core: 'performance')):
            self.useFixture(fixtures.MonkeyPatch(
                f'nova.virt.libvirt.cpu.core.{name}', function))
        self.flags(cpu_power_management=True, group='libvirt')
        return super().start_host(*args)

    def setUp(self):
        super().setUp()
        self.shared = set(self.cpu_sets()[0])

    def assertOn(self, *pcpus):
        self.assertEqual(self.shared | set(pcpus),
                         self.inside.online(fresh=True))

    def test_follows_ownership(self):
        """A live change, a stop, a start and a delete."""
        self.assertOn()
        one, other = self.dedicated(0)[:2]
        server = self.boot(grant='template', pin_0=f'0:{one}')
        self.assertOn(one)
        self.want(server, pin_0=f'0:{other}')
        self.assertEqual(('Success', None), self.last_change(server))
        self.assertEqual({0: frozenset({other})}, self.threads(server))
        self.assertOn(other)
        self._stop_server(server)
        self.assertOn()
        self._start_server(server)
        self.assertOn(other)
        self.assertEqual({0: frozenset({other})}, self.threads(server))
        self._delete_server(server)
        self.assertOn()

    def test_night(self):
        one, other = self.dedicated(0)[:2]
        moment = [test_profile.DAY]
        self.useFixture(fixtures.MonkeyPatch(
            'nova_ext.live.enforce.now', lambda: moment[0]))
        server = self.boot(vcpus=2, pin_0=f'0:{one} 1:{other}', **{
            'profile_night_when': '22:00-06:00',
            'profile_night_pin_0': '0-1~v0', 'profile_night_power': 'off'})
        self.ring(server)
        self.assertOn(one, other)
        moment[0] = test_profile.NIGHT
        self.ring(server)
        self.assertOn(one)
        self.assertEqual(dict.fromkeys((0, 1), frozenset({one})),
                         self.threads(server))
        self.ring(server)
        self.assertOn(one)
        moment[0] = test_profile.DAY
        self.ring(server)
        self.assertOn(one, other)
        self.assertEqual({0: frozenset({one}), 1: frozenset({other})},
                         self.threads(server))


class WitnessTest(Base):

    def setUp(self):
        super().setUp()
        self.one, self.other = self.dedicated(0)[:2]
        self.server = self.boot(vcpus=2,
                                pin_0=f'0:{self.one} 1:{self.other}')
        self.ring(self.server)

    def thread(self, vcpu):
        found, = (thread for thread in self.inside.read(
            None, self.inside.process_of(self.domain(self.server)))
            if (thread.kind, thread.number) == (witness.VCPU, vcpu))
        return found

    def assertRuns(self, first, second):
        self.assertEqual({0: frozenset({first}), 1: frozenset({second})},
                         self.threads(self.server))

    def test_taskset(self):
        self.assertRuns(self.one, self.other)
        self.shell(f'taskset -pc 0-7 {self.thread(0).id}')
        before = self.threads(self.server)[0]
        self.ring(self.server)
        self.assertRuns(self.one, self.other)
        if before == {self.one}:
            # The cpuset of version 1 lets nobody out of it.
            self.assertNotIn('by the kernel', self.log)
            return
        self.assertIn(f'vCPU 0 may run on pCPU 0-7, not on {self.one} only, '
                      f'by the kernel', self.log)

    def test_written_cpuset(self):
        """Its thread is free by then."""
        self.free_cpuset()
        self.assertGreater(len(self.threads(self.server)[0]), 1)
        self.ring(self.server)
        self.assertRuns(self.one, self.other)
        self.assertIn('its cpuset has pCPU 0-7: a pin was refused, or '
                      'somebody has written it', self.log)

    def free_cpuset(self):
        thread = self.thread(0)
        groups = self.shell(f'cat /proc/{thread.id}/cgroup')
        folder = cgroup.folder_in(
            self.shell('cat /proc/self/mountinfo'), groups, 'cpuset')
        self.shell(f'echo 0-7 > {shlex.quote(str(folder))}/cpuset.cpus && '
                   f'taskset -pc 0-7 {thread.id}')

    def test_refused_pin(self):
        self.inside.set_online(7, 0)
        self.assertRaises(
            libvirt.libvirtError,
            self.domain(self.server).pinVcpuFlags, 0,
            tuple(pcpu == 7 for pcpu in range(8)), 1)
        freed = self.threads(self.server)[0]
        self.ring(self.server)
        self.assertRuns(self.one, self.other)
        if not freed <= {self.one}:
            self.assertIn('a pin there was refused', self.log)

    def test_pcpu_goes_offline(self):
        """On what else it owns, and back as soon as that can be."""
        self.inside.set_online(self.one, 0)
        self.assertGreater(len(self.threads(self.server)[0]), 1)
        self.ring(self.server)
        self.assertRuns(self.other, self.other)
        self.inside.set_online(self.one, 1)
        self.ring(self.server)
        self.assertRuns(self.one, self.other)
