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

"""``openstack kongming host show|map``: a host, drawn."""

import json
import os
import shutil
import sys

from cliff import columns as cliff_columns
from osc_lib import exceptions

from kongming.host import topology
from osc_plugin import cloud
from osc_plugin import command
from osc_plugin.host import host as host_cmd
from osc_plugin import progress


class MapColumn(cliff_columns.FormattableColumn):
    """A drawing for people, nodes and pCPUs for programs."""

    def human_readable(self):
        from kongming.render import terminal
        from kongming.render import text
        # The table around it takes a column, borders and blanks.
        return terminal.for_encoding(text.host(
            self._value, shutil.get_terminal_size().columns - 24),
            sys.stdout.encoding)

    def machine_readable(self):
        return [{
            'node': node.id,
            'cores': [list(core) for core in node.cores()],
            'dedicated': sorted(node.dedicated),
            'shared': sorted(node.shared),
            'taken': sorted(node.taken),
            'offline': sorted(node.offline()),
            'without_power': sorted(node.unpowered),
            'floating': node.shared_used,
            'owners': {str(pcpu): node.owners[pcpu]
                       for pcpu in sorted(node.taken)
                       if pcpu in node.owners},
            'memory_mib': node.memory_mib,
            'memory_free_mib': node.memory_mib - node.memory_used_mib,
            'pages': [{'size_kib': pages.size_kib, 'total': pages.total,
                       'free': pages.free} for pages in node.pages],
        } for node in self._value.nodes]


class ShowHost(command.ShowOne):
    """Show a host: its nodes, cores and pCPUs, and who owns them.

    Examples::

        openstack kongming host show compute1
        openstack kongming host show compute1 -f json
    """

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument('host', metavar='<host>',
                            help='Host (name of its compute node) to show.')
        return parser

    def take_action(self, parsed_args):
        conn = self.app.client_manager.kongming
        host, = cloud.hosts(conn, parsed_args.host)
        nodes, dedicated, free, shared = host_cmd.sums(host.state)
        shared_ids = topology.format_cpu_list(
            p for node in host.state.nodes for p in node.shared)
        dedicated_ids = topology.format_cpu_list(
            p for node in host.state.nodes for p in node.dedicated)
        return (('host', 'uuid', 'obeys', 'nodes', 'dedicated', 'free',
                 'shared', 'dedicated_set', 'shared_set', 'map'),
                (host.name, host.uuid, host.obeys, nodes, dedicated, free,
                 shared, dedicated_ids, shared_ids, MapColumn(
                     cloud.drawn(conn, host))))


class MapHost(command.Command):
    """Draw who owns the pCPUs of a host, or of all hosts.

    In the terminal each core is a box, and each pCPU a line of it with the
    letter of its owner. A wide host has a column for each core, without
    boxes. pCPUs without power are named beside their node, and marked - if
    they are free. A terminal gets colours, unless NO_COLOR is set.

    With --all each host is a line: how many of its dedicated pCPUs servers
    own, how many are free, and how many of the free ones are stranded, since
    another thread of their core is owned or their node has no memory left.
    Of many hosts the first lines say how many are how full. Drift, conflicts
    and leftovers are marked. A terminal gets a page at a time, by $PAGER
    (PAGER=cat: all at once).

    HTML is one file that needs no network. It has all hosts, the cores of
    each, the cells of its servers, and a search. --history adds a slider
    over the live changes of all servers with a template, and takes a request
    for each of them.

    The first time takes long in a large cloud, as Nova is asked for the
    cells of each server. The answers are kept for the next time.

    Examples::

        openstack kongming host map compute1
        openstack kongming host map compute1 --style rows --width 120
        openstack kongming host map compute1 --color always | less -R
        openstack kongming host map compute1 --format svg > compute1.svg
        openstack kongming host map compute1 --format json
        openstack kongming host map --all
        openstack kongming host map --all --format html > cloud.html
        openstack kongming host map --all --history --format html > cloud.html
    """

    def get_parser(self, prog_name):
        from kongming.render import text
        parser = super().get_parser(prog_name)
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument('host', metavar='<host>', nargs='?',
                           help='Host (name of its compute node) to draw.')
        which.add_argument('--all', action='store_true',
                           help='Draw all hosts, with their servers (admin '
                                'only).')
        parser.add_argument('-f', '--format', default='text',
                            choices=('text', 'svg', 'html', 'json'),
                            help='What to write (default: text); svg is of '
                                 'one host, html of all.')
        parser.add_argument('--history', action='store_true',
                            help='With --all: read the live changes of the '
                                 'servers, too; for html and json.')
        parser.add_argument('--color', default='auto',
                            choices=('auto', 'always', 'never'),
                            help='Colours in text (default: auto, in a '
                                 'terminal).')
        parser.add_argument('--style', default=text.AUTO,
                            choices=text.STYLES,
                            help='A box a core, or rows for wide hosts '
                                 '(default: auto, whichever is read more '
                                 'easily).')
        parser.add_argument('--width', metavar='<columns>', type=int,
                            help="Columns of text (default: the "
                                 "terminal's).")
        return parser

    def take_action(self, parsed_args):
        from kongming.render import svg
        from kongming.render import text
        self._check(parsed_args)
        conn = self.app.client_manager.kongming
        coloured = parsed_args.color == 'always' or (
            parsed_args.color == 'auto' and self.app.stdout.isatty()
            and not os.environ.get('NO_COLOR'))
        if parsed_args.all:
            self._write(self._all(conn, parsed_args, coloured),
                        parsed_args.format == 'text')
            return
        host, = cloud.hosts(conn, parsed_args.host)
        state = cloud.drawn(conn, host)
        if parsed_args.format == 'svg':
            drawn = svg.svg(host.name, state)
        elif parsed_args.format == 'json':
            drawn = json.dumps({'host': host.name, 'uuid': host.uuid,
                                'map': MapColumn(state).machine_readable()},
                               indent=2)
        else:
            drawn = text.host(
                state, parsed_args.width
                or shutil.get_terminal_size().columns,
                coloured, parsed_args.style)
        self._write(drawn)

    def _check(self, parsed_args):
        """What does not go together."""
        one, other = ('--all', '<host>') if parsed_args.all else (
            '<host>', '--all')
        if parsed_args.format == ('svg' if parsed_args.all else 'html'):
            raise exceptions.CommandError(
                f'--format {parsed_args.format} goes with {other}, not with '
                f'{one}.')
        if parsed_args.history and (
                not parsed_args.all or parsed_args.format == 'text'):
            raise exceptions.CommandError(
                '--history goes with --all and --format html or json.')

    def _all(self, conn, parsed_args, coloured):
        from kongming.render import overview
        from osc_plugin.host import survey
        with progress.Waiting(self.app.stderr, 'reading hosts') as waiting:
            found = survey.survey(conn, parsed_args.history, waiting.say)
        if parsed_args.format == 'html':
            from kongming.render import page
            return page.page(found)
        if parsed_args.format == 'json':
            return json.dumps(overview.to_json(found), indent=2)
        return overview.overview(
            found, parsed_args.width or shutil.get_terminal_size().columns,
            coloured)

    def _write(self, drawn, page=False):
        """:param page: whether a terminal shows it a page at a time"""
        from kongming.render import terminal
        drawn = terminal.for_encoding(drawn, self.app.stdout.encoding) + '\n'
        if not page:
            self.app.stdout.write(drawn)
            return
        # Of cliff's; it does nothing where there is no terminal.
        import autopage.command
        with autopage.AutoPager(
                self.app.stdout,
                pager_command=autopage.command.DefaultPager()) as out:
            out.write(drawn)
