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
"""QoS of real vCPUs: what is in their cgroups, and what they get by it."""

import os
import pathlib
import re
import time
import unittest

from kongming.compute import servers
from tests.embedded import cloud
from tests.embedded import guests
from tests.functional import test_life

_PROC = pathlib.Path('/proc')


def usual(weight=100, quota=None, period=100000, burst=0):
    """What the files of a vCPU's cgroup say, in the kernel's words."""
    return {
        'cpu.shares': str({100: 1024, 300: 3072, 400: 4096}[weight]),
        'cpu.cfs_quota_us': str(quota or -1),
        'cpu.cfs_period_us': str(period), 'cpu.cfs_burst_us': str(burst),
        'cpu.weight': str(weight), 'cpu.max': f'{quota or "max"} {period}',
        'cpu.max.burst': str(burst)}


class QosBase(cloud.LibvirtCloud):
    # A server has no more vCPUs than pCPUs are shared.
    SHARED_PCPUS = 2

    def setUp(self):
        super().setUp()
        self.start_host()
        self.reconciler = self.computes['compute1'].driver._reconciler

    def boot(self, vcpus=2, image='idle', native=(), **specs):
        """A server that floats over the shared pCPUs.

        :param native: extra specs of Nova's
        """
        server = self._create_server(
            image_uuid=guests.IDS[image], networks='none',
            flavor_id=self._create_flavor(
                vcpu=vcpus, memory_mb=64, disk=1, ephemeral=0, swap=0,
                extra_spec={**dict(native), **{
                    f'kongming:{key.replace("_", ".")}': value
                    for key, value in specs.items()}}))
        self.reconciler.run()
        return server

    def domain(self, server):
        return self.connection_of(server['id']).lookupByUUIDString(
            server['id'])

    def tasks(self, server):
        """vCPU -> its thread, in /proc."""
        name = self.domain(server).name()
        folder = _PROC / pathlib.Path(
            f'/run/libvirt/qemu/{name}.pid').read_text() / 'task'
        found = {}
        for task in folder.iterdir():
            comm = re.match('CPU ([0-9]+)/', (task / 'comm').read_text())
            if comm:
                found[int(comm[1])] = task
        return found

    def folders(self, server):
        """vCPU -> where the cpu controller has its thread."""
        return {vcpu: _folder((task / 'cgroup').read_text())
                for vcpu, task in self.tasks(server).items()}

    def files(self, server):
        """vCPU -> name of a file -> what it says."""
        return {vcpu: {path.name: path.read_text().strip()
                       for path in folder.iterdir()
                       if path.name in usual()}
                for vcpu, folder in self.folders(server).items()}

    def domain_cpu_shares(self, server):
        """In units of what a domain has by itself."""
        domain = next(iter(self.folders(server).values())).parent
        for name, least in (('cpu.shares', 1024), ('cpu.weight', 100)):
            if (domain / name).exists():
                return int((domain / name).read_text()) / least

    def say(self, server, value):
        self.api.post_server_metadata(server['id'], {'kongming:qos': value})
        self.reconciler.run()

    def unset_qos(self, server):
        self.api.delete_server_metadata(server['id'], 'kongming:qos')
        self.reconciler.run()

    def changes(self, server):
        return [action for action in self.api.get_instance_actions(
            server['id']) if action['action'] == servers.LIVE_CHANGE]

    def change(self, server):
        """(result, details) of the last live change."""
        event, = self.api.api_get(
            f'/servers/{server["id"]}/os-instance-actions/'
            f'{self.changes(server)[0]["request_id"]}').body[
                'instanceAction']['events']
        return event['result'], event.get('details') or ''

    def assertFiles(self, server, *expected):
        """
        :param expected: arguments of usual() for each vCPU
        """
        found = self.files(server)
        self.assertEqual(len(expected), len(found))
        for vcpu, arguments in enumerate(expected):
            self.assertEqual(
                {name: value for name, value in usual(**arguments).items()
                 if name in found[vcpu]}, found[vcpu], f'vCPU {vcpu}')
            self.assertGreaterEqual(len(found[vcpu]), 2)

    def seconds(self, server):
        """vCPU -> CPU time that its thread has had."""
        return {vcpu: int((task / 'schedstat').read_text().split()[0]) / 1e9
                for vcpu, task in self.tasks(server).items()}


def _folder(groups):
    """Of a thread, by its /proc/.../cgroup."""
    lines = dict(line.split(':', 1)[1].split(':', 1)
                 for line in groups.splitlines())
    for names, path in lines.items():
        if 'cpu' in names.split(','):
            return pathlib.Path('/sys/fs/cgroup', names, path.lstrip('/'))
    return pathlib.Path('/sys/fs/cgroup', lines[''].lstrip('/'))


