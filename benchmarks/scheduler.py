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


"""What it costs nova-scheduler to find a host for a template.

``python -m benchmarks.scheduler [--hosts 1000] [--pairs 60]``.  Nova's own
SchedulerManager is asked for ``select_destinations``, over so many hosts that
all can take the server, each a quarter full: Placement over HTTP and Nova's
databases are on one MariaDB (``mariadbd`` has to be installed).  A server with
a template and a native dedicated one of the same size and NUMA topology are
asked for in pairs, each first in turn; what was claimed is freed between.
Printed are the medians of both, and of the ratios of the pairs with the 95 %
interval of their bootstrap, by the clock and by the CPU time of scheduler,
Placement and database together.

``--profile`` prints where the scheduler's own process spends its time.
"""

import argparse
import cProfile
import os
import pathlib
import pstats
import random
import statistics
import sys
import time
import uuid

os.environ['OS_NOVA_DISABLE_EVENTLET_PATCHING'] = 'true'

from nova import config  # noqa: E402
from nova import context as nova_context  # noqa: E402
from nova.db import migration  # noqa: E402
from nova import objects  # noqa: E402
from nova.scheduler import manager  # noqa: E402
from nova.virt import hardware  # noqa: E402

from benchmarks import fleet  # noqa: E402
from benchmarks import natives  # noqa: E402
from benchmarks import placement  # noqa: E402
from kongming.placement import inventory  # noqa: E402
from tests import placement as placement_server  # noqa: E402

GOAL = 1.3
VCPUS = 8
ONE, TWO = ({'hw:cpu_policy': 'dedicated', 'hw:numa_nodes': str(cells)}
            for cells in (1, 2))
HOOK = {f'trait:{inventory.TRAIT_HOOK}': 'required'}
#: Title, flavor of the native server, flavor of that with a template.
CASES = [
    ('count, on a node', ONE, {**ONE, **HOOK, 'kongming:node.0': '0'}),
    ('8 exact pCPUs', ONE, {**ONE, **HOOK,
                            'kongming:pin.0': '0-3:24-27 4-7:56-59'}),
    ('two cells', TWO, {**TWO, **HOOK, 'kongming:node.0': '1',
                        'kongming:node.1': '0'}),
]
#: As doc/source/install.rst has it.
_NOVA_CONF = """
[DEFAULT]
transport_url = fake:///
# Nobody reports that these hosts are up.
service_down_time = 604800
[api_database]
connection = {api}
[database]
connection = {cell1}
[placement]
auth_type = admin_token
token = admin
endpoint = {placement}
endpoint_override = {placement}
[filter_scheduler]
available_filters = nova.scheduler.filters.all_filters
available_filters = nova_ext.filters.KongmingFilter
enabled_filters = ComputeFilter,ComputeCapabilitiesFilter,\
ImagePropertiesFilter,ServerGroupAntiAffinityFilter,\
ServerGroupAffinityFilter,KongmingFilter,NUMATopologyFilter
weight_classes = nova.scheduler.weights.all_weighers
weight_classes = nova_ext.weights.KongmingWeigher
"""


