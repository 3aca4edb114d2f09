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

"""The first boot by a template: 2 nodes x 4 cores x 2 threads, 12 dedicated.

::

    node 0   [0 1] shared   [2 3] [4 5] [6 7]
    node 1   [8 9] shared   [10 11] [12 13] [14 15]
"""

import re
import sys
import time
from unittest import mock

import testtools

from kongming.placement import flavor as flavor_mod
from kongming.placement import naming
from nova.virt.libvirt import driver as nova_driver
from nova_ext.ownership import claim
from oslo_utils import importutils
from tests.embedded import cloud
from tests.embedded import witness

PINNED = {'hw:cpu_policy': 'dedicated'}
NOTHING_OWNED = {0: (set(), 0), 1: (set(), 0)}


def only(pcpu):
    return frozenset({pcpu})


class BootBase(cloud.SimulatedCloud):

    def flavor(self, specs, vcpus=2, trait=True, memory=1024, **hw):
        """A flavor as ``template set`` makes it."""
        specs = {f'kongming:{key}': value for key, value in specs.items()}
        hw = {**PINNED, **{f'hw:{k}': v for k, v in hw.items()}}
        if trait:
            specs[flavor_mod.TRAIT_KEY] = flavor_mod.REQUIRED
        return self._create_flavor(vcpu=vcpus, memory_mb=memory, disk=1,
                                   ephemeral=0, swap=0,
                                   extra_spec={**hw, **specs})

    def boot(self, flavor_id, state='ACTIVE', **kwargs):
        return self._create_server(flavor_id=flavor_id, networks='none',
                                   expected_state=state, **kwargs)

    def force(self, flavor_id, state='ACTIVE', host='compute1'):
        """A server that no filter has seen."""
        return self.boot(flavor_id, state, az=f'nova:{host}')

    def post(self, flavor_id):
        """A server that is asked for, and not waited for."""
        return self.api.post_server({'server': self._build_server(
            flavor_id=flavor_id, networks='none')})

    def outcome(self, server):
        """A server as soon as it is ACTIVE or in ERROR."""
        for _ in range(self.RETRIES):
            status = self.api.get_server(server['id'])['status']
            if status != 'BUILD':
                break
            time.sleep(0.5)
        return self._wait_for_state_change(server, status)

    def pins(self, server):
        return witness.domain(self.domain_xml(server['id']))

    def owned(self, host='compute1'):
        return {node: owned for node, (owned, _m) in
                self.usage(host).items()}

    def assertNothingOwned(self):
        self.assertEqual(NOTHING_OWNED, self.usage())
        self.audit()
        self.assertEqual(NOTHING_OWNED, self.usage())
        for _inventory, usages, _traits in self.children().values():
            self.assertEqual({0}, set(usages.values()))


#: What Nova's lock is wrapped around.
_SWAP = claim._swap.__wrapped__.__code__


class _FailsInSwap:
    """Makes a function fail when it is called by the swap, and else not."""

    def __init__(self, where):
        self.happened = False
        # A function, not a mock, so that it binds as the real method does.
        self._patch = mock.patch(
            where, lambda *args, **kwargs: self._call(*args, **kwargs))
        module, _dot, self._name = where.rpartition('.')
        self._real = getattr(importutils.try_import(module) or
                             importutils.import_class(module), self._name)

    def __enter__(self):
        self._patch.start()
        return self

    def __exit__(self, *exc_info):
        self._patch.stop()

    def _call(self, *args, **kwargs):
        frame = sys._getframe()
        while frame is not None:
            if frame.f_code is _SWAP:
                self.happened = True
                raise RuntimeError(f'{self._name} fails')
            frame = frame.f_back
        return self._real(*args, **kwargs)


