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

"""Documents for a whole cluster."""

import json
import random
import string

import yaml

from kongming.deployment import deployment
from kongming.deployment import document
from kongming import exception
from kongming.template import template
from tests import base

RAN = """
version: 1
name: ran
templates:
  du: &du
    vcpus: 2
    ram: 64
    properties: {hw:cpu_policy: dedicated, hw:cpu_realtime: false}
    cells: {0: {node: 1}}
    grant: template
servers:
  du-1: {template: du, host: compute1, image: idle, networks: none}
  du-2: {template: du, image: idle, networks: [a, b],
         cells: {0: {pin: "0:15 1:12"}}}
"""


class DocumentTest(base.TestCase):

    def problems(self, text):
        exc = self.assertRaises(exception.InvalidTemplate,
                                document.parse, text)
        return [str(problem) for problem in exc.problems]

    def test_read(self):
        for text in (RAN, json.dumps(yaml.safe_load(RAN))):
            found = document.parse(text)
            self.assertEqual('ran', found.name)
            self.assertEqual(
                [('ran.du', 'compute1', 'none'),
                 ('ran.du.du-2', None, ('a', 'b'))],
                [(server.flavor, server.host, server.networks)
                 for server in found.servers.values()])
            self.assertEqual({
                'kongming:node.0': '1', 'kongming:grant': 'template',
                'kongming:pin.0': '0:15 1:12'}, template.encode(
                    found.flavors['ran.du.du-2'].desired))
            specs = found.flavors['ran.du'].specs('ran')
            self.assertEqual(
                ('ran', 'dedicated', 'false', 'required'), tuple(
                    specs[key] for key in (
                        deployment.MARK, 'hw:cpu_policy', 'hw:cpu_realtime',
                        'trait:CUSTOM_KONGMING_HOOK')))

    def test_every_problem_by_its_place(self):
        self.assertEqual([
            "name = '9': it must be a letter and up to 31 more letters, "
            'digits, - or _',
            "servers.a.image = '5': it must be text",
            "servers.b.template = 'cu': there is no such template; there are "
            'du, good, small',
            "servers.c = '...': image must be said",
            "servers.d.networks = '5': it must be text or a list",
            "servers.e = '...': cell 0: vCPU 1 is beyond the flavor's 1 "
            'vCPU(s)',
            "servers.f.kongming:pin.0 = 'x', column 1: 'x' has no pCPU; "
            'write vCPU:pCPU for one to one (0:4) or vCPU~pCPUs to float '
            '(0~4-7)',
            "templates.du.cells.0 = '...': pins can not stand here, node, "
            'pin, memory can',
            "templates.small = '...': vcpus must be said",
            "templates.small.kongming:sched = '0:fast', column 3: 'fast' is "
            'not a scheduling policy; other, batch, idle, fifo, rr are',
            "templates.small.ram = '0': it must be 1 or more",
        ], sorted(self.problems("""
            name: "9"
            templates:
              du: {vcpus: 2, ram: 64, cells: {0: {pins: "0:1"}}}
              small: {ram: 0, sched: "0:fast"}
              good: {vcpus: 1, ram: 64, properties: {hw:cpu_policy: dedicated}}
            servers:
              a: {template: du, image: 5}
              b: {template: cu, image: idle}
              c: {template: du}
              d: {template: du, image: idle, networks: 5}
              e: {template: good, image: idle, cells: {0: {pin: "0-1:4-5"}}}
              f: {template: good, image: idle, cells: {0: {pin: "x"}}}
            """)))

    def test_a_name_that_stands_twice(self):
        problem, = self.problems(RAN + '  du-1: {template: du}\n')
        self.assertIn("'du-1' stands here a second time", problem)

    def test_yaml_saves_words(self):
        found = document.parse("""
            name: ran
            templates:
              du: &du {vcpus: 2, ram: 64, cells: {0: {node: 1}}}
              cu: {<<: *du, vcpus: 4}
            servers:
              a: {template: cu, image: idle}
            """)
        self.assertEqual(4, found.flavors['ran.cu'].vcpus)

    def test_what_is_made_from_the_template(self):
        self.assertEqual([
            "templates.du.properties.kongming:pin.0 = '0:1': it is made from "
            'the template; say it there',
            "templates.du = '...': it says nothing of where the server is to "
            'be; cells: {0: {node: 0}} would do'], self.problems("""
            name: ran
            templates:
              du: {vcpus: 2, ram: 64, properties: {kongming:pin.0: "0:1"}}
            servers:
              a: {template: du, image: idle}
            """))

    def test_garbage_is_a_problem_not_a_traceback(self):
        """Any part replaced by anything: told by place, or right."""
        rng = random.Random(7)
        for _ in range(60):
            loaded = yaml.safe_load(RAN)
            spot = loaded
            while True:
                key = rng.choice(list(spot))
                if not isinstance(spot[key], dict) or rng.random() < .3:
                    break
                spot = spot[key]
            spot[key] = rng.choice([
                None, 5, -1, True, [], {}, [5], {'a': {}}, 'x', '', 1.5,
                ''.join(rng.choices(string.printable, k=9))])
            try:
                document.parse(json.dumps(loaded))
            except exception.InvalidTemplate as exc:
                for problem in exc.problems:
                    self.assertTrue(problem.key and problem.reason)
