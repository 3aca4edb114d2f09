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

"""Running servers are brought to where they are wanted."""

import importlib
from unittest import mock

import fixtures

from kongming.domain import domain as domain_mod
from kongming.libvirt import affinity
from kongming.libvirt import memory
from kongming.publish import client
from nova.compute import rpcapi
from nova import context as nova_context
from nova import objects
from nova.tests.fixtures import libvirt as fakelibvirt
from nova.tests.fixtures import notifications
from nova_ext import guests as guests_mod
from nova_ext.live import reconciler as reconciler_mod
from nova_ext.live import record
from nova_ext.ownership import write_ahead
from oslo_serialization import jsonutils
from tests.embedded import guests
from tests.embedded import hypervisor
from tests.functional import test_boot
from tests.functional import test_life

only = test_boot.only


class LiveBase(test_life.LifeBase):

    #: pCPUs that several servers float over.
    FLOATED_OVER = frozenset()

    def setUp(self):
        super().setUp()
        self.hosts()
        self.samples = []
        # A checker that looks after every write of ownership and of pins.
        for where in ('nova_ext.ownership.write_ahead.write',
                      'kongming.libvirt.affinity.apply'):
            self._sampled(where)

    def _sampled(self, where):
        module, _dot, name = where.rpartition('.')
        real = getattr(importlib.import_module(module), name)

        def call(*args, **kwargs):
            try:
                return real(*args, **kwargs)
            finally:
                self.assertOneOwner()

        self.useFixture(fixtures.MonkeyPatch(where, call))

    def assertOneOwner(self):
        """Neither in the database nor in libvirt has a pCPU two owners."""
        owners, running = {}, {}
        for server in objects.InstanceList.get_by_host(
                nova_context.get_admin_context(), 'compute1',
                expected_attrs=['numa_topology']):
            if server.numa_topology is None:
                continue
            for cell in server.numa_topology.cells:
                for pcpu in {*(cell.cpu_pinning or {}).values(),
                             *(cell.cpuset_reserved or ())}:
                    self.assertIsNone(owners.get(pcpu))
                    owners[pcpu] = server.uuid
            if server.vm_state != 'active':
                continue
            for pcpus in self.pins({'id': server.uuid})[0].values():
                for pcpu in pcpus - self.FLOATED_OVER:
                    self.assertIn(running.get(pcpu), (None, server.uuid))
                    running[pcpu] = server.uuid
        self.samples.append(owners)

    def template(self, pins, **extra):
        return self.flavor({'node.0': '1', 'pin.0': pins,
                            'grant': 'template', **extra},
                           vcpus=len(pins.split()))

    def want(self, server, **metadata):
        """Metadata as a tenant writes it, then the trigger."""
        self.api.post_server_metadata(server['id'], {
            f'kongming:{key.replace("_", ".")}': value
            for key, value in metadata.items()})
        return self.ring(server)

    def unwant(self, server, *keys):
        for key in keys:
            self.api.delete_server_metadata(server['id'],
                                            f'kongming:{key}')
        self.ring(server)

    def ring(self, server):
        found = self.api.api_get(f'/servers/{server["id"]}/diagnostics').body
        self.settle()
        self.publish()
        return found

    def actions(self, server):
        """(message, details) of each live change, the newest first."""
        found = []
        for action in self.api.get_instance_actions(server['id']):
            if action['action'] == record.ACTION:
                event, = self.api.api_get(
                    f'/servers/{server["id"]}/os-instance-actions/'
                    f'{action["request_id"]}').body['instanceAction'][
                        'events']
                found.append((event['result'], event.get('details')))
        return found

    def assertEverywhere(self, server, pins):
        self.assertHolds(server, pins)
        named = {int(name.rpartition('_')[2])
                 for resources in self.allocations_of(server['id']).values()
                 for name in resources if '_PCPU_' in name}
        # Those that nobody has named are counted only.
        self.assertLessEqual(named, set(pins.values()))
        self.assertTrue(named)


