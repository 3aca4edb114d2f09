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

"""``openstack kongming plan create``: the best layout."""

import argparse

from osc_lib import exceptions
import yaml

from kongming.deployment import deployment as dep
from kongming.plan import defrag
from kongming.plan import document as document_mod
from kongming.plan import figures as figures_mod
from kongming.plan import hosts_file
from kongming.plan import request as request_mod
from kongming.solver import problem as plan_mod
from kongming.solver import solve
from kongming.template import document
from osc_plugin import cloud
from osc_plugin import command
from osc_plugin.plan import plan
from osc_plugin.plan import steps as steps_mod
from osc_plugin.server import server as server_cmd
from osc_plugin import template_options


def _flavor_count(text):
    name, sep, count = text.rpartition('=')
    if not sep or not name or not count.isdecimal() or not int(count):
        raise argparse.ArgumentTypeError(
            f"'{text}' is not FLAVOR=COUNT, such as nfv.l=12")
    return name, int(count)


class CreatePlan(command.Lister):
    """Find the best layout for servers: hosts, nodes and exact pins.

    What is asked is a deployment document (see 'deployment apply') that
    leaves hosts, nodes and pins open as far as it likes, with a part 'plan'
    for the rest; or flavors with a number of servers each; or servers that
    run, whose vCPUs are sorted so that no two servers share a core, with the
    fewest moves. Hosts come from Placement, or from what 'host map --format
    json' has written.

    First as many as can be get a place, then they lie on as few nodes as can
    be, then (--separate) share as few cores, then are on as few hosts (pack)
    or spread as evenly (spread) as can be. The answer says how far it can be
    from the best there is.

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
            '--inventory', metavar='<file>',
            help="Hosts as 'host map --format json' has written them, one or "
                 "several.")
        parser.add_argument(
            '--style', default='pack', choices=sorted(plan_mod.STYLES),
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
        if parsed_args.server:
            return self._running(parsed_args)
        return self._new(parsed_args)

    def _log(self, text):
        self.app.stderr.write(f'{text}\n')

    # New servers.

    def _new(self, parsed_args):
        request = self._request(parsed_args)
        hosts = self._hosts(parsed_args)
        levels: tuple[str, ...] = plan_mod.STYLES[parsed_args.style]
        if parsed_args.separate:
            levels = (*levels[:2], 'shared', *levels[2:])
        problem = plan_mod.Problem(
            {name: request.reserved(name, state)
             for name, state in hosts.items()}, request.asks, levels)
        layout = solve.solve(problem, plan.clock(parsed_args.deadline),
                             parsed_args.solver)
        board = plan_mod.Board(problem)
        for name, spot in layout.spots.items():
            board.put(problem.by_name[name], spot)
        self._complain(problem, layout, board, parsed_args.partial)
        owners = {host: figures_mod.owners_in(state)
                  for host, state in hosts.items()}
        before = figures_mod.of(hosts, owners)
        for host, new in figures_mod.owners_of(layout.spots).items():
            owners[host].update(new)
        found = document_mod.Plan(
            layout.solver, document_mod.levels(levels, layout),
            document_mod.figures(before, figures_mod.of(
                board.states, owners)),
            deployment=request.laid_out(layout.spots))
        return self._answer(parsed_args, found, (
            ('server', 'host', 'owned'),
            [(name, spot.host, server_cmd.PinsColumn([
                (cell.node, cell.pins) for cell in spot.assignment.cells]))
             for name, spot in sorted(layout.spots.items())]))

    def _answer(self, parsed_args, found, rows):
        if parsed_args.out:
            plan.write(parsed_args.out, document_mod.dump(found))
        for line in plan.figure_lines(found.figures):
            self._log(line)
        self._log(plan.quality(found))
        if parsed_args.deployment and found.deployment is not None:
            text = yaml.safe_dump(found.deployment, sort_keys=False)
            if parsed_args.deployment == '-':
                self.app.stdout.write(text)
                return (), ()
            plan.write(parsed_args.deployment, text)
        return rows

    def _request(self, parsed_args):
        if parsed_args.file:
            return request_mod.Request(document.load(
                template_options.read(parsed_args.file)))
        if not parsed_args.image:
            raise exceptions.CommandError(
                'Name the --image that servers of --flavor boot from.')
        conn = self.app.client_manager.kongming
        flavors = {}
        for name, count in parsed_args.flavor:
            found = cloud.flavor(conn, name)
            key = ''.join(c if c.isascii() and c.isalnum() else '-'
                          for c in found.name)
            if not key[:1].isalpha():
                key = f'f{key}'
            flavors[key[:24]] = dep.FoundFlavor(
                found.name, found.id, found.vcpus, found.ram, found.disk,
                found.extra_specs), count
        return request_mod.Request(request_mod.of_flavors(
            parsed_args.name, flavors, parsed_args.image,
            parsed_args.network))

    def _hosts(self, parsed_args):
        if parsed_args.inventory:
            hosts = hosts_file.read(template_options.read(
                parsed_args.inventory))
        else:
            hosts = {host.name: host.state for host in cloud.hosts(
                self.app.client_manager.kongming) if host.obeys}
        for name in parsed_args.host:
            if name not in hosts:
                raise exceptions.CommandError(
                    f"There is no host '{name}' that obeys templates; there "
                    f"are {', '.join(sorted(hosts)) or 'none'}.")
        return {name: state for name, state in sorted(hosts.items())
                if not parsed_args.host or name in parsed_args.host}

    def _complain(self, problem, layout, board, partial):
        left = [ask for ask in problem.asks if ask.name not in layout.spots]
        if not left:
            return
        for ask in left:
            self._log(f'warning: {ask.name} gets no place: '
                      f'{_why(ask, board)}')
        if not partial:
            words = ('no plan places more' if layout.bound[0] == len(left)
                     else f'at least {layout.bound[0]} get none in any plan')
            raise exceptions.CommandError(
                f'{len(left)} of {len(problem.asks)} servers get no place, '
                f'and {words}. --partial makes a plan of the others; fewer '
                f"or smaller servers, more hosts or 'openstack kongming plan "
                f"defrag' may help.")

    # Running servers.

    def _running(self, parsed_args):
        conn = self.app.client_manager.kongming
        ids = {}
        for name in parsed_args.server:
            found = conn.compute.find_server(name, ignore_missing=True,
                                             all_projects=True)
            if found is None:
                raise exceptions.CommandError(
                    f"No server with a name or ID of '{name}' exists.")
            ids[found.id] = found.hypervisor_hostname
        steps: list[document_mod.Step] = []
        score, figures = [], []
        for name in sorted(set(ids.values())):
            published, = cloud.hosts(conn, name)
            host = steps_mod.Host(conn, published)
            mine = {server for server, on in ids.items() if on == name}
            answer = self._sort(host, mine, parsed_args)
            steps += document_mod.steps(answer, host.names)
            score.append(document_mod.levels(_SORTED, answer.layout))
            figures.append(plan.figures_of(host, steps, answer, None))
        found = document_mod.Plan(
            answer.layout.solver, tuple(
                document_mod.Level(found[0].level,
                                   sum(level.value for level in found),
                                   sum(level.bound for level in found))
                for found in zip(*score)),
            {when: {key: sum(found[when][key] for found in figures)
                    for key in figures[0][when]}
             for when in ('before', 'after')}, steps=tuple(steps))
        return self._answer(parsed_args, found, (
            ('step', 'server', 'host', 'moves', 'memory'),
            [(number, move.name, step.host, str(move), move.memory_mib)
             for number, step in enumerate(steps, 1)
             for move in step.moves]))

    @staticmethod
    def _sort(host, mine, parsed_args):
        reasons = [fixed for fixed in host.projected.fixed
                   if fixed.name in {host.names.get(server)
                                     for server in mine}]
        if reasons or mine - host.projected.movers.keys():
            raise exceptions.CommandError('\n'.join(
                f"Server '{fixed.name}' can not be moved: {fixed.reason}."
                for fixed in reasons) or 'A server has no template.')
        return defrag.sort(host.projected, mine, _SORTED,
                           plan.clock(parsed_args.deadline),
                           parsed_args.solver)


_SORTED = ('unplaced', 'shared', 'moves', 'memory')


def _why(ask, board):
    """Why a server has no place, by the host with the most capacity."""
    hosts = sorted((host for host in board.on if ask.may_be_on(host)),
                   key=lambda host: -sum(
                       node.n_free for node in board.states[host].nodes))
    if not hosts:
        return 'no host is left that it may be on'
    for host in hosts:
        if not board.allows(ask, host):
            continue
        result = board.fits(ask, host, 0)
        return f'{host}: {result}' if not result else (
            f'{host} had capacity, but not together with the others')
    return f'on each host is one of {", ".join(sorted(ask.apart))} already'
