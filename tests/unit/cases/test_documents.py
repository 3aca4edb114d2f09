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

"""Documents that are read wrongly or refused without a place.

And one thing that no page of the documentation says.
"""

import pathlib

from kongming.deployment import document as document_mod
from kongming import exception
from kongming.template import document
from kongming.vnfd import sol001
from tests import base
from tests import documents

DESCRIPTOR = (pathlib.Path(__file__).parents[2] / 'data' / 'cases'
              / 'vnfd-df.yaml').read_text(encoding='utf-8')


class TemplateTest(base.TestCase):

    def test_yaml_words_are_names_of_profiles(self):
        """YAML 1.1 has on and off for booleans; a name is text."""
        found = document.parse("""
version: 1
profiles:
  off: {when: "22:00-06:00 Europe/Berlin", cells: {0: {pin: "0-1~v0"}}}
  on: {when: "06:00-22:00 Europe/Berlin", cells: {0: {pin: "0-1:v0-1"}}}
""")
        self.assertEqual(['off', 'on'], sorted(found.profiles))

    def test_json_may_be_indented_by_tabs(self):
        found = document.parse(
            '{\n\t"version": 1,\n\t"cells": {\n\t\t"0": {"node": 1}\n\t}\n}')
        self.assertEqual({0: 1}, dict(found.nodes))

    def test_a_date_that_does_not_exist_is_refused_at_its_place(self):
        exc = self.assertRaises(
            exception.InvalidTemplate, document.parse,
            'version: 1\ncells: {0: {node: 1}}\nemulator: 2026-02-30\n')
        problem, = exc.problems
        self.assertIn('emulator', problem.key)
        self.assertEqual('2026-02-30', problem.value)


class DeploymentTest(base.TestCase):

    def test_a_fraction_of_vcpus_is_refused_at_its_place(self):
        exc = self.assertRaises(
            exception.InvalidTemplate, document_mod.parse, """
version: 1
name: ran
templates:
  du: {vcpus: 2.0, ram: 64, disk: 1, cells: {0: {node: 1}},
       properties: {hw:cpu_policy: dedicated}}
servers:
  a: {template: du, image: i}
""")
        problem, = exc.problems
        self.assertEqual(('templates.du.vcpus', '2.0'),
                         (problem.key, problem.value))


class DescriptorTest(base.TestCase):
    """A deployment flavour with two VDUs, as a vendor writes it."""

    def pins(self, text, vdu):
        return {cell: ' '.join(map(str, pins))
                for cell, pins in sol001.parse(text, vdu).pins.items()}

    def test_rules_without_quotes_are_read_as_they_are_written(self):
        """TOSCA is YAML 1.2, where 1:3 is text and not 63."""
        self.assertEqual({0: '0:2 1:3 2:12 3:13'},
                         self.pins(DESCRIPTOR, 'VDU_UP'))

    def test_a_vdu_that_stands_twice_is_refused(self):
        quoted = DESCRIPTOR
        for rule in ('0:2', '1:3', '2:12', '3:13'):
            quoted = quoted.replace(f'- {rule}\n', f'- "{rule}"\n')
        twice = quoted.replace('    VDU_CP:', '    VDU_UP:')
        exc = self.assertRaises(exception.InvalidTemplate, sol001.parse,
                                twice, 'VDU_UP')
        self.assertIn("'VDU_UP' stands here a second time", str(exc))


class DocumentationTest(base.TestCase):

    def test_claims_on_mariadb(self):
        """Of simultaneous claims of a pCPU only one may win.

        Placement on MariaDB needs an option for that; see
        tests/functional/test_cases_placement.py.
        """
        self.assertGreater(sum('allocation_conflict_retry_count'
                               in documents.read(page)
                               for page in documents.pages()), 0)
