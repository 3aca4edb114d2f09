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

"""``openstack kongming advise`` over hosts: these and the scheduler are real.

What vCPUs did is made up: those of simulated domains do nothing.
"""

import fixtures

from tests.functional import test_cli

MEASURED = {
    'mode': 'advise', 'profile': None, 'usual': None, 'because': '',
    'waits': '', 'use': 100.0, 'wait': 50.0, 'remote': None, 'progress': [],
    'lends': [], 'saves': None, 'move': None,
    'floats': [(0, 2, 4.0), (1, 2, 4.0)], 'floating': [(0, 2, 100.0, 50.0)]}


class BetweenHostsTest(test_cli.CliBase):

    CLOUD = ('--hosts', '2')

    def setUp(self):
        super().setUp()
        self.measured = {}
        self.useFixture(fixtures.MonkeyPatch(
            'kongming.compute.servers.load',
            lambda _conn, server: self.measured.get(server)))

    def boot(self, name, host):
        flavor = self.getUniqueString()
        self.openstack(
            'flavor', 'create', flavor, '--vcpus', '2', '--ram', '64',
            '--disk', '1', '--property', 'hw:cpu_policy=shared', '--property',
            'hw:numa_nodes=1', '--property', 'kongming:balance=node')
        self.addCleanup(self.openstack, 'flavor', 'delete', flavor)
        self.openstack(
            '--os-compute-api-version', '2.74', 'server', 'create',
            '--flavor', flavor, '--image', 'idle', '--nic', 'none', '--host',
            host, '--wait', name)
        self.addCleanup(self.openstack, 'server', 'delete', '--wait', name)
        self.measured[self.json('server', 'show', name)['id']] = MEASURED

    def moves(self):
        return {row['server']: row['move']
                for row in self.json('kongming', 'advise')}

    def test_to_a_host_without_servers(self):
        self.boot('roaming-1', 'compute1')
        found = self.moves()['roaming-1']
        self.assertEqual((1, 'compute2', 0, 1.0), tuple(
            found[key] for key in ('step', 'host', 'source', 'saves')))
        self.assertEqual('it waits 50.0% of its time on compute1',
                         found['because'])
        self.assertIn(f'step 1: to host compute2, node {found["target"]}',
                      self.openstack('kongming', 'advise')[0])
        self.assertEqual(found, self.json(
            'kongming', 'advise', 'compute1')[0]['move'])
        # Not where the scheduler would send nobody.
        self.addCleanup(self.openstack, 'compute', 'service', 'set',
                        '--enable', 'compute2', 'nova-compute')
        self.openstack('compute', 'service', 'set', '--disable', 'compute2',
                       'nova-compute')
        self.assertIsNone(self.moves()['roaming-1'])

    def test_where_nobody_knows_what_is_wanted(self):
        """A host with a server that tells nothing is none to go to."""
        self.boot('roaming-1', 'compute1')
        measured = dict(self.measured)
        self.boot('roaming-2', 'compute2')
        self.measured = measured
        self.assertEqual({'roaming-1': None, 'roaming-2': None}, self.moves())
