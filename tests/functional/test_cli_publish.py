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

"""Publishing by command, beside the hook and without it."""

import json
import pathlib
import re
import tempfile
from unittest import mock
import urllib.request
import uuid

from keystoneauth1 import adapter
from openstack import config as sdk_config
import yaml

from kongming.cli import app
from kongming import exception
from kongming.placement import inventory
from kongming.placement import naming
from kongming.publish import client as placement_mod
from tests.functional import test_cli

SETS = '--dedicated', '2-7,10-15', '--shared', '0-1,8-9'


class Base(test_cli.CliBase):

    def setUp(self):
        super().setUp()
        clouds = yaml.safe_load((self.cloud.folder / 'clouds.yaml').open())
        url = clouds['clouds']['kongming-admin']['auth']['auth_url']
        folder = pathlib.Path(self.enterContext(
            tempfile.TemporaryDirectory()))
        self.capabilities = folder / 'capabilities.xml'
        self.capabilities.write_bytes(urllib.request.urlopen(
            url.replace('identity/v3', 'hypervisor/capabilities')).read())

    def publish(self, *words, **kwargs):
        return self.json('kongming', 'host', 'publish', 'compute1',
                         '--capabilities', str(self.capabilities),
                         *(words or SETS), **kwargs)

    def server(self, flavor):
        name = self.getUniqueString()
        self.openstack('server', 'create', '--flavor', flavor, '--image',
                       'idle', '--nic', 'none', '--wait', name)
        self.addCleanup(self.openstack, 'server', 'delete', '--wait', name)
        return name


class BesideTheHookTest(Base):

    def test_both_say_the_same(self):
        """Hook and command make one payload, whatever is in use."""
        self.assertEqual([], self.publish()['written'])
        native = self.flavor(2)
        mixed = self.flavor(3, 'hw:cpu_policy=mixed',
                            'hw:cpu_dedicated_mask=0-1')
        exact = self.flavor(2)
        self.openstack('kongming', 'template', 'set', '--flavor', exact,
                       '--pin', '0=0:15 1:12')
        self.server(exact)
        for flavor in (native, mixed):
            self.server(flavor)
        self.wait_for(6, self.free)
        done = self.publish()
        self.assertEqual(([], [], []),
                         (done['written'], done['in_use'], done['doubts']))
        self.assertEqual(6, self.free())


