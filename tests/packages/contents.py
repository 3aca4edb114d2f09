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
"""What has to be in the packages, of whatever kind.

``tools/package deb`` and ``tools/package rpm`` build them, and run this.
"""

import email
import os
import pathlib
import re
import subprocess
import sys
import unittest

FOLDER = pathlib.Path(os.environ.get('KONGMING_PACKAGES', 'dist'))
TOP = pathlib.Path(__file__).parents[2]
#: Runs a program of an unpacked package where Nova can not be imported.
_WITHOUT_NOVA = '''
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in ('nova', 'nova_ext'):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
site = sys.argv.pop(1)
sys.path.insert(0, site)
from kongming.cli import app
assert app.__file__.startswith(site), app.__file__
sys.exit(app.main())
'''


class Contents:
    """Tests of both kinds; ``unpack`` gives a folder of a package."""

    def test_no_file_twice(self):
        self.assertEqual(set(), self.files('library') & self.files('nova')
                         - {'usr/share/licenses'})

    def test_all_modules(self):
        for package, kind in (('kongming', 'library'),
                              ('osc_plugin', 'library'), ('nova_ext', 'nova')):
            for path in (TOP / package).rglob('*'):
                if path.suffix in ('.py', '.json') or (
                        path.parent.name == 'page-assets'):
                    self.assertIn(f'{self.site}/{path.relative_to(TOP)}',
                                  self.files(kind))

    def test_nova_side(self):
        found = {name for name in self.files('nova')
                 if name.startswith(f'{self.site}/nova/')}
        self.assertEqual({f'{self.site}/nova/virt/kongming.py'}, found)
        self.assertRegex(
            ' '.join(self.depends('nova')), 'python3-kongming .*python3-nova')

    def test_library_needs_no_nova(self):
        self.assertNotIn('nova', ' '.join(self.depends('library')))
        self.assertFalse([name for name in self.files('library')
                          if 'nova_ext' in name or '/nova/' in name])

    def test_entry_points(self):
        """nova-api must not find the validator's where it is not."""
        library, nova = (
            (self.unpack(kind) / self.site / f'{name}.dist-info'
             / 'entry_points.txt').read_text()
            for kind, name in (('library', f'kongming-{self.version}'),
                               ('nova', f'kongming_nova-{self.version}')))
        self.assertNotIn('nova', library)
        self.assertEqual(
            ['[nova.api.extra_spec_validators]',
             'kongming = nova_ext.validators'], nova.split('\n')[:2])
        declared = re.findall(r'^    (\S+ = \S+)$', (
            TOP / 'setup.cfg').read_text().partition('[entry_points]')[2],
            re.MULTILINE)
        self.assertGreater(len(declared), 40)
        for line in declared:
            self.assertIn(line, library + nova)

    def test_metadata(self):
        read = email.message_from_string((
            self.unpack('nova') / self.site
            / f'kongming_nova-{self.version}.dist-info/METADATA').read_text())
        self.assertEqual(f'kongming=={self.version}', read['Requires-Dist'])

    def test_command_without_nova(self):
        python = os.environ.get('KONGMING_PYTHON', sys.executable)
        probe = subprocess.run([python, '-c', 'import cliff, openstack'],
                               capture_output=True)
        if probe.returncode:
            self.skipTest(f'{python} lacks what the package depends on; set '
                          f'KONGMING_PYTHON')
        site = self.unpack('library') / self.site
        found = subprocess.run(
            [python, '-W', 'ignore', '-c', _WITHOUT_NOVA, str(site),
             '--help'], capture_output=True, text=True, cwd='/')
        self.assertEqual(0, found.returncode, found.stderr)
        self.assertIn('topology', found.stdout)

    def test_shebang(self):
        script = self.unpack('library') / 'usr/bin/kongming'
        self.assertEqual('#!/usr/bin/python3',
                         script.read_text().splitlines()[0])

    @property
    def version(self):
        info, = (self.unpack('library') / self.site).glob('kongming-*')
        return info.name.removeprefix('kongming-').removesuffix('.dist-info')


class FolderCase(unittest.TestCase):

    _unpacked: dict[str, pathlib.Path] = {}
    NAMES = {'library': 'python3-kongming', 'nova': 'python3-kongming-nova'}

    def package(self, kind):
        """The file of a package."""
        found = [path for path in FOLDER.glob(self.pattern(kind))]
        self.assertEqual(1, len(found), f'{FOLDER}: {found}')
        return found[0]

    def files(self, kind):
        root = self.unpack(kind)
        return {str(path.relative_to(root)) for path in root.rglob('*')
                if path.is_file()}
