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

import itertools
import random

from kongming.fit import demand
from kongming.fit import fit
from kongming.fit import matching
from kongming.host import usage
from kongming.template import grammar
from kongming.template import guest
from kongming.template import template
from tests import base


def node(number, dedicated, taken=(), threads=2, **fields):
    """A node whose sibling pCPUs follow one another."""
    pcpus = sorted(dedicated)
    cores = [pcpus[i:i + threads] for i in range(0, len(pcpus), threads)]
    fields.setdefault('memory_mib', 4096)
    return usage.NodeState(number, frozenset(dedicated), frozenset(taken),
                           siblings=cores, **fields)


def server(*sizes, policy=None, memory=512, **fields):
    """A guest whose cells have so many dedicated vCPUs each."""
    cells, first = [], 0
    for size in sizes:
        cells.append(guest.Cell(frozenset(range(first, first + size)),
                                frozenset(), memory))
        first += size
    return guest.Guest(tuple(cells), policy, **fields)


def desired(nodes=None, **pins):
    """``pin0='0:4'`` is the pin map of cell 0."""
    return template.Template(nodes or {}, {
        int(key[3:]): grammar.parse_pins(value)
        for key, value in pins.items()})


def try_fit(host, asked, wanted, **kwargs):
    return fit.fit(host, demand.Demand(asked, wanted), **kwargs)


TWO = usage.HostState([node(0, range(0, 8)), node(1, range(8, 16))])


