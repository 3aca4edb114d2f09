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
"""QoS in the nested host's cgroups, of the version that it was started with.

kongming.kernel.cgroup reads and writes where it runs; here its decisions are
carried out by a shell inside.
"""

from kongming.kernel import cgroup
from kongming.live import qos
from kongming.template import tuning
from tests.embedded import witness
from tests.nested import test_host

_VERSIONS = {'v1': 1, 'v2': 2}
_LIVE = 1


class QosTest(test_host.DomainBase):

    def setUp(self):
        super().setUp()
        self.version = _VERSIONS[self.host.shape.cgroup]
        self.domain = self.start(wait=False)
        self.folders = {vcpu: self.find(vcpu) for vcpu in (0, 1)}

    def find(self, vcpu):
        """Where a vCPU's cgroup is, by what the kernel inside says."""
        task = (f'cd /proc/{witness.pid_file(self.domain.name())}/task\n'
                f'cat $(grep -l "^CPU {vcpu}/" */comm | cut -d/ -f1)/cgroup')
        version, folder = cgroup.find(
            self.host.shell(task), self.host.shell(
                'cat /proc/self/mountinfo'), vcpu)
        self.assertEqual(self.version, version)
        return folder

    def read(self):
        """vCPU -> Share."""
        found, names = {}, ' '.join(qos.FILES[self.version])
        for vcpu, folder in self.folders.items():
            said = self.host.shell(
                f"cd '{folder}' && grep '' {names}")
            found[vcpu] = qos.parse(self.version, dict(
                line.split(':', 1) for line in said.splitlines()))
        return found

    def give(self, value):
        """Have it as kongming:qos says; what it is to be."""
        now = self.read()
        wanted, _problems = qos.wanted(
            tuning.parse_qos(value) if value else (), len(now), qos.Native(),
            self.version)
        self.host.shell('set -e\n' + '\n'.join(
            f"echo {text} > '{self.folders[vcpu]}/{name}'"
            for vcpu, share in now.items() for name, text in qos.writes(
                self.version, share, wanted.vcpus[vcpu])))
        self.domain.setSchedulerParametersFlags(
            {'cpu_shares': wanted.domain}, _LIVE)
        return wanted

    def assertIs(self, wanted):
        self.assertEqual(wanted.vcpus, self.read())
        self.assertEqual(
            wanted.domain, self.domain.schedulerParameters()['cpu_shares'])

    def test_written_and_read(self):
        nothing = self.give(None)
        self.assertEqual(qos.DOMAIN[self.version][0], nothing.domain)
        self.assertIs(nothing)
        for value in ('0:weight=1 1:weight=10000',
                      '0:quota=50%,burst=50% 1:quota=1%,weight=333',
                      '0:quota=10%,burst=1%', '0-1:weight=200,quota=100%'):
            self.assertIs(self.give(value))
        self.give(None)
        self.assertIs(nothing)

    def test_what_libvirt_leaves_and_what_not(self):
        wanted = self.give('0:weight=300 1:quota=50%,burst=20%')
        self.domain.pinVcpu(1, (True,) * len(self.domain.vcpuPinInfo()[0]))
        self.domain.setSchedulerParametersFlags({'emulator_quota': 50000},
                                                _LIVE)
        self.assertIs(wanted)
        self.domain.setSchedulerParametersFlags({'vcpu_quota': 30000}, _LIVE)
        self.assertEqual({30000}, {share.quota_us
                                   for share in self.read().values()})
        self.assertIs(self.give('0:weight=300 1:quota=50%,burst=20%'))
