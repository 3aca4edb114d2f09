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

"""``openstack kongming plan ...``: the best layout, and room made."""

import argparse
import json
import pathlib
import shutil
import time

from cliff import columns as cliff_columns
from osc_lib import exceptions
import yaml

from kongming import deployment as dep
from kongming import deployment_document
from kongming import document
from kongming import draw
from kongming import exception as km_exc
from kongming import fit
from kongming import plan as plan_mod
from kongming import plan_document
from kongming import plan_figures
from kongming import plan_inventory
from kongming import plan_order
from kongming import plan_request
from kongming import plan_room
from kongming import plan_solve
from kongming import rollout
from kongming import template
from osc_plugin import cloud
from osc_plugin import command
from osc_plugin import plan_steps
from osc_plugin import rollout as rollout_cmd
from osc_plugin import server as server_cmd
from osc_plugin import template as template_cmd


class PairsColumn(cliff_columns.FormattableColumn):
    """Words and numbers; a line each for people."""

    def human_readable(self):
        return '\n'.join(f'{key}: {value}'
                         for key, value in self._value.items())

    def machine_readable(self):
        return dict(self._value)


class StepsColumn(cliff_columns.FormattableColumn):
    """Steps of running servers; a line each for people."""

    def human_readable(self):
        return '\n'.join(_lines(self._value)) or '-'

    def machine_readable(self):
        return plan_document.to_document(plan_document.Plan(
            '', (), steps=self._value))['moves']


def _lines(steps):
    for number, step in enumerate(steps, 1):
        for move in step.moves:
            memory = f', {move.memory_mib} MiB' if move.memory_mib else ''
            yield f'{number}. {step.host}: {move.name}: {move}{memory}'


def _clock(seconds):
    end = time.monotonic() + seconds
    return lambda: end - time.monotonic()


def _add_solver(parser):
    parser.add_argument(
        '--solver', default='auto', choices=plan_solve.SOLVERS,
        help='Who looks for the best: OR-Tools (optimum), trying (search), '
             'nobody (greedy); auto: OR-Tools where it is installed.')
    parser.add_argument(
        '--deadline', metavar='<seconds>', type=float, default=30.0,
        help='How long to look for a better one (default: 30).')
    parser.add_argument(
        '--out', metavar='<file>',
        help="Write the plan there, for 'plan show', 'apply' and 'revert'.")


def _write(path, text):
    try:
        pathlib.Path(path).write_text(text, encoding='utf-8')
    except OSError as exc:
        raise exceptions.CommandError(
            f"{path} can't be written: {exc.strerror}") from exc


def _read(path):
    try:
        return plan_document.parse(template_cmd.read(path))
    except km_exc.InvalidTemplate as exc:
        raise template_cmd.complain(exc) from exc


def _quality(found):
    """How good it is known to be, in a line."""
    level = next((level for level in found.score
                  if level.value != level.bound), None)
    if level is None:
        return f'{found.solver}: no plan is better'
    return (f'{found.solver}: {level.level} {level.value}, proven is that '
            f'{level.bound} is the least (gap {level.value - level.bound}); '
            f'more time may help (--deadline)')