class ChangeTest(LiveBase):

    def test_changes_again_while_its_allocation_is_written(self):
        """What was read of it for that is old by then."""
        server = self.boot(self.template('0:13'))
        self.publish()
        real, places = client.Placement.reallocate, ['0:10']

        def reallocate(placement, wanted):
            if places:
                self.api.post_server_metadata(
                    server['id'], {'kongming:pin.0': places.pop()})
                self.computes['compute1'].driver.passes.run()
                self.settle()
            return real(placement, wanted)

        with mock.patch.object(client.Placement, 'reallocate', reallocate):
            self.want(server, pin_0='0:15')
        self.publish()
        self.assertHolds(server, {0: 10})

    def test_there_and_back_again(self):
        server = self.boot(self.template('0:13 1:10'))
        self.want(server, pin_0='0:15')
        self.assertEverywhere(server, {0: 15, 1: 10})
        self.assertEqual([('Success', None)], self.actions(server))
        self.assertLess(2, len(self.samples))
        self.unwant(server, 'pin.0')
        self.assertEverywhere(server, {0: 13, 1: 10})
        self._delete_server(server)
        self.assertNothingOwned()

    def test_emulator_leaves_what_is_given_up(self):
        server = self.boot(self.template('0:13 1:10'))
        self.want(server, pin_0='0:15 1:14')
        self.assertIn('emulatorpin cpuset="14-15"',
                      self.domain_xml(server['id']))

    def test_survives_what_nova_writes_anew(self):
        server = self.boot(self.template('0:13 1:10'))
        self.want(server, pin_0='0:15 1:14')
        self._reboot_server(server, hard=True)
        self.assertEverywhere(server, {0: 15, 1: 14})
        self._stop_server(server)
        self._start_server(server)
        self.assertEverywhere(server, {0: 15, 1: 14})
        self.restart_compute_service('compute1')
        self.assertEverywhere(server, {0: 15, 1: 14})

    def test_rebuilt_when_its_first_place_is_taken(self):
        server = self.boot(self.template('0:13'))
        self.want(server, pin_0='0:15')
        other = self.boot(self.template('0:13'))
        self._rebuild_server(server, guests.IMAGES[0]['id'])
        self.assertEverywhere(server, {0: 15})
        self.assertEverywhere(other, {0: 13})

    def test_stopped_server(self):
        server = self.boot(self.template('0:13'))
        self._stop_server(server)
        self.api.post_server_metadata(server['id'],
                                      {'kongming:pin.0': '0:15'})
        self.reconcile()
        self._start_server(server)
        self.assertEverywhere(server, {0: 15})

    def test_nothing_to_do_writes_nothing(self):
        server = self.boot(self.template('0:13 1:10'))
        self.want(server, pin_0='0:15')
        self.samples.clear()
        with mock.patch.object(objects.Instance, 'save') as save:
            self.ring(server)
        save.assert_not_called()
        self.assertEqual([], self.samples)

    def test_two_swap(self):
        one = self.boot(self.template('0:13'))
        two = self.boot(self.template('0:10'))
        self.api.post_server_metadata(one['id'], {'kongming:pin.0': '0:10'})
        self.api.post_server_metadata(two['id'], {'kongming:pin.0': '0:13'})
        self.ring(one)
        self.assertEverywhere(one, {0: 10})
        self.assertEverywhere(two, {0: 13})
        self.assertEqual([('Success', None)], self.actions(two))

    def test_ring_without_a_free_pcpu(self):
        servers = [self.boot(self.template(f'0:{p}')) for p in range(10, 16)]
        for server, pcpu in zip(servers, (*range(11, 16), 10)):
            self.api.post_server_metadata(
                server['id'], {'kongming:pin.0': f'0:{pcpu}'})
        self.ring(servers[0])
        for server, pcpu in zip(servers, range(10, 16)):
            self.assertHolds(server, {0: pcpu})
            (result, details), = self.actions(server)
            self.assertEqual('Error', result)
            self.assertIn('no free one to start with', details)
        # One is reported once, however often it is asked for.
        self.ring(servers[0])
        self.assertEqual(1, len(self.actions(servers[0])))

    def test_owned_by_a_native_server(self):
        self.useFixture(hypervisor.Numa())
        native = self.fill()
        taken = min(min(p) for p in self.pins(native)[0].values())
        server = self.boot(self.flavor(
            {'pin.0': f'0:{"2" if taken > 7 else "10"}',
             'grant': 'template'}, vcpus=1))
        before = self.pins(server)[0]
        self.want(server, pin_0=f'0:{taken}')
        self.assertEqual(before, self.pins(server)[0])
        (result, details), = self.actions(server)
        self.assertEqual('Error', result)
        # Only an admin may read this.
        self.assertIn(f'({native["id"]})', details)


class MemoryBase(LiveBase):
    """A cell changes its node, and its memory goes with it."""

    def setUp(self):
        super().setUp()
        self.kernel = self.useFixture(hypervisor.Numa())
        self.numa = self.kernel.numa

    def domain(self, server):
        return self.connection_of(server['id']).lookupByUUIDString(
            server['id'])

    def process(self, server):
        """Its memory, as the kernel has it."""
        return self.kernel.memory_of(self.domain(server))

    def defined(self, server, flags=memory.INACTIVE):
        """(mode, cell -> nodes) as libvirt says."""
        found = domain_mod.parse(self.domain(server).XMLDesc(flags))
        return found.mode, dict(found.memnodes)

    def assertOnNodes(self, server, nodes, pins):
        self.assertEverywhere(server, pins)
        self.assertEqual(list(nodes), [
            cell.id for cell in self.instance(
                server['id']).numa_topology.cells])
        process = self.process(server)
        self.assertEqual([{node} for node in nodes], process.where())
        self.assertEqual(list(nodes), process.bound())
        self.assertEqual({frozenset(nodes)}, set(process.groups.values()))
        self.assertEqual(('strict', {
            cell: only(node) for cell, node in enumerate(nodes)}),
            self.defined(server))


