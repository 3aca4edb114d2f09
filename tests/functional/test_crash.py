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

"""nova-compute is killed between any two steps of the hook, and comes back.

All runs in one process, so a kill is an exception that nobody handles, after
which nothing of that process can write any more: neither the database nor
Placement, whatever handlers on the way try.  Crash points are counted, not
sampled: one before and one after each effect that happens inside the hook,
until a run gets through.
"""

import sys
import threading
import time

import fixtures

from nova.compute import resource_tracker
from nova import context as nova_context
from nova import objects
from nova.scheduler.client import report
from nova.virt.libvirt import driver as nova_driver
from nova_ext import driver as hook
from tests.functional import test_life

#: What writes.  A dead process does none of it.
WRITES = ((objects.Instance, 'save'), (objects.ComputeNode, 'save'),
          (objects.Instance, 'drop_migration_context'),
          (objects.Migration, 'save'), (objects.InstanceFault, 'create'),
          (report.SchedulerReportClient, 'put'),
          (report.SchedulerReportClient, 'post'),
          (report.SchedulerReportClient, 'delete'))
#: What the hook does and calls, besides those.
CALLS = ((resource_tracker.ResourceTracker, 'update_usage'),
         (nova_driver.LibvirtDriver, 'spawn'),
         (nova_driver.LibvirtDriver, 'finish_migration'),
         (nova_driver.LibvirtDriver, 'post_claim_migrate_data'))
HOOKS = {getattr(hook.LibvirtDriver, name).__code__ for name in
         ('spawn', 'finish_migration', 'post_claim_migrate_data')}


class Killed(BaseException):
    """Caught by nobody."""


def in_hook(frame):
    """Whether a call comes from the hook itself, not from Nova below."""
    while frame is not None:
        if frame.f_code in HOOKS:
            return True
        if frame.f_code.co_filename == nova_driver.__file__:
            return False
        frame = frame.f_back
    return False


class Killer(fixtures.Fixture):
    """Kills at the n-th crash point from when it is armed.

    :ivar inside: whether a frame is a part of what is killed
    :ivar counts: whether a crash point is one, by its name
    """

    def _setUp(self):
        self.inside = in_hook
        self.counts = bool
        self.countdown = None
        self.dead = set()
        for owner, name in WRITES:
            self.add(owner, name, writes=True)
        for owner, name in CALLS:
            self.add(owner, name)

    def arm(self, point):
        self.countdown = point
        self.where = None
        self.happened = threading.Event()

    def add(self, owner, name, writes=False):
        """Have two more crash points, before and after a call."""
        real = getattr(owner, name)

        def call(*args, **kwargs):
            if threading.get_ident() in self.dead and writes:
                raise Killed()
            inside = (self.countdown is not None
                      and self.inside(sys._getframe(1)))
            if inside:
                self._point(f'before {owner.__name__}.{name}')
            result = real(*args, **kwargs)
            if inside:
                self._point(f'after {owner.__name__}.{name}')
            return result

        self.useFixture(fixtures.MonkeyPatch(
            f'{owner.__module__}.{owner.__name__}.{name}', call))

    def _point(self, where):
        if self.countdown is None or not self.counts(where):
            return
        self.countdown -= 1
        if self.countdown == 0:
            self.countdown = None
            self.where = where
            self.dead.add(threading.get_ident())
            self.happened.set()
            raise Killed()


