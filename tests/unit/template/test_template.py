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

from kongming import exception
from kongming.template import grammar
from kongming.template import template
from tests import base


def problems(specs):
    try:
        template.decode(specs)
    except exception.InvalidTemplate as exc:
        return [(p.key, p.column, p.reason) for p in exc.problems]
    return []


def pin0(value):
    return {'kongming:pin.0': value}


class DecodeTest(base.TestCase):

    def test_foreign_keys_are_skipped(self):
        self.assertFalse(template.decode({'hw:cpu_policy': 'dedicated',
                                          'kongmingo': '1'}))
        self.assertFalse(template.has_template({'hw:numa_nodes': '2'}))
        self.assertTrue(template.has_template(pin0('')))

    def test_ranges_pair_up_in_order(self):
        pin, = template.decode(pin0('0,2-3:7,4-5')).pins[0]
        self.assertEqual([0, 2, 3], pin.vcpu_ids())
        self.assertEqual([7, 4, 5], grammar.resolve(pin.targets, None))

    def test_pins_as_short_as_a_map_has_them(self):
        for pins, text in (({}, ''), ({0: 4, 1: 5}, '0:4 1:5'),
                           ({2: 6, 1: 5, 0: 4, 4: 8}, '0-2:4-6 4:8'),
                           ({0: 4, 1: 3, 2: 2}, '0:4 1:3 2:2')):
            shown = ' '.join(grammar.format_pins(pins))
            self.assertEqual(text, shown)
            if pins:
                found = {}
                for pin in grammar.parse_pins(shown):
                    found.update(zip(pin.vcpu_ids(), (
                        pcpu for target in pin.targets
                        for pcpu in target.ids())))
                self.assertEqual(pins, found)

    def test_a_part_without_a_number(self):
        for part in ('x', '', '0', '01', '1000', '\0'):
            problem, = self.assertRaises(
                exception.InvalidTemplate, template.decode,
                {f'kongming:pin.0.{part}': '0:1'}).problems
            self.assertEqual(f'kongming:pin.0.{part}', problem.key)
            self.assertIn('is no number from 1 to 999', problem.reason)

    def test_continuation(self):
        desired = template.decode({'kongming:pin.0': '0:4',
                                   'kongming:pin.0.1': '1:5',
                                   'kongming:pin.0.2': '2:6'})
        self.assertEqual('0:4 1:5 2:6', ' '.join(map(str, desired.pins[0])))

    def test_64_arbitrary_pins_fit(self):
        pins = ' '.join(f'{v}:{(v * 37) % 128}' for v in range(64))
        desired = template.Template(pins={0: grammar.parse_pins(pins)})
        specs = template.encode(desired)
        self.assertLess(max(map(len, specs.values())), 256)
        self.assertGreater(len(specs), 1)
        self.assertEqual(desired, template.decode(specs))


class BadTest(base.TestCase):
    """Each error names the key, the column and what would be right."""

    def check(self, specs, key, column, words):
        (found_key, found_column, reason), = problems(specs)
        self.assertEqual((key, column), (found_key, found_column), reason)
        self.assertIn(words, reason)

    def test_unknown_key(self):
        self.check({'kongming:colour': 'red'}, 'kongming:colour', 0,
                   'the keys are node.N, pin.N, memory.N')

    def test_node(self):
        self.check({'kongming:node.0': 'one'}, 'kongming:node.0', 1,
                   "'one' is not a host NUMA node")

    def test_map_without_pcpu(self):
        self.check(pin0('0:1 2'), 'kongming:pin.0', 5, 'write vCPU:pCPU')

    def test_not_a_pcpu(self):
        self.check(pin0('0:1 1:x'), 'kongming:pin.0', 7,
                   "'x' is not a pCPU")

    def test_backward_range(self):
        self.check(pin0('0-1:7-6'), 'kongming:pin.0', 5, 'write 6-7')

    def test_unequal_ranges(self):
        self.check(pin0('0-2:4-5'), 'kongming:pin.0', 5,
                   '3 vCPU(s) for 2 pCPU(s)')

    def test_two_vcpus_on_one_pcpu(self):
        self.check(pin0('0:4 1:4'), 'kongming:pin.0', 7,
                   'pCPU 4 stands here a second time')

    def test_vcpu_twice(self):
        self.check(pin0('0:4 0:5'), 'kongming:pin.0', 5,
                   'vCPU 0 stands here a second time')

    def test_pcpu_in_two_cells(self):
        self.check({'kongming:pin.0': '0:4', 'kongming:pin.1': '1:4'},
                   'kongming:pin.1', 0, 'pCPU 4 is given to cell 0 already')

    def test_what_a_vcpu_owns_in_the_map_that_says_it(self):
        self.check({'kongming:pin.0': '0:4 1~v0'}, 'kongming:pin.0', 5,
                   'only profiles and threads that are no vCPU')
        self.check({'kongming:profile.n.pin.0': '0-1~v'},
                   'kongming:profile.n.pin.0', 5, "'v' is not a pCPU")

    def test_lend_and_borrow(self):
        self.check({'kongming:profile.n.lend': 'yes'},
                   'kongming:profile.n.lend', 1, 'neither true nor false')
        self.check({'kongming:borrow': 'all'}, 'kongming:borrow', 1,
                   'node and host are')
        specs = {'kongming:borrow': 'node', 'kongming:profile.n.lend': 'true',
                 'kongming:profile.n.pin.0': '0-7~v0-1,v4'}
        self.assertEqual(specs, template.encode(template.decode(specs)))

    def test_balance(self):
        self.check({'kongming:balance': 'host'}, 'kongming:balance', 1,
                   "'host' is nothing to balance")
        self.assertTrue(template.decode({'kongming:balance': 'node'}))
        specs = {'kongming:balance': 'node', 'kongming:borrow': 'node'}
        self.assertEqual(specs, template.encode(template.decode(specs)))

    def test_power(self):
        self.check({'kongming:profile.n.power': 'on'},
                   'kongming:profile.n.power', 1, 'low and off are')
        self.check({'kongming:profile.n.power': 'off',
                    'kongming:profile.n.lend': 'true'},
                   'kongming:profile.n.power', 1, 'one of lend and power')
        for power in 'low', 'off':
            specs = {'kongming:profile.n.pin.0': '0-7~v0-1',
                     'kongming:profile.n.power': power}
            self.assertEqual(specs, template.encode(template.decode(specs)))

    def test_column_in_the_continuation(self):
        self.check({'kongming:pin.0': '0:4', 'kongming:pin.0.1': '1:5 2:?'},
                   'kongming:pin.0.1', 7, "'?' is not a pCPU")

    def test_missing_part(self):
        self.check({'kongming:pin.0': '0:4', 'kongming:pin.0.2': '1:5'},
                   'kongming:pin.0.2', 0,
                   'continues kongming:pin.0.1, which is missing')

    def test_huge_numbers_cost_nothing(self):
        self.check(pin0('0-999999999:0-999999999'), 'kongming:pin.0', 1,
                   'too large for a vCPU')
        self.check(pin0('0:' + '9' * 5000), 'kongming:pin.0', 3,
                   'too large for a pCPU')

    def test_all_at_once(self):
        self.assertEqual(3, len(problems({
            'kongming:node.0': '', 'kongming:pin.0': '?',
            'kongming:x': ''})))

    def test_control_characters_are_shown_escaped(self):
        exc = self.assertRaises(exception.InvalidTemplate, template.decode,
                                pin0('0:1\n\x1b[31m'))
        self.assertNotIn('\n', str(exc))
        self.assertIn('\\x1b', str(exc))


