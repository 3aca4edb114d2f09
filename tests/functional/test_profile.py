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

"""Profiles by time and by request, and pCPUs that are lent."""

import contextlib
import datetime
import threading
from unittest import mock

import fixtures

from kongming.libvirt import affinity
from nova import objects
from nova.tests.fixtures import libvirt as fakelibvirt
from nova_ext.live import enforce
from nova_ext.live import steps
import oslo_messaging
from tests.functional import test_live

only = test_live.only
DAY = datetime.datetime(2026, 11, 24, 12, tzinfo=datetime.UTC)
NIGHT = DAY.replace(hour=23)
OWN = {vcpu: only(10 + vcpu) for vcpu in range(4)}
PACKED = dict.fromkeys(range(4), frozenset({10, 11}))
PINS = '0:10 1:11 2:12 3:13'


class ProfileBase(test_live.LiveBase):

    def setUp(self):
        super().setUp()
        self.moment = DAY
        self.useFixture(fixtures.MonkeyPatch(
            'nova_ext.live.enforce.now', lambda: self.moment))
        self.driver = self.computes['compute1'].driver

    def lender(self, **extra):
        return self.boot(self.template(
            PINS, **{'profile.night.when': '22:00-06:00',
                     'profile.night.pin.0': '0-3~v0-1',
                     'profile.night.lend': 'true',
                     'grant': 'profile template', **extra}))

    def borrower(self, borrow='node'):
        return self.boot(self.flavor(
            {'node.0': '1', 'borrow': borrow}, vcpus=2, cpu_policy='shared',
            numa_nodes='1'))

    def at(self, moment, server):
        self.moment = moment
        self.ring(server)

    def tune(self, server):
        return affinity.read(self.connection_of(server['id'])
                             .lookupByUUIDString(server['id']))

    def assertRuns(self, server, places):
        self.assertEqual(places, self.tune(server).vcpus)

    def assertFloats(self, server, pcpus):
        self.assertRuns(server, dict.fromkeys(range(2), frozenset(pcpus)))


class ProfileTest(ProfileBase):

    def test_by_time(self):
        server = self.lender()
        self.assertRuns(server, OWN)
        self.at(NIGHT, server)
        self.assertRuns(server, PACKED)
        self.assertEqual(frozenset({10, 11}), self.tune(server).emulator)
        # What it owns is as before, for everybody.
        self.assertEqual({10, 11, 12, 13}, self.owned()[1])
        self.audit()
        self.assertEqual({10, 11, 12, 13}, self.owned()[1])
        self.at(DAY, server)
        self.assertEverywhere(server, {v: 10 + v for v in range(4)})
        self.assertEqual([('Success', None)] * 2, self.actions(server))
        self._delete_server(server)
        self.assertNothingOwned()

    def test_by_request(self):
        server = self.lender()
        self.want(server, profile='night')
        self.assertRuns(server, PACKED)
        self.at(NIGHT, server)
        self.unwant(server, 'profile')
        self.assertRuns(server, PACKED)
        self.at(DAY, server)
        self.assertRuns(server, OWN)
        self.want(server, profile='dusk')
        self.assertRuns(server, OWN)
        self.assertIn('the flavor has no such profile',
                      self.stdlog.logger.output)

    def test_new_owners_in_a_profile(self):
        server = self.lender()
        self.at(NIGHT, server)
        self.want(server, pin_0='0:15 1:14 2:10 3:11')
        self.ring(server)
        self.assertRuns(server, dict.fromkeys(range(4), frozenset({14, 15})))
        self.assertEqual({10, 11, 14, 15}, self.owned()[1])
        self.at(DAY, server)
        self.assertEverywhere(server, {0: 15, 1: 14, 2: 10, 3: 11})

    def test_survives_what_nova_writes_anew(self):
        server = self.lender()
        self.at(NIGHT, server)
        self._reboot_server(server, hard=True)
        self.ring(server)
        self.assertRuns(server, PACKED)
        self.restart_compute_service('compute1')
        self.ring(server)
        self.assertRuns(server, PACKED)

    def test_out_of_reach(self):
        """A profile gives nothing that is another's."""
        server = self.lender(**{'profile.day.pin.0': '0-3~v0-3'})
        other = self.boot(self.template('0:15'))
        self.want(server, pin_0='0:14')
        self.at(NIGHT, server)
        self.assertRuns(server, dict.fromkeys(range(4), frozenset({11, 14})))
        self.assertRuns(other, {0: only(15)})

    def away(self):
        return mock.patch.object(
            objects.InstanceList, 'get_by_host_and_node',
            side_effect=oslo_messaging.MessagingTimeout('away'))

    def test_on_time_while_the_control_plane_is_away(self):
        server = self.lender()
        self.ring(server)
        self.moment = NIGHT
        with self.away():
            self.driver._reconciler.switch()
            self.assertRuns(server, PACKED)
            self.assertEqual([], self.actions(server))
        self.ring(server)
        self.assertEqual([('Success', None)], self.actions(server))

    def test_nova_compute_is_away(self):
        server, other = self.lender(), self.boot(self.template('0:14'))
        self.ring(server)
        self.fall()
        self.moment = NIGHT
        self.api.post_server_metadata(other['id'],
                                      {'kongming:pin.0': '0:15'})
        domains = {each['id']: self.gone.driver._host.get_connection()
                   .lookupByUUIDString(each['id'])
                   for each in (server, other)}
        self.assertEqual([OWN, {0: only(14)}], [
            affinity.read(domain).vcpus for domain in domains.values()])
        self.come_back()
        self.reconcile()
        self.assertRuns(server, PACKED)
        self.assertEverywhere(other, {0: 15})

    def test_nobody_asks(self):
        """An alarm of its own, exact, not the interval."""
        server = self.lender()
        offset = (DAY.replace(hour=22) - datetime.timedelta(seconds=2)
                  - datetime.datetime.now(datetime.UTC))
        with fixtures.MonkeyPatch(
                'nova_ext.live.enforce.now',
                lambda: datetime.datetime.now(datetime.UTC) + offset):
            self.ring(server)
            self.assertRuns(server, OWN)
            with self.away():
                self._wait_for_assert(
                    lambda: self.assertRuns(server, PACKED), max_retries=10)
            late = enforce.now() - DAY.replace(hour=22)
        self.assertLess(late.total_seconds(), 2)

    def test_what_was_known_is_not_trusted_for_long(self):
        """Another server has its pCPUs by now, which Nova has not told."""
        server = self.lender()
        self.ring(server)
        self.driver._reconciler.reclaim({12})
        self.moment = NIGHT
        self.driver._reconciler.switch()
        self.assertRuns(server, OWN)