class MemoryTest(MemoryBase):

    def assertOnNode(self, server, node, pins):
        self.assertOnNodes(server, [node], pins)
        self.assertEqual({node: 1024, 1 - node: 0}, {
            at: used for at, (_pcpus, used) in self.usage().items()})

    def test_there_and_back_again(self):
        server = self.boot(self.template('0:13 1:10'))
        self.assertOnNode(server, 1, {0: 13, 1: 10})
        self.want(server, node_0='0', pin_0='0:5 1:2')
        self.assertOnNode(server, 0, {0: 5, 1: 2})
        self.audit()
        self.assertOnNode(server, 0, {0: 5, 1: 2})
        self._reboot_server(server, hard=True)
        self.assertOnNode(server, 0, {0: 5, 1: 2})
        self.unwant(server, 'pin.0', 'node.0')
        self.assertOnNode(server, 1, {0: 13, 1: 10})
        self.assertEqual([('Success', None)] * 2, self.actions(server))
        self._delete_server(server)
        self.assertNothingOwned()

    def test_shared_vcpus_go_too(self):
        server = self.boot(self.flavor(
            {'node.0': '1', 'grant': 'template'}, vcpus=2,
            cpu_policy='shared', numa_nodes='1'))
        self.assertEqual({0: frozenset({8, 9}), 1: frozenset({8, 9})},
                         self.pins(server)[0])
        self.want(server, node_0='0')
        self.assertEqual({0: frozenset({0, 1}), 1: frozenset({0, 1})},
                         self.pins(server)[0])
        self.assertEqual([{0}], self.process(server).where())

    def test_two_change_nodes(self):
        one = self.boot(self.template('0:13'))
        two = self.boot(self.flavor({'pin.0': '0:2', 'grant': 'template'},
                                    vcpus=1))
        self.api.post_server_metadata(one['id'], {
            'kongming:pin.0': '0:2', 'kongming:node.0': '0'})
        self.api.post_server_metadata(two['id'], {'kongming:pin.0': '0:13'})
        self.ring(one)
        self.assertEverywhere(one, {0: 2})
        self.assertEverywhere(two, {0: 13})

    def test_started_as_an_older_one_was(self):
        """Bound by its cgroup alone; its next start is as Nova has it."""
        server = self.boot(self.template('0:13 1:10'))
        domain = self.domain(server)
        domain._def['numatune'] = domain._def['numatune'].replace(
            'strict', 'restrictive')
        self.numa.processes.clear()
        self.want(server, node_0='0', pin_0='0:5 1:2')
        self.assertEqual([{0}], self.process(server).where())
        self.assertEqual([('Success', None)], self.actions(server))
        self._reboot_server(server, hard=True)
        self.assertOnNode(server, 0, {0: 5, 1: 2})

    def test_insufficient_memory_is_refused_up_front(self):
        server = self.boot(self.template('0:13 1:10'))
        self.samples.clear()
        with mock.patch.object(
                fakelibvirt.Connection, 'getFreePages', create=True,
                new=lambda *args: {0: {4: 1000}}):
            self.want(server, node_0='0', pin_0='0:5 1:2')
        self.assertOnNode(server, 1, {0: 13, 1: 10})
        (_result, details), = self.actions(server)
        self.assertIn('node 0 has 1000 free pages of 4 KiB', details)
        self.assertEqual([], self.numa.calls)

    def test_what_the_kernel_knows_is_refused_up_front(self):
        server = self.boot(self.template('0:13 1:10'))
        said = self.process(server).said
        for key, value, words in (
                ('devices', ['/dev/vfio/7'], '/dev/vfio/7 open'),
                ('pinned_kib', 512, '512 KiB of its memory are pinned')):
            was, said[key] = said[key], value
            self.want(server, node_0='0', pin_0='0:5 1:2')
            self.assertIn(words, self.actions(server)[0][1])
            said[key] = was
        self.assertEqual([], self.numa.calls)
        self.assertOnNode(server, 1, {0: 13, 1: 10})
        # Where no memory moves, nothing is in the way.
        said['pinned_kib'] = 512
        self.unwant(server, 'pin.0', 'node.0')
        self.want(server, pin_0='0:15 1:10')
        self.assertOnNode(server, 1, {0: 15, 1: 10})

    def test_pages_that_stay(self):
        """All is rolled back: pages, policy, threads and ownership."""
        self.flags(group='kongming', memory_move_timeout=1)
        server = self.boot(self.template('0:13 1:10'))
        process = self.process(server)
        process.pinned = {(process.mappings[0].first, 2)}
        self.want(server, node_0='0', pin_0='0:5 1:2')
        self.assertIn('1 pages of 4 KiB of cell 0 are on node 1',
                      self.actions(server)[0][1])
        self.assertOnNode(server, 1, {0: 13, 1: 10})
        process.pinned = set()
        self.ring(server)
        self.assertOnNode(server, 0, {0: 5, 1: 2})

    def test_the_kernel_refuses_in_the_middle(self):
        server = self.boot(self.template('0:13 1:10'))
        for what in ('move_slice', 'set_mems emulator', 'set_mems vcpu0'):
            def refuse(now, what=what):
                if now == what:
                    self.numa.before = lambda what: None
                    raise RuntimeError(f'no {what}')

            self.numa.before = refuse
            self.want(server, node_0='0', pin_0='0:5 1:2')
            self.assertIn(f'no {what}', self.actions(server)[0][1])
            self.assertOnNode(server, 1, {0: 13, 1: 10})
            self.unwant(server, 'node.0', 'pin.0')
        self.want(server, node_0='0', pin_0='0:5 1:2')
        self.assertOnNode(server, 0, {0: 5, 1: 2})

    def test_somebody_moved_it_by_hand(self):
        server = self.boot(self.template('0:13 1:10'))
        self.numa.set_mems(self.kernel._pid(self.domain(server)), [0])
        self.assertEqual([{0}], self.process(server).where())
        self.ring(server)
        self.assertOnNode(server, 1, {0: 13, 1: 10})
        self.assertIn('is moved back', self.stdlog.logger.output)

    def test_memfd_is_looked_at_in_each_pass(self):
        server = self.boot(self.template('0:13 1:10'))
        mapping, = self.process(server).mappings
        mapping.file = '/memfd:memory-backend-memfd'
        self.want(server, node_0='0', pin_0='0:5 1:2')
        self.assertEqual(([{0}], [1]), (self.process(server).where(),
                                        self.process(server).bound()))
        self.assertEqual([('Success', None)], self.actions(server))
        self.assertIn('memfd memory stays bound', self.stdlog.logger.output)
        mapping.pages[3] = 1
        self.ring(server)
        self.assertEqual([{0}], self.process(server).where())
        self._reboot_server(server, hard=True)
        self.assertOnNode(server, 0, {0: 5, 1: 2})

    def test_resumed_where_it_has_moved_to(self):
        server = self.boot(self.template('0:13 1:10'))
        self.want(server, node_0='0', pin_0='0:5 1:2')
        self.assertEqual(only(1), self.defined(server, 0)[1][0])
        saved = []
        with mock.patch.object(
                fakelibvirt.Domain, 'managedSaveGetXMLDesc', create=True,
                new=lambda domain, flags: domain.XMLDesc(0)), \
            mock.patch.object(
                fakelibvirt.Domain, 'managedSaveDefineXML', create=True,
                new=lambda domain, xml: saved.append(xml)):
            self.api.post_server_action(server['id'], {'suspend': {}})
            self._wait_for_state_change(server, 'SUSPENDED')
            self.api.post_server_action(server['id'], {'resume': {}})
            self._wait_for_state_change(server, 'ACTIVE')
        self.assertEqual([{0: only(0)}], [
            dict(domain_mod.parse(xml).memnodes) for xml in saved])

    def test_defined_anew_in_the_middle(self):
        """A hard reboot then knows nothing of the place that it goes to."""
        server = self.boot(self.template('0:13 1:10'))
        xml = []

        def reboot(what):
            if xml:
                return
            driver = self.computes['compute1'].driver
            instance = self.instance(server['id'])
            self.assertEqual(2, len(instance.numa_topology.cells))
            xml.append(guests_mod.threads_of(driver._get_guest_numa_config(
                instance.numa_topology, instance.flavor,
                objects.ImageMeta.from_instance(instance))))
            raise RuntimeError('enough')

        self.numa.before = reboot
        self.want(server, node_0='0', pin_0='0:5 1:2')
        self.assertEqual({0: only(13), 1: only(10)}, xml[0].vcpus)


