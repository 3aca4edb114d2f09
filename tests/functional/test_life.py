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

"""A template holds through whatever is done to its server."""

import os
import threading
import unittest
from unittest import mock

import fixtures

from kongming.fit import fit
from kongming.placement import inventory
from kongming.placement import naming
from nova.compute import manager
import nova.conf
from nova import context as nova_context
from nova import exception as nova_exc
from nova import objects
from nova.tests.fixtures import libvirt as fakelibvirt
from nova.tests.functional.libvirt import base as nova_base
from nova.virt.libvirt import driver as nova_driver
from nova_ext import limits
from nova_ext.ownership import claim
from nova_ext.placement import accounting
from tests.embedded import guests
from tests.functional import test_boot

CONF = nova.conf.CONF
only = test_boot.only
#: What the servers of these tests ask for; Nova would choose whole cores.
TEMPLATE = {'node.0': '1', 'pin.0': '0:13 1:10'}
PINS = {0: 13, 1: 10}
long = unittest.skipUnless(os.environ.get('KONGMING_TEST_LONG'),
                           'takes minutes: tox -e functional-long')


class LifeBase(test_boot.BootBase):

    def setUp(self):
        super().setUp()
        # Nothing is copied between simulated hosts.
        self.useFixture(fixtures.MonkeyPatch(
            'nova.virt.libvirt.driver.LibvirtDriver.'
            'migrate_disk_and_power_off', self._power_off))
        # The stand-in's signature is not libvirt's.
        self.useFixture(fixtures.MonkeyPatch(
            'nova.tests.fixtures.libvirt.Domain.managedSaveRemove',
            lambda domain, flags=0: None))

    @staticmethod
    def _power_off(driver, context, instance, *args, **kwargs):
        driver.power_off(instance)
        return '{}'

    def _resize_server(self, server, flavor_id):
        self.api.post_server_action(
            server['id'], {'resize': {'flavorRef': flavor_id}})
        return self._wait_for_state_change(server, 'VERIFY_RESIZE')

    def _revert_resize(self, server):
        self.api.post_server_action(server['id'], {'revertResize': None})
        self._wait_for_migration_status(server, ['reverted'])
        self._wait_for_state_change(server, 'ACTIVE')

    def refused(self):
        """As if a native server were faster than the template's."""
        return mock.patch('nova_ext.ownership.claim.fit', mock.Mock(
            fit=lambda *args, **kwargs: fit.Refusal((fit.Reason(
                'owned', 'somebody was faster'),))))

    def hosts(self, number=1):
        for count in range(number):
            self.start_host(f'compute{count + 1}')

    def fill(self, host='compute1', vcpus=2):
        """A native server in the way of Nova's first choice."""
        return self._create_server(
            flavor_id=self._create_flavor(
                vcpu=vcpus, memory_mb=64, disk=1, ephemeral=0, swap=0,
                extra_spec=test_boot.PINNED), host=host, networks='none')

    def host_of(self, server):
        return self.api.get_server(server['id'])['OS-EXT-SRV-ATTR:host']

    def fall(self):
        """compute1 is gone."""
        self.computes['compute1'].stop()
        self._force_down(True)
        self.gone = self.computes.pop('compute1')

    def come_back(self):
        """compute1 is there again."""
        self.computes['compute1'] = self.gone
        self.restart_compute_service('compute1')
        self._force_down(False)

    def _force_down(self, down):
        self.api.put_service_force_down(self.api.get_services(
            host='compute1', binary='nova-compute')[0]['id'], down)

    def assertHolds(self, server, pins=PINS, host=None, running=True):
        """Domain, database, tracker and Placement agree, also after audits.

        :param pins: vCPU -> pCPU
        :param host: where it has to be
        """
        if host:
            self.assertEqual(host, self.host_of(server))
        host = self.host_of(server)
        for _ in range(2):
            if running:
                self.assertEqual({v: only(p) for v, p in pins.items()},
                                 self.pins(server)[0])
            saved = self.instance(server['id']).numa_topology
            self.assertEqual(pins, {
                v: p for cell in saved.cells
                for v, p in cell.cpu_pinning.items()})
            owned = {p for pcpus in self.owned(host).values() for p in pcpus}
            self.assertLessEqual(set(pins.values()), owned)
            for node, (records, usages, _t) in self.children(host).items():
                for pcpu in set(pins.values()) & set(range(
                        8 * node, 8 * node + 8)):
                    name = f'CUSTOM_KONGMING_PCPU_{pcpu}'
                    # Accounted for once: allocated or reserved.
                    self.assertEqual(1, usages[name]
                                     + records[name]['reserved'], name)
            self.audit()
        self.assertAccounted()

    def assertAccounted(self):
        """Placement has all that is taken of all hosts, once, and no more.

        What is taken is allocated to a server that is there, or reserved.
        """
        self.publish()
        for host, compute in self.computes.items():
            here = accounting.here(compute.manager.rt)
            taken = self.usage(host)
            for node, (records, usages, _traits) in self.children(
                    host, publish=False).items():
                pinned, memory = taken[node]
                pinned = pinned | limits.never() & {
                    *inventory.named_pcpus(records)}
                used = {
                    name.removeprefix('CUSTOM_KONGMING_'):
                    usages[name] + record['reserved']
                    for name, record in records.items()}
                self.assertEqual(
                    {**{f'PCPU_{pcpu}': 1 for pcpu in pinned},
                     **({'PCPU': len(pinned)} if pinned else {})},
                    {name: amount for name, amount in used.items()
                     if amount and 'PCPU' in name}, (host, node))
                self.assertEqual(
                    memory, used['MEMORY_MB'] + 2 * used.get('PAGES_2M', 0)
                    + 1024 * used.get('PAGES_1G', 0), (host, node))
                consumers = self.placement.get(
                    '/resource_providers/' + naming.provider_uuid(
                        self.compute_rp_uuids[host], node) + '/allocations'
                    ).body['allocations']
                self.assertLessEqual(consumers.keys(), here, (host, node))

    def assertFree(self, host, *left):
        """Nobody has anything of a host but native servers these pCPUs."""
        self.audit()
        self.assertEqual(set(left), {
            p for pcpus in self.owned(host).values() for p in pcpus})
        for records, usages, _traits in self.children(host).values():
            self.assertEqual({0}, set(usages.values()))
            for name, record in records.items():
                pcpu = name.rpartition('_PCPU_')[2]
                if pcpu.isdigit():
                    self.assertEqual(int(int(pcpu) in left),
                                     record['reserved'], name)
        self.assertAccounted()


