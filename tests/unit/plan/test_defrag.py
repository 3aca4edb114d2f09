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

"""Capacity is freed by the fewest moves, against all that there could be."""

import itertools
import random

from kongming.deployment import deployment as dep
from kongming.fit import demand
from kongming.memory import order as memory_order
from kongming.placement import reserved
from kongming.plan import defrag
from kongming.plan import figures
from kongming.plan import order
from kongming.solver import problem
from kongming.template import guest
from kongming.template import template
from tests import base
from tests.unit.solver import test_solve

SPECS = {'hw:cpu_policy': 'dedicated', 'kongming:grant': 'template'}


def server(name, *cells, ram=64, status='ACTIVE', **specs):
    """:param cells: (node, pCPUs)"""
    count = sum(len(pcpus) for _node, pcpus in cells)
    vcpus = itertools.count()
    specs = {**SPECS, **{key.replace('__', ':'): value
                         for key, value in specs.items()}}
    if len(cells) > 1:
        specs['hw:numa_nodes'] = str(len(cells))
    return dep.FoundServer(
        name, name, status, 'one', True, 'idle-id',
        dep.FoundFlavor('f', 'f', count, ram, 0, specs), {}, tuple(
            (node, {next(vcpus): pcpu for pcpu in pcpus})
            for node, pcpus in cells))


def host_of(servers, state=None, strangers=()):
    """A host with these, and pCPUs that nobody is known to own."""
    state = state or test_solve.host()
    owned = {node.id: {} for node in state.nodes}
    for found in servers:
        for cell, (node, pins) in zip(found.guest.cells, found.cells):
            owned[node][found.id] = reserved.Owned(
                frozenset(pins.values()), 0, cell.memory_mib)
    taken = {p for mine in owned.values() for o in mine.values()
             for p in o.pcpus} | set(strangers)
    state.nodes = [node.holding(node.dedicated & taken)
                   for node in state.nodes]
    return defrag.of_host('one', dep.Host(
        state, owned, {found.id: f'server {found.name}'
                       for found in servers}), servers)


def carry_out(case, host, answer):
    """Follow the batches; nobody ever gets what another one owns."""
    at = {name: [dict(pins) for _node, pins in ask.today.cells]
          for name, ask in host.movers.items()}
    others = {p for node in host.base.nodes for p in node.taken}
    moved = set()
    for batch in answer.batches:
        for name in batch:
            case.assertNotIn(name, moved)
            moved.add(name)
            at[name] = [dict(cell.pins) for cell in
                        answer.layout.spots[name].assignment.cells]
        owned = [p for cells in at.values() for pins in cells
                 for p in pins.values()]
        case.assertEqual(len(owned), len(set(owned)))
        case.assertFalse(others & set(owned))
    case.assertEqual(answer.layout.score[1], len(moved))


