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

"""The fitter on every named host."""

import collections
import itertools
import random

from kongming.fit import capacity
from kongming.fit import demand
from kongming.fit import fit
from kongming.host import usage
from kongming.template import guest
from kongming.template import template
from tests import base
from tests import machines

#: Of a guest cell, in MiB: little enough for every node that has memory.
MEMORY = 64
#: Random states of a host that are compared with brute force, and nodes of
#: each; time is short.
ROUNDS, NODES = 12, 4


def server(*sizes, policy=None, memory=MEMORY, page_kib=None):
    """A guest whose cells have so many dedicated vCPUs each."""
    cells, first = [], 0
    for size in sizes:
        cells.append(guest.Cell(frozenset(range(first, first + size)),
                                frozenset(), memory, page_kib))
        first += size
    return guest.Guest(tuple(cells), policy)


def try_fit(state, asked, **specs):
    return fit.fit(state, demand.Demand(asked, template.decode(
        {f'kongming:{key.replace("_", ".")}': value
         for key, value in specs.items()})))


def cores_of(machine, pcpus):
    """Core -> which of these pCPUs are in it."""
    found = collections.defaultdict(set)
    for pcpu in pcpus:
        found[machine.host().core_of(pcpu).pcpus].add(pcpu)
    return found


def small_memory(node):
    """What a guest without huge pages can have of a node, in MiB."""
    return node.smallest.free * node.smallest.size_kib // 1024


def with_memory(state):
    """The nodes that a guest with dedicated vCPUs can be on."""
    return [node for node in state.nodes
            if node.dedicated and small_memory(node) >= MEMORY]


class MachinesTest(base.TestCase):

    def refused(self, kind, result):
        """The fit failed, on each node for this reason.

        Or because the node has no CPUs.
        """
        self.assertFalse(result)
        kinds = {reason.kind for reason in result.reasons
                 if not reason.text.endswith(', 0 of 0 free')}
        self.assertEqual({kind}, kinds or {'count'}, str(result))

    def check_cell(self, machine, state, cell, got):
        """Each dedicated vCPU has a free pCPU of the cell's node."""
        pcpus = set(got.pins.values())
        node = state.node(got.node)
        self.assertEqual(cell.dedicated, set(got.pins))
        self.assertEqual(len(cell.dedicated), len(pcpus))
        self.assertLessEqual(pcpus, node.dedicated - node.taken)
        self.assertEqual({got.node}, {machine.host().node_of(pcpu).id
                                      for pcpu in pcpus})
        self.assertGreaterEqual(small_memory(node), cell.memory_mib)
        return pcpus


