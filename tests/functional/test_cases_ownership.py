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

"""Ownership after a lost answer, a rescue or on a host with fake nodes.

The host is that of :mod:`tests.functional.test_boot`::

    node 0   [0 1] shared   [2 3] [4 5] [6 7]
    node 1   [8 9] shared   [10 11] [12 13] [14 15]
"""

import os
import threading
import time
from unittest import mock

import nova.conf
from nova import objects
import oslo_messaging

from tests import documents
from tests.embedded import hypervisor
from tests.functional import test_boot
from tests.functional import test_cleanup
from tests.functional import test_life
from tests.functional import test_live
from tests.functional import test_removal

CONF = nova.conf.CONF


class OwnershipBase(test_live.LiveBase):

    def _sampled(self, where):
        """Two owners are looked for at the end, not at each step."""

    def running_on(self, server):
        """pCPUs that its domain is pinned to."""
        return set().union(*self.pins(server)[0].values())

    def owned_by(self, server):
        """pCPUs that the database gives to a server, targets included."""
        topology = self.instance(server['id']).numa_topology
        return {pcpu for cell in (topology.cells if topology else ())
                for pcpu in {*(cell.cpu_pinning or {}).values(),
                             *(cell.cpuset_reserved or ())}}


class LostAnswerTest(OwnershipBase):
    """A save is committed, but its answer is lost."""

    def test_a_native_claim_takes_the_target_meanwhile(self):
        """The claim waits at Nova's lock while the save times out."""
        server = self.boot(self.template('0:13 1:10'))
        self.fill(vcpus=6)
        others = self.fill(vcpus=3)
        target, = {11, 12, 14, 15} - self.running_on(others)
        tracker = self.computes['compute1'].manager.rt
        claim, queued = tracker.instance_claim, threading.Event()
        native, flavor = [], self._create_flavor(
            vcpu=1, memory_mb=64, disk=1, ephemeral=0, swap=0,
            extra_spec=test_boot.PINNED)
        boot = threading.Thread(
            target=lambda: native.append(self.post(flavor)))

        def queue(*args, **kwargs):
            queued.set()
            return claim(*args, **kwargs)

        save, lost = objects.Instance.save, []

        def lose(instance, *args, **kwargs):
            journal = (instance.uuid == server['id']
                       and 'numa_topology' in instance.obj_what_changed())
            result = save(instance, *args, **kwargs)
            if journal and not lost:
                lost.append(True)
                boot.start()
                self.assertTrue(queued.wait(30))
                time.sleep(0.2)  # from the call to the lock
                raise oslo_messaging.MessagingTimeout('no answer')
            return result

        self.api.post_server_metadata(
            server['id'], {'kongming:pin.0': f'0:{target}'})
        with mock.patch.object(tracker, 'instance_claim', queue), \
                mock.patch.object(objects.Instance, 'save', lose):
            self.reconcile()
        boot.join(60)
        self.outcome(native[0])
        self.reconcile()
        self.audit()
        self.assertEqual((set(), False), (
            self.owned_by(server) & self.owned_by(native[0]),
            'CPUPinningInvalid' in self.stdlog.logger.output))


class UnrescueTest(OwnershipBase):
    """An unrescue starts the domain that was saved by the rescue."""

    def test_changed_while_it_was_rescued(self):
        server = self.boot(self.template('0:13 1:10'))
        os.makedirs(os.path.join(CONF.instances_path, server['id']),
                    exist_ok=True)
        self.api.post_server_metadata(
            server['id'], {'kongming:pin.0': '0:15 1:14'})
        self._rescue_server(server)
        self.reconcile()
        # Node 0 is full, so the native server gets free pCPUs of node 1.
        self.fill(vcpus=6)
        native = self.fill(vcpus=2)
        self._unrescue_server(server)
        self.assertEqual(set(), self.running_on(server)
                         & self.running_on(native))


class RemovalTest(test_cleanup.CleanupMixin, OwnershipBase):
    """nova-compute ends during a move of memory, and Nova's driver follows.
    """

    def setUp(self):
        super().setUp()
        # Whether threads have left a pCPU is asked of the kernel.
        self.useFixture(hypervisor.Kernel())

    def connect(self, args):
        context, driver = super().connect(args)
        driver._host.get_connection = (
            self.computes['compute1'].driver._host.get_connection)
        return context, driver

    def release(self):
        """Run what the upgrade page names for it, as it is written there."""
        commands = [
            command.words[3:]
            for block in documents.section(test_removal.PAGE, 'Removal')
            if block.kind == 'console'
            for command in documents.commands(block)
            if command.words[:3] == ['python', '-m', 'nova_ext.cleanup']]
        self.assertNotEqual([], commands)
        for words in commands:
            self.run_command(*words)

    def test_the_second_place_is_given_back(self):
        server = self.boot(self.template('0:13 1:10'))
        # As it is while memory moves from node 1 to node 0.
        self.cut_short(server, {2, 5})
        self.stop()
        self.release()
        self.start_native()
        self.audit()
        self._reboot_server(server, hard=True)
        self.assertEqual(
            ({0: set(), 1: {10, 13}}, {0: test_boot.only(1)}),
            (self.owned(), self.pins(server)[1]))


class FakeNodesTest(test_boot.BootBase):
    """numa=fake=2 on the kernel's command line: each CPU is on both nodes.

    ``kongming topology`` refuses such a host.
    """

    DEDICATED, SHARED = '2-7', '0-1'

    def host_info(self):
        info = super().host_info()
        first, second = info.numa_topology.cells
        second.cpus = first.cpus
        return info

    def test_it_is_not_published(self):
        self.start_host()
        self.assertEqual(([], True), (
            sorted(self.children()), 'is on node 0 and on node 1'
            in self.stdlog.logger.output))

    def test_it_takes_no_template(self):
        """Two servers would own pCPUs 2 and 3, one on each node."""
        self.start_host()
        self.assertEqual(['ERROR', 'ERROR'], [
            self.outcome(self.post(self.flavor(
                {'node.0': node, 'pin.0': '0:2 1:3'})))['status']
            for node in ('0', '1')])


class PowerTest(test_life.PowerBase):
    """[libvirt] cpu_power_management follows ownership."""

    def test_a_live_change(self):
        """Up before it moves, down after it has left."""
        self.hosts()
        server = self.boot(self.flavor(
            {**test_life.TEMPLATE, 'grant': 'template'}))
        self.api.post_server_metadata(server['id'],
                                      {'kongming:pin.0': '0:12 1:15'})
        self.reconcile()
        self.assertEqual({12, 15}, self.owned()[1])
        online = [set(self.online)]
        self._delete_server(server)
        online.append(set(self.online))
        self.assertEqual([{0, 1, 8, 9, 12, 15}, {0, 1, 8, 9}], online)
