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

"""``openstack kongming plan show``, ``apply`` and ``revert``; and what the
commands that make plans share with them.
"""

import json
import pathlib
import time

from cliff import columns as cliff_columns
from osc_lib import exceptions
import yaml

from osc_plugin import command
from osc_plugin import progress
from osc_plugin import template_options


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
        return '\n'.join(lines(self._value)) or '-'

    def machine_readable(self):
        from kongming.plan import document
        return document.to_document(document.Plan(
            '', (), steps=self._value))['moves']


def lines(steps):
    """A line a move."""
    for number, step in enumerate(steps, 1):
        for move in step.moves:
            memory = f', {move.memory_mib} MiB' if move.memory_mib else ''
            yield f'{number}. {step.host}: {move.name}: {move}{memory}'


def clock(seconds):
    """A clock that says how many of these seconds are left."""
    end = time.monotonic() + seconds
    return lambda: end - time.monotonic()


def add_solver(parser):
    """The options that go with looking for a plan."""
    from kongming.solver import solve
    parser.add_argument(
        '--solver', default='auto', choices=solve.SOLVERS,
        help='Who looks for the best: OR-Tools (optimum), trying (search), '
             'nobody (greedy); auto: OR-Tools where it is installed.')
    parser.add_argument(
        '--deadline', metavar='<seconds>', type=float, default=30.0,
        help='How long to look for a better one (default: 30).')
    parser.add_argument(
        '--out', metavar='<file>',
        help="Write the plan there, for 'plan show', 'apply' and 'revert'.")


def write(path, text):
    """
    :raises CommandError: if the file can't be written
    """
    try:
        pathlib.Path(path).write_text(text, encoding='utf-8')
    except OSError as exc:
        raise exceptions.CommandError(
            f"{path} can't be written: {exc.strerror}") from exc


def read(path):
    """
    :raises kongming.exception.InvalidTemplate: with every problem of the plan
    """
    from kongming.plan import document
    return document.parse(template_options.read(path))


def quality(found):
    """How good it is known to be, in a line."""
    level = next((level for level in found.score
                  if level.value != level.bound), None)
    if level is None:
        return f'{found.solver}: no plan is better'
    return (f'{found.solver}: {level.level} {level.value}, proven is that '
            f'{level.bound} is the least (gap {level.value - level.bound}); '
            f'more time may help (--deadline)')


def figure_lines(figures):
    before, after = figures['before'], figures['after']
    return [f'{key.replace("_", " "):<18}{before[key]:>6} -> {after[key]}'
            for key in before]


class ShowPlan(command.ShowOne):
    """Show what is in a plan: steps or servers, figures, and how good it is.

    Examples::

        openstack kongming plan show defrag.plan
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
        found = read(parsed_args.file)
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
        command.add_timeout(parser, 300, 'How long a step may take')
        return parser

    def _log(self, line):
        self.app.stderr.write(f'{line}\n')

    def _carry(self, steps, parsed_args):
        from osc_plugin.plan import steps as steps_mod
        count = steps_mod.Carry(
            self.app.client_manager.kongming, parsed_args.timeout,
            self._log).run(steps)
        self._log(f'{count} step(s) done' if count
                  else 'There is nothing to do.')


class ApplyPlan(_Carry):
    """Carry out a plan: move servers live, or boot new ones.

    For each move it writes the server's metadata, waits until the host has
    moved the running server, and restores the metadata. The first step that
    fails ends it, and so does Ctrl-C. The same command continues from there,
    since the places of the servers show what is done. 'plan revert' moves
    them back. If somebody has changed a server since the plan was made, it
    says so before anything is moved.

    A plan of new servers is applied as by 'deployment apply'.

    Examples::

        openstack kongming plan apply defrag.plan
        openstack kongming plan apply ran.plan --timeout 600
    """

    def take_action(self, parsed_args):
        from kongming.deployment import document
        from kongming.deployment import rollout
        from osc_plugin.deployment import rollout as rollout_cmd
        found = read(parsed_args.file)
        if found.deployment is None:
            self._carry(found.steps, parsed_args)
            return
        conn = self.app.client_manager.kongming
        wanted = document.parse(json.dumps(found.deployment))
        with progress.Waiting(self.app.stderr, 'reading hosts') as waiting:
            wanted, there = rollout_cmd.read(conn, wanted, waiting.say)
        todo = rollout.plan(wanted, there)
        if todo.problems:
            raise exceptions.CommandError('\n'.join(map(str, todo.problems)))
        rollout_cmd.Rollout(conn, wanted.name, there, parsed_args.timeout,
                            self._log).run(todo.steps)


class RevertPlan(_Carry):
    """Revert what a plan of moves has done, the last step first.

    Servers go back to the pCPUs and nodes on which the plan found them, if
    these are still free.

    Examples::

        openstack kongming plan revert defrag.plan
    """

    def take_action(self, parsed_args):
        found = read(parsed_args.file)
        if found.deployment is not None:
            raise exceptions.CommandError(
                f"{parsed_args.file} is a plan of new servers; 'openstack "
                f"kongming deployment delete {found.deployment.get('name')}' "
                f"takes them away.")
        self._carry([step.back() for step in reversed(found.steps)],
                    parsed_args)
