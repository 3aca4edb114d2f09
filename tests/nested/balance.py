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

"""``python -m tests.nested.balance``: what balance gains, by servers' work.

Two busy servers are on one of two nodes (``tools/nested up``).  Each node
has one pCPU that servers float over.  What vCPUs and pCPUs did is the nested
kernel's word, and the guests' work is the time that their vCPUs ran.
"""

import sys
import time

import fixtures
from testtools import run

from kongming.interference import parse
from kongming.load import figures
from tests.embedded import witness
from tests.nested import test_live

#: Seconds that each part is measured.
MEASURED = 30
#: Until the second server has moved, at most; what is emulated is slow.
PATIENCE = 600
GOAL = 1.6


class BalanceTest(test_live.LiveBase):

    def cpu_sets(self):
        _shared, dedicated = super().cpu_sets()
        return [min(self.shape.siblings(node)[0])
                for node in range(self.shape.nodes)], dedicated

    def setUp(self):
        super().setUp()
        if self.shape.nodes < 2:
            self.skipTest('needs a host of two nodes')
        test = self

        class Domain:
            pid = None

            def __init__(self, name, _server):
                self.name = name

            def read(self):
                return test.read(self.name)

            def close(self):
                pass

        for where, what in (
                ('kongming.kernel.vcpu_times.Domain', Domain),
                ('kongming.kernel.vcpu_times.pcpus', self.read_pcpus),
                ('kongming.load.balance.PERIOD', 10.0)):
            self.useFixture(fixtures.MonkeyPatch(where, what))

    def read(self, name):
        """The counters of a domain's vCPUs."""
        text = self.shell(
            f'cat /proc/uptime; '
            f'cd /proc/{witness.pid_file(name)}/task && '
            f'for task in *; do case $(cat $task/comm) in "CPU "*)'
            f' echo "$(cat $task/comm) $(cat $task/schedstat)";; esac; done')
        uptime, *lines = text.splitlines()
        vcpus = {}
        for line in lines:
            # CPU 0/KVM or CPU 0/TCG, run, wait, how often
            _cpu, vcpu, run, wait, _count = line.split()
            vcpus[int(vcpu.partition('/')[0])] = figures.Times(
                int(run), int(wait))
        return figures.Counters(float(uptime.split()[0]), vcpus)

    def read_pcpus(self, wanted):
        found = parse.queues(self.shell('cat /proc/schedstat').encode(),
                             frozenset(wanted))
        return {pcpu: figures.Times(times.run_ns, times.wait_ns)
                for pcpu, times in found.items()}

    def work(self, servers):
        """How much their vCPUs ran, in seconds a second."""
        names = [self.domain(server).name() for server in servers]
        before = [self.read(name) for name in names]
        time.sleep(MEASURED)
        return sum(
            sum(after.vcpus[vcpu].run_ns - was.vcpus[vcpu].run_ns
                for vcpu in was.vcpus) / 10 ** 9 / (after.at - was.at)
            for was, after in zip(before, map(self.read, names)))

    def on(self, server):
        cell, = self.instance(server['id']).numa_topology.cells
        return cell.id

    def test_two_busy_servers_and_a_node_that_is_idle(self):
        servers = [self.boot(
            image='busy', balance='node', grant='template',
            native={'hw:cpu_policy': 'shared', 'hw:numa_nodes': '1'})
            for _ in range(2)]
        for server in servers:
            self.want(server, node_0='0')
            self.api.delete_server_metadata(server['id'], 'kongming:node.0')
            self.reconcile()
        self.assertEqual([0, 0], list(map(self.on, servers)))
        before = self.work(servers)
        self.flags(by_load='act', group='kongming')
        end = time.monotonic() + PATIENCE
        while sorted(map(self.on, servers)) == [0, 0]:
            self.assertLess(time.monotonic(), end, 'nothing has moved')
            time.sleep(5)
            self.reconcile()
        moved, = [server for server in servers if self.on(server)]
        self.assertEqual({self.on(moved)},
                         set(self.nested.memory(self.domain(moved)).pages))
        after = self.work(servers)
        print(f'balance: before {before:.2f}, after {after:.2f} pCPUs of '
              f'work, ratio {after / before:.2f} (goal {GOAL})')
        self.assertGreaterEqual(after / before, GOAL)


if __name__ == '__main__':
    run.main(['run', 'tests.nested.balance.BalanceTest'], sys.stdout)
