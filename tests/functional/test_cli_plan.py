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

"""Plans made, shown, carried out and reverted by the real shell."""

import json
import pathlib
import tempfile

import yaml

from kongming.plan import document as document_mod
from tests.functional import test_cli


class PlanBase(test_cli.CliBase):

    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.enterContext(
            tempfile.TemporaryDirectory()))
        self.plan = str(self.folder / 'a.plan')

    def kongming(self, *words, **kwargs):
        return self.openstack('kongming', *words, **kwargs)

    def granted(self, vcpus, *properties):
        """A flavor whose servers may be moved."""
        return self.flavor(vcpus, 'kongming:grant=template', *properties)

    def boot(self, name, flavor, pins=None):
        """:param pins: where it is moved to; nothing names them afterwards"""
        self.openstack('server', 'create', '--flavor', flavor, '--image',
                       'idle', '--nic', 'none', '--wait', name)
        self.addCleanup(self.openstack, 'server', 'delete', '--wait', name)
        if pins:
            self.kongming('server', 'set', '--pin', f'0={pins}', '--wait',
                          name)
            self.kongming('server', 'unset', '--all', '--wait', name)

    def owned(self, name):
        return [(cell['node'], cell['pins']) for cell in self.json(
            'kongming', 'server', 'show', name)['owned']]

    def metadata(self, name):
        return self.json('kongming', 'server', 'show', name)['metadata']


