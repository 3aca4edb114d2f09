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

"""A document for a whole cluster: checked, applied, changed, taken away."""

import io
import sys
from unittest import mock

from tests.embedded import front
from tests.functional import test_cli
from tests.functional import test_life


class DeploymentTest(test_cli.CliBase):

    def deployment(self, *words, **kwargs):
        return self.json('kongming', 'deployment', *words, **kwargs)

    def cluster(self, servers, **more):
        """:param servers: name -> pins, or keys that are otherwise"""
        return self.document(**{
            'version': 1, 'name': 'ran',
            'templates': {'du': {
                'vcpus': 2, 'ram': 64, 'grant': 'template',
                'properties': {'hw:cpu_policy': 'dedicated'},
                'cells': {0: {'node': 1}}}},
            'servers': {
                name: {'template': 'du', 'image': 'idle', 'networks': 'none',
                       'host': 'compute1',
                       **({'cells': {0: {'pin': said}}}
                          if isinstance(said, str) else said)}
                for name, said in servers.items()}, **more})

    def owned(self):
        return {row['server']: row['owned'][0]['pins']
                for row in self.deployment('show', 'ran')}

    def clean(self):
        self.openstack('kongming', 'deployment', 'delete', '--yes', 'ran')

    def test_life(self):
        one = self.cluster({'du-1': '0:15 1:14', 'du-2': '0:13 1:12'})
        steps = self.deployment('validate', one)
        self.assertEqual(
            [('create flavor', 'ran.du.du-1', None),
             ('create flavor', 'ran.du.du-2', None),
             ('create server', 'du-1', 'compute1'),
             ('create server', 'du-2', 'compute1')],
            [(row['step'], row['name'], row['host']) for row in steps])
        self.assertEqual('cell 0 on node 1: 0:15 1:14', steps[2]['how'])

        out, err = self.openstack('kongming', 'deployment', 'apply', one)
        self.addCleanup(self.clean)
        self.assertEqual([
            '[1/4] create flavor ran.du.du-1',
            '[2/4] create flavor ran.du.du-2',
            '[3/4] create server du-1 on compute1',
            '[4/4] create server du-2 on compute1'], err.splitlines())
        self.assertIn('| du-1   | compute1 | ACTIVE | du       |', out)
        self.assertEqual({'du-1': {'0': 15, '1': 14},
                          'du-2': {'0': 13, '1': 12}}, self.owned())
        self.assertEqual(
            ('', 'There is nothing to do: all is as it is meant.\n'),
            self.openstack('kongming', 'deployment', 'validate', '-f',
                           'value', one))

        # Two change places while they run, and a third gets what is left.
        two = self.cluster({'du-1': '0:13 1:14', 'du-2': '0:15 1:10',
                            'du-3': '0:12 1:11'})
        step, = [row for row in self.deployment('validate', two)
                 if row['step'] == 'change server']
        self.assertEqual('du-1, du-2', step['name'])
        self.assertIn('kongming:pin.0 = 0:13 1:14', step['how'])
        before = {row['Name']: row['ID'] for row in self.json(
            'server', 'list')}
        rows = self.deployment('apply', two)
        self.assertEqual([(True, None)] * 3,
                         [(row['as_meant'], row['why']) for row in rows])
        self.assertEqual({'du-1': {'0': 13, '1': 14},
                          'du-2': {'0': 15, '1': 10},
                          'du-3': {'0': 12, '1': 11}}, self.owned())
        after = {row['Name']: row['ID'] for row in self.json(
            'server', 'list')}
        self.assertLessEqual(before.items(), after.items())
        self.assertEqual([], self.deployment('apply', two)[3:])

        # What somebody else said is reported, and unset.
        self.openstack('kongming', 'server', 'set', '--pin', '0=1:15',
                       '--wait', 'du-2')
        row = self.deployment('show', 'ran')[1]
        self.assertEqual(('du-2', False), (row['server'], row['as_meant']))
        self.assertIn('its metadata is to be changed: kongming:pin.0 = 0:15 '
                      '1:10', row['why'])
        three = self.cluster({'du-2': '0:15 1:10', 'du-3': '0:12 1:11'})
        _out, err = self.openstack('kongming', 'deployment', 'validate',
                                   three)
        self.assertIn('warning: server du-1 stays', err)
        self.deployment('apply', '--prune', three)
        self.assertEqual({'du-2': {'0': 15, '1': 10},
                          'du-3': {'0': 12, '1': 11}}, self.owned())

        for row in self.deployment('show', 'ran', user='member'):
            self.assertEqual((None, 'ACTIVE', 'du', None, None), tuple(
                row[key] for key in ('host', 'status', 'template', 'owned',
                                     'as_meant')))

        with mock.patch.object(sys, 'stdin', io.StringIO('y')):
            _out, err = self.openstack('kongming', 'deployment', 'delete',
                                       'ran', status=1)
        self.assertIn('--yes deletes without', err)
        self.assertEqual(2, len(self.owned()))

    def test_stopped_in_the_middle(self):
        path = self.cluster({'du-1': '0:15 1:14', 'du-2': '0:13 1:12'})
        self.quota(1)
        self.addCleanup(self.quota, 10)
        _out, err = self.openstack('kongming', 'deployment', 'apply', path,
                                   status=1)
        self.addCleanup(self.clean)
        self.assertIn('3 of 4 steps are done, then: create server du-2 on '
                      'compute1: Quota exceeded for instances', err)
        self.assertIn('The same command goes on from there.', err)
        self.assertEqual({'du-1': {'0': 15, '1': 14}}, self.owned())
        self.quota(10)
        _out, err = self.openstack('kongming', 'deployment', 'apply', path)
        self.assertEqual('[1/1] create server du-2 on compute1\n', err)
        self.assertEqual({'du-1': {'0': 15, '1': 14},
                          'du-2': {'0': 13, '1': 12}}, self.owned())

    def quota(self, instances):
        self.nova().quotas.update(front.PROJECT['id'], instances=instances)

    def test_refused_before_anything_is_touched(self):
        def refused(path, *expected, user='admin', words='apply'):
            _out, err = self.openstack('kongming', 'deployment', words, path,
                                       user=user, status=1)
            self.assertEqual(len(expected), len(err.splitlines()), err)
            for line, reported in zip(err.splitlines(), expected):
                self.assertIn(reported, line)

        flavors = self.json('flavor', 'list', '--all')
        refused(self.cluster({'du-1': '0:15 1'}, version=2),
                "version = '2': only version 1 is known",
                "servers.du-1.kongming:pin.0 = '0:15 1', column 6")
        refused(self.cluster({'du-1': '0:15 1:14', 'du-2': '0:15 1:12',
                              'du-3': '0:99'}),
                'pCPU 15 is owned by server du-1 of this document',
                "servers.du-3.template = 'du': compute1: node 1: pCPU 99")
        refused(
            self.cluster({'du-1': {'image': 'none', 'host': 'nowhere'}}),
            "servers.du-1.host = 'nowhere': no host of that name "
            'obeys templates; those that do are compute1',
            "servers.du-1.image = 'none': there is no such image")
        good = self.cluster({'du-1': '0:15 1:14'})
        refused(good, 'needs the admin role', user='member')
        for words in ('show', 'delete'):
            refused('ran', "There is nothing of a deployment 'ran'",
                    words=words)
        self.assertEqual(flavors, self.json('flavor', 'list', '--all'))
        self.assertEqual([], self.json('server', 'list'))


