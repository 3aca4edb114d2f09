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

import os
import unittest
from xml.etree import ElementTree

from kongming.compute import servers
from kongming.host import topology
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

    def boot(self, pcpu):
        return self._create_server(
            image_uuid=guests.IDS['idle'], networks='none',
            flavor_id=self._create_flavor(
                vcpu=1, memory_mb=64, disk=1, ephemeral=0, swap=0,
                extra_spec={'hw:cpu_policy': 'dedicated',
                            'kongming:pin.0': f'0:{pcpu}',
                            'kongming:grant': 'template'}))

    def domain(self, server):
        return self.connection_of(server['id']).lookupByUUIDString(
            server['id'])

    def say(self, server, pcpu):
        self.api.post_server_metadata(server['id'],
                                      {'kongming:pin.0': f'0:{pcpu}'})

    def ring(self, server):
        return self.api.api_get(f'/servers/{server["id"]}/diagnostics').body

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
        self.computes['compute1'].driver._reconcile()
        self.assertOn(server, first)

    def test_swap_without_a_free_pcpu(self):
        """Both pCPUs are owned: refused, and nothing has moved."""
        one, two = self.boot(PCPUS[0]), self.boot(PCPUS[1])
        self.api.post_server_metadata(
            two['id'], {'kongming:pin.0': f'0:{PCPUS[0]}'})
        self.want(one, PCPUS[1])
        self.assertEqual({0: frozenset({PCPUS[0]})}, self.threads(one))
        self.assertEqual({0: frozenset({PCPUS[1]})}, self.threads(two))
