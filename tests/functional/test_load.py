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

"""Profiles by the load of servers, on a host that reads it by itself.

What vCPUs did comes from a table; tests.libvirt.test_load has real ones.
"""

from unittest import mock

from kongming.live import progress
from nova import objects
from nova_ext.live import record
import oslo_messaging
from tests.embedded import load
from tests.functional import test_profile

IDLE = {'profile.idle.when': 'use<15% for 10m',
        'profile.idle.pin.0': '0-3~v0-1', 'profile.idle.lend': 'true'}


class LoadBase(test_profile.ProfileBase):

    by_load = 'act'

    def setUp(self):
        super().setUp()
        self.flags(by_load=self.by_load, group='kongming')
        self.guests = self.useFixture(load.Load())
        self.load = self.driver._reconciler.load

    def live(self, seconds, step=5.0):
        """Time goes on, and the host reads."""
        self.guests.live(seconds, self.load.read, step)

    def owner(self, **extra):
        server = self.boot(self.template(test_profile.PINS, **{
            **IDLE, 'grant': 'profile template', **extra}))
        self.ring(server)
        return server

    def guest(self, server):
        return self.guests.guests[server['id']]

    def known(self, server):
        return progress.read_load(self.ring(server)['hypervisor_os'])

    def changes(self, server):
        """Its live changes, the newest first."""
        return [action for action
                in self.api.get_instance_actions(server['id'])
                if action['action'] == record.ACTION]

    def events(self, server, action=None):
        """What is recorded of a live change, the newest first.

        :param action: of the change; by itself the newest one
        """
        action = action or self.changes(server)[0]
        return [(event['event'], event['result'])
                for event in self.api.api_get(
                    f'/servers/{server["id"]}/os-instance-actions/'
                    f'{action["request_id"]}').body['instanceAction'][
                        'events']]


