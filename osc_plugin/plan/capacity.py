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

"""Capacity on a fragmented host, by the fewest moves of running servers."""

import json
import shutil

from osc_lib import exceptions

from kongming.fit import nova_fitter
from kongming.plan import defrag
from kongming.plan import document
from kongming.render import terminal
from kongming.render import text
from kongming.solver import problem as plan_mod
from kongming.template import template
from osc_plugin import cloud
from osc_plugin.plan import plan
from osc_plugin.plan import steps as steps_mod
from osc_plugin import progress
from osc_plugin import template_options


class Defragmentation:
    """:param app: of the command, for its cloud and what is written

    :param parsed_args: of the command
    """

    def __init__(self, app, parsed_args):
        self.app = app
        self._args = parsed_args

    def run(self):
        """Find a plan, draw it, and write it where it is to be written."""
        parsed_args = self._args
        conn = self.app.client_manager.kongming
        wanted, words = None, 'the largest cell on whole cores'
        if parsed_args.for_flavor:
            wanted, words = self._wanted(conn, parsed_args)
        clock = plan.clock(parsed_args.deadline)
        with progress.Waiting(self.app.stderr, 'reading hosts') as waiting:
            host, answer = self._best(
                conn, [found for found in cloud.hosts(conn, parsed_args.host)
                       if found.obeys], wanted, parsed_args, clock,
                waiting.say)
        steps = document.steps(answer, host.names)
        found = document.Plan(
            answer.layout.solver,
            document.levels(plan_mod.DEFRAG_LEVELS, answer.layout),
            host.figures(steps, answer, wanted),
            f'{words} on {host.name}', steps=steps)
        if parsed_args.out:
            plan.write(parsed_args.out, document.dump(found))
        if parsed_args.format == 'json':
            self.app.stdout.write(json.dumps(
                document.to_document(found), indent=2) + '\n')
            return
        self._draw(host, answer, found, wanted, parsed_args)

    @staticmethod
    def _wanted(conn, parsed_args):
        flavor = cloud.flavor(conn, parsed_args.for_flavor)
        desired = template.decode(flavor.extra_specs)
        demand = template_options.demanded(flavor, desired)
        if demand.problem:
            raise exceptions.CommandError(
                f'Flavor {flavor.name}: {demand.problem}')
        return demand, f'{parsed_args.count} x {flavor.name}'

    def _best(self, conn, hosts, wanted, parsed_args, clock, say):
        """The host where it costs the least, and how.

        :param say: called with what is being done
        :raises CommandError: if there is none
        """
        best, refused = None, []
        for number, published in enumerate(hosts):
            say(f'looking for a way, host {number + 1} of {len(hosts)}')
            host = steps_mod.Host(conn, published)
            end = clock() - clock() / (len(hosts) - number)

            def left(end=end):
                return clock() - end

            if wanted is None:
                answer = defrag.largest(host.projected, left,
                                        parsed_args.solver)
            else:
                answer = defrag.make(
                    host.projected, [wanted] * parsed_args.count, left,
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

        def write(words):
            self.app.stdout.write(terminal.for_encoding(
                words, self.app.stdout.encoding))

        before = host.projected.state.named(host.words(host.owners()))
        write(f'{host.name} today\n{text.host(before, width)}\n\n')
        after, names = answer.after, host.words(host.owners(
            {move.id: move for step in found.steps for move in step.moves}))
        for spot in answer.placed:
            names.update((pcpu, f'free for {found.wanted}')
                         for cell in spot.assignment.cells
                         for pcpu in {*cell.pins.values(), *cell.reserved})
            after = plan_mod.put(
                after, wanted or defrag.sized(spot.assignment),
                spot.assignment)
        write(f'{host.name} afterwards\n'
              f'{text.host(after.named(names), width)}\n\n')
        lines = [*plan.lines(found.steps)] or [
            f'There is capacity for {found.wanted} already; nothing needs to '
            f'move.']
        for line in [*lines, '', *plan.figure_lines(found.figures),
                     plan.quality(found)]:
            write(f'{line}\n')
        if found.steps:
            write("'openstack kongming plan apply "
                  f"{parsed_args.out or 'FILE'}' does it"
                  f"{'' if parsed_args.out else ' (--out FILE writes it)'}\n")


def _no_way(host, answer, wanted):
    words = ('there is no way to free capacity' if answer.impossible else
             'no way to free capacity was found in the time')
    why = nova_fitter.bootable(
        host.projected.state, wanted) if wanted else None
    fixed = '; '.join(f'{fixed.name}: {fixed.reason}'
                      for fixed in host.projected.fixed)
    return (f'{host.name}: {words} ({why}). ' + (
        f'These can not be moved: {fixed}.' if fixed else
        'All its servers may be moved; there are too many of them, or the '
        'flavor is too large for any node.'))