class InPlaceTest(LifeBase):
    """One host; the server stays on it."""

    def setUp(self):
        super().setUp()
        self.hosts()
        self.native = self.fill()
        self.server = self.boot(self.flavor(TEMPLATE))
        self.assertHolds(self.server)

    def tearDown(self):
        left = self.pins(self.native)[0]
        self._delete_server(self.server)
        self.assertFree('compute1', *(p for s in left.values() for p in s))
        super().tearDown()

    def action(self, body, state):
        self.api.post_server_action(self.server['id'], body)
        self._wait_for_state_change(self.server, state)

    def test_reboots(self):
        for hard in (False, True):
            self._reboot_server(self.server, hard=hard)
            self.assertHolds(self.server)

    def test_stop_and_start(self):
        self._stop_server(self.server)
        self.assertHolds(self.server, running=False)
        self._start_server(self.server)
        self.assertHolds(self.server)

    def test_pause_and_suspend(self):
        self.action({'pause': None}, 'PAUSED')
        self.assertHolds(self.server)
        self.action({'unpause': None}, 'ACTIVE')
        self._suspend_server(self.server)
        self.assertHolds(self.server)
        self._resume_server(self.server)
        self.assertHolds(self.server)

    def with_folder(self):
        """Rescue writes beside the disks, which are simulated."""
        os.makedirs(os.path.join(CONF.instances_path, self.server['id']),
                    exist_ok=True)

    def test_rescue(self):
        self.with_folder()
        self._rescue_server(self.server)
        self.assertHolds(self.server)
        self._unrescue_server(self.server)
        self.assertHolds(self.server)

    def test_rebuild(self):
        for image in guests.IMAGES:
            self._rebuild_server(self.server, image['id'])
            self.assertHolds(self.server)

    @long
    def test_rebuilt_while_its_template_can_not_be_had(self):
        self._delete_server(self.server)
        self.flags(on_failure='ignore', group='kongming')
        with self.refused():
            self.server = self.boot(self.flavor(TEMPLATE))
            before = self.pins(self.server)
            self.flags(on_failure='fail', group='kongming')
            self._rebuild_server(self.server, guests.IMAGES[0]['id'])
        self.assertIn('Rebuilt with the pins that it had: ',
                      self.stdlog.logger.output)
        self.assertEqual(before, self.pins(self.server))
        self.reconcile()
        self.assertHolds(self.server)

    def test_shelve(self):
        self._shelve_server(self.server)
        self.assertFree('compute1', *(
            p for s in self.pins(self.native)[0].values() for p in s))
        self._unshelve_server(self.server)
        self.assertHolds(self.server)

    def test_restart_of_nova_compute(self):
        self.restart_compute_service('compute1')
        self.assertHolds(self.server)

    def test_host_reboot(self):
        self.flags(resume_guests_state_on_host_boot=True)
        domain = self.connection_of(
            self.server['id']).lookupByUUIDString(self.server['id'])
        domain.destroy()
        self.restart_compute_service('compute1')
        self._wait_for_state_change(self.server, 'ACTIVE')
        self.assertHolds(self.server)

    def test_deleted_in_every_state(self):
        """What tearDown deletes, from here on in another state each."""
        for body, state in (({'pause': None}, 'PAUSED'),
                            ({'suspend': None}, 'SUSPENDED'),
                            ({'os-stop': None}, 'SHUTOFF'),
                            ({'rescue': {}}, 'RESCUE'),
                            ({'shelve': None}, 'SHELVED_OFFLOADED')):
            self.with_folder()
            self.api.post_server_action(self.server['id'], body)
            self._wait_for_server_parameter(self.server, {'status': state})
            self._delete_server(self.server)
            self.server = self.boot(self.flavor(TEMPLATE))
        self.api.post_server_action(
            self.server['id'], {'os-resetState': {'state': 'error'}})
        self.server = self.api.get_server(self.server['id'])