class DefragTest(PlanBase):

    def test_host_is_defragmented_and_reverted(self):
        """A host is fragmented, a boot is refused, and then it is not.

        ::

            node 0: 2 . 4 A 6 A      node 1: . . B . B .
        """
        small, large = self.granted(2), self.granted(5)
        self.boot('a', small, '0:4 1:6')
        self.boot('b', small, '0:12 1:14')
        a, b = self.owned('a'), self.owned('b')
        _out, err = self.openstack(
            'server', 'create', '--flavor', large, '--image', 'idle',
            '--nic', 'none', '--wait', 'large', status=1)
        self.openstack('server', 'delete', '--wait', 'large')
        self.assertIn('Error creating server', err)

        out, _err = self.kongming(
            'plan', 'defrag', 'compute1', '--for-flavor', large, '--out',
            self.plan, '--width', '80')
        self.assertIn('compute1 today', out)
        self.assertIn(f'A free for 1 x {large} on compute1', out)
        self.assertIn('cell 0 node ', out)
        self.assertIn(', 64 MiB', out)
        self.assertIn('no plan is better', out)
        self.assertIn('capacity               0 -> 1', out)
        # So far nothing has happened.
        self.assertEqual((a, b), (self.owned('a'), self.owned('b')))
        shown = self.json('kongming', 'plan', 'show', self.plan)
        self.assertEqual(('moves', True, {'unplaced': 0, 'moves': 1,
                                          'memory': 64}), tuple(
            shown[key] for key in ('kind', 'proven', 'score')))

        _out, err = self.kongming('plan', 'apply', self.plan)
        self.assertIn('[1/1] compute1: ', err)
        self.assertIn('1 step(s) done', err)
        moved, = [name for name, before in (('a', a), ('b', b))
                  if self.owned(name) != before]
        goal = document_mod.parse(pathlib.Path(
            self.plan).read_text()).steps[0].moves[0]
        self.assertEqual(moved, goal.name)
        self.assertEqual([(node, {str(v): p for v, p in pins.items()})
                          for node, pins in goal.goal], self.owned(moved))
        # No request is left, and doing it again does nothing.
        self.assertEqual({}, self.metadata(moved))
        _out, err = self.kongming('plan', 'apply', self.plan)
        self.assertEqual('There is nothing to do.\n', err)
        out, _err = self.kongming('plan', 'defrag', 'compute1',
                                  '--for-flavor', large)
        self.assertIn('already; nothing needs to move', out)

        self.openstack('server', 'create', '--flavor', large, '--image',
                       'idle', '--nic', 'none', '--wait', 'large')
        # Its pCPUs are in the way now; the server stays where it is.
        _out, err = self.kongming('plan', 'revert', self.plan, status=1)
        self.assertIn('0 of 1 steps are done, then: ', err)
        self.assertIn('is owned by server large', err)
        self.assertEqual({}, self.metadata(moved))
        self.openstack('server', 'delete', '--wait', 'large')
        _out, err = self.kongming('plan', 'revert', self.plan)
        self.assertIn('1 step(s) done', err)
        self.assertEqual((a, b), (self.owned('a'), self.owned('b')))
        self.assertEqual({}, self.metadata(moved))

    def test_whole_cores(self):
        """Without a flavor: the most whole cores on one node."""
        one = self.granted(1)
        self.boot('a', one, '0:2')
        self.boot('b', one, '0:12')
        found = json.loads(self.kongming(
            'plan', 'defrag', 'compute1', '--format', 'json', '--out',
            self.plan)[0])
        self.assertEqual(1, sum(len(step['servers'])
                                for step in found['moves']))
        self.assertEqual(0, found['figures']['after']['stranded_pcpus'])
        self.kongming('plan', 'apply', self.plan)
        self.assertEqual(1, len({self.owned(name)[0][0] for name in 'ab'}))
        self.kongming('plan', 'revert', self.plan)
        self.assertEqual([[(0, {'0': 2})], [(1, {'0': 12})]],
                         [self.owned(name) for name in 'ab'])

    def test_who_is_in_the_way(self):
        native, large = self.flavor(1), self.flavor(6)
        still = self.flavor(1, 'kongming:node.0=1')
        self.boot('native', native)
        self.boot('still', still)
        for words in ((), ('compute1',)):
            _out, err = self.kongming('plan', 'defrag', *words,
                                      '--for-flavor', large, status=1)
            self.assertIn('compute1: there is no way to free capacity '
                          '(node 0: 6 dedicated pCPU(s) asked for, ', err)
            self.assertIn("still: its flavor grants no 'template' "
                          '(kongming:grant)', err)
            self.assertIn('it was booted from a flavor without a template',
                          err)
        for words, expected in (
                ((), 'Name a <host>, or a flavor'),
                (('nowhere',), "Placement knows no host 'nowhere'"),
                (('compute1', '--for-flavor', 'nothing'),
                 "No flavor with a name or ID of 'nothing' exists."),
                (('compute1', '--for-flavor', large, '--count', '0'),
                 '--count is 1 or more')):
            _out, err = self.kongming('plan', 'defrag', *words, status=1)
            self.assertIn(expected, err)
            self.assertNotIn('Traceback', err)

    def test_a_server_that_has_changed_since(self):
        small, large = self.granted(2), self.granted(5)
        self.boot('a', small, '0:4 1:6')
        self.boot('b', small, '0:12 1:14')
        self.kongming('plan', 'defrag', 'compute1', '--for-flavor', large,
                      '--out', self.plan)
        name = document_mod.parse(pathlib.Path(
            self.plan).read_text()).steps[0].moves[0].name
        pin = '0:5' if name == 'a' else '0:13'
        self.kongming('server', 'set', '--pin', f'0={pin}', '--wait', name)
        for word in ('apply', 'revert'):
            _out, err = self.kongming('plan', word, self.plan, status=1)
            self.assertIn(f"Server '{name}' is neither where the plan found "
                          f'it nor where the plan puts it', err)
        self.assertEqual({'kongming:pin.0': pin}, self.metadata(name))

    def test_not_an_admin(self):
        for words in (('defrag', 'compute1'),
                      ('create', '--server', 'a')):
            _out, err = self.kongming('plan', *words, user='member',
                                      status=1)
            self.assertNotIn('Traceback', err)


