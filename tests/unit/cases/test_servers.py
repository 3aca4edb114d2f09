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

"""Servers of a cloud that is larger, or less well, than a test's."""

import io
import types
from urllib import parse

from kongming.compute import servers
from kongming.host import usage
from osc_plugin.server import history
from tests import base

TEMPLATE = {'kongming:node.0': '0'}
HOST = usage.HostState([usage.NodeState(0, {2, 3})])


def server(number, **more):
    """A server as GET /servers/detail shows it to an admin."""
    return {'id': f'id-{number:03}', 'name': f'du-{number:03}',
            'status': 'ACTIVE', 'metadata': {}, 'image': '',
            'flavor': {'original_name': 'du', 'extra_specs': TEMPLATE},
            'OS-EXT-SRV-ATTR:host': 'compute1',
            'OS-EXT-SRV-ATTR:hypervisor_hostname': 'compute1.example.org',
            **more}


#: All that Nova has of a server whose cell is down (compute API guide, "Down
#: cells").
UNKNOWN = {'id': 'id-down', 'status': 'UNKNOWN', 'tenant_id': 'p',
           'created': '2026-01-01T00:00:00Z', 'links': []}


class _Response:
    status_code = 200
    headers: dict[str, str] = {}

    def __init__(self, body):
        self._body = body

    def json(self):
        return self._body


class _Compute:
    """Nova's compute API over one host, with its [api] max_limit.

    :param found: servers in the order of the list
    :param migrations: the same
    """

    HYPERVISOR = {'id': 'compute-id', 'service': {'host': 'compute1'},
                  'hypervisor_hostname': 'compute1.example.org'}
    MAX_LIMIT = 100

    def __init__(self, found=(), migrations=()):
        self.lists = {'servers': list(found),
                      'migrations': list(migrations)}

    def get(self, url, microversion=None):
        path, _mark, text = url.partition('?')
        query = dict(parse.parse_qsl(text))
        if path.endswith('/topology'):
            return _Response({'pagesize_kb': None, 'nodes': [{
                'host_node': 0, 'cpu_pinning': {'0': 2}, 'vcpu_set': [0],
                'memory_mb': 64}]})
        if path.startswith('/os-hypervisors'):
            return _Response({'hypervisor': self.HYPERVISOR,
                              'hypervisors': [self.HYPERVISOR]})
        return _Response(self._page(path, query, {
            '/servers/detail': 'servers', '/os-migrations': 'migrations'}[
                path]))

    def _page(self, path, query, kind):
        """As nova/api/openstack/common.py, get_limit_and_marker, does."""
        found = [entry for entry in self.lists[kind]
                 if entry.get('OS-EXT-SRV-ATTR:host', query.get('host'))
                 == query.get('host', entry.get('OS-EXT-SRV-ATTR:host'))]
        ids = [str(entry['id']) for entry in found]
        first = ids.index(query['marker']) + 1 if 'marker' in query else 0
        page = found[first:first + min(
            int(query.get('limit', self.MAX_LIMIT)), self.MAX_LIMIT)]
        if first + len(page) == len(found):
            return {kind: page}
        return {kind: page, f'{kind}_links': [{'rel': 'next', 'href': (
            f'http://nova{path}?' + parse.urlencode(
                {**query, 'marker': page[-1]['id']}))}]}


def connection(*args):
    return types.SimpleNamespace(compute=_Compute(*args))


class PagesTest(base.TestCase):
    """A page is as long as [api] max_limit allows."""

    def test_all_servers_are_read(self):
        conn = connection([server(number) for number in range(250)])
        self.assertEqual(250, len(servers.with_template(
            conn, all_projects=True)))

    def test_all_migrations_are_read(self):
        conn = connection([], [
            {'id': number, 'instance_uuid': f'id-{number:03}',
             'migration_type': 'resize', 'dest_compute': 'compute2'}
            for number in range(150)])
        self.assertEqual(150, len(servers.occupied(
            conn, 'compute-id', HOST).doubts))


class DownCellTest(base.TestCase):
    """What is unknown is named, and the rest is read."""

    def test_a_server_without_a_name_is_called_by_its_id(self):
        conn = connection()
        conn.compute.get_server = lambda _id: types.SimpleNamespace(
            to_dict=lambda: {**UNKNOWN, 'name': None})
        self.assertEqual('server id-down', servers.name_of(conn, 'id-down'))

    def test_the_other_servers_are_listed(self):
        conn = connection([server(1), UNKNOWN, server(2)])
        self.assertEqual(['du-001', 'du-002'], [
            found['name'] for found in servers.with_template(
                conn, all_projects=True)])

    def test_the_other_servers_own_what_they_own(self):
        """And one line names the server of which nothing is known."""
        found = servers.occupied(connection([server(1), UNKNOWN]),
                                 'compute-id', HOST)
        self.assertEqual({2}, set(found.nodes[0]['id-001'].pcpus))
        line, = found.doubts
        self.assertIn('id-down', line)


class HostNameTest(base.TestCase):
    """The service of a host and its hypervisor have different names."""

    def listed(self, *arguments):
        """(server, host) of each row of 'server list'."""
        app = types.SimpleNamespace(
            stderr=io.StringIO(), client_manager=types.SimpleNamespace(
                kongming=connection([server(1), server(2)])))
        command = history.ListServer(app, None)
        _columns, rows = command.take_action(
            command.get_parser('server list').parse_args(arguments))
        return [(row[0], row[2]) for row in rows]

    def test_by_the_name_of_the_service(self):
        self.assertEqual([('du-001', 'compute1.example.org'),
                          ('du-002', 'compute1.example.org')],
                         self.listed('--host', 'compute1'))

    def test_by_the_name_that_the_list_shows(self):
        everything = self.listed('--all-projects')
        self.assertEqual(everything, self.listed(
            '--host', everything[0][1]))
