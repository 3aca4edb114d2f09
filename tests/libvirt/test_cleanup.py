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

"""After a clean-up real servers are as Nova's own driver starts them."""

import unittest

from kongming.kernel import process
from tests.embedded import witness
from tests.functional import test_cleanup
from tests.libvirt import test_live
from tests.libvirt import test_qos

PCPUS = test_live.PCPUS


class Mixin(test_cleanup.CleanupMixin):
    """On this machine's libvirtd."""

    WIDTH = max(PCPUS) + 1

    def stop(self):
        super().stop()
        # While there is somebody to delete servers.
        self.addCleanup(self.start)

    def start(self):
        self.flags(service_down_time=7 * 24 * 3600)
        self.computes['compute1'] = self.restart_compute_service(
            self.computes['compute1'], keep_hypervisor_state=False)
        self.addCleanup(self._delete_servers)

    def tasks_of(self, server):
        """(kind, number) -> (pCPUs, scheduler) of each thread, by /proc."""
        return {(task.kind, task.number): (task.allowed, task.sched)
                for task in process.tasks(process.pid(self.domain(server)))}


@unittest.skipIf(len(PCPUS) < 2, 'needs two pCPUs')
class TargetTest(Mixin, test_live.LiveBase):
    """A change that was cut short when the threads were there."""

    def setUp(self):
        super().setUp()
        self.first, self.second = PCPUS[:2]
        self.server = self.boot(self.first)
        self.cut_short(self.server, {self.second})
        self.run_on(self.server, v0={self.second})
        self.assertEqual({0: frozenset({self.second})},
                         self.threads(self.server))
        self.stop()

    def test_threads_come_back_before_it_is_dropped(self):
        self.clean_up()
        self.assertEqual({frozenset({self.first})}, {
            pcpus for pcpus, _sched in self.tasks_of(self.server).values()})
        self.assertEqual([], self.clean_up())
        self.start_native()
        self.assertOn(self.server, self.first)
        after = self.tasks_of(self.server)
        self._reboot_server(self.server, hard=True)
        self.assertOn(self.server, self.first)
        self.assertEqual(after, self.tasks_of(self.server))
        self.assertEqual({self.first}, self.all_owned())

    def test_kernel_says_otherwise(self):
        """As a pCPU that goes offline leaves a thread: anywhere."""
        self.run_on(self.server, v0={self.first})
        thread = process.vcpu_threads(
            process.pid(self.domain(self.server)))[0]
        witness.move(thread, {self.first, self.second})
        before = self.saved(self.server)
        (_uuid, result, _found, reason), = self.clean_up(status=1)
        self.assertEqual('left', result)
        self.assertIn(f'vCPU 0: pCPU {self.first}-{self.second} by the '
                      f'kernel, not {self.first}', reason)
        self.assertEqual(before, self.saved(self.server))
        # What repairs it.
        for pcpu in self.second, self.first:
            self.run_on(self.server, v0={pcpu})
        self.assertEqual('done', self.clean_up()[0][1])
        self.assertEqual(1, len(self.saved(self.server)[0][1]))
        self.assertEqual(set(), self.saved(self.server)[0][2])


@unittest.skipIf(len(PCPUS) < 2, 'needs two pCPUs')
class TuningTest(Mixin, test_qos.QosBase):
    """Lent and borrowed pCPUs, QoS and schedulers."""

    SHARED_PCPUS = 1

    def setUp(self):
        super().setUp()
        shared, (own, *_more) = self.cpu_sets()
        self.lender = self.boot(
            vcpus=1, native={'hw:cpu_policy': 'dedicated'},
            pin_0=f'0:{own}', qos='0:weight=300', sched='0:batch',
            profile_night_pin_0=f'0~{shared[0]}', profile_night_lend='true',
            grant='profile')
        self.borrower = self.boot(
            vcpus=1, native={'hw:cpu_policy': 'shared', 'hw:numa_nodes': '1',
                             'quota:cpu_quota': '60000'},
            borrow='host', qos='0:quota=50%,burst=20%', sched='0:idle')
        self.api.post_server_metadata(self.lender['id'], {
            'kongming:profile': 'night'})
        for _pass in range(2):
            self.reconcile()

    def found(self):
        return [(self.tasks_of(server), self.files(server),
                 self.domain_cpu_shares(server))
                for server in (self.lender, self.borrower)]

    def test_as_a_native_boot(self):
        before = self.found()
        vcpu = 'vCPU', 0
        self.assertEqual(frozenset(PCPUS[:2]), before[1][0][vcpu][0])
        self.assertEqual(frozenset(PCPUS[:1]), before[0][0][vcpu][0])
        self.stop()
        self.assertEqual(['to do'] * 2,
                         [row[1] for row in self.clean_up('--dry-run')])
        self.assertEqual(before, self.found())
        self.assertEqual(['done'] * 2, [row[1] for row in self.clean_up()])
        after = self.found()
        self.assertEqual([], self.clean_up())
        self.start_native()
        for server in self.lender, self.borrower:
            self._reboot_server(server, hard=True)
        self.assertEqual(self.found(), after)
        for one, other in zip(before, after, strict=True):
            self.assertNotEqual(one[0], other[0])
            self.assertNotEqual(one[1], other[1])
