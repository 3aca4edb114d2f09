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

"""The command line where Nova's own fitter takes one cell for another."""

import json

from tests.functional import test_cli
from tests.functional import test_life


class UnequalCellsTest(test_cli.CliBase):
    """Three nodes of four dedicated pCPUs, of which 0 and 2 have three free.

    Cells of one and four vCPUs fit on two of the nodes.  Nova refuses them in
    this order, and boots them in the other one.
    """

    CLOUD = '--nodes', '3'

    def setUp(self):
        super().setUp()
        for node in (0, 2):
            self.boot(self.flavor(1, f'kongming:node.0={node}'),
                      f'on-node-{node}')

    def boot(self, flavor, name, status=0):
        self.addCleanup(self.run_openstack, 'server', 'delete', '--wait',
                        name)
        return self.openstack('server', 'create', '--flavor', flavor,
                              '--image', 'idle', '--nic', 'none', '--wait',
                              name, status=status)

    def run_openstack(self, *words):
        """(status, standard output, standard error)"""
        return self.run_shell(
            lambda: test_cli.shell.OpenStackShell().run([*words]))

    def unequal(self, *cells):
        """A flavor whose cell of four vCPUs is to be on node 1."""
        first, keys = 0, [f'hw:numa_nodes={len(cells)}']
        for number, vcpus in enumerate(cells):
            keys += [f'hw:numa_cpus.{number}={first}-{first + vcpus - 1}',
                     f'hw:numa_mem.{number}={64 // len(cells)}']
            first += vcpus
        flavor = self.flavor(first, *keys)
        self.openstack('kongming', 'template', 'set', '--flavor', flavor,
                       '--node', f'{cells.index(4)}=1')
        return flavor

    def asked(self, name, *cells):
        """The same as a deployment."""
        first, properties = 0, {'hw:cpu_policy': 'dedicated',
                                'hw:numa_nodes': str(len(cells))}
        for number, vcpus in enumerate(cells):
            properties |= {
                f'hw:numa_cpus.{number}': f'{first}-{first + vcpus - 1}',
                f'hw:numa_mem.{number}': str(64 // len(cells))}
            first += vcpus
        return self.document(version=1, name=name, templates={'du': {
            'vcpus': first, 'ram': 64, 'properties': properties,
            'cells': {cells.index(4): {'node': 1}}}}, servers={
                'du-1': {'template': 'du', 'image': 'idle',
                         'networks': 'none'}})

    def test_what_check_says_is_what_becomes_of_a_boot(self):
        flavor = self.unequal(1, 4)
        status, out, err = self.run_openstack(
            'kongming', 'template', 'check', flavor, '-f', 'json')
        self.assertEqual(1, status, err)
        row, = json.loads(out)
        self.assertEqual((False, 0), (row['fits'], row['times']))
        self.assertIn("Nova's own fitter finds no place for it", row['how'])
        self.assertIn('with the cells in the order 1, 0 it would boot',
                      row['how'])
        self.boot(flavor, 'refused', status=1)
        self.assertEqual('ERROR', self.json('server', 'show',
                                            'refused')['status'])

        flavor = self.unequal(4, 1)
        row, = self.json('kongming', 'template', 'check', flavor)
        self.assertEqual((True, 1), (row['fits'], row['times']))
        self.boot(flavor, 'boots')
        self.assertEqual('ACTIVE', self.json('server', 'show',
                                             'boots')['status'])

    @test_life.long
    def test_deployments(self):
        path = self.asked('unequal', 1, 4)
        for word in ('validate', 'apply'):
            status, out, err = self.run_openstack('kongming', 'deployment',
                                                  word, path)
            self.assertEqual(1, status, out + err)
            self.assertIn("Nova's own fitter finds no place for it", err)
            self.assertIn('in the order 1, 0 it would boot', err)
        path = self.asked('unequal', 4, 1)
        self.openstack('kongming', 'deployment', 'validate', path)
        self.addCleanup(self.openstack, 'kongming', 'deployment', 'delete',
                        '--yes', 'unequal')
        self.openstack('kongming', 'deployment', 'apply', path)
        row, = self.json('kongming', 'deployment', 'show', 'unequal')
        self.assertEqual('du-1', row['server'])
        self.assertEqual('ACTIVE', self.json('server', 'show',
                                             'du-1')['status'])

    @test_life.long
    def test_plans(self):
        status, out, err = self.run_openstack(
            'kongming', 'plan', 'create', self.asked('planned', 1, 4))
        self.assertEqual(1, status, out + err)
        self.assertIn('du-1 gets no place: compute1: '
                      "Nova's own fitter finds no place for it", err)
        self.assertIn('in the order 1, 0 it would boot', err)
        path = f"{self.asked('planned', 4, 1)}.plan"
        self.openstack('kongming', 'plan', 'create',
                       self.asked('planned', 4, 1), '--out', path)
        self.addCleanup(self.openstack, 'kongming', 'deployment', 'delete',
                        '--yes', 'planned')
        self.openstack('kongming', 'plan', 'apply', path)
        self.assertEqual('ACTIVE', self.json('server', 'show',
                                             'du-1')['status'])