class BootTest(BootBase):

    def test_first_boot_is_exact_everywhere(self):
        self.start_host()
        server = self.boot(self.flavor({'node.0': '1',
                                        'pin.0': '0:15 1:12'}))
        expected = {0: only(15), 1: only(12)}, {0: only(1)}

        self.assertEqual(expected, self.pins(server))
        self.assertEqual(expected, witness.nova(self.api.api_get(
            f'/servers/{server["id"]}/topology').body))
        self.assertEqual({1: frozenset({12, 15})}, witness.placement(
            self.compute_rp_uuids['compute1'],
            self.allocations_of(server['id'])))
        saved = self.instance(server['id']).numa_topology
        self.assertEqual([(1, {0: 15, 1: 12})],
                         [(c.id, c.cpu_pinning) for c in saved.cells])
        usage = {0: (set(), 0), 1: ({12, 15}, 1024)}
        self.assertEqual(usage, self.usage())
        self.audit()
        self.assertEqual(usage, self.usage())
        self.assertEqual(expected, self.pins(server))

        self._delete_server(server)
        self.assertNothingOwned()

    def test_cells_on_crossed_nodes(self):
        self.start_host()
        server = self.boot(self.flavor(
            {'node.0': '1', 'node.1': '0', 'pin.0': '0:10 1:13',
             'pin.1': '2-3:4-5'}, vcpus=4, numa_nodes='2'))
        self.assertEqual(
            ({0: only(10), 1: only(13), 2: only(4), 3: only(5)},
             {0: only(1), 1: only(0)}), self.pins(server))

    def test_part_of_the_vcpus_named(self):
        self.start_host()
        server = self.boot(self.flavor({'pin.0': '1:13'}, vcpus=3))
        pins, nodes = self.pins(server)
        self.assertEqual((only(13), {0: only(1)}), (pins[1], nodes))
        self.assertEqual({0: set(), 1: {p for s in pins.values() for p in s}},
                         self.owned())

    def test_relative_address(self):
        self.start_host()
        server = self.boot(self.flavor({'pin.0': '0:n1c1t1 1:n1c3t0'}))
        self.assertEqual({0: only(11), 1: only(14)}, self.pins(server)[0])

    def test_second_server_gets_no_host(self):
        self.start_host()
        first = self.flavor({'pin.0': '0:2 1:3'})
        self.boot(first)
        before = self.usage()
        second = self.boot(first, 'ERROR')
        self.assertIn('No valid host', second['fault']['message'])
        self.assertEqual(before, self.usage())

    def test_filter_says_why(self):
        self.start_host()
        flavor_id = self.flavor({'pin.0': '0:2 1:3'}, trait=False)
        self.boot(flavor_id)
        # A server that boots is not in its place yet; none does any more.
        self.audit()
        self.boot(flavor_id, 'ERROR')
        self.assertIn('The template fits on 0 of 1 hosts; 1: a pCPU that the '
                      'template names is not to be had (compute1: node 0: '
                      'pCPU 2 is owned by another server',
                      self.stdlog.logger.output)

    def test_next_host_is_tried(self):
        self.start_host('compute1')
        self.start_host('compute2')
        flavor_id = self.flavor({'pin.0': '0:2 1:3'}, trait=False)
        hosts = {self.boot(flavor_id)['OS-EXT-SRV-ATTR:host']
                 for _ in range(2)}
        self.assertEqual({'compute1', 'compute2'}, hosts)

    def test_refused_by_the_hook_goes_to_the_next_host(self):
        """The filter passed, but the pCPUs went in between."""
        self.start_host('compute1')
        self.start_host('compute2')
        flavor_id = self.flavor({'pin.0': '0:2 1:3'}, trait=False)
        first = self.boot(flavor_id)['OS-EXT-SRV-ATTR:host']
        self.flags(max_attempts=3, group='scheduler')
        with mock.patch('nova_ext.filters.KongmingFilter._misfit',
                        return_value=None):
            second = self.boot(flavor_id)
            self.assertNotEqual(first, second['OS-EXT-SRV-ATTR:host'])
            third = self.boot(flavor_id, 'ERROR')
        self.assertIn('the template does not fit: node 0: pCPU 2 is owned '
                      'by server', self.stdlog.logger.output)
        self._delete_server(third)
        for host in ('compute1', 'compute2'):
            self.assertEqual({0: {2, 3}, 1: set()}, self.owned(host))

    def test_fault_names_no_other_server(self):
        self.start_host()
        flavor_id = self.flavor({'pin.0': '0:2 1:3'}, trait=False)
        owner = self.boot(flavor_id)
        with mock.patch('nova_ext.filters.KongmingFilter._misfit',
                        return_value=None):
            refused = self.boot(flavor_id, 'ERROR')
        self.assertNotIn(owner['id'], str(refused['fault']))
        self.assertIn(f"owned by server {owner['name']} ({owner['id']})",
                      self.stdlog.logger.output)

    def test_failed_boot_leaks_nothing(self):
        """QEMU fails after the swap."""
        self.start_host()
        with mock.patch.object(nova_driver.LibvirtDriver, '_create_guest',
                               side_effect=ValueError('no QEMU')):
            server = self.boot(self.flavor({'pin.0': '0:12 1:15'}), 'ERROR')
        self.assertNothingOwned()
        self._delete_server(server)
        self.assertNothingOwned()

    def test_fault_at_each_step_of_the_swap(self):
        """The database fails while the pins are swapped; nothing leaks."""
        self.start_host()
        flavor_id = self.flavor({'pin.0': '0:12 1:15'})
        for where in ('nova.objects.Instance.save',
                      'nova.objects.ComputeNode.save',
                      'nova.virt.hardware.numa_usage_from_instance_numa',
                      'kongming.fit.fit.fit'):
            with _FailsInSwap(where) as fault:
                server = self.boot(flavor_id, 'ERROR')
            self.assertTrue(fault.happened, where)
            if where == 'nova.objects.Instance.save':
                # It may have been saved all the same, so the template's
                # pCPUs stay taken until the tracker has asked the database.
                self.assertEqual({12, 15}, self.owned()[1])
                self.audit()
            self.assertNothingOwned()
            self._delete_server(server)
            self.assertNothingOwned()
        self.boot(flavor_id)

    def test_servers_that_boot_together_on_each_others_pcpus(self):
        """Nova claims ascending pCPUs; the templates name others' claims."""
        self.start_host()
        flavors = [self.flavor({'pin.0': f'0:{a} 1:{b}'}, trait=trait)
                   for trait in (False, True)
                   for a, b in ((6, 7), (4, 5), (2, 3))]
        servers = []
        for flavor_id in flavors[:3]:
            servers.append(self.api.post_server({'server': self._build_server(
                flavor_id=flavor_id, networks='none')}))
        for server in servers:
            self._wait_for_state_change(server, 'ACTIVE')
        self.assertEqual({0: {2, 3, 4, 5, 6, 7}, 1: set()}, self.owned())
        self.audit()
        self.assertEqual({0: {2, 3, 4, 5, 6, 7}, 1: set()}, self.owned())
        for server in servers:
            self._delete_server(server)
        self.assertNothingOwned()

    def test_flavor_written_by_another_client(self):
        """A bad template in the database: nothing is booted or changed."""
        self.start_host()
        with mock.patch('kongming.template.template.check_entry'):
            flavor_id = self.flavor({'pin.0': '0:2 1:2'}, trait=False)
        self.boot(flavor_id, 'ERROR')
        self.assertIn('pCPU 2 stands here a second time',
                      self.stdlog.logger.output)
        self.assertNothingOwned()