class FilesTest(QosBase):

    LIMITED = {'weight': 300}, {'quota': 50000, 'burst': 20000}
    USUAL = {}, {}

    def limited(self, **specs):
        return self.boot(qos='0:weight=300 1:quota=50%,burst=20%', **specs)

    def test_from_the_first_pass_on(self):
        server = self.limited()
        self.assertFiles(server, *self.LIMITED)
        self.assertEqual(2, self.domain_cpu_shares(server))
        # What a domain needs at its start is no live change.
        self.assertEqual([], self.changes(server))
        self.reconciler.run()
        self.assertEqual([], self.changes(server))

    def test_metadata(self):
        server = self.boot(grant='qos')
        self.assertFiles(server, *self.USUAL)
        self.say(server, '0:weight=300 1:quota=50%,burst=20%')
        self.assertFiles(server, *self.LIMITED)
        self.assertEqual(('Success', ''), self.change(server))
        self.say(server, '1:weight=400,quota=70.5%')
        self.assertFiles(server, {}, {'weight': 400, 'quota': 70500})
        self.assertEqual(2.5, self.domain_cpu_shares(server))
        self.unset_qos(server)
        self.assertFiles(server, *self.USUAL)
        self.assertEqual(1, self.domain_cpu_shares(server))
        self.assertEqual(3, len(self.changes(server)))

    def test_metadata_without_a_grant(self):
        server = self.boot(grant='template')
        self.say(server, '0:weight=300')
        self.assertFiles(server, *self.USUAL)

    def test_put_back(self):
        """libvirt rewrites all vCPUs of a domain, an admin what they like."""
        server = self.limited()
        domain = self.domain(server)
        for parameters in ({'vcpu_quota': 30000}, {'vcpu_period': 50000},
                           {'vcpu_quota': -1}, {'cpu_shares': 2},
                           {'vcpu_quota': 20000, 'vcpu_period': 200000}):
            domain.setSchedulerParametersFlags(parameters, 1)
            self.reconciler.run()
            self.assertFiles(server, *self.LIMITED)
            self.assertEqual(2, self.domain_cpu_shares(server))
        self.assertEqual([], self.changes(server))

    def test_restored(self):
        """What libvirt leaves alone."""
        server = self.limited()
        domain = self.domain(server)
        width = len(domain.vcpuPinInfo()[0])
        domain.pinVcpu(1, (True,) * width)
        domain.pinEmulator((True,) * width)
        domain.setSchedulerParametersFlags({'emulator_quota': 50000}, 1)
        self.assertFiles(server, *self.LIMITED)

    def test_starts_anew(self):
        # The guest hears of no button.
        self.flags(shutdown_timeout=1)
        server = self.limited()
        self._reboot_server(server, hard=True)
        self.assertFiles(server, *self.USUAL)
        self.reconciler.run()
        self.assertFiles(server, *self.LIMITED)
        self._stop_server(server)
        self.reconciler.run()
        self._start_server(server)
        self.reconciler.run()
        self.assertFiles(server, *self.LIMITED)
        self.assertEqual([], self.changes(server))

    def test_beside_what_nova_says(self):
        """A vCPU that is named has KongMing's, the others keep Nova's."""
        native = {'quota:cpu_shares': '2048', 'quota:cpu_quota': '20000',
                  'quota:cpu_period': '50000'}
        of_nova = {'quota': 20000, 'period': 50000}
        server = self.boot(native=native, grant='qos')
        self.assertFiles(server, of_nova, of_nova)
        before = self.domain_cpu_shares(server)
        self.say(server, '1:weight=300')
        self.assertFiles(server, of_nova, {'weight': 300, **of_nova})
        self.assertEqual(2 * before, self.domain_cpu_shares(server))
        self.say(server, '1:quota=20%')
        self.assertFiles(server, of_nova, {'quota': 10000, 'period': 50000})
        self.assertEqual(before, self.domain_cpu_shares(server))
        # More than Nova's is for the flavor to say.
        self.say(server, '1:quota=80%,burst=80%')
        self.assertFiles(server, of_nova, of_nova)
        self.unset_qos(server)
        self.assertFiles(server, of_nova, of_nova)
        self.assertEqual(before, self.domain_cpu_shares(server))
        more = self.boot(native=native, qos='1:quota=80%,burst=80%')
        self.assertFiles(more, of_nova, {
            'quota': 40000, 'period': 50000, 'burst': 40000})

    def test_nobody_asks(self):
        """With a template as well: by hand is by hand."""
        server = self.boot(native={'hw:numa_nodes': '1'}, grant='template')
        self.domain(server).setSchedulerParametersFlags(
            {'vcpu_quota': 30000, 'cpu_shares': 512}, 1)
        self.reconciler.run()
        self.assertFiles(server, {'quota': 30000}, {'quota': 30000})

    def test_kernel_refuses(self):
        """Reported once with the file and the value; done when it can be."""
        server = self.boot(grant='qos')
        domain = self.domain(server)
        if 'cpu.max' in self.files(server)[0]:
            self.skipTest('version 2 lets a cgroup have more than those '
                          'above it')
        domain.setSchedulerParametersFlags({'global_quota': 20000}, 1)
        self.say(server, '0:quota=50%')
        for _pass in range(2):
            result, details = self.change(server)
            self.assertEqual('Error', result)
            self.assertRegex(details, "'50000' can not be written to .*vcpu0/"
                                      'cpu.cfs_quota_us: Invalid argument')
            self.assertEqual(1, len(self.changes(server)))
            self.reconciler.run()
        domain.setSchedulerParametersFlags({'global_quota': -1}, 1)
        self.reconciler.run()
        self.assertFiles(server, {'quota': 50000}, {})
        self.assertEqual('Success', self.change(server)[0])


