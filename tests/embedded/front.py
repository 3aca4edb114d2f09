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

"""The embedded cloud over HTTP on loopback, for the real ``openstack``.

nova-api and Placement are served as they are.  What stands in for Keystone
knows three users and gives tokens and a catalog; what stands in for Glance
lists the images, for Neutron the networks.  A second region has the same Nova
as if it were an older one, and no Placement.  ``/hypervisor`` tells what no
OpenStack API tells: the domain XML of a server, and
``/hypervisor/capabilities`` of its host.
"""

import json
import re
import socketserver
import threading
import urllib.parse
import uuid
from wsgiref import simple_server
from wsgiref import util

PROJECT = {'id': '6f70656e737461636b20342065766572', 'name': 'demo',
           'domain': {'id': 'default', 'name': 'Default'}}
#: user, and password -> roles.
USERS = {'admin': ['admin', 'manager', 'member', 'reader'],
         'member': ['member', 'reader'],
         'reader': ['reader']}
#: region -> service -> path of its endpoint.
REGIONS = {
    'RegionOne': {'identity': '/identity', 'compute': '/compute/v2.1',
                  'placement': '/placement', 'image': '/image',
                  'network': '/network'},
    'RegionOld': {'identity': '/identity', 'compute': '/old/v2.1',
                  'image': '/image'}}
#: The newest compute API microversion of the older Nova.
OLD = '2.90'


