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

"""A real domain's threads change pCPUs while the guest runs."""

import contextlib
import os
import random
import unittest
from unittest import mock
from xml.etree import ElementTree

from kongming.compute import servers
from kongming.host import topology
from kongming.kernel import process
from nova.tests.functional.api import client
from nova_ext.ownership import ownership
from tests.embedded import cloud
from tests.embedded import guests

PCPUS = sorted(os.sched_getaffinity(0))


@unittest.skipIf(len(PCPUS) < 2, 'needs two pCPUs')
class LiveBase(cloud.LibvirtCloud):
    # All are to be owned here; nothing floats.
    SHARED_PCPUS = 0

    def setUp(self):
        super().setUp()
        self.start_host()

    def flavor(self, **specs):
        return self._create_flavor(
            vcpu=1, memory_mb=64, disk=1, ephemeral=0, swap=0,
            extra_spec={'hw:cpu_policy': 'dedicated', **specs})

    def template(self, pcpu):
        return self.flavor(**{'kongming:pin.0': f'0:{pcpu}',
                              'kongming:grant': 'template'})

    def boot(self, pcpu):
        return self._create_server(
            image_uuid=guests.IDS['idle'], networks='none',
            flavor_id=self.template(pcpu))

    def domain(self, server):
        return self.connection_of(server['id']).lookupByUUIDString(
            server['id'])

    def say(self, server, pcpu):
        self.api.post_server_metadata(server['id'],
                                      {'kongming:pin.0': f'0:{pcpu}'})

    def ring(self, server):
        found = self.api.api_get(f'/servers/{server["id"]}/diagnostics').body
        self.settle()
        return found

    def want(self, server, pcpu):
        self.say(server, pcpu)
        return self.ring(server)

    def change(self, server):
        """(result, details) of the last live change."""
        action = next(a for a in self.api.get_instance_actions(server['id'])
                      if a['action'] == servers.LIVE_CHANGE)
        event, = self.api.api_get(
            f'/servers/{server["id"]}/os-instance-actions/'
            f'{action["request_id"]}').body['instanceAction']['events']
        return event['result'], event.get('details') or ''

    def assertOn(self, server, pcpu):
        """/proc, live and persistent XML, Nova and the tracker."""
        only = frozenset({pcpu})
        self.assertEqual({0: only}, self.threads(server))
        for flags in (0, 2):  # live, VIR_DOMAIN_XML_INACTIVE
            tune = ElementTree.fromstring(
                self.domain(server).XMLDesc(flags)).find('./cputune')
            for kind in ('vcpupin', 'emulatorpin'):
                self.assertEqual(only, topology.parse_cpu_list(
                    tune.find(kind).get('cpuset')))
        saved, = self.instance(server['id']).numa_topology.cells
        self.assertEqual(({0: pcpu}, None),
                         (saved.cpu_pinning, saved.cpuset_reserved))
        self.assertEqual({pcpu}, {
            p for owned, _memory in self.usage().values() for p in owned})

    def assertRunsOnItsOwn(self, server):
        """By the kernel and by Nova's database."""
        (pcpus,) = self.threads(server).values()
        cell, = self.instance(server['id']).numa_topology.cells
        self.assertLessEqual(pcpus, {*cell.cpu_pinning.values(),
                                     *(cell.cpuset_reserved or ())})


class LiveTest(LiveBase):

    def test_there_and_back_again(self):
        first, second = PCPUS[:2]
        server = self.boot(first)
        self.assertOn(server, first)
        for pcpu in (second, first, second):
            answer = self.want(server, pcpu)
            self.assertEqual('running', answer['state'])
            self.assertOn(server, pcpu)
        self.audit()
        self.assertOn(server, second)
        self._reboot_server(server, hard=True)
        self.assertOn(server, second)

    def test_drift(self):
        first, second = PCPUS[:2]
        server = self.boot(first)
        self.domain(server).pinVcpu(0, (False,) * second + (True,))
        self.assertEqual({0: frozenset({second})}, self.threads(server))
        self.reconcile()
        self.assertOn(server, first)

    def test_swap_without_a_free_pcpu(self):
        """Both pCPUs are owned: refused, and nothing has moved."""
        one, two = self.boot(PCPUS[0]), self.boot(PCPUS[1])
        self.api.post_server_metadata(
            two['id'], {'kongming:pin.0': f'0:{PCPUS[0]}'})
        self.want(one, PCPUS[1])
        self.assertEqual({0: frozenset({PCPUS[0]})}, self.threads(one))
        self.assertEqual({0: frozenset({PCPUS[1]})}, self.threads(two))