class Brute:
    """Every way in which movers and the wanted one could be put."""

    def __init__(self, host, wanted):
        self.host = host
        self.asks = [problem.Ask('wanted 1', (wanted,)), *host.movers.values()]
        self.free = {node.id: frozenset(node.free)
                     for node in host.base.nodes}
        self.cores = [frozenset(core) for node in host.base.nodes
                      for core in node.siblings]

    def best(self):
        ways = sorted(self._ways(0, {}), key=lambda way: way[0])
        for cost, spots in ways:
            movers = {n: s for n, s in spots.items() if n != 'wanted 1'}
            if order.order(self.host.base, self.host.movers,
                           movers) is not None:
                return cost
        return None

    def _right(self, spots):
        """Whether siblings are what the wanted one asks for."""
        if self.asks[0].shapes[0].policy != 'require':
            return True
        mine = {p for cell in spots['wanted 1'].assignment.cells
                for p in cell.pins.values()}
        others = {p for name, spot in spots.items() if name != 'wanted 1'
                  for cell in spot.assignment.cells
                  for p in cell.pins.values()}
        free = frozenset().union(*self.free.values()) - others
        return all(len(core & free) > 1 for core in self.cores
                   if len(core & mine) == 1)

    def _ways(self, number, spots):
        if number == len(self.asks):
            if not self._right(spots):
                return
            yield (sum(problem.moves(a, spots[a.name]) for a in self.asks),
                   sum(problem.memory_moved(a, spots[a.name])
                       for a in self.asks)), dict(spots)
            return
        ask = self.asks[number]
        taken = {p for spot in spots.values()
                 for cell in spot.assignment.cells
                 for p in cell.pins.values()}
        shape = ask.shapes[0]
        for nodes in itertools.permutations(self.free, len(shape.cells)):
            if ask.stays and nodes != ask.today.nodes:
                continue
            if ask.today and memory_order.why_not(ask.today.nodes, nodes):
                continue
            if any(cell.node not in (None, node)
                   for cell, node in zip(shape.cells, nodes)):
                continue
            sets = [itertools.combinations(sorted(self.free[n] - taken),
                                           cell.need)
                    for n, cell in zip(nodes, shape.cells)]
            for chosen in itertools.product(*sets):
                if shape.policy == 'require' and any(
                        sum(len(core & set(pcpus)) == 1
                            for core in self.cores) > 1
                        for pcpus in chosen):
                    continue
                cells = []
                for index, (n, cell, pcpus) in enumerate(zip(
                        nodes, shape.cells, chosen)):
                    was = (ask.today.cells[index][1] if ask.today else {})
                    # vCPUs whose pCPU is among them stay there.
                    pins = {vcpu: pcpu for vcpu, pcpu in was.items()
                            if pcpu in pcpus}
                    pins.update(zip(
                        [v for v in cell.vcpus if v not in pins],
                        [p for p in pcpus if p not in pins.values()]))
                    cells.append(problem.fit.CellAssignment(n, pins))
                spots[ask.name] = problem.Spot(
                    'one', 0, problem.fit.Assignment(tuple(cells)))
                yield from self._ways(number + 1, spots)
                del spots[ask.name]


