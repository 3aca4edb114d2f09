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

"""Real domains start on what their servers own; see /proc.

As in :mod:`tests.functional.test_starts`, where libvirt is simulated.
"""

import time
from unittest import mock
from xml.etree import ElementTree

import fixtures
import libvirt_qemu
from nova import context as nova_context
from nova import objects
from nova_ext import privileged

from kongming.host import topology
from kongming.kernel import process
from kongming.libvirt import affinity
from tests.embedded import cloud
from tests.embedded import guests
from tests.libvirt import daemon
from tests.libvirt import test_live

PCPUS = test_live.PCPUS


def only(pcpu):
    return frozenset({pcpu})


class WrittenDownTest(test_live.LiveBase):
    """What a domain starts by was written down earlier."""

    def setUp(self):
        super().setUp()
        self.first, self.second = PCPUS[:2]
        # Shuts down when it is asked to.
        with mock.patch.dict(guests.IDS, idle=guests.IDS['acpi']):
            self.server = self.boot(self.first)

    def native(self):
        """A native server gets the pCPU that is left."""
        server = self._create_server(
            image_uuid=guests.IDS['idle'], networks='none',
            flavor_id=self._create_flavor(
                vcpu=1, memory_mb=64, disk=1, ephemeral=0, swap=0,
                extra_spec={'hw:cpu_policy': 'dedicated'}))
        return server

    def make_definition_stale(self):
        """A live change while a volume is swapped.

        Nova defines what it has read before (nova/virt/libvirt/driver.py,
        _swap_volume).
        """
        domain = self.domain(self.server)
        before = domain.XMLDesc(1 | 2)  # secure, inactive
        self.want(self.server, self.second)
        self.assertOn(self.server, self.second)
        domain.connect().defineXML(before)
        self.assertEqual(only(self.first), self.definition()[0])

    def definition(self, text=None):
        """(pCPUs of the vCPU, of the emulator) from its next start on."""
        tune = ElementTree.fromstring(
            text or self.domain(self.server).XMLDesc(2)).find('./cputune')
        return tuple(topology.parse_cpu_list(tune.find(kind).get('cpuset'))
                     for kind in ('vcpupin', 'emulatorpin'))

    def wait_for_guest(self):
        """Until the BIOS is through: the guest has enabled the button."""
        for _ in range(240):
            if '0x0100' in libvirt_qemu.qemuMonitorCommand(
                    self.domain(self.server), 'i /1xh 0x602', 1):
                return
            time.sleep(0.5)
        self.fail('The guest does not boot')

    def test_soft_reboot(self):
        self.make_definition_stale()
        native = self.native()
        self.wait_for_guest()
        before = self.domain(self.server).ID()
        self._reboot_server(self.server)
        self.assertIn('Instance soft rebooted successfully',
                      self.stdlog.logger.output)
        self.assertNotEqual(before, self.domain(self.server).ID())
        self.assertEqual({0: only(self.second)}, self.threads(self.server))
        self.assertEqual({0: only(self.first)}, self.threads(native))
        self.assertEqual((only(self.second), ) * 2, self.definition())

    def test_rescue(self):
        self.make_definition_stale()
        native = self.native()
        self._rescue_server(self.server)
        self.assertEqual({0: only(self.second)}, self.threads(self.server))
        self._unrescue_server(self.server)
        self.assertEqual({0: only(self.second)}, self.threads(self.server))
        self.assertEqual({0: only(self.first)}, self.threads(native))

    def test_managed_save(self):
        self._suspend_server(self.server)
        saved = self.domain(self.server).managedSaveGetXMLDesc(0)
        self.assertEqual((only(self.first), ) * 2, self.definition(saved))
        # Wanted while there is an image: it stays where it is.
        self.say(self.server, self.second)
        self.reconcile()
        native = self.native()
        self.assertEqual({0: only(self.second)}, self.threads(native))
        self._resume_server(self.server)
        self.assertEqual({0: only(self.first)}, self.threads(self.server))
        self._delete_server(native)
        self.ring(self.server)
        self.assertOn(self.server, self.second)

    def test_not_narrowed_while_a_thread_is_elsewhere(self):
        """A domain that runs on what its server was going to."""
        real = affinity.apply

        def apply(domain, *args):
            result = real(domain, *args)
            self.task_state('suspending')
            return result

        with mock.patch.object(affinity, 'apply', apply):
            self.want(self.server, self.second)
        self.task_state(None)
        self._suspend_server(self.server)
        self._resume_server(self.server)
        self.assertEqual({0: only(self.second)}, self.threads(self.server))
        self.assertRunsOnItsOwn(self.server)
        self.api.delete_server_metadata(self.server['id'], 'kongming:pin.0')
        # libvirt says yes, and the kernel has not done it.
        with mock.patch.object(affinity, 'apply'), mock.patch.object(
                affinity, 'read', lambda domain: affinity._pins(
                    mock.Mock(XMLDesc=lambda flags: domain.XMLDesc(
                        flags).replace(f"cpuset='{self.second}'",
                                       f"cpuset='{self.first}'")), 0)):
            self.ring(self.server)
        self.assertRunsOnItsOwn(self.server)
        # The kernel was asked, and has moved it.
        self.assertEqual({0: only(self.first)}, self.threads(self.server))
        self.ring(self.server)
        self.assertOn(self.server, self.first)

    def task_state(self, state):
        instance = self.instance(self.server['id'])
        instance.task_state = state
        instance.save()


