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

import pathlib

import fixtures

from kongming.kernel import cgroup
from kongming.kernel import cpuset
from tests import base

_DOMAIN = 'machine/qemu-1-du.libvirt-qemu'


class ReclaimTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.top = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        self.mounted(1)
        (self.top / 'cpuset.cpus').write_text('0-3\n')
        for folder, text in {'machine': '0-1,3', _DOMAIN: '0-1',
                             f'{_DOMAIN}/vcpu0': '1', 'user': '0'}.items():
            (self.top / folder).mkdir()
            (self.top / folder / 'cpuset.cpus').write_text(f'{text}\n')

    def mounted(self, version):
        cpuset._root.cache_clear()
        self.addCleanup(cpuset._root.cache_clear)
        self.useFixture(fixtures.MonkeyPatch(
            'kongming.kernel.cgroup.mount_of', lambda controller:
            version and cgroup.Mount(version, '/', str(self.top))))

    def read(self, folder):
        return (self.top / folder / 'cpuset.cpus').read_text().strip()

    def test_from_above(self):
        self.assertEqual([str(self.top / 'machine'), str(self.top / _DOMAIN)],
                         cpuset.lacking({2, 3}))
        cpuset.reclaim_cpus([2, 3, 4])
        self.assertEqual([], cpuset.lacking({2, 3}))
        self.assertEqual(
            {'machine': '0-3', _DOMAIN: '0-3', f'{_DOMAIN}/vcpu0': '1',
             'user': '0'}, {folder: self.read(folder) for folder in (
                 'machine', _DOMAIN, f'{_DOMAIN}/vcpu0', 'user')})

    def test_nothing_is_lacking(self):
        self.assertEqual([], cpuset.lacking({0, 1}))

    def test_offline_still(self):
        self.assertEqual([], cpuset.lacking({4}))

    def test_version_2_and_none(self):
        for version in 2, None:
            self.mounted(version)
            self.assertEqual([], cpuset.lacking({2, 3}))