class ResizeTest(LifeBase):

    def setUp(self):
        super().setUp()
        self.hosts(2)
        self.fill('compute2')
        self.small = self.flavor(TEMPLATE)
        self.server = self._create_server(
            flavor_id=self.small, networks='none', host='compute1')
        self.native = self.owned_by_natives('compute2')

    def owned_by_natives(self, host):
        return {p for pcpus in self.owned(host).values() for p in pcpus}

    def test_confirm(self):
        big = self.flavor({'node.0': '0', 'pin.0': '0:4 1:3 2:2'}, vcpus=3)
        self._resize_server(self.server, big)
        pins = {0: 4, 1: 3, 2: 2}
        self.assertHolds(self.server, pins, 'compute2')
        # The way back is held free until it is confirmed.
        self.assertEqual({10, 13}, self.owned('compute1')[1])
        self._confirm_resize(self.server)
        self.assertHolds(self.server, pins, 'compute2')
        self.assertFree('compute1')
        self._delete_server(self.server)
        self.assertFree('compute2', *self.native)

    def test_revert(self):
        self._resize_server(self.server, self.flavor(
            {'node.0': '0', 'pin.0': '0:4 1:3 2:2'}, vcpus=3))
        self._revert_resize(self.server)
        self.assertHolds(self.server, host='compute1')
        self.assertFree('compute2', *self.native)

    def test_cold_migration(self):
        self._migrate_server(self.server)
        self.assertHolds(self.server, host='compute2')
        self._confirm_resize(self.server)
        self.assertHolds(self.server, host='compute2')
        self.assertFree('compute1')

    def test_same_host(self):
        # One process has one [DEFAULT] host, which confirming looks at.
        self.flags(allow_resize_to_same_host=True, host='compute1')
        self.api.put_service(self.api.get_services(
            host='compute2', binary='nova-compute')[0]['id'],
            {'status': 'disabled'})
        other = self.flavor({'node.0': '0', 'pin.0': '0:7 1:6'})
        for finish, pins in ((self._revert_resize, PINS),
                             (self._confirm_resize, {0: 7, 1: 6})):
            self._resize_server(self.server, other)
            self.assertHolds(self.server, {0: 7, 1: 6}, 'compute1')
            self.assertEqual({0: {6, 7}, 1: {10, 13}},
                             self.owned('compute1'))
            finish(self.server)
            self.assertHolds(self.server, pins, 'compute1')

    def test_to_native_and_back(self):
        native = self._create_flavor(
            vcpu=2, memory_mb=1024, disk=1, ephemeral=0, swap=0,
            extra_spec=test_boot.PINNED)
        self._resize_server(self.server, native)
        self._confirm_resize(self.server)
        host = self.host_of(self.server)
        for _records, usages, _traits in self.children(host).values():
            self.assertEqual({0}, set(usages.values()))
        self._resize_server(self.server, self.small)
        self._confirm_resize(self.server)
        self.assertHolds(self.server)

    def test_no_host_for_it(self):
        self.boot(self.flavor(TEMPLATE))
        self.api.post_server_action(self.server['id'], {'migrate': None},
                                    check_response_status=[202])
        self._wait_for_migration_status(self.server, ['error'])
        self._wait_for_state_change(self.server, 'ACTIVE')
        self.assertHolds(self.server, host='compute1')

    def test_finish_fails_in_the_driver(self):
        """Nova leaves the server in ERROR there; a hard reboot mends it."""
        with mock.patch.object(
                nova_driver.LibvirtDriver, 'finish_migration',
                side_effect=nova_exc.NovaException('no')):
            self.api.post_server_action(self.server['id'],
                                        {'migrate': None})
            self._wait_for_state_change(self.server, 'ERROR')
        self._wait_for_assert(lambda: self.assertHolds(
            self.server, host='compute2', running=False))
        self._reboot_server(self.server, hard=True)
        self.assertHolds(self.server, host='compute2')
        self._delete_server(self.server)
        self.assertFree('compute2', *self.native)
        self.assertFree('compute1')

    def test_refused_at_the_end_the_reason_is_reported(self):
        with self.refused():
            self.api.post_server_action(self.server['id'],
                                        {'migrate': None})
            server = self._wait_for_state_change(self.server, 'ERROR')
        self.assertIn('somebody was faster', server['fault']['message'])
        self._delete_server(server)
        self.assertFree('compute2', *self.native)
        self.assertFree('compute1')

    def test_refused_but_to_be_ignored(self):
        self.flags(on_failure='ignore', group='kongming')
        with self.refused():
            self._migrate_server(self.server)
        self.assertIn('Running with the pins that Nova chose',
                      self.stdlog.logger.output)
        pins = self.instance(self.server['id']).numa_topology.cpu_pinning
        self.assertNotEqual(set(PINS.values()), set(pins))
        # Nothing is allocated otherwise while Nova may go back.
        self._confirm_resize(self.server)
        self.assertHolds(self.server, {
            v: p for cell in self.instance(
                self.server['id']).numa_topology.cells
            for v, p in cell.cpu_pinning.items()})