class BorrowedTest(cloud.LibvirtCloud):
    """A real borrower that libvirt does not move."""

    def setUp(self):
        super().setUp()
        self.start_host()
        (self.shared,), (self.dedicated, *_more) = self.cpu_sets()
        self.owner = self.boot(**{
            'hw:cpu_policy': 'dedicated',
            'kongming:pin.0': f'0:{self.dedicated}',
            'kongming:profile.night.pin.0': f'0~{self.shared}',
            'kongming:profile.night.lend': 'true',
            'kongming:grant': 'profile template'})
        self.borrower = self.boot(**{
            'hw:cpu_policy': 'shared', 'hw:numa_nodes': '1',
            'kongming:node.0': '0', 'kongming:borrow': 'node'})
        self.assertBorrows(self.shared)
        self.api.post_server_metadata(self.owner['id'],
                                      {'kongming:profile': 'night'})
        self.ring()
        self.assertEqual({0: only(self.shared)}, self.threads(self.owner))
        self.assertBorrows(self.shared, self.dedicated)

    def boot(self, **specs):
        return self._create_server(
            image_uuid=guests.IDS['idle'], networks='none',
            flavor_id=self._create_flavor(
                vcpu=1, memory_mb=64, disk=1, ephemeral=0, swap=0,
                extra_spec=specs))

    def ring(self):
        self.api.api_get(f'/servers/{self.borrower["id"]}/diagnostics')
        self.settle()

    def domain(self):
        return self.connection_of(
            self.borrower['id']).lookupByUUIDString(self.borrower['id'])

    def assertBorrows(self, *pcpus):
        """By the kernel and by libvirt."""
        self.assertEqual({0: frozenset(pcpus)}, self.threads(self.borrower))
        self.assertEqual({0: frozenset(pcpus)},
                         affinity.read(self.domain()).vcpus)

    def refusing(self):
        real = affinity.apply

        def apply(domain, *args):
            if domain.UUIDString() == self.borrower['id']:
                raise RuntimeError('libvirt said no')
            return real(domain, *args)

        return mock.patch.object(affinity, 'apply', apply)

    def test_a_native_owner_starts(self):
        daemon.start(self, privileged.context)
        self._delete_server(self.owner)
        with self.refusing():
            native = self.boot(**{'hw:cpu_policy': 'dedicated'})
        self.assertEqual({0: only(self.dedicated)}, self.threads(native))
        # None of its threads, whatever libvirt says.
        self.assertEqual({only(self.shared)}, {
            task.allowed for task in process.tasks(
                process.pid(self.domain()))})
        self.assertEqual({0: frozenset({self.shared, self.dedicated})},
                         affinity.read(self.domain()).vcpus)
        self.assertIn('the kernel has moved its threads',
                      self.stdlog.logger.output)
        self.ring()
        self.assertBorrows(self.shared)

    def test_an_owner_with_a_template_waits(self):
        self.useFixture(fixtures.MonkeyPatch(
            'nova_ext.live.reclaim.WAIT', 1.5))
        with self.refusing():
            self.api.post_server_action(self.owner['id'], {
                'reboot': {'type': 'HARD'}})
            self._wait_for_server_parameter(self.owner, {
                'status': 'ACTIVE', 'OS-EXT-STS:task_state': None})
        fault = objects.InstanceFault.get_latest_for_instance(
            nova_context.get_admin_context(), self.owner['id'])
        self.assertIn(f'pCPU {self.dedicated} that it owns: a server that '
                      f'borrowed it can not be moved', fault.message)
        self.assertEqual({0: only(self.shared)}, self.threads(self.owner))
        # The kernel has moved it; libvirt does not know.
        self.assertEqual({0: only(self.shared)}, self.threads(self.borrower))
        self.assertEqual({0: frozenset({self.shared, self.dedicated})},
                         affinity.read(self.domain()).vcpus)
        self._reboot_server(self.owner, hard=True)
        self.assertEqual({0: only(self.dedicated)}, self.threads(self.owner))
        self.assertBorrows(self.shared)