class LendTest(ProfileBase):

    def both(self, **extra):
        lender, borrower = self.lender(**extra), self.borrower()
        self.ring(lender)
        self.assertFloats(borrower, {8, 9})
        self.at(NIGHT, lender)
        self.assertRuns(lender, PACKED)
        self.assertFloats(borrower, {8, 9, 12, 13})
        return lender, borrower

    def test_there_and_back_again(self):
        lender, borrower = self.both()
        self.at(NIGHT, lender)
        self.at(DAY, lender)
        self.assertFloats(borrower, {8, 9})
        self.assertRuns(lender, OWN)
        self.assertEqual({10, 11, 12, 13}, self.owned()[1])
        # Sampled after each write: nobody else was ever where an owner ran.
        self.assertLess(4, len(self.samples))

    def test_nothing_to_do_writes_nothing(self):
        lender, _borrower = self.both()
        self.samples.clear()
        self.ring(lender)
        self.assertEqual([], self.samples)

    def test_on_its_node_only(self):
        lender = self.lender()
        far = self.boot(self.flavor(
            {'node.0': '0', 'borrow': 'node'}, vcpus=2, cpu_policy='shared',
            numa_nodes='1'))
        wide = self.boot(self.flavor(
            {'node.0': '0', 'borrow': 'host', 'pin.0': '0-1~1'}, vcpus=2,
            cpu_policy='shared', numa_nodes='1'))
        with mock.patch.object(self, 'assertOneOwner'):
            self.at(NIGHT, lender)
        self.assertFloats(far, {0, 1})
        self.assertFloats(wide, {1, 12, 13})

    def test_owner_is_defined_anew(self):
        lender, borrower = self.both()
        self._reboot_server(lender, hard=True)
        self.assertFloats(borrower, {8, 9})
        self.ring(lender)
        self.assertFloats(borrower, {8, 9, 12, 13})

    def test_owner_starts_after_a_restart_of_the_service(self):
        lender, borrower = self.both()
        self._stop_server(lender)
        self.restart_compute_service('compute1')
        self.driver = self.computes['compute1'].driver
        self.assertIsNone(self.driver._reconciler._enforcer._lending.lent)
        self._start_server(lender)
        self.assertFloats(borrower, {8, 9})
        self.ring(lender)
        self.assertFloats(borrower, {8, 9, 12, 13})

    def test_another_owner(self):
        lender, borrower = self.both()
        self._delete_server(lender)
        self.fill(vcpus=6)
        native = self.fill(vcpus=6)
        self.assertLessEqual({12, 13}, frozenset().union(
            *self.pins(native)[0].values()))
        self.assertFloats(borrower, {8, 9})
        self.ring(borrower)
        self.assertFloats(borrower, {8, 9})

    def test_owner_moves_on_the_host(self):
        lender, borrower = self.both()
        self.want(lender, pin_0='0:10 1:11 2:15 3:14')
        self.ring(lender)
        self.assertFloats(borrower, {8, 9, 14, 15})
        self.at(DAY, lender)
        self.assertFloats(borrower, {8, 9})
        self.assertEverywhere(lender, {0: 10, 1: 11, 2: 15, 3: 14})

    @contextlib.contextmanager
    def changing(self, server, **metadata):
        """A live change that goes on while a pass is made."""
        begun, end = threading.Event(), threading.Event()
        self.addCleanup(end.set)
        real = steps.Steps._go

        def go(*args, **kwargs):
            begun.set()
            end.wait(60)
            return real(*args, **kwargs)

        self.api.post_server_metadata(server['id'], {
            f'kongming:{key}': value for key, value in metadata.items()})
        with mock.patch.object(steps.Steps, '_go', go):
            self.driver.passes.run()
            self.assertTrue(begun.wait(30))
            self.driver.passes.run()
            yield
            end.set()
            self.settle()

    def test_owner_changes_what_it_does_not_lend(self):
        """Its borrower has nothing to do with that."""
        lender, borrower = self.both()
        real, moved = affinity.apply, []

        def apply(domain, *args):
            moved.append(domain.UUIDString())
            return real(domain, *args)

        with mock.patch.object(affinity, 'apply', apply):
            with self.changing(lender, **{'pin.0': '0:14 1:11 2:12 3:13'}):
                self.assertFloats(borrower, {8, 9, 12, 13})
                # A profile begins or ends meanwhile, of whichever server.
                self.driver._reconciler._switch_by_load(set(), {'another'})
                self.assertFloats(borrower, {8, 9, 12, 13})
            self.driver.passes.run()
        self.assertFloats(borrower, {8, 9, 12, 13})
        self.assertEqual({lender['id']}, set(moved))
        self.assertRuns(lender, dict.fromkeys(range(4), frozenset({11, 14})))
        self.at(DAY, lender)
        self.assertFloats(borrower, {8, 9})

    def test_owner_changes_what_it_lends(self):
        lender, borrower = self.both()
        with self.changing(lender, **{'pin.0': '0:10 1:11 2:14 3:13'}):
            self.assertFloats(borrower, {8, 9, 13})
        self.driver.passes.run()
        self.assertFloats(borrower, {8, 9, 13, 14})

    def test_owner_starts_while_it_changes(self):
        """It has its own again, whatever its change would leave lent."""
        lender, borrower = self.both()
        with self.changing(lender, **{'pin.0': '0:14 1:11 2:12 3:13'}):
            self._reboot_server(lender, hard=True)
            self.assertFloats(borrower, {8, 9})
            self.driver.passes.run()
            self.assertFloats(borrower, {8, 9})

    def test_saved_without_what_it_borrowed(self):
        lender, borrower = self.both()
        self.api.post_server_action(borrower['id'], {'suspend': None})
        self._wait_for_state_change(borrower, 'SUSPENDED')
        self.assertFloats(borrower, {8, 9})
        self.at(DAY, lender)
        self.api.post_server_action(borrower['id'], {'resume': None})
        self._wait_for_state_change(borrower, 'ACTIVE')
        self.ring(borrower)
        self.assertFloats(borrower, {8, 9})

    def test_busy_borrower_leaves_all_the_same(self):
        lender, borrower = self.both()
        instance = self.instance(borrower['id'])
        instance.task_state = 'image_snapshot'
        instance.save()
        self.at(DAY, lender)
        self.assertFloats(borrower, {8, 9})
        self.assertRuns(lender, OWN)

    def test_borrower_that_can_not_leave(self):
        """Its host stays as it is: who owns is not let onto others."""
        lender, borrower = self.both()
        real = fakelibvirt.Domain.pinVcpuFlags

        def pin(domain, *args):
            if domain.UUIDString() == borrower['id']:
                raise RuntimeError('libvirt said no')
            return real(domain, *args)

        with mock.patch.object(fakelibvirt.Domain, 'pinVcpuFlags', pin):
            self.at(DAY, lender)
            self.assertRuns(lender, PACKED)
            (result, details), *_earlier = self.actions(lender)
            self.assertEqual('Error', result)
            self.assertIn('could not leave pCPU 12-13 yet', details)
        self.ring(lender)
        self.assertRuns(lender, OWN)
        self.assertFloats(borrower, {8, 9})
