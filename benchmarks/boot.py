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


"""What a boot costs, with KongMing and without.

``python -m benchmarks.boot [--pairs 60] [--vcpus 1]``.  Two embedded clouds,
each in a process of its own, one native and one with hook, filter, weigher and
publisher, boot servers in turn, each pair another one first.  Each cloud has a
Placement in a process of its own, on one MariaDB (``mariadbd`` has to be
installed).  The host has 2 nodes x 62 dedicated pCPUs; with ``--hypervisor
libvirt`` it is this machine with real domains.

Printed are medians of the ratios of pairs, with the 95 % interval of their
bootstrap: of native servers, hooked to native cloud; and within the hooked
cloud, template to native dedicated, from POST to ACTIVE.  The CPU time of
Placement is that from POST until what the publisher has to write is written.
The share is the time spent in KongMing's own code (hook, filter, weigher, all
without the Nova code that they call) of the time from POST to ACTIVE.
"""

import argparse
import collections
import contextlib
import json
import statistics
import subprocess
import sys
import threading
import time

from benchmarks import natives
from benchmarks import placement

PINNED = {'hw:cpu_policy': 'dedicated'}
FLOATING, DEDICATED, TEMPLATE = ('native, no topology', 'native, dedicated',
                                 'template')
KINDS = {FLOATING: {}, DEDICATED: PINNED,
         TEMPLATE: {**PINNED, 'trait:CUSTOM_KONGMING_HOOK': 'required',
                    'kongming:node.0': '0'}}
NATIVE, HOOKED = 'native', 'hooked'
#: What is asked for, in turn, and of which cloud.
ROUND = [(NATIVE, FLOATING), (HOOKED, FLOATING), (NATIVE, DEDICATED),
         (HOOKED, DEDICATED), (HOOKED, TEMPLATE)]
#: Title, what is measured, of whom, to whom, goal.
RATIOS = [
    ('time', 'seconds', (HOOKED, FLOATING), (NATIVE, FLOATING), None),
    ('time', 'seconds', (HOOKED, DEDICATED), (NATIVE, DEDICATED), None),
    ('CPU of Placement', 'placement', (HOOKED, FLOATING), (NATIVE, FLOATING),
     None),
    ('CPU of Placement', 'placement', (HOOKED, DEDICATED),
     (NATIVE, DEDICATED), 1.10),
    ('CPU of Placement', 'placement', (HOOKED, TEMPLATE), (HOOKED, DEDICATED),
     None),
    ('time', 'seconds', (HOOKED, TEMPLATE), (HOOKED, DEDICATED), 1.10),
    ('CPU of all of Nova', 'nova', (HOOKED, TEMPLATE), (HOOKED, DEDICATED),
     1.10),
]


class Share:
    """Seconds in wrapped functions, less those in what they call of Nova's."""

    def __init__(self):
        self.total = 0.0
        self._own = threading.local()

    def count(self, owner, name, sign=1):
        real = getattr(owner, name)

        def timed(*args, **kwargs):
            depth = getattr(self._own, 'depth', 0)
            if (sign > 0) == (depth > 0):
                # Nested in itself, or Nova's by itself.
                return real(*args, **kwargs)
            self._own.depth = depth + sign
            start = time.perf_counter()
            try:
                return real(*args, **kwargs)
            finally:
                self.total += sign * (time.perf_counter() - start)
                self._own.depth = depth

        setattr(owner, name, timed)


def child(args):
    """Boot what is asked for on stdin; prints what it took as JSON."""
    from tests.embedded import cloud
    from tests import placement as placement_server

    import testtools

    share = Share()
    server = placement_server.Server(args.database)
    requests = collections.Counter()

    class Boots(cloud.CLOUDS[args.hypervisor]):
        HOOKED = args.child == HOOKED
        PLACEMENT_URL = server.url
        SHAPE = {'cpu_nodes': 2, 'cpu_sockets': 1, 'cpu_cores': 32,
                 'cpu_threads': 2, 'kB_mem': 64 * 1024 ** 2}
        SHARED, DEDICATED = '0-1,64-65', '2-63,66-127'

        def boots(self):
            self.start_host()
            self.instrument()
            flavors = {
                kind: self._create_flavor(
                    vcpu=args.vcpus, memory_mb=64, disk=1, ephemeral=0,
                    swap=0, extra_spec=specs)
                for kind, specs in KINDS.items()
                if self.HOOKED or kind != TEMPLATE}
            print('ready', file=answers, flush=True)
            for line in sys.stdin:
                print(json.dumps(self.boot(flavors[line.strip()])),
                      file=answers, flush=True)

        def boot(self, flavor):
            self.settle()
            share.total = 0.0
            requests.clear()
            placements = natives.cpu_seconds(server.process.pid)
            own = time.process_time()
            start = time.perf_counter()
            booted = self.api.post_server({'server': self._build_server(
                flavor_id=flavor, networks='none')})
            while self.api.get_server(booted['id'])['status'] == 'BUILD':
                time.sleep(0.02)
            seconds = time.perf_counter() - start
            spent = share.total
            # nova-compute reports of the host after a server is ACTIVE.
            self.settle()
            placements = natives.cpu_seconds(server.process.pid) - placements
            own = time.process_time() - own
            self.assertEqual('ACTIVE', self.api.get_server(booted['id'])[
                'status'])
            found = dict(requests)
            self._delete_server(booted)
            return {'seconds': seconds, 'share': spent / seconds,
                    'placement': placements, 'nova': own, 'requests': found}

        def settle(self):
            """Until Nova's services are idle and nothing is to be written."""
            self.service_threads.wait(10)
            for compute in self.computes.values():
                if self.HOOKED:
                    compute.driver.publisher.run()

        def instrument(self):
            for method in ('get', 'put', 'post', 'delete'):
                count_requests(self.placement_fixture._client, method)
            if not self.HOOKED:
                return
            from nova.virt.libvirt import driver as nova_driver
            from nova_ext import driver
            from nova_ext import filters
            from nova_ext import weights
            for name in ('spawn', 'update_provider_tree'):
                share.count(driver.LibvirtDriver, name)
                share.count(nova_driver.LibvirtDriver, name, -1)
            share.count(filters.KongmingFilter, 'filter_all')
            share.count(weights.KongmingWeigher, 'weigh_objects')

    def count_requests(client, method):
        real = getattr(client, method)

        def counted(*args, **kwargs):
            requests[method.upper()] += 1
            return real(*args, **kwargs)

        setattr(client, method, counted)

    outcome = testtools.TestResult()
    answers = sys.stdout
    try:
        with contextlib.redirect_stdout(sys.stderr):
            Boots('boots').run(outcome)
    finally:
        server.stop()
    for _test, trace in outcome.errors + outcome.failures:
        sys.exit(trace)


