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


"""The cloud as its users see it: ``openstack``, and the SDK."""

import contextlib
import io
import json
import os
import shlex
import subprocess
import time
from unittest import mock

from openstackclient import shell
import osc_lib.exceptions

from tests.cloud import daemon
from tests.cloud import layout as layout_mod
from tests.cloud import services


#: What cliff makes of a Ctrl-C, after which nothing else is to be done.
_INTERRUPTED = 130


def _client_of(cache, instance, owner):
    """A process has one user; osc-lib keeps his clients for ever."""
    clients = vars(instance).setdefault('_kongming_clients', {})
    if cache not in clients:
        clients[cache] = cache.factory(instance)
    return clients[cache]


class Failed(Exception):
    """A command ended with another status than it was to end with."""


class User:
    """One user of the cloud.

    :param name: ``admin``, ``member`` or ``reader``
    """

    def __init__(self, layout, name):
        self.layout = layout
        self.name = name
        self._connection = None
        self._log = layout.logs / 'commands.log'

    @property
    def sdk(self):
        """openstacksdk's connection, made once."""
        if self._connection is None:
            self._connection = services.connect(self.layout, self.name)
        return self._connection

    def again(self):
        """A new session: the old one may hold a dead connection."""
        self._connection = None

    def _environ(self):
        return {**{name: value for name, value in os.environ.items()
                   if not name.startswith('OS_')},
                'OS_CLOUD': f'kongming-{self.name}',
                'OS_CLIENT_CONFIG_FILE': str(self.layout.clouds_yaml)}

    def run(self, *words, status=0):
        """Run ``openstack`` in this process; what it writes.

        A process of its own takes seconds until it has loaded everything.

        :param status: that it is to end with; None for any
        """
        out, err = io.StringIO(), io.StringIO()
        begin = time.monotonic()
        with mock.patch.dict(os.environ, self._environ(), clear=True), \
                mock.patch('osc_lib.clientmanager.ClientCache.__get__',
                           _client_of), \
                contextlib.redirect_stdout(out), \
                contextlib.redirect_stderr(err):
            try:
                code = shell.OpenStackShell().run(list(map(str, words)))
            except SystemExit as exc:
                code = exc.code
            except osc_lib.exceptions.CommandError as exc:
                code = 1
                err.write(str(exc))
        if code == _INTERRUPTED:
            raise KeyboardInterrupt
        self._note(words, code, time.monotonic() - begin,
                   out.getvalue() + err.getvalue())
        if status is not None and code != status:
            raise Failed(f'openstack {shlex.join(map(str, words))} as '
                         f'{self.name}: status {code}, not {status}: '
                         f'{out.getvalue()}{err.getvalue()}')
        return out.getvalue() + err.getvalue()

    def refused(self, *words):
        """Run ``openstack``, which is to fail; why it says it does."""
        said = self.run(*words, status=None)
        if self.code == 0:
            raise Failed(f'openstack {shlex.join(map(str, words))} as '
                         f'{self.name} was to be refused: {said}')
        return said

    def json(self, *words):
        """What it writes with ``-f json``."""
        return json.loads(self.run(*words, '-f', 'json'))

    def process(self, *words):
        """Run ``openstack`` as a user does, in a process of its own.

        :returns: status and what it writes
        """
        begin = time.monotonic()
        done = subprocess.run(
            [layout_mod.BIN / 'openstack', *words], text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, env={
                **daemon.environment(self.layout), **self._environ()})
        self._note(words, done.returncode, time.monotonic() - begin,
                   done.stdout)
        return done.returncode, done.stdout

    def _note(self, words, code, seconds, said):
        self.code = code
        with open(self._log, 'a') as log:
            log.write(f'{time.strftime("%H:%M:%S")} {self.name} $ openstack '
                      f'{shlex.join(map(str, words))}\n{said.rstrip()}\n'
                      f'({seconds:.1f} s, status {code})\n\n')