@unittest.skipIf(len(os.sched_getaffinity(0)) < 2, 'needs two pCPUs')
class OwnTest(QosBase):

    SHARED_PCPUS = 1

    def test_beside_what_it_owns(self):
        server = self.boot(vcpus=1, native={'hw:cpu_policy': 'dedicated'},
                           qos='0:weight=300', sched='0:batch')
        self.assertFiles(server, {'weight': 300})


class ShareTest(QosBase):
    """Guests that never sleep, all on one pCPU."""

    #: Of a share, in hundredths of all.
    ERROR = 5

    def measure(self, *booted, seconds=4):
        """CPU time of each vCPU in that time, in per cent of them all."""
        for server in booted:
            self.wait_for_all(server)
        before = [self.seconds(server) for server in booted]
        time.sleep(seconds)
        spent = [after[vcpu] - then[vcpu]
                 for server, then in zip(booted, before, strict=True)
                 for after in [self.seconds(server)] for vcpu in sorted(after)]
        return [100 * one / sum(spent) for one in spent]

    def wait_for_all(self, server):
        """Until all its vCPUs are busy on the one pCPU."""
        domain = self.domain(server)
        width = len(domain.vcpuPinInfo()[0])
        one = min(os.sched_getaffinity(0))
        for vcpu in self.tasks(server):
            domain.pinVcpu(vcpu, tuple(
                pcpu == one for pcpu in range(width)))
        # The firmware starts each vCPU for a moment, to count them.
        in_a_row, before = 0, self.seconds(server)
        for _attempt in range(240):
            time.sleep(0.25)
            now = self.seconds(server)
            busy = all(now[vcpu] > before[vcpu] + 0.002 for vcpu in now)
            in_a_row, before = in_a_row + 1 if busy else 0, now
            if in_a_row == 4:
                return
        self.fail('its vCPUs are not all busy')

    def assertCpuShares(self, expected, found):
        for one, other in zip(expected, found, strict=True):
            self.assertLess(abs(one - other), self.ERROR, found)

    def test_of_one_server(self):
        server = self.boot(image='busy', grant='qos')
        self.assertCpuShares([50, 50], self.measure(server))
        self.say(server, '1:weight=300')
        self.assertCpuShares([25, 75], self.measure(server))
        self.unset_qos(server)
        self.assertCpuShares([50, 50], self.measure(server))

    @test_life.long
    def test_of_several_servers(self):
        """A weight counts against others as well, whose own is untouched."""
        one = self.boot(image='busy', qos='1:weight=300', grant='qos')
        other = self.boot(image='busy')
        self.assertCpuShares([100 / 6, 50, 100 / 6, 100 / 6],
                             self.measure(one, other, seconds=6))

    @test_life.long
    def test_quota(self):
        """So small a one that it binds on a machine that is busy, too."""
        server = self.boot(image='busy', grant='qos')
        self.wait_for_all(server)
        self.say(server, '0:quota=2%')
        before, began = self.seconds(server), time.monotonic()
        time.sleep(4)
        after, wall = self.seconds(server), time.monotonic() - began
        self.assertLess(abs(100 * (after[0] - before[0]) / wall - 2), 0.5)
        self.assertGreater(after[1] - before[1], after[0] - before[0])
