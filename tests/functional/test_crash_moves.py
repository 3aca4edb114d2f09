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

"""nova-compute is killed between any two steps of a move, and comes back.

A live migration is looked at as a whole, Nova's own steps included: one
crash point after each write to the database and each call of the hook's.
(Before the next one nothing else has happened; what is published in Placement
is written anew when nova-compute starts.)
"""

import inspect
import threading

import fixtures
import oslo_messaging as messaging

from nova.compute import manager
from nova.compute import rpcapi
from nova import context as nova_context
from nova import objects
from nova.tests.functional.libvirt import base as nova_base
from nova.virt.libvirt import driver as nova_driver
from tests.embedded import guests
from tests.functional import test_crash
from tests.functional import test_life


def inside(host, *functions):
    """Whether a call comes from one of a host's manager's functions."""
    codes = {inspect.unwrap(function).__code__ for function in functions}

    def of(frame):
        while frame is not None:
            if (frame.f_code in codes
                    and frame.f_locals['self'].host == host):
                return True
            frame = frame.f_back
        return False

    return of


class MovesBase(test_crash.CrashBase):

    HOSTS = 1

    def setUp(self):
        super().setUp()
        self.hosts(self.HOSTS)
        self.last = f'compute{self.HOSTS}'
        self.fill(self.last)
        self.native = {p for pcpus in self.owned(self.last).values()
                       for p in pcpus}

    def assertAccounted(self):
        """Nova leaves what a move that was cut short had allocated, too."""

    def create(self, **specs):
        self.server = self._create_server(
            flavor_id=self.flavor({**test_life.TEMPLATE, **specs}),
            networks='none', host='compute1')

    def rebuild(self):
        self.api.post_server_action(self.server['id'], {
            'rebuild': {'imageRef': guests.IMAGES[0]['id']}})
        self._wait_for_server_parameter(self.server, {
            'status': 'ACTIVE', 'OS-EXT-STS:task_state': None})

    def end(self, compute):
        """A host has the domain no more."""
        domain = compute.driver._host.get_connection().lookupByUUIDString(
            self.server['id'])
        domain.destroy()
        if not domain._transient:
            domain.undefine()

    def delete(self):
        self._delete_server(self.api.get_server(self.server['id']))
        self.assertFree(self.last, *self.native)


class LiveMigrationBase(nova_base.LibvirtMigrationMixin, MovesBase):

    HOSTS = 2
    #: What the other end asks of a host and waits for.
    ASKED = ('check_can_live_migrate_destination', 'pre_live_migration',
             'post_live_migration_at_destination')

    def setUp(self):
        super().setUp()
        self.killer.counts = self.is_counted
        self.back = threading.Event()
        self.addCleanup(self.back.set)
        for name in self.ASKED:
            self._dies(name)
            self._waits(name)

    @staticmethod
    def is_counted(where):
        return where.startswith('after') and 'Report' not in where

    def _dies(self, name):
        real = getattr(manager.ComputeManager, name)

        def call(*args, **kwargs):
            try:
                return real(*args, **kwargs)
            except test_crash.Killed:
                raise messaging.MessagingTimeout('nobody answers')

        self.useFixture(fixtures.MonkeyPatch(
            f'nova.compute.manager.ComputeManager.{name}', call))

    def _waits(self, name):
        """For a host that is being restarted; then it gives up."""
        real = getattr(rpcapi.ComputeAPI, name)

        def call(*args, **kwargs):
            try:
                return real(*args, **kwargs)
            except messaging.MessagingTimeout:
                self.back.wait(120)
                raise

        self.useFixture(fixtures.MonkeyPatch(
            f'nova.compute.rpcapi.ComputeAPI.{name}', call))

    def _migrate_stub(self, domain, destination, params, flags):
        self.src, self.dest = (self.computes[f'compute{n}'] for n in (1, 2))
        super()._migrate_stub(domain, destination, params, flags)
        self.end(self.src)

    def migrate(self):
        self.api.post_server_action(self.server['id'], {
            'os-migrateLive': {'host': None, 'block_migration': 'auto'}})

    def wait_until_consistent(self):
        """Wait until nothing is being done to the server."""
        self._wait_for_server_parameter(self.server, {
            'OS-EXT-STS:task_state': None, 'status': 'ACTIVE'})

    def until_over(self):
        """Or until the migration is over."""
        for _ in range(600):
            if self.killer.happened.wait(0.1):
                return
            found = self.api.api_get(
                f'/os-migrations?instance_uuid={self.server["id"]}').body[
                    'migrations']
            if found and found[0]['status'] == 'completed':
                return
        self.fail('the migration came to no end')

    def changes_live(self, host):
        """It is looked after as before."""
        self.api.post_server_metadata(
            self.server['id'], {'kongming:pin.0': '0:15 1:10'})
        self.reconcile(host)
        self.assertHolds(self.server, {0: 15, 1: 10}, host)