class FitTest(base.TestCase):

    def refused(self, words, *args, **kwargs):
        result = try_fit(*args, **kwargs)
        self.assertFalse(result)
        self.assertIn(words, str(result))

    def test_exact_pins_and_node(self):
        result = try_fit(TWO, server(2), desired({0: 1}, pin0='0:15 1:9'))
        self.assertEqual((fit.CellAssignment(1, {0: 15, 1: 9}),),
                         result.cells)

    def test_pins_choose_the_node(self):
        result = try_fit(TWO, server(2, 2), desired(pin0='0:15 1:9'))
        self.assertEqual([1, 0], [cell.node for cell in result.cells])

    def test_relative_addresses(self):
        result = try_fit(TWO, server(3), desired(pin0='0-2:n1c1-3t1'))
        self.assertEqual({0: 11, 1: 13, 2: 15}, result.cells[0].pins)

    def test_partly_exact_packs_the_rest_on_whole_cores(self):
        result = try_fit(TWO, server(3), desired({0: 0}, pin0='2:0'))
        self.assertEqual({0: 2, 1: 3, 2: 0}, result.cells[0].pins)

    def test_odd_rest_goes_to_a_broken_core(self):
        host = usage.HostState([node(0, range(8), taken={4})])
        self.assertEqual({0: 0, 1: 1, 2: 5},
                         try_fit(host, server(3), desired()).cells[0].pins)

    def test_emulator_gets_a_pcpu_on_the_node_of_cell_0(self):
        result = try_fit(TWO, server(2, emulator_isolated=True),
                         desired({0: 1}, pin0='0:8 1:9'))
        self.assertEqual(frozenset({10}), result.cells[0].reserved)

    def test_owner_is_named(self):
        host = usage.HostState([node(0, range(4), taken={2},
                                     owners={2: 'server du-1'})])
        self.refused('node 0: pCPU 2 is owned by server du-1',
                     host, server(1), desired(pin0='0:2'))

    def test_pcpu_elsewhere(self):
        self.refused('pCPU 9 (for vCPU 0) is not here, it is on node 1',
                     TWO, server(1), desired({0: 0}, pin0='0:9'))

    def test_pcpu_nowhere(self):
        self.refused('Nova may use no such pCPU', TWO, server(1),
                     desired({0: 0}, pin0='0:99'))

    def test_pcpu_of_the_shared_set(self):
        host = usage.HostState([node(0, {2, 3}, shared=frozenset({0, 1}))])
        self.refused('pCPU 0 is in cpu_shared_set', host, server(1),
                     desired(pin0='0:0'))

    def test_no_such_node(self):
        self.refused('node 7: the host has no such node', TWO, server(1),
                     desired({0: 7}))

    def test_no_such_core(self):
        self.refused('node 1 has 4 core(s)', TWO, server(1),
                     desired(pin0='0:n1c4t0'))

    def test_cell_that_the_guest_has_not(self):
        self.refused('cell 1: the guest has 1 NUMA cell(s)', TWO, server(1),
                     desired({1: 0}))

    def test_vcpu_beyond_the_flavor(self):
        self.refused("vCPU 4 is beyond the flavor's 2 vCPU(s)", TWO,
                     server(2), desired(pin0='4:1'))

    def test_vcpu_of_another_cell(self):
        self.refused('vCPU 1 is in another cell', TWO, server(1, 1),
                     desired(pin0='1:1'))

    def test_shared_vcpu_owns_nothing(self):
        shared = guest.Guest((guest.Cell(frozenset(), frozenset({0}), 64),))
        self.refused('vCPU 0 is not dedicated', TWO, shared,
                     desired(pin0='0:1'))

    def test_one_pcpu_by_two_names(self):
        self.refused('vCPUs 0 and 1 are both pinned to pCPU 2', TWO,
                     server(2), desired(pin0='0:2 1:n0c1t0'))

    def test_memory(self):
        self.refused('8192 MiB asked for, 4096 MiB free', TWO,
                     server(1, memory=8192), desired())

    def test_pages(self):
        pages = [usage.Pages(4, 1024, 1024), usage.Pages(2048, 8, 3)]
        host = usage.HostState([node(0, range(4), pages=pages)])
        cell = guest.Cell(frozenset({0}), frozenset(), 6, page_kib=2048)
        result = try_fit(host, guest.Guest((cell,)), desired())
        self.assertEqual(2048, result.cells[0].page_kib)
        cell = guest.Cell(frozenset({0}), frozenset(), 8, page_kib=2048)
        self.refused('free are 3 of 2048 KiB', host, guest.Guest((cell,)),
                     desired())

    def test_granted_nodes_bind(self):
        result = try_fit(TWO, server(1), desired(), allowed={0: {1}})
        self.assertEqual(1, result.cells[0].node)
        self.refused('not among the nodes that are left to it', TWO,
                     server(1), desired({0: 0}), allowed={0: {1}})

    def test_isolate_wants_cores_of_its_own(self):
        host = usage.HostState([node(0, range(4), threads=1)])
        result = try_fit(host, server(2, policy='isolate'), desired())
        self.assertEqual({0: 0, 1: 1}, result.cells[0].pins)
        self.refused('isolate needs pCPUs without siblings', TWO,
                     server(2, policy='isolate'), desired())

    def test_require_wants_siblings(self):
        host = usage.HostState([node(0, range(8), taken={0, 2, 4})])
        self.refused('require finds no sibling', host,
                     server(4, policy='require'), desired())
        result = try_fit(host, server(3, policy='require'),
                         desired())
        self.assertFalse(result)
        result = try_fit(host, server(2, policy='require'), desired())
        self.assertEqual({0: 6, 1: 7}, result.cells[0].pins)

    def test_cells_that_want_the_same_node(self):
        host = usage.HostState([node(0, range(4)), node(1, range(4, 5))])
        self.refused('cells 0, 1 fit on node(s) 0 only', host, server(2, 2),
                     desired())

    def test_last_of_unequal_cells(self):
        # nova.virt.hardware says "fits" here and leaves cell 3 unpinned.
        host = usage.HostState([node(n, range(4 * n, 4 * n + 4))
                                for n in range(4)])
        self.refused('5 dedicated pCPU(s) asked for', host,
                     server(4, 4, 4, 5), desired())


