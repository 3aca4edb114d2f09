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

import random

import hypothesis
from hypothesis import strategies as st

from kongming.load import balance
from kongming.load import figures
from tests import base

NODES = [balance.Node(0, 1), balance.Node(1, 1)]
BOTH = frozenset({0, 1})
MIB = 1024


def server(name, node, use=100.0, wait=50.0, vcpus=1, memory=256 * MIB,
           may_go=BOTH, **fields):
    return balance.Cell(name, 0, node, vcpus, use, wait, memory, may_go,
                        **fields)


class DecideTest(base.TestCase):

    def decide(self, *servers, now=0.0, nodes=NODES, **kwargs):
        return next(iter(balance.Balancer().decide(nodes, servers, now,
                                                   **kwargs)), None)

    def test_two_busy_servers_and_a_node_that_is_idle(self):
        move = self.decide(server('a', 0), server('b', 0))
        self.assertEqual((0, 1, 1.0), (move.source, move.target, move.saves))
        self.assertEqual(
            'it waits 50.0% of its time on node 0; on node 1 1.00 pCPUs less '
            'are waited for, 256 MiB are copied in about 5 s', move.because)

    def test_nobody_waits(self):
        self.assertIsNone(self.decide(server('a', 0, wait=0.0)))
        self.assertIsNone(self.decide(
            server('a', 0, use=40, wait=0), server('b', 0, use=40, wait=0)))

    def test_it_would_wait_there_as_well(self):
        self.assertIsNone(self.decide(
            server('a', 0), server('b', 0), server('c', 1), server('d', 1)))

    def test_too_much_memory_for_what_it_saves(self):
        self.assertIsNone(self.decide(*(
            server(name, 0, memory=8192 * MIB) for name in 'ab')))
        self.assertEqual('small', self.decide(
            server('large', 0, memory=4096 * MIB),
            server('small', 0)).server)

    def test_only_who_may(self):
        self.assertIsNone(self.decide(*(
            server(name, 0, may_go=frozenset({0})) for name in 'ab')))

    def test_one_that_is_too_large_for_each_node(self):
        self.assertIsNone(self.decide(server('a', 0, vcpus=2)))

    def test_others_are_there(self):
        """Of native servers only is known what their pCPUs did."""
        one = server('a', 0)
        self.assertEqual(1, self.decide(one, nodes=[
            balance.Node(0, 1, others=1.0), NODES[1]]).target)
        self.assertIsNone(self.decide(one, nodes=[
            balance.Node(0, 1, others=1.0), balance.Node(1, 1, others=1.0)]))

    def test_no_more_than_was_measured(self):
        """What the kernel has not seen waiting is not saved."""
        move = self.decide(server('a', 0, wait=10.0),
                           server('b', 0, wait=10.0))
        self.assertAlmostEqual(0.2, move.saves)

    def test_what_is_lent_is_for_who_borrows(self):
        nodes = [NODES[0], balance.Node(1, 0, lent=1)]
        self.assertIsNone(self.decide(server('a', 0), server('b', 0),
                                      nodes=nodes))
        move = self.decide(server('a', 0), server('b', 0, borrows=True),
                           nodes=nodes)
        self.assertEqual('b', move.server)

    def test_best_first(self):
        found = balance.moves(
            [balance.Node(0, 1), balance.Node(1, 1, others=0.5),
             balance.Node(2, 1)],
            [server('a', 0, may_go=frozenset({0, 1, 2})), server('b', 0)])
        self.assertEqual([('a', 2), ('a', 1), ('b', 1)],
                         [move[:1] + move[3:4] for move in found])

    def test_a_limit_of_moves(self):
        balancer = balance.Balancer()
        made, now = 0, 0.0
        while now < 3600:
            found = balancer.decide(
                NODES, [server(f'{now}', 0), server('b', 0)], now, 3)
            for move in found[:1]:
                balancer.moved(move, now)
                made += 1
            now += balance.PERIOD
        self.assertEqual(3, made)
        self.assertIn('3 times', balancer.why_not(now - 1, 3))
        self.assertEqual('', balancer.why_not(now + 3600, 3))

    def test_moves_before_a_restart_count(self):
        balancer = balance.Balancer()
        balancer.restore('a', [-1800.0, -600.0])
        self.assertIn('2 times', balancer.why_not(0.0, 2))
        found = balancer.decide(NODES, [server('a', 0), server('b', 0)], 0.0)
        self.assertEqual({'b'}, {move.server for move in found})
        self.assertIn('10m ago', balancer.stays(
            balance.moves(NODES, [server('a', 0), server('b', 0)])[0], 0.0))