class CreateTest(PlanBase):

    def request(self, servers=3, vcpus=3, **plan):
        return self.document(
            version=1, name='ran', templates={'du': {
                'vcpus': vcpus, 'ram': 64 * vcpus,
                'properties': {'hw:cpu_policy': 'dedicated'}}},
            plan={'count': {'du': {'servers': servers, 'image': 'idle',
                                   'networks': 'none'}}, **plan})

    def test_life(self):
        out, err = self.kongming('plan', 'create', self.request(), '--out',
                                 self.plan, '-f', 'json')
        rows = json.loads(out)
        self.assertEqual(['du-1', 'du-2', 'du-3'],
                         [row['server'] for row in rows])
        self.assertIn('no plan is better', err)
        self.assertIn('free pcpus            12 -> 3', err)
        shown = self.json('kongming', 'plan', 'show', self.plan)
        self.assertEqual(('deployment', {'unplaced': 0, 'cells': 3,
                                         'hosts': 1}),
                         (shown['kind'], shown['score']))
        document = yaml.safe_load(self.kongming(
            'plan', 'show', self.plan, '--deployment')[0])
        path = self.document(**document)
        self.assertEqual(6, len(self.json('kongming', 'deployment',
                                          'validate', path)))
        _out, err = self.kongming('plan', 'apply', self.plan)
        self.addCleanup(self.kongming, 'deployment', 'delete', '--yes',
                        'ran')
        self.assertIn('create server du-3 on compute1', err)
        self.assertEqual(
            {row['server']: row['owned'] for row in rows},
            {row['server']: row['owned'] for row in self.json(
                'kongming', 'deployment', 'show', 'ran')})
        _out, err = self.kongming('plan', 'revert', self.plan, status=1)
        self.assertIn("'openstack kongming deployment delete ran' takes them "
                      'away', err)

    def test_from_flavors_and_a_file(self):
        flavor = self.granted(3)
        hosts = self.folder / 'hosts.json'
        drawn = self.kongming('host', 'map', 'compute1', '--format',
                              'json')[0]
        hosts.write_text(drawn + drawn.replace('compute1', 'compute9'))
        out, err = self.kongming(
            'plan', 'create', '--flavor', f'{flavor}=4', '--image', 'idle',
            '--network', 'none', '--inventory', str(hosts), '--separate',
            '--deployment', '-')
        document = yaml.safe_load(out)
        self.assertEqual({'compute1', 'compute9'}, {
            server['host'] for server in document['servers'].values()})
        self.assertIn('shared cores           0 -> 0', err)

    def test_split_apart_near_reserve(self):
        path = self.request(1, 8, split={'du': 2}, reserve={'*': '2,3'})
        rows = self.json('kongming', 'plan', 'create', path, '--out',
                         self.plan)
        self.assertEqual([0, 1], sorted(
            cell['node'] for cell in rows[0]['owned']))
        self.assertFalse({2, 3} & {p for cell in rows[0]['owned']
                                   for p in cell['pins'].values()})
        path = self.request(
            1, 2, devices={'nic': {'compute1': [1]}}, near={'du-*': 'nic'})
        row, = self.json('kongming', 'plan', 'create', path)
        self.assertEqual([1], [cell['node'] for cell in row['owned']])
        path = self.request(2, 2, apart={'pair': ['du-*']})
        _out, err = self.kongming('plan', 'create', path, status=1)
        self.assertIn('warning: du-', err)
        self.assertIn('gets no place: on each host is one of pair already',
                      err)
        self.assertIn('1 of 2 servers get no place, and no plan places more',
                      err)
        self.assertEqual(1, len(self.json('kongming', 'plan', 'create', path,
                                          '--partial')))

    def test_running_servers_are_sorted(self):
        """Two servers that share a core get one each."""
        one = self.granted(1)
        self.boot('a', one, '0:2')
        self.boot('b', one, '0:3')
        row, = self.json('kongming', 'plan', 'create', '--server', 'a',
                         '--server', 'b', '--out', self.plan)
        self.assertEqual(0, row['memory'])
        self.kongming('plan', 'apply', self.plan)
        pcpus = {p for name in 'ab' for _n, pins in self.owned(name)
                 for p in pins.values()}
        self.assertNotEqual({2, 3}, pcpus)
        self.kongming('plan', 'revert', self.plan)
        self.assertEqual([(0, {'0': 3})], self.owned('b'))

    def test_errors_are_reported(self):
        bad = self.document(version=1, name='ran', servers={}, templates={
            'du': {'vcpus': 2, 'ram': 64}}, plan={
                'split': {'cu': 2}, 'near': {'x-*': 'nic'}})
        broken = self.folder / 'broken.plan'
        broken.write_text('{"version": 2, "score": []}')
        for words, expected in (
                (('create',), 'Name one of these: a <file>, --flavor'),
                (('create', bad), "plan.split.cu = '2': there is no such "
                                  'template'),
                (('create', bad), "plan.near.x-* = 'nic': there is no such "
                                  'device'),
                (('create', self.request(count=5)), 'plan.count'),
                (('create', '--flavor', 'm1=2'), 'Name the --image'),
                (('create', '--server', 'nobody'),
                 "No server with a name or ID of 'nobody'"),
                (('create', self.request(), '--host', 'nowhere'),
                 "There is no host 'nowhere'"),
                (('create', self.request(), '--inventory', bad),
                 'the inventory is not JSON: line 1'),
                (('show', str(broken)), "version = '2': only version 1"),
                (('apply', str(broken)), 'solver must be said'),
                (('show', '/nowhere'), '/nowhere')):
            _out, err = self.kongming('plan', *words, status=1)
            self.assertIn(expected, err)
            self.assertNotIn('Traceback', err)
        for word in ('create', 'show', 'apply', 'revert', 'defrag'):
            out, _err = self.kongming('plan', word, '--help')
            self.assertIn(f'openstack kongming plan {word}', out)