class Cloud:
    """One in a process of its own."""

    def __init__(self, kind, args, database):
        self._log = open(f'{database.folder.name}/{kind}.log', 'w+')
        self._process = subprocess.Popen(
            [sys.executable, '-W', 'ignore', '-m', 'benchmarks.boot',
             '--hypervisor', args.hypervisor, '--vcpus', str(args.vcpus),
             '--database', database.create(kind), '--child', kind],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=self._log, text=True)
        self._answer()

    def boot(self, kind):
        print(kind, file=self._process.stdin, flush=True)
        return json.loads(self._answer())

    def _answer(self):
        line = self._process.stdout.readline()
        if not line:
            self._log.seek(0)
            sys.exit(self._log.read()[-5000:])
        return line

    def stop(self):
        self._process.stdin.close()
        self._process.wait(120)
        self._log.close()


def measure(clouds, pairs):
    """(cloud, kind) -> what :meth:`Cloud.boot` says, one a round."""
    found = {each: [] for each in ROUND}
    for number in range(-1, pairs):
        for each in ROUND if number % 2 else ROUND[::-1]:
            done = clouds[each[0]].boot(each[1])
            # The first ones warm up.
            if number >= 0:
                found[each].append(done)
    return found


def report(found):
    print(f'{"":10}{"server":22}{"boot":>8}  share of KongMing  '
          f'CPU of Placement  requests')
    for (where, kind), boots in found.items():
        seconds, share, cpu = (
            statistics.median(boot[what] for boot in boots)
            for what in ('seconds', 'share', 'placement'))
        requests = ', '.join(
            f'{number:g} {method}' for method, number in sorted(
                (method, statistics.median(
                    boot['requests'].get(method, 0) for boot in boots))
                for method in ('GET', 'POST', 'PUT', 'DELETE')) if number)
        print(f'{where:10}{kind:22}{seconds:6.2f} s {share:16.1%} '
              f'{cpu * 1e3:14.1f} ms   {requests}')
    print(f'\n{"":20}{"ratio of":32}{"to":32}{"ratio":>6}   '
          f'{"95 % interval":14}  goal')
    for what, column, of, to, goal in RATIOS:
        ratios = [mine[column] / peer[column]
                  for mine, peer in zip(found[of], found[to])]
        low, high = natives.interval(ratios)
        print(f'{what:20}{", ".join(of):32}{", ".join(to):32}'
              f'{statistics.median(ratios):6.3f}   [{low:.3f}, {high:.3f}]'
              f'{goal and format(goal, "8.2f") or ""}')


def main():
    parser = argparse.ArgumentParser(
        prog='python -m benchmarks.boot', description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--hypervisor', choices=('simulated', 'libvirt'),
                        default='simulated')
    parser.add_argument('--pairs', type=int, default=60)
    parser.add_argument('--vcpus', type=int, default=1,
                        help='of each server (default: 1)')
    parser.add_argument('--child', choices=(NATIVE, HOOKED),
                        help=argparse.SUPPRESS)
    parser.add_argument('--database', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(args)
        return
    database = placement.MariaDB()
    clouds = {}
    try:
        for kind in (NATIVE, HOOKED):
            clouds[kind] = Cloud(kind, args, database)
        print(f'{args.hypervisor}, servers of {args.vcpus} vCPU(s), medians '
              f'of {args.pairs} boots', flush=True)
        report(measure(clouds, args.pairs))
    finally:
        for each in clouds.values():
            each.stop()
        database.stop()


if __name__ == '__main__':
    main()
