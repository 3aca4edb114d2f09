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


"""What is where: the folder of a cloud and its ports."""

import json
import os
import pathlib
import secrets
import shutil
import socket
import sys

from tests.cloud import error

_TOP = pathlib.Path(__file__).parents[2]
PORT = int(os.environ.get('KONGMING_CLOUD_PORT', 18700))
#: In each process of the cloud's environment, by which it is found again.
MARK = 'KONGMING_CLOUD_FOLDER'
BIN = pathlib.Path(sys.executable).parent

#: What listens where, counted from the cloud's first port.  A nested host
#: takes two TCP ports and a UDP port.
_PORTS = ('mariadb', 'rabbitmq', 'epmd', 'rabbitmq nodes', 'keystone',
          'placement', 'glance', 'neutron', 'nova', '-',
          'nested1', 'nested1 ssh', 'nested2', 'nested2 ssh',
          'nested1 link', 'nested2 link')
_UDP = ('nested1 link', 'nested2 link')


class Layout:
    """:param folder: of the cloud

    :param port: the first of its ports on 127.0.0.1; what it was made with
        where it is there already
    """

    def __init__(self, folder=None, port=None):
        self.folder = pathlib.Path(folder or os.environ.get(
            'KONGMING_CLOUD', _TOP / '.cloud')).absolute()
        self.etc = self.folder / 'etc'
        self.logs = self.folder / 'log'
        self.run = self.folder / 'run'
        self.data = self.folder / 'data'
        #: Nested hosts see it under the same path.
        self.share = self.folder / 'share'
        self.instances = self.share / 'instances'
        self.clouds_yaml = self.folder / 'clouds.yaml'
        self._facts = self.folder / 'cloud.json'
        self.port_base = port or self.facts().get('port') or PORT

    def make(self):
        """Make the folders; what listens is not everybody's to reach."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for path in (self.etc, self.logs, self.run, self.data, self.share,
                     self.instances):
            path.mkdir(exist_ok=True)
        facts = self.facts()
        facts.setdefault('secret', secrets.token_hex(12))
        facts['port'] = self.port_base
        self.note(**facts)

    def facts(self):
        """What is to be known of the cloud the next time."""
        try:
            return json.loads(self._facts.read_text())
        except FileNotFoundError:
            return {}

    def note(self, **facts):
        self._facts.write_text(json.dumps({**self.facts(), **facts}))

    def release(self, service):
        """The release of Nova that a service is of; None: the checkout's.

        :param service: such as ``nova-conductor``, ``nova-compute-local1``;
            ``nova`` is its API
        """
        return self.facts().get('releases', {}).get(service)

    def environment(self, release):
        """The virtual environment of a release; None: this process's."""
        return (pathlib.Path(sys.prefix) if release is None
                else self.folder / f'nova-{release}')

    def programs(self, service):
        """The folder of the programs that a service runs from."""
        return self.environment(self.release(service)) / 'bin'

    @property
    def secret(self):
        """The password of all users, made up for this cloud."""
        return self.facts()['secret']

    def port(self, name):
        return self.port_base + _PORTS.index(name)

    def url(self, service):
        return f'http://127.0.0.1:{self.port(service)}'

    def database(self, name):
        return (f'mysql+pymysql://openstack:{self.secret}@127.0.0.1:'
                f'{self.port("mariadb")}/{name}?charset=utf8')

    def check_free(self, names):
        """:raises tests.cloud.error.Problem: if a port is taken"""
        for name in names:
            kind = (socket.SOCK_DGRAM if name in _UDP
                    else socket.SOCK_STREAM)
            with socket.socket(socket.AF_INET, kind) as probe:
                if name not in _UDP:
                    probe.setsockopt(socket.SOL_SOCKET,
                                     socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(('127.0.0.1', self.port(name)))
                except OSError:
                    raise error.Problem(
                        f'port {self.port(name)} of 127.0.0.1, for {name}, '
                        f'is taken; tools/cloud up --port PORT takes PORT '
                        f'and the {len(_PORTS) - 1} after it instead'
                    ) from None

    def empty(self):
        """Remove what a cloud has written.

        What takes long to make stays: environments, nested hosts' states.
        """
        for path in (self.etc, self.logs, self.run, self.data, self.share,
                     self.folder / 'local1'):
            shutil.rmtree(path, ignore_errors=True)
        self._facts.unlink(missing_ok=True)

    def wipe(self):
        shutil.rmtree(self.folder, ignore_errors=True)


def port_names(without=()):
    """What listens somewhere, but for those whose name begins so."""
    return [name for name in _PORTS
            if name != '-' and not name.startswith(tuple(without))]
