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

"""Placement as it comes from PyPI, over HTTP, on a database of its own.

``python -m tests.placement URL PORTFILE [RETRIES]`` serves until its parent is
gone.
:class:`Server` runs that and waits for it.
"""

import pathlib
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
from wsgiref import simple_server

from keystoneauth1 import adapter
from keystoneauth1 import session


#: On a busy machine it takes minutes to make its tables.
_PATIENCE = 600


class Server:
    """A Placement of one's own.

    :param database: SQLAlchemy's URL; default a SQLite file
    :param conflict_retries: ``[placement] allocation_conflict_retry_count``,
        Placement's own default if None
    """

    def __init__(self, database=None, conflict_retries=None):
        self.folder = tempfile.TemporaryDirectory(prefix='kongming-placement-')
        folder = pathlib.Path(self.folder.name)
        port = folder / 'port'
        # A pipe that nobody reads would stop it after 64 KiB of warnings.
        self._errors = open(folder / 'stderr', 'w+')
        self.process = subprocess.Popen(
            [sys.executable, '-W', 'ignore', '-m', 'tests.placement',
             database or f'sqlite:///{folder}/placement.db', str(port),
             *([] if conflict_retries is None else [str(conflict_retries)])],
            stdin=subprocess.PIPE, stderr=self._errors, text=True)
        deadline = time.monotonic() + _PATIENCE
        while not port.exists() or not port.read_text():
            if self.process.poll() is not None:
                self._errors.seek(0)
                raise RuntimeError(self._errors.read())
            if time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f'no Placement after {_PATIENCE} s')
            time.sleep(0.1)
        self.url = f'http://127.0.0.1:{port.read_text()}'

    def adapter(self):
        """A client with an admin's rights."""
        return adapter.Adapter(
            session.Session(),
            endpoint_override=self.url, service_type='placement',
            additional_headers={'X-Auth-Token': 'admin'})

    def stop(self):
        self.process.stdin.close()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._errors.close()
        self.folder.cleanup()


class _Threads(socketserver.ThreadingMixIn, simple_server.WSGIServer):
    daemon_threads = True
    request_queue_size = 128


class _Silent(simple_server.WSGIRequestHandler):
    protocol_version = 'HTTP/1.0'

    def log_message(self, *args):
        pass


def main(database, port, conflict_retries=None):
    from oslo_config import cfg
    from placement import conf as placement_conf
    from placement import db_api
    from placement import deploy

    conf = cfg.ConfigOpts()
    placement_conf.register_opts(conf)
    conf.set_override('connection', database, 'placement_database')
    conf.set_override('sync_on_startup', True, 'placement_database')
    conf.set_override('auth_strategy', 'noauth2', 'api')
    if conflict_retries is not None:
        conf.set_override('allocation_conflict_retry_count',
                          int(conflict_retries), 'placement')
    conf([], project='placement', default_config_files=[])
    db_api.configure(conf)
    server = simple_server.make_server(
        '127.0.0.1', 0, deploy.loadapp(conf), _Threads, _Silent)
    pathlib.Path(port).write_text(str(server.server_port))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    # Until whoever started this closes the pipe, or ends.
    sys.stdin.read()


if __name__ == '__main__':
    main(*sys.argv[1:])