class CellsTest(MemoryBase):
    """Guests of several cells, on a host of four nodes."""

    SHAPE = {'cpu_nodes': 4, 'cpu_sockets': 1, 'cpu_cores': 4,
             'cpu_threads': 2, 'kB_mem': 16 * 1024 ** 2}
    SHARED = '0-1,8-9,16-17,24-25'
    DEDICATED = '2-7,10-15,18-23,26-31'

    def two(self, **extra):
        return self.boot(self.flavor(
            {'node.0': '0', 'node.1': '1', 'pin.0': '0:5', 'pin.1': '1:13',
             'grant': 'template', **extra}, vcpus=2, numa_nodes='2'))

    def test_each_cell_goes(self):
        server = self.two()
        self.assertOnNodes(server, (0, 1), {0: 5, 1: 13})
        for nodes, pins in (((0, 2), '1:21'), ((0, 3), '1:29')):
            self.want(server, node_1=str(nodes[1]), pin_1=pins)
            self.assertOnNodes(server, nodes, {
                0: 5, 1: int(pins.partition(':')[2])})
        # Both, the upper one first.
        self.want(server, node_0='1', pin_0='0:13', node_1='2',
                  pin_1='1:21')
        self.assertOnNodes(server, (1, 2), {0: 13, 1: 21})
        self.audit()
        self._reboot_server(server, hard=True)
        self.assertOnNodes(server, (1, 2), {0: 13, 1: 21})
        self.unwant(server, 'node.0', 'pin.0', 'node.1', 'pin.1')
        self.assertOnNodes(server, (0, 1), {0: 5, 1: 13})
        self.assertEqual([('Success', None)] * 4, self.actions(server))
        self._delete_server(server)
        self.assertEqual({(frozenset(), 0)}, {
            (frozenset(pcpus), used)
            for pcpus, used in self.usage().values()})

    def test_order_is_refused(self):
        server = self.two()
        self.want(server, node_0='1', node_1='0', pin_0='0:13', pin_1='1:5')
        self.assertOnNodes(server, (0, 1), {0: 5, 1: 13})
        (result, details), = self.actions(server)
        self.assertEqual('Error', result)
        self.assertIn('the kernel keeps the order of the cells', details)

    def test_rolled_back_as_a_whole(self):
        """The second cell can't go, and the first one comes back."""
        server = self.two()

        def refuse(what):
            if what == 'move_slice' and self.process(server).where() == [
                    {0}, {2}]:
                self.numa.before = lambda what: None
                raise RuntimeError('no')

        self.numa.before = refuse
        self.want(server, node_0='1', pin_0='0:13', node_1='2',
                  pin_1='1:21')
        self.assertEqual('Error', self.actions(server)[0][0])
        self.assertOnNodes(server, (0, 1), {0: 5, 1: 13})