class EvacuateTest(LifeBase):

    def setUp(self):
        super().setUp()
        self.hosts(2)
        self.fill('compute2')
        self.native = {p for pcpus in self.owned('compute2').values()
                       for p in pcpus}
        self.server = self._create_server(
            flavor_id=self.flavor(TEMPLATE), networks='none',
            host='compute1')

    def test_evacuate(self):
        self.fall()
        # Evacuated servers are stopped, since Nova 2.95.
        self._evacuate_server(self.server, expected_host='compute2')
        self.assertHolds(self.server, host='compute2', running=False)
        self._start_server(self.server)
        self.assertHolds(self.server, host='compute2')
        self._delete_server(self.server)
        self.assertFree('compute2', *self.native)

    def test_from_error_with_an_audit_in_between(self):
        """An audit forgets the claim of a server that is in ERROR."""
        self.fall()
        self.api.post_server_action(
            self.server['id'], {'os-resetState': {'state': 'error'}})
        real = claim.repin

        def repin(rt, context, *args):
            rt.update_available_resource(context.elevated(), 'compute2')
            return real(rt, context, *args)

        with mock.patch.object(claim, 'repin', repin):
            self._evacuate_server(self.server, expected_state='ACTIVE',
                                  expected_host='compute2')
        self.assertHolds(self.server, host='compute2')
        self._delete_server(self.server)
        self.assertFree('compute2', *self.native)

    def test_the_source_comes_back(self):
        self.fall()
        self._evacuate_server(self.server, expected_host='compute2')
        self.come_back()
        self.assertFree('compute1')
        self.assertHolds(self.server, host='compute2', running=False)

    def test_it_fails(self):
        self.fall()
        with mock.patch.object(
                manager.ComputeManager, '_rebuild_default_impl',
                side_effect=nova_exc.NovaException('no')):
            self._evacuate_server(
                self.server, expected_state='ERROR',
                expected_migration_status='failed')
        self.assertFree('compute2', *self.native)


