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

"""Layouts of small clouds, against all there are."""

import functools
import itertools
import random
from unittest import mock

from kongming import exception
from kongming.fit import demand
from kongming.host import usage
from kongming.solver import bound
from kongming.solver import optimum
from kongming.solver import problem as problem_mod
from kongming.solver import solve as solve_mod
from kongming.template import guest
from kongming.template import template
from tests import base

NODES, PCPUS = 2, 4
SOLVERS = ('search', 'optimum')


def endless():
    return 60.0


def ending():
    """Time that is up after a while."""
    left = [200]

    def clock():
        left[0] -= 1
        return left[0] / 10
    return clock


def host(taken=(), nodes=NODES, pcpus=PCPUS, memory=1024, threads=2):
    """Cores of two threads that lie beside each other."""
    return usage.HostState(
        usage.NodeState(
            node, frozenset(ids), frozenset(taken) & frozenset(ids),
            siblings=[set(ids[i:i + threads])
                      for i in range(0, pcpus, threads)],
            memory_mib=memory,
            pages=[usage.Pages(4, memory * 256, memory * 256)])
        for node in range(nodes)
        for ids in [range(node * pcpus, (node + 1) * pcpus)])


def asked(*needs, policy=None, memory=64, **desired):
    """:param needs: of each cell"""
    cells, first = [], 0
    for need in needs:
        cells.append(guest.Cell(frozenset(range(first, first + need)),
                                frozenset(), memory))
        first += need
    return demand.Demand(
        guest.Guest(tuple(cells), policy),
        template.decode({'kongming:' + key.replace('_', '.'): value
                         for key, value in desired.items()}))


def check(problem, layout):
    """Whether nobody has what another one has, or what he did not ask for."""
    owned = {}
    groups = {}
    for name, spot in layout.spots.items():
        ask = problem.by_name[name]
        assert ask.may_be_on(spot.host), name
        shape = ask.shapes[spot.shape]
        assert len(set(spot.nodes)) == len(shape.cells)
        for cell, got in zip(shape.cells, spot.assignment.cells):
            node = problem.hosts[spot.host].node(got.node)
            assert tuple(sorted(got.pins)) == cell.vcpus
            assert cell.node in (None, got.node)
            for pcpu in {*got.pins.values(), *got.reserved}:
                assert pcpu in node.free, name
                assert (spot.host, pcpu) not in owned, name
                owned[spot.host, pcpu] = name
            if shape.policy == 'require':
                mine = set(got.pins.values())
                assert sum(len(core & mine) == 1
                           for core in node.siblings) <= 1
        if ask.near is not None:
            assert ask.near[spot.host] & set(spot.nodes)
        for group in ask.apart:
            assert groups.setdefault((group, spot.host), name) == name
    assert layout.score == problem_mod.score(problem, layout.spots)
    assert layout.bound <= layout.score


class Brute:
    """All layouts, pCPU by pCPU; knows nothing of the library's fitter."""

    def __init__(self, problem):
        self.problem = problem
        self.asks = sorted(problem.asks, key=lambda ask: ask.picky)
        self.free = {name: {node.id: frozenset(node.free)
                            for node in state.nodes}
                     for name, state in problem.hosts.items()}
        self.cores = {name: [frozenset(core) for node in state.nodes
                             for core in node.siblings]
                      for name, state in problem.hosts.items()}

    def best(self):
        self.known = {}
        start = tuple((name, frozenset().union(*nodes.values()))
                      for name, nodes in self.free.items())
        return self._best(0, start, frozenset())

    def _best(self, number, free, groups):
        """The least that can be added to (unplaced, cells)."""
        if number == len(self.asks):
            return 0, 0
        key = number, free, groups
        if key not in self.known:
            ask = self.asks[number]
            u, c = self._best(number + 1, free, groups)
            result = (u + 1, c)
            for (name, left), shape in itertools.product(free, ask.shapes):
                taken = {(group, name) for group in ask.apart}
                if not ask.may_be_on(name) or taken & groups:
                    continue
                for pcpus in self._ways(ask, name, left, shape):
                    rest = tuple((n, f - pcpus if n == name else f)
                                 for n, f in free)
                    u, c = self._best(number + 1, rest, groups | taken)
                    result = min(result, (u, c + len(shape.cells)))
            self.known[key] = result
        return self.known[key]

    def _ways(self, ask, name, left, shape):
        """Sets of pCPUs that it can have."""
        nodes = self.free[name]
        for way in itertools.permutations(nodes, len(shape.cells)):
            if any(cell.node not in (None, node)
                   for cell, node in zip(shape.cells, way)):
                continue
            if ask.near is not None and not ask.near[name] & set(way):
                continue
            parts = [self._sets(name, nodes[node] & left, cell, shape)
                     for cell, node in zip(shape.cells, way)]
            for chosen in itertools.product(*parts):
                yield frozenset().union(*chosen)

    def _sets(self, name, left, cell, shape):
        for pcpus in map(frozenset, itertools.combinations(
                sorted(left), cell.need)):
            if shape.policy == 'require':
                alone = [core for core in self.cores[name]
                         if len(core & pcpus) == 1]
                if len(alone) > 1 or any(
                        len(core & left) < 2 for core in alone):
                    continue
            yield pcpus


