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

import fixtures
import libvirt

from kongming.kernel import cpuset
from kongming.libvirt import affinity
from kongming.live import threads
from kongming.live import witness
from tests.functional import test_profile
from tests.nested import host
from tests.nested import inside as inside_mod
from tests.nested import test_host
from tests.nested import test_live

#: Brings all CPUs online, and into the cpuset of all domains.
ONLINE = f"""
for cpu in {inside_mod.CPU}/cpu*/online; do echo 1 > $cpu; done
cd /sys/fs/cgroup/cpuset/machine 2>/dev/null && cat ../cpuset.cpus >cpuset.cpus
true
"""


class Base(test_live.LiveBase):

    def setUp(self):
        # Done last: nova-compute takes pCPUs offline as its servers go.
        self.addCleanup(host.Host().shell, ONLINE)
        super().setUp()

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


#: Has a thread run anywhere, as whoever writes both its cpuset and its
#: affinity does.
FREE = """
group=$(sed -n 's/^0:://p' /proc/{thread}/cgroup)
if [ -d /sys/fs/cgroup/cpuset ]; then
    group=/cpuset$(sed -n 's/^[0-9]*:cpuset://p' /proc/{thread}/cgroup)
fi
echo {pcpus} > "/sys/fs/cgroup$group/cpuset.cpus"
taskset -pc {pcpus} {thread}
"""


class PassTest(Base):
    """A pass of nova-compute finds threads that were freed."""

    def start(self):
        self.mine, self.other = self.dedicated(0)[:2]
        server = self.boot(grant='template', pin_0=f'0:{self.mine}')
        self.ring(server)
        return server

    def assertPutBack(self, server, cause):
        self.assertLess(1, len(self.threads(server)[0]))
        self.ring(server)
        self.assertEqual({0: frozenset({self.mine})}, self.threads(server))
        line, = [line for line in self.log.splitlines()
                 if 'Threads are freer than they may be' in line]
        self.assertIn(cause, line)

    def test_by_hand(self):
        server = self.start()
        process = self.inside.process_of(self.domain(server))
        thread, = [each.id for each in self.inside.read(None, process)
                   if each.kind == witness.VCPU]
        self.shell(FREE.format(thread=thread, pcpus='0-7'))
        self.assertPutBack(server, 'its cpuset has pCPU 0-7')

    def test_by_a_refused_pin(self):
        if self.shape.cgroup != 'v2':
            self.skipTest('cgroup version 1 keeps the thread where it is')
        server = self.start()
        # Nova deletes nothing while a dedicated pCPU is offline.
        self.addCleanup(self.inside.set_online, self.other, 1)
        self.inside.set_online(self.other, 0)
        self.assertRaises(
            libvirt.libvirtError, self.domain(server).pinVcpuFlags, 0,
            tuple(pcpu == self.other for pcpu in range(8)), 1)
        self.assertPutBack(server, f'pCPU {self.other} only, which is '
                                   f'offline: a pin there was refused')


class Server:
    """What is asked of a nova.objects.Instance."""

    uuid = name = 'nested'


class Api:
    """What is asked of nova_ext.power.CpuApi."""

    def __init__(self, inside):
        self.online = inside.online


class WitnessTest(test_host.DomainBase):
    """libvirt's word and the kernel's, of a domain on pCPUs 2 and 3."""

    def setUp(self):
        super().setUp()
        # The environment of Nova's tests comes first.
        from nova_ext.live import record
        from nova_ext.live import witness as witness_mod
        from nova_ext import privileged
        privileged.context.set_client_mode(False)
        self.refusal = record.ChangeFailed
        self.inside = inside_mod.Inside(self.host)
        self.addCleanup(self.inside.close)
        self.inside.put(lambda name, function: self.useFixture(
            fixtures.MonkeyPatch(name, function)))
        self.addCleanup(self.host.shell, ONLINE)
        self.log = self.useFixture(fixtures.FakeLogger())
        self.domain = self.start(wait=False)
        self.wanted = threads.Threads({0: frozenset({2}), 1: frozenset({3})})
        self.owned = frozenset({2, 3})
        affinity.apply(self.domain, self.wanted, 8)
        self.witness = witness_mod.Witness(Api(self.inside))

    def freed(self):
        return self.witness.freed(Server, self.domain, self.wanted)

    def put_back(self, wanted=None):
        self.witness.put_back(Server, self.domain, wanted or self.wanted,
                              self.owned, 8)

    def places(self):
        return {thread.number: set(thread.allowed) for thread
                in self.inside.read(None, self.inside.process_of(self.domain))
                if thread.kind == witness.VCPU}

    def thread(self, vcpu):
        return next(thread.id for thread in self.inside.read(
            None, self.inside.process_of(self.domain))
            if (thread.kind, thread.number) == (witness.VCPU, vcpu))

    def test_where_it_is_pinned(self):
        self.assertEqual({0: {2}, 1: {3}}, self.places())
        self.assertEqual([], self.freed())

    def test_freed_by_hand(self):
        """The cpuset holds taskset; whoever writes both has it free."""
        thread = self.thread(0)
        self.host.shell(FREE.format(thread=thread, pcpus='0-7'))
        self.assertLess(1, len(self.places()[0]))
        self.put_back()
        self.assertEqual({0: {2}, 1: {3}}, self.places())
        self.assertIn('its cpuset has pCPU 0-7', self.log.output)

    def test_refused_pin(self):
        self.inside.set_online(7, 0)
        self.assertRaises(
            libvirt.libvirtError, self.domain.pinVcpuFlags, 0,
            tuple(pcpu == 7 for pcpu in range(8)), 1)
        freed = self.places()[0]
        if self.host.shape.cgroup == 'v2':
            self.assertEqual(self.inside.online(), freed)
        self.put_back()
        self.assertEqual({0: {2}, 1: {3}}, self.places())
        if freed != {2}:
            self.assertIn('pCPU 7 only, which is offline: a pin there was '
                          'refused', self.log.output)

    def test_pcpu_goes_offline(self):
        self.inside.set_online(2, 0)
        self.assertLess(1, len(self.places()[0]))
        # libvirt refuses a pin there; the kernel keeps it on what is owned.
        refused = self.assertRaises(self.refusal, self.put_back)
        self.assertIn('pCPU 2 is offline', str(refused))
        self.assertEqual({0: {3}, 1: {3}}, self.places())
        self.inside.set_online(2, 1)
        # As who powers it up does.
        cpuset.reclaim_cpus([2])
        affinity.again(self.domain, self.wanted, 8, {(witness.VCPU, 0)})
        self.assertEqual({0: {2}, 1: {3}}, self.places())