def ranges(most):
    return st.tuples(st.integers(0, most), st.integers(0, 3)).map(
        lambda pair: grammar.Range(pair[0], min(most, sum(pair))))


targets = st.one_of(
    ranges(grammar.MAX_PCPU),
    st.builds(grammar.Relative, ranges(7), ranges(63), ranges(3)))


@st.composite
def pin_maps(draw):
    """A valid map: vCPUs once each, pCPUs by id once each."""
    vcpu, used, pins = 0, set(), []
    for target in draw(st.lists(targets, min_size=1, max_size=40)):
        if isinstance(target, grammar.Range):
            if used & set(target.ids()):
                continue
            used |= set(target.ids())
        count = grammar.count_targets((target,))
        if vcpu + count > grammar.MAX_VCPU:
            break
        pins.append(grammar.Pin(
            (grammar.Range(vcpu, vcpu + count - 1),), (target,),
            floats=draw(st.booleans())))
        vcpu += count
    hypothesis.assume(pins)
    return tuple(pins)


class PropertyTest(base.TestCase):

    @hypothesis.given(
        st.dictionaries(st.integers(0, 15), st.integers(0, 1023)),
        pin_maps())
    def test_decode_undoes_encode(self, nodes, pins):
        desired = template.Template(nodes, {0: pins})
        specs = template.encode(desired)
        self.assertEqual(desired, template.decode(specs))
        self.assertEqual(specs, template.encode(template.decode(specs)))

    @hypothesis.given(st.text() | st.text('0123456789-:~,.nctv '))
    @hypothesis.settings(max_examples=2000)
    def test_any_text_gives_a_template_or_a_clean_error(self, text):
        for key in ('kongming:pin.0', 'kongming:node.0', f'kongming:{text}'):
            try:
                template.decode({key: text})
            except exception.InvalidTemplate as exc:
                problem, = exc.problems
                self.assertLessEqual(problem.column, len(text) + 1)
                self.assertTrue(str(exc).isprintable(), str(exc))


class FuzzTest(base.TestCase):
    """100,000 random strings: a template or one clean error, nothing else."""

    ALPHABETS = ('0123456789-:~, nctv', '0123456789:= %,.weightquotabrs',
                 'MonTueWdhFriSat 0123456789:-;/UTC', 'fiorbathdlesv0-9: ',
                 ''.join(map(chr, range(32))) + '0:1\u4e2d\U0001f600')
    KEYS = ('pin.0', 'qos', 'profile.x.when', 'sched', 'node.0')

    def check(self, seed):
        rng = random.Random(seed)
        for number in range(20000):
            text = ''.join(rng.choices(self.ALPHABETS[seed],
                                       k=rng.randint(0, 24)))
            key = self.KEYS[seed] if number % 20 else text
            try:
                template.decode({f'kongming:{key}': text})
            except exception.InvalidTemplate as exc:
                self.assertTrue(str(exc).isprintable())
                self.assertEqual(1, len(exc.problems))

    def test_pins(self):
        self.check(0)

    def test_qos(self):
        self.check(1)

    def test_windows(self):
        self.check(2)

    def test_sched(self):
        self.check(3)

    def test_control_characters(self):
        self.check(4)
