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

"""The best layout for servers, new ones or running ones."""

from osc_lib import exceptions
import yaml

from kongming.compute import servers
from kongming.deployment import deployment as dep
from kongming.fit import nova_fitter
from kongming.placement import scheduling
from kongming.plan import defrag
from kongming.plan import document as document_mod
from kongming.plan import figures as figures_mod
from kongming.plan import hosts_file
from kongming.plan import request as request_mod
from kongming.solver import problem as plan_mod
from kongming.solver import solve
from kongming.template import document
from osc_plugin import cloud
from osc_plugin.plan import plan
from osc_plugin.plan import steps as steps_mod
from osc_plugin import progress
from osc_plugin.server import server as server_cmd
from osc_plugin import template_options


class Layout:
    """:param app: of the command, for its cloud and what is written

    :param parsed_args: of the command
    """

    def __init__(self, app, parsed_args):
        self.app = app
        self._args = parsed_args

    def _log(self, text):
        self.app.stderr.write(f'{text}\n')

    # New servers.

    def new(self):
        """Columns and rows of new servers."""
        parsed_args = self._args
        request = self._request(parsed_args)
        with progress.Waiting(self.app.stderr, 'reading hosts'):
            hosts = self._hosts(parsed_args, request)
        levels: tuple[str, ...] = plan_mod.STYLES[parsed_args.style]
        if parsed_args.separate:
            levels = (*levels[:2], 'shared', *levels[2:])
        problem = plan_mod.Problem(
            {name: request.reserved(name, state)
             for name, state in hosts.items()}, request.asks, levels,
            limits=self._limits)
        with progress.Waiting(self.app.stderr, 'looking for a layout'):
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

    def _hosts(self, parsed_args, request):
        self._refused, self._limits = {}, {}
        if parsed_args.inventory:
            hosts = hosts_file.read(template_options.read(
                parsed_args.inventory))
            called = {}
        else:
            conn = self.app.client_manager.kongming
            found = [host for host in cloud.hosts(conn) if host.obeys]
            hosts = {host.name: host.state for host in found}
            self._limits = {host.name: host.limits for host in found}
            called = cloud.names_of(
                conn, [*parsed_args.host, *request.hosts()], hosts)
            request.call(called)
            flavors = request.deployment.flavors
            self._refused = dict(zip(flavors, cloud.left_out(
                conn, found, [
                    scheduling.of_flavor(flavor.properties, flavor.disk_gib,
                                         parsed_args.availability_zone or '')
                    for flavor in flavors.values()],
                lambda text: self._log(f'warning: {text}'))))
        chosen = [called.get(name, name) for name in parsed_args.host]
        for name in chosen:
            if name not in hosts:
                raise exceptions.CommandError(
                    f"There is no host '{name}' that obeys templates; there "
                    f"are {', '.join(sorted(hosts)) or 'none'}.")
        hosts = {name: state for name, state in sorted(hosts.items())
                 if not chosen or name in chosen}
        request.leave_out({flavor: hosts.keys() & refused.keys()
                           for flavor, refused in self._refused.items()},
                          hosts)
        return hosts

    def _complain(self, problem, layout, board, partial):
        left = [ask for ask in problem.asks if ask.name not in layout.spots]
        if not left:
            return
        for ask in left:
            self._log(f'warning: {ask.name} gets no place: '
                      f'{_why(ask, board)}')
        for refused in dict.fromkeys(
                f'{host}: the scheduler leaves it out: {why}'
                for found in self._refused.values()
                for host, why in found.items()):
            self._log(f'warning: {refused}')
        if not partial:
            words = ('no plan places more' if layout.bound[0] == len(left)
                     else f'at least {layout.bound[0]} get none in any plan')
            raise exceptions.CommandError(
                f'{len(left)} of {len(problem.asks)} servers get no place, '
                f'and {words}. --partial makes a plan of the others; fewer '
                f"or smaller servers, more hosts or 'openstack kongming plan "
                f"defrag' may help.")

    # Running servers.

    def running(self):
        """Columns and rows of steps of running servers."""
        parsed_args = self._args
        conn = self.app.client_manager.kongming
        ids = {}
        for name in parsed_args.server:
            found = conn.compute.find_server(name, ignore_missing=True,
                                             all_projects=True)
            if found is None:
                raise exceptions.CommandError(
                    f"No server with a name or ID of '{name}' exists.")
            servers.known(found)
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
            figures.append(host.figures(steps, answer))
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
        if not result and result.by_nova:
            advice = nova_fitter.advice(board.states[host], ask.shapes[0],
                                        board.problem.limits.get(host))
            return f'{host}: {advice}'
        return f'{host}: {result}' if not result else (
            f'{host} had capacity, but not together with the others')
    return f'on each host is one of {", ".join(sorted(ask.apart))} already'
