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
"""The commands of the documentation.

The how-tos are followed, word by word, on an embedded cloud; of all other
pages each command is read by its parser.
"""

import configparser
import functools
import importlib.metadata
import io
import os
import pathlib
import re
import types
from unittest import mock

import fixtures
import nova.conf
from oslo_config import cfg
from placement import conf as placement_conf
import testtools

from kongming.cli import app
from kongming import conf as km_conf
from kongming.template import template
from tests import base
from tests import documents
from tests.functional import test_cli
from tests.unit.load import test_replay

CONF = nova.conf.CONF
_GROUPS = ('openstack.cli', 'openstack.common', 'openstack.compute.v2',
           'openstack.image.v2', 'openstack.placement.v1',
           'openstack.kongming.v1', 'kongming.cli')
#: What cliff brings by itself.
_BUILT_IN = {'complete', 'help'}
IMAGE = 'idle'


def _without_prompt(line):
    """What a line says, without what differs each time."""
    # cliff and our own tables say nothing in two ways.
    line = line.replace('| None ', '| -    ')
    return re.sub(r'\([0-9a-f]{8}-[^)]*\)', '(uuid)', line).rstrip()


class HowToTest(test_cli.CliBase):

    def setUp(self):
        super().setUp()
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.useFixture(fixtures.TempDir()).path)
        self.status = 0

    def follow(self, page, without='no such word'):
        """Write a page's files and run its commands, in its order.

        :param without: a word of blocks that are left out
        """
        for block in documents.blocks(pathlib.Path(page)):
            if without in block.text:
                continue
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
        if words[0] == 'cat':
            pathlib.Path(words[1]).write_text('\n'.join(command.shown))
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
        printed = [_without_prompt(line) for line in out.splitlines()]
        self.assertEqual([], [
            line for line in map(_without_prompt, command.shown)
            if line and line not in printed], out)

    def delete(self, server):
        names = [found['Name'] for found in self.json('server', 'list')]
        if server in names:
            self.openstack('server', 'delete', '--wait', server)

    def test_nfv(self):
        self.follow('doc/source/user/nfv.rst')

    def test_day_and_night(self):
        self.follow('doc/source/user/day-night.rst')

    def test_readme(self):
        self.follow('README.rst', without='ran-site-')


class BusyIdleTest(HowToTest):
    """The same with guests that are idle, and commands of a host."""

    CLOUD = ('--idle',)
    test_nfv = test_day_and_night = test_readme = None

    def setUp(self):
        super().setUp()
        self.shown = []

    def do(self, command):
        words = command.words
        if words[0] == 'kongming':
            self.do_on_host(words)
            return
        if 'load' in words or 'advise' in words:
            if pathlib.Path('nova.conf').exists():
                conf = configparser.ConfigParser()
                conf.read('nova.conf')
                self.by_load(conf['kongming']['by_load'])
            self.wait_for('idle', self.advised)
        super().do(command)

    def by_load(self, mode):
        (self.cloud.folder / 'by_load').write_text(mode)
        self.wait_for(mode, lambda: self.advice()['by_load'])

    def advice(self):
        found, = [row for row in self.json('kongming', 'advise')
                  if row['server'] == 'elastic-1']
        return found

    def advised(self):
        found = self.advice()
        return found['advice'] or found['profile']

    def do_on_host(self, words):
        if words[1] == 'watch':
            # tests.libvirt.test_load records real domains.
            pathlib.Path(words[3]).write_text(''.join(test_replay.lines(
                *test_replay.day((7200,), step=60))))
            return
        out = io.StringIO()
        with mock.patch('sys.stdout', out):
            self.assertEqual(0, app.main(words[1:]), words)
        self.shown.append(out.getvalue())

    def test_busy_and_idle(self):
        self.addCleanup((self.cloud.folder / 'by_load').write_text, 'advise')
        self.follow('doc/source/user/busy-idle.rst')
        self.assertIn('below 15% for 10m', self.shown[0])
        self.assertIn('most_in_an_hour', self.shown[1])
        found = self.advice()
        self.assertEqual(('act', 'idle', {'lends': [15], 'saves': None}), (
            found['by_load'], found['profile'], found['gain']))
        change, = self.json('kongming', 'server', 'history', 'elastic-1')
        # For longer, where the machine was too busy to read in time.
        self.assertRegex(change['details'],
                         r'^profile idle: use 3\.0%, below 15% for \d+m$')


