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

"""The page *Infrastructure as code*: its files, run by the tools themselves.

``tox -e iac`` has the tools.  ``KONGMING_ANSIBLE`` and ``KONGMING_HEAT`` name
other folders of programs where they are not in this environment.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys

from kongming.template import template
from tests import documents
from tests.functional import test_cli
import yaml

FOLDER = documents.SOURCE / 'user/code'
_HERE = str(pathlib.Path(sys.executable).parent)
#: Reads a template as Heat's engine does, and prints what it says of the
#: properties of its server.
_HEAT = '''
import json, sys
from heat.common import template_format
from heat.engine import environment, resources, template
resources.initialise()
text = open(sys.argv[1]).read()
read = template.Template(template_format.parse(text))
read.validate()
server, = read.t['resources'].values()
cls = resources.global_env().get_class(server['type'])
print(json.dumps({
    name: cls.properties_schema[name].update_allowed
    for name in server['properties']}))
'''


def program(variable, name):
    """A tool's program; it has to be there."""
    found = pathlib.Path(os.environ.get(variable, _HERE), name)
    if not found.exists():
        raise RuntimeError(f'{found} is not there; set {variable}')
    return str(found)


class AnsibleTest(test_cli.CliBase):

    def setUp(self):
        super().setUp()
        self.python = program('KONGMING_ANSIBLE', 'python3')
        self.playbook = program('KONGMING_ANSIBLE', 'ansible-playbook')

    def play(self, name, *words):
        found = subprocess.run(
            [self.playbook, '-i', 'localhost,', '-c', 'local',
             '-e', f'ansible_python_interpreter={self.python}',
             str(FOLDER / name), *words], capture_output=True, text=True,
            env={**os.environ, 'OS_CLIENT_CONFIG_FILE': str(
                self.cloud.folder / 'clouds.yaml'),
                'PATH': f'{_HERE}:{os.environ["PATH"]}',
                'ANSIBLE_NOCOLOR': '1', 'ANSIBLE_LOCALHOST_WARNING': 'False'})
        self.assertEqual(0, found.returncode, found.stdout + found.stderr)
        return found.stdout

    def pins(self):
        return self.json('kongming', 'server', 'show', 'du-1')['owned']

    def test_page(self):
        self.play('flavor.yml')
        self.addCleanup(self.openstack, 'flavor', 'delete', 'nfv.du')
        self.openstack('server', 'create', '--flavor', 'nfv.du', '--image',
                       'idle', '--nic', 'none', '--wait', 'du-1')
        self.addCleanup(self.openstack, 'server', 'delete', '--wait', 'du-1')
        before = self.pins()
        self.assertIn('changed=1', self.play('live.yml'))
        after = self.pins()
        self.assertNotEqual(before, after)
        self.assertEqual([{'node': 1, 'pins': {'0': 13, '1': 10}}], after)
        self.play('live.yml', '--extra-vars', "pins='0:12 1:11'")
        self.assertEqual([{'node': 1, 'pins': {'0': 12, '1': 11}}],
                         self.pins())
        # Again, nothing is changed.
        self.assertIn('changed=0', self.play(
            'live.yml', '--extra-vars', "pins='0:12 1:11'"))


class HeatTest(test_cli.testtools.TestCase):

    def test_in_place(self):
        found = subprocess.run(
            [program('KONGMING_HEAT', 'python3'), '-W', 'ignore', '-c', _HEAT,
             str(FOLDER / 'heat.yaml')], capture_output=True, text=True)
        self.assertEqual(0, found.returncode, found.stderr)
        properties = json.loads(found.stdout.splitlines()[-1])
        self.assertTrue(properties['metadata'])

    def test_keys(self):
        read = yaml.safe_load((FOLDER / 'heat.yaml').read_text())
        pins = read['parameters']['pins']['default']
        template.check_entry('kongming:pin.0', pins)


class TerraformTest(test_cli.testtools.TestCase):

    def test_syntax(self):
        terraform = shutil.which('terraform')
        if terraform is None:
            self.skipTest('there is no terraform')
        found = subprocess.run(
            [terraform, 'fmt', '-check', '-diff', str(FOLDER / 'main.tf')],
            capture_output=True, text=True)
        self.assertEqual(0, found.returncode, found.stdout + found.stderr)
