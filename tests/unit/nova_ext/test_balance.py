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

"""Balance by passes and by the thread that reads, without either.

tests.functional.test_balance has the real services.
"""

import fixtures
import nova.conf
from nova import objects

from kongming import conf as km_conf
from kongming.host import usage
from kongming.intent import merge
from kongming.load import balance as balance_mod
from kongming.load import figures
from kongming.template import template
from nova_ext.live import balance
from nova_ext.live import contention
from tests import base

objects.register_all()
km_conf.register_opts(nova.conf.CONF)
HOST = usage.HostState([
    usage.NodeState(n, frozenset({8 * n + 2, 8 * n + 3}),
                    shared=frozenset({8 * n, 8 * n + 1})) for n in (0, 1)])
_NS = 10 ** 9


def make(number, node, memory=64):
    return objects.Instance(
        uuid=f'00000000-0000-4000-8000-{number:012}', id=number,
        display_name=f's{number}',
        numa_topology=objects.InstanceNUMATopology(cells=[
            objects.InstanceNUMACell(
                id=node, cpuset={0, 1}, pcpuset=set(), cpu_pinning=None,
                cpuset_reserved=None, memory=memory, cpu_policy='shared')]))


class BalanceTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.clock, self.mode, self.woken = 1000.0, balance.ACT, 0
        self.lent, self.pcpus = frozenset(), {}
        self.useFixture(fixtures.MonkeyPatch(
            'kongming.kernel.vcpu_times.pcpus', self.read_pcpus))
        self.servers = {server.uuid: server for server in (
            make(1, 0), make(2, 0))}
        self.one, self.two = self.servers
        #: server -> per cent of the time in which its vCPUs run, and wait
        self.does = dict.fromkeys(self.servers, (50, 50))
        self.times = dict.fromkeys(self.servers, (0, 0))
        self.template = template.decode({'kongming:balance': 'node'})
        self.balance = self.new()
        self.why = ''

    def new(self):
        return balance.Balance(lambda: self.mode, lambda: self.lent,
                               lambda: self.clock, self.wake)

    def wake(self):
        self.woken += 1

    def read_pcpus(self, wanted):
        return {pcpu: figures.Times(*self.pcpus.get(pcpu, (0, 0)))
                for pcpu in wanted}

    def intents(self):
        return dict.fromkeys(self.servers, merge.Intent(self.template))

    def go_on(self, seconds=60.0, others=(0.0, 0.0)):
        """Time goes on, and is read.

        :param others: pCPUs of each node that others want
        """
        self.clock += seconds
        wanted = [*others]
        for uuid, parts in self.does.items():
            self.times[uuid] = tuple(
                before + round(seconds * share / 100 * _NS)
                for before, share in zip(self.times[uuid], parts))
            wanted[self.node(uuid)] += 2 * sum(parts) / 100
        for node, pcpus in enumerate(wanted):
            run, wait = self.pcpus.get(8 * node, (0, 0))
            self.pcpus[8 * node] = (run + round(seconds * pcpus * _NS), wait)
        self.balance.note(HOST, self.servers, self.intents())
        self.balance.read({uuid: contention.Reading(figures.Counters(
            self.clock, {vcpu: figures.Times(*self.times[uuid])
                         for vcpu in (0, 1)}, 1)) for uuid in self.servers})

    def node(self, uuid):
        cell, = self.servers[uuid].numa_topology.cells
        return cell.id

    def wanted(self, busy=()):
        """server -> node that it is to be on, by a pass."""
        found = self.balance.apply(
            {uuid: server for uuid, server in self.servers.items()
             if uuid not in busy}, self.intents(), frozenset(busy),
            lambda _server, _desired: self.why)
        return {uuid: intent.base.nodes[0] for uuid, intent in found.items()
                if intent.base.nodes}

    def contend(self):
        for _ in range(5):
            self.go_on()

    def move(self, uuid, node):
        self.servers[uuid].numa_topology.cells[0].id = node

    def test_one_goes_and_is_there(self):
        self.contend()
        self.assertEqual(2, self.woken)
        (uuid, node), = self.wanted().items()
        self.assertEqual(1, node)
        self.assertRegex(self.balance.evidence(uuid),
                         '^balance: it waits 50.0% of its time on node 0')
        other, = self.servers.keys() - {uuid}
        self.assertEqual('', self.balance.evidence(other))
        # It goes on wanting it, whoever makes a pass meanwhile.
        self.assertEqual({}, self.wanted(busy={uuid}))
        self.assertEqual({uuid: 1}, self.wanted())
        self.move(uuid, 1)
        self.balance.job_ended({uuid})
        self.assertEqual({}, self.wanted())
        self.assertEqual('', self.balance.evidence(uuid))
        # The other one waits no more, or all the same.
        self.contend()
        self.assertEqual({}, self.wanted())

    def test_not_long_enough(self):
        for _ in range(balance_mod.PERIODS):
            self.go_on()
        self.assertEqual({}, self.wanted())
        self.assertIsNone(self.balance.advice(self.one))
        self.does[self.one] = (100, 0)
        self.go_on()
        self.does[self.one] = (50, 50)
        # The other one has waited all the time.
        self.go_on()
        self.assertEqual({self.two: 1}, self.wanted())

    def test_it_can_not(self):
        self.contend()
        self.why = 'its memory is pinned'
        self.assertEqual({}, self.wanted())
        self.assertEqual('its memory is pinned',
                         self.balance.advice(self.one)['waits'])
        self.why = ''
        self.assertEqual({}, self.wanted())
        self.clock += 1800
        self.contend()
        self.assertEqual(1, len(self.wanted()))

    def test_it_has_failed(self):
        self.contend()
        (uuid, _node), = self.wanted().items()
        self.balance.job_ended({uuid})
        self.assertEqual({}, self.wanted())
        self.contend()
        found = self.wanted()
        self.assertNotIn(uuid, found)
        self.assertIn('it was moved for balance',
                      self.balance.advice(uuid)['waits'])

    def test_it_is_never_begun(self):
        """The host has no time for it; it is not wanted for ever."""
        self.contend()
        self.assertEqual(1, len(self.wanted()))
        self.clock += 200
        self.assertEqual({}, self.wanted())

    def test_what_was_decided_is_soon_out_of_date(self):
        self.contend()
        self.clock += 61
        self.assertEqual({}, self.wanted())

    def test_only_where_it_acts(self):
        self.mode = 'advise'
        self.contend()
        self.assertEqual((0, {}), (self.woken, self.wanted()))
        self.assertEqual('', self.balance.advice(self.one)['waits'])
        self.mode = balance.ACT
        self.go_on()
        self.assertEqual(1, len(self.wanted()))
        self.mode = 'advise'
        self.assertEqual({}, self.wanted())

    def test_without_the_key_it_is_reported_only(self):
        self.template = template.decode({'kongming:borrow': 'node'})
        self.contend()
        self.assertEqual((0, {}), (self.woken, self.wanted()))
        self.assertEqual('its flavor does not say kongming:balance=node',
                         self.balance.advice(self.one)['waits'])

    def test_others_are_there(self):
        for _ in range(6):
            self.go_on(others=(0.0, 2.0))
        self.assertEqual({}, self.wanted())
        self.assertEqual([(0, 2, 4.0), (1, 2, 2.0)], self.balance.floats)
        # What others want counts for as long as it may come back.
        self.go_on()
        self.assertEqual({}, self.wanted())
        for _ in range(balance_mod.PERIODS - 1):
            self.go_on()
        self.assertEqual(1, len(self.wanted()))

    def test_the_kernel_is_silent(self):
        def no(_wanted):
            raise FileNotFoundError('/proc/schedstat')

        self.useFixture(fixtures.MonkeyPatch(
            'kongming.kernel.vcpu_times.pcpus', no))
        self.contend()
        self.assertEqual({}, self.wanted())

    def test_what_was_moved_before(self):
        nova.conf.CONF.set_override('balance_moves_per_hour', 1, 'kongming')
        self.addCleanup(nova.conf.CONF.clear_override,
                        'balance_moves_per_hour', 'kongming')
        self.balance.restore(self.one, [600.0])
        self.contend()
        self.assertEqual({}, self.wanted())
        self.assertIn('as often as it may in an hour (1 times)',
                      self.balance.advice(self.two)['waits'])

    def test_it_is_gone(self):
        self.contend()
        (uuid, _node), = self.wanted().items()
        del self.servers[uuid], self.does[uuid]
        self.balance.retain(self.servers.keys())
        self.assertEqual({}, self.wanted())
        self.assertIsNone(self.balance.advice(uuid))
