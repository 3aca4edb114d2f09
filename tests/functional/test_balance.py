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

"""Cells that go to another node of their host by what is measured.

What vCPUs and pCPUs did comes from a table, and so does the kernel's memory;
tests.nested has real ones.
"""

from unittest import mock

from kongming.load import balance
from tests.embedded import load
from tests.functional import test_life
from tests.functional import test_live
from tests.functional import test_load

PERIODS = balance.PERIODS * balance.PERIOD
NODES = {0: frozenset({0, 1}), 1: frozenset({8, 9})}


class BalanceBase(test_load.LoadBase, test_live.MemoryBase):

    FLOATED_OVER = NODES[0] | NODES[1]

    def float(self, **specs):
        """A server whose two vCPUs float.

        :param specs: of its template, balance=node if it is to have no others
        """
        server = self.boot(self.flavor(
            specs or {'balance': 'node'}, vcpus=2, cpu_policy='shared',
            numa_nodes='1'))
        self.ring(server)
        return server

    def guest(self, server):
        return self.guests.guests.setdefault(server['id'], load.Guest())

    def two(self, **specs):
        """Two on one node, whichever Nova chose, and nobody on the other."""
        three = [self.float(**specs) for _ in range(3)]
        places = [self.node(server) for server in three]
        self.here = max(places, key=places.count)
        self.there = 1 - self.here
        found = [server for server, node in zip(three, places)
                 if node == self.here][:2]
        for server in three:
            if server not in found:
                self._delete_server(server)
                self.guests.guests.pop(server['id'], None)
        for server in found:
            guest = self.guest(server)
            guest.vcpus, guest.use, guest.wait = 2, 50, 50
        self.guests.pcpus.update(dict.fromkeys(NODES[self.here], (100, 100)))
        return found

    def node(self, server):
        cell, = self.instance(server['id']).numa_topology.cells
        return cell.id

    def wait(self, seconds=PERIODS + 2 * balance.PERIOD):
        """Time goes on, and a pass is made whenever somebody asks for one."""
        asked = []
        with mock.patch.object(self.load.balance, '_wake',
                               lambda: asked.append(True)):
            while seconds > 0:
                self.live(min(60, seconds), step=10)
                seconds -= 60
                if asked or seconds <= 0:
                    asked.clear()
                    for _pass in range(2):
                        self.reconcile()
                        self.settle()
                        self.publish()

    def apart(self):
        """What the figures are once each is alone."""
        for guest in self.guests.guests.values():
            guest.use, guest.wait = 100, 0
        for node in NODES.values():
            self.guests.pcpus.update(dict.fromkeys(node, (100, 0)))


