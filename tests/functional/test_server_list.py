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

"""What a pass reads of servers, and what it keeps from the pass before."""

import datetime
from unittest import mock

import fixtures
import nova.context
from nova import objects
from nova_ext.live import server_list
from oslo_utils import timeutils

from tests.embedded import guests
from tests.functional import test_life


class ServerListTest(test_life.LifeBase):
    """Each way in which something that is kept could be stale."""

    def setUp(self):
        super().setUp()
        self.hosts()
        self.context = nova.context.get_admin_context()
        self.first, self.second, self.third = (
            self._create_server(flavor_id=self._create_flavor(
                vcpu=1, memory_mb=64, disk=1, ephemeral=0, swap=0),
                networks='none')['id'] for _ in range(3))
        self._until(lambda: True, 1)
        self.seconds = 0.0
        self.useFixture(fixtures.MonkeyPatch(
            'nova_ext.live.server_list.FEW', 2))
        self.list = server_list.ServerList(lambda: self.seconds)
        self.read()
        self.requests = []
        for name in 'get_by_host_and_node', 'get_by_filters':
            self._count(name)

    def _count(self, name):
        real = getattr(objects.InstanceList, name)
        self.useFixture(fixtures.MockPatchObject(
            objects.InstanceList, name, lambda *args, **kwargs: (
                self.requests.append(name), real(*args, **kwargs))[1]))

    def read(self):
        node, = self.computes['compute1'].rt.compute_nodes
        return {server.uuid: server for server in self.list.read(
            self.context, 'compute1', node)}

    def instance(self, uuid=None):
        return objects.Instance.get_by_uuid(
            self.context, uuid or self.first, expected_attrs=[
                'flavor', 'numa_topology', 'metadata', 'system_metadata',
                'migration_context'])

    def assertFresh(self, requests=None):
        """All that passes look at is what the database has."""
        del self.requests[:]
        found = self.read()
        if requests:
            self.assertEqual(requests, len(self.requests), self.requests)
        self.assertEqual({self.first, self.second, self.third}, set(found))
        for uuid, server in found.items():
            saved = self.instance(uuid)
            self.assertEqual(saved.obj_what_changed(),
                             server.obj_what_changed())
            for name in ('metadata', 'system_metadata', 'instance_type_id',
                         'image_ref', 'vm_state', 'task_state'):
                self.assertEqual(saved[name], server[name], name)
            for name in ('flavor', 'numa_topology', 'migration_context'):
                self.assertEqual(
                    saved[name] and saved[name].obj_to_primitive(),
                    server[name] and server[name].obj_to_primitive(), name)
        return found[self.first]

    def freeze(self):
        """All that is written now is written within one second."""
        now = timeutils.utcnow()
        self.useFixture(fixtures.MonkeyPatch(
            'oslo_utils.timeutils.utcnow', lambda *_a, **_k: now))

    def test_few(self):
        """One request, whatever was written."""
        self.useFixture(fixtures.MonkeyPatch(
            'nova_ext.live.server_list.FEW', 3))
        for number in '3', '4':
            self.api.post_server_metadata(
                self.first, {'kongming:pin.0': f'0:{number}'})
            server = self.instance()
            server.display_name = f'number {number}'
            server.save()
            self.assertEqual(f'0:{number}', self.assertFresh(
                requests=1).metadata['kongming:pin.0'])

    def test_nothing_new(self):
        self.assertFresh(requests=1)

    def test_metadata(self):
        self.api.post_server_metadata(self.first, {'kongming:pin.0': '0:3'})
        self.assertIn('kongming:pin.0', self.assertFresh().metadata)
        # There is no trace of it elsewhere.
        self.assertFresh(requests=1)

    def test_metadata_within_the_second(self):
        for number in '3', '4':
            self.freeze()
            self.api.post_server_metadata(
                self.first, {'kongming:pin.0': f'0:{number}'})
            self.assertEqual(f'0:{number}', self.assertFresh().metadata[
                'kongming:pin.0'])

    def topology(self, pcpu):
        return objects.InstanceNUMATopology(
            instance_uuid=self.first, cells=[objects.InstanceNUMACell(
                id=0, cpuset=set(), pcpuset={0}, cpu_pinning={0: pcpu},
                memory=64, cpu_policy='dedicated')])

    def test_topology(self):
        """It leaves no trace in the server's row, whenever it is written."""
        self.freeze()
        for pcpu in 3, 4:
            server = self.instance()
            before = server.updated_at
            server.numa_topology = self.topology(pcpu)
            server.save()
            self.assertEqual(before, self.instance().updated_at)
            self.assertEqual({0: pcpu}, self.assertFresh(
                requests=1).numa_topology.cells[0].cpu_pinning)

    def test_what_a_move_leaves(self):
        server = self.instance()
        server.migration_context = objects.MigrationContext(
            instance_uuid=self.first, migration_id=1,
            old_numa_topology=None, new_numa_topology=self.topology(3))
        server.save()
        self.assertIsNotNone(self.assertFresh(requests=1).migration_context)
        server = self.instance()
        server.drop_migration_context()
        self.assertIsNone(self.assertFresh(requests=1).migration_context)

    def flavored(self, number, **specs):
        server = self.instance()
        server.flavor = objects.Flavor(
            **{**{name: server.flavor[name] for name in (
                'name', 'flavorid', 'memory_mb', 'vcpus', 'root_gb',
                'ephemeral_gb', 'swap', 'rxtx_factor')},
               'id': number, 'extra_specs': specs})
        server.instance_type_id = number
        server.save()

    def test_flavor_within_the_second(self):
        """Resized, reverted and resized, by Nova's own save."""
        self.freeze()
        before = self.instance().instance_type_id
        for number in 77, before, 78, 77:
            self.flavored(number, **{'kongming:node.0': str(number)})
            self.assertEqual(str(number), self.assertFresh(
                requests=2).flavor.extra_specs['kongming:node.0'])

    def test_flavor_between_its_two_writes(self):
        """The flavor is there, its number is not yet."""
        number = self.instance().instance_type_id
        server = self.instance()
        server.flavor.extra_specs['kongming:node.0'] = '1'
        server.save()
        self.assertEqual(number, self.read()[self.first].instance_type_id)
        self.flavored(79, **{'kongming:node.0': '1'})
        self.assertFresh(requests=2)

    def test_image(self):
        server = self.instance()
        server.image_ref = guests.IDS['busy']
        server.system_metadata['image_hw_cpu_policy'] = 'dedicated'
        server.save()
        self.assertEqual('dedicated', self.assertFresh(
            requests=2).system_metadata['image_hw_cpu_policy'])

    def test_property_of_an_image_of_one_that_starts(self):
        """As nova-manage image_property writes it."""
        server = self.instance()
        server.system_metadata['image_hw_machine_type'] = 'q35'
        server.save()
        # It is off then, and starts.
        server = self.instance()
        server.launched_at = (
            server.launched_at + datetime.timedelta(seconds=1))
        server.save()
        self.assertFresh()

    def test_state(self):
        server = self.instance()
        server.task_state = 'resize_prep'
        server.save()
        self.assertFresh(requests=2)

    def test_another_server(self):
        gone = self.third
        self._delete_server(self.api.get_server(gone))
        self.third = self._create_server(flavor_id=self._create_flavor(
            vcpu=1, memory_mb=64, disk=1, ephemeral=0, swap=0),
            networks='none')['id']
        self.assertFresh(requests=2)
        self.assertNotIn(gone, self.list._cached[
            next(iter(self.list._cached))])

    def test_one_that_goes_between_the_requests(self):
        """It is on another host by then, and no pass of this one's."""
        server = self.instance()
        server.task_state = 'migrating'
        server.save()
        real = objects.InstanceList.get_by_filters

        def gone(*args, **kwargs):
            other = self.instance()
            other.host = 'elsewhere'
            other.save()
            return real(*args, **kwargs)

        with mock.patch.object(
                objects.InstanceList, 'get_by_filters', gone):
            self.assertEqual({self.second, self.third}, set(self.read()))

    def test_resized_between_the_requests(self):
        """Topology and flavor are those of one moment."""
        server = self.instance()
        server.task_state = 'resize_finish'
        server.save()
        real = objects.InstanceList.get_by_filters

        def resized(*args, **kwargs):
            other = self.instance()
            other.numa_topology = self.topology(5)
            other.save()
            self.flavored(81, **{'kongming:pin.0': '0:5'})
            return real(*args, **kwargs)

        with mock.patch.object(
                objects.InstanceList, 'get_by_filters', resized):
            found = self.read()[self.first]
        self.assertEqual('0:5', found.flavor.extra_specs['kongming:pin.0'])
        self.assertEqual({0: 5}, found.numa_topology.cells[0].cpu_pinning)

    def test_written_by_hand(self):
        """A flavor without a trace: seen when all is read again."""
        server = self.instance()
        server.flavor.extra_specs['kongming:node.0'] = '1'
        server.save()
        self.assertEqual({}, self.read()[self.first].flavor.extra_specs)
        self.seconds += server_list.CACHED_FOR
        self.assertFresh(requests=1)
