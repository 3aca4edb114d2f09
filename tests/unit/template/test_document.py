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

from kongming import exception
from kongming.template import document
from kongming.template import template
from tests import base

TEXT = """
version: 1
cells:
  0: {node: 1, pin: "0:5 1:7"}
  1:
    pin: {2: 8, 3: n0c2t1}
"""


class DocumentTest(base.TestCase):

    def problems(self, text):
        exc = self.assertRaises(exception.InvalidTemplate, document.parse,
                                text)
        return [str(problem) for problem in exc.problems]

    def test_parse(self):
        self.assertEqual(
            template.decode({'kongming:node.0': '1',
                             'kongming:pin.0': '0:5 1:7',
                             'kongming:pin.1': '2:8 3:n0c2t1'}),
            document.parse(TEXT))

    def test_json(self):
        self.assertEqual({0: 3}, dict(document.parse(
            '{"version": 1, "cells": {"0": {"node": 3}}}').nodes))

    def test_there_and_back(self):
        desired = document.parse(TEXT)
        self.assertEqual(desired, document.from_document(
            document.to_document(desired)))

    def test_lend_is_true_or_false(self):
        desired = document.parse('version: 1\nborrow: node\nprofiles: '
                                 '{n: {lend: true, when: 22:00-06:00}}')
        self.assertEqual((True, 'node'), (
            desired.profiles['n'].lend, desired.borrow))
        found = document.to_document(desired)
        self.assertIs(True, found['profiles']['n']['lend'])
        self.assertEqual(desired, document.from_document(found))
        self.assertIn('it must be true or false', self.problems(
            'version: 1\nprofiles: {n: {lend: "true"}}')[0])

    def test_power_is_a_word(self):
        desired = document.parse('version: 1\nprofiles: '
                                 '{n: {power: off, when: 22:00-06:00}}')
        self.assertEqual('off', desired.profiles['n'].power)
        self.assertEqual(desired, document.from_document(
            document.to_document(desired)))
        self.assertIn('it must be one of low, off', self.problems(
            'version: 1\nprofiles: {n: {power: false}}')[0])

    def test_all_problems_at_once(self):
        found = self.problems('version: 2\ncolour: red\ncells:\n'
                              '  0: {node: x, pins: "0:1"}\n  1: 5\n')
        self.assertEqual(4, len(found), found)
        self.assertIn("cells.0 = '...': pins can not stand here, node, pin, "
                      "memory can", found)

    def test_syntax_error_names_the_line(self):
        self.assertIn('line 2', self.problems('cells:\n  0: [}')[0])

    def test_no_mapping(self):
        self.assertIn('it must be a mapping', self.problems('- 1')[0])
        self.assertIn('it must be a mapping', self.problems('')[0])
