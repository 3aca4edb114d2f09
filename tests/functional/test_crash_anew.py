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


"""nova-compute is killed while it makes a server anew, and comes back.

That is a rebuild where it is, unshelving it, and evacuating it to here.  The
crash points are those of :mod:`tests.functional.test_crash`; one of them is
tried each time, all of them where there are minutes for it.
"""

from nova_ext.live import record
from nova_ext.ownership import claim
from nova_ext.ownership import claimed
from tests.embedded import guests
from tests.functional import test_crash_moves
from tests.functional import test_life

STEPS = {f'{when} {what}' for when in ('before', 'after') for what in (
    'Instance.save', 'ComputeNode.save', 'ResourceTracker.update_usage',
    'LibvirtDriver.spawn')}


class AnewBase(test_crash_moves.MovesBase):

    def once(self, kill):
        """Make a server and make it anew, and see what is left.

        :param kill: has nova-compute killed when it comes to a point
        """
        raise NotImplementedError

    def recover(self):
        """What an operator does about any server whose host went down."""
        self.assertEqual('ERROR', self.api.get_server(
            self.server['id'])['status'])
        self._reboot_server(self.server, hard=True)
        self.reconcile()
        self.assertOneOwner('compute1')


class EachPoint:
    """The tests that each way of making a server anew passes."""

    def test_once(self):
        """The server owns something else by then; the host's record doesn't.
        """
        self.killer.counts = 'after Instance.save'.__eq__
        self.once(lambda: self.killer.arm(1))
        self.assertEqual('after Instance.save', self.killer.where)

    @test_life.long
    def test_at_every_step(self):
        for kill in self.points(STEPS):
            self.once(kill)


class RebuildTest(EachPoint, AnewBase):
    """It could not have its pins before, so that there is something to swap.
    """

    def once(self, kill):
        self.flags(on_failure='ignore', group='kongming')
        with self.refused():
            self.create()
        kill()
        self.api.post_server_action(self.server['id'], {
            'rebuild': {'imageRef': guests.IMAGES[0]['id']}})
        if self.until_killed(self.server, ('ACTIVE', 'ERROR')):
            self.restart('compute1')
            self.assertOneOwner('compute1')
            self.recover()
        self.assertHolds(self.server)
        self.delete()


class UnshelveTest(EachPoint, AnewBase):

    def once(self, kill):
        self.create()
        self._shelve_server(self.server)
        self.assertFree('compute1', *self.native)
        kill()
        self.api.post_server_action(self.server['id'], {'unshelve': None})
        if self.until_killed(self.server, ('ACTIVE', 'ERROR')):
            self.restart('compute1')
            self.assertOneOwner('compute1')
            self.recover()
        self.assertHolds(self.server)
        self.delete()


class EvacuateTest(EachPoint, AnewBase):

    HOSTS = 2

    def once(self, kill):
        self.create()
        self.fall()
        kill()
        self.api.post_server_action(self.server['id'], {'evacuate': {}})
        if self.until_killed(self.server, ('SHUTOFF', 'ERROR')):
            self.restart('compute2')
            self.assertOneOwner('compute2')
            self.again()
        else:
            self.assertHolds(self.server, host='compute2', running=False)
            self._start_server(self.server)
        self.assertHolds(self.server, host='compute2')
        self.delete()
        self.come_back()
        self.assertFree('compute1')

    def again(self):
        """Nobody else would end it (nova/compute/manager.py, init_host)."""
        self.api.post_server_action(
            self.server['id'], {'os-resetState': {'state': 'error'}})
        self.assertOneOwner('compute2')
        self.reconcile('compute2')
        self.assertFree('compute2', *self.native)
        if self.killer.where == 'after LibvirtDriver.spawn':
            # Its domain is in Nova's way.
            self._evacuate_server(self.server, expected_state='ERROR',
                                  expected_migration_status='failed')
            self.assertFree('compute2', *self.native)
            self.end(self.computes['compute2'])
            self.reconcile('compute2')
        self._evacuate_server(self.server, expected_host='compute2',
                              expected_state='ACTIVE')

    def test_the_source_comes_back(self):
        """There it owns what it owned, not what it was claimed elsewhere.

        Nova saves an instance whose migration context is applied
        (nova/objects/instance.py, mutated_migration_context) at no point.
        """
        for host, pins in (('compute2', '0:10 1:11'),
                           ('compute1', '0:12 1:13')):
            self._create_server(flavor_id=self.flavor(
                {'node.0': '1', 'pin.0': pins}), networks='none', host=host)
        self.server = self._create_server(
            flavor_id=self.flavor({'node.0': '1'}), networks='none',
            host='compute1')
        owned = self.instance(self.server['id']).numa_topology.cpu_pinning
        self.assertFalse(owned & {12, 13})
        self.killer.counts = 'after Instance.save'.__eq__
        self.killer.arm(1)
        self.fall()
        self.api.post_server_action(self.server['id'], {'evacuate': {}})
        self.assertTrue(self.until_killed(self.server, ('SHUTOFF', 'ERROR')))
        self.restart('compute2')
        self.come_back()
        self.assertOneOwner('compute1')
        self.assertOneOwner('compute2')
        self.api.post_server_action(
            self.server['id'], {'os-resetState': {'state': 'error'}})
        self.rebuild()
        self.assertOneOwner('compute1')
        self.assertEqual(owned, self.instance(
            self.server['id']).numa_topology.cpu_pinning)


class LetGoTest(test_life.LifeBase):
    """It was killed while it waited for others, owning nothing."""

    def setUp(self):
        super().setUp()
        self.hosts()
        self.fill()
        self.server = server = self.boot(self.flavor(test_life.TEMPLATE))
        instance = self.instance(server['id'])
        compute = self.computes['compute1'].manager
        claim._let_go(compute.rt, claimed.ClaimedServer(
            instance, instance.node, None))
        self.connection_of(server['id']).lookupByUUIDString(
            server['id']).destroy()
        self.restart_compute_service('compute1')
        self.api.post_server_action(
            server['id'], {'os-resetState': {'state': 'error'}})
        self.assertEqual(set(), self.owned()[1])

    def test_rebooted(self):
        self._reboot_server(self.server, hard=True)
        self.assertHolds(self.server)

    def test_said_to_be_well(self):
        """Others are looked after all the same; it is well when it starts."""
        other = self.boot(self.flavor(
            {'node.0': '1', 'pin.0': '0:11', 'grant': 'template'}, vcpus=1))
        self.api.post_server_action(
            self.server['id'], {'os-resetState': {'state': 'active'}})
        self.api.post_server_metadata(other['id'],
                                      {'kongming:pin.0': '0:14'})
        for _pass in range(3):
            self.reconcile()
        self.assertHolds(other, {0: 14})
        # Once, however many passes find it so.
        reported, = [action for action in
                     self.api.get_instance_actions(self.server['id'])
                     if action['action'] == record.ACTION]
        self.assertEqual('Error', reported['message'])
        self.assertIn('its boot was cut short', self.stdlog.logger.output)
        self._stop_server(self.server)
        self._start_server(self.server)
        self.assertHolds(self.server)
        self.assertHolds(other, {0: 14})