class ThreadsTest(base.TestCase):
    """Floats, emulator and I/O threads, profiles."""

    def setUp(self):
        super().setUp()
        self.host = usage.HostState([
            node(0, range(2, 8), shared=frozenset({0, 1})),
            node(1, range(10, 16), shared=frozenset({8, 9}))])
        self.mixed = guest.Guest((guest.Cell(
            frozenset({0, 1}), frozenset({2, 3}), 64),))

    def fit(self, asked=None, **specs):
        return fit.fit(self.host, demand.Demand(
            asked or self.mixed, template.decode({
                f'kongming:{key.replace("_", ".")}': value
                for key, value in specs.items()})))

    def refused(self, words, asked=None, /, **specs):
        result = self.fit(asked, **specs)
        self.assertFalse(result)
        self.assertIn(words, str(result))

    def test_shared_vcpus_float_over_the_shared_set(self):
        cell, = self.fit(pin_0='0:2 2-3~0-1,8').cells
        self.assertEqual({2: frozenset({0, 1, 8}), 3: frozenset({0, 1, 8})},
                         cell.floats)
        self.assertEqual(2, cell.pins[0])

    def test_float_outside_the_shared_set(self):
        self.refused('floats over cpu_shared_set: pCPU 4 of this host',
                     pin_0='2~0,4')

    def test_dedicated_vcpu_does_not_float(self):
        self.refused('vCPU 0 is dedicated and owns one pCPU', pin_0='0~2-3')

    def test_shared_overcommit(self):
        result = fit.fit(self.host, demand.Demand(self.mixed, desired()),
                         limits=usage.Limits(0.5, 1.0))
        self.assertIn('cpu_allocation_ratio 0.5', str(result))

    def test_what_vcpus_own(self):
        self.assertTrue(self.fit(emulator='v0', iothread_1='v1,8',
                                 profile_n_pin_0='0-3~v0-1,0'))
        for specs in ({'emulator': 'v2'}, {'iothread_1': 'v9'},
                      {'profile_n_pin_0': '0-1~v1-2'},
                      {'profile_n_emulator': 'v3'}):
            self.refused('is not dedicated and owns no pCPU', **specs)

    def test_borrow_without_a_shared_vcpu(self):
        self.assertTrue(self.fit(borrow='node'))
        self.refused('no vCPU of the server is shared', server(2),
                     borrow='node')

    def test_balance_without_cells(self):
        self.assertTrue(self.fit(balance='node'))
        self.refused('balance: the server has no NUMA cells', server(),
                     balance='node')

    def test_emulator_on_what_is_owned_or_shared(self):
        self.assertTrue(self.fit(pin_0='0:2', emulator='0,2'))
        self.refused('emulator: neither pinned by this template nor in '
                     'cpu_shared_set: pCPU 3', pin_0='0:2', emulator='3')
        self.refused('set hw:emulator_threads_policy to isolate',
                     emulator='own')

    def test_emulator_that_owns_a_named_pcpu(self):
        own = self.mixed._replace(emulator_isolated=True)
        cell, = self.fit(own, emulator='13').cells
        self.assertEqual((1, frozenset({13})), (cell.node, cell.reserved))
        self.assertNotIn(13, cell.pins.values())
        self.assertIn('name exactly one', str(self.fit(own,
                                                       emulator='12-13')))
        self.assertIn('is pinned to vCPU 0', str(self.fit(
            own, pin_0='0:13', emulator='13')))

    def test_iothreads(self):
        self.assertTrue(self.fit(iothread_1='shared', iothread_2='8-9'))
        self.refused('iothread.1: neither', iothread_1='12')

    def test_profile_stays_within_what_is_owned_and_shared(self):
        self.assertTrue(self.fit(pin_0='0:2 1:3',
                                 profile_night_pin_0='0-1~2,8'))
        self.refused('profile night: neither', pin_0='0:2 1:3',
                     profile_night_pin_0='0-1~4')
        self.refused('profile night, cell 0: vCPU 9 is beyond',
                     profile_night_pin_0='9~0')

    def test_tuning_of_a_vcpu_that_is_not_there(self):
        self.refused('qos: vCPU 4 is beyond', qos='4:weight=9')
        self.refused('sched: vCPU 4 is beyond', sched='4:idle')

    def test_cells_of_one_l3_first(self):
        l3 = {p: p // 4 for p in range(16)}
        host = usage.HostState([usage.NodeState(
            0, frozenset(range(16)), frozenset({0}), l3=l3,
            siblings=[{p, p + 1} for p in range(0, 16, 2)],
            memory_mib=1024)])
        result = fit.fit(host, demand.Demand(server(4), desired()))
        self.assertEqual({4, 5, 6, 7}, set(result.cells[0].pins.values()))


class BruteForceTest(base.TestCase):
    """No wrong fit and no false refusal, on small random hosts."""

    def exists(self, host, asked, template_):
        """Whether any choice of nodes and pCPUs does, by trying all."""
        try:
            exact = demand.resolve(
                host, demand.Demand(asked, template_)).exact
        except demand.Unfit:
            return False
        for nodes in itertools.permutations(host.nodes, len(asked.cells)):
            if all(self.cell_goes(*pair, asked.thread_policy, fixed,
                                  template_.nodes.get(number))
                   for number, (pair, fixed) in enumerate(
                       zip(zip(asked.cells, nodes), exact))):
                return True
        return False

    def cell_goes(self, cell, node_, policy, exact, wanted):
        if wanted not in (None, node_.id):
            return False
        if cell.memory_mib > node_.memory_mib - node_.memory_used_mib:
            return False
        vcpus = sorted(cell.dedicated)
        free = sorted(node_.dedicated - node_.taken)
        return any(
            all(exact.get(v, p) == p for v, p in zip(vcpus, pcpus))
            and self.policy_holds(node_, set(pcpus), policy)
            for pcpus in itertools.permutations(free, len(vcpus)))

    def policy_holds(self, node_, pcpus, policy):
        cores = [set(core) for core in node_.siblings]
        threads = max(map(len, cores), default=1)
        if policy == 'isolate':
            return threads == 1
        if policy == 'require':
            alone = [core for core in cores if len(core & pcpus) == 1]
            return threads > 1 and len(alone) <= 1 and all(
                len(core - (node_.taken - pcpus)) > 1 for core in alone)
        return True

    def check_fit(self, host, asked, template_, result):
        exact = demand.resolve(
            host, demand.Demand(asked, template_)).exact
        self.assertEqual(len({c.node for c in result.cells}),
                         len(result.cells))
        for number, (cell, chosen) in enumerate(
                zip(asked.cells, result.cells)):
            where = host.node(chosen.node)
            self.assertEqual(cell.dedicated, chosen.pins.keys())
            self.assertEqual(len(chosen.pins),
                             len(set(chosen.pins.values())))
            self.assertTrue(set(chosen.pins.values())
                            <= where.dedicated - where.taken)
            self.assertTrue(exact[number].items() <= chosen.pins.items())
            self.assertIn(template_.nodes.get(number, chosen.node),
                          (chosen.node,))
            self.assertTrue(self.policy_holds(
                where, set(chosen.pins.values()), asked.thread_policy))

    def test_random(self):
        rng = random.Random(20261122)
        found = 0
        for _ in range(3000):
            threads = rng.choice((1, 2, 4))
            count = rng.randint(1, 3)
            size = 4
            nodes = []
            for number in range(count):
                pcpus = range(number * size, number * size + size)
                remaining = [p for p in pcpus if rng.random() < 0.9]
                cores = [[p for p in pcpus[i:i + threads] if p in remaining]
                         for i in range(0, size, threads)]
                nodes.append(usage.NodeState(
                    number, frozenset(remaining),
                    frozenset(p for p in remaining if rng.random() < 0.3),
                    siblings=cores, memory_mib=rng.choice((256, 1024))))
            host = usage.HostState(nodes)
            asked = server(*(rng.randint(1, 3)
                             for _ in range(rng.randint(1, count))),
                           policy=rng.choice((None, 'prefer', 'require',
                                              'isolate')), memory=256)
            template_ = self.random_template(rng, asked, count * size, count)
            result = try_fit(host, asked, template_)
            self.assertEqual(self.exists(host, asked, template_),
                             bool(result), (nodes, asked, template_, result))
            if result:
                found += 1
                self.check_fit(host, asked, template_, result)
        self.assertGreater(found, 500)

    def random_template(self, rng, asked, pcpus, nodes):
        pins = {}
        names = rng.sample(range(pcpus), pcpus)
        for number, cell in enumerate(asked.cells):
            entries = [f'{v}:{names.pop()}' for v in cell.dedicated
                       if names and rng.random() < 0.25]
            if entries:
                pins[number] = grammar.parse_pins(' '.join(entries))
        return template.Template(
            {n: rng.randrange(nodes) for n in range(len(asked.cells))
             if rng.random() < 0.2}, pins)


class CellsTest(base.TestCase):
    """Cells of which one asks for something else than the others."""

    def test_a_cell_without_dedicated_vcpus(self):
        """Nova grants it require beside two free siblings, isolate never."""
        host = usage.HostState([node(0, range(2, 8), shared=frozenset({0}))])
        asked = guest.Guest((guest.Cell(
            frozenset(), frozenset({0}), 512),), 'require')
        result = try_fit(host, asked, template.Template())
        self.assertTrue(result, str(result))
        self.assertEqual({}, result.cells[0].pins)
        single = usage.HostState([node(0, range(2, 8), threads=1,
                                       shared=frozenset({0}))])
        self.assertIn('to no cell without dedicated vCPUs', str(try_fit(
            single, asked._replace(thread_policy='isolate'),
            template.Template())))

    def test_cells_of_one_size_differ_by_emulator_threads(self):
        """Cell 0 owns 1 + 1 pCPUs, cell 1 needs two sibling threads."""
        asked = guest.Guest((
            guest.Cell(frozenset({0}), frozenset(), 512),
            guest.Cell(frozenset({1, 2}), frozenset(), 512)),
            'require', True)
        self.assertEqual([0, 1], demand.Demand(
            asked, template.Template()).alike)
        host = usage.HostState([node(0, range(4)), node(1, range(4, 8))])
        self.assertTrue(try_fit(host, asked, template.Template()))


class MatchTest(base.TestCase):

    def test_random_against_permutations(self):
        rng = random.Random(1)
        for _ in range(2000):
            size = rng.randint(1, 5)
            options = [[n for n in range(size) if rng.random() < 0.5]
                       for _ in range(rng.randint(1, size))]
            possible = any(
                all(n in o for n, o in zip(nodes, options))
                for nodes in itertools.permutations(range(size),
                                                    len(options)))
            result = matching.match(options)
            if possible:
                self.assertEqual(len(options), len(set(result)))
                self.assertTrue(all(n in o for n, o in zip(result, options)))
            else:
                reach = {n for c in result.cells for n in options[c]}
                self.assertEqual(reach, set(result.nodes))
                self.assertLess(len(reach), len(result.cells))

    def test_cells_with_the_same_options_take_the_first_of_them(self):
        self.assertEqual([5, 7, 3], matching.match([[3, 7, 5, 1]] * 3))
        self.assertEqual([5, 7, 3], matching.match(
            [[3, 7, 5, 1], [3, 7, 5, 1, 9][:4], [3, 7, 5, 1]]))

    def test_sixteen_cells_that_can_not_be_matched(self):
        # Nova walks 16!/8! permutations of this.
        options = [list(range(15))] * 16
        self.assertEqual(16, len(matching.match(options).cells))


class CacheTest(base.TestCase):

    def test_what_is_left_of_it(self):
        """Where that is known, as from Placement."""
        nodes = [usage.NodeState(number, frozenset({2 * number}),
                                 memory_mib=1024) for number in (0, 1)]
        wanted = demand.Demand(
            guest.Guest((guest.Cell(frozenset({0}), frozenset(), 64),)),
            template.decode({'kongming:cache': '0:l3=20%,mb=50%'}))
        host = usage.HostState(nodes)
        self.assertTrue(fit.fit(host, wanted))
        for capacity, words in (
                ((0, 50, 10, True), '1 class(es) of service asked for, 0'),
                ((1, 19, 10, True), '20% of the L3 cache asked for, 19% '
                                    'free, of which 10% are the least'),
                ((1, 50, 25, True), 'of which 25% are the least'),
                ((1, 50, 10, False), 'bandwidth can not be limited here')):
            nodes[0].cache_capacity = nodes[1].cache_capacity = (
                usage.CacheCapacity(*capacity))
            self.assertIn(words, str(fit.fit(host, wanted)))
        nodes[1].cache_capacity = usage.CacheCapacity(1, 20, 20, True)
        self.assertEqual(1, fit.fit(host, wanted).cells[0].node)

    def test_needs_cells(self):
        wanted = demand.Demand(guest.Guest(()), template.decode(
            {'kongming:profile.x.cache': '0:mb=50%'}))
        self.assertEqual('profile x, cache: the server has no NUMA cells; '
                         'hw:numa_nodes or hw:cpu_policy makes some',
                         wanted.problem)
