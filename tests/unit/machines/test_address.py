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

"""Relative addresses (``n0c2t1``) on every named host."""

import random

import hypothesis
from hypothesis import strategies as st

from kongming.fit import demand
from kongming.fit import fit
from kongming.template import grammar
from kongming.template import guest
from kongming.template import template
from tests import base
from tests import machines


def addresses(host, usable=None):
    """Address -> pCPU, as the definition in ``grammar.Relative`` has it.

    :param host: kongming.host.topology.Host
    :param usable: the pCPUs that Nova may use, if not all
    """
    usable = host.pcpus if usable is None else usable
    return {f'n{node.id}c{number}t{thread}': pcpu
            for node in host.nodes
            for number, core in enumerate(sorted(
                sorted(usable.intersection(core.pcpus))
                for core in node.cores if usable.intersection(core.pcpus)))
            for thread, pcpu in enumerate(core)}


def resolve(text, host):
    return grammar.resolve(grammar.parse_targets(text, 1), host)


def try_fit(state, target):
    """A server of one vCPU that is pinned there."""
    asked = guest.Guest((guest.Cell(frozenset({0}), frozenset(), 0),))
    return fit.fit(state, demand.Demand(asked, template.decode(
        {'kongming:pin.0': f'0:{target}'})))


@machines.on_each
class AddressTest(base.TestCase):

    def refused(self, words, text, host):
        error = self.assertRaises(grammar.Unresolvable, resolve, text, host)
        self.assertEqual(words, str(error))

    def test_each_address_is_one_pcpu_and_each_pcpu_has_one(self, machine):
        found = addresses(machine.host())
        self.assertEqual(sorted(machine.host().pcpus),
                         sorted(found.values()))
        for host in (machine.host(), machine.state()):
            for address, pcpu in found.items():
                self.assertEqual([pcpu], resolve(address, host), address)

    def test_threads_of_an_address_are_siblings(self, machine):
        host = machine.host()
        for node in host.nodes:
            for number, core in enumerate(node.cores):
                self.assertEqual(list(core.pcpus), resolve(
                    f'n{node.id}c{number}t0-{len(core.pcpus) - 1}', host))

    def test_a_range_of_cores_is_in_the_order_of_the_cores(self, machine):
        host = machine.host()
        for node in host.nodes:
            if node.cores:
                self.assertEqual(
                    [core.pcpus[0] for core in node.cores],
                    resolve(f'n{node.id}c0-{len(node.cores) - 1}t0', host))

    def test_cores_are_counted_over_what_nova_may_use(self, machine):
        """By their lowest pCPU of those, so cores may change places."""
        rng = random.Random(machine.name)
        pcpus = sorted(machine.host().pcpus)
        usable = frozenset(rng.sample(pcpus, len(pcpus) * 2 // 3))
        state = machine.state(usable, frozenset())
        found = addresses(machine.host(), usable)
        self.assertEqual(usable, set(found.values()))
        for host in (state, machine.host().restricted_to(usable)):
            for address, pcpu in found.items():
                self.assertEqual([pcpu], resolve(address, host), address)

    def test_a_core_beyond_the_last_is_refused(self, machine):
        for node in machine.host().nodes:
            count = len(node.cores)
            self.refused(f'n{node.id}c{count}t0: node {node.id} has {count} '
                         f'core(s), counted from 0',
                         f'n{node.id}c{count}t0', machine.host())

    def test_a_thread_beyond_the_last_is_refused(self, machine):
        for node in machine.host().nodes:
            # Of unequal cores the last one has the fewest threads.
            for number in {0, len(node.cores) - 1} if node.cores else ():
                count = len(node.cores[number].pcpus)
                address = f'n{node.id}c{number}t{count}'
                self.refused(f'{address}: core {number} of node {node.id} '
                             f'has {count} thread(s), counted from 0',
                             address, machine.host())

    def test_a_node_that_is_not_there_is_refused(self, machine):
        host = machine.host()
        ids = host.node_ids()
        named = ','.join(map(str, ids)) if ids == (0, 8) else (
            f'0-{ids[-1]}' if len(ids) > 1 else '0')
        for number in ({*range(ids[-1] + 2)} - {*ids}):
            self.refused(f'n{number}c0t0: the host has no node {number}, it '
                         f'has node(s) {named}', f'n{number}c0t0', host)

    def test_a_pin_by_address_owns_that_pcpu(self, machine):
        state = machine.state()
        for node in state.nodes:
            if node.dedicated:
                core = node.cores()[-1]
                cell, = try_fit(
                    state, f'n{node.id}c{len(node.cores()) - 1}'
                           f't{len(core) - 1}').cells
                self.assertEqual((node.id, {0: core[-1]}),
                                 (cell.node, cell.pins))

    def test_a_pin_beyond_the_host_says_what_the_host_has(self, machine):
        state = machine.state()
        for node in state.nodes:
            count = len(node.cores())
            self.assertEqual(
                f'cell 0: n{node.id}c{count}t0: node {node.id} has {count} '
                f'core(s), counted from 0',
                str(try_fit(state, f'n{node.id}c{count}t0')))


class AnyAddressTest(base.TestCase):

    @hypothesis.given(st.sampled_from(machines.ALL), st.data())
    def test_is_found_or_refused(self, machine, data):
        """By what the host has; none takes another's place."""
        found = addresses(machine.host())
        low, high = sorted(data.draw(st.tuples(*[st.integers(0, 60)] * 2)))
        node = data.draw(st.integers(0, machine.host().node_ids()[-1] + 1))
        thread = data.draw(st.integers(0, 4))
        wanted = [f'n{node}c{core}t{thread}' for core in range(low, high + 1)]
        text = f'n{node}c{low}-{high}t{thread}'
        if all(address in found for address in wanted):
            self.assertEqual([found[address] for address in wanted],
                             resolve(text, machine.host()))
        else:
            self.assertRaises(grammar.Unresolvable, resolve, text,
                              machine.host())
