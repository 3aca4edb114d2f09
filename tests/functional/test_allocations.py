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

"""Allocations on node providers after whatever Nova does with a server.

What happens to a server where it is, and on its way to another host, is in
:mod:`tests.functional.test_life`: what is checked there after each step is
:meth:`~tests.functional.test_life.LifeBase.assertAccounted`.
"""

import collections
from unittest import mock

import fixtures

from kongming.placement import inventory
from kongming.placement import naming
from kongming.publish import client
from kongming.publish import leftovers
from nova.cmd import manage
from nova import context as nova_context
from nova import exception as nova_exc
from nova import objects
from nova.scheduler.client import report
from nova.tests.functional.libvirt import base as nova_base
from nova_ext.placement import adapter
from tests.functional import test_life


class ClaimTest(test_life.LifeBase):
    """What the filter writes into the candidate."""

    def claimed(self, server, host='compute1'):
        """node -> class -> amount, as the scheduler has claimed it."""
        found = self.placement.get(
            f'/allocations/{server["id"]}').body['allocations']
        return {node: {
            name.removeprefix('CUSTOM_KONGMING_'): amount for name, amount
            in found[uuid]['resources'].items()} for node in (0, 1)
            if (uuid := naming.provider_uuid(
                self.compute_rp_uuids[host], node)) in found}

    def test_counts_always_pcpus_where_they_are_named(self):
        self.hosts()
        server = self.boot(self.flavor(
            {'node.0': '1', 'pin.0': '1:n1c1t1'}, vcpus=3))
        self.assertEqual({1: {'PCPU': 3, 'MEMORY_MB': 1024, 'PCPU_11': 1}},
                         self.claimed(server))
        self.assertAccounted()

    def test_two_cells(self):
        self.hosts()
        server = self.boot(self.flavor(
            {'node.0': '1', 'node.1': '0', 'pin.1': '2:4'}, vcpus=4,
            numa_nodes='2'))
        self.assertEqual({0: {'PCPU': 2, 'MEMORY_MB': 512, 'PCPU_4': 1},
                          1: {'PCPU': 2, 'MEMORY_MB': 512}},
                         self.claimed(server))
        self.assertAccounted()

    def test_nothing_where_it_is_not_published(self):
        self.flags(publish_inventory=False, group='kongming')
        self.hosts()
        server = self.boot(self.flavor(test_life.TEMPLATE))
        self.assertEqual({}, self.claimed(server))
        self.assertEqual({13, 10}, self.owned()[1])

    def test_before_the_host_says_that_it_is_published(self):
        """It is reserved; nothing is claimed behind Nova's back later."""
        self.start_compute(hostname='compute1', host_info=self.host_info())
        server = self.boot(self.flavor(test_life.TEMPLATE))
        self.assertEqual({}, self.claimed(server))
        for _ in range(2):
            self.publish_and_audit()
            self.assertEqual({}, self.claimed(server))
            self.assertAccounted()

    def test_what_is_published_is_saved_again_where_that_failed(self):
        """The scheduler need not wait for the next audit of Nova's."""
        self.start_compute(hostname='compute1', host_info=self.host_info())
        with mock.patch.object(
                objects.ComputeNode, 'save',
                side_effect=nova_exc.ComputeHostNotFound(host='compute1')):
            self.publish()
        self.assertEqual('', self.compute_node().stats['kongming_published'])
        self.publish()
        self.assertEqual(
            '0-1', self.compute_node().stats['kongming_published'])

    def test_native_servers_claim_nothing(self):
        self.hosts()
        self.assertEqual({}, self.claimed(self.fill()))
        self.assertAccounted()

    def test_several_of_one_request(self):
        """Each has its own claim, and none of the one before it."""
        self.hosts(2)
        self.api.post_server({'server': {
            **self._build_server(flavor_id=self.flavor({'node.0': '1'}),
                                 networks='none'),
            'min_count': 4, 'max_count': 4}})
        for server in self.api.get_servers():
            self._wait_for_state_change(server, 'ACTIVE')
            host = self.host_of(server)
            self.assertEqual({1: {'PCPU': 2, 'MEMORY_MB': 1024}},
                             self.claimed(server, host))
        self.assertAccounted()

    def test_fitted_anew_the_allocation_follows(self):
        """The claim on the host decides, whatever was claimed before."""
        self.hosts()
        with mock.patch('nova_ext.filters.claim.claim', return_value={
                0: {inventory.PCPU: 2, inventory.MEMORY_MB: 1024}}):
            server = self.boot(self.flavor({'node.0': '1'}))
        self.publish()
        self.assertEqual({1: {'PCPU': 2, 'MEMORY_MB': 1024}},
                         self.claimed(server))
        self.assertAccounted()


