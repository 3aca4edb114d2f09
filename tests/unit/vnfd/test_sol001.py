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

"""Pins in VNF descriptors."""

import hypothesis
from hypothesis import strategies as st
import yaml

from kongming import exception
from kongming.template import grammar
from kongming.template import template
from kongming.vnfd import sol001
from tests import base

VNFD = """
tosca_definitions_version: tosca_simple_yaml_1_3
topology_template:
  node_templates:
    VNF: {type: example.VNF}
    du:
      type: tosca.nodes.nfv.Vdu.Compute
      capabilities:
        virtual_compute:
          properties:
            virtual_cpu:
              num_virtual_cpu: 4
              virtual_cpu_pinning: PINNING
"""
STATIC = ('{virtual_cpu_pinning_policy: static, '
          'virtual_cpu_pinning_rule: RULES}')


class ParseTest(base.TestCase):

    def pins(self, pinning, vdu=None):
        return {cell: ' '.join(map(str, pins)) for cell, pins in sol001.parse(
            VNFD.replace('PINNING', pinning), vdu).pins.items()}

    def refused(self, words, pinning, vdu=None):
        exc = self.assertRaises(exception.InvalidTemplate, self.pins,
                                pinning, vdu)
        self.assertIn(words, str(exc))
        self.assertTrue(str(exc).isprintable())

    def test_static(self):
        self.assertEqual({0: '0:4 1:36'}, self.pins(STATIC.replace(
            'RULES', '["0:4", "1:36"]')))
        self.assertEqual({0: '0:4', 1: '1:n1c0t0'}, self.pins(STATIC.replace(
            'RULES', '["0:4", "1=1:n1c0t0"]'), 'du'))

    def test_dynamic(self):
        self.assertEqual({}, self.pins(
            '{virtual_cpu_pinning_policy: dynamic}'))

    def test_refused(self):
        for words, pinning in (
                ('du.virtual_cpu_pinning.virtual_cpu_pinning_policy', '{}'),
                ('must be static or dynamic', '[]'),
                ('there are no rules with dynamic',
                 '{virtual_cpu_pinning_policy: dynamic, '
                 'virtual_cpu_pinning_rule: ["0:1"]}'),
                ('must be a list of rules', STATIC.replace('RULES', '"0:1"')),
                ('must be a list of rules', STATIC.replace('RULES', '[]')),
                ('virtual_cpu_pinning_rule.1', STATIC.replace(
                    'RULES', '["0:4", {1: 2}]')),
                ('it must be text', STATIC.replace('RULES', '[0]')),
                ("'x' is not a pCPU",
                 STATIC.replace('RULES', '["0:4", "1:x"]')),
                ('1:1:36', STATIC.replace('RULES', '["1:1:36"]')),
                ('more than one line',
                 STATIC.replace('RULES', '["0:1\\n1:2"]'))):
            self.refused(words, pinning)
        self.refused('one of those that say something of pinning, '
                     'threads or NUMA: du',
                     STATIC, 'cu')

    def test_no_descriptor(self):
        for text in ('', '[1]', 'a: b', 'topology_template: 5', '{'):
            self.assertRaises(exception.InvalidTemplate, sol001.parse, text)


class DumpTest(base.TestCase):

    @hypothesis.given(st.dictionaries(
        st.integers(0, 3), st.integers(0, 60), min_size=1))
    def test_there_and_back(self, cells):
        pins = {cell: (grammar.Pin((grammar.Range(cell, cell),),
                                   (grammar.Range(64 * cell + p,
                                                  64 * cell + p),)),)
                for cell, p in cells.items()}
        desired = template.Template(pins=pins)
        self.assertEqual(desired, sol001.parse(yaml.safe_dump({
            'topology_template': {'node_templates': {'x': {'capabilities': {
                'virtual_compute': {'properties': sol001.dump(desired)}}}}}})))

    def test_no_pins(self):
        self.assertEqual(
            {'virtual_cpu': {'virtual_cpu_pinning': {
                'virtual_cpu_pinning_policy': 'dynamic'}}},
            sol001.dump(template.Template()))
