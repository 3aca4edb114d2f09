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

"""Documents: checked, written out, taken in."""

import pathlib
import subprocess
import sys
import tempfile

import yaml

from tests.functional import test_cli

DOCUMENT = {'version': 1, 'cells': {0: {'node': 1, 'pin': '0:15 1:12'}},
            'profiles': {'night': {'when': '22:00-06:00', 'lend': True,
                                   'cells': {0: {'pin': '0-1~v0'}}}},
            'grant': 'profile'}


class DocumentTest(test_cli.CliBase):

    def test_there_and_back(self):
        flavor, other = self.flavor(2), self.flavor(2)
        self.openstack('kongming', 'template', 'set', '--flavor', flavor,
                       self.document(**DOCUMENT))
        for form in ('yaml', 'json'):
            out, err = self.openstack('kongming', 'template', 'export',
                                      '--format', form, flavor)
            self.assertEqual(DOCUMENT, {
                **yaml.safe_load(out),
                'cells': {0: next(iter(
                    yaml.safe_load(out)['cells'].values()))},
                'profiles': DOCUMENT['profiles']})
            self.assertEqual('', err)
            again = pathlib.Path(self.document())
            again.write_text(out)
            self.openstack('kongming', 'template', 'set', '--flavor', other,
                           str(again))
            self.assertEqual(
                self.json('kongming', 'template', 'show',
                          flavor)['template'],
                self.json('kongming', 'template', 'show', other)['template'])

    def test_descriptor(self):
        flavor, other = self.flavor(2), self.flavor(2)
        self.openstack('kongming', 'template', 'set', '--flavor', flavor,
                       self.document(**DOCUMENT))
        out, err = self.openstack('kongming', 'template', 'export',
                                  '--format', 'sol001', flavor)
        self.assertIn('SOL 001 has no place for kongming:grant', err)
        self.openstack('kongming', 'template', 'set', '--flavor', other,
                       '--node', '0=1', '--pin', '0=0:10 1:11')
        vnfd = self.document(topology_template={'node_templates': {'du': {
            'capabilities': {'virtual_compute': {
                'properties': yaml.safe_load(out)}}}}})
        shown = self.json('kongming', 'template', 'import', '--flavor',
                          other, vnfd)
        self.assertEqual({'kongming:node.0': '1',
                          'kongming:pin.0': '0:15 1:12'}, shown['template'])
        self.assertEqual({'trait:CUSTOM_KONGMING_HOOK': 'required'},
                         shown['placement'])
        self.assertLessEqual({**shown['template'],
                              **shown['placement']}.items(),
                             self.seen(other).items())
        before = self.specs(other)
        _out, err = self.openstack('kongming', 'template', 'import',
                                   '--flavor', other, '--vdu', 'cu', vnfd,
                                   status=1)
        self.assertIn('pinning, threads or NUMA: du', err)
        small = self.flavor(1)
        _out, err = self.openstack('kongming', 'template', 'import',
                                   '--flavor', small, vnfd, status=1)
        self.assertIn("vCPU 1 is beyond the flavor's 1 vCPU(s)", err)
        self.assertEqual(before, self.specs(other))

    def test_descriptor_of_osm(self):
        flavor = self.flavor(2)
        vnfd = self.document(vnfd={'vdu': [{
            'id': 'du', 'vm-flavor': {'vcpu-count': 4},
            'guest-epa': {'cpu-pinning-policy': 'DEDICATED',
                          'cpu-thread-pinning-policy': 'PREFER',
                          'cpu-quota': {'limit': 5}}}]})
        _out, err = self.openstack('kongming', 'template', 'import',
                                   '--flavor', flavor, vnfd)
        self.assertIn("warning: du.guest-epa.cpu-quota = '...'", err)
        self.assertIn('asks for 4 vCPUs', err)
        # It says nothing of a template, so the flavor gets none.
        self.assertEqual({'hw:cpu_policy': 'dedicated',
                          'hw:cpu_thread_policy': 'prefer'},
                         self.specs(flavor))

    def test_validate(self):
        good = self.document(**DOCUMENT)
        self.assertEqual(('', ''), self.openstack(
            'kongming', 'template', 'validate', good))
        bad = self.document(version=1, sched='0:fast', cells={
            0: {'pin': '0:x'}, 1: {'n': 1}})
        _out, err = self.openstack('kongming', 'template', 'validate', bad,
                                   status=1)
        self.assertEqual(3, len(err.splitlines()), err)
        flavor = self.flavor(2)
        before = self.specs(flavor)
        dry = self.json('kongming', 'template', 'set', '--dry-run',
                        '--flavor', flavor, good)
        self.assertEqual('0:15 1:12', dry['written']['kongming:pin.0'])
        self.assertEqual(before, self.specs(flavor))
        never = self.document(version=1, profiles={'x': {'sched': '0:idle'}})
        _out, err = self.openstack('kongming', 'template', 'set',
                                   '--dry-run', '--flavor', flavor, never)
        self.assertIn('warning: profile x is never active', err)

    def test_validate_needs_no_cloud(self):
        done = subprocess.run(
            [sys.executable, '-W', 'ignore', '-m', 'openstackclient.shell',
             'kongming', 'template', 'validate', self.document(**DOCUMENT)],
            env={'PYTHONPATH': ':'.join(sys.path), 'HOME': self.enterContext(
                tempfile.TemporaryDirectory())},
            capture_output=True, text=True)
        self.assertEqual((0, '', ''), (done.returncode, done.stdout,
                                       done.stderr))