class LeftTest(nova_base.LibvirtMigrationMixin, test_life.LifeBase):
    """What Nova forgets of providers outside the compute node's tree."""

    def setUp(self):
        super().setUp()
        self.hosts(2)
        self.server = self.boot(self.flavor(test_life.TEMPLATE),
                                az='nova:compute1')

    def _allocate(self, host):
        """As a move that was cut short leaves it, on a host's node."""
        found = self.placement.get(
            f'/allocations/{self.server["id"]}', version='1.28').body
        found['allocations'][naming.provider_uuid(
            self.compute_rp_uuids[host], 1)] = {
                'resources': {inventory.PCPU: 2}}
        answer = self.placement.put(
            f'/allocations/{self.server["id"]}', found, version='1.28')
        self.assertEqual(204, answer.status)

    def test_on_a_host_that_never_heard_of_it(self):
        self._allocate('compute2')
        self.publish()
        self.assertAccounted()

    def test_not_while_it_is_on_its_way(self):
        self._allocate('compute2')
        context = nova_context.get_admin_context()
        server = objects.Instance.get_by_uuid(context, self.server['id'])
        server.task_state = 'migrating'
        server.save()
        self.publish()
        used = self.children('compute2')[1][1]
        self.assertEqual(2, used[inventory.PCPU])
        server.task_state = None
        server.save()
        self.publish()
        self.assertAccounted()

    def test_written_by_nova_manage(self):
        """nova-manage writes what the flavor asks for, and nothing of ours."""
        server = self.boot(self.flavor({'pin.0': '0:4 1:6'}))
        commands = manage.PlacementCommands()
        self.useFixture(fixtures.MonkeyPatch('sys.stdout', mock.Mock()))
        # Nova's own word for it.
        getattr(commands, 'heal_allocations')(
            force=True, instance_uuid=server['id'])
        self.publish(anew=True)
        self.assertAccounted()
        self._reboot_server(server, hard=True)
        self.assertAccounted()
        self._delete_server(server)
        self.assertAccounted()

    def test_service_is_deleted(self):
        """Nova deletes the tree of a compute node, which ours are not in."""
        self._delete_server(self.server)
        self.publish()
        self.computes['compute1'].stop()
        service, = (found for found in self.admin_api.get_services(
            host='compute1', binary='nova-compute'))
        self.admin_api.put_service(service['id'], {'forced_down': True})
        self.admin_api.api_delete(f'/os-services/{service["id"]}')
        placement = client.Placement(adapter.Adapter())
        left = leftovers.find(placement.providers())
        self.assertEqual(
            ['compute1_KONGMING_NODE0', 'compute1_KONGMING_NODE1'],
            [one.name for one in left])
        for one in left:
            self.assertEqual(('deleted', []),
                             leftovers.clear(placement, one))
        self.assertEqual(
            ['compute2', 'compute2_KONGMING_NODE0', 'compute2_KONGMING_NODE1'],
            sorted(found['name'] for found in placement.providers()))

    def test_audit_deletes_nothing_of_ours(self):
        commands = manage.PlacementCommands()
        self.useFixture(fixtures.MonkeyPatch('sys.stdout', mock.Mock()))
        commands.audit(delete=True)
        self.publish(anew=True)
        self.assertAccounted()