class WithoutTheHookTest(Base):

    CLOUD = ('--native',)

    def setUp(self):
        super().setUp()
        self.addCleanup(self.openstack, 'kongming', 'host', 'unpublish',
                        'compute1')

    def test_publish_follow_unpublish(self):
        providers = self.json('hypervisor', 'list')
        done = self.publish()
        self.assertEqual(6, len(done['written']), done)
        self.assertEqual(12, self.free())
        # As Placement's own commands tell it.
        self.assertEqual(
            ['compute1', 'compute1_KONGMING_NODE0',
             'compute1_KONGMING_NODE1'], self.providers())
        self.server(self.flavor(2))
        self.assertEqual(['inventory of'], [
            words.rpartition(' ')[0] for words in self.publish()['written']])
        self.assertEqual(10, self.free())
        self.assertEqual([], self.publish()['written'])
        gone = self.json('kongming', 'host', 'unpublish', 'compute1')
        self.assertEqual(2, len(gone['deleted']))
        self.assertEqual([], self.json('kongming', 'host', 'list'))
        self.assertEqual(['compute1'], self.providers())
        self.assertEqual(providers, self.json('hypervisor', 'list'))

    def providers(self):
        return sorted(row['name'] for row in self.json(
            'resource', 'provider', 'list'))

    def test_emulator_that_nobody_can_name(self):
        self.publish()
        name = self.server(self.flavor(
            1, 'hw:emulator_threads_policy=isolate'))
        doubts = self.publish()['doubts']
        self.assertEqual(1, len(doubts), doubts)
        self.assertIn(f'server {name}', doubts[0])
        # One node's six can't be named, and two of them are gone.
        self.assertEqual(6, self.free())

    def test_template_servers_do_not_go_there(self):
        self.publish()
        flavor = self.flavor(1)
        _out, err = self.openstack('kongming', 'template', 'set', '--flavor',
                                   flavor, '--pin', '0=0:7')
        self.assertIn('warning: it fits only where no nova-compute obeys '
                      'templates (compute1)', err)
        row, = self.json('kongming', 'template', 'check', flavor, status=1)
        self.assertEqual(
            (False, 'its nova-compute obeys no templates (it is published by '
                    'command only)'), (row['fits'], row['how']))
        row, = self.json('kongming', 'host', 'list', '--long')
        self.assertFalse(row['obeys'])
        self.assertEqual([], self.json('kongming', 'host', 'list',
                                       '--obeying'))
        name = self.getUniqueString()
        self.openstack('server', 'create', '--flavor', flavor, '--image',
                       'idle', '--nic', 'none', '--wait', name, status=1)
        self.addCleanup(self.openstack, 'server', 'delete', '--wait', name)

    def test_unpublish_takes_the_trait_off(self):
        """Nova's native driver would leave it."""
        placement = self.placement()
        root = placement.root('compute1')['uuid']
        traits = placement.traits(root)
        placement._call('PUT', f'/traits/{inventory.TRAIT_HOOK}')
        placement.put_traits(root, placement.inventories(root)[0],
                             {*traits, inventory.TRAIT_HOOK})
        gone = self.json('kongming', 'host', 'unpublish', 'compute1')
        self.assertEqual([f'trait {inventory.TRAIT_HOOK} removed'],
                         gone['deleted'])
        self.assertEqual(traits, placement.traits(root))

    def placement(self):
        session = sdk_config.OpenStackConfig(config_files=[
            str(self.cloud.folder / 'clouds.yaml')]).get_one(
                'kongming-admin').get_session()
        return placement_mod.Placement(adapter.Adapter(
            session, service_type='placement'))

    def provider(self, name, number, parent=None):
        """A node's provider that no publisher looks after."""
        placement = self.placement()
        uuid_ = naming.provider_uuid(parent or str(uuid.uuid4()), number)
        placement._call('POST', '/resource_providers', json={
            'name': f'{name}_KONGMING_NODE{number}', 'uuid': uuid_,
            **({'parent_provider_uuid': parent} if parent else {})})
        placement.put_inventories(uuid_, 0, {inventory.PCPU: {'total': 4}})
        return uuid_

    def test_clean(self):
        root, = self.json('resource', 'provider', 'list', '--name',
                          'compute1')
        name = self.server(self.flavor(1))
        server = self.json('server', 'show', name)['id']
        allocated = self.json('resource', 'provider', 'allocation', 'show',
                              server)
        self.provider('compute1', 0, root['uuid'])
        in_use = self.provider('compute1', 1, root['uuid'])
        gone = self.provider('gone', 0)
        self.openstack('resource', 'provider', 'allocation', 'set', server,
                       *(word for row in allocated for word in (
                           '--allocation', f"rp={row['resource_provider']},"
                           + ','.join(f'{key}={value}' for key, value
                                      in row['resources'].items()))),
                       '--allocation', f'rp={gone},{inventory.PCPU}=1',
                       '--allocation', f'rp={in_use},{inventory.PCPU}=2',
                       '--project-id', self.project(server),
                       '--user-id', 'u')
        flavor = self.flavor(1, 'resources_KM0:CUSTOM_KONGMING_PCPU=1',
                             'foreign:key=stays')

        found, err = self.openstack('kongming', 'host', 'list')
        self.assertIn('warning: 3 node provider(s) in Placement are no '
                      "host's", err)
        self.assertEqual(
            [('compute1_KONGMING_NODE0', 'in its compute'),
             ('compute1_KONGMING_NODE1', 'in its compute'),
             ('gone_KONGMING_NODE0', 'compute node is gone')], [
                (row['provider'], re.search('in its compute|compute node '
                                            'is gone', row['reason'])[0])
                for row in self.json('kongming', 'host', 'list',
                                     '--leftovers')])

        before = self.json('resource', 'provider', 'list'), self.seen(flavor)
        dry = self.json('kongming', 'host', 'clean', '--dry-run')
        self.assertEqual(before, (self.json('resource', 'provider', 'list'),
                                  self.seen(flavor)))
        words = f'server {name} ({server})'
        self.assertEqual([
            ('flavor', flavor, '1 key(s) removed', []),
            ('provider', 'compute1_KONGMING_NODE0', 'deleted', []),
            ('provider', 'compute1_KONGMING_NODE1',
             "taken out of its compute node's tree", [words]),
            ('provider', 'gone_KONGMING_NODE0', 'deleted', [words])],
            [(row['kind'], row['name'], row['done'], row['servers'])
             for row in dry])
        out, err = self.openstack('kongming', 'host', 'clean', '-f', 'json')
        self.assertEqual(dry, json.loads(out))
        self.assertIn('[4/4] provider gone_KONGMING_NODE0', err)
        self.assertEqual([], self.json('kongming', 'host', 'clean'))

        self.assertEqual({'hw:cpu_policy': 'dedicated',
                          'foreign:key': 'stays'}, self.seen(flavor))
        self.assertEqual(['compute1', 'compute1_KONGMING_NODE1'],
                         self.providers())
        # A host again, when it is published.
        self.assertEqual([], self.json('kongming', 'host', 'list',
                                       '--leftovers'))
        self.publish()
        self.assertEqual(3, len(self.providers()))
        self.assertEqual({root['uuid'], in_use}, {
            row['resource_provider'] for row in self.json(
                'resource', 'provider', 'allocation', 'show', server)})
        self.placement().withdraw(server, {in_use})

    def project(self, server):
        return self.placement().allocations_of(server)['project_id']

    def test_clean_goes_on_after_a_refusal(self):
        """Somebody claims what is to be deleted, say; it says so and 1."""
        for number in (0, 1):
            self.provider('gone', number)
        delete = placement_mod.Placement.delete

        def refuse(this, uuid_):
            if not refused:
                refused.append(uuid_)
                raise exception.Conflict('in use')
            delete(this, uuid_)

        refused = []
        with mock.patch.object(placement_mod.Placement, 'delete', refuse):
            rows = self.json('kongming', 'host', 'clean', status=1)
        self.assertEqual(['refused: in use', 'deleted'],
                         [row['done'] for row in rows])
        row, = self.json('kongming', 'host', 'clean')
        self.assertEqual(('gone_KONGMING_NODE0', 'deleted'),
                         (row['name'], row['done']))

    def test_clean_is_an_admin_s(self):
        _out, err = self.openstack('kongming', 'host', 'clean', status=1,
                                   user='member')
        self.assertIn('needs the admin role', err)
        self.assertNotIn('Traceback', err)

    def test_dry_run(self):
        self.assertEqual(6, len(self.publish(*SETS, '--dry-run')['written']))
        self.assertEqual([], self.json('kongming', 'host', 'list'))

    def test_on_the_host(self):
        """kongming publish, the console script."""
        conf = self.capabilities.with_name('nova.conf')
        conf.write_text('[compute]\ncpu_dedicated_set = 2-15,^8-9\n'
                        'cpu_shared_set = 0-1,8-9\n')
        self.assertEqual(0, self.kongming(
            'publish', '--name', 'compute1', '--capabilities',
            str(self.capabilities), '--config-file', str(conf))[0])
        self.assertEqual(12, self.free())

    def kongming(self, *words):
        """The console script; returns (exit status, stdout, stderr)."""
        return self.run_shell(lambda: app.main(
            ['--os-cloud', 'kongming-admin', *words]))


