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

"""What the page of a whole cloud costs: making it, its size, opening it.

``python -m benchmarks.page [--hosts 1000] [--servers 5]``.  The cloud is that
of ``benchmarks.hosts``, and each host has servers of four pCPUs each; what
stands in for Nova lists them page by page, and tells of each where its cells
are.  ``host list`` and ``host map --all --format html`` alternate, both with
what an earlier one has kept; the ratio is the median of those of the pairs.
Nova's own time for a list of servers is not in
it; in a real cloud it comes on top.

The page is then opened in a headless Chromium (Debian: ``chromium``), with
live changes of all servers: the CPU time of all of the browser's processes
from an empty page until the page is drawn and can be used.  ``--only-page``
goes without Placement.
"""

import argparse
import json
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse
import uuid

import sqlalchemy

from benchmarks import hosts as hosts_benchmark
from benchmarks import placement
from kongming.placement import naming
from kongming.render import page
from tests.browser import chromium
from tests import clouds
from tests.embedded import front
from tests import placement as placement_server

COMMANDS = {
    'host list': ('kongming', 'host', 'list'),
    'host map --all': ('kongming', 'host', 'map', '--all', '-f', 'html'),
}
GOALS = {'size': 10 << 20, 'open': 2.0, 'ratio': 3.0}
#: As many as Nova shows at once ([api] max_limit).
_PAGE = 1000


class Front(hosts_benchmark.Front):
    """With servers.

    :param servers: as Nova's API lists them
    :param cells: server -> as Nova's API shows its topology
    """

    def __init__(self, url, hosts, servers, cells):
        super().__init__(url, hosts)
        self._servers = servers
        self._cells = cells

    def _compute(self, environ, start_response):
        path = environ['PATH_INFO']
        if match := re.search('/servers/([^/]+)/topology$', path):
            self.asked['Nova'] += 1
            return front.reply(start_response, '200 OK', self._cells[match[1]])
        if path.endswith('/servers/detail'):
            self.asked['Nova'] += 1
            query = dict(urllib.parse.parse_qsl(environ['QUERY_STRING']))
            first = int(query.get('marker', 0))
            found = {'servers': self._servers[first:first + _PAGE]}
            if first + _PAGE < len(self._servers):
                found['servers_links'] = [{
                    'rel': 'next', 'href': f'{self.url}/compute/v2.1/servers/'
                    f'detail?all_tenants=1&marker={first + _PAGE}'}]
            return front.reply(start_response, '200 OK', found)
        return super()._compute(environ, start_response)


def load(roots, number, url, own):
    """Servers on each host, in Placement and as Nova has them.

    :param roots: host -> its compute node's uuid
    :param url: of Placement's database, into which they go: thousands of
        requests would take most of an hour
    :param own: kongming.placement.placement.Placement, for the first
    """
    servers, cells, rows = [], {}, []
    for name, root in roots.items():
        for mine in range(number):
            node = mine % 2
            first = node * placement.PCPUS + 2 + mine // 2 * 4
            id_ = str(uuid.uuid4())
            rows.append((id_, naming.provider_uuid(root, node), {
                'CUSTOM_KONGMING_PCPU': 4,
                'CUSTOM_KONGMING_MEMORY_MB': 4096,
                **{f'CUSTOM_KONGMING_PCPU_{first + p}': 1
                   for p in range(4)}}))
            servers.append(_server(id_, f'du-{len(servers)}', name, node,
                                   first))
            cells[id_] = {'pagesize_kb': None, 'nodes': [{
                'host_node': node, 'memory_mb': 4096,
                'vcpu_set': list(range(4)), 'siblings': [],
                'cpu_pinning': {str(p): first + p for p in range(4)}}]}
    _allocate(rows, url, own)
    return servers, cells


