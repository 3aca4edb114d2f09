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

"""Who disturbs an owned pCPU of a host with several nodes, and its
interrupts, by its own kernel's files.
"""

import os
import shutil

from kongming.host import topology
from tests.nested import python
from tests.nested import test_host

#: Seconds in which nothing is to be reported.
SILENT = int(os.environ.get('KONGMING_SILENT_SECONDS', 60))


class WatchBase(test_host.DomainBase):

    def setUp(self):
        super().setUp()
        self.python = python.Python(self.host)
        self.owned = sorted(self.host.shape.pcpus(1))[:2]
        self.others = sorted(self.host.shape.pcpus(0))

    def start(self):
        """A domain that owns two pCPUs of node 1, all else elsewhere."""
        domain = super().start(node=1)
        domain.pinEmulator(tuple(
            pcpu in self.others for pcpu in range(max(self.owned) + 1)),
            test_host.LIVE)
        self.clear()
        return domain

    def clear(self):
        found = self.python('clear', owned=self.owned, others=self.others)
        self.addCleanup(self.python, 'follow', owned=[], others=self.others)
        return found

    def tasks(self, domain):
        """(pid, thread id -> name)."""
        pid, *lines = self.host.shell(
            f'pid=$(cat /run/libvirt/qemu/{domain.name()}.pid); echo $pid; '
            f'cd /proc/$pid/task; for task in *; do echo $task '
            f'$(cat $task/comm); done').splitlines()
        return int(pid), {int(line.split(' ', 1)[0]): line.split(' ', 1)[1]
                          for line in lines}

    def watch(self, domain, seconds, **more):
        pid, tasks = self.tasks(domain)
        vcpus = {int(name.split()[1].split('/')[0]): tid
                 for tid, name in tasks.items() if name.startswith('CPU ')}
        return self.python('watch', seconds=seconds, owners={
            self.owned[vcpu]: (domain.name(), f'vCPU {vcpu}', tid)
            for vcpu, tid in vcpus.items()}, domains={pid: domain.name()},
            threads={tid: f'vCPU {vcpu}' for vcpu, tid in vcpus.items()},
            **more)


class WatchTest(WatchBase):

    def test_silent(self):
        """Nothing is injected, nothing is reported."""
        found = self.watch(self.start(), SILENT)
        self.assertEqual([], found['disturbances'])
        self.assertGreater(len(found['background']), 0)

    def test_a_thread(self):
        domain = self.start()
        pcpu = self.owned[0]
        pid = int(self.host.shell(
            f'sh -c "while :; do :; done" >/dev/null 2>&1 & '
            f'taskset -pc {pcpu} $! >/dev/null; echo $!'))
        self.addCleanup(self.host.shell, f'kill {pid}')
        found, = [each for each in self.watch(domain, 10)['disturbances']
                  if each['pid'] == pid]
        self.assertEqual(('thread', pcpu, True, 'schedstat'), tuple(
            found[key] for key in ('kind', 'pcpu', 'exact', 'measured_by')))
        self.assertGreater(found['us'], 10 ** 6)

    def test_an_interrupt(self):
        """The disk's queue of that pCPU, which the kernel manages."""
        found = self.watch(self.start(), 3, after=['vda'])
        devices = {str(each['irq']): each for each in found['disturbances']
                   if each['kind'] == 'interrupt'
                   and each['pcpu'] == self.owned[0]}
        self.assertEqual(found['counted'], {
            number: each['count'] for number, each in devices.items()})
        self.assertTrue(any(each['count'] >= 50 and 'virtio0' in each['name']
                            for each in devices.values()), found)


class FollowTest(WatchBase):

    def test_there_and_back(self):
        before = self.follow()['allowed']
        found = self.follow(*self.owned)
        self.assertEqual([], found['refused'])
        # Queues of the disk.
        self.assertGreater(len(found['managed']), 0)
        for number, allowed in found['allowed'].items():
            if int(number) not in found['managed']:
                self.assertEqual([], sorted(
                    set(allowed) & set(self.owned)), number)
        again = self.follow(*self.owned)
        self.assertEqual([], again['moved'])
        self.assertEqual(before, self.follow()['allowed'])

    def follow(self, *owned):
        return self.python('follow', owned=owned, others=self.others)

    def test_irqbalance(self):
        """Its own interface; the test needs one on this machine."""
        program = shutil.which('irqbalance')
        if program is None:
            self.skipTest('irqbalance is not installed here')
        shutil.copy(program, self.host.share)
        pid = int(self.host.shell(
            f'mkdir -p /run/irqbalance; IRQBALANCE_BANNED_CPULIST='
            f'{self.others[0]} {self.host.share}/irqbalance --foreground '
            f'>/dev/null 2>&1 & echo $!'))
        self.addCleanup(self.host.shell, f'kill {pid}; sleep 1')
        found = self.wait_for('balance', [self.others[0]], owned=self.owned,
                              others=self.others)
        self.assertEqual([self.others[0], *self.owned], found['wanted'])
        self.wait_for('banned', found['wanted'])
        self.assertIsNone(self.python('balance', owned=[],
                                      others=self.others)['wanted'])
        self.wait_for('banned', [self.others[0]])

    def wait_for(self, verb, expected, **arguments):
        """It obeys when it looks again, every ten seconds."""
        for _round in range(20):
            found = self.python(verb, **arguments)
            if expected == (found if verb == 'banned' else found['before']):
                return found
            self.host.shell('sleep 2')
        self.fail(f'{found}, not {topology.format_cpu_list(expected)}')