class RandomTest(base.TestCase):

    def test_as_few_moves_as_can_be(self):
        moved = refused = 0
        for seed in range(30):
            rng = random.Random(seed)
            pcpus = list(range(8))
            rng.shuffle(pcpus)
            servers = []
            for number in range(rng.randint(1, 3)):
                node = rng.randrange(2)
                size = rng.choice([1, 1, 2])
                mine = [p for p in pcpus if p // 4 == node][:size]
                pcpus = [p for p in pcpus if p not in mine]
                if mine:
                    servers.append(server(
                        f'du-{number}', (node, mine),
                        ram=rng.choice([64, 128]), **(
                            {'kongming__node.0': str(node)}
                            if rng.random() < 0.2 else {})))
            strangers = pcpus[:rng.randrange(3)]
            host = host_of(servers, strangers=strangers)
            wanted = test_solve.asked(*rng.choice([(2,), (3,), (4,), (2, 2)]),
                                      policy=rng.choice([None, 'require']))
            expected = Brute(host, wanted).best()
            for solver in test_solve.SOLVERS:
                answer = defrag.make(host, [wanted], test_solve.endless,
                                     solver)
                if expected is None:
                    self.assertIsNone(answer.layout, (seed, solver))
                    refused += 1
                    continue
                self.assertEqual((0, *expected), answer.layout.score,
                                 (seed, solver))
                carry_out(self, host, answer)
                moved += expected[0] > 0
        # Of both there were enough for this to mean something.
        self.assertGreater(moved, 10)
        self.assertGreater(refused, 5)


class DefragTest(base.TestCase):

    def make(self, servers, wanted, **kwargs):
        host = host_of(servers, **kwargs)
        answers = [defrag.make(host, [wanted], test_solve.endless, solver)
                   for solver in test_solve.SOLVERS]
        costs = {answer.layout and answer.layout.score for answer in answers}
        self.assertEqual(1, len(costs))
        if answers[0].layout:
            for answer in answers:
                carry_out(self, host, answer)
        return answers[1]

    def test_nothing_needs_to_move(self):
        answer = self.make([server('a', (0, [0]))], test_solve.asked(4))
        self.assertEqual((0, 0, 0), answer.layout.score)
        self.assertEqual((), answer.batches)

    def test_the_smaller_memory_moves(self):
        answer = self.make([server('a', (0, [0]), ram=128),
                            server('b', (1, [4]), ram=64)],
                           test_solve.asked(4))
        self.assertEqual((0, 1, 64), answer.layout.score)
        self.assertEqual((('b',),), answer.batches)

    def test_within_a_node_no_memory_moves(self):
        answer = self.make(
            [server('a', (0, [0])), server('b', (0, [2])),
             server('c', (1, [4, 6]))], test_solve.asked(2, policy='require'))
        self.assertEqual((0, 1, 0), answer.layout.score)

    def test_a_named_pcpu_is_cleared(self):
        answer = self.make([server('a', (0, [1]))],
                           test_solve.asked(1, pin_0='0:1'))
        self.assertEqual((0, 1, 0), answer.layout.score)

    def test_cells_go_to_other_nodes_in_their_order(self):
        servers = [server('a', (0, [0]), (1, [4]))]
        for nodes in (3, 2):
            answer = self.make(servers, test_solve.asked(4, node_0='1'),
                               state=test_solve.host(nodes=nodes))
            # Of two nodes, cell 1 could go to the one below cell 0's only.
            self.assertEqual(nodes > 2, answer.layout is not None)
            if answer.layout:
                self.assertEqual((0, 1, 32), answer.layout.score)
                self.assertEqual((0, 2), answer.layout.spots['a'].nodes)

    def test_together_where_each_waits_for_the_other(self):
        # 0-1 and 4-5 change places by the one pCPU that is free.
        servers = [server('a', (0, [0])), server('b', (0, [1]))]
        asks = host_of(servers).movers
        goals = {name: problem.Spot('one', 0, problem.fit.Assignment((
            problem.fit.CellAssignment(0, {0: pcpu}),)))
            for name, pcpu in (('a', 1), ('b', 0))}
        for strangers, expected in (([], [('a', 'b')]), ([2, 3], None)):
            host = host_of(servers, strangers=strangers)
            self.assertEqual(expected, order.order(
                host.base, asks, goals))

    def test_who_stays_and_why(self):
        servers = [
            server('a', (0, [0]), **{'kongming:grant': 'profile'}),
            server('b', (0, [1]), **{'kongming:pin.0': '0:1'}),
            server('c', (0, [2]), status='ERROR'),
            server('d', (0, [3]),
                   **{'hw:emulator_threads_policy': 'isolate'}),
            server('e', (1, [4]),
                   **{'kongming:profile.night.pin.0': '0~v0'}),
            server('f', (1, [5]), **{'kongming:iothread.1': '5'}),
            server('g', (1, [6]), **{'hw:cpu_policy': 'shared'})]
        host = host_of(servers)
        self.assertEqual({'e'}, set(host.movers))
        self.assertEqual([
            ('a', "its flavor grants no 'template' (kongming:grant)"),
            ('b', 'its template names pCPU 1, which it owns'),
            ('c', 'it is ERROR'),
            ('d', 'it has a pCPU for its emulator threads that Nova does '
                  'not report'),
            ('f', 'its template names pCPU 5, which it owns'),
            ('g', 'its cells are not those of its flavor')], [*host.fixed])

    def test_the_largest_guest(self):
        host = host_of([server('a', (0, [0])), server('b', (1, [4])),
                        server('c', (0, [2]))])
        answer = defrag.largest(host, test_solve.endless)
        self.assertEqual((0, 1, 64), answer.layout.score)
        after = answer.after
        self.assertEqual(4, max(node.n_free for node in after.nodes))
        full = host_of([], strangers=range(8))
        self.assertEqual((), defrag.largest(
            full, test_solve.endless).batches)

    def test_figures(self):
        servers = [server('a', (0, [0])), server('b', (0, [1])),
                   server('c', (0, [2]), (1, [4]))]
        host = host_of(servers)
        owners = {'one': {s.id: [(n, list(p.values())) for n, p in s.cells]
                          for s in servers}}
        self.assertEqual((4, 2, 1, 1, None), figures.of(
            {'one': host.state}, owners))
        self.assertEqual((4, 1, 1, 1, 1), figures.of(
            {'one': host.state}, owners, test_solve.asked(3)))
        shared = demand.Demand(guest.Guest((guest.Cell(
            frozenset(), frozenset(), 0),)), template.Template())
        self.assertEqual(10000, figures.count(host.state, shared))
