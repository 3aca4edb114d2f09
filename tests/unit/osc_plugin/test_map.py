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

"""How ``host map`` writes what it has drawn."""

import os
import types

import fixtures

from osc_plugin.host import map as map_cmd
from tests import base


class WriteTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.useFixture(fixtures.EnvironmentVariable('PAGER', 'sed s/^/|/'))

    def written(self, stdout, drawn, page):
        command = map_cmd.MapHost(
            types.SimpleNamespace(stdout=stdout), None)
        command._write(drawn, page)
        stdout.flush()

    def in_terminal(self, page, encoding='utf-8'):
        ours, its = os.openpty()
        self.addCleanup(os.close, ours)
        with open(its, 'w', encoding=encoding) as stdout:
            self.written(stdout, '█\nx', page)
            return os.read(ours, 1000).decode().splitlines()

    def test_a_terminal_pages_all_hosts(self):
        self.assertEqual(['|█', '|x'], self.in_terminal(True))
        self.assertEqual(['|#', '|x'], self.in_terminal(True, 'ascii'))
        self.assertEqual(['█', 'x'], self.in_terminal(False))

    def test_nothing_is_paged_elsewhere(self):
        path = os.path.join(self.useFixture(fixtures.TempDir()).path, 'x')
        with open(path, 'w', encoding='utf-8') as stdout:
            self.written(stdout, '█\nx', True)
        with open(path, encoding='utf-8') as file:
            self.assertEqual('█\nx\n', file.read())

    def test_a_pager_that_is_left(self):
        self.useFixture(fixtures.EnvironmentVariable('PAGER', 'true'))
        ours, its = os.openpty()
        self.addCleanup(os.close, ours)
        with open(its, 'w', encoding='utf-8') as stdout:
            self.written(stdout, 'x\n' * 100000, True)

    def test_no_pager(self):
        self.useFixture(fixtures.EnvironmentVariable('PAGER', 'cat'))
        self.assertEqual(['█', 'x'], self.in_terminal(True))
