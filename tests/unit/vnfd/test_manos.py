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

"""Descriptors as OSM and ONAP have them."""

import json

from kongming import exception
from kongming.vnfd import sol001
from tests import base

#: Of OSM before its release nine.
EPA = """
vnfd:vnfd-catalog:
  vnfd:
  - id: ran
    vdu:
    - id: du
      vm-flavor: {vcpu-count: 4, memory-mb: 4096, storage-gb: 10}
      guest-epa:
        cpu-pinning-policy: DEDICATED
        cpu-thread-pinning-policy: PREFER
        mempage-size: LARGE
        numa-node-policy:
          mem-policy: STRICT
          node-cnt: '1'
          node:
          - id: '1'
            paired-threads: {num-paired-threads: '1'}
    - id: cu
      vm-flavor: {vcpu-count: 1, memory-mb: 512}
"""
SOL006 = """
vnfd:
  id: ran
  vdu:
  - {id: du, virtual-compute-desc: du-compute}
  virtual-compute-desc:
  - id: du-compute
    virtual-cpu:
      num-virtual-cpu: 6
      pinning: {policy: static, thread-policy: ISOLATE}
      cpu-quota: {limit: 5}
    virtual-memory:
      size: 4.0
      mempage-size: SIZE_1GB
      numa-node-policy:
        node-cnt: 2
        mem-policy: PREFERRED
        node:
        - {id: 0, vcpu: [{id: 0}, {id: 1}], memory-mb: 1024}
        - {id: 1, vcpu: [{id: 2}, {id: 3}, {id: 4}, {id: 5}],
           memory-mb: 3072, num-cores: 2}
"""
TOSCA = """
topology_template:
  node_templates:
    du:
      capabilities:
        virtual_compute:
          properties:
            virtual_cpu: {num_virtual_cpu: 6}
            virtual_memory:
              virtual_mem_size: 2 GB
              vdu_memory_requirements: {memoryPageSize: 2 MB,
                                        numberOfPages: "1024"}
            logical_node:
              one:
                logical_node_requirements:
                  logicalCpuPinningPolicy: '{"schemaVersion": "0",
                    "mandatory": "true", "configurationValue": "dedicated"}'
                  logicalCpuThreadPinningPolicy: '{"value": "avoid"}'
            requested_additional_capabilities:
              numa:
                support_mandatory: true
                requested_additional_capability_name: numa
                target_performance_parameters:
                  hw:numa_nodes: "2"
                  hw:numa_cpus.0: "0,1"
                  hw:numa_mem.0: "1024"
                  hw:numa_cpus.1: "2,3,4,5"
                  hw:numa_mem.1: "1024"
"""


def policy(*attributes):
    """Features of a VNFC, as a policy of ONAP has them."""
    return json.dumps({'content': {'flavorFeatures': [{
        'id': 'vfw', 'type': 'vnfc', 'flavorProperties': [{
            'hpa-feature': 'cpuPinning', 'hpa-version': 'v1',
            'hpa-feature-attributes': [
                {'hpa-attribute-key': key, 'hpa-attribute-value': value,
                 'operator': '=', 'unit': unit}
                for key, value, unit in attributes]}]}]}})


class ManoTest(base.TestCase):

    def lost(self, found):
        return {problem.key: problem.value for problem in found.lost}

    def refused(self, text, vdu=None):
        exc = self.assertRaises(exception.InvalidTemplate, sol001.read, text,
                                vdu)
        problem, = exc.problems
        self.assertTrue(str(exc).isprintable())
        return problem


