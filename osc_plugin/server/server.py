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

"""``openstack kongming server ...``: where running servers are to be."""

import argparse
import shutil
import textwrap

from cliff import columns as cliff_columns
from osc_lib import exceptions

from kongming.cli import columns
from kongming.compute import servers
from kongming.template import grammar
from kongming.template import metadata as metadata_mod
from kongming.template import template
from osc_plugin import command
from osc_plugin.server import advise
from osc_plugin.server import running
from osc_plugin import template_options

#: Options of 'set' and 'unset' that name keys with a number and without.
_NUMBERED = ('node', 'pin', 'iothread')
_UNNUMBERED = ('emulator', 'sched', 'qos', 'cache')
_PROFILE = f'{template.PREFIX}profile'


class PinsColumn(cliff_columns.FormattableColumn):
    """node -> vCPU -> pCPU; lines of ranges for people."""

    def human_readable(self):
        # A table has other columns, too.
        width = max(32, shutil.get_terminal_size().columns // 2)
        return '\n'.join(
            line for node, pins in self._value for line in textwrap.wrap(
                f'node {node}: '
                + (' '.join(grammar.format_pins(pins)) or '-'), width,
                subsequent_indent='  ', break_long_words=False,
                break_on_hyphens=False))

    def machine_readable(self):
        return [{'node': node, 'pins': {str(v): p for v, p in pins.items()}}
                for node, pins in self._value]


class LastChange(cliff_columns.FormattableColumn):
    """A live change in a line for people, by its parts for programs."""

    def human_readable(self):
        if self._value is None:
            return '-'
        result = f'{self._value.started}: {self._value.result or "running"}'
        return result + (f', {self._value.details}' if self._value.details
                         else '')

    def machine_readable(self):
        if self._value is None:
            return None
        found = self._value._asdict()
        return {**found, 'details': found['details'] or None}


def row(server, seen):
    """Columns and values.

    :param seen: running.Seen, what it was found to have
    """
    metadata = {key: value for key, value in server.metadata.items()
                if key.startswith(template.PREFIX)}
    intent = server.intent()
    found = {
        'server': server.name, 'id': server.id, 'host': server.host,
        'intended': template_options.SpecsColumn(
            template.encode(intent.base, most=None)),
        'profile': intent.profile,
        'metadata': template_options.SpecsColumn(metadata),
        'not_obeyed': columns.Lines([str(one) for one in intent.refused])}
    mine = owned(seen)
    if mine is not None:
        found['owned'] = mine
    found['actual'] = mine if seen.looked else None
    found['last_change'] = LastChange(seen.newest)
    return tuple(found), tuple(found.values())


def owned(seen):
    """What Nova has given it; None where this user may not see it."""
    return None if seen.cells is None else PinsColumn(seen.cells)


class _Change(command.ShowOne):
    """What the commands that change a running server share."""

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument('server', metavar='<server>',
                            help='Server (name or ID) to change.')
        parser.add_argument(
            '--dry-run', action='store_true',
            help='Check it and show what would be written; change nothing.')
        parser.add_argument(
            '--wait', action='store_true',
            help='Return when it is done, or fail with the reason. Progress '
                 'goes to standard error.')
        command.add_timeout(parser, 120)
        return parser

    def _carry_out(self, server, before, changes, parsed_args):
        """Write the metadata, and wait where that is asked for.

        :param before: request ids of its live changes
        """
        wanted = server.intent(changes.applied(server.metadata))
        if parsed_args.dry_run:
            return ('server', 'id', 'written', 'removed', 'intended'), (
                server.name, server.id,
                template_options.SpecsColumn(changes.put),
                columns.Lines(changes.remove),
                template_options.SpecsColumn(
                    template.encode(wanted.base, most=None)))
        same = wanted == server.intent()
        running.write(server, changes)
        if parsed_args.wait:
            seen = running.Wait(server.after(changes), frozenset(before),
                                same,
                                parsed_args.timeout,
                                self.app.stderr.write).run()
        else:
            seen = server.see(itself=True)
        return row(seen.server, seen)


def _number(text):
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"'{text}' is not a number")
    return text