def _allocate(rows, url, own):
    """:param rows: server, provider, amounts by class"""
    server, provider, amounts = rows[0]
    # With the project and the user that the others have, too.
    own.reallocate({server: {
        'allocations': {provider: {'resources': amounts}},
        'project_id': 'p', 'user_id': 'u', 'consumer_generation': None}})
    engine = sqlalchemy.create_engine(url)
    with engine.begin() as conn:
        def known(columns, table):
            return dict(map(tuple, conn.execute(sqlalchemy.text(
                f'SELECT {columns} FROM {table}'))))

        providers = known('uuid, id', 'resource_providers')
        resource_classes = known('name, id', 'resource_classes')
        conn.execute(sqlalchemy.text(
            'INSERT INTO consumers (uuid, project_id, user_id, generation) '
            'SELECT :server, project_id, user_id, 1 FROM consumers '
            'WHERE uuid = :first'),
            [{'server': each, 'first': server} for each, *_ in rows[1:]])
        conn.execute(sqlalchemy.text(
            'INSERT INTO allocations (resource_provider_id, consumer_id, '
            'resource_class_id, used) VALUES (:provider, :server, :class_, '
            ':used)'), [
                {'provider': providers[its], 'server': each,
                 'class_': resource_classes[name], 'used': used}
                for each, its, amounts in rows[1:]
                for name, used in amounts.items()])
    engine.dispose()


def _server(id_, name, host, node, first):
    """As large as Nova's, at the microversion that is asked for."""
    return {
        'id': id_, 'name': name, 'status': 'ACTIVE', 'tenant_id': 'f' * 32,
        'user_id': 'e' * 32, 'metadata': {}, 'hostId': 'a' * 56,
        'updated': '2026-11-27T20:00:00Z', 'created': '2026-11-27T20:00:00Z',
        'image': {'id': str(uuid.uuid4()), 'properties': {
            'hw_disk_bus': 'virtio', 'hw_vif_model': 'virtio'}, 'links': [
                {'rel': 'bookmark', 'href': 'http://192.0.2.1/images/x'}]},
        'flavor': {'vcpus': 4, 'ram': 4096, 'disk': 20, 'ephemeral': 0,
                   'swap': 0, 'original_name': f'nfv.{node}.{first}',
                   'extra_specs': {
                       'hw:cpu_policy': 'dedicated',
                       'kongming:node.0': str(node),
                       'kongming:pin.0': f'0-3:{first}-{first + 3}'}},
        'addresses': {'net': [{'version': 4, 'addr': '192.0.2.17',
                               'OS-EXT-IPS:type': 'fixed',
                               'OS-EXT-IPS-MAC:mac_addr': 'fa:16:3e:0:0:1'}]},
        'links': [{'rel': rel, 'href': f'http://192.0.2.1/v2.1/servers/{id_}'}
                  for rel in ('self', 'bookmark')],
        'accessIPv4': '', 'accessIPv6': '', 'OS-DCF:diskConfig': 'AUTO',
        'progress': 0, 'OS-EXT-AZ:availability_zone': 'nova',
        'pinned_availability_zone': None, 'config_drive': '',
        'key_name': None, 'OS-SRV-USG:launched_at': '2026-11-27T20:00:00',
        'OS-SRV-USG:terminated_at': None, 'security_groups': [
            {'name': 'default'}], 'OS-EXT-SRV-ATTR:host': host,
        'OS-EXT-SRV-ATTR:instance_name': 'instance-00000001',
        'OS-EXT-SRV-ATTR:hypervisor_hostname': host,
        'OS-EXT-SRV-ATTR:reservation_id': 'r-12345678',
        'OS-EXT-SRV-ATTR:launch_index': 0, 'OS-EXT-SRV-ATTR:hostname': name,
        'OS-EXT-SRV-ATTR:kernel_id': '', 'OS-EXT-SRV-ATTR:ramdisk_id': '',
        'OS-EXT-SRV-ATTR:root_device_name': '/dev/vda',
        'OS-EXT-SRV-ATTR:user_data': None, 'OS-EXT-STS:task_state': None,
        'OS-EXT-STS:vm_state': 'active', 'OS-EXT-STS:power_state': 1,
        'os-extended-volumes:volumes_attached': [], 'host_status': 'UP',
        'locked': False, 'locked_reason': None, 'description': None,
        'tags': [], 'trusted_image_certificates': None,
        'server_groups': [], 'scheduler_hints': {}}