class CandidateTest(BootBase):
    """The node that Placement granted is the node that is used."""

    def test_only_the_granted_node(self):
        self.start_host()
        for _ in range(4):
            server = self.boot(self.flavor({'node.0': '1'}, vcpus=1))
            uuid = naming.provider_uuid(
                self.compute_rp_uuids['compute1'], 1)
            self.assertIn(uuid, self.allocations_of(server['id']))
            self.assertEqual({0: only(1)}, self.pins(server)[1])

    def test_candidates_of_the_wrong_node_are_dropped(self):
        """Placement knows no relative addresses: the filter has to choose."""
        self.start_host()
        uuid = naming.provider_uuid(self.compute_rp_uuids['compute1'], 1)
        for core in (1, 2, 3):
            server = self.boot(self.flavor(
                {'pin.0': f'0:n1c{core}t0'}, vcpus=1))
            self.assertEqual({0: only(1)}, self.pins(server)[1])
            self.assertIn(uuid, self.allocations_of(server['id']))

    def test_two_open_cells_get_a_node_each(self):
        self.start_host()
        server = self.boot(self.flavor(
            {'pin.0': '0:n1c1t0'}, vcpus=4, numa_nodes='2'))
        _pins, nodes = self.pins(server)
        self.assertEqual({0: only(1), 1: only(0)}, nodes)
        granted = witness.placement(self.compute_rp_uuids['compute1'],
                                    self.allocations_of(server['id']))
        # The other one's node is nobody's business but its host's.
        self.assertEqual({1}, set(granted))