class LiveMigrationTest(nova_base.LibvirtMigrationMixin, LifeBase):

    def setUp(self):
        super().setUp()
        self.hosts(2)
        self.fill('compute2')
        self.native = {p for pcpus in self.owned('compute2').values()
                       for p in pcpus}
        self.src, self.dest = (self.computes[f'compute{n}'] for n in (1, 2))
        self.succeeds = True
        self.aborted = None
        self.on_the_way = lambda: None

    def _migrate_stub(self, domain, destination, params, flags):
        # Periodic audits run on the way, too.
        self.audit()
        self.on_the_way()
        self.during = self.owned('compute1'), self.owned('compute2')
        connection = self.src.driver._host.get_connection()
        moving = connection.lookupByUUIDString(self.server['id'])
        if self.aborted is not None:
            moving._job_type = fakelibvirt.VIR_DOMAIN_JOB_UNBOUNDED
            self.aborted.wait(30)
            moving._job_type = fakelibvirt.VIR_DOMAIN_JOB_CANCELLED
            return
        if not self.succeeds:
            moving.fail_job()
            return
        super()._migrate_stub(domain, destination, params, flags)

    def start(self, template=None, **kwargs):
        self.server = self._create_server(
            flavor_id=self.flavor(template or TEMPLATE, **kwargs),
            networks='none', host='compute1')

    def test_success(self):
        self.start()
        self._live_migrate(self.server, 'completed')
        self.assertHolds(self.server, host='compute2')
        self.assertEqual({10, 13}, self.during[0][1])
        self.assertLessEqual({10, 13}, self.during[1][1])
        self.assertFree('compute1')
        self._delete_server(self.server)
        self.assertFree('compute2', *self.native)

    def test_deleted_and_booted_again_before_the_audit(self):
        """Nova takes its pCPUs for used until its next audit."""
        self.start()
        self._live_migrate(self.server, 'completed')
        self._delete_server(self.server)
        self.assertLessEqual({10, 13}, self.usage('compute2')[1][0])
        again = self.force(self.flavor(TEMPLATE), host='compute2')
        self.assertHolds(again, host='compute2')

    def test_the_audit_of_a_boot_fails(self):
        """Nova's manager makes light of one that does."""
        self.start()
        self._live_migrate(self.server, 'completed')
        self._delete_server(self.server)
        self.flags(on_failure='ignore', group='kongming')
        flavor = self.flavor(TEMPLATE)
        with mock.patch.object(
                self.dest.manager.rt, 'update_available_resource',
                side_effect=nova_exc.ResourceProviderUpdateConflict(
                    uuid='u', generation=1, error='no')) as audit:
            again = self.force(flavor, host='compute2')
        audit.assert_called_once()
        self.assertEqual('ACTIVE', again['status'])
        self.assertNotEqual(PINS, self.instance(
            again['id']).numa_topology.cpu_pinning)

    def test_placement_is_away_when_pins_are_swapped(self):
        """It is not asked then; allocations are looked at afterwards."""
        self.start()

        class Away:
            def __init__(self, virtapi):
                self.virtapi = virtapi

            def __getattr__(self, name):
                if name == 'reportclient':
                    raise nova_exc.ConsumerAllocationRetrievalFailed(
                        consumer_uuid='c', error='no')
                return getattr(self.virtapi, name)

        driver = self.dest.driver
        with mock.patch.object(driver, 'virtapi', Away(driver.virtapi)):
            self._live_migrate(self.server, 'completed')
        self.assertHolds(self.server, host='compute2')
        self.assertFree('compute1')

    def test_a_fault_when_pins_are_swapped(self):
        """Nobody but the hook gives the claim back then."""
        self.start()
        with mock.patch('nova_ext.ownership.claim.repin',
                        side_effect=RuntimeError('broken')) as repin:
            self.api.post_server_action(self.server['id'], {
                'os-migrateLive': {'host': None, 'block_migration': 'auto'}})
            self._wait_for_migration_status(self.server, ['error', 'failed'])
        repin.assert_called_once()
        self._wait_for_state_change(self.server, 'ACTIVE')
        self.assertHolds(self.server, host='compute1')
        self.assertFree('compute2', *self.native)

    def test_it_takes_longer_than_one_is_waited_for(self):
        """Memory of some size takes hours; a restart forgets as well."""
        self.start()
        found = self.dest.driver._reconciler.present
        self.useFixture(fixtures.MonkeyPatch(
            'nova_ext.live.present.ARRIVAL', 0.0))
        self.on_the_way = lambda: found.listed([])
        self.dest.driver.passes._wake.clear()
        self._live_migrate(self.server, 'completed')
        self.assertIn(self.server['id'], found)
        self.assertTrue(self.dest.driver.passes._wake.is_set())

    def test_rollback(self):
        self.start()
        self.succeeds = False
        self._live_migrate(self.server, 'failed')
        self.assertHolds(self.server, host='compute1')
        self.assertFree('compute2', *self.native)

    def test_abort(self):
        self.start()
        self.aborted = threading.Event()
        self.useFixture(fixtures.MonkeyPatch(
            'nova.tests.fixtures.libvirt.Domain.abortJob',
            lambda domain: self.aborted.set()))
        self.api.post_server_action(self.server['id'], {
            'os-migrateLive': {'host': None, 'block_migration': 'auto'}})
        self._wait_for_migration_status(self.server, ['running'])
        # Nova 33's schema of the list allows no migration that has moved
        # nothing yet.
        migration, = objects.MigrationList.get_in_progress_by_instance(
            nova_context.get_admin_context(), self.server['id'])
        self.api.api_delete(f'/servers/{self.server["id"]}/migrations/'
                            f'{migration.id}')
        self._wait_for_migration_status(self.server, ['cancelled'])
        self._wait_for_state_change(self.server, 'ACTIVE')
        self.assertTrue(self.aborted.is_set())
        self.assertHolds(self.server, host='compute1')
        self.assertFree('compute2', *self.native)

    def test_there_and_back_again(self):
        self.start()
        self._live_migrate(self.server, 'completed')
        self.src, self.dest = self.dest, self.src
        self._live_migrate(self.server, 'completed')
        self.assertHolds(self.server, host='compute1')
        self.assertFree('compute2', *self.native)

    def test_refused_at_the_destination(self):
        """No claim is left behind."""
        self.start()
        with self.refused():
            self.api.post_server_action(self.server['id'], {
                'os-migrateLive': {'host': None, 'block_migration': 'auto'}})
            self._wait_for_migration_status(self.server, ['error', 'failed'])
        self._wait_for_state_change(self.server, 'ACTIVE')
        self.assertHolds(self.server, host='compute1')
        self.assertFree('compute2', *self.native)

    def test_native_with_topology(self):
        self.server = self.fill('compute1')
        before = self.pins(self.server)
        self._live_migrate(self.server, 'completed')
        self.assertEqual('compute2', self.host_of(self.server))
        self.assertEqual(before[0].keys(), self.pins(self.server)[0].keys())

    def test_native_without_topology(self):
        self.server = self._create_server(
            flavor_id=self._create_flavor(vcpu=1, memory_mb=64, disk=1,
                                          ephemeral=0, swap=0),
            networks='none', host='compute1')
        self._live_migrate(self.server, 'completed')
        self.assertEqual('compute2', self.host_of(self.server))