class OsmTest(ManoTest):

    def test_guest_epa(self):
        found = sol001.read(EPA)
        self.assertEqual({
            'hw:cpu_policy': 'dedicated', 'hw:cpu_thread_policy': 'prefer',
            'hw:mem_page_size': 'large', 'hw:numa_nodes': '1'}, found.specs)
        self.assertEqual((4, 4096, {}),
                         (found.vcpus, found.ram_mib, found.keys))
        place = 'du.guest-epa.numa-node-policy.node.0'
        self.assertEqual({f'{place}.id': '1',
                          f'{place}.paired-threads': '...'},
                         self.lost(found))

    def test_sol006(self):
        found = sol001.read(SOL006)
        self.assertEqual({
            'hw:cpu_policy': 'dedicated', 'hw:cpu_thread_policy': 'isolate',
            'hw:mem_page_size': '1GB', 'hw:numa_nodes': '2',
            'hw:numa_cpus.0': '0,1', 'hw:numa_mem.0': '1024',
            'hw:numa_cpus.1': '2,3,4,5', 'hw:numa_mem.1': '3072'},
            found.specs)
        self.assertEqual({'kongming:memory.0': 'preferred',
                          'kongming:memory.1': 'preferred'}, found.keys)
        self.assertEqual({0: 'preferred', 1: 'preferred'},
                         found.template().memory)
        compute = 'virtual-compute-desc.du-compute'
        self.assertEqual({
            f'{compute}.virtual-cpu.cpu-quota': '...',
            f'{compute}.virtual-memory.numa-node-policy.node.1.num-cores':
                '2'}, self.lost(found))

    def test_words_that_nova_has_not(self):
        for word in ('AVOID', 'SEPARATE'):
            found = sol001.read(EPA.replace('PREFER', word))
            self.assertNotIn('hw:cpu_thread_policy', found.specs)
            self.assertEqual(word, self.lost(found)[
                'du.guest-epa.cpu-thread-pinning-policy'])
        found = sol001.read(EPA.replace('LARGE', 'PREFER_LARGE'))
        self.assertNotIn('hw:mem_page_size', found.specs)
        found = sol001.read(EPA.replace('DEDICATED', 'ANY'))
        self.assertNotIn('hw:cpu_policy', found.specs)
        self.assertNotIn('du.guest-epa.cpu-pinning-policy', self.lost(found))

    def test_refused(self):
        epa = 'du.guest-epa'
        for old, new, key, value in (
                ('DEDICATED', 'dedicate', 'cpu-pinning-policy', 'dedicate'),
                ('DEDICATED', '[DEDICATED]', 'cpu-pinning-policy', '...'),
                ('PREFER', 'no', 'cpu-thread-pinning-policy', 'no'),
                ('LARGE', '2.0', 'mempage-size', '2.0'),
                ("cnt: '1'", 'cnt: 2', 'numa-node-policy.node-cnt', '2'),
                ("id: '1'", 'id: x', 'numa-node-policy.node.0.id', 'x'),
                ('STRICT', 'TRUE', 'numa-node-policy.mem-policy', 'true')):
            problem = self.refused(EPA.replace(old, new))
            self.assertEqual((f'{epa}.{key}', value),
                             (problem.key, problem.value))
        self.assertIn("'vdu' stands here a second time", str(
            self.refused(EPA + '    vdu: []')))
        self.assertIn('two VDUs of this name', str(self.refused(
            EPA + '    - {id: du, guest-epa: {mempage-size: SMALL}}', 'du')))


class OnapTest(ManoTest):

    def test_tosca(self):
        found = sol001.read(TOSCA)
        self.assertEqual({
            'hw:cpu_policy': 'dedicated', 'hw:mem_page_size': '2MB',
            'hw:numa_nodes': '2', 'hw:numa_cpus.0': '0,1',
            'hw:numa_mem.0': '1024', 'hw:numa_cpus.1': '2,3,4,5',
            'hw:numa_mem.1': '1024'}, found.specs)
        self.assertEqual((6, 2048), (found.vcpus, found.ram_mib))
        self.assertEqual({
            'du.virtual_memory.vdu_memory_requirements.numberOfPages': '1024',
            'du.logical_node.one.logicalCpuThreadPinningPolicy': 'avoid'},
            self.lost(found))

    def test_policy(self):
        found = sol001.read(policy(
            ('logicalCpuThreadPinningPolicy', 'isolate', ''),
            ('logicalCpuPinningPolicy', '{"value": "dedicated"}', ''),
            ('memoryPageSize', '2', 'MB'), ('numaNodes', '2', ''),
            ('numaCpu-0', '0-1', ''), ('numaMem-0', '1', 'GB'),
            ('numCpuThreads', 2, ''), ('cpuModel', 'x', '')
        ).replace('0-1', '0, 1'))
        self.assertEqual({
            'hw:cpu_policy': 'dedicated', 'hw:cpu_thread_policy': 'isolate',
            'hw:mem_page_size': '2MB', 'hw:numa_nodes': '2',
            'hw:numa_cpus.0': '0,1', 'hw:numa_mem.0': '1024',
            'hw:cpu_threads': '2'}, found.specs)
        self.assertEqual({'vfw.flavorProperties.0.cpuModel': 'x'},
                         self.lost(found))

    def test_refused(self):
        for key, value, unit in (
                ('logicalCpuPinningPolicy', 'pinned', ''),
                ('numaNodes', '2.0', ''), ('numaMem-0', '1', 'cubits'),
                ('memoryPageSize', 'huge', ''), ('numaCpu-0', '0-1', '')):
            problem = self.refused(policy((key, value, unit)))
            self.assertEqual(f'vfw.flavorProperties.0.{key}', problem.key)
        self.assertIn('no JSON', str(sol001.read(policy(
            ('numaNodes', '{"value": ', ''))).lost[0]))

    def test_two_places_that_disagree(self):
        problem = self.refused(TOSCA.replace(
            'numberOfPages: "1024"', 'hw:mem_page_size: large'))
        self.assertIn("can not be both '2MB' and 'large'", problem.reason)

    def test_of_several_one_has_to_be_named(self):
        text = TOSCA + TOSCA.partition('node_templates:\n')[2].replace(
            'du:', 'cu:')
        self.assertIn('threads or NUMA: cu, du', str(self.refused(text)))
        self.assertEqual(6, sol001.read(text, 'cu').vcpus)
