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

"""Requests, plans and inventories as files."""

import json

import jsonschema
import yaml

from kongming.deployment import document as deployment_document
from kongming import exception
from kongming.fit import fit
from kongming.plan import document as document_mod
from kongming.plan import hosts_file
from kongming.plan import request as request_mod
from kongming.solver import problem as problem_mod
from tests import base
from tests.unit.solver import test_solve

RAN = """
version: 1
name: ran
templates:
  du: {vcpus: 4, ram: 64, properties: {hw:cpu_policy: dedicated}}
  cu: {vcpus: 2, ram: 64, properties: {hw:cpu_policy: dedicated},
       cells: {0: {node: 1}}}
servers:
  cu-a: {template: cu, host: one, image: idle}
plan:
  count: {du: {servers: 2, image: idle, networks: none}}
  apart: {pair: [du-*]}
  devices: {nic: {one: [0], two: [1]}}
  near: {du-1: nic}
  reserve: {"*": 3, one: 4-5}
  split: {du: 2}
"""


class RequestTest(base.TestCase):

    def request(self, text=RAN, **part):
        loaded = yaml.safe_load(text)
        loaded['plan'].update(part)
        return request_mod.Request(loaded)

    def test_read(self):
        request = self.request()
        asks = {ask.name: ask for ask in request.asks}
        self.assertEqual({'cu-a', 'du-1', 'du-2'}, set(asks))
        self.assertEqual(frozenset(['one']), asks['cu-a'].hosts)
        self.assertEqual(frozenset(['pair']), asks['du-2'].apart)
        self.assertEqual({'one': {0}, 'two': {1}}, asks['du-1'].near)
        self.assertIsNone(asks['du-2'].near)
        self.assertEqual([[4], [2, 2]], [
            [cell.need for cell in shape.cells]
            for shape in asks['du-1'].shapes])
        # What is the same is one thing.
        self.assertIs(asks['du-1'].shapes, asks['du-2'].shapes)
        free = [node.free for node in request.reserved(
            'one', test_solve.host()).nodes]
        self.assertEqual([{0, 1, 2}, {6, 7}], free)

    def test_laid_out(self):
        request = self.request()
        hosts = {'one': test_solve.host([0]), 'two': test_solve.host()}
        problem = problem_mod.Problem(hosts, request.asks)
        layout = test_solve.solve_mod.solve(problem, test_solve.endless)
        test_solve.check(problem, layout)
        # On the one two nodes are left for it, on the other it has one.
        self.assertEqual((0, 4, 2), layout.score)
        document = request.laid_out(layout.spots)
        found = deployment_document.parse(json.dumps(document))
        self.assertEqual({'one': 2, 'two': 1}, {
            host: sum(server.host == host
                      for server in found.servers.values())
            for host in hosts})
        for name, spot in layout.spots.items():
            flavor = found.flavors[found.servers[name].flavor]
            self.assertEqual(spot.assignment, fit.fit(
                hosts[spot.host], flavor.demand))

    def test_240_moves_in_a_line(self):
        move = document_mod.Move(
            'a', 'a', ((0, {n: n for n in range(240)}),),
            ((0, {n: n + 240 for n in range(240)}),))
        self.assertEqual('0-239:0-239->240-479', str(move))

    def test_what_is_wrong(self):
        for part, words in (
                ({'count': {'du': {'servers': 0, 'image': 'i'}}},
                 'plan.count.du.servers = \'0\': it must be 1 or more'),
                ({'split': {'xu': 2}}, "plan.split.xu = '2': there is no such "
                                       'template'),
                ({'near': {'du-1': 'disk'}}, "plan.near.du-1 = 'disk': there "
                 'is no such device; plan.devices has nic'),
                ({'apart': {'pair': ['x*']}},
                 "plan.apart.pair = 'x*': no server has such a name"),
                ({'reserve': {'one': 'all'}}, 'pCPUs belong here'),
                ({'other': 1}, 'other can not stand here')):
            exc = self.assertRaises(exception.InvalidTemplate, self.request,
                                    **part)
            self.assertIn(words, str(exc))
        self.assertRaises(exception.InvalidTemplate, request_mod.Request,
                          'text')


class DocumentTest(base.TestCase):

    PLAN = document_mod.Plan(
        'optimum', (document_mod.Level('moves', 1, 1),),
        {'before': {'free_pcpus': 3}, 'after': {'free_pcpus': 3}}, 'it',
        steps=(document_mod.Step('one', (document_mod.Move(
            'id', 'du-1', ((0, {0: 4, 1: 5, 2: 9}), (1, {})),
            ((1, {0: 8, 1: 9, 2: 4}), (1, {})), 64),)),))

    def test_there_and_back(self):
        for schema in (document_mod.schema(), request_mod.schema()):
            jsonschema.Draft202012Validator.check_schema(schema)
        for found in (self.PLAN, document_mod.Plan(
                'search', (document_mod.Level('unplaced', 2, 1),),
                deployment={'name': 'ran'})):
            self.assertEqual(found, document_mod.parse(
                document_mod.dump(found)))
            self.assertEqual(found, document_mod.parse(json.dumps(
                document_mod.to_document(found))))
        step, = self.PLAN.steps
        self.assertEqual(step, step.back().back())
        self.assertEqual('cell 0 node 0->1 0:4->8 1:5->9 2:9->4',
                         str(step.moves[0]))

    def test_what_is_wrong(self):
        whole = document_mod.to_document(self.PLAN)
        cell = {'node': 0, 'pin': '0:x'}
        server = whole['moves'][0]['servers'][0]
        for part, words in (
                ({'moves': [{'host': 'one', 'servers': [
                    {**server, 'to': [cell]}]}]},
                 "moves.0.servers.0.to.0.pin = '0:x', column 3"),
                ({'deployment': {}}, 'either a deployment or moves'),
                ({'version': 2}, 'only version 1 is known')):
            exc = self.assertRaises(
                exception.InvalidTemplate, document_mod.parse,
                json.dumps({**whole, **part}))
            self.assertIn(words, str(exc))


