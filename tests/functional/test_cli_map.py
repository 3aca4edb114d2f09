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

"""All hosts of a cloud, drawn by command."""

import json
import pathlib
import tempfile

import fixtures

from kongming.compute import servers
from tests.functional import test_cli
from tests.unit.render import test_page

ALL = 'kongming', 'host', 'map', '--all'


class MapAllTest(test_cli.CliBase):

    def setUp(self):
        super().setUp()
        self.folder = self.enterContext(tempfile.TemporaryDirectory())
        self.useFixture(fixtures.EnvironmentVariable(
            'XDG_CACHE_HOME', self.folder))
        #: servers that Nova was asked for the cells of
        self.asked = []
        topology = servers.topology

        def counted(conn, server):
            self.asked.append(server)
            return topology(conn, server)

        self.useFixture(fixtures.MonkeyPatch(
            'kongming.compute.servers.topology', counted))

    def server(self, name, grant=None):
        """:param grant: of a template; without it there is none"""
        flavor = self.flavor(2)
        if grant:
            self.openstack('kongming', 'template', 'set', '--flavor', flavor,
                           '--pin', '0=0:13 1:10')
            self.openstack('flavor', 'set', flavor, '--property',
                           f'kongming:grant={grant}')
        self.openstack('server', 'create', '--flavor', flavor, '--image',
                       'idle', '--nic', 'none', '--wait', name)
        self.addCleanup(self.openstack, 'server', 'delete', '--wait', name)

    def all(self):
        """The first host, and its servers by name."""
        self.asked.clear()
        found = json.loads(self.openstack(*ALL, '-f', 'json')[0])
        self.assertEqual([], found['doubts'])
        host, = [host for host in found['hosts']
                 if host['host'] == 'compute1']
        return host, {one['server']: one for one in host['servers']}

    def pins(self, server):
        return [(cell['node'], cell['pins']) for cell in server['cells']]

    def test_life(self):
        name, native = '<b>\u05d0</b>', self.getUniqueString()
        self.server(name, 'template')
        self.server(native)
        # Placement is told a moment after Nova.
        self.wait_for([], lambda: self.all()[0]['conflicts'])
        host, found = self.all()
        self.assertEqual([(1, {'0': 13, '1': 10})], self.pins(found[name]))
        self.assertEqual((True, [], 'ACTIVE'), tuple(
            found[name][key] for key in ('template', 'drift', 'status')))
        self.assertEqual((False, None), (found[native]['template'],
                                         found[native]['profile']))
        mine, = found[native]['cells']
        node = next(node for node in host['nodes']
                    if node['node'] == mine['node'])
        self.assertLessEqual({*mine['pcpus']}, {*node['taken']})
        self.assertEqual(
            4, sum(node['owned'] for node in host['nodes']))
        # What is left of a core that is owned in part.
        node, = [node for node in host['nodes'] if node['node'] == 1]
        owned = {10, 13, *mine['pcpus']}
        self.assertEqual({p for p in range(10, 16) if p not in owned
                          and p ^ 1 in owned}, {*node['stranded_pcpus']})

        # What is kept of it holds until something changes hands.
        _host, again = self.all()
        self.assertEqual(([], found), (self.asked, again))
        self.openstack('kongming', 'server', 'set', '--pin', '0=0:15',
                       '--wait', name)
        self.wait_for([(1, {'0': 15, '1': 10})],
                      lambda: self.pins(self.all()[1][name]))

        # A page of it, and of what has become of it.
        out, _err = self.openstack(*ALL, '--history', '-f', 'html')
        _policy, data, _runs = test_page.parts(out)
        row, = [row for row in data['servers'] if row[1] == name]
        self.assertEqual([[1, [0, 15, 1, 10]]],
                         [[cell[0], cell[4]] for cell in row[8]])
        (_moment, result, _details), = row[10]
        self.assertEqual(0, result)
        self.assertTrue(data['history'])

        out, _err = self.openstack(*ALL, '--width', '100')
        line, = [line for line in out.splitlines() if 'compute1 ' in line]
        self.assertIn('\u2588', line)
        self.assertEqual('2', line.split()[-1])

    def test_drift(self):
        """A server that is not as its metadata say, while it is stopped."""
        name = self.getUniqueString()
        self.server(name, 'template')
        self.all()
        self.openstack('kongming', 'server', 'set', '--pin', '0=0:99', name)
        _host, found = self.all()
        self.assertEqual(1, len(found[name]['drift']))
        # Nothing is kept of it.
        self.all()
        self.assertIn(found[name]['id'], self.asked)

    def test_a_cache_that_others_wrote(self):
        """Whatever is in the cache."""
        name = self.getUniqueString()
        self.server(name)
        before = self.all()
        files = [*pathlib.Path(self.folder).rglob('*.json')]
        self.assertTrue(files)
        for text in ('', '{', '[]', '{"content": {"nodes": 7}}', 'null'):
            for file in files:
                file.write_text(text)
            self.assertEqual(before, self.all())

    def test_what_does_not_go_together(self):
        for words, reason in (
                (('--all', '-f', 'svg'), '--format svg goes with <host>'),
                (('compute1', '-f', 'html'), '--format html goes with --all'),
                (('compute1', '--history'), '--history goes with --all'),
                (('--all', '--history'), '--history goes with --all')):
            _out, err = self.openstack('kongming', 'host', 'map', *words,
                                       status=1)
            self.assertIn(reason, err)
        for words in ((), ('compute1', '--all')):
            self.openstack('kongming', 'host', 'map', *words, status=2)

    def test_users_may_not(self):
        _out, err = self.openstack(*ALL, user='member', status=1)
        self.assertIn('admin', err)
        self.assertNotIn('Traceback', err)