@machines.on_each
class CountTest(MachinesTest):
    """How many vCPUs fit, and on which pCPUs they are."""

    def test_each_vcpu_gets_a_pcpu_of_its_own_on_one_node(self, machine):
        state = machine.state()
        most = max(node.n_free for node in with_memory(state))
        for count in sorted({1, 2, most // 2, most - 1, most}):
            asked = server(count)
            result = try_fit(state, asked)
            self.assertTrue(result, (count, str(result)))
            self.check_cell(machine, state, asked.cells[0], result.cells[0])

    def test_one_vcpu_more_than_a_node_has_is_refused(self, machine):
        state = machine.state()
        most = max(node.n_free for node in state.nodes)
        result = try_fit(state, server(most + 1))
        self.refused('count', result)
        self.assertIn(f'{most + 1} dedicated pCPU(s) asked for, {most} of '
                      f'{most} free', str(result))

    def test_what_others_own_is_left_alone(self, machine):
        rng = random.Random(machine.name)
        pcpus = sorted(machine.host().pcpus - machine.first_cores())
        owners = {pcpu: f'server {pcpu % 7}'
                  for pcpu in rng.sample(pcpus, len(pcpus) // 2)}
        state = machine.state(owners=owners)
        for node in with_memory(state):
            if node.free:
                asked = server(len(node.free))
                result = try_fit(state, asked, node_0=str(node.id))
                self.assertEqual(node.free, self.check_cell(
                    machine, state, asked.cells[0], result.cells[0]))
            for pcpu in sorted(node.taken)[:1]:
                self.assertEqual(
                    f'node {node.id}: pCPU {pcpu} is owned by '
                    f'{owners[pcpu]}', str(try_fit(
                        state, server(1), node_0=str(node.id),
                        pin_0=f'0:{pcpu}')))

    def test_what_is_shared_is_not_owned(self, machine):
        state = machine.state()
        for pcpu in machine.first_cores():
            self.assertIn(f'pCPU {pcpu} is in cpu_shared_set', str(try_fit(
                state, server(1), pin_0=f'0:{pcpu}')))

    def test_a_cell_a_node(self, machine):
        state = machine.state()
        able = [node.id for node in with_memory(state)]
        asked = server(*[1] * len(able))
        result = try_fit(state, asked)
        self.assertEqual(able, sorted(cell.node for cell in result.cells))
        for cell, got in zip(asked.cells, result.cells):
            self.check_cell(machine, state, cell, got)
        self.refused('cells', try_fit(state, server(*[1] * (len(able) + 1))))

    def test_a_named_node_is_taken(self, machine):
        state = machine.state()
        for node in with_memory(state):
            result = try_fit(state, server(1), node_0=str(node.id))
            self.assertEqual(node.id, result.cells[0].node)

    def test_a_node_that_is_not_there_is_named_with_those_that_are(
            self, machine):
        state = machine.state()
        gone = next(number for number in itertools.count()
                    if number not in state.node_ids())
        result = try_fit(state, server(1), node_0=str(gone))
        self.refused('node', result)
        self.assertIn(f'node {gone}: the host has no such node, it has '
                      f'node(s) 0', str(result))

    def test_as_many_servers_as_the_nodes_have_cpus_and_memory_for(
            self, machine):
        state = machine.state()
        size = max(2, len(machine.host().pcpus) // 48)
        memory = 1024
        wanted = demand.Demand(server(size, memory=memory),
                               template.Template())
        self.assertEqual(
            sum(min(node.n_free // size, small_memory(node) // memory)
                for node in state.nodes),
            capacity.times(state, wanted, usage.Limits()))


@machines.on_each
class MemoryTest(MachinesTest):

    def test_all_small_pages_of_a_node_and_not_a_page_more(self, machine):
        state = machine.state()
        for node in with_memory(state):
            most = small_memory(node)
            self.assertTrue(try_fit(state, server(1, memory=most),
                                    node_0=str(node.id)))
            result = try_fit(state, server(1, memory=most + 1),
                             node_0=str(node.id))
            self.refused('memory', result)
            self.assertIn(f'{most + 1} MiB asked for, {most} MiB free',
                          str(result))

    def test_no_cell_is_on_a_node_that_lacks_cpus_or_memory(self, machine):
        state = machine.state()
        able = {node.id for node in with_memory(state)}
        for node in state.nodes:
            if node.id not in able:
                result = try_fit(state, server(1), node_0=str(node.id))
                self.refused('memory' if node.dedicated else 'count', result)

    def test_huge_pages_of_each_size_as_far_as_they_go(self, machine):
        state = machine.state()
        for node in with_memory(state):
            for size, total, _free in node.pages:
                if size == node.smallest.size_kib:
                    continue
                # 2 GiB is a multiple of most sizes, not of pages of 16 GiB.
                memory = max(2 * 1024, size // 1024)
                result = try_fit(
                    state, server(1, memory=memory, page_kib=size),
                    node_0=str(node.id))
                if total * size < memory * 1024:
                    self.refused('pages', result)
                else:
                    self.assertEqual(size, result.cells[0].page_kib)

    def test_large_pages_are_the_largest_that_are_free(self, machine):
        state = machine.state()
        for node in with_memory(state):
            sizes = [pages.size_kib for pages in node.pages
                     if pages.free and pages != node.smallest]
            result = try_fit(state, server(1, memory=1024, page_kib=-2),
                             node_0=str(node.id))
            if sizes:
                self.assertEqual(max(sizes), result.cells[0].page_kib)
            else:
                self.refused('pages', result)

    def test_a_page_size_that_the_host_lacks_is_refused(self, machine):
        self.refused('pages', try_fit(
            machine.state(), server(1, page_kib=32)))


@machines.on_each
class SharedTest(MachinesTest):
    """Shared vCPUs float over the first core of each node."""

    def asked(self, count):
        return guest.Guest((guest.Cell(
            frozenset(), frozenset(range(count)), MEMORY),))

    def test_as_many_as_the_shared_set_of_a_node_has(self, machine):
        state = machine.state()
        for node in state.nodes:
            most = len(node.shared)
            if node.shared and small_memory(node) >= MEMORY:
                result = try_fit(state, self.asked(most),
                                 node_0=str(node.id))
                self.assertEqual({}, result.cells[0].pins)
                self.refused('shared', try_fit(
                    state, self.asked(most + 1), node_0=str(node.id)))

    def test_over_the_shared_set_of_the_whole_host(self, machine):
        state = machine.state()
        names = ','.join(map(str, sorted(machine.first_cores())))
        result = try_fit(state, self.asked(1), pin_0=f'0~{names}')
        self.assertEqual({0: machine.first_cores()}, result.cells[0].floats)


@machines.on_each
class ThreadsTest(MachinesTest):
    """Thread policies by the siblings of the host."""

    def smt(self, machine):
        """Threads of the largest core."""
        return max(len(core.pcpus) for node in machine.host().nodes
                   for core in node.cores)

    def test_no_policy_fills_whole_cores(self, machine):
        for policy in (None, 'prefer'):
            state = machine.state()
            for count in (1, 2, 4):
                asked = server(count, policy=policy)
                result = try_fit(state, asked)
                if not result:
                    self.assertGreater(count, max(
                        node.n_free for node in with_memory(state)))
                    continue
                found = cores_of(machine, self.check_cell(
                    machine, state, asked.cells[0], result.cells[0]))
                broken = [core for core, mine in found.items()
                          if mine != set(core)]
                self.assertLessEqual(len(broken), 1, found)

    def test_no_policy_takes_broken_cores_before_it_breaks_one(
            self, machine):
        """One thread of the second core is owned: its siblings are next.

        Unless there are cores of one thread, which one vCPU fills.
        """
        node = with_memory(machine.state())[0]
        core = node.cores()[1]
        state = machine.state(owners={core[0]: 'server a'})
        result = try_fit(state, server(1), node_0=str(node.id))
        got = machine.host().core_of(result.cells[0].pins[0]).pcpus
        self.assertTrue(got == core or len(got) == 1, got)

    def test_require_puts_no_vcpu_alone(self, machine):
        """But the last of an odd number, beside a free sibling."""
        state = machine.state()
        most = max(node.n_free for node in with_memory(state))
        for count in (1, 2, 3, 4, 5):
            asked = server(count, policy='require')
            result = try_fit(state, asked)
            if self.smt(machine) == 1:
                self.refused('core', result)
                self.assertIn('needs a host with SMT', str(result))
            elif count > most:
                self.refused('count', result)
            else:
                mine = self.check_cell(machine, state, asked.cells[0],
                                       result.cells[0])
                alone = [core for core, found in cores_of(
                    machine, mine).items() if len(found) == 1]
                self.assertLessEqual(len(alone), count % 2)
                for core in alone:
                    self.assertGreater(len(core), 1)

    def test_require_finds_no_siblings_where_each_core_is_half_owned(
            self, machine):
        owners = {core.pcpus[thread]: 'server a'
                  for node in machine.host().nodes for core in node.cores[1:]
                  for thread in range(len(core.pcpus) - 1)}
        self.refused('core', try_fit(machine.state(owners=owners), server(
            1, policy='require')))

    def test_isolate_is_refused_where_there_are_siblings(self, machine):
        """As Nova does where cpu_dedicated_set is set (bug 1889633)."""
        state = machine.state()
        asked = server(2, policy='isolate')
        result = try_fit(state, asked)
        if self.smt(machine) > 1:
            self.refused('core', result)
            self.assertIn('isolate needs pCPUs without siblings',
                          str(result))
        else:
            self.check_cell(machine, state, asked.cells[0], result.cells[0])

    def test_isolate_is_granted_where_each_core_has_one_thread_for_nova(
            self, machine):
        """cpu_dedicated_set without the second threads, SMT or not."""
        first = {core.pcpus[0] for node in machine.host().nodes
                 for core in node.cores}
        shared = machine.first_cores() & first
        state = machine.state(first - shared, shared)
        node = with_memory(state)[0]
        asked = server(node.n_free, policy='isolate')
        result = try_fit(state, asked, node_0=str(node.id))
        self.assertEqual(node.free, self.check_cell(
            machine, state, asked.cells[0], result.cells[0]))

    def test_isolate_gives_whole_cores_where_all_is_dedicated_and_shared(
            self, machine):
        """Where neither cpu_dedicated_set nor cpu_shared_set is set."""
        pcpus = machine.host().pcpus
        taken = machine.first_cores()
        state = machine.state(pcpus, pcpus, dict.fromkeys(taken, 'server a'))
        node = with_memory(state)[0]
        whole = [core for core in node.cores()
                 if len(core) == self.smt(machine) and not taken & {*core}]
        asked = server(len(whole), policy='isolate')
        result = try_fit(state, asked, node_0=str(node.id))
        mine = self.check_cell(machine, state, asked.cells[0],
                               result.cells[0])
        self.assertEqual(len(mine), len(cores_of(machine, mine)))
        for core in cores_of(machine, mine):
            self.assertFalse(taken & {*core})

    def isolated_beyond_the_largest_cores(self, machine):
        """One vCPU more than there are cores of the most threads."""
        pcpus = machine.host().pcpus
        state = machine.state(pcpus, pcpus)
        node = with_memory(state)[0]
        whole = [core for core in node.cores()
                 if len(core) == self.smt(machine)]
        self.refused('core' if self.smt(machine) > 1 else 'count', try_fit(
            state, server(len(whole) + 1, policy='isolate'),
            node_0=str(node.id)))

    def test_isolate_is_refused_beyond_the_largest_cores(self, machine):
        """Nova takes no core with fewer threads than the largest has.

        nova/virt/hardware.py, _pack_instance_onto_cores:
        ``sibling_sets[threads_per_core]``.
        """
        self.isolated_beyond_the_largest_cores(machine)

    @machines.only(machines.hybrid)
    def test_isolate_lets_emulator_threads_on_a_smaller_core(self, machine):
        pcpus = machine.host().pcpus
        state = machine.state(pcpus, pcpus)
        node = with_memory(state)[0]
        whole = [core for core in node.cores() if len(core) > 1]
        asked = server(len(whole), policy='isolate')._replace(
            emulator_isolated=True)
        result = try_fit(state, asked, node_0=str(node.id))
        self.assertTrue(result, str(result))
        self.assertEqual({core[0] for core in whole},
                         set(result.cells[0].pins.values()))
        self.assertTrue(result.cells[0].reserved.isdisjoint(
            pcpu for core in whole for pcpu in core))

    @machines.without(machines.arm_64k_pages, machines.grace_34_nodes)
    def test_isolate_lets_no_emulator_threads_on_a_broken_core(self, machine):
        """Nova's fitter would, but its tracker takes the siblings as well.

        nova/virt/hardware.py, numa_usage_from_instance_numa:
        CPUPinningInvalid, and the server would not boot.
        """
        pcpus = machine.host().pcpus
        node = with_memory(machine.state(pcpus, pcpus))[0]
        _whole, *others = [core for core in node.cores() if len(core) > 1]
        state = machine.state(pcpus, pcpus, {
            **{core[0]: 'server a' for core in others},
            **{core[0]: 'server b' for core in node.cores()
               if len(core) == 1}})
        asked = server(1, policy='isolate')
        self.assertTrue(try_fit(state, asked, node_0=str(node.id)))
        self.refused('core', try_fit(
            state, asked._replace(emulator_isolated=True),
            node_0=str(node.id)))


@machines.on_each
class BruteForceTest(MachinesTest):
    """A fit is found if and only if trying all pCPUs finds one.

    Most of a node is owned, at random, so that all choices can be tried.
    """

    def check(self, machine, policies):
        rng = random.Random(machine.name)
        outcomes = collections.Counter()
        for _round in range(ROUNDS):
            state = self.state(machine, rng)
            for policy, count in itertools.product(policies, (1, 2, 3, 4)):
                asked = server(count, policy=policy)
                able = {node.id for node in with_memory(state)
                        if self.exists(node, count, policy)}
                result = try_fit(state, asked)
                self.assertEqual(bool(able), bool(result),
                                 (policy, count, str(result)))
                for node in with_memory(state)[:NODES]:
                    result = try_fit(state, asked, node_0=str(node.id))
                    outcomes[bool(result)] += 1
                    self.assertEqual(node.id in able, bool(result),
                                     (policy, count, node.free, str(result)))
                    if result:
                        mine = self.check_cell(machine, state, asked.cells[0],
                                               result.cells[0])
                        self.assertTrue(self.holds(node, mine, policy))
        self.assertGreater(min(outcomes[True], outcomes[False]), 5)

    def state(self, machine, rng):
        """Up to six free pCPUs a node, on three cores."""
        free = set()
        for node in machine.host().nodes:
            cores = node.cores[1:]
            mine = [pcpu for core in rng.sample(cores, min(3, len(cores)))
                    for pcpu in core.pcpus]
            free.update(rng.sample(mine, min(rng.randint(0, 6), len(mine))))
        pcpus = machine.host().pcpus - machine.first_cores()
        return machine.state(owners=dict.fromkeys(pcpus - free, 'server a'))

    def exists(self, node, count, policy):
        """Whether the policy lets any so many free pCPUs of a node be."""
        left = [len(core & node.free) for core in node.siblings]
        if policy == 'require' and not any(
                each * sum(number >= each for number in left) >= count
                for each in (2, 3, 4)):
            return False  # by Nova's rule, which takes equally many of each
        return any(self.holds(node, set(pcpus), policy)
                   for pcpus in itertools.combinations(
                       sorted(node.free), count))

    def holds(self, node, pcpus, policy):
        """The policies as :mod:`kongming.fit.packing` states them."""
        if policy != 'require':
            return True
        touched = [core for core in node.siblings if core & pcpus]
        alone = [core for core in touched if len(core & pcpus) == 1]
        return not alone or len(alone) == 1 and (
            len(alone[0] - node.taken) > 1)

    def test_any_pcpus(self, machine):
        self.check(machine, (None, 'prefer'))

    # Without SMT: ThreadsTest.
    @machines.without(machines.arm_64k_pages, machines.grace_34_nodes)
    def test_siblings(self, machine):
        self.check(machine, ('require',))