@functools.cache
def known_commands():
    """Words of a command -> its entry point."""
    return {(group == 'kongming.cli', point.name): point
            for group in _GROUPS
            for point in importlib.metadata.entry_points(group=group)}


def parser_of(words):
    """The parser of a command, and the words that are its arguments.

    :raises LookupError: if there is no such command
    """
    on_host = words[0] == 'kongming'
    rest = words[1:]
    while rest and rest[0].startswith('--'):
        # Options before the command; each is shown with a value.
        rest = rest[2:]
    for end in range(len(rest), 0, -1):
        point = known_commands().get((on_host, '_'.join(rest[:end])))
        if point is not None:
            app = mock.MagicMock()
            app.client_manager.is_network_endpoint_enabled.return_value = True
            command = point.load()(app, types.SimpleNamespace())
            return command.get_parser(' '.join(rest[:end])), rest[end:]
    raise LookupError(' '.join(words))


class CommandTest(base.TestCase):
    """Commands are what their parsers take."""

    def test_blocks(self):
        found = 0
        for block in documents.all_blocks('console'):
            for command in documents.commands(block):
                if command.words[0] in ('openstack', 'kongming'):
                    self.check(command)
                    found += 1
        self.assertGreater(found, 80)

    def check(self, command):
        if command.words[1] in _BUILT_IN:
            return
        try:
            parser, words = parser_of(command.words)
        except LookupError as exc:
            self.fail(f'{command.where}: no command {exc}')
        errors = io.StringIO()
        with mock.patch('sys.stderr', errors):
            try:
                parser.parse_args(words)
            except SystemExit:
                self.fail(f'{command.where}: {errors.getvalue()}')
        for word in words:
            key, equals, value = word.partition('=')
            if key.startswith(template.PREFIX) and equals:
                # The profile of metadata is no key of a template.
                if key != f'{template.PREFIX}profile':
                    template.check_entry(key, value)

    def test_in_text(self):
        """What is named in a sentence exists."""
        named = set()
        for page in documents.pages():
            text = ' '.join(documents.read(page).split())
            named |= {(page, name) for name in re.findall(
                r'``openstack (kongming [a-z]+ [a-z]+)``', text)}
        names = {name for on_host, name in known_commands() if not on_host}
        self.assertGreater(len(named), 10)
        self.assertEqual([], sorted(
            f'{page}: {name}' for page, name in named
            if name.replace(' ', '_') not in names))


def _placement_conf():
    conf = cfg.ConfigOpts()
    placement_conf.register_opts(conf)
    return conf


class NovaConfTest(base.TestCase):
    """Options of nova.conf are Nova's, KongMing's or privsep's.

    Those of placement.conf are Placement's.
    """

    def setUp(self):
        super().setUp()
        # A test that runs alone finds Nova's options only.
        km_conf.register_opts(CONF)

    def test_blocks(self):
        found = 0
        for block in documents.all_blocks('ini'):
            parsed = configparser.ConfigParser(strict=False)
            parsed.read_string(block.text)
            conf = (_placement_conf() if 'placement.conf' in block.caption
                    else CONF)
            for section in [*parsed.sections(), 'DEFAULT']:
                group = conf if section == 'DEFAULT' else conf[section]
                for name in parsed[section]:
                    if section == 'DEFAULT' or name not in parsed.defaults():
                        self.assertIn(name, list(group), block)
                        found += 1
        self.assertGreater(found, 10)