class TwoHostsTest(test_cli.CliBase):

    CLOUD = ('--hosts', '2')

    def cluster(self, **servers):
        return self.document(
            version=1, name='two',
            templates={'du': {
                'vcpus': 2, 'ram': 64, 'grant': 'template',
                'properties': {'hw:cpu_policy': 'dedicated'},
                'cells': {0: {'node': 1}}}},
            servers={name.replace('_', '-'): {
                'template': 'du', 'image': 'idle', 'networks': 'none',
                **({'host': where, 'cells': {0: {'pin': pins}}}
                   if where else {'cells': {0: {'node': 0}}}), **more}
                for name, (where, pins, more) in servers.items()})

    @test_life.long
    def test_life(self):
        """Both hosts' servers, a named network, and one left open."""
        private = {'networks': ['private']}
        path = self.cluster(
            a_1=('compute1', '0:15 1:14', private),
            a_2=('compute1', '0:13 1:12', {}),
            b_1=('compute2', '0:15 1:14', {}),
            b_2=('compute2', '0:13 1:12', {}), c_1=(None, None, {}))
        wanted = {'a-1': 'compute1', 'a-2': 'compute1', 'b-1': 'compute2',
                  'b-2': 'compute2', 'c-1': 'compute1'}
        self.assertEqual(wanted, {
            row['name']: row['host'] for row in self.json(
                'kongming', 'deployment', 'validate', path)
            if row['step'] == 'create server'})
        self.json('kongming', 'deployment', 'apply', path)

        # What Nova's own client sees.
        nova = self.nova()
        servers = {found.name: found for found in nova.servers.list()}
        self.assertEqual(wanted, {
            name: getattr(found, 'OS-EXT-SRV-ATTR:host')
            for name, found in servers.items()})
        network, = servers['a-1'].interface_list()
        self.assertEqual(self.json('network', 'show', 'private')['id'],
                         network.net_id)
        self.assertEqual([], servers['a-2'].interface_list())
        for name, found in servers.items():
            self.assertEqual('two', found.metadata[
                'kongming-deployment:name'])
        specs = self.seen('two.du.b-2')
        self.assertEqual(('0:13 1:12', 'two'), (
            specs['kongming:pin.0'], specs['kongming-deployment:name']))

        # Servers of both hosts change places in one go.
        path = self.cluster(
            a_1=('compute1', '0:13 1:12', private),
            a_2=('compute1', '0:15 1:14', {}),
            b_1=('compute2', '0:13 1:12', {}),
            b_2=('compute2', '0:11 1:15', {}), c_1=(None, None, {}))
        _out, err = self.openstack('kongming', 'deployment', 'apply', path)
        self.assertEqual(
            ['change server a-1, a-2 on compute1',
             'change server b-1, b-2 on compute2'],
            [line.partition('] ')[2] for line in err.splitlines()[-2:]])
        self.assertEqual(
            {'a-1': (True, [13, 12]), 'a-2': (True, [15, 14]),
             'b-1': (True, [13, 12]), 'b-2': (True, [15, 11]),
             'c-1': (True, [3, 2])},
            {row['server']: (row['as_meant'], sorted(
                row['owned'][0]['pins'].values(), reverse=True))
             for row in self.json('kongming', 'deployment', 'show', 'two')})
        self.assertEqual({name: found.id for name, found in servers.items()},
                         {found.name: found.id
                          for found in nova.servers.list()})

        # To another host a server does not go by itself.
        for words, servers in (
                ("servers.a-1.host = 'compute2': it is on compute1; "
                 "'openstack server migrate' moves it",
                 {'a_1': ('compute2', '0:13 1:12', private)}),
                ('compute2: node 1: pCPU 13 is owned by server b-1',
                 {'a_1': ('compute1', '0:13 1:12', private),
                  'd_1': ('compute2', '0:13 1:10', {})}),
                ("servers.a-1.networks = 'public': there is no such network",
                 {'a_1': ('compute1', '0:13 1:12', {
                     'networks': ['public']})})):
            _out, err = self.openstack('kongming', 'deployment', 'apply',
                                       self.cluster(**servers), status=1)
            self.assertIn(words, err)

        _out, err = self.openstack('kongming', 'deployment', 'delete',
                                   '--yes', 'two')
        self.assertIn('[1/10] delete server a-1 on compute1', err)
        self.assertEqual([], nova.servers.list())
        self.assertEqual([], [
            flavor.name for flavor in nova.flavors.list(is_public=None)
            if flavor.name.startswith('two.')])
