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
"""What publishing costs, a host and a cloud.

``python -m benchmarks.publish [--hosts 1000]``.  A real Placement over HTTP on
a MariaDB of its own (``mariadbd`` has to be installed).  Printed are the
requests of one host in a cloud whose names exist, then what the query of the
scheduler for a server without a template takes while so many publishers start
within a minute, each of which reads its host and writes one pCPU: p95 of those
asked one after the other, to that of as many on an idle Placement.
"""

import argparse
import concurrent.futures
import statistics
import threading
import time

from benchmarks import natives
from benchmarks import placement
from kongming.placement import inventory
from kongming.publish import publisher
from tests import placement as placement_server


class Host:
    """One of a cloud, with its publisher."""

    def __init__(self, cloud, name):
        self._root = cloud.roots[name]
        self._name = name
        self._state = placement.host()
        self.publisher = publisher.Publisher(cloud.placement, name,
                                             self._root)

    def publish(self, *taken):
        """:param taken: pCPUs of node 0"""
        self.publisher.publish(lambda: inventory.build(
            self._name, self._root, self._state, inventory.Ratios(cpu=16.0),
            {0: {inventory.PCPU: len(taken), **{
                inventory.pcpu_class(pcpu): 1 for pcpu in taken}}}))


def one_host(cloud):
    """Print what one host asks for, and what that costs Placement."""
    for name in ('first', 'second'):
        cloud.add(name)
    Host(cloud, 'first').publish()
    cloud.requests.clear()
    host = Host(cloud, 'second')
    for what, rounds, work in (
            ('the first time, of 2 nodes', 1, lambda _n: host.publish()),
            ('unchanged', 1, lambda _n: host.publish()),
            ('unchanged, a look', 20, lambda _n: host.publisher.look()),
            # Another one each time.
            ('one pCPU', 20, lambda n: host.publish(8 + n)),
            ('eight pCPUs', 20, lambda n: host.publish(
                *range(8 + n, 16 + n)))):
        spent = []
        for number in range(rounds):
            cloud.requests.clear()
            before = natives.cpu_seconds(cloud.server.process.pid)
            work(number)
            spent.append(natives.cpu_seconds(cloud.server.process.pid)
                         - before)
        print(f'  {what:28}{statistics.median(spent) * 1e3:8.1f} ms CPU  '
              f'{placement.requests(cloud) or "nothing"}', flush=True)


def queries(cloud, until):
    """Seconds of each query, one after the other until that says so."""
    found = []
    while not until():
        found.append(cloud.ask(placement.SHARED)[0])
    return found


def p95(found):
    return statistics.quantiles(found, n=20)[-1]


def storm(cloud, names, seconds):
    """Print what publishers that start together do to queries."""
    end = time.monotonic() + seconds
    idle = queries(cloud, lambda: time.monotonic() > end)
    done = threading.Event()
    found = []
    asking = threading.Thread(
        target=lambda: found.extend(queries(cloud, done.is_set)))
    start = time.monotonic()
    before = natives.cpu_seconds(cloud.server.process.pid)
    asking.start()
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        starts = [pool.submit(_start, cloud, name, start + seconds * number
                              / len(names))
                  for number, name in enumerate(names)]
        for each in starts:
            each.result()
    took = time.monotonic() - start
    done.set()
    asking.join()
    busy = natives.cpu_seconds(cloud.server.process.pid) - before
    print(f'  {len(names)} publishers in {took:.0f} s, Placement used '
          f'{busy:.0f} s of CPU for all; p95 of {len(idle)} and {len(found)} '
          f'queries: idle {p95(idle):.3f} s, meanwhile {p95(found):.3f} s, '
          f'ratio {p95(found) / p95(idle):.2f} (goal 1.20)', flush=True)


def _start(cloud, name, when):
    time.sleep(max(0.0, when - time.monotonic()))
    Host(cloud, name).publish(8)


def main():
    parser = argparse.ArgumentParser(
        prog='python -m benchmarks.publish', description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--hosts', type=int, default=1000)
    parser.add_argument('--within', type=float, default=60,
                        metavar='SECONDS', help='default: 60')
    args = parser.parse_args()
    database = placement.MariaDB()
    server = placement_server.Server(database.url)
    try:
        cloud = placement.Cloud(server)
        print('requests of one host')
        one_host(cloud)
        names = [f'compute{number}' for number in range(args.hosts)]
        for name in names:
            cloud.add(name)
        seconds = cloud.publish(names)
        print(f'{args.hosts} hosts published in {seconds:.0f} s', flush=True)
        storm(cloud, names, args.within)
    finally:
        server.stop()
        database.stop()


if __name__ == '__main__':
    main()
