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
"""The how-tos are followed, word by word, on an embedded cloud."""

import os
import pathlib

import fixtures
import testtools

from tests import documents
from tests.functional import test_cli

IMAGE = 'idle'


class HowToTest(test_cli.CliBase):

    def setUp(self):
        super().setUp()
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.useFixture(fixtures.TempDir()).path)
        self.status = 0

    def follow(self, page):
        """Write a page's files and run its commands, in its order."""
        for block in documents.blocks(pathlib.Path('doc/source') / page):
            if block.caption:
                pathlib.Path(block.caption).write_text(block.text)
            elif block.kind == 'console':
                for command in documents.commands(block):
                    self.do(command)
        self.assertEqual(0, self.status)

    def do(self, command):
        words = [word.replace('$IMAGE', IMAGE) for word in command.words]
        if words == ['echo', '$?']:
            # A page that shows a status is one on which it matters.
            self.assertEqual(command.shown, [str(self.status)],
                             command.where)
            self.status = 0
            return
        self.assertEqual('openstack', words[0], command.where)
        self.assertEqual(0, self.status, f'before {command.where}')
        if words[1:3] == ['flavor', 'create']:
            self.addCleanup(self.openstack, 'flavor', 'delete', words[3])
        elif words[1:3] == ['server', 'create']:
            self.addCleanup(self.delete, words[-1])
        self.status, out, err = self.run_shell(
            lambda: test_cli.shell.OpenStackShell().run(words[1:]))
        self.assertNotIn('Traceback', err, command.where)
        if self.status:
            self.addDetail(command.where, testtools.content.text_content(
                out + err))

    def delete(self, server):
        names = [found['Name'] for found in self.json('server', 'list')]
        if server in names:
            self.openstack('server', 'delete', '--wait', server)

    def test_nfv(self):
        self.follow('user/nfv.rst')

    def test_day_and_night(self):
        self.follow('user/day-night.rst')
