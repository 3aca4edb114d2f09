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


"""Who gets an answer of ``kongming metrics --listen``, and when."""

import contextlib
import http.client
import pathlib
import socket
import ssl
import subprocess
import tempfile
import threading
import urllib.request

import fixtures

from kongming.cli import endpoint
from tests import base


def app(environ, start_response):
    start_response('200 OK', [('Content-Type', 'text/clear')])
    return [b'kongming_violations 0\n']


class EndpointTest(base.TestCase):

    #: Of the server, of a client that it serves.
    context = client = None

    def setUp(self):
        super().setUp()
        self.warned = []
        self.open = self.enterContext(contextlib.ExitStack())

    def serve(self, host='127.0.0.1'):
        found = endpoint.Endpoint(host, 0, app, self.context,
                                  self.warned.append)
        thread = threading.Thread(target=found.serve_forever, args=(0.05,))
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(found.server_close)
        self.addCleanup(found.shutdown)
        self.host, self.port = found.server_address[:2]

    def connect(self):
        return self.open.enter_context(
            socket.create_connection((self.host, self.port), timeout=10))

    def ask(self, client=None):
        client = client or self.client
        host = f'[{self.host}]' if ':' in self.host else self.host
        with urllib.request.urlopen(
                f'{"https" if client else "http"}://{host}:{self.port}/',
                context=client, timeout=10) as answer:
            return answer.read().decode()

    def is_closed(self, connection):
        """Whether the other side ends it within ten seconds."""
        try:
            return connection.recv(1) == b''
        except ConnectionResetError:
            return True

    def test_addresses(self):
        for host in ('127.0.0.1', 'localhost', '::1'):
            self.serve(host)
            self.assertIn('kongming_', self.ask())

    def test_one_that_is_taken(self):
        self.serve()
        self.assertRaises(OSError, endpoint.Endpoint, self.host, self.port,
                          app)

    def test_who_says_nothing_is_dropped(self):
        """And nobody waits for that."""
        self.useFixture(fixtures.MonkeyPatch(
            'kongming.cli.endpoint.PATIENCE', 2.0))
        self.serve()
        silent = self.connect(), self.connect()
        silent[1].send(b'GET /metr')
        self.assertIn('kongming_', self.ask())
        self.assertEqual([True, True], [*map(self.is_closed, silent)])

    def test_so_many_at_a_time(self):
        self.useFixture(fixtures.MonkeyPatch(
            'kongming.cli.endpoint.MOST', 2))
        self.serve()
        first, second, third = [self.connect() for _ in range(3)]
        self.assertTrue(self.is_closed(third))
        for each in first, second:
            each.close()
        # Their threads need a moment to see that.
        for _attempt in range(100):
            with contextlib.suppress(OSError, http.client.HTTPException):
                self.assertIn('kongming_', self.ask())
                return
            threading.Event().wait(0.05)
        self.fail('it is not served')


class TLSTest(EndpointTest):
    """The same with TLS: and without a certificate there is nothing."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.folder = pathlib.Path(cls.enterClassContext(
            tempfile.TemporaryDirectory()))
        for ca in ('own', 'foreign'):
            cls.certificate(f'{ca}-ca', '-days', '2')
            for name in ('host', 'prometheus'):
                cls.certificate(
                    f'{ca}-{name}', '-days', '2',
                    '-CA', cls.folder / f'{ca}-ca.pem',
                    '-CAkey', cls.folder / f'{ca}-ca.key', '-addext',
                    'subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1',
                    '-addext', 'basicConstraints=CA:FALSE')

    @classmethod
    def certificate(cls, name, *words):
        subprocess.run(
            ['openssl', 'req', '-x509', '-nodes', '-newkey', 'ec',
             '-pkeyopt', 'ec_paramgen_curve:P-256', '-subj', f'/CN={name}',
             '-keyout', cls.folder / f'{name}.key',
             '-out', cls.folder / f'{name}.pem', *words],
            check=True, stderr=subprocess.DEVNULL)

    def setUp(self):
        super().setUp()
        self.context = endpoint.tls(*self.pair('own-host'),
                                    self.folder / 'own-ca.pem')
        self.client = self.client_with('own-prometheus')

    def pair(self, name):
        return self.folder / f'{name}.pem', self.folder / f'{name}.key'

    def client_with(self, name=None):
        found = ssl.create_default_context(cafile=self.folder / 'own-ca.pem')
        if name:
            found.load_cert_chain(*self.pair(name))
        return found

    def test_strangers(self):
        self.serve()
        for name in (None, 'foreign-prometheus', 'foreign-ca'):
            with self.subTest(name):
                self.warned.clear()
                self.assertRaises(OSError, self.ask, self.client_with(name))
                self.assertIn('kongming_', self.ask())
                self.assertEqual(1, len(self.warned), self.warned)
                self.assertIn('127.0.0.1: ', self.warned[0])

    def test_a_reason_is_reported_once(self):
        self.serve()
        for _attempt in range(3):
            self.assertRaises(OSError, self.ask, self.client_with())
        self.assertIn('kongming_', self.ask())
        self.assertEqual(1, len(self.warned), self.warned)

    def test_without_tls(self):
        self.serve()
        clear = self.connect()
        clear.send(b'GET / HTTP/1.0\r\n\r\n')
        self.assertTrue(self.is_closed(clear))

    def test_old_tls(self):
        self.serve()
        old = self.client_with('own-prometheus')
        old.set_ciphers('ALL:@SECLEVEL=0')
        old.minimum_version = ssl.TLSVersion.TLSv1
        old.maximum_version = ssl.TLSVersion.TLSv1_1
        self.assertRaises(OSError, self.ask, old)

    def test_whoever_asks(self):
        self.context = endpoint.tls(*self.pair('own-host'))
        self.serve()
        self.assertIn('kongming_', self.ask(self.client_with()))

    def test_files(self):
        cert, key = self.pair('own-host')
        subprocess.run(['openssl', 'ec', '-aes256', '-passout', 'pass:x',
                        '-in', key, '-out', self.folder / 'locked.key'],
                       check=True, stderr=subprocess.DEVNULL)
        for files in ((cert, self.folder / 'own-ca.key'), (key, cert),
                      (cert, self.folder / 'locked.key'),
                      (cert, key, key), (cert, key, '/nope'),
                      ('/nope', key)):
            with self.subTest(files):
                self.assertRaises(OSError, endpoint.tls, *files)