class NumberingTest(LifeBase):
    """compute2 numbers its pCPUs another way: n, and n + 8 for its sibling."""

    def setUp(self):
        super().setUp()
        self.hosts(1)
        host = self.host_info()
        for cell in host.numa_topology.cells:
            for number, cpu in enumerate(cell.cpus):
                core = 4 * cell.id + number // 2
                cpu.id = core + 8 * (number % 2)
                cpu.siblings = {core, core + 8}
        self.start_compute(hostname='compute2', host_info=host)

    def test_relative_addresses_resolve_there(self):
        server = self._create_server(
            flavor_id=self.flavor({'pin.0': '0:n1c1t1 1:n1c2t0'}),
            networks='none', host='compute1')
        self.assertEqual({0: only(11), 1: only(12)}, self.pins(server)[0])
        self._migrate_server(server, 'compute2')
        self.assertEqual({0: only(13), 1: only(6)}, self.pins(server)[0])

    def test_absolute_ones_that_do_not_exist_are_refused(self):
        server = self._create_server(
            flavor_id=self.flavor({'node.0': '1', 'pin.0': '0:10 1:11'},
                                  trait=False),
            networks='none', host='compute1')
        self.api.post_server_action(server['id'], {'migrate': None},
                                    check_response_status=[202])
        self._wait_for_migration_status(server, ['error'])
        self.assertIn('compute2: node 1: pCPU 10 (for vCPU 0) is not here, '
                      'it is on node 0',
                      self.stdlog.logger.output)


