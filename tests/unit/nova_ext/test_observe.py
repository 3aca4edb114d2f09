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

"""QoS and classes of service on a host that observes."""

from unittest import mock

import fixtures
from kongming.host import usage
from kongming.intent import merge
from kongming.live import qos
from kongming.template import template
from nova import objects

from nova_ext.live import clos
from nova_ext.live import cpu_shares
from tests import base
from tests import resctrl as fake

objects.register_all()
UUID = '5f0f2a6d-4a0c-4b1b-9a53-7f1a3a6f7c11'
PID = 1000


class ObserveBase(base.TestCase):

    def setUp(self):
        super().setUp()
        self.domain, self.pid = mock.Mock(), PID
        for path, value in (
                ('kongming.kernel.process.pid', lambda domain: self.pid),
                ('nova_ext.privileged.set_share', self.fail),
                ('nova_ext.privileged.arrange_clos', self.fail)):
            self.useFixture(fixtures.MonkeyPatch(path, value))

    def server(self, cells=True, **specs):
        specs = {f'kongming:{key}': value for key, value in specs.items()}
        server = objects.Instance(
            uuid=UUID, metadata={}, numa_topology=None,
            flavor=objects.Flavor(vcpus=2, extra_specs=specs))
        if cells:
            server.numa_topology = objects.InstanceNUMATopology(
                cells=[objects.InstanceNUMACell(
                    id=1, cpuset=set(), pcpuset={0, 1}, memory=64,
                    cpu_pinning={0: 8, 1: 9})])
        return server, merge.Intent(template.decode(specs))


class SharesTest(ObserveBase):

    def setUp(self):
        super().setUp()
        self.now = qos.wanted((), 2, qos.native({}), 2)[0]
        for name, value in (('version', lambda: 2), ('apply', self.fail),
                            ('read', lambda domain, pid: self.now)):
            self.useFixture(fixtures.MonkeyPatch(
                f'kongming.kernel.cgroup.{name}', value))
        self.done, self.refused = [], []
        self.enforcer = cpu_shares.CpuSharesEnforcer(
            lambda server: self.domain,
            lambda *change: self.done.append(change), self.refused)

    def observe(self, **specs):
        found = self.enforcer.observe(*self.server(**specs))
        self.assertEqual(([], []), (self.done, self.refused))
        return found

    def test_what_would_be_done(self):
        words = self.observe(qos='0:weight=300')
        self.assertIn('300', ' '.join(words))
        self.assertEqual(words, self.observe(qos='0:weight=300'))

    def test_nothing_where_it_is_so(self):
        server, intent = self.server(qos='0:weight=300')
        self.now = qos.wanted(intent.qos, 2, qos.native({}), 2)[0]
        self.assertEqual([], self.enforcer.observe(server, intent))

    def test_nobody_asks(self):
        self.now = None
        self.assertEqual([], self.observe(sched='0:batch'))

    def test_out_of_sight_or_off(self):
        self.pid = None
        self.assertIn('is not to be seen here',
                      self.observe(qos='0:weight=300')[0])
        self.domain = None
        self.assertEqual([], self.observe(qos='0:weight=300'))


class ClassesTest(ObserveBase):

    def setUp(self):
        super().setUp()
        self.kernel = fake.Kernel()
        self.kernel.set_aside(6)
        self.kernel.written.clear()
        self.kernel.threads.update({PID + 1: '', PID + 2: ''})
        host = usage.HostState([
            usage.NodeState(n, frozenset(range(8 * n, 8 * n + 8)))
            for n in (0, 1)])
        for path, value in (
                ('resctrlfs.Files', lambda root=None: self.kernel),
                ('resctrlfs.l3_of', lambda root=None: {
                    pcpu: pcpu // 8 for pcpu in range(16)}),
                ('process.is_of', lambda pid, uuid: True),
                ('process.vcpu_threads', lambda pid: {
                    0: PID + 1, 1: PID + 2})):
            self.useFixture(fixtures.MonkeyPatch(
                f'kongming.kernel.{path}', value))
        self.enforcer = clos.ClosEnforcer(
            lambda server: self.domain, lambda: host, self.fail, [])

    def observe(self, **specs):
        found = self.enforcer.observe([self.server(**specs)])
        # Neither the kernel nor who reads the log is told anything else.
        self.assertEqual([], self.kernel.written)
        self.assertEqual([''], list(self.kernel.groups))
        self.assertEqual(({}, ''), (self.enforcer._reported._reported,
                                    self.enforcer._said))
        return found

    def test_what_would_be_done(self):
        words = ' '.join(self.observe(cache='0-1:l3=20%')[UUID])
        self.assertIn('class of vCPU 0 made', words)
        self.assertIn(f'threads {PID + 1}, {PID + 2}', words)

    def test_what_can_not_be(self):
        words = ' '.join(self.observe(cache='0-1:l3=100%')[UUID])
        self.assertIn('cache: ', words)

    def test_reasons(self):
        self.assertIn('has no NUMA cells', self.observe(
            cells=False, cache='0-1:l3=20%')[UUID][0])
        self.pid = None
        self.assertIn('is not to be seen here', self.observe(
            cache='0-1:l3=20%')[UUID][0])

    def test_nobody_asks(self):
        self.assertEqual({}, self.observe(sched='0:batch'))