def _figure_lines(figures):
    before, after = figures['before'], figures['after']
    return [f'{key.replace("_", " "):<18}{before[key]:>6} -> {after[key]}'
            for key in before]


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
        _add_solver(parser)
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

    def _tell(self, text):
        self.app.stderr.write(f'{text}\n')

    # New servers.

    def _new(self, parsed_args):
        request = self._request(parsed_args)
        hosts = self._hosts(parsed_args)
        levels = plan_mod.STYLES[parsed_args.style]
        if parsed_args.separate:
            levels = (*levels[:2], 'shared', *levels[2:])
        problem = plan_mod.Problem(
            {name: request.reserved(name, state)
             for name, state in hosts.items()}, request.asks, levels)
        layout = plan_solve.solve(problem, _clock(parsed_args.deadline),
                                  parsed_args.solver)
        board = plan_mod.Board(problem)
        for name, spot in layout.spots.items():
            board.put(problem.by_name[name], spot)
        self._complain(problem, layout, board, parsed_args.partial)
        owners = {host: {} for host in hosts}
        before = plan_figures.of(hosts, owners)
        found = plan_document.Plan(
            layout.solver, plan_document.levels(levels, layout),
            plan_document.figures(before, plan_figures.of(
                board.states, plan_figures.owners_of(layout.spots))),
            deployment=request.laid_out(layout.spots))
        return self._answer(parsed_args, found, (
            ('server', 'host', 'owned'),
            [(name, spot.host, server_cmd.PinsColumn([
                (cell.node, cell.pins) for cell in spot.assignment.cells]))
             for name, spot in sorted(layout.spots.items())]))

    def _answer(self, parsed_args, found, rows):
        if parsed_args.out:
            _write(parsed_args.out, plan_document.dump(found))
        for line in _figure_lines(found.figures):
            self._tell(line)
        self._tell(_quality(found))
        if parsed_args.deployment and found.deployment is not None:
            text = yaml.safe_dump(found.deployment, sort_keys=False)
            if parsed_args.deployment == '-':
                self.app.stdout.write(text)
                return (), ()
            _write(parsed_args.deployment, text)
        return rows

    def _request(self, parsed_args):
        try:
            if parsed_args.file:
                return plan_request.Request(document.load(
                    template_cmd.read(parsed_args.file)))
            if not parsed_args.image:
                raise exceptions.CommandError(
                    'Name the --image that servers of --flavor boot from.')
            conn = self.app.client_manager.kongming
            flavors = {}
            for name, count in parsed_args.flavor:
                found = cloud.flavor(conn, name)
                key = ''.join(c if c.isalnum() or c in '_-' else '_'
                              for c in found.name)
                if not key[:1].isalpha():
                    key = f'f{key}'
                flavors[key[:24]] = dep.FoundFlavor(
                    found.name, found.id, found.vcpus, found.ram, found.disk,
                    found.extra_specs), count
            return plan_request.Request(plan_request.of_flavors(
                parsed_args.name, flavors, parsed_args.image,
                parsed_args.network))
        except km_exc.InvalidTemplate as exc:
            raise template_cmd.complain(exc) from exc

    def _hosts(self, parsed_args):
        if parsed_args.inventory:
            hosts = plan_inventory.read(template_cmd.read(
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
            self._tell(f'warning: {ask.name} gets no place: '
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
        steps, score, figures = [], [], []
        for name in sorted(set(ids.values())):
            published, = cloud.hosts(conn, name)
            host = plan_steps.Host(conn, published)
            mine = {server for server, on in ids.items() if on == name}
            answer = self._sort(host, mine, parsed_args)
            steps += plan_document.steps(answer, host.names)
            score.append(plan_document.levels(_SORTED, answer.layout))
            figures.append(_figures_of(host, steps, answer, None))
        found = plan_document.Plan(
            answer.layout.solver, tuple(
                plan_document.Level(found[0].level,
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
        reasons = [fixed for fixed in host.room.fixed
                   if fixed.name in {host.names.get(server)
                                     for server in mine}]
        if reasons or mine - host.room.movers.keys():
            raise exceptions.CommandError('\n'.join(
                f"Server '{fixed.name}' can not be moved: {fixed.reason}."
                for fixed in reasons) or 'A server has no template.')
        return plan_room.sort(host.room, mine, _SORTED,
                              _clock(parsed_args.deadline),
                              parsed_args.solver)


_SORTED = ('unplaced', 'shared', 'moves', 'memory')


def _why(ask, board):
    """Why a server has no place, by the host with the most room."""
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
            f'{host} had room, but not together with the others')
    return f'on each host is one of {", ".join(sorted(ask.apart))} already'


def _figures_of(host, steps, answer, wanted):
    goals = {move.id: move for step in steps for move in step.moves
             if step.host == host.name}
    return plan_document.figures(
        plan_figures.of({host.name: host.room.state},
                        {host.name: host.owners()}, wanted),
        plan_figures.of({host.name: answer.after},
                        {host.name: host.owners(goals)}, wanted))


class DefragPlan(command.Command):
    """Make room on a fragmented host by the fewest live moves.

    For a flavor: running servers of the host move until a server of it fits.
    Without one: until the largest cell fits that can be had on whole cores.
    Without a host: the host where it takes the fewest moves. Of two ways with
    as many moves the one that moves less memory is taken.

    Only servers move whose flavor grants 'template', and only as far as
    their template leaves it open; others stay as they are. Nothing is changed
    here: what would be done is drawn, and written with --out, for 'plan
    apply' to do it.

    Examples::

        openstack kongming plan defrag compute1 --for-flavor nfv.l
        openstack kongming plan defrag compute1 --for-flavor nfv.l \\
            --out room.plan
        openstack kongming plan apply room.plan
        openstack kongming plan defrag --for-flavor nfv.l --count 2
        openstack kongming plan defrag compute1 --format json
    """

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument('host', metavar='<host>', nargs='?',
                            help='Host (name of its compute node).')
        parser.add_argument('--for-flavor', metavar='<flavor>',
                            help='Flavor (name or ID) that is to fit.')
        parser.add_argument('--count', metavar='<number>', type=int,
                            default=1, help='How many servers of it are to '
                                            'fit (default: 1).')
        parser.add_argument('-f', '--format', default='text',
                            choices=('text', 'json'),
                            help='What to write (default: text).')
        parser.add_argument('--width', metavar='<columns>', type=int,
                            help="Columns of text (default: the "
                                 "terminal's).")
        _add_solver(parser)
        return parser

    def take_action(self, parsed_args):
        if not parsed_args.host and not parsed_args.for_flavor:
            raise exceptions.CommandError(
                'Name a <host>, or a flavor with --for-flavor, or both.')
        if parsed_args.count < 1:
            raise exceptions.CommandError('--count is 1 or more.')
        conn = self.app.client_manager.kongming
        wanted, words = None, 'the largest cell on whole cores'
        if parsed_args.for_flavor:
            wanted, words = self._wanted(conn, parsed_args)
        clock = _clock(parsed_args.deadline)
        host, answer = self._best(
            conn, [found for found in cloud.hosts(conn, parsed_args.host)
                   if found.obeys], wanted, parsed_args, clock)
        steps = plan_document.steps(answer, host.names)
        found = plan_document.Plan(
            answer.layout.solver,
            plan_document.levels(plan_mod.ROOM, answer.layout),
            _figures_of(host, steps, answer, wanted),
            f'{words} on {host.name}', steps=steps)
        if parsed_args.out:
            _write(parsed_args.out, plan_document.dump(found))
        if parsed_args.format == 'json':
            self.app.stdout.write(json.dumps(
                plan_document.to_document(found), indent=2) + '\n')
            return
        self._draw(host, answer, found, wanted, parsed_args)

    @staticmethod
    def _wanted(conn, parsed_args):
        flavor = cloud.flavor(conn, parsed_args.for_flavor)
        try:
            wish = template.decode(flavor.extra_specs)
            demand = template_cmd.demanded(flavor, wish)
        except km_exc.InvalidTemplate as exc:
            raise template_cmd.complain(exc) from exc
        if demand.problem:
            raise exceptions.CommandError(
                f'Flavor {flavor.name}: {demand.problem}')
        return demand, f'{parsed_args.count} x {flavor.name}'

    def _best(self, conn, hosts, wanted, parsed_args, clock):
        """The host where it costs the least, and how.

        :raises CommandError: if there is none
        """
        best, refused = None, []
        for number, published in enumerate(hosts):
            host = plan_steps.Host(conn, published)
            end = clock() - clock() / (len(hosts) - number)

            def left(end=end):
                return clock() - end

            if wanted is None:
                answer = plan_room.largest(host.room, left,
                                           parsed_args.solver)
            else:
                answer = plan_room.make(
                    host.room, [wanted] * parsed_args.count, left,
                    parsed_args.solver)
            if answer.layout is None:
                refused.append((host, answer))
            elif best is None or answer.cost < best[1].cost:
                best = host, answer
                if not any(answer.cost):
                    break
        if best is not None:
            return best
        raise exceptions.CommandError('\n'.join(
            _no_way(host, answer, wanted) for host, answer in refused)
            or 'No host obeys templates, so nothing can be moved.')

    def _draw(self, host, answer, found, wanted, parsed_args):
        width = parsed_args.width or shutil.get_terminal_size().columns
        write = self.app.stdout.write
        before = host.room.state.named(host.words(host.owners()))
        write(f'{host.name} today\n{draw.host(before, width)}\n\n')
        after, names = answer.after, host.words(host.owners(
            {move.id: move for step in found.steps for move in step.moves}))
        for spot in answer.room:
            names.update((pcpu, f'room for {found.wanted}')
                         for cell in spot.assignment.cells
                         for pcpu in {*cell.pins.values(), *cell.reserved})
            after = plan_mod.put(
                after, wanted or plan_room.sized(spot.assignment),
                spot.assignment)
        write(f'{host.name} afterwards\n'
              f'{draw.host(after.named(names), width)}\n\n')
        lines = [*_lines(found.steps)] or [
            f'There is room for {found.wanted} already; nothing needs to '
            f'move.']
        for line in [*lines, '', *_figure_lines(found.figures),
                     _quality(found)]:
            write(f'{line}\n')
        if found.steps:
            write("'openstack kongming plan apply "
                  f"{parsed_args.out or 'FILE'}' does it"
                  f"{'' if parsed_args.out else ' (--out FILE writes it)'}\n")


def _no_way(host, answer, wanted):
    words = ('there is no way to make room' if answer.impossible else
             'no way to make room was found in the time')
    why = fit.fit(host.room.state, wanted) if wanted else None
    fixed = '; '.join(f'{fixed.name}: {fixed.reason}'
                      for fixed in host.room.fixed)
    return (f'{host.name}: {words} ({why}). ' + (
        f'These can not be moved: {fixed}.' if fixed else
        'All its servers may be moved; there are too many of them, or the '
        'flavor is too large for any node.'))


class ShowPlan(command.ShowOne):
    """Show what is in a plan: steps or servers, figures, and how good it is.

    Examples::

        openstack kongming plan show room.plan
        openstack kongming plan show ran.plan --deployment
    """

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument('file', metavar='<file>',
                            help='Plan; - is standard input.')
        parser.add_argument('--deployment', action='store_true',
                            help='Write its deployment document, and nothing '
                                 'else.')
        return parser

    def take_action(self, parsed_args):
        found = _read(parsed_args.file)
        if parsed_args.deployment:
            if found.deployment is None:
                raise exceptions.CommandError(
                    f'{parsed_args.file} moves running servers; there is no '
                    f'deployment in it.')
            self.app.stdout.write(yaml.safe_dump(dict(found.deployment),
                                                 sort_keys=False))
            return (), ()
        row = {'kind': 'moves' if found.deployment is None
               else 'deployment', 'wanted': found.wanted or None,
               'solver': found.solver, 'proven': found.proven,
               'score': PairsColumn({level.level: level.value
                                     for level in found.score}),
               'bound': PairsColumn({level.level: level.bound
                                     for level in found.score})}
        for when, figures in found.figures.items():
            row[when] = PairsColumn(figures)
        if found.deployment is None:
            row['steps'] = StepsColumn(found.steps)
        else:
            row['servers'] = PairsColumn({
                name: server['host'] for name, server
                in found.deployment['servers'].items()})
        return tuple(row), tuple(row.values())


class _Carry(command.Command):
    """What the commands that carry out a plan share."""

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument('file', metavar='<file>',
                            help='Plan; - is standard input.')
        parser.add_argument(
            '--timeout', metavar='<seconds>', type=int, default=300,
            help='How long a step may take (default: 300).')
        return parser

    def _tell(self, line):
        self.app.stderr.write(f'{line}\n')

    def _carry(self, steps, parsed_args):
        count = plan_steps.Carry(
            self.app.client_manager.kongming, parsed_args.timeout,
            self._tell).run(steps)
        self._tell(f'{count} step(s) done' if count
                   else 'There is nothing to do.')


class ApplyPlan(_Carry):
    """Carry out a plan: move servers live, or boot new ones.

    A move is said in the server's metadata, carried out by its host while
    the server runs, and taken out of the metadata again. One step comes after
    the other; the first that fails ends it, and so does Ctrl-C. Where the
    servers are tells what is done: the same command goes on from there,
    'plan revert' takes it back. A server that has been changed otherwise
    meanwhile is told before anything is moved.

    A plan of new servers is applied as by 'deployment apply'.

    Examples::

        openstack kongming plan apply room.plan
        openstack kongming plan apply ran.plan --timeout 600
    """

    def take_action(self, parsed_args):
        found = _read(parsed_args.file)
        if found.deployment is None:
            self._carry(found.steps, parsed_args)
            return
        conn = self.app.client_manager.kongming
        try:
            wanted = deployment_document.parse(json.dumps(found.deployment))
        except km_exc.InvalidTemplate as exc:
            raise template_cmd.complain(exc) from exc
        there = rollout_cmd.read(conn, wanted)
        todo = rollout.plan(wanted, there)
        if todo.problems:
            raise exceptions.CommandError('\n'.join(map(str, todo.problems)))
        rollout_cmd.Rollout(conn, wanted.name, there, parsed_args.timeout,
                            self._tell).run(todo.steps)


class RevertPlan(_Carry):
    """Take back what a plan of moves has done, the last step first.

    Servers go back to the pCPUs and nodes that the plan found them on, as
    far as these are free still.

    Examples::

        openstack kongming plan revert room.plan
    """

    def take_action(self, parsed_args):
        found = _read(parsed_args.file)
        if found.deployment is not None:
            raise exceptions.CommandError(
                f"{parsed_args.file} is a plan of new servers; 'openstack "
                f"kongming deployment delete {found.deployment.get('name')}' "
                f"takes them away.")
        self._carry([step.back() for step in reversed(found.steps)],
                    parsed_args)