class ThreadTest(LiveBase):
    """Threads that own nothing, or something of their own."""

    def tune(self, server):
        return affinity.read(self.connection_of(server['id'])
                             .lookupByUUIDString(server['id']))

    def test_emulator_and_iothread(self):
        server = self.boot(self.template('0:13 1:10', emulator='shared'))
        shared = frozenset({0, 1, 8, 9})
        self.assertEqual(shared, self.tune(server).emulator)
        self.want(server, emulator='8-9', iothread_1='8')
        self.assertEqual(frozenset({8, 9}), self.tune(server).emulator)
        self.assertEqual({1: only(8)}, self.tune(server).iothreads)
        self.assertEqual([('Success', None)], self.actions(server))
        self.unwant(server, 'emulator', 'iothread.1')
        self.assertEqual(shared, self.tune(server).emulator)
        self.assertEqual({1: frozenset({10, 13})},
                         self.tune(server).iothreads)

    def test_out_of_reach(self):
        server = self.boot(self.template('0:13 1:10'))
        for desired in ('12', '2', '77'):
            self.want(server, emulator=desired)
            self.assertEqual(frozenset({10, 13}), self.tune(server).emulator)
        self.assertIn('emulator: pCPU 77 is neither its own nor in '
                      'cpu_shared_set', self.stdlog.logger.output)

    def test_emulator_that_owns_a_pcpu(self):
        server = self.boot(self.flavor(
            {'pin.0': '0:13', 'emulator': '12', 'grant': 'template'},
            vcpus=1, emulator_threads_policy='isolate'))
        self.assertEqual({12, 13}, self.owned()[1])
        self.want(server, emulator='10', pin_0='0:12')
        self.assertEqual({10, 12}, self.owned()[1])
        self.assertEqual(only(10), self.tune(server).emulator)
        self.assertEqual({0: only(12)}, self.tune(server).vcpus)
        self._delete_server(server)
        self.assertNothingOwned()

    def test_shared_vcpus_float_where_the_template_says(self):
        server = self.boot(self.flavor(
            {'pin.0': '0:13 1~8', 'grant': 'template'}, vcpus=2,
            cpu_policy='mixed', cpu_dedicated_mask='0'))
        self.assertEqual({0: only(13), 1: only(8)}, self.tune(server).vcpus)
        self.want(server, pin_0='0:13 1~9')
        self.assertEqual({0: only(13), 1: only(9)}, self.tune(server).vcpus)
        self._reboot_server(server, hard=True)
        self.ring(server)
        self.assertEqual({0: only(13), 1: only(9)}, self.tune(server).vcpus)

    def test_scheduler_is_written_down(self):
        """Before the domain starts; a running one is for the real kernel."""
        server = self.boot(self.template('0:13 1:10', sched='1:fifo:5'))
        instance = self.instance(server['id'])
        config = self.computes['compute1'].driver._get_guest_numa_config(
            instance.numa_topology, instance.flavor,
            objects.ImageMeta.from_instance(instance))
        self.assertEqual({1: ('fifo', 5)},
                         guests_mod.threads_of(config).sched)
        entry, = config.cputune.vcpusched
        self.assertEqual('<vcpusched vcpus="1" scheduler="fifo" '
                         'priority="5"/>', entry.to_xml().strip())


