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

"""A fault in any function of the hook, on every way that leads into it."""

import inspect
import threading
from unittest import mock

import fixtures

from nova.compute import power_state
from nova.tests.functional.libvirt import base as nova_base
from nova.virt import event as virtevent
from nova_ext.live import reclaim
from nova_ext.live import reconciler
from nova_ext.ownership import claim
from nova_ext.ownership import claimed
from nova_ext.placement import accounting
from nova_ext import translate
from tests.functional import test_boot
from tests.functional import test_life

#: What fails while the pins are swapped: the database and the library.
STEPS = ('nova.objects.Instance.save', 'nova.objects.ComputeNode.save',
         'nova.virt.hardware.numa_usage_from_instance_numa',
         'kongming.fit.fit.fit',
         'nova_ext.ownership.claimed.ClaimedServer.save',
         'nova_ext.ownership.ownership.Ownership.assigned')


def functions_of(module):
    """Paths of its functions and of its classes' methods."""
    for name, value in vars(module).items():
        if getattr(value, '__module__', None) != module.__name__:
            continue
        if inspect.isfunction(value):
            yield f'{module.__name__}.{name}'
        elif inspect.isclass(value):
            for attribute, member in vars(value).items():
                # A driver has made its reconciler before anything fails.
                if (inspect.isfunction(member)
                        and attribute != '__init__'):
                    yield f'{module.__name__}.{name}.{attribute}'


def broken(*args, **kwargs):
    raise RuntimeError('broken')


class FaultBase(nova_base.LibvirtMigrationMixin, test_life.LifeBase):

    def setUp(self):
        super().setUp()
        self.hosts(2)
        self.src, self.dest = (self.computes[f'compute{n}'] for n in (1, 2))


class NativeTest(FaultBase):
    """All that a template needs is broken; servers without one don't care."""

    def setUp(self):
        super().setUp()
        paths = [
            path for module in (
                claim, claimed, reclaim, reconciler, accounting, translate)
            for path in functions_of(module)]
        self.assertLess(40, len(paths))
        for path in paths:
            self.useFixture(fixtures.MonkeyPatch(path, broken))
        self.server = self.fill('compute1')
        self.audit()
        # Nothing is published, and logged.
        self.publish()
        self.assertIn('Placement is not told of the NUMA nodes',
                      self.stdlog.logger.output)

    def tearDown(self):
        self._delete_server(self.server)
        self.audit()
        for host in ('compute1', 'compute2'):
            self.assertEqual({0: set(), 1: set()}, self.owned(host))
        super().tearDown()

    def test_where_it_is(self):
        self._reboot_server(self.server, hard=True)
        self.assertEqual('running', self.api.api_get(
            f'/servers/{self.server["id"]}/diagnostics').body['state'])
        self._shelve_server(self.server)
        self._unshelve_server(self.server)
        host = self.host_of(self.server)
        before = self.pins(self.server)
        self.restart_compute_service(host)
        self.assertEqual(before, self.pins(self.server))

    def test_moves(self):
        self._live_migrate(self.server, 'completed')
        self.assertEqual('compute2', self.host_of(self.server))
        self._migrate_server(self.server)
        self._confirm_resize(self.server)
        self.assertEqual('compute1', self.host_of(self.server))


class EdgesTest(test_life.LifeBase):
    """What Nova calls when it starts, and for each event of libvirt's."""

    def assertServes(self):
        """Both kinds of servers, also when nova-compute starts again."""
        server = self.boot(self.flavor(test_life.TEMPLATE))
        before = self.pins(self.native)
        self.restart_compute_service('compute1')
        self.assertEqual(before, self.pins(self.native))
        self.assertHolds(server)

    def test_init_host(self):
        real = threading.Thread.start

        def start(thread):
            if thread.name == 'kongming':
                raise RuntimeError("can't start new thread")
            real(thread)

        self.useFixture(fixtures.MonkeyPatch('threading.Thread.start', start))
        self.flags(reconcile_interval=1, group='kongming')
        self.hosts()
        self.assertIn('Running servers are not looked after',
                      self.stdlog.logger.output)
        self.native = self.fill()
        self.assertServes()

    def test_emit_event(self):
        self.hosts()
        self.native = self.fill()
        server = self.boot(self.flavor(test_life.TEMPLATE))
        driver = self.computes['compute1'].driver
        driver.passes._wake = mock.Mock(set=broken)
        self.api.post_server_action(server['id'], {'pause': None})
        self._wait_for_state_change(server, 'PAUSED')
        driver._host._event_emit_delayed(virtevent.LifecycleEvent(
            server['id'], virtevent.EVENT_LIFECYCLE_RESUMED))
        self.assertIn('Not looked after at once', self.stdlog.logger.output)
        # Nova has been told: it sees to what it finds then.
        self.connection_of(server['id']).lookupByUUIDString(
            server['id']).resume()
        driver._host._event_emit_delayed(virtevent.LifecycleEvent(
            server['id'], virtevent.EVENT_LIFECYCLE_RESUMED))
        self.assertEqual(power_state.RUNNING, self.api.get_server(
            server['id'])['OS-EXT-STS:power_state'])
        del driver.passes._wake.set
        self._delete_server(server)
        self.assertServes()


class TemplateTest(FaultBase):
    """What was asked for fails, with its reason, and nothing is left behind.
    """

    def setUp(self):
        super().setUp()
        self.flavor_id = self.flavor(test_life.TEMPLATE)

    def create(self):
        self.server = self._create_server(
            flavor_id=self.flavor_id, networks='none', host='compute1')

    def faults(self):
        for where in STEPS:
            yield test_boot._FailsInSwap(where), where

    def delete(self):
        self._delete_server(self.api.get_server(self.server['id']))
        for host in ('compute1', 'compute2'):
            self.assertFree(host)

    @test_life.long
    def test_live_migration(self):
        for fault, where in self.faults():
            self.create()
            with fault:
                self.api.post_server_action(self.server['id'], {
                    'os-migrateLive': {'host': None,
                                       'block_migration': 'auto'}})
                self._wait_for_migration_status(
                    self.server, ['error', 'failed'])
            self._wait_for_server_parameter(self.server, {
                'status': 'ACTIVE', 'OS-EXT-STS:task_state': None})
            self.assertTrue(fault.happened, where)
            self.assertHolds(self.server, host='compute1')
            self.assertFree('compute2')
            self.delete()

    def test_placement_is_updated_later(self):
        """That fails nothing: the next report says the same."""
        with mock.patch('nova_ext.placement.adapter.Adapter.request',
                        side_effect=RuntimeError('broken')) as request:
            self.create()
            self.publish()
        self.assertTrue(request.called)
        self.assertIn('Placement is not told of the NUMA nodes',
                      self.stdlog.logger.output)
        self.audit()
        self.assertHolds(self.server, host='compute1')