class CrashBase(test_life.LifeBase):

    def setUp(self):
        super().setUp()
        self.killer = self.useFixture(Killer())
        # A process that is gone doesn't say so.
        self.useFixture(fixtures.MonkeyPatch(
            'threading.excepthook', lambda args: None))

    def moving(self, host):
        """server -> its topology there, of the moves that Nova tracks."""
        tracked = self.computes[host].manager.rt.tracked_migrations
        found = {}
        for uuid, migration in tracked.items():
            context = objects.MigrationContext.get_by_instance_uuid(
                nova_context.get_admin_context(), uuid)
            if context is not None:
                found[uuid] = (context.new_numa_topology
                               if migration.dest_compute == host
                               else context.old_numa_topology)
        return found

    def assertOneOwner(self, host):
        """No pCPU has two owners, and the tracker says what servers own."""
        self.audit()
        self.assertNotIn('Error updating resources',
                         self.stdlog.logger.output)
        topologies = self.moving(host)
        for server in objects.InstanceList.get_by_host(
                nova_context.get_admin_context(), host,
                expected_attrs=['numa_topology']):
            topologies[server.uuid] = server.numa_topology
        owners = {}
        for uuid, topology in topologies.items():
            for pcpu in topology.cpu_pinning:
                self.assertNotIn(pcpu, owners, self.killer.where)
                owners[pcpu] = uuid
        self.assertEqual(set(owners), {
            p for pcpus in self.owned(host).values() for p in pcpus},
            self.killer.where)
        return owners

    def until_killed(self, server, status):
        """Or until a server got through to a status.

        :returns: whether nova-compute was killed
        """
        for _ in range(600):
            if self.killer.happened.wait(0.1):
                return True
            if self.api.get_server(server['id'])['status'] in status:
                # It may have been killed after that was written.
                return self.killer.happened.wait(0.3)
        return self.fail(f'the server did not get to {status}')

    def restart(self, host):
        self.assertTrue(self.killer.happened.wait(10))
        time.sleep(0.3)
        self.restart_compute_service(host)
        self.killer.dead.clear()

    def migrations_are_over(self):
        """What an operator does about a migration that nobody ends.

        ``nova-manage placement audit`` finds its allocation.
        """
        for migration in objects.MigrationList.get_by_filters(
                nova_context.get_admin_context(), {}):
            if migration.status not in ('error', 'failed', 'confirmed',
                                        'completed'):
                migration.status = 'error'
                migration.save()
            self.placement.delete(f'/allocations/{migration.uuid}')

    def points(self, least):
        """Numbers of the crash points, until one did not happen."""
        point, found = 0, []
        while True:
            point += 1
            yield lambda: self.killer.arm(point)
            self.killer.countdown = None
            if self.killer.where is None:
                break
            found.append(self.killer.where)
        self.assertLessEqual(least, set(found))


@test_life.long
class BootCrashTest(CrashBase):

    def test_at_every_step(self):
        self.hosts()
        native = self.fill()
        other = self.boot(self.flavor({'pin.0': '0:11'}, vcpus=1))
        left = self.owned()
        flavor = self.flavor(test_life.TEMPLATE)
        steps = {f'{when} {what}' for when in ('before', 'after') for what in (
            'Instance.save', 'ComputeNode.save',
            'ResourceTracker.update_usage', 'LibvirtDriver.spawn')}
        for kill in self.points(steps):
            kill()
            server = self.api.post_server({'server': self._build_server(
                flavor_id=flavor, networks='none')})
            if self.until_killed(server, ('ACTIVE', 'ERROR')):
                self.restart('compute1')
            self.assertOneOwner('compute1')
            self._delete_server(self.api.get_server(server['id']))
            self.audit()
            self.assertEqual(left, self.owned(), self.killer.where)
            self.assertHolds(other, {0: 11})
            for node, (_r, usages, _t) in self.children().items():
                self.assertEqual(
                    int(node == 1), usages['CUSTOM_KONGMING_PCPU'])
        self._delete_server(other)
        self._delete_server(native)
        self.assertNothingOwned()


@test_life.long
class MoveCrashTest(CrashBase):

    def test_cold_migration_at_every_step(self):
        self.hosts(2)
        flavor = self.flavor(test_life.TEMPLATE)
        for kill in self.points({'before Instance.save',
                                 'after Instance.save',
                                 'before LibvirtDriver.finish_migration'}):
            server = self._create_server(flavor_id=flavor, networks='none',
                                         host='compute1')
            kill()
            self.api.post_server_action(server['id'], {'migrate': None})
            if self.until_killed(server, ('VERIFY_RESIZE', 'ERROR')):
                self.restart('compute2')
                self.assertOneOwner('compute1')
                self.assertOneOwner('compute2')
                # What an operator does then.
                self.api.post_server_action(
                    server['id'], {'os-resetState': {'state': 'error'}})
                self._reboot_server(server, hard=True)
                self.assertOneOwner('compute2')
            else:
                self.assertHolds(server, host='compute2')
            self.migrations_are_over()
            self._delete_server(server)
            for host in ('compute1', 'compute2'):
                self.assertFree(host)
