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

"""What the command line asks of a cloud of many hosts, and how long it takes.

``python -m benchmarks.hosts [--hosts 1000] [--loaded]``.  A real Placement
over HTTP on a MariaDB of its own (``mariadbd`` has to be installed), with all
hosts published, and the real ``openstack`` in processes of its own.  What
stands in for Keystone and Nova gives tokens, a flavor of two cells and the
services of the hosts; it also counts the requests.  Commands alternate.  Times
are medians, and ratios those of the pairs, of as many as there are when it is
interrupted.  They include the start of ``openstack``, once by the clock and
once by the CPU time of the command, Placement and its database, which other
work on the machine disturbs less.

With ``--loaded`` each node has a server that owns four pCPUs, so that what was
read of it holds only as long as nothing was freed.
"""

import argparse
import collections
import concurrent.futures
import contextlib
import http.client
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import uuid
from wsgiref import util

from benchmarks import natives
from benchmarks import placement
from kongming.placement import naming
from tests.embedded import front
from tests import placement as placement_server

FLAVOR = {
    'id': 'two-cells', 'name': 'two-cells', 'vcpus': 8, 'ram': 4096,
    'disk': 0, 'OS-FLV-EXT-DATA:ephemeral': 0, 'swap': 0, 'links': [],
    'os-flavor-access:is_public': True, 'rxtx_factor': 1.0,
    'OS-FLV-DISABLED:disabled': False, 'description': None,
    'extra_specs': {'hw:cpu_policy': 'dedicated', 'hw:numa_nodes': '2',
                    'kongming:node.0': '0', 'kongming:node.1': '1',
                    'trait:CUSTOM_KONGMING_HOOK': 'required'}}
COMMANDS = {
    'host list': ('kongming', 'host', 'list'),
    'template check': ('kongming', 'template', 'check', 'two-cells'),
    'resource provider list': ('resource', 'provider', 'list'),
}


class Front(front.Front):
    """Keystone, Nova and a way to Placement.

    :ivar asked: requests by service and path, without what names one thing
    """

    def __init__(self, placement_url, hosts):
        super().__init__(None)
        self._there = urllib.parse.urlsplit(placement_url).netloc
        self._hosts = hosts
        self.asked = collections.Counter()

    def _placement(self, environ, start_response):
        path = environ['PATH_INFO']
        query = environ['QUERY_STRING']
        self.asked['Placement'] += path.strip('/') != ''
        there = http.client.HTTPConnection(self._there)
        there.request(environ['REQUEST_METHOD'], path + (
            f'?{query}' if query else ''), headers={
                'X-Auth-Token': 'admin',
                'OpenStack-API-Version': environ.get(
                    'HTTP_OPENSTACK_API_VERSION', 'placement 1.0')})
        answer = there.getresponse()
        body = answer.read()
        start_response(f'{answer.status} {answer.reason}', [
            ('Content-Length', str(len(body))),
            *((name, answer.headers[name]) for name in (
                'Content-Type', 'Last-Modified') if answer.headers[name])])
        return [body]

    def _compute(self, environ, start_response):
        util.shift_path_info(environ)
        path = environ['PATH_INFO'].rstrip('/')
        found = {
            '': {'version': {
                'id': 'v2.1', 'status': 'CURRENT', 'version': '2.100',
                'min_version': '2.1', 'links': [
                    {'rel': 'self', 'href': f'{self.url}/compute/v2.1/'}]}},
            '/flavors/two-cells': {'flavor': FLAVOR},
            '/os-services': {'services': [{
                'id': str(number), 'binary': 'nova-compute', 'host': host,
                'zone': 'nova', 'status': 'enabled', 'state': 'up',
                'forced_down': False, 'disabled_reason': None}
                for number, host in enumerate(self._hosts)]}}.get(path)
        self.asked['Nova'] += path != ''
        return front.reply(
            start_response, '404 Not Found' if found is None else '200 OK',
            found or {'itemNotFound': {'message': path}})


class Shell:
    """``openstack`` as a user of that cloud runs it.

    :param folder: where the user's cache is
    """

    def __init__(self, stands_in, folder):
        self._front = stands_in
        self._environment = {
            'PATH': os.environ['PATH'], 'HOME': str(folder),
            'PYTHONPATH': os.pathsep.join(filter(None, sys.path)),
            'PYTHONWARNINGS': 'ignore', 'LANG': 'C.UTF-8',
            'OS_AUTH_URL': f'{stands_in.url}/identity/v3',
            'OS_USERNAME': 'admin', 'OS_PASSWORD': 'admin',
            'OS_PROJECT_NAME': 'demo', 'OS_USER_DOMAIN_ID': 'default',
            'OS_PROJECT_DOMAIN_ID': 'default', 'OS_REGION_NAME': 'RegionOne',
            'OS_IDENTITY_API_VERSION': '3'}

    def run(self, words):
        """:returns: requests by service"""
        self._front.asked.clear()
        subprocess.run(
            [sys.executable, '-m', 'openstackclient.shell', *words],
            env=self._environment, check=True, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL)
        return dict(self._front.asked)


