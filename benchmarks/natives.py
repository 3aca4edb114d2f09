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

"""What servers without a template pay where hosts are published.

``python -m benchmarks.natives [--hosts 250] [--loaded]``.  One cloud twice, on
two databases of one MariaDB (``mariadbd`` has to be installed) with a
Placement over HTTP each: in one of them KongMing has published all hosts.
Both are asked the query that Nova's scheduler sends for a flavor without a
template, in pairs, each first in turn.  Printed are medians of the ratios of
the pairs, published to unpublished, with the 95 % interval of their bootstrap.

Hosts are bare, or with ``--loaded`` have 90 traits and ten servers each.
"""

import argparse
import random
import statistics
import sys
import time
import uuid

from benchmarks import placement
from tests import placement as placement_server

#: What the goals are, for time and bytes, by --loaded.
GOALS = {False: (1.10, 1.05), True: (1.05, 1.01)}
CPU_GOAL = 1.15
TRAITS, SERVERS = 90, 10
_RESAMPLES = 4000


def cpu_seconds(pid):
    """CPU time of a process, threads that have ended included.

    clock_getcpuclockid(3), which Python has not: CPUCLOCK_SCHED is 2
    (include/linux/posix-timers.h).
    """
    return time.clock_gettime(~pid << 3 | 2)


def load(cloud):
    """Traits and servers on each host, as a cloud in use has them."""
    known = [name for name in cloud.placement.get('/traits')['traits']
             if name.startswith(('HW_CPU_', 'COMPUTE_'))]
    for root in cloud.roots.values():
        generation, _records = cloud.placement.inventories(root)
        cloud.placement.put_traits(root, generation, known[:TRAITS])
        cloud.placement.reallocate({str(uuid.uuid4()): {
            'allocations': {root: {'resources': {
                'VCPU': 1, 'MEMORY_MB': 2048, 'DISK_GB': 10}}},
            'project_id': 'p', 'user_id': 'u', 'consumer_generation': None}
            for _ in range(SERVERS)})


def ask(cloud, database):
    """(seconds, bytes, CPU of Placement, CPU of Placement and MariaDB)"""
    pids = cloud.server.process.pid, database.process.pid
    before = [cpu_seconds(pid) for pid in pids]
    seconds, size, _found = cloud.ask(placement.SHARED)
    own, its = (cpu_seconds(pid) - then for pid, then in zip(pids, before))
    return seconds, size, own, own + its


def interval(ratios):
    """The 95 % interval of their median, by bootstrap."""
    rng = random.Random(19)
    medians = sorted(
        statistics.median(rng.choices(ratios, k=len(ratios)))
        for _ in range(_RESAMPLES))
    return (medians[int(0.025 * _RESAMPLES)], medians[int(0.975 * _RESAMPLES)])


def measure(clouds, database, pairs):
    """What both are asked for, pair by pair.

    :param clouds: unpublished, published
    :returns: for each pair what :func:`ask` says of both
    """
    found = []
    for number in range(-2, pairs):
        order = (0, 1) if number % 2 else (1, 0)
        pair = {which: ask(clouds[which], database) for which in order}
        # The first ones fill caches.
        if number >= 0:
            found.append((pair[0], pair[1]))
    return found


def report(found, loaded):
    time_goal, bytes_goal = GOALS[loaded]
    for column, what, unit, goal in (
            (0, 'time', 's', time_goal), (1, 'bytes', '', bytes_goal),
            (2, 'CPU of Placement', 's', CPU_GOAL),
            (3, 'with its database', 's', CPU_GOAL)):
        ratios = [published[column] / unpublished[column]
                  for unpublished, published in found]
        low, high = interval(ratios)
        without, with_ = (statistics.median(pair[which][column]
                                            for pair in found)
                          for which in (0, 1))
        form = '12.3f' if unit else '12,.0f'
        print(f'  {what:18}{without:{form}} {unit:1}{with_:{form}} {unit:1}'
              f'{statistics.median(ratios):10.3f}   [{low:.3f}, {high:.3f}]'
              f'{goal:9.2f}', flush=True)


def main():
    parser = argparse.ArgumentParser(
        prog='python -m benchmarks.natives', description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--hosts', type=int, default=250)
    parser.add_argument('--loaded', action='store_true',
                        help=f'{TRAITS} traits and {SERVERS} servers a host')
    parser.add_argument('--pairs', type=int, default=60)
    args = parser.parse_args()
    database = placement.MariaDB()
    servers = [placement_server.Server(database.url)]
    try:
        built = placement.Cloud(servers[0])
        for number in range(args.hosts):
            built.add(f'compute{number}')
        if args.loaded:
            load(built)
        clouds = []
        for name in ('unpublished', 'published'):
            servers.append(placement_server.Server(database.copy(name)))
            clouds.append(placement.Cloud(servers[-1]))
            clouds[-1].roots = built.roots
        clouds[1].requests.clear()
        seconds = clouds[1].publish(built.roots)
        print(f'{args.hosts} hosts of 2 nodes x {placement.PCPUS} pCPUs, '
              f'{"loaded" if args.loaded else "bare"}, {args.pairs} pairs; '
              f'published in {seconds:.0f} s: '
              f'{placement.requests(clouds[1])}')
        print(f'  {"":18}{"unpublished":>14}{"published":>14}{"ratio":>10}'
              f'   {"95 % interval":14}{"goal":>9}')
        report(measure(clouds, database, args.pairs), args.loaded)
    finally:
        for server in servers:
            server.stop()
        database.stop()


if __name__ == '__main__':
    sys.exit(main())