def some_cloud(rng):
    hosts = {name: host(rng.sample(range(8), rng.randrange(4)))
             for name in ('one', 'two')[:rng.randint(1, 2)]}
    asks = []
    for number in range(rng.randint(2, 5)):
        needs = rng.choice([(1,), (2,), (3,), (4,), (2, 2), (1, 2), (3, 1)])
        shapes = [asked(*needs, policy=rng.choice(
            [None, None, 'prefer', 'require']))]
        if needs == (4,) and rng.random() < 0.5:
            shapes.append(asked(2, 2))
        if rng.random() < 0.2:
            shapes = [asked(*needs, node_0=str(rng.randrange(2)))]
        if rng.random() < 0.15:
            shapes = [asked(1, pin_0=f'0:{rng.randrange(8)}')]
            if rng.random() < 0.5:
                shapes = [asked(2, pin_0=f'0:{rng.randrange(8)}')]
        asks.append(problem_mod.Ask(
            f'du-{number}', tuple(shapes),
            hosts=frozenset(['one']) if rng.random() < 0.2 else None,
            apart=frozenset(['a']) if rng.random() < 0.3 else frozenset(),
            near={name: frozenset([rng.randrange(2)]) for name in hosts}
            if rng.random() < 0.2 else None))
    return problem_mod.Problem(hosts, tuple(asks))


class BruteAsks(Brute):
    def _sets(self, name, left, cell, shape):
        named = {vcpu: pcpu for vcpu, pcpu in (
            (pin.vcpus[0].low, pin.targets[0].low)
            for pin in shape.template.pins.get(cell.number, ()))}
        for pcpus in super()._sets(name, left, cell, shape):
            if pcpus.issuperset(named.values()):
                yield pcpus