def load(cloud):
    """A server on each node, which owns four pCPUs."""
    for name, root in cloud.roots.items():
        for number in range(2):
            node = naming.provider_uuid(root, number)
            cloud.placement.reallocate({str(uuid.uuid4()): {
                'allocations': {node: {'resources': {
                    'CUSTOM_KONGMING_PCPU': 4,
                    'CUSTOM_KONGMING_MEMORY_MB': 4096,
                    **{f'CUSTOM_KONGMING_PCPU_{number * placement.PCPUS + p}':
                       1 for p in range(8, 12)}}}},
                'project_id': 'p', 'user_id': 'u',
                'consumer_generation': None}})


def each(url, uuids):
    """One request a provider, eight at a time."""
    there = urllib.parse.urlsplit(url).netloc
    local = threading.local()

    def ask(uuid_):
        connection = http.client.HTTPConnection(there)
        connection.request(
            'GET', f'/resource_providers/{uuid_}/inventories',
            headers={'X-Auth-Token': 'admin',
                     'OpenStack-API-Version': 'placement 1.28'})
        local.answer = connection.getresponse().read()

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, uuids))


class Clock:
    """:param pids: of Placement and its database"""

    def __init__(self, pids):
        self._pids = pids

    def _now(self):
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return time.monotonic(), (
            children.ru_utime + children.ru_stime
            + sum(map(natives.cpu_seconds, self._pids)))

    def time(self, work, *args):
        """(seconds by the clock, by the CPU), and what the work returns"""
        before = self._now()
        found = work(*args)
        return tuple(now - then for now, then
                     in zip(self._now(), before)), found


def measure(url, roots, rounds, pairs, pids):
    """Print what a cloud of these hosts costs.

    :param url: of Placement
    :param roots: host -> its compute node's uuid
    :param rounds: of what is asked without a cache
    :param pairs: of what is asked with one
    :param pids: of Placement and its database
    """
    clock = Clock(pids)
    providers = [*roots.values(), *(
        naming.provider_uuid(root, number) for root in roots.values()
        for number in range(2))]
    stands_in = Front(url, list(roots))
    front.listen(stands_in)
    times = collections.defaultdict(list)
    requests = {}

    def command(shell, title, name):
        taken, requests[title] = clock.time(shell.run, COMMANDS[name])
        times[title].append(taken)

    with tempfile.TemporaryDirectory(
            prefix='kongming-home-') as home, contextlib.suppress(
                KeyboardInterrupt):
        for number in range(rounds):
            shell = Shell(stands_in, pathlib.Path(home) / str(number))
            taken, _nothing = clock.time(each, url, providers)
            times['one request a provider'].append(taken)
            command(shell, 'host list, first', 'host list')
        shell = Shell(stands_in, pathlib.Path(home) / 'again')
        shell.run(COMMANDS['host list'])
        for number in range(pairs):
            names = [*COMMANDS]
            # Each is the first one in turn.
            for name in names[number % 3:] + names[:number % 3]:
                command(shell, name if name == 'resource provider list'
                        else f'{name}, again', name)
    print(f'  {"":36}{"clock":>10}{"CPU":>10}')
    for title, found in list(times.items()):
        seconds, cpu = map(statistics.median, zip(*found))
        asked = ', '.join(f'{number} of {service}' for service, number
                          in sorted(requests.get(title, {}).items()))
        print(f'  {title:36}{seconds:8.2f} s{cpu:8.2f} s   {asked}')
    for title, one, other, goal in (
            ('first, to one request a provider', 'host list, first',
             'one request a provider', 0.25),
            ('again, to resource provider list', 'host list, again',
             'resource provider list', 1.5),
            ('template check to host list, again', 'template check, again',
             'host list, again', 2)):
        if not times[one] or not times[other]:
            continue
        by_clock, by_cpu = (statistics.median(
            mine[which] / its[which] for mine, its in zip(
                times[one], times[other])) for which in range(2))
        print(f'  {title:36}{by_clock:10.2f}{by_cpu:10.2f}   goal {goal}',
              flush=True)


def main():
    parser = argparse.ArgumentParser(
        prog='python -m benchmarks.hosts', description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--hosts', type=int, default=1000)
    parser.add_argument('--rounds', type=int, default=5,
                        help='of what is asked without a cache (default: 5)')
    parser.add_argument('--pairs', type=int, default=20,
                        help='of what is asked with one (default: 20)')
    parser.add_argument('--loaded', action='store_true')
    args = parser.parse_args()
    with contextlib.ExitStack() as stack:
        database = placement.MariaDB()
        stack.callback(database.stop)
        server = placement_server.Server(database.url)
        stack.callback(server.stop)
        cloud = placement.Cloud(server)
        cloud.add('compute0')
        cloud.publish(cloud.roots)
        if args.loaded:
            load(cloud)
        cloud.multiply(database, 'compute0', [
            f'compute{number}' for number in range(1, args.hosts)])
        print(f'{args.hosts} hosts of 2 nodes x {placement.PCPUS} pCPUs'
              f'{", loaded" if args.loaded else ""}, {args.rounds} rounds, '
              f'{args.pairs} pairs', flush=True)
        # What was written a moment ago is not cached.
        time.sleep(3)
        measure(server.url, cloud.roots, args.rounds, args.pairs,
                (server.process.pid, database.process.pid))


if __name__ == '__main__':
    main()
