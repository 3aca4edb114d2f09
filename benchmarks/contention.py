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


"""Many servers of one exact template, and one host of many.

``python -m benchmarks.contention together [--hosts 60] [--servers 50]``: so
many servers of one exact template are asked for at once, of two nova-scheduler
services of two workers each.  Each host can take one of them.  Told is how
many become ACTIVE, and how often nova-compute gave one back to be scheduled
again, with ``[placement] allocation_conflict_retry_count = 1`` and with
Placement's default.

``python -m benchmarks.contention needle [--hosts 1200] [--boots 20]``: one of
so many hosts fits an exact template, the last to be known to Placement.  Told
is how many boots get there with ``[scheduler] max_placement_results`` raised
to the number of hosts and with Nova's default, and what that costs Placement
for a query.

Nova's API, conductor, schedulers and nova-computes run in one process, on
Nova's simulated libvirt (:mod:`tests.embedded`): each worker is a scheduler's
manager of its own, with a view of the hosts of its own.  Placement is a
process of its own on MariaDB (``mariadbd`` has to be installed).  Of the 1,200
hosts one has a nova-compute; of the others there is what Nova's database and
Placement know of a host.
"""

import argparse
import statistics
import sys
import threading
import time

from tests.embedded import cloud  # noqa: I100  (patches nova first)

from nova import context as nova_context
from nova import objects
from nova.tests import fixtures as nova_fixtures
import testtools

from benchmarks import fleet
from benchmarks import natives
from benchmarks import placement
from kongming.placement import inventory
from tests import placement as placement_server

EXACT = {'hw:cpu_policy': 'dedicated',
         f'trait:{inventory.TRAIT_HOOK}': 'required'}
WORKERS = 4
ROUNDS = 10