class NovaTest(base.TestCase):
    """Nova's own fitter takes cells that differ for one another."""

    def solve(self, hosts, solver, **asks):
        problem = problem_mod.Problem(
            hosts, tuple(problem_mod.Ask(name, shapes)
                         for name, shapes in asks.items()))
        layout = solve_mod.solve(problem, endless, solver)
        check(problem, layout)
        return problem, layout

    def test_another_host(self):
        """A first host takes both, but Nova boots none of them there."""
        for solver in (*SOLVERS, 'greedy'):
            _problem, layout = self.solve({
                'one': host((0, 8), 3, threads=1),
                'two': host((), 3, threads=1)}, solver, a=(asked(1, 4),))
            self.assertEqual('two', layout.spots['a'].host)

    def test_another_shape(self):
        for solver in (*SOLVERS, 'greedy'):
            _problem, layout = self.solve(
                {'one': host((0, 8), 3, threads=1)}, solver,
                a=(asked(1, 4), asked(3, 3)))
            self.assertEqual(1, layout.spots['a'].shape)

    def test_nowhere(self):
        for solver in (*SOLVERS, 'greedy'):
            problem, layout = self.solve(
                {'one': host((0, 8), 3, threads=1)}, solver,
                a=(asked(1, 4),), b=(asked(1),))
            self.assertEqual(['b'], [*layout.spots])
            result = problem_mod.Board(problem).fits(
                problem.by_name['a'], 'one', 0)
            self.assertTrue(result.by_nova)

    def test_one_beside_the_other(self):
        """It boots when another one has come, whatever the layout."""
        hosts = {'one': host((4, 5, 6, 12, 13, 14), 4, threads=1)}
        for solver in (*SOLVERS, 'greedy'):
            _problem, layout = self.solve(hosts, solver,
                                          a=(asked(1, 4, 2),))
            self.assertEqual({}, layout.spots)
        for solver in SOLVERS:
            _problem, layout = self.solve(
                hosts, solver, a=(asked(1, 4, 2),), b=(asked(2),))
            self.assertEqual({'a', 'b'}, {*layout.spots})

    def test_what_floats_is_limited(self):
        shared = usage.HostState([usage.NodeState(
            0, frozenset(), frozenset(), shared=frozenset(range(4)),
            memory_mib=8192)])
        floating = demand.Demand(guest.Guest((guest.Cell(
            frozenset(), frozenset(range(4)), 64),)), template.Template())
        for solver in (*SOLVERS, 'greedy'):
            layout = solve_mod.solve(problem_mod.Problem(
                {'one': shared}, tuple(problem_mod.Ask(name, (floating,))
                                       for name in 'abc'),
                limits={'one': usage.Limits(2.0, 1.0)}), endless, solver)
            self.assertEqual(2, len(layout.spots))


class RandomTest(base.TestCase):

    def test_as_good_as_all_there_are(self):
        for seed in range(40):
            problem = some_cloud(random.Random(seed))
            wanted = BruteAsks(problem).best()
            for solver in SOLVERS:
                layout = solve_mod.solve(problem, endless, solver)
                check(problem, layout)
                self.assertEqual(wanted, layout.score[:2], (seed, solver))
                self.assertLessEqual(
                    bound.bound(problem)[:2], wanted, seed)
                self.assertTrue(layout.proven, (seed, solver))

    def test_both_agree_on_every_level(self):
        for levels in (problem_mod.STYLES['pack'],
                       problem_mod.STYLES['spread'],
                       ('unplaced', 'cells', 'shared'),
                       ('unplaced', 'shared', 'hosts')):
            for seed in range(8):
                problem = some_cloud(random.Random(seed))
                problem = problem_mod.Problem(problem.hosts, problem.asks,
                                              levels)
                one, two = (solve_mod.solve(problem, endless, solver)
                            for solver in SOLVERS)
                check(problem, one)
                check(problem, two)
                self.assertEqual(one.score, two.score, (levels, seed))

    def test_in_groups(self):
        for seed in range(8):
            problem = some_cloud(random.Random(seed))
            layout = solve_mod.solve(problem, ending(), most=0)
            check(problem, layout)


