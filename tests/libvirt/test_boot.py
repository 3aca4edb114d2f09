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

"""A server boots pinned on the real libvirtd, by Nova's real driver.

The guest is a boot sector; the threads, their affinity and the domain are as
real as any.
"""

import os
from unittest import mock
from xml.etree import ElementTree

from kongming import topology
from nova.virt.libvirt import driver as nova_driver
from tests.embedded import cloud
from tests.embedded import guests
from tests.embedded import witness


class BootTest(cloud.LibvirtCloud):

    def setUp(self):
        super().setUp()
        self.start_host()
        connection = self.computes['compute1'].driver._host.get_connection()
        self.host = topology.from_capabilities(connection.getCapabilities())
        #: One pCPU of cpu_dedicated_set and its node.
        self.pcpu = max(os.sched_getaffinity(0))
        self.node = self.host.node_of(self.pcpu).id

    def boot(self, state='ACTIVE', **specs):
        return self._create_server(
            image_uuid=guests.IMAGES[0]['id'], networks='none',
            expected_state=state, flavor_id=self._create_flavor(
                vcpu=1, memory_mb=64, disk=1, ephemeral=0, swap=0,
                extra_spec={'hw:cpu_policy': 'dedicated', **{
                    f'kongming:{key.replace("_", ".")}': value
                    for key, value in specs.items()}}))

    def threads(self, server):
        root = ElementTree.fromstring(self.domain_xml(server['id']))
        return witness.threads(root.findtext('name'))

    def owned(self):
        return {pcpu for owned, _memory in self.usage().values()
                for pcpu in owned}

    def test_live_threads_are_where_the_template_says(self):
        server = self.boot(node_0=str(self.node), pin_0=f'0:{self.pcpu}')
        pinned = frozenset({self.pcpu})
        self.assertEqual({0: pinned}, self.threads(server))
        self.assertEqual(({0: pinned}, {0: frozenset({self.node})}),
                         witness.domain(self.domain_xml(server['id'])))
        self.assertEqual({self.pcpu}, self.owned())
        self.audit()
        self.assertEqual({self.pcpu}, self.owned())
        self.assertEqual({0: pinned}, self.threads(server))

        self._delete_server(server)
        self.audit()
        self.assertEqual(set(), self.owned())

    def test_relative_address_on_real_capabilities(self):
        cores = self.host.cores_on(self.node)
        core, = [n for n, pcpus in enumerate(cores) if self.pcpu in pcpus]
        thread = cores[core].index(self.pcpu)
        server = self.boot(pin_0=f'0:n{self.node}c{core}t{thread}')
        self.assertEqual({0: frozenset({self.pcpu})}, self.threads(server))

    def test_second_server_for_the_same_pcpu(self):
        first = self.boot(pin_0=f'0:{self.pcpu}')
        self.boot('ERROR', pin_0=f'0:{self.pcpu}')
        self.assertEqual({0: frozenset({self.pcpu})}, self.threads(first))
        self.assertEqual({self.pcpu}, self.owned())

    def test_qemu_that_does_not_start_leaks_nothing(self):
        real = nova_driver.LibvirtDriver._get_guest_xml

        def broken(*args, **kwargs):
            return real(*args, **kwargs).replace(
                '<devices>', '<devices><emulator>/bin/false</emulator>')

        with mock.patch.object(nova_driver.LibvirtDriver, '_get_guest_xml',
                               autospec=True, side_effect=broken):
            self.boot('ERROR', pin_0=f'0:{self.pcpu}')
        self.assertEqual(set(), self.owned())


class HostTest(cloud.LibvirtCloud):

    def test_published_host_is_the_machine(self):
        """Capabilities, Placement and /sys tell the same host."""
        self.start_host()
        for node, (inventory, _usages, traits) in self.children().items():
            with open(f'/sys/devices/system/node/node{node}/cpulist') as f:
                online = topology.parse_cpu_list(f.read())
            dedicated = {int(name.rpartition('_')[2]) for name in inventory
                         if name.startswith('CUSTOM_KONGMING_PCPU_')}
            shared = inventory['CUSTOM_KONGMING_VCPU']['total']
            self.assertEqual(len(online), len(dedicated) + shared)
            self.assertLessEqual(dedicated, online)
            self.assertIn(f'CUSTOM_KONGMING_NODE_{node}', traits)
