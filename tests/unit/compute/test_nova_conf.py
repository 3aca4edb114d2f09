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
import tempfile

from kongming.compute import nova_conf
from kongming import exception
from tests import base


class CpuSetTest(base.TestCase):

    def test_as_nova_reads_it(self):
        for spec, expected in (('4-7,^5,9', {4, 6, 7, 9}), ('2', {2}),
                               ('0-3,^1-2', {0, 3}), (' 1 ,, 2 ', {1, 2})):
            self.assertEqual(expected, nova_conf.cpu_set('x', spec))
        self.assertIsNone(nova_conf.cpu_set('x', None))

    def test_malformed(self):
        for spec in ('a', '4-', '7-4', '^', '1-2-3', '-1'):
            error = self.assertRaises(exception.InvalidOption,
                                      nova_conf.cpu_set, '--dedicated', spec)
            self.assertIn(f"--dedicated = '{spec}'", str(error))


class ReadTest(base.TestCase):

    def read(self, *texts):
        files = []
        folder = pathlib.Path(self.enterContext(
            tempfile.TemporaryDirectory()))
        for number, text in enumerate(texts):
            files.append(folder / f'{number}.conf')
            files[-1].write_text(text)
        return nova_conf.read(map(str, files))

    def test_later_files_win_and_others_options_do_not_matter(self):
        sets = self.read(
            '[DEFAULT]\nreserved_huge_pages = node:1,size:2MB,count:8\n'
            'reserved_huge_pages = node:0,size:1048576,count:1\n'
            '[compute]\ncpu_dedicated_set = 2-3\n[libvirt]\nx = $y\n',
            '[compute]\ncpu_dedicated_set = 4-5\n')
        self.assertEqual(nova_conf.CpuSets(
            frozenset({4, 5}), None, {(1, 2048): 8, (0, 1048576): 1}), sets)

    def test_never_pcpus(self):
        self.assertEqual(frozenset({0, 2}), self.read(
            '[kongming]\nnever_pcpus = 0-2,^1\n').never)
        error = self.assertRaises(exception.InvalidOption, self.read,
                                  '[kongming]\nnever_pcpus = all\n')
        self.assertIn("[kongming] never_pcpus = 'all'", str(error))

    def test_malformed_pages(self):
        error = self.assertRaises(
            exception.InvalidOption, self.read,
            '[DEFAULT]\nreserved_huge_pages = node:1,size:2MB\n')
        self.assertIn('reserved_huge_pages', str(error))

    def test_no_such_file(self):
        error = self.assertRaises(exception.CloudError, nova_conf.read,
                                  ['/nonexistent/nova.conf'])
        self.assertIn('/nonexistent/nova.conf', str(error))