class RecordTest(LiveBase):
    """What is left behind of a change."""

    def test_log_line_and_notification(self):
        self.notifier = self.useFixture(
            notifications.NotificationFixture(self))
        server = self.boot(self.template('0:13 1:10'))
        self.want(server, pin_0='0:15')
        self.want(server, pin_0='0:2')
        done, refused = (
            n['payload']['nova_object.data']
            for n in self.notifier.versioned_notifications
            if 'kongming' in n['event_type'])
        self.assertEqual('Success', done['result'])
        self.assertEqual(['0:13->15'], done['steps'])
        self.assertEqual(server['id'], done['server'])
        self.assertIn('node 0', refused['reason'])
        lines = [jsonutils.loads(line.partition('Live change: ')[2])
                 for line in self.stdlog.logger.output.splitlines()
                 if 'Live change: ' in line]
        self.assertEqual([done, refused], lines)


class GrantTest(LiveBase):

    def test_nothing_without_a_grant(self):
        server = self.boot(self.flavor(test_life.TEMPLATE))
        for metadata in ({'pin_0': '0:15'}, {'grant': 'template'},
                         {'node_0': '0'}, {'pin_0': '\x00\x1b[31m'},
                         {'profile': 'x' * 200}, {'pin_0': '0:' + '9' * 200}):
            try:
                self.want(server, **metadata)
            except Exception as exc:
                # What nova-api refuses by itself.
                self.assertIn('400', str(exc))
            self.assertHolds(server)
        self.assertEqual([], self.actions(server))
        self.assertIn("needs the grant 'template'",
                      self.stdlog.logger.output)

    def test_shared_set_and_others_are_out_of_reach(self):
        server = self.boot(self.template('0:13'))
        other = self.boot(self.template('0:10'))
        for pcpu in (8, 10, 5, 99):
            self.want(server, pin_0=f'0:{pcpu}')
            self.assertHolds(server, {0: 13})
        self.assertHolds(other, {0: 10})


