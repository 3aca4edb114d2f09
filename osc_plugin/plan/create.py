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

"""``openstack kongming plan create``: what it takes.

:mod:`osc_plugin.plan.layout` does it.
"""

import argparse

from osc_lib import exceptions

from osc_plugin import command
from osc_plugin.plan import plan


def _flavor_count(text):
    name, sep, count = text.rpartition('=')
    if not sep or not name or not count.isdecimal() or not int(count):
        raise argparse.ArgumentTypeError(
            f"'{text}' is not FLAVOR=COUNT, such as nfv.l=12")
    return name, int(count)


class CreatePlan(command.Lister):
    """Find the best layout for servers: hosts, nodes and exact pins.

    The input is one of these: a deployment document (see 'deployment apply')
    that may leave hosts, nodes and pins open, with a part 'plan' for what
    else is asked; flavors with a number of servers each (--flavor); or
    running servers (--server), which are rearranged by the fewest moves so
    that they share the fewest cores. Hosts come from Placement, or from what
    'host map --format json' has written.

    The best layout is, in this order: the most servers have a place; their
    cells are on the fewest nodes; with --separate, they share the fewest
    cores; they are on the fewest hosts (pack) or spread evenly (spread). The
    answer says whether it is the best, or how far it can be from it. Hosts
    that Nova's scheduler would leave out get no server: hosts that are
    disabled or down, and those without a trait, disk or aggregate that the
    flavor needs.

    .. code-block:: yaml

        version: 1
        name: ran
        templates:
          du: {vcpus: 8, ram: 8192, grant: template,
               properties: {hw:cpu_policy: dedicated}}
        servers: {}
        plan:
          count: {du: {servers: 12, image: du, networks: [ran]}}
          apart: {pair: [du-1, du-2]}
          devices: {fronthaul: {compute1: [0], compute2: [1]}}
          near: {du-*: fronthaul}
          reserve: {"*": "4-5"}
          split: {du: 2}

    Examples::

        openstack kongming plan create ran.yaml --out ran.plan
        openstack kongming plan create ran.yaml --deployment - -f value |
            openstack kongming deployment apply -
        openstack kongming plan create --flavor nfv.l=12 --flavor nfv.s=30 \\
            --image du --style spread --out ran.plan
        for host in compute1 compute2; do
            openstack kongming host map $host --format json
        done > hosts.json
        openstack kongming plan create ran.yaml --inventory hosts.json
        openstack kongming plan create --server du-1 --server du-2 \\
            --out sorted.plan
    """

    def get_parser(self, prog_name):
        from kongming.solver import problem
        parser = super().get_parser(prog_name)
        parser.add_argument(
            'file', metavar='<file>', nargs='?',
            help='Request (YAML or JSON); - is standard input.')
        parser.add_argument(
            '--flavor', metavar='<flavor>=<count>', default=[],
            action='append', type=_flavor_count,
            help='Flavor (name or ID), and how many servers (repeatable).')
        parser.add_argument(
            '--server', metavar='<server>', default=[], action='append',
            help='Running server (name or ID) that may move (repeatable).')
        parser.add_argument('--name', metavar='<name>', default='plan',
                            help='Name of the deployment that --flavor makes '
                                 '(default: plan).')
        parser.add_argument('--image', metavar='<image>',
                            help='Image of the servers of --flavor.')
        parser.add_argument('--network', metavar='<network>', default='auto',
                            help='Their network; none or auto (default).')
        parser.add_argument(
            '--host', metavar='<host>', default=[], action='append',
            help='Only this host (repeatable).')
        parser.add_argument(
            '--availability-zone', metavar='<zone>',
            help='Only hosts of this availability zone.')
        parser.add_argument(
            '--inventory', metavar='<file>',
            help="Hosts as 'host map --format json' has written them, one or "
                 "several.")
        parser.add_argument(
            '--style', default='pack', choices=sorted(problem.STYLES),
            help='Few hosts, or all evenly (default: pack).')
        parser.add_argument(
            '--separate', action='store_true',
            help='Have servers share as few cores as can be.')
        parser.add_argument(
            '--partial', action='store_true',
            help='Make a plan even if some servers get no place.')
        parser.add_argument(
            '--deployment', metavar='<file>',
            help='Write the deployment document there; - is standard output, '
                 'in place of the table.')
        plan.add_solver(parser)
        return parser

    def take_action(self, parsed_args):
        asked = [bool(parsed_args.file), bool(parsed_args.flavor),
                 bool(parsed_args.server)]
        if sum(asked) != 1:
            raise exceptions.CommandError(
                'Name one of these: a <file>, --flavor or --server.')
        from osc_plugin.plan import layout
        made = layout.Layout(self.app, parsed_args)
        return made.running() if parsed_args.server else made.new()