class PlanTest(base.TestCase):

    def solve(self, hosts, asks, levels=problem_mod.STYLES['pack'], **kwargs):
        problem = problem_mod.Problem(hosts, tuple(asks), levels)
        layouts = [solve_mod.solve(problem, endless, solver, **kwargs)
                   for solver in SOLVERS]
        for layout in layouts:
            check(problem, layout)
        self.assertEqual(layouts[0].score, layouts[1].score)
        return layouts[1]

    def test_no_host_no_server(self):
        for hosts, asks in (({}, ['a']), ({'one': host()}, []), ({}, [])):
            layout = solve_mod.solve(problem_mod.Problem(hosts, tuple(
                problem_mod.Ask(name, (asked(2),)) for name in asks)), endless)
            self.assertEqual(({}, len(asks)),
                             (layout.spots, layout.score[0]))

    def test_what_greedy_gets_wrong(self):
        """3+3+2 on two nodes of four: the 2 must not go first to a 3."""
        asks = [problem_mod.Ask(name, (asked(need),)) for name, need in (
            ('a', 2), ('b', 2), ('c', 3), ('d', 1))]
        layout = self.solve({'one': host()}, asks)
        self.assertEqual((0, 4, 1), layout.score)

    def test_one_node_rather_than_two(self):
        ask = problem_mod.Ask('a', (asked(4), asked(2, 2)))
        layout = self.solve({'one': host()}, [ask])
        self.assertEqual(0, layout.spots['a'].shape)
        layout = self.solve({'one': host([0, 4])}, [ask])
        self.assertEqual(1, layout.spots['a'].shape)
        self.assertEqual((0, 2, 1), layout.score)

    def test_pack_and_spread(self):
        hosts = {'one': host(), 'two': host()}
        asks = [problem_mod.Ask(name, (asked(2),)) for name in 'abcd']
        self.assertEqual((0, 4, 1), self.solve(hosts, asks).score)
        spread = self.solve(hosts, asks, problem_mod.STYLES['spread'])
        self.assertEqual((0, 4, 500), spread.score)

    def test_cores_of_ones_own(self):
        asks = [problem_mod.Ask(name, (asked(need),)) for name, need in (
            ('a', 1), ('b', 1), ('c', 3), ('d', 1))]
        hosts = {'one': host(nodes=1, pcpus=8)}
        for levels, shared in ((('unplaced', 'shared'), 1),):
            self.assertEqual((0, shared),
                             self.solve(hosts, asks, levels).score)
        self.assertEqual((0, 0), self.solve(
            hosts, asks[:3], ('unplaced', 'shared')).score)

    def test_one_l3_first(self):
        node = usage.NodeState(
            0, frozenset(range(8)), frozenset({0, 1}),
            siblings=[{n, n + 1} for n in range(0, 8, 2)], memory_mib=1024,
            l3={n: n // 4 for n in range(8)})
        spot = self.solve({'one': usage.HostState([node])}, [
            problem_mod.Ask('a', (asked(4),))]).spots['a']
        self.assertEqual({4, 5, 6, 7}, set(
            spot.assignment.cells[0].pins.values()))

    def test_reserved_and_isolated(self):
        state = host(nodes=1, threads=1)
        state.nodes[0] = usage.NodeState(
            0, frozenset(range(4)), siblings=[{n} for n in range(4)],
            memory_mib=1024, never=frozenset({3}))
        layout = self.solve({'one': state}, [
            problem_mod.Ask('a', (asked(2, policy='isolate'),)),
            problem_mod.Ask('b', (asked(2),))])
        self.assertEqual((1, 1, 1), layout.score)

    def test_memory_counts(self):
        for page in (None, 2048, -2, -3):
            node = usage.NodeState(
                0, frozenset(range(8)), siblings=[{n} for n in range(8)],
                memory_mib=1024, pages=[usage.Pages(4, 131072, 131072),
                                        usage.Pages(2048, 256, 256)])
            asks = [problem_mod.Ask(name, (demand.Demand(
                guest.Guest((guest.Cell(
                    frozenset([0]), frozenset(), 300, page),)),
                template.Template()),)) for name in 'abc']
            layout = self.solve({'one': usage.HostState([node])}, asks)
            self.assertEqual(1 if page == -3 else 2, layout.score[0], page)

    def test_time_is_up(self):
        asks = [problem_mod.Ask(f'a{n}', (asked(n % 3 + 1),))
                for n in range(30)]
        problem = problem_mod.Problem({f'h{n}': host() for n in range(6)},
                                      tuple(asks))
        for solver in SOLVERS:
            layout = solve_mod.solve(problem, lambda: 0.0, solver)
            check(problem, layout)
            self.assertTrue(layout.spots)

    def test_without_or_tools(self):
        problem = problem_mod.Problem({'one': host()}, tuple(
            problem_mod.Ask(name, (asked(need),)) for name, need in (
                ('a', 3), ('b', 2), ('c', 2), ('d', 2))))
        with mock.patch.object(optimum, 'cp_model',
                               side_effect=optimum.Missing('no wheel')):
            self.assertEqual('search', solve_mod.solve(
                problem, endless).solver)
            exc = self.assertRaises(exception.NoSolver, solve_mod.solve,
                                    problem, endless, 'optimum')
        self.assertIn('no wheel', str(exc))
        self.assertIn('pip install ortools', str(exc))
        self.assertRaises(optimum.Missing, functools.partial(
            mock.patch.dict('sys.modules', {'ortools.sat.python': None})(
                optimum.cp_model)))
