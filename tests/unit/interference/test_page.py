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

"""A report as a page: what of a host goes into it."""

import json

from kongming.interference import page
from kongming.interference import text
from kongming.render import cloud as cloud_mod
from tests import base
from tests import clouds
from tests import reports
from tests.unit.domain import test_audit
from tests.unit.render import test_page


class CloudTest(base.TestCase):

    def cells(self, *running, state=test_audit.STATE):
        found = page.cloud('c1', '', state, running)
        self.assertEqual([], [line for host in found.hosts for line
                              in cloud_mod.conflicts(host, found.servers)])
        return [server.cells for server in found.servers]

    def cell(self, node, pins, floating=0, memory=0, more=()):
        return cloud_mod.Cell(
            node, pins, frozenset(pins.values()).union(more), floating,
            memory)

    def test_by_the_binding_of_memory(self):
        self.assertEqual(
            [(self.cell(0, {0: 1}, 1, 2048),)], self.cells(
                test_audit.running(vcpus=((1,), (0, 4)), memory_kib=(2 << 20,),
                                   nodes=frozenset({0}))))
        # Of two cells each has a node, whatever the whole may use.
        domain = test_audit.running(
            vcpus=((1,), (2,), (3,)), memory_kib=(1 << 20, 2 << 20),
            nodes=frozenset({0, 1}),
            memnodes={0: frozenset({0}), 1: frozenset({1})})
        domain = test_audit.dataclasses.replace(
            domain, domain=test_audit.dataclasses.replace(
                domain.domain, cells=(frozenset({0}), frozenset({1, 2}))))
        self.assertEqual([(self.cell(0, {0: 1}, 0, 1024),
                           self.cell(1, {1: 2, 2: 3}, 0, 2048))],
                         self.cells(domain))

    def test_by_pins(self):
        """Memory that is bound to no node is on none."""
        self.assertEqual([(self.cell(1, {0: 2}, 1),)], self.cells(
            test_audit.running(vcpus=((2,), (0, 4)))))
        self.assertEqual(
            [(self.cell(0, {0: 1}), self.cell(1, {1: 2}))], self.cells(
                test_audit.running(vcpus=((1,), (2,), (0, 4)))))

    def test_all_of_it_floats(self):
        self.assertEqual([()], self.cells(test_audit.running(
            vcpus=((0, 4),))))

    def test_pcpus_of_the_emulator(self):
        flavor = test_audit.flavor([0], isolated=True)
        self.assertEqual([(self.cell(0, {0: 1}, more=[5]),)], self.cells(
            test_audit.running(vcpus=((1,),), emulator=(5,), flavor=flavor)))
        self.assertEqual(
            [(self.cell(0, {0: 1}), self.cell(1, {}, more=[6]))], self.cells(
                test_audit.running(vcpus=((1,),), emulator=(6,),
                                   flavor=flavor)))

    def test_what_is_owned_is_taken(self):
        found = page.cloud('c1', '', test_audit.STATE, [test_audit.running(
            vcpus=((1,), (2,)))])
        self.assertEqual({1, 2}, {pcpu for node in found.hosts[0].state.nodes
                                  for pcpu in node.taken})
        # Where nova.conf divides nothing, too.
        found = page.cloud('c1', '', test_audit.ALL, [test_audit.running(
            vcpus=((1,),))])
        self.assertEqual({1}, {pcpu for node in found.hosts[0].state.nodes
                               for pcpu in node.taken})

    def test_names(self):
        """Nova's with the domain's, which the report names."""
        found = page.cloud('c1', '', test_audit.STATE, [
            test_audit.running('i-1', flavor=test_audit.flavor([0])),
            test_audit.running('own')])
        self.assertEqual(['server (i-1)', 'own'],
                         [server.name for server in found.servers])


class FileTest(base.TestCase):

    def test_all_of_a_report(self):
        _running, found = reports.report()
        _policy, data, _runs = test_page.parts(reports.drawn())
        self.assertEqual(json.loads(json.dumps(text.document(found))),
                         data['report'])
        self.assertEqual(
            ['compute1', sorted(name for name, *_ in reports.DOMAINS)],
            [data['name'], [row[1] for row in data['servers']]])
        self.assertEqual(
            ['Times of interrupts are not measured: --no-trace',
             'The trace has lost 3 events; its times are too small.'],
            data['doubts'])

    def test_hostile_names(self):
        """Of threads, devices, domains and hosts."""
        harmless = test_page._Elements(reports.drawn()).found
        known = test_page.parts(reports.drawn())[::2]
        for name in clouds.HOSTILE:
            made = reports.drawn(name, ((name, (2, 3), 0),), name=name)
            self.assertTrue(made.isascii())
            self.assertEqual([one[:2] for one in harmless], [
                one[:2] for one in test_page._Elements(made).found])
            policy, data, runs = test_page.parts(made)
            self.assertEqual(known, (policy, runs))
            self.assertNotRegex(json.dumps(data, ensure_ascii=False),
                                test_page.OBEYED)
            self.assertEqual(
                test_page.page._shown(name),
                data['report']['disturbances'][0]['name'])
