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

"""What Placement makes of many published hosts.

``python -m benchmarks.placement [--hosts 1000]``.  A real Placement over HTTP
on a MariaDB of its own (``mariadbd`` has to be installed; ``--sqlite`` goes
without). The queries are those that Nova's scheduler sends for the flavor,
rounds of them alternate, times are medians.  Those of servers without a
template are measured before anything of KongMing is published, too; what
publishing costs them is told more exactly by ``benchmarks.natives``.
"""

import argparse
import collections
import concurrent.futures
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid

from kongming.host import usage
from kongming.placement import inventory
from kongming.placement import naming
from kongming.publish import client as placement_mod
from kongming.publish import publisher
from tests import placement as placement_server

PCPUS = 64
#: Nova's [scheduler] max_placement_results.
LIMIT = 1000
VERSION = 'placement 1.36'
SHARED = f'limit={LIMIT}&resources=VCPU:8,MEMORY_MB:1024,DISK_GB:1'
DEDICATED = f'limit={LIMIT}&resources=PCPU:8,MEMORY_MB:1024,DISK_GB:1'
QUERIES = {
    'native': SHARED,
    '  100 at most': SHARED.replace(str(LIMIT), '100'),
    'native, dedicated': DEDICATED,
    # However many pCPUs it names, in however many cells.
    'template': f'{DEDICATED}&required={inventory.TRAIT_HOOK}',
}


class MariaDB:
    """A server of its own on a socket, gone with the process."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory(prefix='kongming-mariadb-')
        # It may run as another user, who has to get in here.
        folder = pathlib.Path(self.folder.name)
        socket = folder / 'socket'
        me = f'--user={folder.owner()}'
        subprocess.run(
            ['mariadb-install-db', '--no-defaults', f'--datadir={folder}/data',
             '--auth-root-authentication-method=normal', me], check=True,
            stdout=subprocess.DEVNULL)
        self.process = subprocess.Popen(
            ['mariadbd', '--no-defaults', f'--datadir={folder}/data',
             f'--socket={socket}', '--skip-networking', me],
            stderr=subprocess.DEVNULL)
        for _ in range(3000):
            made = socket.exists() and subprocess.run(
                ['mariadb', '--no-defaults', f'--socket={socket}', '-uroot',
                 '-e', 'CREATE DATABASE placement CHARACTER SET utf8'],
                stderr=subprocess.DEVNULL).returncode == 0
            if made:
                break
            time.sleep(0.1)
        else:
            sys.exit('mariadbd did not come up')
        self.url = ('mysql+pymysql://root@localhost/placement?unix_socket='
                    f'{socket}')

    def create(self, name):
        """Another database, empty; returns its URL."""
        subprocess.run(
            ['mariadb', '--no-defaults', f'--socket={self.folder.name}/socket',
             '-uroot', '-e', f'CREATE DATABASE {name} CHARACTER SET utf8'],
            check=True)
        return self.url.replace('/placement?', f'/{name}?')

    def copy(self, name):
        """Another database with what this one has; returns its URL."""
        url = self.create(name)
        socket = f'--socket={self.folder.name}/socket'
        with subprocess.Popen(
                ['mariadb-dump', '--no-defaults', socket, '-uroot',
                 'placement'], stdout=subprocess.PIPE) as dump:
            subprocess.run(['mariadb', '--no-defaults', socket, '-uroot',
                            name], check=True, stdin=dump.stdout)
        return url

    def run(self, statements):
        """:param statements: SQL, in the database ``placement``"""
        subprocess.run(
            ['mariadb', '--no-defaults', f'--socket={self.folder.name}/socket',
             '-uroot', 'placement'], input=statements, text=True, check=True,
            stdout=subprocess.DEVNULL)

    def stop(self):
        self.process.terminate()
        self.process.wait(60)
        self.folder.cleanup()


#: Rows of providers, written as copies of those of a pattern.
_COPY = """
INSERT INTO resource_providers (created_at, uuid, name, generation)
    SELECT NOW(), made.uuid, made.name, p.generation
    FROM made JOIN resource_providers p ON p.uuid = made.pattern;
UPDATE resource_providers SET root_provider_id = id
    WHERE root_provider_id IS NULL;
