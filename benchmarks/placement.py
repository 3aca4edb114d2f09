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
rounds of them alternate, times are medians.  Plain ``VCPU`` is measured before
anything of KongMing is published, too: what that costs servers without a
template.
"""

import argparse
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
from kongming.publish import client as placement_mod
from kongming.publish import publisher
from tests import placement as placement_server

PCPUS = 64
#: Nova's [scheduler] max_placement_results.
LIMIT = 1000
VERSION = 'placement 1.36'
KM = 'CUSTOM_KONGMING_'
QUERIES = {
    'plain VCPU=8': f'limit={LIMIT}&resources=VCPU:8,MEMORY_MB:1024,DISK_GB:1',
    '  100 at most': 'limit=100&resources=VCPU:8,MEMORY_MB:1024,DISK_GB:1',
    'by count': f'limit={LIMIT}&resources=DISK_GB:1&group_policy=none'
                f'&resources_KM0={KM}PCPU:8,{KM}MEMORY_MB:1024'
                f'&required_KM0={KM}HOOK',
    '8 exact pCPUs': f'limit={LIMIT}&resources=DISK_GB:1&group_policy=none'
                     f'&resources_KM0={KM}PCPU:8,{KM}MEMORY_MB:1024,'
                     + ','.join(f'{KM}PCPU_{p}:1' for p in range(8, 16))
                     + f'&required_KM0={KM}HOOK',
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
        for _ in range(300):
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

    def stop(self):
        self.process.terminate()
        self.process.wait(60)
        self.folder.cleanup()


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

    def __init__(self, server):
        self.server = server
        self.adapter = server.adapter()
        self.placement = placement_mod.Placement(self.adapter)
        self.roots = {}

    def add(self, number):
        """A compute node as Nova reports it."""
        name, uuid_ = f'compute{number}', str(uuid.uuid4())
        self.placement._call('POST', '/resource_providers',
                             json={'name': name, 'uuid': uuid_})
        self.placement.put_inventories(uuid_, 0, {
            'VCPU': {'total': 4, 'allocation_ratio': 4.0},
            'PCPU': {'total': 2 * PCPUS - 4},
            'MEMORY_MB': {'total': 524288}, 'DISK_GB': {'total': 1000}})
        self.roots[name] = uuid_

    def publish(self, names):
        """Seconds, and how many requests wrote something."""
        state, hook = host(), [inventory.TRAIT_HOOK]
        build = inventory.build
        writes = 0

        def work(name):
            nonlocal writes
            done = publisher.publish(self.placement, name, self.roots[name],
                                     state, publisher.Occupied)
            writes += len(done.written)

        # As from a nova-compute that has the hook.
        inventory.build = lambda *args: build(*args[:5], hook)
        start = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            list(pool.map(work, names))
        inventory.build = build
        return time.monotonic() - start, writes

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
        print(f'{hosts:6}  {kind:12} {name:14} {seconds:9.3f} s '
              f'{size / 1e6:8.2f} MB {candidates:6}{ratio}', flush=True)


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
        print(' hosts  published    query               time        size  '
              'found  to count')
        for size in args.hosts:
            # New hosts are measured without KongMing first.
            fresh = [f'compute{n}' for n in range(len(cloud.roots), size)]
            for name in fresh:
                cloud.add(name.removeprefix('compute'))
            if fresh and len(fresh) == size:
                report(size, 'no', measure(
                    cloud, [name for name in QUERIES if KM not in
                            QUERIES[name]], args.rounds))
            first, writes = cloud.publish(fresh)
            again, rewrites = cloud.publish(cloud.roots)
            found = measure(cloud, QUERIES, args.rounds)
            report(size, 'yes', found, found['by count'][0])
            print(f'        publish {len(fresh)} hosts: {first:.1f} s, '
                  f'{writes} writes; all {size} again: {again:.1f} s, '
                  f'{rewrites} writes', flush=True)
    finally:
        server.stop()
        if database:
            database.stop()


if __name__ == '__main__':
    main()
