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


"""A server boots pinned on a real libvirtd, by Nova's real driver.

The guest is a boot sector; the threads, their affinity and the domain are as
real as any.
"""

from unittest import mock

from kongming.host import capabilities
from nova.virt.libvirt import driver as nova_driver
from tests.embedded import guests
from tests.embedded import witness


class Base:
    """Of any cloud with real domains."""

    def setUp(self):
        super().setUp()
        self.start_host()
        self.host = capabilities.parse(self.capabilities())
        #: One pCPU of cpu_dedicated_set and its node.
        self.pcpu = max(self.cpu_sets()[1])
        self.node = self.host.node_of(self.pcpu).id

    def boot(self, state='ACTIVE', image='idle', vcpus=1, native=(),
             **specs):
        """Boot a server.

        :param native: extra specs of Nova's
        :param specs: of the template, such as ``node_0='1'``
        """
        return self._create_server(
            image_uuid=guests.IDS[image], networks='none',
            expected_state=state, flavor_id=self._create_flavor(
                vcpu=vcpus, memory_mb=64, disk=1, ephemeral=0, swap=0,
                extra_spec={'hw:cpu_policy': 'dedicated', **dict(native), **{
                    f'kongming:{key.replace("_", ".")}': value
                    for key, value in specs.items()}}))

    def owned(self):
        return {pcpu for owned, _memory in self.usage().values()
                for pcpu in owned}


class BootMixin(Base):
    """The tests that every such cloud passes."""

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