class NearerTest(base.TestCase):

    def test_to_where_its_memory_is(self):
        move, = balance.nearer([server(
            'a', 0, remote=75.0,
            memory_on={0: 256 * MIB, 1: 768 * MIB})])
        self.assertEqual((1, 512 * MIB), (move.target, move.local_kib))
        self.assertEqual(
            '75.0% of its memory are not on node 0; 768 MiB are on node 1, '
            '256 MiB are copied in about 5 s', move.because)

    def test_nothing_to_say(self):
        for fields in ({'remote': 5.0}, {'remote': 20.0},
                       {'remote': 75.0, 'may_go': frozenset({0})}):
            self.assertEqual([], balance.nearer([server('a', 0, **{
                'memory_on': {0: 250, 1: 750} if fields['remote'] > 50
                else {0: 800, 1: 200}, **fields})]))
        # Of which cell it is nobody knows.
        two = server('a', 0, remote=75.0, memory_on={0: 1, 1: 3})
        self.assertEqual([], balance.nearer([two, two._replace(number=1)]))


class RecentTest(base.TestCase):

    def test_the_least_of_some_periods(self):
        recent = balance.Recent()
        for use, wait in ((90.0, 40.0), (80.0, 50.0)):
            recent.add(figures.Figures(60.0, use, wait))
            self.assertIsNone(recent.least)
        recent.add(figures.Figures(60.0, 85.0, 45.0))
        self.assertEqual((180.0, 80.0, 40.0), recent.least[:3])
        recent.add(None)
        self.assertIsNone(recent.least)


class PingPongTest(base.TestCase):

    def play(self, use_of, hours=24, names='abcd', most=balance.MOVES,
             seed=0):
        """A host whose servers do what they are told; (when, Move)s."""
        balancer = balance.Balancer()
        where = dict.fromkeys(names, 0)
        made = []
        for now in range(0, hours * 3600, 30):
            uses = {name: use_of(name, where[name], now) for name in names}
            servers = []
            for name in names:
                wanted = sum(uses[each] for each in names
                             if where[each] == where[name]) / 100
                servers.append(server(name, where[name], uses[name], max(
                    0.0, 100 - 100 / wanted) if wanted > 1 else 0.0))
            before = balance.waiting(NODES, servers)
            for move in balancer.decide(NODES, servers, now, most)[:1]:
                balancer.moved(move, now)
                where[move.server] = move.target
                made.append((now, move))
                after = balance.waiting(NODES, [
                    each._replace(node=where[each.server])
                    for each in servers])
                self.assertLess(after, before)
        return made

    def test_steady_load_ends_in_rest(self):
        made = self.play(lambda name, _node, _now: 50)
        self.assertEqual(2, len(made))

    def test_a_guest_that_is_busy_wherever_it_is(self):
        """It makes its node contended, whichever that is."""
        for period in (120, 600, 3600, 7200):
            made = self.play(lambda name, node, now: 100 if (
                now // period + (name in 'ab') + node) % 2 else 5)
            times = [now for now, _move in made]
            self.assertLessEqual(max((sum(
                at <= other < at + 3600 for other in times)
                for at in times), default=0), balance.MOVES)
            for name in 'abcd':
                mine = [now for now, move in made if move.server == name]
                self.assertTrue(all(
                    later - at >= balance.STAYS
                    for at, later in zip(mine, mine[1:])))

    def test_nobody_goes_back_soon(self):
        made = self.play(lambda name, node, _now: 100 if node else 60,
                         names='ab')
        for (at, move), (later, other) in zip(made, made[1:]):
            if move.server == other.server:
                self.assertGreaterEqual(later - at, 2 * balance.STAYS)

    @hypothesis.settings(max_examples=20)
    @hypothesis.given(st.integers(0, 2 ** 32), st.integers(1, 6))
    def test_whatever_guests_do(self, seed, most):
        rng = random.Random(seed)
        table = {}
        made = self.play(
            lambda name, _node, now: table.setdefault(
                (name, now // 300), rng.choice((0, 20, 60, 100))),
            hours=6, most=most)
        times = [now for now, _move in made]
        self.assertLessEqual(max((sum(
            at <= other < at + 3600 for other in times)
            for at in times), default=0), most)
