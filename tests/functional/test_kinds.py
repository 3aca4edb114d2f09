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

"""Exact pins with every kind of guest: pages, threads, realtime, devices."""

from xml.etree import ElementTree

import fixtures
from oslo_serialization import jsonutils

from nova import context as nova_context
from nova import objects
from nova.scheduler import weights as nova_weights
from nova.tests.fixtures import libvirt as fakelibvirt
from nova_ext import weights
from tests.functional import test_boot
from tests.functional import test_life

only = test_boot.only


class KindsTest(test_life.LifeBase):

    def host_info(self):
        return fakelibvirt.HostInfo(**self.SHAPE, mempages=[
            fakelibvirt.create_mempages([
                (4, 1024 ** 2), (2048, 1024), (1024 ** 2, 2)])
            for _node in range(2)])

    def xml(self, server):
        return ElementTree.fromstring(self.domain_xml(server['id']))

    def start(self, template, **kwargs):
        self.start_host()
        self.fill()
        return self.boot(self.flavor(template, **kwargs))

    def test_huge_pages(self):
        self.start_host()
        for size, kib, name in (('2MB', 2048, 'PAGES_2M'),
                                ('1GB', 1024 ** 2, 'PAGES_1G')):
            server = self.boot(self.flavor(test_life.TEMPLATE,
                                           mem_page_size=size))
            cell, = self.instance(server['id']).numa_topology.cells
            self.assertEqual(kib, cell.pagesize)
            self.assertHolds(server)
            records, usages, _traits = self.children()[1]
            self.assertEqual(1024 * 1024 // kib,
                             usages[f'CUSTOM_KONGMING_{name}'])
            self.assertEqual(0, records[f'CUSTOM_KONGMING_{name}'][
                'reserved'])
            self._delete_server(server)

    def test_emulator_on_a_pcpu_of_its_own(self):
        server = self.start(test_life.TEMPLATE,
                            emulator_threads_policy='isolate')
        emulator = self.xml(server).find('./cputune/emulatorpin').get(
            'cpuset')
        self.assertHolds(server)
        self.assertNotIn(emulator, ('10', '13'))
        self.assertEqual({10, 13, int(emulator)}, self.owned()[1])
        self._delete_server(server)
        self.audit()
        self.assertEqual(set(), self.owned()[1])

    def test_emulator_on_the_shared_set(self):
        server = self.start(test_life.TEMPLATE,
                            emulator_threads_policy='share')
        self.assertEqual('0-1,8-9', self.xml(server).find(
            './cputune/emulatorpin').get('cpuset'))
        self.assertHolds(server)

    def test_mixed(self):
        server = self.start({'node.0': '1', 'pin.0': '1:13'}, vcpus=3,
                            cpu_policy='mixed', cpu_dedicated_mask='1')
        pins, _nodes = self.pins(server)
        self.assertEqual((only(13), frozenset({8, 9}), frozenset({8, 9})),
                         (pins[1], pins[0], pins[2]))
        self.assertEqual({13}, self.owned()[1])

    def test_realtime(self):
        server = self.start(test_life.TEMPLATE,
                            cpu_realtime='yes', cpu_realtime_mask='^0',
                            mem_page_size='2MB')
        # Nova keeps the emulator off the vCPUs that run in real time.
        self.assertEqual('13', self.xml(server).find(
            './cputune/emulatorpin').get('cpuset'))
        self.assertHolds(server)
        self._reboot_server(server, hard=True)
        self.assertHolds(server)

    def test_shared_vcpus_overcommit_as_nova_lets_them(self):
        """Settling must not know stricter limits than the claim did."""
        self.start_host()
        flavor = self.flavor({'node.0': '1'}, vcpus=2, cpu_policy='shared',
                             numa_nodes='1')
        for _ in range(4):
            # Of 2 shared pCPUs on the node, 4.0 times.
            self.boot(flavor)
        self.boot(flavor, 'ERROR')

    def test_any_page_size_stays_asked_for(self):
        """A claim has it resolved; the template may lead to another node."""
        server = self.start(test_life.TEMPLATE,
                            mem_page_size='large')
        self.assertHolds(server)
        cell, = self.instance(server['id']).numa_topology.cells
        self.assertEqual(1024 ** 2, cell.pagesize)