class FaultTest(LiveBase):

    def test_it_owns_fewer_pcpus_than_it_needs(self):
        server = self.boot(self.template('0:13 1:10'))
        instance = self.instance(server['id'])
        owned = instance.numa_topology.obj_clone()
        owned.cells[0].cpu_pinning = {0: 13}
        instance.numa_topology = owned
        instance.save()
        self.audit()
        for _pass in range(2):
            self.ring(server)
        (result, details), = self.actions(server)
        self.assertEqual('Error', result)
        self.assertIn('It owns fewer pCPUs than it needs', details)
        self._reboot_server(server, hard=True)
        self.ring(server)
        self.assertHolds(server, {0: 13, 1: 10})

    def test_drift_is_put_back(self):
        server = self.boot(self.template('0:13'))
        domain = self.connection_of(
            server['id']).lookupByUUIDString(server['id'])
        domain.pinVcpuFlags(0, (True,) * 16, 3)
        self.ring(server)
        self.assertHolds(server, {0: 13})
        self.assertRegex(
            self.stdlog.logger.output,
            'Threads were not where they belong and are put back: .*'
            'vCPU 0: pCPU 0-15 -> 13')

    def test_libvirt_refuses(self):
        """What was done before is rolled back, too."""
        server = self.boot(self.template('0:13 1:10'))
        real, calls = fakelibvirt.Domain.pinVcpuFlags, []

        def pin(domain, vcpu, cpumap, flags):
            calls.append(vcpu)
            if len(calls) == 2:
                raise RuntimeError('libvirt said no')
            return real(domain, vcpu, cpumap, flags)

        with mock.patch.object(fakelibvirt.Domain, 'pinVcpuFlags', pin):
            self.want(server, pin_0='0:15 1:14')
        self.assertEqual([0, 1, 0], calls)
        self.assertEverywhere(server, {0: 13, 1: 10})
        (result, details), = self.actions(server)
        self.assertEqual('Error', result)
        self.assertIn('libvirt said no', details)
        self.ring(server)
        self.assertEverywhere(server, {0: 15, 1: 14})

    def test_what_fails_is_no_reason_for_others(self):
        """Nor for the share of the host that they have nothing to do with."""
        fails, swaps, serves = (
            self.boot(self.template(pins)) for pins in (
                '0:13 1:10', '0:11 1:12', '0:14 1:15'))
        real = fakelibvirt.Domain.pinVcpuFlags

        def pin(domain, vcpu, cpumap, flags):
            if domain.UUIDString() == fails['id']:
                raise RuntimeError('libvirt said no')
            return real(domain, vcpu, cpumap, flags)

        for server, pins in ((fails, '0:10 1:13'), (swaps, '0:12 1:11')):
            self.api.post_server_metadata(server['id'],
                                          {'kongming:pin.0': pins})
        with mock.patch.object(fakelibvirt.Domain, 'pinVcpuFlags', pin):
            self.want(serves, pin_0='0:15 1:14')
        self.assertEverywhere(serves, {0: 15, 1: 14})
        self.assertEverywhere(swaps, {0: 12, 1: 11})
        self.assertEverywhere(fails, {0: 13, 1: 10})
        self.assertEqual(['Error', 'Success', 'Success'], [
            self.actions(server)[0][0] for server in (fails, swaps, serves)])

    def test_what_fails_is_not_tried_at_every_pass(self):
        server = self.boot(self.template('0:13 1:10'))
        calls = []

        def refuse(*args):
            calls.append(args)
            raise RuntimeError('libvirt said no')

        reconciler = self.computes['compute1'].driver._reconciler
        self.api.post_server_metadata(server['id'],
                                      {'kongming:pin.0': '0:15'})
        with mock.patch.object(fakelibvirt.Domain, 'pinVcpuFlags', refuse):
            for _pass in range(4):
                reconciler.run(patient=True)
                self.settle()
            self.assertEqual((1, 1), (len(calls), len(self.actions(server))))
            # Somebody who asks for it is not kept waiting.
            self.ring(server)
            self.assertEqual(2, len(calls))
            (result, details), = self.actions(server)
            self.assertEqual('Error', result)
            self.assertIn('libvirt said no (2 times)', details)
        # Nor is another request.
        self.api.post_server_metadata(server['id'],
                                      {'kongming:pin.0': '0:14'})
        reconciler.run(patient=True)
        self.settle()
        self.assertEverywhere(server, {0: 14, 1: 10})
        self.assertEqual(['Success', 'Error'], [
            result for result, _details in self.actions(server)])

    def test_what_has_failed_waits_after_a_restart_too(self):
        server = self.boot(self.template('0:13 1:10'))
        calls = []

        def refuse(*args):
            calls.append(args)
            raise RuntimeError('libvirt said no')

        def run():
            self.computes['compute1'].driver._reconciler.run(patient=True)
            self.settle()

        self.api.post_server_metadata(server['id'],
                                      {'kongming:pin.0': '0:15'})
        with mock.patch.object(fakelibvirt.Domain, 'pinVcpuFlags', refuse):
            run()
            self.restart_compute_service('compute1')
            run()
            self.assertEqual((1, 1), (len(calls), len(self.actions(server))))
            # Who asks for it is served, and it counts in the record.
            self.ring(server)
            self.assertEqual(2, len(calls))
            (_result, details), = self.actions(server)
            self.assertIn('libvirt said no (2 times)', details)
            self.restart_compute_service('compute1')
        self.api.post_server_metadata(server['id'],
                                      {'kongming:pin.0': '0:14'})
        run()
        self.assertEverywhere(server, {0: 14, 1: 10})

    def test_changes_before_a_restart_have_taken_tokens(self):
        self.flags(change_interval=1000, group='kongming')
        server = self.boot(self.template('0:13'))
        for number in range(10):
            self.want(server, pin_0=f'0:{(15, 14)[number % 2]}')
        self.assertEqual(10, len(self.actions(server)))
        self.restart_compute_service('compute1')
        self.ring(server)
        self.want(server, pin_0='0:12')
        self.assertEverywhere(server, {0: 14})
        self.assertIn('too often', self.actions(server)[0][1])

    def test_metadata_that_is_not_obeyed_is_reported_once(self):
        server = self.boot(self.flavor(test_life.TEMPLATE))
        self.want(server, pin_0='0:15')
        for _pass in range(3):
            self.ring(server)
        self.assertEqual(1, self.stdlog.logger.output.count(
            'Metadata not obeyed'))

    def test_busy_server_is_tried_again(self):
        server = self.boot(self.template('0:13'))
        instance = self.instance(server['id'])
        instance.task_state = 'image_snapshot'
        instance.save()
        self.api.post_server_metadata(server['id'],
                                      {'kongming:pin.0': '0:15'})
        reconcile = self.reconcile
        reconcile()
        self.assertHolds(server, {0: 13})
        instance.task_state = None
        instance.save()
        reconcile()
        self.assertEverywhere(server, {0: 15})

    @test_life.long
    def test_cut_short_after_any_step(self):
        """The pass dies between two steps; the next one brings it to an end.
        """
        class Killed(BaseException):
            pass

        for point in range(1, 12):
            server = self.boot(self.template('0:13 1:10'))
            self.api.post_server_metadata(
                server['id'], {'kongming:pin.0': '0:10 1:13'})
            left = [point]

            def count(real, *args, **kwargs):
                # Dead is dead: what tries to take it back fails as well.
                if left[0] <= 0:
                    raise Killed()
                left[0] -= 1
                result = real(*args, **kwargs)
                return result

            reconciler = self.computes['compute1'].driver._reconciler
            with fixtures.MonkeyPatch(
                    'nova_ext.ownership.write_ahead.write',
                    lambda *a, real=write_ahead.write, **k: count(
                        real, *a, **k)), fixtures.MonkeyPatch(
                    'kongming.libvirt.affinity.apply',
                    lambda *a, real=affinity.apply, **k: count(
                        real, *a, **k)):
                try:
                    reconciler.run()
                except Killed:
                    pass
                self.settle()
            self.assertOneOwner()
            self.audit()
            self.reconcile()
            self.assertEverywhere(server, {0: 10, 1: 13})
            self._delete_server(server)
            self.assertNothingOwned()


