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

"""YAML and JSON as they are written."""

import json

import hypothesis
from hypothesis import strategies as st
import yaml

from kongming import exception
from kongming.template import document
from kongming.template import markup
from tests import base

_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-10**17, 10**17)
    | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20)


class KeyTest(base.TestCase):

    def test_a_key_is_what_stands_there(self):
        """YAML 1.1 makes booleans, numbers, dates and null of these."""
        for key in ('on', 'off', 'yes', 'no', 'y', 'n', 'true', 'True', '07',
                    '010', '1', '01', '0x0', '0o7', '1_000', '1:30', '2.0',
                    '1e3', '.inf', '.nan', '2026-02-28', '2026-02-30', '~',
                    'null', '=', '""'):
            found = markup.load(f'{key}: 1\nother: 2\n')
            self.assertEqual([key.strip('"'), 'other'], list(found))
            self.assertEqual(found, markup.load(f'{{{key}: 1, other: 2}}'))

    def test_keys_that_are_numbers_of_the_same_value(self):
        self.assertEqual({'1': 1, '01': 2, '0x1': 3, '1.0': 4}, markup.load(
            '1: 1\n01: 2\n0x1: 3\n1.0: 4'))

    def test_of_two_numbers_of_a_cell_one_is_refused(self):
        problem, = self.assertRaises(
            exception.InvalidTemplate, document.parse,
            'version: 1\ncells: {1: {node: 0}, 01: {node: 1}}').problems
        self.assertEqual('cells', problem.key)
        self.assertIn('01 can not stand here', problem.reason)

    def test_a_list_is_no_key(self):
        self.assertIn('line 1, column 3', str(self.assertRaises(
            exception.InvalidTemplate, markup.load, '? [1]\n: 2')))


class ValueTest(base.TestCase):

    def test_numbers_are_what_all_read_alike(self):
        for text, value in (
                ('1', 1), ('-7', -7), ('0', 0), ('2.0', 2.0),
                ('07', '07'), ('0x10', '0x10'), ('1_000', '1_000'),
                ('1:30', '1:30'), ('190:20:30', '190:20:30'), ('1e3', '1e3'),
                ('.inf', '.inf'), ('1' * 5000, '1' * 5000)):
            self.assertEqual([value], markup.load(f'- {text}'))
            self.assertIs(type(value), type(markup.load(f'- {text}')[0]))

    def test_words_and_dates(self):
        for text, value in (
                ('true', True), ('FALSE', False), ('~', None), ('', None),
                ('yes', 'yes'), ('off', 'off'), ('2026-02-28', '2026-02-28'),
                ('2026-02-30 25:00:00', '2026-02-30 25:00:00')):
            self.assertEqual({'a': value}, markup.load(f'a: {text}'))

    def test_tags(self):
        self.assertEqual(['7', 7, 'x'],
                         markup.load('[!!str 7, !!int 7, ! x]'))
        for text in ('!!binary YQ==', '!!python/name:os.system x',
                     '!!int 07', '!!set {a}', '!own {a: 1}'):
            exc = self.assertRaises(exception.InvalidTemplate, markup.load,
                                    f'a: {text}')
            self.assertIn('line 1, column 4', str(exc))
            self.assertIn(f'the tag {text.split()[0]} can not', str(exc))

    def test_anchors_and_merges(self):
        self.assertEqual(
            {'a': {'x': 1, 'y': 2}, 'b': {'x': 1, 'y': 3}},
            markup.load('a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}'))
        self.assertEqual({'x': 1}, markup.load('<<: [{x: 1}, {x: 2}]'))
        self.assertRaises(exception.InvalidTemplate, markup.load, '<<: 1')

    @hypothesis.given(_VALUES)
    @hypothesis.example(0.00018997409027098492)
    @hypothesis.example(-0.00010000000000000002)
    def test_what_programs_write_is_read(self, value):
        self.assertEqual([value], markup.load(json.dumps([value])))
        text = yaml.safe_dump(value)
        # A fraction with an exponent is text in YAML 1.1 without a dot.
        if not any(mark in text for mark in ('e+', 'e-')):
            self.assertEqual(value, markup.load(text))


class RefusedTest(base.TestCase):

    def refused(self, text):
        return str(self.assertRaises(exception.InvalidTemplate, markup.load,
                                     text))

    def test_a_key_that_stands_twice(self):
        for text, place in (
                ('a: 1\n"a": 2', 'line 2, column 1'),
                ('b: {a: 1, a: 2}', 'line 1, column 11'),
                ('<<: {b: 1}\n<<: {c: 1}\na: 1\na: 2', 'line 2, column 1'),
                ('{"b": [{"a": 1,\n"a": 1}]}', 'line 2, column 1'),
                ('{\n\t"a": 1,\n\t"a": 2\n}', 'line 3, column 2')):
            self.assertIn('stands here a second time', self.refused(text))
            self.assertIn(place, self.refused(text))

    def test_neither_yaml_nor_json(self):
        for text, place in (
                ('a: [', 'line 1'), ('a: b: c', 'line 1, column 5'),
                ('\n\x01', 'line 2, column 1'), ('{"a": }}', 'line 1'),
                ('a: 1\n---\nb: 2', 'line 2'), ('*a', 'line 1')):
            self.assertIn(place, self.refused(text))
            self.assertIn('it is neither YAML nor JSON', self.refused(text))
            self.assertTrue(self.refused(text).isprintable())

    def test_json_is_reported_as_json(self):
        self.assertIn('nor is it JSON: line 2, column 6: ',
                      self.refused('{"a": 1,\n\t"b" 2}'))

    def test_too_much(self):
        for text in ('[' * 70 + ']' * 70, '- ' * 3000,
                     '{"a": ' * 70 + '1' + '}' * 70,
                     '[' * 100_000, '[' * 100_000 + ']' * 100_000):
            self.assertIn('more than 64 levels deep', self.refused(text))
        lines = ['a0: &a0 [' + '1, ' * 10 + ']', *(
            f'a{n}: &a{n} [' + f'*a{n - 1}, ' * 10 + ']'
            for n in range(1, 12))]
        self.assertIn('250000 values', self.refused('\n'.join(lines)))
        self.assertIn('it refers to itself', self.refused('a: &a [*a]'))

    def test_a_mark_of_byte_order(self):
        self.assertEqual({'a': 1}, markup.load('\ufeff{"a": 1}'))
        self.assertEqual({'a': 1}, markup.load('\ufeffa: 1'))