class TogetherTest(test_life.LifeBase):
    """Eight servers by count on the one host that has eight pCPUs."""

    DEDICATED = '2-5,10-13'
    SHARED = '0-1,8-9'

    def setUp(self):
        super().setUp()
        self.flags(max_attempts=1, group='scheduler')
        self.hosts()
        self.small = self.flavor({'grant': 'profile', 'qos': '0:weight=200'},
                                 vcpus=1, memory=64)

    def assertAllThere(self):
        servers = self.api.get_servers()
        self.assertEqual(8, len(servers))
        for server in servers:
            self._wait_for_state_change(server, 'ACTIVE')
        self.assertEqual({0: {2, 3, 4, 5}, 1: {10, 11, 12, 13}},
                         self.owned())
        self.assertAccounted()

    def test_parallel(self):
        for _ in range(8):
            self.post(self.small)
        self.assertAllThere()

    def test_one_request(self):
        self.api.post_server({'server': {
            **self._build_server(flavor_id=self.small, networks='none'),
            'min_count': 8, 'max_count': 8}})
        self.assertAllThere()


class RewriteTest(nova_base.LibvirtMigrationMixin, test_life.LifeBase):
    """Placement is told before and after each call of Nova's.

    Whatever nova-compute, scheduler and conductor do with allocations meets
    a write of ours that has just been made, and one that follows at once.
    """

    CALLS = ('claim_resources', 'move_allocations', 'put_allocations',
             'delete_allocation_for_instance',
             'remove_provider_tree_from_instance_allocation',
             'add_resources_to_instance_allocation',
             'remove_resources_from_instance_allocation')

    def setUp(self):
        super().setUp()
        self.hosts(2)
        self.met = collections.Counter()
        self._inside = False
        for name in self.CALLS:
            self.useFixture(fixtures.MockPatchObject(
                report.SchedulerReportClient, name, self._around(
                    name, getattr(report.SchedulerReportClient, name))))

    def _around(self, name, real):
        def around(*args, **kwargs):
            if self._inside:
                return real(*args, **kwargs)
            self._inside = True
            try:
                self.met[name] += 1
                self._write()
                return real(*args, **kwargs)
            finally:
                self._write()
                self._inside = False
        return around

    def _write(self):
        """As if all that can be rewritten had to be."""
        for compute in list(self.computes.values()):
            stale = compute.driver.publisher.allocations.stale
            stale.update(compute.manager.rt.tracked_instances)
            compute.driver.publisher.run(look=True)

    def test_all(self):
        server = self.boot(self.flavor(test_life.TEMPLATE))
        host = self.host_of(server)
        for end in (self._revert_resize, self._confirm_resize):
            self._resize_server(server, self.flavor(
                {'node.0': '1', 'pin.0': '0:15 1:12'}))
            end(server)
        self._migrate_server(server)
        self._confirm_resize(server)
        self.server, source = server, self.host_of(server)
        self.src, self.dest = (self.computes[name] for name in sorted(
            self.computes, key=lambda name: name != source))
        self._live_migrate(server, 'completed')
        self.assertAccounted()
        self.computes[self.host_of(server)].stop()
        gone = self.computes.pop(self.host_of(server))
        self.api.put_service_force_down(self.api.get_services(
            host=gone.host, binary='nova-compute')[0]['id'], True)
        self._evacuate_server(server, expected_state='SHUTOFF')
        self.assertAccounted()
        self._delete_server(server)
        # Nova takes one that came this way for new, until its next audit.
        self.audit()
        self.assertAccounted()
        self.assertIn(host, ('compute1', 'compute2'))
        self.assertLessEqual({
            'claim_resources', 'move_allocations',
            'delete_allocation_for_instance'}, set(self.met))