class ManyTest(LiveBase):
    """Fifty servers at once, each wants what the next one has."""

    SHAPE = {'cpu_nodes': 2, 'cpu_sockets': 1, 'cpu_cores': 16,
             'cpu_threads': 2, 'kB_mem': 128 * 1024 ** 2}
    DEDICATED = '1-63'
    SHARED = '0'

    @test_life.long
    def test_fifty(self):
        self.flags(cores=-1, instances=-1, ram=-1, group='quota')
        # Boots are quicker where Placement is told less.
        self.flags(publish_inventory=False, group='kongming')
        for node in ('0', '1'):
            self.api.post_server({'server': {
                **self._build_server(networks='none', flavor_id=self.flavor(
                    {'node.0': node, 'grant': 'template'}, vcpus=1,
                    trait=False)), 'min_count': 25}})
        servers = self.api.get_servers()
        self.assertEqual(50, len(servers))
        goals = {}
        for server in servers:
            self._wait_for_server_parameter(
                server, {'status': 'ACTIVE'}, max_retries=1200)
            (pcpu,), = self.pins(server)[0].values()
            goals.setdefault(pcpu // 32, {})[pcpu] = server
        for ring in goals.values():
            pcpus = sorted(ring)
            for pcpu, goal in zip(pcpus, pcpus[1:] + pcpus[:1]):
                self.api.post_server_metadata(
                    ring[pcpu]['id'], {'kongming:pin.0': f'0:{goal}'})
                ring[pcpu]['goal'] = goal
        # The checker makes this longer than an API call waits for.
        self.reconcile()
        for server in servers:
            self.assertEqual({0: only(server['goal'])}, self.pins(server)[0])
            self.assertEqual([('Success', None)], self.actions(server))
        self.audit()
        self.assertEqual({server['goal'] for server in servers},
                         set().union(*self.owned().values()))


class IntervalTest(LiveBase):
    """Nobody rings; the host looks by itself."""

    RECONCILE_INTERVAL = 1

    def test_by_time(self):
        server = self.boot(self.template('0:13'))
        self.api.post_server_metadata(server['id'],
                                      {'kongming:pin.0': '0:15'})
        # A pass moves the threads first and updates Placement afterwards.
        self._wait_for_assert(
            lambda: self.assertEverywhere(server, {0: 15}), max_retries=40)

    def test_ends_with_the_service(self):
        driver = self.computes['compute1'].driver
        self.computes['compute1'].stop()
        self.assertTrue(driver.passes._stop.is_set())

    def test_a_fault_does_not_end_it(self):
        driver = self.computes['compute1'].driver
        server = self.boot(self.template('0:13'))
        with mock.patch.object(reconciler_mod.Reconciler, '_pass',
                               side_effect=RuntimeError('broken')) as broken:
            self._wait_for_assert(lambda: self.assertLess(
                1, broken.call_count), max_retries=40)
            # Diagnostics are Nova's, and are answered.
            self.assertEqual('running', self.ring(server)['state'])
        self.assertIn('A pass over the servers with a template failed',
                      self.stdlog.logger.output)
        self.want(server, pin_0='0:15')
        self.assertEverywhere(server, {0: 15})
        self.assertFalse(driver.passes._stop.is_set())


class ReadBeforeTest(LiveBase):
    """nova-api has read a server before a live change, and sends that."""

    def _sampled(self, where):
        """Servers have no domain for a while here."""

    def stale(self, call):
        """
        :param call: of nova-compute's RPC API
        :returns: the server, and one that has what it had
        """
        server = self.boot(self.template('0:13 1:10'))
        before = self.instance(server['id']).numa_topology
        self.want(server, pin_0='0:15')
        other = self.boot(self.template('0:13 1:12'))
        real = getattr(rpcapi.ComputeAPI, call)

        def send(api, ctxt, instance, *args, **kwargs):
            instance.numa_topology = before
            instance.obj_reset_changes(['numa_topology'])
            return real(api, ctxt, instance, *args, **kwargs)

        self.useFixture(fixtures.MonkeyPatch(
            f'nova.compute.rpcapi.ComputeAPI.{call}', send))
        return server, other

    def assertBoth(self, server, other):
        self.audit()
        self.assertEverywhere(server, {0: 15, 1: 10})
        self.assertEverywhere(other, {0: 13, 1: 12})
        self.assertOneOwner()

    def test_hard_reboot(self):
        server, other = self.stale('reboot_instance')
        self._reboot_server(server, hard=True)
        self.assertBoth(server, other)

    def test_rebuild(self):
        server, other = self.stale('rebuild_instance')
        self._rebuild_server(server, guests.IMAGES[0]['id'])
        self.assertBoth(server, other)

    def test_delete(self):
        server, other = self.stale('terminate_instance')
        self._delete_server(server)
        self.assertEverywhere(other, {0: 13, 1: 12})
        self.assertEqual({13, 12}, self.usage()[1][0])

    def test_resize_and_revert(self):
        server, other = self.stale('prep_resize')
        self.start_host('compute2')
        self._resize_server(server, self.template('0:14 1:11'))
        self.audit()
        self.assertEqual({10, 15, 12, 13}, self.usage()[1][0])
        self._revert_resize(server)
        self.assertBoth(server, other)