class BadInputTest(Base):

    def refused(self, words, *arguments, user='admin', host='compute1'):
        _out, err = self.openstack('kongming', 'host', 'publish', host,
                                   *arguments, status=1, user=user)
        self.assertIn(words, err)
        self.assertNotIn('Traceback', err)

    def test_no_sets(self):
        self.refused('say --dedicated and --shared', '--capabilities',
                     str(self.capabilities))

    def test_malformed_set(self):
        self.refused("--dedicated = '2-x': '2-x' is no pCPU, no range",
                     '--capabilities', str(self.capabilities),
                     '--dedicated', '2-x')

    def test_malformed_option(self):
        conf = self.capabilities.with_name('nova.conf')
        conf.write_text('[compute]\ncpu_dedicated_set = 7-2\n')
        self.refused("[compute] cpu_dedicated_set = '7-2'",
                     '--capabilities', str(self.capabilities),
                     '--config-file', str(conf))

    def test_no_such_file(self):
        self.refused('No such file', '--capabilities',
                     str(self.capabilities.with_name('none')), *SETS)

    def test_not_capabilities(self):
        self.capabilities.write_text('<domain/>')
        self.refused('no host/topology/cells', '--capabilities',
                     str(self.capabilities), *SETS)

    def test_no_libvirt_there(self):
        self.refused('libvirt at test+tcp://127.0.0.1:1/default',
                     '--connect', 'test+tcp://127.0.0.1:1/default', *SETS)

    def test_no_such_host(self):
        self.refused("no host 'nowhere'", '--capabilities',
                     str(self.capabilities), *SETS, host='nowhere')

    def test_not_an_admin(self):
        self.refused('needs the admin role', '--capabilities',
                     str(self.capabilities), *SETS, user='member')
        _out, err = self.openstack('kongming', 'host', 'unpublish',
                                   'compute1', status=1, user='member')
        self.assertIn('needs the admin role', err)

    def test_unpublish_names_the_consumers(self):
        exact = self.flavor(1)
        self.openstack('kongming', 'template', 'set', '--flavor', exact,
                       '--pin', '0=0:15')
        name = self.server(exact)
        _out, err = self.openstack('kongming', 'host', 'unpublish',
                                   'compute1', status=1)
        self.assertIn(f'server {name} (', err)
        self.assertIn('Delete or move them first', err)