INSERT INTO inventories (created_at, resource_provider_id, resource_class_id,
        total, reserved, min_unit, max_unit, step_size, allocation_ratio)
    SELECT NOW(), n.id, i.resource_class_id, i.total, i.reserved, i.min_unit,
        i.max_unit, i.step_size, i.allocation_ratio
    FROM made JOIN resource_providers n ON n.uuid = made.uuid
    JOIN resource_providers p ON p.uuid = made.pattern
    JOIN inventories i ON i.resource_provider_id = p.id;
INSERT INTO resource_provider_traits (created_at, resource_provider_id,
        trait_id)
    SELECT NOW(), n.id, t.trait_id
    FROM made JOIN resource_providers n ON n.uuid = made.uuid
    JOIN resource_providers p ON p.uuid = made.pattern
    JOIN resource_provider_traits t ON t.resource_provider_id = p.id;
INSERT IGNORE INTO placement_aggregates (created_at, uuid)
    SELECT DISTINCT NOW(), aggregate FROM made WHERE aggregate != '';
INSERT INTO resource_provider_aggregates (created_at, resource_provider_id,
        aggregate_id)
    SELECT NOW(), n.id, a.id
    FROM made JOIN resource_providers n ON n.uuid = made.uuid
    JOIN placement_aggregates a ON a.uuid = made.aggregate;
INSERT INTO consumers (created_at, uuid, project_id, user_id, generation)
    SELECT DISTINCT NOW(), made.consumer, c.project_id, c.user_id,
        c.generation
    FROM made JOIN resource_providers p ON p.uuid = made.pattern
    JOIN allocations a ON a.resource_provider_id = p.id
    JOIN consumers c ON c.uuid = a.consumer_id;
INSERT INTO allocations (created_at, resource_provider_id, consumer_id,
        resource_class_id, used)
    SELECT NOW(), n.id, made.consumer, a.resource_class_id, a.used
    FROM made JOIN resource_providers n ON n.uuid = made.uuid
    JOIN resource_providers p ON p.uuid = made.pattern
    JOIN allocations a ON a.resource_provider_id = p.id;