class BadInputTest(BootBase):
    """Refused by nova-api with the reason; nothing is accounted."""

    def test_extra_specs(self):
        self.start_host()
        flavor_id = self._create_flavor(extra_spec=PINNED)
        before = self.usage()
        for key, value, words in (
                ('colour', 'red', 'there is no such key'),
                ('node.0', 'one', "'one' is not a host NUMA node"),
                ('pin.0', '0:1 1:1', 'pCPU 1 stands here a second time'),
                ('pin.0', '0:1 1', "column 5: '1' has no pCPU"),
                ('pin.0.1', '2:', "'' is not a pCPU"),
                ('pin.x', '0:1', "'x' in the key is no number"),
                ('qos', '0:weight=0', 'the lowest weight is 1'),
                ('profile.n.when', 'Mo 1:00', "'Mo' is not a day"),
                ('profile.n.when', 'use<15 for 10m',
                 "column 5: '15' is not per cent"),
                ('profile.n.when', 'use<15% and load>1%',
                 "column 13: 'load' is not measured")):
            response = self.api.api_post(
                f'/flavors/{flavor_id}/os-extra_specs',
                {'extra_specs': {f'kongming:{key}': value}},
                check_response_status=[400])
            self.assertIn(words,
                          response.body['badRequest']['message'])
        self.assertEqual(PINNED, self.api.api_get(
            f'/flavors/{flavor_id}/os-extra_specs').body['extra_specs'])
        self.assertEqual(before, self.usage())

    def test_other_namespaces_pass_as_before(self):
        flavor_id = self._create_flavor(extra_spec={
            'whatever:they': 'like', 'bare': 'key'})
        self.assertEqual('like', self.api.api_get(
            f'/flavors/{flavor_id}/os-extra_specs').body['extra_specs'][
                'whatever:they'])

    def test_what_only_the_scheduler_can_know(self):
        self.start_host()
        for specs, vcpus, words in (
                ({'pin.0': '0:99'}, 1, 'Nova may use no such pCPU'),
                ({'pin.0': '0:1'}, 1, 'pCPU 1 is in cpu_shared_set'),
                ({'pin.0': '4:2'}, 1, "beyond the flavor's 1 vCPU(s)"),
                ({'node.3': '0'}, 1, 'the guest has 1 NUMA cell(s)'),
                ({'node.0': '7'}, 1, 'the host has no such node')):
            self.boot(self.flavor(specs, vcpus, trait=False), 'ERROR')
            self.assertIn(words, self.stdlog.logger.output)
        self.assertNothingOwned()

    def test_template_without_dedicated_vcpus(self):
        self.start_host()
        self.boot(self._create_flavor(vcpu=1, extra_spec={
            'kongming:pin.0': '0:2'}), 'ERROR')
        self.assertIn('the guest has 0 NUMA cell(s)',
                      self.stdlog.logger.output)
        self.assertNothingOwned()


class _Native(cloud.SimulatedCloud):
    """Boots servers without a template and tells what came of it."""

    FLAVORS = ({}, PINNED, {'hw:numa_nodes': '2', **PINNED},
               {'hw:numa_nodes': '1'},
               {'hw:cpu_policy': 'mixed', 'hw:cpu_dedicated_mask': '0'})
    reported = []

    def report(self):
        self.flags(cores=-1, group='quota')
        self.start_host()
        root = self.compute_rp_uuids['compute1']
        for specs in self.FLAVORS:
            server = self._create_server(
                name='native', networks='none', flavor_id=self._create_flavor(
                    vcpu=2, name='native', id='native', extra_spec=specs))
            xml = self.domain_xml(server['id'])
            for pattern in (server['id'], '/tmp/[^<\'"]*/'):
                xml = re.sub(pattern, '', xml)
            allocations = self.allocations_of(server['id'])
            self.reported.append((xml, allocations.pop(root), allocations))
            self.api.api_delete('/flavors/native')
        refused = self._create_server(
            networks='none', expected_state='ERROR',
            flavor_id=self._create_flavor(vcpu=13, extra_spec=PINNED))
        self.reported.append(refused['fault']['message'])


class NativeTest(testtools.TestCase):

    def reported(self, hooked):
        reported = []
        case = type('Case', (_Native,),
                    {'HOOKED': hooked, 'reported': reported})
        result = testtools.TestResult()
        case('report').run(result)
        self.assertTrue(result.wasSuccessful(),
                        [trace[-2000:] for _case, trace in
                         result.errors + result.failures])
        return reported

    def test_same_xml_allocations_and_errors_with_and_without_the_hook(self):
        native, hooked = self.reported(False), self.reported(True)
        self.assertEqual(len(_Native.FLAVORS) + 1, len(native))
        for before, after in zip(native, hooked):
            self.assertEqual(before, after)


class GuardTest(BootBase):

    def test_a_fault_in_publishing_leaves_nova_compute_alone(self):
        with mock.patch('kongming.placement.inventory.build',
                        side_effect=ZeroDivisionError):
            self.start_host()
            self.assertEqual({}, self.children())
            self.boot(self._create_flavor(extra_spec=PINNED))
        self.assertIn('Placement is not told of the NUMA nodes',
                      self.stdlog.logger.output)
        self.audit()
        self.assertEqual({0, 1}, set(self.children()))

    def test_switched_off(self):
        self.flags(publish_inventory=False, group='kongming')
        self.start_host()
        self.assertEqual({}, self.children())