class ActTest(BalanceBase):

    def test_two_busy_servers_and_a_node_that_is_idle(self):
        found = self.two()
        self.wait()
        one, = [server for server in found
                if self.node(server) == self.there]
        other, = [server for server in found if server is not one]
        self.assertRuns(one, dict.fromkeys(range(2), NODES[self.there]))
        self.assertRuns(other, dict.fromkeys(range(2), NODES[self.here]))
        # Pages, policies and groups, by the kernel.
        self.assertEqual([{self.there}], self.process(one).where())
        self.assertEqual([self.there], self.process(one).bound())
        self.assertEqual({self.there: 1024, self.here: 1024}, {
            at: used for at, (_pcpus, used) in self.usage().items()})
        result, evidence = self.events(one)
        self.assertEqual(('kongming_repin', 'Success'), result)
        self.assertRegex(
            evidence[0],
            rf'^kongming_by_load: balance: it waits 50\.0% of its time on '
            rf'node {self.here}; on node {self.there} 2\.00 pCPUs less')
        # It is where its template leaves it to be.
        self.apart()
        self.wait(4 * 3600)
        self.assertEqual(self.there, self.node(one))
        self.assertEqual(1, len(self.changes(one)))
        self.assertEqual([], self.changes(other))
        self._reboot_server(one, hard=True)
        self.ring(one)
        self.assertEqual([{self.there}], self.process(one).where())

    def moved(self, found):
        return sum(self.node(server) == self.there for server in found)

    def test_others_are_on_the_other_node(self):
        """Of native servers nothing is known but what their pCPUs did."""
        found = self.two()
        self.guests.pcpus.update(
            dict.fromkeys(NODES[self.there], (100, 100)))
        self.wait()
        self.assertEqual(0, self.moved(found))

    @test_life.long
    def test_only_who_says_so_and_leaves_it_open(self):
        for specs in ({'node.0': '1'}, {'pin.0': '0-1~8-9'}):
            found = self.two(balance='node', **{'node.0': '1', **specs})
            self.wait()
            self.assertEqual(0, self.moved(found))
            for server in found:
                self._delete_server(server)
            self.guests.guests.clear()

    def test_a_tenant_that_names_its_node(self):
        found = self.two(balance='node', grant='template')
        for server in found:
            self.want(server, node_0=str(self.here))
        self.wait()
        self.assertEqual(0, self.moved(found))
        self.unwant(found[0], 'node.0')
        self.wait()
        self.assertEqual([self.there, self.here], list(map(self.node, found)))

    def test_metadata_do_not_say_it(self):
        found = self.two(grant='template qos profile')
        for server in found:
            self.want(server, balance='node')
        self.assertIn('only a flavor says that', self.stdlog.logger.output)
        self.wait()
        self.assertEqual(0, self.moved(found))
        self.assertEqual({}, self.load._watched)

    @test_life.long
    def test_within_the_limit_of_the_host(self):
        self.flags(balance_moves_per_hour=1, group='kongming')
        found = self.two()
        self.wait()
        self.assertEqual(1, self.moved(found))
        # They follow it, as load that is made to, and wait there.
        for server in found:
            if self.node(server) == self.here:
                self.guest(server).wait = 50
        more = self.float()
        guest = self.guest(more)
        guest.vcpus, guest.use, guest.wait = 2, 50, 50
        self.wait(1800)
        self.assertEqual(1, sum(len(self.changes(server))
                                for server in [*found, more]))

    def test_a_guest_that_makes_each_node_busy(self):
        """Wherever it is, it has the figures of one that waits there."""
        found = self.two()
        for _ in range(14):
            for server in found:
                here = self.node(server)
                self.guests.pcpus.update(
                    dict.fromkeys(NODES[here], (100, 100)))
                self.guests.pcpus.update(
                    dict.fromkeys(NODES[1 - here], (0, 0)))
            self.wait(600)
        for server in found:
            self.assertLessEqual(len(self.changes(server)), 4)

    def test_memory_that_does_not_move(self):
        """It is known before anything is begun; no record blames a tenant."""
        found = self.two()
        for server in found:
            self.process(server).said['devices'] = ['/dev/vfio/7']
        self.wait()
        self.assertEqual(0, self.moved(found))
        for server in found:
            self.assertEqual([], self.changes(server))
        self.assertIn('/dev/vfio/7 open',
                      self.known(found[0])['move']['waits'])

    def test_moves_count_after_a_restart(self):
        self.flags(balance_moves_per_hour=1, group='kongming')
        found = self.two()
        self.wait()
        self.assertEqual(1, self.moved(found))
        self.restart_compute_service('compute1')
        self.driver = self.computes['compute1'].driver
        self.load = self.driver._reconciler.load
        self.ring(found[0])
        self.guests.pcpus.update(dict.fromkeys(NODES[self.here], (100, 100)))
        self.wait()
        self.assertEqual(1, sum(len(self.changes(server))
                                for server in found))
        self.assertIn('1 times', self.load.balance._balancer.why_not(
            self.guests.clock, 1))


class AdviseTest(BalanceBase):

    by_load = 'advise'

    def test_nothing_changes(self):
        found = self.two()
        self.samples.clear()
        self.wait()
        self.assertEqual([], self.samples)
        self.assertEqual([self.here] * 2, list(map(self.node, found)))
        move = self.known(found[0])['move']
        self.assertEqual(
            (0, self.here, self.there, 2.0, ''),
            tuple(move[key] for key in ('cell', 'source', 'target', 'saves',
                                        'waits')))
        self.assertIn('it waits 50.0% of its time', move['because'])
        self.assertEqual({self.here: 4.0, self.there: 0.0}, {
            node: wanted for node, _pcpus, wanted
            in self.known(found[0])['floats']})

    def test_a_server_that_does_not_say_it(self):
        """It is told as well, and why the host would not do it."""
        found = self.two(**{'profile.x.when': 'use<15% for 10m',
                            'profile.x.qos': '0:weight=50'})
        self.wait()
        self.assertEqual('its flavor does not say kongming:balance=node',
                         self.known(found[0])['move']['waits'])

    def test_to_where_its_memory_is(self):
        """Remote memory is a reason to advise, not to move."""
        server = self.float()
        here = self.node(server)
        self.live(60)
        self.load._watched[server['id']].reading.remote = 75.0
        self.load._watched[server['id']].reading.memory_on = {
            here: 1024, 1 - here: 3072}
        self.wait()
        move = self.known(server)['move']
        self.assertEqual((1 - here, 2), (move['target'], move['local_mib']))
        self.assertEqual(0.0, move['saves'])
        self.flags(by_load='act', group='kongming')
        self.wait()
        self.assertEqual(here, self.node(server))