"""


def host():
    """2 nodes x 64 pCPUs, the first core of each shared."""
    nodes = []
    for number in range(2):
        ids = range(number * PCPUS, (number + 1) * PCPUS)
        cores = [(p, p + PCPUS // 2) for p in ids[:PCPUS // 2]]
        nodes.append(usage.NodeState(
            number, frozenset(ids) - set(cores[0]),
            shared=frozenset(cores[0]), siblings=cores, memory_mib=262144,
            pages=[usage.Pages(4, 66060288, 66060288),
                   usage.Pages(2048, 2048, 2048)]))
    return usage.HostState(nodes)


class Cloud:
    """The hosts of one Placement.

    :ivar requests: by method, since they were counted last
    """

    def __init__(self, server):
        self.server = server
        self.adapter = server.adapter()
        self.requests = collections.Counter()
        request = self.adapter.request

        def counted(path, method, **kwargs):
            self.requests[method] += 1
            return request(path, method, **kwargs)

        self.adapter.request = counted
        self.placement = placement_mod.Placement(self.adapter)
        self.roots = {}

    def add(self, name, *traits):
        """A compute node as Nova reports it; returns its uuid."""
        uuid_ = str(uuid.uuid4())
        self.placement._call('POST', '/resource_providers',
                             json={'name': name, 'uuid': uuid_})
        self.placement.put_inventories(uuid_, 0, {
            'VCPU': {'total': 4, 'allocation_ratio': 16.0},
            'PCPU': {'total': 2 * PCPUS - 4},
            'MEMORY_MB': {'total': 524288}, 'DISK_GB': {'total': 1000}})
        if traits:
            self.placement.put_traits(uuid_, 1, traits)
        self.roots[name] = uuid_
        return uuid_

    def publish(self, names):
        """As a nova-compute does; returns seconds."""
        state = host()

        def work(name):
            root = self.roots[name]
            publisher.Publisher(self.placement, name, root).publish(
                lambda: inventory.build(name, root, state,
                                        inventory.Ratios(cpu=16.0)))
            traits = self.placement.traits(root)
            if inventory.TRAIT_HOOK not in traits:
                generation, _records = self.placement.inventories(root)
                self.placement.put_traits(
                    root, generation, traits | {inventory.TRAIT_HOOK})

        start = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            list(pool.map(work, names))
        return time.monotonic() - start

    def multiply(self, database, pattern, names):
        """Hosts as one that is there, with a server on a node where it has.

        Written into the database at once: a thousand that publish themselves
        keep Placement busy for about half an hour.

        :param database: MariaDB
        :param pattern: name of a published host
        """
        rows = []
        for name in names:
            root, old = str(uuid.uuid4()), self.roots[pattern]
            aggregate = naming.aggregate_uuid(root)
            rows.append((old, root, name, ''))
            rows += [(naming.provider_uuid(old, number),
                      naming.provider_uuid(root, number),
                      naming.provider_name(name, number), aggregate)
                     for number in range(2)]
            self.roots[name] = root
        database.run('\n'.join([
            'CREATE TEMPORARY TABLE made (pattern VARCHAR(36), uuid '
            'VARCHAR(36) PRIMARY KEY, name VARCHAR(200), aggregate '
            'VARCHAR(36), consumer VARCHAR(36)) CHARACTER SET utf8;',
            *(f"INSERT INTO made VALUES {values};" for values in (
                ', '.join(str((*row, str(uuid.uuid4())))
                          for row in rows[first:first + 500])
                for first in range(0, len(rows), 500))), _COPY,
            'ANALYZE TABLE resource_providers, inventories, allocations, '
            'resource_provider_traits, resource_provider_aggregates;']))

    def ask(self, query):
        """(seconds, bytes, candidates)"""
        start = time.monotonic()
        response = self.adapter.get(
            f'/allocation_candidates?{query}',
            headers={'OpenStack-API-Version': VERSION})
        taken = time.monotonic() - start
        return (taken, len(response.content),
                len(response.json()['allocation_requests']))


def measure(cloud, queries, rounds):
    results = {name: [] for name in queries}
    for _ in range(rounds):
        for name in queries:
            results[name].append(cloud.ask(QUERIES[name]))
    return {name: (statistics.median(t for t, _s, _n in found), *found[0][1:])
            for name, found in results.items()}


def report(hosts, kind, found, peer=None):
    for name, (seconds, size, candidates) in found.items():
        ratio = f'{seconds / peer:8.2f}' if peer else ''
        print(f'{hosts:6}  {kind:12} {name:18} {seconds:8.3f} s '
              f'{size / 1e6:8.2f} MB {candidates:6}{ratio}', flush=True)


def requests(cloud):
    """Those since the last time, in words."""
    found = ', '.join(f'{number} {method}' for method, number
                      in sorted(cloud.requests.items()))
    cloud.requests.clear()
    return found


def main():
    parser = argparse.ArgumentParser(
        prog='python -m benchmarks.placement', description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--hosts', type=int, nargs='+',
                        default=[250, 1000])
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--sqlite', action='store_true')
    args = parser.parse_args()
    if not args.sqlite and not shutil.which('mariadbd'):
        sys.exit('mariadbd is not installed (apt install mariadb-server); '
                 '--sqlite goes without')
    database = None if args.sqlite else MariaDB()
    server = placement_server.Server(database and database.url)
    try:
        cloud = Cloud(server)
        print(' hosts  published    query                  time        size '
              ' found  to native, dedicated')
        for size in args.hosts:
            # New hosts are measured without KongMing first.
            fresh = [f'compute{n}' for n in range(len(cloud.roots), size)]
            for name in fresh:
                cloud.add(name)
            if fresh and len(fresh) == size:
                report(size, 'no', measure(
                    cloud, [name for name in QUERIES if name != 'template'],
                    args.rounds))
            cloud.requests.clear()
            first = cloud.publish(fresh)
            written = requests(cloud)
            again = cloud.publish(cloud.roots)
            looked = requests(cloud)
            found = measure(cloud, QUERIES, args.rounds)
            report(size, 'yes', found, found['native, dedicated'][0])
            print(f'        publish {len(fresh)} hosts: {first:.1f} s, '
                  f'{written}; all {size} again: {again:.1f} s, {looked}',
                  flush=True)
    finally:
        server.stop()
        if database:
            database.stop()


if __name__ == '__main__':
    main()