def make(args):
    """Have a cloud, and print what the page of it costs."""
    database = placement.MariaDB()
    server = placement_server.Server(database.url)
    try:
        cloud = placement.Cloud(server)
        for number in range(args.hosts):
            cloud.add(f'compute{number}')
        cloud.publish(cloud.roots)
        measure(server.url, cloud.roots, load(
            cloud.roots, args.servers, database.url, cloud.placement),
            args.rounds, (server.process.pid, database.process.pid))
    finally:
        server.stop()
        database.stop()


def measure(url, roots, servers, rounds, pids):
    """Print what making the page costs, to ``host list`` again.

    :param url: of Placement
    :param servers: of :func:`load`
    :param pids: of Placement and its database
    """
    stands_in = Front(url, list(roots), *servers)
    front.listen(stands_in)
    clock = hosts_benchmark.Clock(pids)
    with tempfile.TemporaryDirectory(prefix='kongming-home-') as home:
        shell = hosts_benchmark.Shell(stands_in, pathlib.Path(home))
        for title, words in COMMANDS.items():
            taken, asked = clock.time(shell.run, words)
            _print(f'{title}, first', taken, asked)
        times = {title: [] for title in COMMANDS}
        for _round in range(rounds):
            for title, words in COMMANDS.items():
                taken, asked = clock.time(shell.run, words)
                times[title].append((taken, asked))
        for title, found in times.items():
            _print(f'{title}, again', tuple(map(statistics.median, zip(
                *(taken for taken, _asked in found)))), found[-1][1])
        ratios = [statistics.median(
            its[0][which] / mine[0][which] for its, mine in zip(
                times['host map --all'], times['host list']))
            for which in (0, 1)]
        print(f'  {"to host list, again, by pairs":36}{ratios[0]:8.2f}  '
              f'{ratios[1]:8.2f}     goal {GOALS["ratio"]:g}', flush=True)


def _print(title, taken, asked):
    asked = ', '.join(f'{number} of {service}'
                      for service, number in sorted(asked.items()))
    print(f'  {title:36}{taken[0]:8.2f} s{taken[1]:8.2f} s   {asked}',
          flush=True)


def open_(args):
    """Print the size of a page, and what it costs to open it."""
    cloud = clouds.cloud(hosts=args.hosts, servers=args.hosts * args.servers,
                         cores=32, changes=4 * args.hosts * args.servers)
    begun = time.process_time()
    text = page.page(cloud)
    print(f'  written in {time.process_time() - begun:.2f} s of CPU')
    print(f'  size {len(text) / (1 << 20):.2f} MiB   '
          f'goal {GOALS["size"] >> 20} MiB')
    with tempfile.TemporaryDirectory(prefix='kongming-page-') as folder:
        path = pathlib.Path(folder) / 'cloud.html'
        path.write_text(text)
        found = []
        for _round in range(args.rounds):
            browser = chromium.Chromium()
            try:
                browser.settle()
                before = browser.cpu_seconds()
                begun = time.monotonic()
                browser.open(f'file://{path}')
                browser.settle()
                seconds = time.monotonic() - begun
                found.append((browser.cpu_seconds() - before, seconds,
                              browser.metrics()['TaskDuration']))
            finally:
                browser.close()
    version = subprocess.run([chromium.find(), '--version'], text=True,
                             stdout=subprocess.PIPE,
                             stderr=subprocess.DEVNULL).stdout.strip()
    cpu, seconds, task = map(statistics.median, zip(*found))
    print(f'  until it can be used: {cpu:.2f} s of CPU (all processes), '
          f'{task:.2f} s of its own thread, {seconds:.2f} s by the clock   '
          f'goal {GOALS["open"]:g} s   {version}')
    print(json.dumps({'size': len(text), 'cpu_seconds': cpu,
                      'seconds': seconds}))


def main():
    parser = argparse.ArgumentParser(
        prog='python -m benchmarks.page', description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--hosts', type=int, default=1000)
    parser.add_argument('--servers', type=int, default=5,
                        help='on each host (default: 5)')
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--only-page', action='store_true')
    args = parser.parse_args()
    print(f'{args.hosts} hosts, {args.hosts * args.servers} servers, '
          f'{args.rounds} rounds', flush=True)
    if chromium.find() is None:
        sys.exit('there is no Chromium (Debian: chromium)')
    open_(args)
    if not args.only_page:
        make(args)


if __name__ == '__main__':
    main()