class Scheduler:
    """Nova's, in this process, with hosts.

    :param database: benchmarks.placement.MariaDB
    """

    def __init__(self, database, hosts, conflict_retries=1):
        self.database = database
        self.server = placement_server.Server(database.url, conflict_retries)
        self.cloud = placement.Cloud(self.server)
        cell = self._configure(database)
        rng = random.Random(19)
        fleet.add(cell, {
            name: (self.cloud.add(name, fleet.OWNER), frozenset(
                pcpu for core in range(1, 20) if rng.random() < 0.42
                for node in (0, 64)
                for pcpu in (node + core, node + core + 32)))
            for name in (f'compute{number}' for number in range(hosts))})
        self.cloud.publish(self.cloud.roots)
        self.context = nova_context.get_admin_context()
        self.context.project_id = self.context.user_id = str(uuid.uuid4())
        self.manager = manager.SchedulerManager()
        # As nova-computes do that are up.
        for name in self.cloud.roots:
            for _twice in range(2):
                self.manager.update_instance_info(
                    self.context, name, objects.InstanceList(objects=[]))

    def _configure(self, database):
        """Nova's databases and options; returns the cell of the hosts."""
        path = pathlib.Path(database.folder.name, 'nova.conf')
        cell1 = database.create('nova_cell1')
        path.write_text(_NOVA_CONF.format(
            api=database.create('nova_api'), cell1=cell1,
            placement=self.server.url))
        config.parse_args(['nova-scheduler', '--config-file', str(path)])
        objects.register_all()
        migration.db_sync(database='api')
        migration.db_sync(database='main')
        cell = objects.CellMapping(
            nova_context.get_admin_context(), uuid=str(uuid.uuid4()),
            name='cell1', transport_url='fake:///',
            database_connection=cell1)
        cell.create()
        return cell

    def spec(self, extra_specs):
        """What nova-api asks the scheduler for, of a flavor."""
        flavor = objects.Flavor(
            self.context, id=1, flavorid='f', name='f', vcpus=VCPUS,
            memory_mb=1024, root_gb=1, ephemeral_gb=0, swap=0,
            rxtx_factor=1.0, vcpu_weight=0, disabled=False, is_public=True,
            extra_specs=dict(extra_specs))
        image = objects.ImageMeta(properties=objects.ImageMetaProps())
        topology = hardware.numa_get_constraints(flavor, image)
        server = str(uuid.uuid4())
        spec = objects.RequestSpec.from_components(
            self.context, server, image, flavor, topology,
            objects.InstancePCIRequests(requests=[], instance_uuid=server),
            {}, None, None, port_resource_requests=[],
            request_level_params=objects.RequestLevelParams())
        spec.is_bfv = False
        spec.obj_reset_changes()
        return spec

    def select(self, extra_specs):
        """(seconds, CPU seconds of all, its part in this process)"""
        spec = self.spec(extra_specs)
        pids = [self.server.process.pid, self.database.process.pid]
        before = [natives.cpu_seconds(pid) for pid in pids]
        own, start = time.process_time(), time.perf_counter()
        found = self.manager.select_destinations(
            self.context, spec_obj=spec, instance_uuids=[spec.instance_uuid],
            return_objects=True, return_alternates=True)
        seconds = time.perf_counter() - start
        own = time.process_time() - own
        others = sum(natives.cpu_seconds(pid) - then
                     for pid, then in zip(pids, before))
        assert found[0][0].service_host in self.cloud.roots
        self.cloud.placement._call('DELETE',
                                   f'/allocations/{spec.instance_uuid}')
        return seconds, own + others, own

    def stop(self):
        self.server.stop()


def measure(scheduler, pairs):
    """title -> (what :meth:`Scheduler.select` says of native, of ours)

    As far as it came where it is interrupted.
    """
    found = {title: [] for title, *_rest in CASES}
    try:
        for number in range(-1, pairs):
            for title, *flavors in CASES:
                order = (0, 1) if number % 2 else (1, 0)
                pair = {which: scheduler.select(flavors[which])
                        for which in order}
                # The first ones fill caches.
                if number >= 0:
                    found[title].append((pair[0], pair[1]))
            if number % 10 == 9:
                print(f'  {number + 1} pairs, load {os.getloadavg()[0]:.1f}',
                      file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        pass
    return found


def report(found):
    print(f'  {"":20}{"":22}{"native":>10}{"template":>12}{"ratio":>8}'
          f'   {"95 % interval":14}{"goal":>7}')
    for title, pairs in found.items():
        for column, what in enumerate((
                'time', 'CPU of all', 'CPU of the scheduler')):
            ratios = [ours[column] / native[column] for native, ours in pairs]
            low, high = natives.interval(ratios)
            native, ours = (statistics.median(pair[which][column]
                                              for pair in pairs)
                            for which in (0, 1))
            print(f'  {title:20}{what:22}{native:8.3f} s {ours:9.3f} s '
                  f'{statistics.median(ratios):7.3f}   '
                  f'[{low:.3f}, {high:.3f}]'
                  f'{GOAL:7.2f}', flush=True)
            title = ''


def profile(scheduler):
    for title, *flavors in CASES:
        for kind, flavor in zip(('native', 'template'), flavors):
            scheduler.select(flavor)
            profiler = cProfile.Profile()
            profiler.enable()
            scheduler.select(flavor)
            profiler.disable()
            print(f'\n{title}, {kind}')
            pstats.Stats(profiler).sort_stats('cumulative').print_stats(
                r'nova|kongming|request', 45)


def main():
    parser = argparse.ArgumentParser(
        prog='python -m benchmarks.scheduler', description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--hosts', type=int, default=1000)
    parser.add_argument('--pairs', type=int, default=60)
    parser.add_argument('--profile', action='store_true')
    args = parser.parse_args()
    database = placement.MariaDB()
    scheduler = None
    try:
        scheduler = Scheduler(database, args.hosts)
        if args.profile:
            profile(scheduler)
            return
        print(f'{args.hosts} hosts of 2 nodes x {placement.PCPUS} pCPUs, '
              f'{args.pairs} pairs', flush=True)
        report(measure(scheduler, args.pairs))
    finally:
        if scheduler:
            scheduler.stop()
        database.stop()


if __name__ == '__main__':
    main()
