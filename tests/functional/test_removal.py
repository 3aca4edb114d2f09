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

"""KongMing is removed, word by word as the page says it."""

import configparser
import os
import pathlib
import subprocess
import sys

import fixtures
import yaml

from kongming.placement import inventory
from tests import documents
from tests.embedded import __main__ as served
from tests.embedded import front
from tests.functional import test_cleanup

PAGE = pathlib.Path('doc/source/install/upgrade.rst')
#: Options that are lists.
_LISTS = 'enabled_filters', 'available_filters', 'weight_classes'


class RemovalTest(test_cleanup.CleanupBase):

    def setUp(self):
        super().setUp()
        server, url = front.serve(self)
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        path = pathlib.Path(
            self.useFixture(fixtures.TempDir()).path, 'clouds.yaml')
        path.write_text(yaml.safe_dump(served.clouds_yaml(url)))
        self.environ = {
            **os.environ, 'OS_CLOUD': 'kongming-admin',
            'OS_CLIENT_CONFIG_FILE': str(path), 'PYTHONPATH': os.getcwd()}
        self.status = 0
        self.installed = True
        self.done = []
        self.flags(allow_resize_to_same_host=True)

    def follow(self, page, heading):
        """Do what a section of a page says, in its order."""
        for block in documents.section(page, heading):
            if block.kind == 'ini':
                self.configure(block)
            elif block.kind == 'console':
                for command in documents.commands(block):
                    self.do(command)

    def configure(self, block):
        self.assertTrue(block.caption.startswith('nova.conf of '), block)
        parsed = configparser.ConfigParser()
        parsed.read_string(block.text)
        for section in ('DEFAULT', *parsed.sections()):
            for name, value in parsed[section].items():
                if section == 'DEFAULT' or name not in parsed.defaults():
                    self.flags(**{name: value.split(',') if name in _LISTS
                                  else value},
                               group=None if section == 'DEFAULT'
                               else section)

    def do(self, command):
        words = command.words
        self.done.append(words)
        if words == ['echo', '$?']:
            self.assertEqual(command.shown, [str(self.status)],
                             command.where)
            return
        name = words[0].removesuffix('3')
        if name == 'openstack':
            self.openstack(*words[1:])
        elif words[:3] == ['python', '-m', 'nova_ext.cleanup']:
            self.assertTrue(self.installed)
            self.run_command(*words[3:])
        else:
            self.assertIn(name, ('systemctl', 'pip'), command.where)
            getattr(self, name)(*words[1:])

    def openstack(self, *words):
        self.assertTrue(self.installed or 'kongming' not in words, words)
        done = subprocess.run(
            [sys.executable, '-W', 'ignore', '-m', 'openstackclient.shell',
             *words], env=self.environ, capture_output=True, text=True)
        self.assertEqual(0, done.returncode,
                         f'{words}: {done.stdout}{done.stderr}')
        return done.stdout

    def pip(self, *words):
        self.assertEqual(('uninstall', '--yes', 'kongming'), words)
        self.installed = False

    def systemctl(self, action, service):
        match action, service:
            case 'stop', 'nova-compute':
                self.stop()
            case 'start', 'nova-compute':
                self.start()
            case 'restart', 'nova-scheduler':
                self.scheduler.stop()
                self.scheduler = self.start_service('scheduler')
            case 'restart', 'nova-api':
                pass
            case _:
                self.fail(f'{action} {service}')

    def flavors(self):
        """name -> its extra specs."""
        return {flavor['name']: self.api.get_extra_specs(flavor['id'])
                for flavor in self.api.get_flavors()}

    def prepare(self):
        """A cloud where all is in use that has to be taken away."""
        for name in ('nfv.l', 'plain'):
            self.openstack('flavor', 'create', name, '--id', name, '--vcpus',
                           '2', '--ram', '64', '--disk', '1', '--property',
                           'hw:cpu_policy=dedicated')
        self.openstack('kongming', 'template', 'set', '--flavor', 'nfv.l',
                       '--node', '0=1', '--pin', '0=0:13 1:10')
        server = self.boot('nfv.l')
        self.api.api_put(f'/servers/{server["id"]}',
                         {'server': {'name': 'du-1'}})
        self.cut_short(server, {5, 2})
        self.run_on(server, v0={5}, v1={2})
        return server

    def test_word_by_word(self):
        server = self.prepare()
        self.assertNotEqual(self.flavors()['plain'], self.flavors()['nfv.l'])
        self.assertEqual({0, 1}, set(self.children()))
        self.follow(PAGE, 'Removal')
        self.assertEqual(15, len(self.done))
        self.assertFalse(self.installed)
        self.assertEqual(self.flavors()['plain'], self.flavors()['nfv.l'])
        self.assertEqual({}, self.children())
        self.assertNotIn(inventory.TRAIT_HOOK, self._get_provider_traits(
            self.compute_rp_uuids['compute1']))
        service, = self.api.get_services(binary='nova-compute')
        self.assertEqual('enabled', service['status'])
        owned = {p for pcpus in self.pins(server)[0].values() for p in pcpus}
        self.assertEqual(owned, self.all_owned())
        native = self.fill()
        self.assertEqual(4, len(self.all_owned()))
        for each in (native, server):
            self._reboot_server(each, hard=True)
        self.assertEqual(4, len(self.all_owned()))