class PowerBase(LifeBase):
    """[libvirt] cpu_power_management takes free pCPUs offline.

    :ivar online: pCPUs that have power: with the other strategy, those that
        are not at the low governor
    """

    STRATEGY = 'cpu_state'
    online: set[int] | None = None

    def start_host(self, *args):
        if self.online is None:
            self.manage_power()
        return super().start_host(*args)

    def manage_power(self):
        self.flags(cpu_power_management=True,
                   cpu_power_management_strategy=self.STRATEGY,
                   group='libvirt')
        online = self.online = set(range(16))
        if self.STRATEGY == 'cpu_state':
            self.kernel_of_host.online = online

        class Core:
            governor = 'performance'

            def __init__(self, ident):
                self.ident = ident

            @property
            def online(self):
                return case.STRATEGY == 'governor' or self.ident in online

            @online.setter
            def online(self, state):
                (online.add if state else online.discard)(self.ident)

            def set_high_governor(self):
                online.add(self.ident)

            def set_low_governor(self):
                online.discard(self.ident)

        case = self
        self.useFixture(fixtures.MonkeyPatch(
            'nova.virt.libvirt.cpu.api.Core', Core))


class PowerTest(PowerBase):

    def test_what_is_owned_is_on(self):
        self.hosts()
        self.assertEqual({0, 1, 8, 9}, self.online)
        server = self.boot(self.flavor(TEMPLATE))
        self.assertEqual({0, 1, 8, 9, 10, 13}, self.online)
        self._stop_server(server)
        self.assertEqual({0, 1, 8, 9}, self.online)
        self._start_server(server)
        self.assertEqual({0, 1, 8, 9, 10, 13}, self.online)
        self.assertHolds(server)
        self._delete_server(server)
        self.assertEqual({0, 1, 8, 9}, self.online)
