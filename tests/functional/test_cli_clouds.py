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

"""Clouds whose lists have pages, or a cell of which is down."""

import json
import pathlib
import tempfile
import uuid

from kongming.compute import hosts
from kongming.compute import servers
from kongming.host import usage
from kongming.placement import inventory
from kongming.publish import client
from kongming.publish import publisher
from nova import context as nova_context
from nova import objects
from openstack import config as sdk_config
from openstack import connection
from tests.embedded import __main__ as embedded
from tests.embedded import cells
from tests.embedded import cloud
from tests.embedded import front
from tests.functional import test_cli
from tests.functional import test_life
import yaml


class CloudBase(test_cli.CliBase):

    def conn(self):
        return connection.Connection(config=sdk_config.OpenStackConfig(
            config_files=[str(self.cloud.folder / 'clouds.yaml')]).get_one(
                'kongming-admin'))

    def boot(self, flavor, *names):
        for name in names:
            self.openstack('server', 'create', '--flavor', flavor, '--image',
                           'idle', '--nic', 'none', '--wait', name)
            self.addCleanup(self.openstack, 'server', 'delete', '--wait',
                            name)

    def templated(self, *vcpus):
        names = [self.flavor(count) for count in vcpus]
        for name in names:
            self.openstack('kongming', 'template', 'set', '--flavor', name,
                           '--node', '0=1')
        return names


class PagesTest(CloudBase):
    """Nova's ``[api] max_limit`` is 2, and there is more than that of all."""

    CLOUD = '--max-limit', '2', '--hosts', '3'

    def test_servers(self):
        flavor, = self.templated(1)
        names = [f'{flavor[-12:]}-{number}'.replace('.', '-')
                 for number in range(3)]
        self.boot(flavor, *names)
        rows = self.json('kongming', 'server', 'list')
        self.assertLessEqual({*names}, {row['server'] for row in rows})
        on = {}
        for row in rows:
            on.setdefault(row['host'], set()).add(row['server'])
        # Nova would say of one host in pages, too.
        for host, mine in on.items():
            self.assertEqual(mine, {
                row['server'] for row in self.json(
                    'kongming', 'server', 'list', '--host', host)})
        self.assertEqual(3, len(self.json('kongming', 'host', 'list')))
        for row in rows:
            shown = self.json('kongming', 'host', 'map', row['host'],
                              '--format', 'json')
            owners = {owner for node in shown['map']
                      for owner in node['owners'].values()}
            self.assertLessEqual(
                {server for server in on[row['host']]},
                {owner.split()[1] for owner in owners})

    def test_flavors(self):
        names = self.templated(1, 2, 3)
        self.assertLessEqual({*names}, {
            row['flavor'] for row in self.json('kongming', 'template',
                                               'list')})
        for name in names:
            self.json('kongming', 'template', 'check', name)

    def test_flavors_of_older_builds(self):
        names = [self.flavor(1, f'trait_KM0:CUSTOM_KONGMING_NODE_{number}'
                                '=required') for number in range(3)]
        self.assertLessEqual({('flavor', name) for name in names}, {
            (row['kind'], row['name']) for row in self.json(
                'kongming', 'host', 'clean', '--dry-run')})

    @test_life.long
    def test_all_hosts_with_their_servers(self):
        flavor, = self.templated(1)
        names = [f'all-{flavor[-8:]}-{number}'.replace('.', '-')
                 for number in range(5)]
        self.boot(flavor, *names)
        out, _err = self.openstack('kongming', 'host', 'map', '--all',
                                   '--format', 'json')
        shown = json.loads(out)
        self.assertEqual(3, len(shown['hosts']))
        self.assertLessEqual({*names}, {
            server['server'] for host in shown['hosts']
            for server in host['servers']})
        # Node 1 of three hosts has six dedicated pCPUs.
        self.assertEqual(3 * 6 - 5, sum(row['times'] for row in self.json(
            'kongming', 'template', 'check', flavor)))

    def test_hypervisors_services_and_providers(self):
        conn = self.conn()
        self.assertEqual({'compute1', 'compute2', 'compute3'},
                         {*hosts.names(conn)})
        self.assertEqual({'compute1', 'compute2', 'compute3'},
                         {*hosts.services(conn)})
        for name in ('compute1', 'compute3'):
            self.assertEqual(name, hosts.find(conn, name.upper()).name)

    def test_a_deployment(self):
        """Its servers and flavors are more than a page, and none is lost."""
        path = pathlib.Path(self.enterContext(
            tempfile.TemporaryDirectory())) / 'ran.yaml'
        path.write_text(self.deployment(3))
        self.addCleanup(self.openstack, 'kongming', 'deployment', 'delete',
                        '--yes', 'paged')
        self.openstack('kongming', 'deployment', 'apply', str(path))
        _out, err = self.openstack('kongming', 'deployment', 'validate',
                                   str(path))
        self.assertIn('There is nothing to do', err)
        self.assertEqual(3, len(self.json('kongming', 'deployment', 'show',
                                          'paged')))

    def deployment(self, count):
        return '\n'.join([
            'version: 1', 'name: paged', 'templates:',
            *(f'  t{number}: {{vcpus: 1, ram: 64, grant: template, '
              f'properties: {{hw:cpu_policy: dedicated}}, '
              f'cells: {{0: {{node: 1}}}}}}' for number in range(count)),
            'servers:',
            *(f'  p-{number}: {{template: t{number}, image: idle, '
              f'networks: none}}' for number in range(count))])

    def test_actions_of_a_server(self):
        flavor = self.flavor(1, 'kongming:grant=template')
        name = flavor[-12:].replace('.', '-')
        self.boot(flavor, name)
        for pcpu in (4, 5, 6):
            self.openstack('kongming', 'server', 'set', '--pin',
                           f'0=0:{pcpu}', '--wait', name)
        self.assertEqual(3, len(self.json('kongming', 'server', 'history',
                                          name)))