@test_life.long
class LiveMigrationCrashTest(LiveMigrationBase):

    def test_destination_at_every_step(self):
        """Conductor or source give up, the server stays where it was."""
        self.killer.inside = inside(
            'compute2', manager.ComputeManager._live_migration_claim,
            manager.ComputeManager._do_pre_live_migration)
        for kill in self.points({
                'after Instance.save', 'after ComputeNode.save',
                'after Migration.save',
                'after LibvirtDriver.post_claim_migrate_data'}):
            self.create(grant='template')
            self.back.clear()
            kill()
            self.migrate()
            self.until_over()
            if self.killer.where:
                self.restart('compute2')
                self.assertOneOwner('compute1')
                self.assertOneOwner('compute2')
                self.back.set()
                self.wait_until_consistent()
                self.assertOneOwner('compute2')
                self.assertHolds(self.server, host='compute1')
                self.assertFree('compute2', *self.native)
                self.changes_live('compute1')
            else:
                self.assertHolds(self.server, host='compute2')
            self.delete()
            self.assertFree('compute1')


class SourceCrashTest(LiveMigrationBase):
    """Nova leaves the server with its source, wherever its guest has got to.

    See nova/compute/manager.py, _reset_live_migration; once the destination
    has been told that it has come, it is the destination's.
    """

    def setUp(self):
        super().setUp()
        self.killer.add(nova_driver.LibvirtDriver, 'post_live_migration')
        self.killer.add(rpcapi.ComputeAPI,
                        'post_live_migration_at_destination')
        self.killer.inside = inside(
            'compute1', manager.ComputeManager._do_live_migration)

    def once(self, kill):
        self.create(grant='template')
        kill()
        self.migrate()
        self.until_over()
        if self.killer.where:
            self.restart('compute1')
            self.wait_until_consistent()
            self.assertOneOwner('compute1')
            self.assertOneOwner('compute2')
            self.recover()
        host = self.host_of(self.server)
        self.assertHolds(self.server, host=host)
        self.changes_live(host)
        self.migrations_are_over()
        self.delete()
        self.assertFree('compute1')

    def test_once(self):
        self.killer.counts = 'after Migration.save'.__eq__
        self.once(lambda: self.killer.arm(2))
        self.assertEqual('after Migration.save', self.killer.where)

    @test_life.long
    def test_at_every_step(self):
        for kill in self.points({
                'after Migration.save',
                'after LibvirtDriver.post_live_migration',
                'after ComputeAPI.post_live_migration_at_destination'}):
            self.once(kill)

    def recover(self):
        """What an operator does, of a native server as well."""
        if self.killer.where == 'after LibvirtDriver.post_live_migration':
            # It runs where Nova doesn't know of it.
            self.end(self.computes['compute2'])
            self._reboot_server(self.server, hard=True)
        if self.host_of(self.server) == 'compute1':
            self.reconcile('compute2')
            self.assertFree('compute2', *self.native)
            # The allocations had been swapped for the way there.
            context = nova_context.get_admin_context()
            self.computes['compute1'].manager._revert_allocation(
                context, self.instance(self.server['id']),
                objects.MigrationList.get_by_filters(context, {
                    'instance_uuid': self.server['id']})[0])


class StaleAllocationTest(LiveMigrationBase):

    def test_rebuilt_before_anybody_looked(self):
        """Nova would pin it as it was claimed for on the other host."""
        for number, host in enumerate(('compute2', 'compute1')):
            pins = ('0:10 1:11', '0:12 1:13')[number]
            self._create_server(flavor_id=self.flavor(
                {'node.0': '1', 'pin.0': pins}), networks='none', host=host)
        self.server = self._create_server(
            flavor_id=self.flavor({'node.0': '1'}), networks='none',
            host='compute1')
        owned = self.instance(self.server['id']).numa_topology.cpu_pinning
        self.assertFalse(owned & {12, 13})
        self.killer.counts = (
            'after LibvirtDriver.post_claim_migrate_data'.__eq__)
        self.killer.arm(1)
        self.migrate()
        self.until_over()
        self.restart('compute2')
        self.back.set()
        self.wait_until_consistent()
        left = objects.MigrationContext.get_by_instance_uuid(
            nova_context.get_admin_context(), self.server['id'])
        self.assertNotEqual(owned, left.new_numa_topology.cpu_pinning)
        before = self.pins(self.server)[0]
        self.rebuild()
        self.assertEqual(before, self.pins(self.server)[0])
        self.assertOneOwner('compute1')
        self.assertEqual(owned, self.instance(
            self.server['id']).numa_topology.cpu_pinning)