class SetServer(_Change):
    """Change where a running server's vCPUs and other threads run.

    The command writes the server's metadata, and the host changes the server
    while it runs. The flavor has to grant that (kongming:grant): 'qos' for
    --qos and --cache, 'profile' for --profile, 'template' for all else. What
    is not named stays as it was set before.

    A document is as for 'template set', without grants and profiles, which
    only a flavor can have. Options take precedence over it.

    Examples::

        openstack kongming server set --pin "0=0:5 1:7" --wait du-1
        openstack kongming server set --pin "0=0-3:n0c2-5t0" du-1
        openstack kongming server set --emulator shared \\
            --sched "1-3:fifo:1" du-1
        openstack kongming server set --profile night --wait du-1
        openstack kongming server set --file du.yaml --dry-run du-1
    """

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument(
            '--file', metavar='<file>',
            help='Document (YAML or JSON) that holds the template; - is '
                 'standard input.')
        parser.add_argument(
            '--node', metavar='<cell>=<node>', default=[], action='append',
            type=template_options.cell_value,
            help='Host NUMA node of a guest NUMA cell (repeatable).')
        parser.add_argument(
            '--pin', metavar='<cell>=<map>', default=[], action='append',
            type=template_options.cell_value,
            help="Pins of a cell's vCPUs, as of 'template set' "
                 "(repeatable).")
        parser.add_argument(
            '--emulator', metavar='<pcpus>',
            help="pCPUs of the emulator threads, such as 4,8-9: the server's "
                 "own or shared ones; or 'own' or 'shared'.")
        parser.add_argument(
            '--iothread', metavar='<N>=<pcpus>', default=[], action='append',
            type=template_options.cell_value,
            help='The same for an I/O thread, counted from 1 (repeatable).')
        parser.add_argument(
            '--sched', metavar='<value>',
            help='Scheduler and priority of vCPUs, such as "1-3:fifo:1".')
        parser.add_argument(
            '--qos', metavar='<value>',
            help='QoS of vCPUs, such as "0:weight=400 1-3:quota=50%%".')
        parser.add_argument(
            '--cache', metavar='<value>',
            help='Classes of vCPUs for the L3 cache and memory bandwidth, '
                 'such as "0-3:l3=25%%,mb=50%%".')
        parser.add_argument(
            '--profile', metavar='<name>',
            help=f"Profile of the flavor that is to be active, whatever "
                 f"windows and conditions say; '{template.AUTO}' goes by "
                 f"these.")
        return parser

    def take_action(self, parsed_args):
        server, before = running.Server.find_with_changes(
            self.app.client_manager.kongming, parsed_args.server)
        options = {f'{template.PREFIX}{key}.{number}': value
                   for key in _NUMBERED
                   for number, value in getattr(parsed_args, key)}
        options.update({f'{template.PREFIX}{key}': value for key in _UNNUMBERED
                        if (value := getattr(parsed_args, key)) is not None})
        if not options and not parsed_args.file and not parsed_args.profile:
            raise exceptions.CommandError(
                'Name at least --node or --pin, or another part of a '
                'template, or a --file or a --profile.')
        changes = metadata_mod.express(
            server.metadata,
            template_options.described(parsed_args.file, options))
        if parsed_args.profile and parsed_args.profile != (
                server.metadata.get(_PROFILE)):
            changes.put[_PROFILE] = parsed_args.profile
        server.check(changes.applied(server.metadata))
        return self._carry_out(server, before, changes, parsed_args)


class UnsetServer(_Change):
    """Unset what 'server set' has set; the flavor's template holds again.

    Examples::

        openstack kongming server unset --pin 0 --wait du-1
        openstack kongming server unset --emulator --sched du-1
        openstack kongming server unset --profile du-1
        openstack kongming server unset --all du-1
    """

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        for key, metavar, whose in (('node', '<cell>', "the cell's node"),
                                    ('pin', '<cell>', "the cell's pins"),
                                    ('iothread', '<N>', 'the I/O thread')):
            parser.add_argument(
                f'--{key}', metavar=metavar, default=[], action='append',
                type=_number, help=f'What was set for {whose} (repeatable).')
        for key, whose in (('emulator', 'the emulator threads'),
                           ('sched', 'the scheduler'),
                           ('qos', 'the QoS'),
                           ('cache', 'caches and memory bandwidth'),
                           ('profile', 'the profile')):
            parser.add_argument(f'--{key}', action='store_true',
                                help=f'What was set for {whose}.')
        parser.add_argument('--all', action='store_true',
                            help='All of it.')
        return parser

    def take_action(self, parsed_args):
        server, before = running.Server.find_with_changes(
            self.app.client_manager.kongming, parsed_args.server)
        stems = None
        if not parsed_args.all:
            stems = [f'{key}.{number}' for key in _NUMBERED
                     for number in getattr(parsed_args, key)]
            stems += [key for key in (*_UNNUMBERED, 'profile')
                      if getattr(parsed_args, key)]
            if not stems:
                raise exceptions.CommandError(
                    'Name what to unset: --pin, --node, --emulator, '
                    '--iothread, --sched, --qos, --cache, --profile or '
                    '--all.')
        return self._carry_out(server, before, metadata_mod.unset(
            server.metadata, stems), parsed_args)


class ShowServer(command.ShowOne):
    """Show what a server is to have, what it owns and its last live change.

    'intended' is the flavor's template with the metadata that the flavor
    grants. 'profile' is the profile that is active. 'not_obeyed' says which
    metadata have no effect, and why. 'owned' is what Nova has given the
    server; only an admin sees it.

    For an admin the host looks at the server first, and brings it to what is
    intended if [kongming] live_changes is 'act'. 'actual' is what it found.
    It is not known (-, null in JSON) for other users, and if the server does
    not run or the host could not look.

    If the flavor has conditions on load or kongming:balance, an admin also
    sees 'load': what the host has measured, and what that calls for.

    Examples::

        openstack kongming server show du-1
        openstack kongming server show du-1 -f json
    """

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument('server', metavar='<server>',
                            help='Server (name or ID) to show.')
        return parser

    def take_action(self, parsed_args):
        server = running.Server.find(self.app.client_manager.kongming,
                                     parsed_args.server)
        names, values = row(server, server.look())
        if not advise.goes_by_load(server.specs):
            return names, values
        found = dict(zip(names, values))
        load = servers.load(server.conn, server.id)
        if load is not None and load['mode'] == 'act':
            found['profile'] = load['profile']
        found['load'] = advise.LoadColumn(load)
        return tuple(found), tuple(found.values())
