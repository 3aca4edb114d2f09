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

"""Faults of ownership that the model has found, each by itself.

What goes wrong is told by :meth:`tests.model.cloud.Cloud.check`.
"""

import contextlib
import logging
import unittest
from unittest import mock

import fixtures
import oslo_messaging as messaging

from kongming.live import rearrange
from nova_ext.ownership import claimed
from nova_ext.ownership import ownership
from nova_ext.ownership import write_ahead
from tests import base
from tests.model import cloud
from tests.model import database
from tests.model import host as hosts
from tests.model import test_ownership as model

#: Messages of a live change, in their order; where memory moves, the record
#: of the node is saved after TARGET.
(READ, TARGET, _READ, END) = range(4)
#: Of one whose first step libvirt refuses.
BACK = 3


class FaultTest(base.TestCase):

    def setUp(self):
        super().setUp()
        logging.disable(logging.CRITICAL)
        self.addCleanup(logging.disable, logging.NOTSET)
        self.cloud = cloud.Cloud()
        self.addCleanup(self.cloud.resources.close)
        self.host = self.cloud.hosts['one']

    def boot(self, flavor):
        uuid, claim = self.cloud.claim(self.host, flavor)
        self.cloud.spawn(self.host, claim)
        self.cloud.check()
        return uuid

    def template(self, pins, **specs):
        return model.flavor(100, len(pins.split()),
                            model.template(1, pins, **specs))

    def change(self, uuid, source, target, fault=None, number=0,
               vcpu=0):
        with self.cloud.losing(fault, number), contextlib.suppress(
                *cloud.EXPECTED):
            self.cloud.change(self.host, [rearrange.Step(
                uuid, 0, 1, 1, (rearrange.Move(vcpu, source, target),))])

    def owned(self, uuid):
        return set(ownership.Ownership(
            self.cloud.database.topology(uuid)).pcpus)

    def resolve(self):
        self.cloud.resolve(self.host)
        self.cloud.check()

    def test_audit_that_cannot_read_the_servers(self):
        """Nova's forgets all that is taken before it reads."""
        server = self.boot(self.template('0:13'))
        self.change(server, 13, 15, database.LOST, END)
        with (self.cloud.losing(database.NOT_DONE, 1),
              self.assertRaises(messaging.MessagingTimeout)):
            self.cloud.resolve(self.host)
        self.cloud.check()
        self.assertIn(server, self.host.rt.tracked_instances)
        self.resolve()
        self.assertEqual({15}, self.host.pinned)

    def test_audit_that_cannot_read_a_server_that_moves(self):
        stays, goes = map(self.boot, map(self.template, ('0:13', '0:10')))
        server = self.cloud.read(goes)
        migration = self.cloud.prepare_resize(
            server, self.cloud.hosts['two'], server.flavor)
        self.cloud.resize(server, migration)
        self.cloud.finish_resize(server, migration)
        self.cloud.audit(self.host)
        before = self.host.charged
        with (self.cloud.losing(database.NOT_DONE, 1), self.cloud.hook(),
              self.assertRaises(messaging.MessagingTimeout)):
            write_ahead.audit(self.cloud.context, self.host.rt, 'one')
        self.assertEqual(before, self.host.charged)
        self.assertIn(stays, self.host.rt.tracked_instances)
        self.assertEqual([goes], [*self.host.rt.tracked_migrations])
        self.cloud.check()

    def test_rebuilt_after_a_move_that_was_cut_short(self):
        """Nova puts back what the server said before it was made."""
        uuid = self.boot(self.template('0:13'))
        server = self.cloud.read(uuid)
        migration = self.cloud.prepare_resize(
            server, self.cloud.hosts['two'], server.flavor)
        self.cloud.resize(server, migration)
        with (mock.patch('nova_ext.ownership.claim.repin',
                         side_effect=RuntimeError),
              contextlib.suppress(RuntimeError)):
            self.cloud.finish_resize(server, migration)
        self.cloud.check()
        server = self.cloud.read(uuid)
        self.assertEqual('two', server.host)
        self.assertNotEqual({13}, self.owned(uuid))
        self.cloud.rebuild(server)
        self.cloud.check()
        self.assertEqual(self.owned(uuid), self.cloud.hosts['two'].pinned)

    def test_audit_that_fails_in_the_middle(self):
        servers = {*map(self.boot, map(self.template, ('0:13', '0:10')))}
        before = self.host.charged
        with (mock.patch.object(self.host.rt, '_update_usage_from_instance',
                                side_effect=messaging.MessagingTimeout),
              self.assertRaises(messaging.MessagingTimeout)):
            write_ahead.audit(self.cloud.context, self.host.rt, 'one')
        self.assertEqual(before, self.host.charged)
        self.assertEqual(servers, self.host.rt.tracked_instances)

    def test_audit_of_a_boot_that_cannot_read_the_servers(self):
        """It looks again since a pCPU is taken that nobody owns."""
        other = self.boot(self.template('0:10'))
        compute = self.host.rt.compute_nodes['one']
        topology = write_ahead.host_topology(compute)
        topology.cells[1].pinned_cpus |= {13}
        compute.numa_topology = topology._to_json()
        _uuid, claim = self.cloud.claim(self.host, self.template('0:13'))
        with self.cloud.losing(database.NOT_DONE, 1):
            with contextlib.suppress(*cloud.EXPECTED):
                self.cloud.spawn(self.host, claim)
        self.assertIn(other, self.cloud.owned(self.host))
        self.cloud.check()

    def test_emulator_leaves_what_is_given_up(self):
        """While it owns two, its emulator threads are put on both."""
        server = self.boot(self.template(
            '0:12', **{'hw:emulator_threads_policy': 'isolate'}))
        source, = self.owned(server) - {12}
        with self.host.libvirt.failing(made=False):
            self.change(server, source, 15, database.NOT_DONE, BACK - 1,
                        rearrange.EMULATOR)
        self.assertEqual({12, source, 15}, self.owned(server))
        self.cloud.look_after(self.host)
        self.assertEqual(2, len(self.owned(server)))
        self.cloud.check()

    def test_saved_late_what_it_owned_before(self):
        """That the database has it so does not say that it was saved."""
        server = self.boot(self.template('0:13'))
        marked = self.cloud.database.topology(server).obj_clone()
        marked.cells = marked.cells
        self.cloud.database.extra[server]['numa_topology'] = (
            marked._to_json())
        with self.cloud.losing(database.LATE, TARGET), self.cloud.hook():
            with contextlib.suppress(messaging.MessagingTimeout):
                self.host.steps.unmark(self.cloud.context,
                                       self.cloud.read(server))
        self.assertEqual(1, len(self.cloud.bus.late))
        self.resolve()
        self.change(server, 13, 15)
        self.cloud.carry_out(0)
        self.cloud.check()
        self.assertEqual({13}, self.owned(server))

    def test_defined_anew_while_uncertain(self):
        """Nova defines its domain by what the database has until then."""
        server = self.boot(self.template('0:13'))
        self.change(server, 13, 15, database.LATE, END)
        self.cloud.reboot(self.cloud.read(server))
        self.assertEqual({13}, self.host.libvirt.running[server].pcpus)
        self.cloud.carry_out(0)
        self.resolve()
        self.assertEqual({15}, self.host.pinned)
        self.assertEqual({15}, self.host.libvirt.running[server].pcpus)

    def test_busy_while_uncertain(self):
        """Nova defines its domain by what it has read before."""
        server = self.boot(self.template('0:13'))
        sent = self.cloud.read(server)
        self.change(server, 13, 15, database.LOST, END)
        row = self.cloud.database.instances[server]
        row['task_state'] = 'rebooting_hard'
        self.resolve()
        self.host.libvirt.define(sent)
        self.cloud.check()
        row['task_state'] = None
        self.resolve()
        self.assertEqual({15}, self.host.pinned)

    def test_saved_late(self):
        server = self.boot(self.template('0:13'))
        self.change(server, 13, 15, database.LATE, TARGET)
        self.resolve()
        self.assertEqual({13, 15}, self.host.pinned)

    def test_never_saved(self):
        logging.disable(logging.NOTSET)
        log = self.useFixture(fixtures.FakeLogger())
        server = self.boot(self.template('0:13'))
        self.change(server, 13, 15, database.NOT_DONE, END)
        self.assertIn('The answer to a change of what it owns was lost; both '
                      'stay taken until the database is known', log.output)
        self.resolve()
        self.assertIn(server, write_ahead.uncertain(self.host.rt))
        self.assertNotIn('is known again', log.output)
        self.cloud.wait(1000)
        self.resolve()
        self.assertEqual({}, write_ahead.uncertain(self.host.rt))
        self.assertIn(f'What server {server} owns is known again', log.output)

    def test_libvirt_is_away_then(self):
        server = self.boot(self.template('0:13'))
        self.change(server, 13, 15, database.LATE, END)
        self.cloud.reboot(self.cloud.read(server))
        self.cloud.carry_out(0)
        with self.host.libvirt.failing(made=False):
            self.resolve()
        self.assertEqual({13, 15}, self.host.pinned)
        self.resolve()
        self.assertEqual({15}, self.host.pinned)

    def test_rescued_while_uncertain(self):
        """Nova brings it back by what it has saved."""
        server = self.boot(self.template('0:13'))
        self.change(server, 13, 15, database.LATE, END)
        self.cloud.reboot(self.cloud.read(server))
        self.cloud.rescue(self.cloud.read(server))
        self.cloud.carry_out(0)
        self.resolve()
        self.cloud.wait(1000)
        self.resolve()
        self.cloud.unrescue(self.cloud.read(server))
        self.cloud.check()
        self.resolve()
        self.assertEqual({15}, self.host.pinned)

    def test_memory_of_both_nodes_after_an_audit(self):
        server = self.boot(self.template('0:13'))
        with (self.cloud.losing(database.LATE, TARGET),
              contextlib.suppress(*cloud.EXPECTED)):
            self.cloud.change(self.host, [rearrange.Step(
                server, 0, 1, 0, (rearrange.Move(0, 13, 4),))])
        before = self.host.charged
        self.cloud.audit(self.host)
        self.assertEqual(before, self.host.charged)
        self.cloud.carry_out(0)
        self.cloud.audit(self.host)
        self.assertEqual(before, self.host.charged)
        self.cloud.check()

    def test_shared_vcpus_of_both_nodes(self):
        """A vCPU that floats is counted where it goes, too."""
        server = self.boot(model.flavor(101, 2, model.template(
            1, '0:13', **{'hw:cpu_policy': 'mixed',
                          'hw:cpu_dedicated_mask': '0'})))
        with (self.cloud.losing(database.LATE, END + 1),
              contextlib.suppress(*cloud.EXPECTED)):
            self.cloud.change(self.host, [rearrange.Step(
                server, 0, 1, 0, (rearrange.Move(0, 13, 4),))])
        self.assertEqual(1, len(self.cloud.bus.late))
        self.cloud.check()

    def test_boot_that_fails_while_it_is_uncertain(self):
        """What nobody counts any more no audit charges again."""
        _uuid, claim = self.cloud.claim(self.host, self.template('0:13'))
        with (self.cloud.losing(database.LATE, 0),
              contextlib.suppress(*cloud.EXPECTED)):
            self.cloud.spawn(self.host, claim)
        self.assertEqual(1, len(write_ahead.uncertain(self.host.rt)))
        self.cloud.audit(self.host)
        self.assertEqual(set(), self.host.pinned)
        self.resolve()
        self.assertEqual({}, write_ahead.uncertain(self.host.rt))

    def test_not_sent(self):
        """Nothing more is taken than before: nobody can have saved it."""
        server = self.boot(self.template('0:13'))
        self.change(server, 13, 15, database.NOT_SENT, TARGET)
        self.assertEqual({13}, self.host.pinned)
        self.cloud.check_exactly()

    def test_the_record_follows(self):
        """Nova saves what has changed since it has saved it itself."""
        server = self.boot(self.template('0:13'))
        self.cloud.audit(self.host)
        self.change(server, 13, 15)
        self.change(server, 15, 13, database.LOST, END)
        self.resolve()
        self.cloud.audit(self.host)
        self.cloud.check_exactly()

    @unittest.expectedFailure
    def test_started_by_what_nova_api_has_read(self):
        """What it owns can't be read again, so it runs where it ran before.

        Nova's driver is called with what nova-api has read before it said
        that the server is busy (nova_ext.driver.LibvirtDriver._refresh).
        """
        server = self.boot(self.template('0:13'))
        sent = self.cloud.read(server)
        self.change(server, 13, 15)
        with (self.cloud.losing(database.NOT_DONE, 0),
              contextlib.suppress(*cloud.EXPECTED)):
            self.cloud.reboot(sent)
        self.cloud.check()

    @unittest.expectedFailure
    def test_deleted_by_what_nova_api_has_read(self):
        """What is given back is another's by now."""
        server = self.boot(self.template('0:13'))
        sent = self.cloud.read(server)
        self.change(server, 13, 15)
        self.boot(self.template('0:13'))
        with (self.cloud.losing(database.NOT_DONE, 0),
              contextlib.suppress(*cloud.EXPECTED)):
            self.cloud.delete(sent)
        self.cloud.check()

    @unittest.expectedFailure
    def test_moved_while_it_may_be_written_late(self):
        """Carried out late, a live change is one of another host's pCPUs."""
        server = self.boot(self.template('0:13'))
        self.change(server, 13, 15, database.LATE, END)
        flavor = model.flavor(101, 1, {})
        with contextlib.suppress(*cloud.EXPECTED):
            now = self.cloud.read(server)
            migration = self.cloud.prepare_resize(
                now, self.cloud.hosts['two'], flavor)
            self.cloud.resize(now, migration)
            self.cloud.finish_resize(now, migration)
        self.cloud.carry_out(0)
        self.cloud.check()

    @unittest.expectedFailure
    def test_restarted_while_it_may_be_written_late(self):
        """Who starts knows nothing of what the one before has sent."""
        server = self.boot(self.template('0:13'))
        self.change(server, 13, 15, database.LATE, TARGET)
        self.host.start()
        self.boot(self.template('0:15'))
        self.cloud.carry_out(0)
        self.cloud.check()

    def test_written_again_while_uncertain(self):
        server = self.boot(self.template('0:13'))
        self.change(server, 13, 15, database.LATE, TARGET)
        now = self.cloud.read(server)
        mine = ownership.Ownership(now.numa_topology)
        self.assertRaises(
            hosts.EXPECTED[0], write_ahead.write, self.host.rt,
            claimed.ClaimedServer(now, 'one', None),
            now.numa_topology, mine.topology.obj_clone())
        self.cloud.check()