class MigrationsTest(cloud.SimulatedCloud):
    """Servers that may come back, of whom Nova tells in pages."""

    def test_all_are_read(self):
        self.start_host()
        for _number in range(5):
            objects.Migration(
                nova_context.get_admin_context(), status='finished',
                migration_type='resize', source_compute='compute1',
                dest_compute='compute2', user_id='u', project_id='p',
                instance_uuid=str(uuid.uuid4())).create()
        self.flags(max_limit=2, group='api')
        server, url = front.serve(self)
        self.addCleanup(server.shutdown)
        path = pathlib.Path(self.enterContext(
            tempfile.TemporaryDirectory())) / 'clouds.yaml'
        path.write_text(yaml.safe_dump(embedded.clouds_yaml(url)))
        conn = connection.Connection(config=sdk_config.OpenStackConfig(
            config_files=[str(path)]).get_one('kongming-admin'))
        found = servers.occupied(conn, self.compute_node().uuid,
                                 usage.HostState([]))
        self.assertEqual(5, len(found.doubts))
        self.assertIn('may come back from compute2', found.doubts[0])


class LostCellTest(CloudBase):
    """The rest is shown, a line tells what is not known."""

    CLOUD = ('--lost-cell',)

    def test_lists(self):
        flavor, = self.templated(1)
        name = flavor[-12:].replace('.', '-')
        self.boot(flavor, name)
        row, = self.json('kongming', 'host', 'list')
        self.assertEqual('compute1', row['host'])
        out, err = self.openstack('kongming', 'server', 'list', '-f', 'json')
        self.assertIn(name, out)
        self.assertIn('nothing is known of 1 server(s)', err)
        self.assertIn(cells.SERVER, err)
        self.json('kongming', 'template', 'check', flavor)
        self.openstack('kongming', 'host', 'map', 'compute1')

    def publish(self):
        """The host of the lost cell, as Placement knew it before."""
        self.openstack('resource', 'provider', 'create', cells.HOST)
        host = self.json('resource', 'provider', 'list', '--name',
                         cells.HOST)[0]['uuid']
        self.addCleanup(self.openstack, 'resource', 'provider', 'delete',
                        host)
        state = usage.HostState([usage.NodeState(
            0, frozenset(range(2, 8)), shared=frozenset({0, 1}),
            siblings=[(pcpu,) for pcpu in range(8)], memory_mib=1024)])
        publisher.Publisher(
            client.Placement.of(self.conn()), cells.HOST, host).publish(
                lambda: inventory.build(cells.HOST, host, state,
                                        inventory.Ratios()))
        self.addCleanup(self.openstack, 'kongming', 'host', 'unpublish',
                        cells.HOST)
        self.openstack('--os-placement-api-version', '1.6', 'resource',
                       'provider', 'trait', 'set', '--trait',
                       'CUSTOM_KONGMING_HOOK', host)

    def test_a_host_of_it_takes_nothing(self):
        """What is free of it is not known, so nothing is planned there."""
        self.publish()
        flavor = self.flavor(2)
        self.openstack('kongming', 'template', 'set', '--flavor', flavor,
                       '--node', '0=0')
        why = (f'{cells.HOST}: the scheduler leaves it out: its cell does '
               'not answer, so nothing is known of it')
        rows = {row['host']: row for row in self.json(
            'kongming', 'template', 'check', flavor)}
        self.assertEqual({'compute1': True, cells.HOST: False}, {
            name: row['fits'] for name, row in rows.items()})
        self.assertEqual(why, f"{cells.HOST}: {rows[cells.HOST]['how']}")
        plan = ('kongming', 'plan', 'create', '--flavor', f'{flavor}=1',
                '--image', 'idle', '--network', 'none')
        row, = self.json(*plan)
        self.assertEqual('compute1', row['host'])
        _out, err = self.openstack(*plan, '--host', cells.HOST, status=1)
        self.assertIn(why, err)

    def test_a_service_of_it(self):
        self.assertIn('its cell does not answer', hosts.services(
            self.conn())[cells.HOST].why_not)

    def test_a_server_of_it(self):
        for words in (('server', 'show'), ('server', 'history'),
                      ('server', 'wait'),
                      ('server', 'set', '--pin', '0=0:4'),
                      ('server', 'unset', '--all'),
                      ('plan', 'create', '--server')):
            _out, err = self.openstack('kongming', *words, cells.SERVER,
                                       status=1)
            self.assertEqual(
                f'Nothing is known of server {cells.SERVER}, since its cell '
                f'does not answer.\n', err)

    def test_a_server_that_may_be_of_it(self):
        """Nobody can say that there is no such server."""
        _out, err = self.openstack('kongming', 'server', 'show', 'du-7',
                                   status=1)
        self.assertIn('it may be one of those of which nothing is known', err)
        self.assertIn(cells.SERVER, err)

    def test_what_depends_on_it_is_refused(self):
        """A server of the lost cell may be of the deployment."""
        path = self.document(
            version=1, name='own', templates={'du': {
                'vcpus': 1, 'ram': 64, 'properties': {
                    'hw:cpu_policy': 'dedicated'}, 'cells': {0: {
                        'node': 0}}}},
            servers={'du-1': {'template': 'du', 'image': 'idle',
                              'networks': 'none'}})
        for word in ('validate', 'apply'):
            _out, err = self.openstack('kongming', 'deployment', word, path,
                                       status=1)
            self.assertIn('nothing was done', err)
            self.assertNotIn('Traceback', err)