class HistoryTest(LiveBase):
    """Two domains at most, whatever is done to them, by the kernel's word."""

    CHANGES = 24
    SEED = int(os.environ.get('KONGMING_TEST_SEED', '1'))

    def setUp(self):
        super().setUp()
        # No guest here knows of ACPI.
        self.flags(shutdown_timeout=1)
        self.rng = random.Random(self.SEED)
        self.flavors = [self.flavor(), self.flavor(),
                        *map(self.template, PCPUS[:2])]
        self.done = []

    def failing(self):
        """libvirt refuses to pin, or does and does not answer, or is well."""
        import libvirt

        real = libvirt.virDomain.pinVcpuFlags
        made = self.rng.choice([None, None, False, True])

        def pin(*args):
            if made:
                real(*args)
            raise libvirt.libvirtError('away')

        self.done.append(made)
        return (contextlib.nullcontext() if made is None else
                mock.patch.object(libvirt.virDomain, 'pinVcpuFlags', pin))

    def step(self):
        found = [server for server in self.api.get_servers()
                 if server['status'] in ('ACTIVE', 'SHUTOFF')]
        kind = self.rng.choice(['boot', 'boot', 'change', 'change', 'change',
                                'reboot', 'stop', 'delete', 'look_after'])
        self.done.append(kind)
        if kind == 'boot' and len(found) < 2:
            self.boot_any()
        elif kind in ('boot', 'look_after') or not found:
            self.reconcile()
        else:
            getattr(self, kind)(self.rng.choice(found))

    def boot_any(self):
        """One that does not fit is no reason to wait."""
        server = self.api.post_server({'server': self._build_server(
            image_uuid=guests.IDS['idle'], networks='none',
            flavor_id=self.rng.choice(self.flavors))})
        self._until(lambda: self.api.get_server(
            server['id'])['status'] != 'BUILD', 60)
        server = self.api.get_server(server['id'])
        if server['status'] == 'ERROR':
            self._delete_server(server)

    def change(self, server):
        with self.failing(), contextlib.suppress(
                client.OpenStackApiException):
            self.want(server, self.rng.choice(PCPUS[:2]))

    def reboot(self, server):
        self._reboot_server(server, hard=True)

    def stop(self, server):
        if server['status'] == 'ACTIVE':
            self._stop_server(server)
        else:
            self._start_server(server)

    def delete(self, server):
        self._delete_server(server)

    def assertNoThreadIsOnAnothers(self):
        owned, allowed = {}, {}
        for server in self.api.get_servers():
            instance = self.instance(server['id'])
            owned[server['id']] = ownership.pcpus_of(instance)
            if server['status'] == 'ACTIVE':
                allowed[server['id']] = frozenset().union(*(
                    task.allowed for task in process.tasks(
                        process.pid(self.domain(server)))))
        for uuid, pcpus in allowed.items():
            for other in owned.keys() - {uuid}:
                self.assertEqual(
                    frozenset(), pcpus & owned[other],
                    f'{uuid} is on a pCPU of {other} after {self.done}')
        return allowed

    def test_random_changes(self):
        looked_at = 0
        for _ in range(self.CHANGES):
            self.step()
            looked_at += len(self.assertNoThreadIsOnAnothers()) > 1
        # There were two at a time.
        self.assertLess(0, looked_at, self.done)
        self.audit()
        self.assertNotIn('Error updating resources',
                         self.stdlog.logger.output)