class _Cloud(cloud.SimulatedCloud):
    """:cvar args: of the command line"""

    def _setup_scheduler_service(self):
        first = super()._setup_scheduler_service()
        self.schedulers = [first, *(
            self.useFixture(nova_fixtures.ServiceFixture(
                'scheduler', f'scheduler{number}')).service
            for number in range(1, self.workers))]
        return first

    def ask_for(self, flavor, count):
        """Ask for servers at the same time; what became of each."""
        found = []

        def one(asked):
            found.append(self.api.post_server({'server': asked}))

        threads = [threading.Thread(target=one, args=(self._build_server(
            flavor_id=flavor, networks='none'),)) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return [self._ended(server) for server in found]

    def _ended(self, server):
        while True:
            found = self.api.get_server(server['id'])
            if found['status'] != 'BUILD':
                return found
            time.sleep(0.5)


class Together(_Cloud):
    workers = WORKERS

    def together(self):
        self.flags(max_attempts=self.args.attempts, group='scheduler')
        self.flags(instances=-1, cores=-1, ram=-1, group='quota')
        rescheduled = []
        manager = self.conductor.manager.compute_task_mgr
        again = manager.build_instances

        def counted(*args, **kwargs):
            # A new server is scheduled by another method.
            rescheduled.append(1)
            return again(*args, **kwargs)

        manager.build_instances = counted
        for number in range(self.args.hosts):
            self.start_compute(hostname=f'compute{number}',
                               host_info=self.host_info())
        self.publish_and_audit()
        flavor = self._create_flavor(
            vcpu=2, memory_mb=64, disk=1, ephemeral=0, swap=0,
            extra_spec={**EXACT, 'kongming:pin.0': '0:4 1:6'})
        print(f'{self.args.hosts} hosts, {self.args.servers} servers at once, '
              f'{WORKERS} workers, max_attempts {self.args.attempts}',
              file=self.out, flush=True)
        for server, title in self.placements:
            self.placement_fixture.endpoint = server.url
            for number in range(self.args.rounds):
                rescheduled.clear()
                start = time.monotonic()
                servers = self.ask_for(flavor, self.args.servers)
                states = [found['status'] for found in servers]
                reasons = {found['fault']['message'][:100]
                           for found in servers if 'fault' in found}
                print(f'  {title}: {states.count("ACTIVE")} ACTIVE, '
                      f'{states.count("ERROR")} ERROR, '
                      f'{len(rescheduled)} rescheduled, on '
                      f'{len(self._hosts(servers))} hosts, '
                      f'{time.monotonic() - start:.0f} s',
                      *sorted(reasons), file=self.out, flush=True)
                for found in servers:
                    self._delete_server(found)
                self.publish_and_audit()

    @staticmethod
    def _hosts(servers):
        return {found['OS-EXT-SRV-ATTR:host'] for found in servers
                if found['OS-EXT-SRV-ATTR:host']}


class Needle(_Cloud):
    workers = 1
    SHAPE = {'cpu_nodes': 2, 'cpu_sockets': 1, 'cpu_cores': 32,
             'cpu_threads': 2, 'kB_mem': 64 * 1024 ** 2}
    SHARED, DEDICATED = '0-1,64-65', '2-63,66-127'

    def needle(self):
        peers = placement.Cloud(self.placements[0][0])
        self.placement.put(f'/traits/{inventory.TRAIT_HOOK}', None,
                           version='1.6')
        # Of the others' nodes nothing will be claimed.
        hosts = {name: (peers.add(name, fleet.OWNER, inventory.TRAIT_HOOK),
                        frozenset([9]))
                 for name in (f'peer{number}' for number
                              in range(self.args.hosts - 1))}
        fleet.add(self.cell_mappings['cell1'], hosts)
        # Last, so that Placement leaves it out first; mostly.
        self.start_host('good')
        context = nova_context.get_admin_context()
        self.scheduler.manager.host_manager.refresh_cells_caches()
        for name in hosts:
            for _twice in range(2):
                self.scheduler.manager.update_instance_info(
                    context, name, objects.InstanceList(objects=[]))
        flavor = self._create_flavor(
            vcpu=2, memory_mb=64, disk=1, ephemeral=0, swap=0,
            extra_spec={**EXACT, 'kongming:pin.0': '0:8 1:9'})
        print(f'{self.args.hosts} hosts, of which one fits, '
              f'{self.args.boots} boots', file=self.out, flush=True)
        self._cost(peers)
        for limit in (self.args.hosts, placement.LIMIT):
            self.flags(max_placement_results=limit, group='scheduler')
            states = []
            for _ in range(self.args.boots):
                server, = self.ask_for(flavor, 1)
                states.append(server['status'])
                self._delete_server(server)
            print(f'  max_placement_results {limit}: '
                  f'{states.count("ACTIVE")} ACTIVE', file=self.out,
                  flush=True)

    def _cost(self, peers):
        """What a longer answer costs Placement, for any server."""
        raised = placement.SHARED.replace(str(placement.LIMIT),
                                          str(self.args.hosts))
        process = self.placements[0][0].process
        ratios = []
        for number in range(ROUNDS):
            queries = [placement.SHARED, raised]
            spent = {}
            for query in queries if number % 2 else queries[::-1]:
                before = natives.cpu_seconds(process.pid)
                peers.ask(query)
                spent[query] = natives.cpu_seconds(process.pid) - before
            ratios.append(spent[raised] / spent[placement.SHARED])
        low, high = natives.interval(ratios)
        print(f'  a query of Placement with {self.args.hosts}, CPU to that '
              f'with {placement.LIMIT}: {statistics.median(ratios):.2f} '
              f'[{low:.2f}, {high:.2f}]', file=self.out, flush=True)


def main():
    parser = argparse.ArgumentParser(
        prog='python -m benchmarks.contention', description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('what', choices=('together', 'needle'))
    parser.add_argument('--hosts', type=int,
                        help='default: 60 for together, 1200 for needle')
    parser.add_argument('--servers', type=int, default=50)
    parser.add_argument('--attempts', type=int, default=3,
                        help="[scheduler] max_attempts (Nova's default: 3)")
    parser.add_argument('--rounds', type=int, default=1)
    parser.add_argument('--boots', type=int, default=20)
    args = parser.parse_args()
    args.hosts = args.hosts or (60 if args.what == 'together' else 1200)
    database = placement.MariaDB()
    placements = [
        (placement_server.Server(database.url, retries), title)
        for retries, title in ((1, 'allocation_conflict_retry_count = 1'),
                               (None, "Placement's default"))]
    kind = Together if args.what == 'together' else Needle

    class Case(kind):
        pass

    Case.args, Case.placements, Case.out = args, placements, sys.stdout
    Case.PLACEMENT_URL = placements[0][0].url
    outcome = testtools.TestResult()
    try:
        Case(args.what).run(outcome)
    finally:
        for server, _title in placements:
            server.stop()
        database.stop()
    for _test, trace in outcome.errors + outcome.failures:
        sys.exit(trace)


if __name__ == '__main__':
    main()
