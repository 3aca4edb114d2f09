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

"""Bugs that Nova had with pinned servers; a template server meets none."""

import threading

import fixtures
from oslo_utils import importutils

from nova.tests.functional.libvirt import base as nova_base
from nova_ext.ownership import claim
from tests.functional import test_boot
from tests.functional import test_life

PINS = test_life.PINS


class AuditedBase(test_life.LifeBase):
    """Periodic audits run before and after each step of a move."""

    STEPS = ('nova.virt.libvirt.driver.LibvirtDriver.finish_migration',
             'nova.virt.libvirt.driver.LibvirtDriver.confirm_migration',
             'nova.virt.libvirt.driver.LibvirtDriver.finish_revert_migration',
             'nova.compute.resource_tracker.ResourceTracker.'
             'drop_move_claim_at_source',
             'nova.compute.resource_tracker.ResourceTracker.'
             'drop_move_claim_at_dest',
             'nova.compute.manager.ComputeManager._finish_resize_helper')

    def setUp(self):
        super().setUp()
        self.hosts(2)
        self.fill('compute2')
        self.server = self._create_server(
            flavor_id=self.flavor(test_life.TEMPLATE), networks='none',
            host='compute1')
        self.audits = 0
        for step in self.STEPS:
            owner, _dot, name = step.rpartition('.')
            real = getattr(importutils.import_class(owner), name)
            self.useFixture(fixtures.MonkeyPatch(
                step, lambda *args, real=real, **kwargs: self.around(
                    real, *args, **kwargs)))

    def around(self, real, *args, **kwargs):
        self.audited()
        try:
            return real(*args, **kwargs)
        finally:
            self.audited()

    def audited(self):
        self.audits += 1
        self.audit()
        for word in ('CPUPinningInvalid', 'CPUUnpinningInvalid',
                     'Error updating resources'):
            self.assertNotIn(word, self.stdlog.logger.output)


@test_life.long
class Bug1879878(AuditedBase):
    """The audit of the source races with confirm_resize."""

    def test_confirm(self):
        self._migrate_server(self.server)
        self._confirm_resize(self.server)
        self.assertLess(4, self.audits)
        self.assertHolds(self.server, host='compute2')
        self.assertFree('compute1')


@test_life.long
class Bug1953359(AuditedBase):
    """The audit of the destination races with finish_resize."""

    def test_finish_and_revert(self):
        self._migrate_server(self.server)
        self.assertLess(2, self.audits)
        self.assertHolds(self.server, host='compute2')
        self._revert_resize(self.server)
        self.assertHolds(self.server, host='compute1')


class Bug1952915(test_life.LifeBase):
    """The audit of the destination forgot a server that was coming.

    Another one that booted there just then was given its pCPUs.
    """

    def test_boots_beside_one_that_is_coming(self):
        self.hosts(2)
        pins = {0: 10, 1: 11}
        server = self._create_server(
            flavor_id=self.flavor({'pin.0': '0:10 1:11'}), networks='none',
            host='compute1')
        came, go = threading.Event(), threading.Event()
        repin = claim.repin

        def wait(*args):
            came.set()
            go.wait(60)
            return repin(*args)

        with fixtures.MonkeyPatch('nova_ext.ownership.claim.repin', wait):
            self.api.post_server_action(server['id'], {'migrate': None})
            self.assertTrue(came.wait(60))
            self.audit()
            native = self._create_server(
                flavor_id=self._create_flavor(
                    vcpu=2, memory_mb=1024, extra_spec=test_boot.PINNED),
                networks='none', host='compute2')
            self.audit()
            go.set()
            self._wait_for_state_change(server, 'VERIFY_RESIZE')
        self.assertHolds(server, pins, host='compute2')
        taken = set().union(*self.pins(native)[0].values())
        self.assertFalse(taken & set(pins.values()))
        self._confirm_resize(server)
        self.audit()
        self.assertEqual(taken | set(pins.values()),
                         set().union(*self.owned('compute2').values()))


class Bug1417667(test_life.LifeBase):
    """Pins were not worked out anew for the destination."""

    def test_destination_where_the_old_ones_are_taken(self):
        self.hosts(2)
        # Nova's choice on an empty host, by a server that names nothing.
        flavor = self.flavor({'node.0': '1'})
        server = self._create_server(flavor_id=flavor, networks='none',
                                     host='compute1')
        other = self._create_server(flavor_id=flavor, networks='none',
                                    host='compute2')
        before, taken = (set().union(*self.pins(s)[0].values())
                         for s in (server, other))
        self.assertEqual(before, taken)
        self._migrate_server(server)
        self._confirm_resize(server)
        self.assertFalse(taken & set().union(*self.pins(server)[0].values()))


class Bug1869804(nova_base.LibvirtMigrationMixin, test_life.LifeBase):
    """Shared vCPUs kept the source's cpu_shared_set in a live migration."""

    def test_live_migration(self):
        self.flags(cpu_dedicated_set='2-7,12-15', cpu_shared_set='0-1,8-9',
                   group='compute')
        self.start_host('compute1')
        self.flags(cpu_dedicated_set='2-7,12-15', cpu_shared_set='0-1,10-11',
                   group='compute')
        self.start_host('compute2')
        self.src, self.dest = (self.computes[f'compute{n}'] for n in (1, 2))
        self.server = self._create_server(
            flavor_id=self.flavor({'node.0': '1', 'pin.0': '0:13'}, vcpus=2,
                                  cpu_policy='mixed',
                                  cpu_dedicated_mask='0'),
            networks='none', host='compute1')
        self._live_migrate(self.server, 'completed')
        self.assertEqual(
            {0: test_boot.only(13), 1: frozenset({10, 11})},
            self.pins(self.server)[0])


class Bug2077228(test_life.LifeBase):
    """libvirt puts pCPUs that are powered down into socket 0."""

    def test_published_all_the_same(self):
        self.start_host()
        before = self.children()
        connection = self.computes['compute1'].driver._host.get_connection()
        for cell in connection.host_info.numa_topology.cells:
            for cpu in cell.cpus[2:]:
                cpu.socket_id = 0
                cpu.siblings = {cpu.id}
        self.restart_compute_service('compute1')
        after = self.children()
        for node in before:
            self.assertEqual(before[node][0], after[node][0])
        server = self.boot(self.flavor(test_life.TEMPLATE))
        self.assertHolds(server, PINS)