class Front:
    """WSGI application in front of all services.

    :param cloud: tests.embedded.cloud.SimulatedCloud or LibvirtCloud
    """

    def __init__(self, cloud):
        self.cloud = cloud
        self.url = None
        self._tokens = {}
        self._routes = {
            'identity': self._identity, 'image': self._image,
            'compute': self._compute, 'placement': self._placement,
            'old': self._old, 'network': self._network,
            'hypervisor': self._hypervisor}

    def __call__(self, environ, start_response):
        service = util.shift_path_info(environ)
        handler = self._routes.get(service)
        if handler is None:
            return reply(start_response, '404 Not Found', {})
        return handler(environ, start_response)

    def _user(self, environ):
        return self._tokens.get(environ.get('HTTP_X_AUTH_TOKEN'))

    def _identity(self, environ, start_response):
        path = environ['PATH_INFO'].rstrip('/')
        if path in ('', '/v3'):
            version = {'id': 'v3.14', 'status': 'stable', 'links': [
                {'rel': 'self', 'href': f'{self.url}/identity/v3/'}]}
            return reply(start_response, '200 OK', {
                'version': version} if path else {
                    'versions': {'values': [version]}})
        if path == '/v3/auth/tokens' and environ['REQUEST_METHOD'] == 'POST':
            user = _body(environ)['auth']['identity']['password']['user']
            name = user.get('name')
            if name not in USERS or user.get('password') != name:
                return reply(start_response, '401 Unauthorized', {
                    'error': {'code': 401, 'title': 'Unauthorized',
                              'message': 'Wrong name or password.'}})
            token = uuid.uuid4().hex
            self._tokens[token] = name
            return reply(start_response, '201 Created',
                         {'token': self._token(name)},
                         [('X-Subject-Token', token)])
        return reply(start_response, '404 Not Found', {})

    def _token(self, name):
        return {
            'methods': ['password'], 'project': PROJECT,
            'user': {'id': name, 'name': name,
                     'domain': PROJECT['domain']},
            'roles': [{'id': role, 'name': role} for role in USERS[name]],
            'issued_at': '2020-01-01T00:00:00.000000Z',
            'expires_at': '2099-01-01T00:00:00.000000Z',
            'catalog': [
                {'id': kind, 'type': kind, 'name': kind, 'endpoints': [
                    {'id': f'{region}-{kind}', 'interface': face,
                     'region': region, 'region_id': region,
                     'url': self.url + paths[kind]}
                    for region, paths in REGIONS.items() if kind in paths
                    for face in ('public', 'internal', 'admin')]}
                for kind in REGIONS['RegionOne']]}

    def _as_user(self, environ, start_response, application):
        name = self._user(environ)
        anonymous = environ['PATH_INFO'].strip('/') in ('', 'v2.1')
        if name is None and not anonymous:
            return reply(start_response, '401 Unauthorized', {
                'error': {'code': 401, 'message': 'Not authenticated.'}})
        roles = ','.join(USERS.get(name, []))
        environ.update({
            'HTTP_X_AUTH_TOKEN': f'{name}:{PROJECT["id"]}',
            'HTTP_X_AUTH_USER': name or '', 'HTTP_X_ROLES': roles,
            'HTTP_X_AUTH_PROJECT_ID': PROJECT['id']})
        return application(environ, start_response)

    def _compute(self, environ, start_response):
        return self._as_user(environ, start_response,
                             self.cloud.api_fixture.app())

    def _old(self, environ, start_response):
        """The same, but for what an older Nova would not know."""
        asked = environ.get('HTTP_OPENSTACK_API_VERSION', '').rpartition(
            ' ')[2]
        if environ['PATH_INFO'].strip('/') in ('', 'v2.1'):
            version = {'id': 'v2.1', 'status': 'CURRENT', 'version': OLD,
                       'min_version': '2.1', 'links': [
                           {'rel': 'self', 'href': f'{self.url}/old/v2.1/'}]}
            return reply(start_response, '200 OK', {
                'version': version} if environ['PATH_INFO'].strip('/') else {
                    'versions': [version]})
        if asked and [*map(int, asked.split('.'))] > [
                *map(int, OLD.split('.'))]:
            return reply(start_response, '406 Not Acceptable', {
                'computeFault': {'code': 406, 'message': (
                    f'Version {asked} is not supported by the API. Minimum '
                    f'is 2.1 and maximum is {OLD}.')}})
        return self._compute(environ, start_response)

    def _network(self, environ, start_response):
        path = environ['PATH_INFO'].rstrip('/')
        if path in ('', '/v2.0'):
            return reply(start_response, '200 OK', {'versions': [{
                'id': 'v2.0', 'status': 'CURRENT', 'links': [
                    {'rel': 'self', 'href': f'{self.url}/network/v2.0/'}]}]})
        networks = self.cloud.neutron.list_networks()['networks']
        if path == '/v2.0/networks':
            asked = dict(urllib.parse.parse_qsl(environ['QUERY_STRING']))
            return reply(start_response, '200 OK', {'networks': [
                network for network in networks
                if network['name'] == asked.get('name', network['name'])]})
        for network in networks:
            if path == f'/v2.0/networks/{network["id"]}':
                return reply(start_response, '200 OK', {'network': network})
        return reply(start_response, '404 Not Found', {})

    def _placement(self, environ, start_response):
        return self._as_user(environ, start_response,
                             self.cloud.placement_app)

    def _image(self, environ, start_response):
        path = environ['PATH_INFO'].rstrip('/')
        if path in ('', '/v2'):
            return reply(start_response, '200 OK', {'versions': [{
                'id': 'v2.9', 'status': 'CURRENT', 'links': [
                    {'rel': 'self', 'href': f'{self.url}/image/v2/'}]}]})
        images = [_as_glance(image)
                  for image in self.cloud.glance.detail(None)]
        if path == '/v2/images':
            wanted = re.search('name=([^&]*)', environ['QUERY_STRING'])
            return reply(start_response, '200 OK', {'images': [
                image for image in images
                if not wanted or image['name'] == wanted[1]]})
        for image in images:
            if path == f'/v2/images/{image["id"]}':
                return reply(start_response, '200 OK', image)
        return reply(start_response, '404 Not Found', {})

    def _hypervisor(self, environ, start_response):
        server_id = environ['PATH_INFO'].strip('/')
        if not server_id:
            return reply(start_response, '200 OK',
                         {'hypervisor': self.cloud.HYPERVISOR})
        xml = (self.cloud.capabilities() if server_id == 'capabilities'
               else self.cloud.domain_xml(server_id)).encode()
        start_response('200 OK', [('Content-Type', 'application/xml'),
                                  ('Content-Length', str(len(xml)))])
        return [xml]


def _as_glance(image):
    return {key: image[key] for key in (
        'id', 'name', 'status', 'disk_format', 'container_format', 'size',
        'min_ram', 'min_disk', 'visibility', 'protected', 'tags')}


def _body(environ):
    size = int(environ.get('CONTENT_LENGTH') or 0)
    return json.loads(environ['wsgi.input'].read(size))


def reply(start_response, status, content, headers=()):
    body = json.dumps(content).encode()
    start_response(status, [('Content-Type', 'application/json'),
                            ('Content-Length', str(len(body))), *headers])
    return [body]


class _Server(socketserver.ThreadingMixIn, simple_server.WSGIServer):
    daemon_threads = True
    request_queue_size = 128


class _Silent(simple_server.WSGIRequestHandler):
    def log_message(self, *args):
        """Nova and Placement log their requests themselves."""


def serve(cloud, port=0):
    """Serve a cloud on 127.0.0.1 in a thread of its own.

    :returns: the server (``shutdown()`` ends it) and the front's URL
    """
    return listen(Front(cloud), port)


def listen(front, port=0):
    """The same for an application that is there."""
    server = simple_server.make_server('127.0.0.1', port, front, _Server,
                                       _Silent)
    front.url = f'http://127.0.0.1:{server.server_port}'
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, front.url
