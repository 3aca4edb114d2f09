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

"""The order of moves, tried against a checker that looks after each."""

import os

import hypothesis
from hypothesis import strategies as st

from kongming.host import usage
from kongming.live import rearrange
from kongming.memory import order
from kongming.template import guest
from kongming.template import template
from tests import base


def host(owned, nodes=1, pcpus=8):
    return usage.HostState([usage.NodeState(
        node, frozenset(range(pcpus * node, pcpus * (node + 1))),
        frozenset(p for p in owned if p // pcpus == node),
        siblings=[{p} for p in range(pcpus * node, pcpus * (node + 1))],
        memory_mib=1024) for node in range(nodes)])


def resident(name, pins, desired, node=0, memory=64, emulator=None, **kwargs):
    """:param pins: pCPU of each vCPU"""
    owned = dict(enumerate(pins))
    if emulator is not None:
        owned[rearrange.EMULATOR] = emulator
    return rearrange.Resident(
        name, guest.Guest((guest.Cell(
            frozenset(range(len(pins))), frozenset(), memory, None),),
            emulator_isolated=emulator is not None),
        template.decode({f'kongming:{k}': v for k, v in desired.items()}),
        owned, [node], **kwargs)


def of_cells(name, cells, desired, stays=''):
    """:param cells: for each its node, and the pCPU of each vCPU"""
    made, owned = [], {}
    for _node, pins in cells:
        vcpus = range(len(owned), len(owned) + len(pins))
        made.append(guest.Cell(frozenset(vcpus), frozenset(), 64, None))
        owned.update(zip(vcpus, pins))
    return rearrange.Resident(
        name, guest.Guest(tuple(made), emulator_isolated=False),
        template.decode({f'kongming:{k}': v for k, v in desired.items()}),
        owned, [node for node, _pins in cells], stays)


def carry_out(plan, owned):
    """Where everybody is in the end; fails where two own one pCPU.

    :param owned: (server, vCPU) -> pCPU
    """
    now = dict(owned)
    for step in plan.steps:
        others = {pcpu for (server, _vcpu), pcpu in now.items()
                  if server != step.server}
        for move in step.moves:
            assert now[step.server, move.vcpu] == move.source, step
            # While it moves, all of both are its own.
            assert move.target not in others, step
        now.update({(step.server, move.vcpu): move.target
                    for move in step.moves})
        mine = [pcpu for (server, _vcpu), pcpu in now.items()
                if server == step.server]
        assert len(mine) == len(set(mine)), step
    return now


class PlanTest(base.TestCase):

    def plan(self, residents, others=(), **kwargs):
        owned = {(r.id, v): p for r in residents for v, p in r.pins.items()}
        plan = rearrange.plan(
            host([*owned.values(), *others], **kwargs), residents)
        return plan, carry_out(plan, owned)

    def test_nothing_to_do(self):
        plan, _now = self.plan([resident('a', [1, 2], {'pin.0': '0:1'})])
        self.assertEqual(((), {}), (plan.steps, plan.refused))

    def test_one_moves_and_the_other_stays(self):
        plan, _now = self.plan([resident('a', [1, 2], {'pin.0': '0:5'})])
        self.assertEqual((rearrange.Step(
            'a', 0, 0, 0, (rearrange.Move(0, 1, 5),)),), plan.steps)

    def test_takes_what_another_gives_up(self):
        _plan, now = self.plan([resident('a', [1], {'pin.0': '0:2'}),
                                resident('b', [2], {'pin.0': '0:3'})])
        self.assertEqual({('a', 0): 2, ('b', 0): 3}, now)

    def test_groups(self):
        plan, _now = self.plan([
            resident('a', [2], {'pin.0': '0:3'}),
            resident('b', [3], {'pin.0': '0:4'}),
            resident('c', [4], {'pin.0': '0:5'}),
            resident('d', [0], {'pin.0': '0:1'}),
            resident('e', [6, 7], {'pin.0': '0:7 1:6'})])
        found = rearrange.groups(plan.steps)
        self.assertEqual(set('abcde'), set(found))
        self.assertEqual(1, len({found[each] for each in 'abc'}))
        self.assertEqual(3, len(set(found.values())))
        self.assertEqual({}, rearrange.groups(()))

    def test_two_swap_through_a_free_pcpu(self):
        plan, now = self.plan([resident('a', [1], {'pin.0': '0:2'}),
                               resident('b', [2], {'pin.0': '0:1'})])
        self.assertEqual({('a', 0): 2, ('b', 0): 1}, now)
        self.assertEqual(3, len(plan.steps))

    def test_ring_on_a_full_node_is_refused(self):
        plan, now = self.plan([resident('a', [1], {'pin.0': '0:2'}),
                               resident('b', [2], {'pin.0': '0:1'})],
                              others=[0, 3, 4, 5, 6, 7])
        self.assertEqual((), plan.steps)
        self.assertIn('no free one to start with', plan.refused['a'])

    def test_owned_by_somebody_who_stays(self):
        plan, now = self.plan([resident('a', [1], {'pin.0': '0:7'}),
                               resident('b', [2], {'pin.0': '0:3'})],
                              others=[7])
        self.assertIn('pCPU 7 is owned by another server',
                      plan.refused['a'])
        self.assertEqual({('a', 0): 1, ('b', 0): 3}, now)

    def test_who_is_refused_may_be_in_the_way_itself(self):
        plan, _now = self.plan([resident('b', [2], {'pin.0': '0:1'}),
                                resident('a', [1], {'pin.0': '0:7'})],
                               others=[7])
        self.assertEqual({'a', 'b'}, set(plan.refused))

    def test_within_one_server_all_at_once(self):
        """Its own pCPUs may change hands as they like."""
        plan, now = self.plan([resident('a', [1, 2, 3], {
            'pin.0': '0:2 1:3 2:1'})], others=[0, 4, 5, 6, 7])
        step, = plan.steps
        self.assertEqual('0:1->2 1:2->3 2:3->1', str(step))
        self.assertEqual({('a', 0): 2, ('a', 1): 3, ('a', 2): 1}, now)
        self.assertEqual('0:2->1 1:3->2 2:1->3', str(step.back()))

    def test_memory_that_stays_is_refused_before_anything_else(self):
        for desired in ({'node.0': '1'}, {'pin.0': '0:9'}):
            plan, _now = self.plan([resident(
                'a', [1], desired, stays='it is bound strictly')], nodes=2)
            self.assertEqual((), plan.steps)
            self.assertEqual(
                'cell 0: its memory is on node 0 and does not move to node '
                '1: it is bound strictly', plan.refused['a'])

    def test_other_node(self):
        for desired in ({'node.0': '1'}, {'pin.0': '0-1:9-10'}):
            plan, now = self.plan([resident('a', [1, 2], desired)], nodes=2)
            step, = plan.steps
            self.assertTrue(step.moves_memory)
            self.assertEqual((0, 1), (step.source_node, step.node))
            self.assertEqual({1}, {pcpu // 8 for pcpu in now.values()})
        self.assertEqual({9, 10}, set(now.values()))
        self.assertIn('cell 0 node 0->1', str(step))

    def test_other_node_is_full(self):
        plan, _now = self.plan([resident('a', [1, 2], {'node.0': '1'})],
                               nodes=2, others=range(8, 15))
        self.assertIn('2 dedicated pCPU(s) asked for, 1 of 8 free',
                      plan.refused['a'])
        plan, _now = self.plan([resident(
            'a', [1], {'node.0': '1'}, memory=100000)], nodes=2)
        self.assertIn('node 1: 100000 MiB asked for', plan.refused['a'])

    def test_memory_of_two_does_not_fit(self):
        plan, _now = self.plan([
            resident(name, [pcpu], {'node.0': '1'}, memory=700)
            for name, pcpu in (('a', 1), ('b', 2))], nodes=2)
        self.assertEqual({'b'}, set(plan.refused))

    def test_two_change_nodes_by_a_free_pcpu_on_one(self):
        a = resident('a', [0, 1], {'pin.0': '0-1:8-9'})
        b = resident('b', [8, 9], {'pin.0': '0-1:0-1'}, node=1)
        plan, now = self.plan([a, b], nodes=2,
                              others=[*range(2, 8), *range(12, 16)])
        self.assertEqual({}, plan.refused)
        self.assertEqual([8, 9, 0, 1], [now[key] for key in (
            ('a', 0), ('a', 1), ('b', 0), ('b', 1))])
        plan, _now = self.plan([a, b], nodes=2,
                               others=[*range(2, 8), *range(10, 16)])
        self.assertEqual(((), {'a', 'b'}), (plan.steps, set(plan.refused)))

    def test_emulator(self):
        desired = {'pin.0': '0:1', 'emulator': '5'}
        plan, now = self.plan([resident('a', [1], desired, emulator=2)])
        self.assertEqual({('a', 0): 1, ('a', -1): 5}, now)
        self.assertEqual('emulator:2->5', str(plan.steps[0]))
        plan, now = self.plan([resident('a', [1], {'pin.0': '0:3'},
                                        emulator=2)])
        self.assertEqual({('a', 0): 3, ('a', -1): 2}, now)

    @hypothesis.given(st.data())
    @hypothesis.settings(max_examples=300)
    def test_any_permutation(self, data):
        pcpus = 8
        count = data.draw(st.integers(2, pcpus))
        start = data.draw(st.permutations(range(pcpus)))[:count]
        goal = data.draw(st.permutations(range(pcpus)))[:count]
        residents = [resident(f's{n}', [p], {'pin.0': f'0:{goal[n]}'})
                     for n, p in enumerate(start)]
        plan, now = self.plan(residents)
        for n in range(count):
            self.assertEqual(
                start[n] if f's{n}' in plan.refused else goal[n],
                now[f's{n}', 0])
        if count < pcpus:
            self.assertEqual({}, plan.refused)
        # A ring costs one step more than it has members.
        self.assertLessEqual(len(plan.steps), count + count // 2)

    @hypothesis.given(st.data())
    @hypothesis.settings(max_examples=int(os.environ.get(
        'KONGMING_TEST_CHANGES', 300)))
    def test_any_joint_change(self, data):
        """Servers of several vCPUs change pCPUs and nodes at once."""
        nodes, pcpus = data.draw(st.integers(1, 3)), 6
        everything = range(nodes * pcpus)
        start = data.draw(st.permutations(everything))
        goal = data.draw(st.permutations(everything))
        residents = []
        for number in range(data.draw(st.integers(1, 6))):
            size = data.draw(st.integers(1, 3))
            now = self._take(start, size, pcpus)
            then = self._take(goal, size, pcpus)
            if now and then:
                residents.append(resident(
                    f's{number}', now, {'pin.0': ' '.join(
                        f'{v}:{p}' for v, p in enumerate(then))},
                    node=now[0] // pcpus,
                    stays=data.draw(st.sampled_from(['', 'strict']))))
        owned = {p for r in residents for p in r.pins.values()}
        others = [p for p in everything if p not in owned
                  and data.draw(st.booleans())]
        plan, now = self.plan(residents, others, nodes=nodes, pcpus=pcpus)
        for r in residents:
            desired = {pin.vcpu_ids()[0]: pin.targets[0].low
                       for pin in r.desired.pins[0]}
            self.assertEqual(r.pins if r.id in plan.refused else desired,
                             {v: now[r.id, v] for v in r.pins})
        for step in plan.steps:
            self.assertEqual({step.node},
                             {m.target // pcpus for m in step.moves})

    def test_cells_go_one_after_the_other(self):
        plan, now = self.plan([of_cells('a', [(0, [1]), (1, [9])], {
            'node.0': '1', 'pin.0': '0:9', 'node.1': '2', 'pin.1': '1:17'})],
            nodes=3)
        self.assertEqual(['cell 1 node 1->2 1:9->17',
                          'cell 0 node 0->1 0:1->9'],
                         [str(step) for step in plan.steps])
        self.assertEqual({('a', 0): 9, ('a', 1): 17}, now)

    def test_cells_do_not_change_their_order(self):
        for desired in ({'node.0': '1', 'node.1': '0'}, {'node.0': '2'}):
            plan, _now = self.plan([of_cells(
                'a', [(0, [1]), (1, [9])], desired)], nodes=3)
            self.assertEqual((), plan.steps)
            self.assertIn('the kernel keeps the order', plan.refused['a'])

    def test_cell_that_waits_for_one_that_can_not_go(self):
        plan, _now = self.plan(
            [of_cells('a', [(0, [1]), (1, [9])], {
                'pin.0': '0:10', 'pin.1': '1:17'}),
             of_cells('b', [(1, [10]), (2, [17])], {
                 'pin.0': '0:1', 'pin.1': '1:9'})], nodes=3,
            others=[*range(2, 8), 0, 8, *range(11, 17), *range(18, 24)])
        self.assertEqual((), plan.steps)
        self.assertEqual({
            'a': 'node 2: the cell needs 1 pCPU(s) there to begin with, and '
                 '0 are free',
            'b': 'node 0: the cell needs 1 pCPU(s) there to begin with, and '
                 '0 are free'}, plan.refused)

    @hypothesis.given(st.data())
    @hypothesis.settings(max_examples=int(os.environ.get(
        'KONGMING_TEST_CHANGES', 300)))
    def test_any_joint_change_of_cells(self, data):
        """The kernel would bind each cell where a step says."""
        pcpus = 4
        free = {node: [*data.draw(st.permutations(range(
            pcpus * node, pcpus * (node + 1))))] for node in range(4)}
        goal = {node: [*pins] for node, pins in free.items()}
        residents = []
        for number in range(data.draw(st.integers(1, 4))):
            count = data.draw(st.integers(1, 3))
            nodes = st.permutations(range(4)).map(lambda p: p[:count])
            now, then = data.draw(nodes), data.draw(nodes)
            if any(not free[n] for n in now) or any(
                    not goal[n] for n in then):
                continue
            targets = [goal[node].pop() for node in then]
            residents.append(of_cells(
                f's{number}', [(node, [free[node].pop()]) for node in now],
                {f'pin.{cell}': f'{cell}:{pcpu}'
                 for cell, pcpu in enumerate(targets)}))
        plan, now = self.plan(residents, nodes=4, pcpus=pcpus)
        places = {r.id: [*r.nodes] for r in residents}
        for step in plan.steps:
            mine = places[step.server]
            self.assertEqual(step.source_node, mine[step.cell])
            old = frozenset(mine)
            new = old - {step.source_node} | {step.node}
            self.assertEqual(len(old), len(new))
            after = [*mine]
            after[step.cell] = step.node
            self.assertEqual(after, [order.remap(node, old, new)
                                     for node in mine])
            places[step.server] = after
        for r in residents:
            wanted = {cell: pins[0].targets[0].low
                      for cell, pins in r.desired.pins.items()}
            self.assertEqual(r.pins if r.id in plan.refused else wanted,
                             {v: now[r.id, v] for v in r.pins})

    @staticmethod
    def _take(order, count, pcpus):
        """The first pCPUs that are left and share a node."""
        for first in order:
            mine = [p for p in order if p // pcpus == first // pcpus][:count]
            if len(mine) == count:
                for pcpu in mine:
                    order.remove(pcpu)
                return mine
        return None
