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

"""Where Prometheus asks: HTTP or HTTPS for those whom a CA has signed.

Prometheus' client library has a server, too, whose TLS belongs to the thread
that accepts connections (``prometheus_client.exposition.start_wsgi_server``
wraps the socket that listens), so that clients wait for one another.  Here
each connection has a thread of its own and a deadline, and there are at most
so many.

There are no passwords.  One of bcrypt's, as other exporters of Prometheus have
them, costs 50 ms of CPU to compare and more, so whoever guesses takes time of
a host whose pCPUs are owned.
"""

import socket
import socketserver
import ssl
import sys
import threading
from wsgiref import simple_server

#: Seconds that a client may take for the handshake, and then for each part of
#: its request; Prometheus gives up after ten.
PATIENCE = 5.0
#: Connections at a time. Prometheus needs one.
MOST = 32


class Endpoint(socketserver.ThreadingMixIn, simple_server.WSGIServer):
    """Serves a WSGI application until it is shut down.

    :param host: a name or an address
    :param port: 0: one that is free
    :param context: of :func:`tls`; None: without TLS
    :param warn: called with why a client was refused
    :raises OSError: if it can't listen there
    """

    daemon_threads = True

    def __init__(self, host, port, app, context=None, warn=None):
        self.address_family, _type, _proto, _name, address = (
            socket.getaddrinfo(host, port, type=socket.SOCK_STREAM,
                               flags=socket.AI_PASSIVE)[0])
        self._context = context
        self._free = threading.BoundedSemaphore(MOST)
        self._warn = warn or (lambda text: print(text, file=sys.stderr))
        self._said = None
        super().__init__((str(address[0]), port), _Handler)
        self.set_app(app)

    def get_request(self):
        connection, client = super().get_request()
        connection.settimeout(PATIENCE)
        if self._context is not None:
            connection = self._context.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False)
        return connection, client

    def process_request(self, request, client_address):
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._free.release()
            raise

    def process_request_thread(self, request, client_address):
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def finish_request(self, request, client_address):
        if self._context is not None:
            request.do_handshake()
        super().finish_request(request, client_address)

    def handle_error(self, request, client_address):
        """Once, until it is another client or reason."""
        exc = sys.exc_info()[1]
        said = client_address[0], str(exc)
        if said != self._said:
            self._said = said
            self._warn(f'{said[0]}: {said[1]}')


class _Handler(simple_server.WSGIRequestHandler):
    """Without a line for each request."""

    def log_message(self, format, *args):
        pass


def tls(cert, key, client_ca=None):
    """TLS of at least version 1.2.

    :param cert: file with the certificate, and with those between it and its
        CA's; PEM like the others
    :param key: file with its key, without a pass phrase
    :param client_ca: file with the CAs that sign certificates of clients: a
        client without one is refused; None: any client is welcome
    :raises OSError: if one can't be read, or is none (ssl.SSLError)
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH,
                                         cafile=client_ca)
    if client_ca:
        context.verify_mode = ssl.CERT_REQUIRED
    # OpenSSL would ask a terminal for a pass phrase.
    context.load_cert_chain(cert, key, password='')
    return context
