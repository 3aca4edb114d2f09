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

"""``python -m tests.embedded``: an embedded cloud until it is told to stop.

Writes ``clouds.yaml`` for the ``openstack`` command into the given folder and
``ready`` when the cloud answers; ends at SIGTERM, or when the process that
started it is gone.
"""

import argparse
import logging
import os
import pathlib
import signal
import sys
import threading

from nova.tests import fixtures as nova_fixtures
import testtools
import yaml

from tests.embedded import cells
from tests.embedded import cloud
from tests.embedded import front
from tests.embedded import hypervisor
from tests.embedded import load


def clouds_yaml(url):
    """clouds.yaml for the three users, and for an admin elsewhere."""
    def entry(user, region):
        return {
            'auth': {'auth_url': f'{url}/identity/v3', 'username': user,
                     'password': user, 'user_domain_id': 'default',
                     'project_name': front.PROJECT['name'],
                     'project_domain_id': 'default'},
            'region_name': region, 'identity_api_version': 3}

    return {'clouds': {
        **{f'kongming-{name}': entry(name, 'RegionOne')
           for name in front.USERS},
        'kongming-old': entry('admin', 'RegionOld')}}


def _served(args):
    """A test case whose only test is to serve."""

    class Served(cloud.CLOUDS[args.hypervisor]):
        HOOKED = not args.native
        PUBLISHES = True
        SHARED_PCPUS = 0 if args.dedicated else 1
        if args.nodes:
            SHAPE = {'cpu_nodes': args.nodes, 'cpu_sockets': 1,
                     'cpu_cores': 4, 'cpu_threads': 2,
                     'kB_mem': args.nodes * 8 * 1024 ** 2}
            SHARED, DEDICATED = (','.join(
                f'{8 * node + first}-{8 * node + last}'
                for node in range(args.nodes))
                for first, last in ((0, 1), (4, 7)))

        def serve(self):
            stop = threading.Event()
            signal.signal(signal.SIGTERM, lambda *_: stop.set())
            # Who may do what as in production; Placement's fixture takes it
            # back for the whole process.
            self.flags(enforce_new_defaults=True, group='oslo_policy')
            self.useFixture(nova_fixtures.RealPolicyFixture())
            if args.idle:
                self.useFixture(load.Idle())
            if args.hypervisor == 'simulated':
                self.useFixture(hypervisor.Numa())
            for number in range(args.hosts):
                self.start_host(f'compute{number + 1}')
            if args.max_limit:
                self.flags(max_limit=args.max_limit, group='api')
            if args.lost_cell:
                self.useFixture(cells.LostCell(front.PROJECT['id']))
            server, url = front.serve(self, args.port)
            (args.folder / 'clouds.yaml').write_text(
                yaml.safe_dump(clouds_yaml(url)))
            (args.folder / 'ready').write_text(self.HYPERVISOR)
            parent = os.getppid()
            by_load = args.folder / 'by_load'
            while not stop.wait(1) and os.getppid() == parent:
                if by_load.exists():
                    self.flags(by_load=by_load.read_text(), group='kongming')
            server.shutdown()

    return Served('serve')


def main():
    parser = argparse.ArgumentParser(
        prog='python -m tests.embedded', description=__doc__.split('\n')[0])
    parser.add_argument('folder', type=pathlib.Path,
                        help='where clouds.yaml, ready and nova.log go')
    parser.add_argument('--hypervisor', choices=sorted(cloud.CLOUDS),
                        default='simulated')
    parser.add_argument('--hosts', type=int, default=1,
                        help='compute hosts; more than one with simulated '
                             'only (default: 1)')
    parser.add_argument('--nodes', type=int, default=0,
                        help='NUMA nodes of a simulated host, each of two '
                             'shared pCPUs and four dedicated ones (default: '
                             'two, of which six are dedicated)')
    parser.add_argument('--max-limit', type=int, default=0,
                        help="[api] max_limit (default: Nova's)")
    parser.add_argument('--lost-cell', action='store_true',
                        help='a second cell, whose database is away')
    parser.add_argument('--native', action='store_true',
                        help="Nova's own driver and filters")
    parser.add_argument('--dedicated', action='store_true',
                        help='with libvirt, no pCPU is shared')
    parser.add_argument('--idle', action='store_true',
                        help='guests are idle, and ten minutes of that are '
                             'a quarter of one; [kongming] by_load is in the '
                             'file by_load of the folder, if there is one')
    parser.add_argument('--port', type=int, default=0,
                        help='on 127.0.0.1 (default: a free one)')
    args = parser.parse_args()
    if args.hosts > 1 and args.hypervisor == 'libvirt':
        parser.error('one libvirtd is one host')
    if args.nodes and args.hypervisor == 'libvirt':
        parser.error('this libvirtd has the nodes that it has')
    log = logging.FileHandler(args.folder / 'nova.log')
    log.setFormatter(logging.Formatter(
        '%(asctime)s %(levelname)s %(name)s %(message)s'))
    logging.getLogger().addHandler(log)
    result = testtools.TestResult()
    _served(args).run(result)
    for _test, trace in result.errors + result.failures:
        print(trace, file=sys.stderr)
    return 0 if result.wasSuccessful() else 1


if __name__ == '__main__':
    sys.exit(main())