class CountTest(base.TestCase):

    WHOLE = {'version': 1, 'name': 'ran', 'servers': {}, 'templates': {
        name: {'vcpus': 1, 'ram': 64} for name in ('a_b', 'a-b')}}

    def refused(self, **whole):
        return str(self.assertRaises(
            exception.InvalidTemplate, request_mod.Request,
            {**self.WHOLE, **whole}))

    def test_servers_that_would_be_called_alike(self):
        self.assertIn('called as those of a_b', self.refused(plan={'count': {
            name: {'servers': 1, 'image': 'i'} for name in ('a_b', 'a-b')}}))

    def test_servers_that_are_none(self):
        count = {'count': {'a-b': {'servers': 1, 'image': 'i'}}}
        for servers in ('x', 5, [1], True):
            self.assertIn('servers', self.refused(servers=servers,
                                                  plan=count))
        for plan in (5, 'x', [], False):
            self.assertIn('plan', self.refused(plan=plan))


class HostNameTest(base.TestCase):
    """Hosts are called as Placement calls them."""

    def request(self, **plan):
        return request_mod.Request({
            'version': 1, 'name': 'ran',
            'templates': {'du': {'vcpus': 1, 'ram': 64}},
            'servers': {'a': {'template': 'du', 'image': 'i', 'host': 'A'},
                        'b': {'template': 'du', 'image': 'i'}},
            'plan': plan})

    def test_everywhere(self):
        found = self.request(reserve={'*': '0', 'A': '1'}, near={'a': 'nic'},
                             devices={'nic': {'A': [0], 'B': [1]}})
        self.assertEqual({'A', 'B'}, found.hosts())
        found.call({'A': 'a.example.org'})
        ask = {ask.name: ask for ask in found.asks}['a']
        self.assertEqual({'a.example.org'}, ask.hosts)
        self.assertEqual({'a.example.org', 'B'}, set(ask.near))
        self.assertEqual({'a.example.org', 'B'}, found.hosts())

    def test_one_host_by_two_names(self):
        found = self.request(reserve={'A': '1', 'a': '2'})
        self.assertIn('plan.reserve.a', str(self.assertRaises(
            exception.InvalidTemplate, found.call,
            {'A': 'a.example.org', 'a': 'a.example.org'})))

    def test_hosts_that_are_left_out(self):
        found = self.request()
        found.leave_out({'ran.du': {'A'}}, ['A', 'B'])
        self.assertEqual({'a': frozenset(), 'b': {'B'}}, {
            ask.name: ask.hosts for ask in found.asks})


class InventoryTest(base.TestCase):

    NODE = {'node': 0, 'cores': [[0, 1], [2, 3]], 'dedicated': [1, 2, 3],
            'shared': [0], 'taken': [2], 'owners': {'2': 'server a'},
            'memory_mib': 512, 'memory_free_mib': 256,
            'pages': [{'size_kib': 4, 'total': 131072, 'free': 65536}]}

    def test_one_a_list_or_several(self):
        one = json.dumps({'host': 'a', 'map': [self.NODE]}, indent=2)
        two = json.dumps({'host': 'b', 'map': [self.NODE]})
        for text, names in ((one, 'a'), (f'{one}\n{two}\n', 'ab'),
                            (f'[{one}, {two}]', 'ab')):
            hosts = hosts_file.read(text)
            self.assertEqual(set(names), set(hosts))
        node, = hosts['a'].nodes
        self.assertEqual((frozenset({1, 3}), 256, 'server a'), (
            node.free, node.memory_used_mib, node.owners[2]))

    def test_what_is_wrong(self):
        for text, words in (
                ('', 'no hosts in it'), ('{"host": ', 'line 1, column 10'),
                ('[{"host": "a"}]', 'entry 1 of the inventory is not what'),
                ('[3]', 'entry 1'),
                (json.dumps([{'host': 'a', 'map': [self.NODE]}] * 2),
                 "host 'a' stands in the inventory a second time"),
                ('{"host": "a", "host": "b", "map": []}',
                 "'host' stands a second time"),
                (json.dumps({'host': 'a', 'map': [
                    {**self.NODE, 'owners': []}]}), 'entry 1'),
                ('{"host": "a", "map": [{"node": 1e999}]}', 'entry 1'),
                ('[' * 100000, 'can not be read'),
                (f'[{"9" * 5000}]', 'can not be read')):
            exc = self.assertRaises(exception.InvalidTopology,
                                    hosts_file.read, text)
            self.assertIn(words, str(exc))