class ActTest(LoadBase):

    def test_idle_and_busy(self):
        owner, borrower = self.owner(), self.borrower()
        self.ring(borrower)
        self.assertFloats(borrower, {8, 9})
        self.guest(owner).use = 3
        self.live(605)
        self.assertRuns(owner, test_profile.PACKED)
        self.assertFloats(borrower, {8, 9, 12, 13})
        # What it owns is as before, for everybody.
        self.assertEqual({10, 11, 12, 13}, self.owned()[1])
        self.ring(owner)
        self.assertEqual(
            [('kongming_repin', 'Success'),
             ('kongming_by_load: profile idle: use 3.0%, below 15% for 10m',
              'Success')], self.events(owner))
        # Busy: it has all back by its next two readings.
        self.guest(owner).use = 100
        self.live(.3, step=.1)
        self.assertRuns(owner, test_profile.OWN)
        self.assertFloats(borrower, {8, 9})
        self.ring(owner)
        self.assertIn('above 30%', self.events(owner)[1][0])
        self.live(3600)
        self.assertRuns(owner, test_profile.OWN)

    def test_the_control_plane_is_away(self):
        owner = self.owner()
        self.guest(owner).use = 3
        away = oslo_messaging.MessagingTimeout('away')
        with mock.patch.object(objects.InstanceList, 'get_by_host_and_node',
                               side_effect=away), mock.patch.object(
                objects.InstanceAction, 'action_start', side_effect=away):
            self.live(605)
            self.assertRuns(owner, test_profile.PACKED)
            self.guest(owner).use = 100
            self.live(.3, step=.1)
            self.assertRuns(owner, test_profile.OWN)
        self.ring(owner)
        self.assertEqual('kongming_repin', self.events(owner)[0][0])

    def test_a_pass_leaves_it_so(self):
        owner = self.owner()
        self.guest(owner).use = 3
        self.live(605)
        for _pass in range(2):
            self.reconcile()
            self.assertRuns(owner, test_profile.PACKED)
        self._reboot_server(owner, hard=True)
        # Started anew: nothing is known of it.
        self.guest(owner).start += 1
        self.live(5)
        self.ring(owner)
        self.assertRuns(owner, test_profile.OWN)

    def test_metadata_come_first(self):
        owner = self.owner(**{'profile.day.pin.0': '0-3:v0-3'})
        self.want(owner, profile='day')
        self.guest(owner).use = 3
        self.live(1200)
        self.assertRuns(owner, test_profile.OWN)
        self.unwant(owner, 'profile')
        self.assertRuns(owner, test_profile.PACKED)

    def test_within_the_budget_of_the_host(self):
        self.flags(changes_per_minute=1, group='kongming')
        owners = [self.owner(), self.boot(self.template(
            '0:14 1:15', **{**IDLE, 'profile.idle.pin.0': '0-1~v0'}))]
        self.ring(owners[1])
        for owner in owners:
            self.guest(owner).use = 3
        self.live(605)
        load = [self.known(owner) for owner in owners]
        self.assertEqual({'idle', None}, {each['profile'] for each in load})
        self.assertIn('changes_per_minute',
                      ''.join(each['waits'] for each in load))
        # What is its own it gets without.
        for owner in owners:
            self.guest(owner).use = 100
        self.live(.3, step=.1)
        self.assertRuns(owners[0], test_profile.OWN)

    def test_a_guest_that_flaps_gains_nothing(self):
        self.flags(load_switches_per_hour=4, group='kongming')
        owner = self.owner()
        for _ in range(12):
            self.guest(owner).use = 1
            self.live(605, step=55)
            self.guest(owner).use = 100
            self.live(.3, step=.1)
            self.ring(owner)
        self.assertRuns(owner, test_profile.OWN)
        self.assertLessEqual(len(self.changes(owner)), 2 * 4)

    def test_a_guest_that_flaps_hinders_nobody(self):
        """It has nothing beyond its own, and others switch all the same."""
        self.flags(changes_per_minute=2, group='kongming')
        owner, borrower = self.owner(), self.borrower()
        other = self.boot(self.template('0:14 1:15', **{
            **IDLE, 'profile.idle.pin.0': '0-1~v0'}))
        for server in borrower, other:
            self.ring(server)
        self.guest(other).use = 1
        switched = None
        for cycle in range(12):
            for use, seconds, step in (1, 665, 55), (100, .3, .1):
                self.guest(owner).use = use
                self.live(seconds, step=step)
                self.assertLessEqual(self.tune(owner).pcpus,
                                     {10, 11, 12, 13})
                if self.known(other)['profile'] and switched is None:
                    switched = cycle
            # Whoever borrows has left as soon as it is busy.
            self.assertRuns(owner, test_profile.OWN)
            self.assertLessEqual(self.tune(borrower).pcpus, {8, 9, 15})
        self.assertEqual(0, switched)
        self.ring(owner)
        self.assertLess(1, len(self.changes(owner)))
        self.assertRuns(other, dict.fromkeys(range(2),
                                             test_profile.only(14)))

    def test_switches_before_a_restart_count(self):
        self.flags(load_switches_per_hour=4, group='kongming')
        owner = self.owner()
        for _ in range(2):
            self.guest(owner).use = 1
            self.live(1300, step=55)
            self.assertRuns(owner, test_profile.PACKED)
            # As the thread of the passes does.
            self.ring(owner)
            self.guest(owner).use = 100
            self.live(.3, step=.1)
            self.ring(owner)
        self.assertEqual(4, len(self.changes(owner)))
        self.restart_compute_service('compute1')
        self.driver = self.computes['compute1'].driver
        self.load = self.driver._reconciler.load
        self.ring(owner)
        self.assertFalse(self.load.needs_history(owner['id']))
        self.guest(owner).use = 1
        self.live(1300, step=55)
        self.assertRuns(owner, test_profile.OWN)
        self.assertIn('it has switched as often as it may in an hour',
                      self.known(owner)['waits'])

    def test_conditions_in_metadata(self):
        owner = self.owner()
        self.want(owner, **{'profile.idle.when': 'use<99%_for_5s'})
        self.guest(owner).use = 50
        self.live(60)
        self.ring(owner)
        self.assertRuns(owner, test_profile.OWN)
        self.assertIn('only a flavor says that', self.stdlog.logger.output)

    def test_conditions_in_metadata_without_a_grant(self):
        """Neither by a flavor that has some, nor by one that has none."""
        specs = {'node.0': '1', 'pin.0': test_profile.PINS, **IDLE}
        owner = self.boot(self.flavor(specs, vcpus=4))
        other = self.boot(self.flavor({'pin.0': '0:14 1:15', 'node.0': '1'}))
        for server in owner, other:
            for keys in ({'profile.idle.when': 'use<99%_for_5s'},
                         {'profile.mine.when': 'wait>0.01%_for_5s',
                          'profile.mine.pin.0': '0-1~8-9'},
                         {'profile': 'idle'}, {'balance': 'node'},
                         {'borrow': 'host'}):
                self.api.post_server_metadata(server['id'], {
                    f'kongming:{key}': value for key, value in keys.items()})
            self.ring(server)
        guest = self.guest(owner)
        guest.use, guest.wait = 40, 50
        self.live(1200)
        self.reconcile()
        self.assertRuns(owner, test_profile.OWN)
        self.assertRuns(other, {0: test_profile.only(14),
                                1: test_profile.only(15)})
        # Of one whose flavor has no condition nothing is even read.
        self.assertEqual({owner['id']}, self.load._watched.keys())
        self.assertIsNone(self.known(other))
        self.assertIsNone(self.known(owner)['profile'])
        # What its flavor says goes on.
        guest.use, guest.wait = 3, 0
        self.live(605)
        self.assertRuns(owner, test_profile.PACKED)

    def test_qos_without_numa(self):
        server = self.boot(self.flavor({
            'profile.idle.when': 'use<15% for 10m',
            'profile.idle.qos': '0:quota=50%'}, vcpus=1, cpu_policy='shared'))
        self.ring(server)
        self.guest(server).use = 3
        self.live(605)
        self.assertEqual('idle', self.known(server)['profile'])

    def test_it_can_not_be_read(self):
        owner = self.owner()
        self.guest(owner).use = 3
        self.live(605)
        self.guest(owner).is_read = False
        self.live(70)
        self.assertRuns(owner, test_profile.OWN)
        self.assertIn('use is not known', self.stdlog.logger.output)

    def test_not_watched_any_more(self):
        owner = self.owner()
        self.assertIn(owner['id'], self.load._watched)
        self.flags(by_load='off', group='kongming')
        self.ring(owner)
        self.assertEqual({}, self.load._watched)
        self.assertIsNone(self.known(owner))
        self.flags(by_load='act', group='kongming')
        self.ring(owner)
        self._delete_server(owner)
        self.reconcile()
        self.assertEqual({}, self.load._watched)


class AdviseTest(LoadBase):

    by_load = 'advise'

    def test_nothing_changes(self):
        owner, borrower = self.owner(), self.borrower()
        self.guest(owner).use = 3
        self.samples.clear()
        self.live(605)
        self.assertRuns(owner, test_profile.OWN)
        self.assertEqual([], self.samples)
        found = self.known(owner)
        self.assertEqual(
            ('advise', 'idle', None, 3.0),
            tuple(found[key] for key in ('mode', 'profile', 'usual', 'use')))
        self.assertEqual('use 3.0%, below 15% for 10m', found['because'])
        self.assertIn('Advice: profile idle', self.stdlog.logger.output)
        self.ring(borrower)
        self.assertFloats(borrower, {8, 9})
        self.assertEqual([], self.actions(owner))

    def test_a_host_that_only_observes(self):
        self.flags(by_load='act', live_changes='observe', group='kongming')
        owner = self.owner()
        self.reconcile()
        self.guest(owner).use = 3
        self.live(605)
        self.ring(owner)
        self.assertRuns(owner, test_profile.OWN)
        self.assertEqual('advise', self.load.advice(owner['id'])['mode'])