class DeviceTest(test_life.LifeBase):
    """A PCI device on node 0."""

    FILTERS = ('PciPassthroughFilter',)

    def setUp(self):
        super().setUp()
        self.useFixture(fixtures.MockPatch(
            'nova.pci.utils.is_physical_function', return_value=False))

    def start(self, policy, node):
        device = {'vendor_id': fakelibvirt.PCI_VEND_ID,
                  'product_id': fakelibvirt.PCI_PROD_ID}
        alias = {**device, 'name': 'a1', 'device_type': 'type-PCI'}
        if policy:
            alias['numa_policy'] = policy
        self.flags(device_spec=[jsonutils.dumps(device)],
                   alias=[jsonutils.dumps(alias)], group='pci')
        self.start_compute(
            hostname='compute1', host_info=self.host_info(),
            pci_info=fakelibvirt.HostPCIDevicesInfo(num_pci=1, num_pfs=0,
                                                    num_vfs=0, numa_node=0))
        first = 10 * node
        flavor = self.flavor({'node.0': str(node),
                              'pin.0': f'0:{first + 3} 1:{first + 2}'},
                             trait=False)
        self.api.post_extra_spec(flavor, {'extra_specs': {
            'pci_passthrough:alias': 'a1:1'}})
        return flavor, {0: first + 3, 1: first + 2}

    def test_near_it(self):
        flavor, pins = self.start('required', 0)
        self.assertHolds(self.boot(flavor), pins)

    def test_far_from_it_where_that_is_refused(self):
        flavor, _pins = self.start('required', 1)
        self.boot(flavor, 'ERROR')
        self.assertEqual({0: set(), 1: set()}, self.owned())
        self.assertIn('PCI devices that have to be near were claimed for '
                      'node 0', self.stdlog.logger.output)

    def test_far_from_it_by_default(self):
        flavor, _pins = self.start(None, 1)
        self.boot(flavor, 'ERROR')
        self.assertEqual({0: set(), 1: set()}, self.owned())

    def test_far_from_it_where_that_is_allowed(self):
        flavor, pins = self.start('preferred', 1)
        self.assertHolds(self.boot(flavor), pins)

    def test_same_socket(self):
        flavor, pins = self.start('socket', 0)
        self.assertHolds(self.boot(flavor), pins)


class WeigherTest(test_life.LifeBase):
    """Two hosts; the one where a server breaks up less is better."""

    def setUp(self):
        super().setUp()
        self.hosts(2)

    def weighed(self, multiplier=10.0):
        """:param multiplier: as much as to outweigh Nova's own weighers"""
        self.flags(weight_multiplier=multiplier, group='kongming')
        server = self.boot(self.flavor({'node.0': '1'}, vcpus=1))
        host = self.host_of(server)
        self._delete_server(server)
        return host

    @test_life.long
    def test_fills_up_a_broken_core(self):
        for host in ('compute1', 'compute2'):
            server = self._create_server(
                flavor_id=self.flavor({'pin.0': '0:13'}, vcpus=1),
                networks='none', host=host)
            other = 'compute2' if host == 'compute1' else 'compute1'
            self.assertEqual(host, self.weighed())
            self.assertEqual(other, self.weighed(-10.0))
            self._delete_server(server)

    def test_where_it_does_not_fit_yet_comes_last(self):
        """Placement may give a pCPU that somebody is about to leave."""
        server = self._create_server(
            flavor_id=self.flavor({'node.0': '1', 'pin.0': '0:13'}, vcpus=1),
            networks='none', host='compute1')
        context = nova_context.get_admin_context()
        spec = objects.RequestSpec.get_by_instance_uuid(
            context, server['id'])
        manager = self.scheduler.manager.host_manager
        hosts = {host.host: host for host in manager.get_host_states_by_uuids(
            context, list(self.compute_rp_uuids.values()), spec)}
        for names in (('compute1', 'compute2'), ('compute2', 'compute1')):
            found = dict(zip(names, weights.KongmingWeigher().weigh_objects(
                [nova_weights.WeighedHost(hosts[name], 0) for name in names],
                spec)))
            self.assertLess(found['compute1'], found['compute2'])

    def test_native_servers_do_not_notice(self):
        with fixtures.MockPatch('nova_ext.weights.fit.fit') as fitter:
            self.fill(None)
        fitter.mock.assert_not_called()
