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

"""``openstack kongming host ...``: hosts as Placement shows them."""

import json
import os
import shutil

from cliff import columns as cliff_columns

from kongming.cli import columns
from kongming.cli import publish
from kongming.cli import source
from kongming.compute import servers
from kongming.host import topology
from kongming.publish import client as placement_mod
from kongming.publish import publisher
from kongming.render import svg
from kongming.render import text as text_mod
from osc_plugin import cloud
from osc_plugin import command


class MapColumn(cliff_columns.FormattableColumn):
    """A drawing for people, nodes and pCPUs for programs."""

    def human_readable(self):
        # The table around it takes a column, borders and blanks.
        return text_mod.host(self._value,
                             shutil.get_terminal_size().columns - 24)

    def machine_readable(self):
        return [{
            'node': node.id,
            'cores': [list(core) for core in node.cores()],
            'dedicated': sorted(node.dedicated),
            'shared': sorted(node.shared),
            'taken': sorted(node.taken),
            'offline': sorted(node.offline()),
            'floating': node.shared_used,
            'owners': {str(pcpu): node.owners[pcpu]
                       for pcpu in sorted(node.taken)
                       if pcpu in node.owners},
            'memory_mib': node.memory_mib,
            'memory_free_mib': node.memory_mib - node.memory_used_mib,
            'pages': [{'size_kib': pages.size_kib, 'total': pages.total,
                       'free': pages.free} for pages in node.pages],
        } for node in self._value.nodes]


def _sums(state):
    """nodes, dedicated pCPUs, free ones of them, shared pCPUs."""
    return (len(state.nodes),
            sum(len(node.dedicated) for node in state.nodes),
            sum(len(node.dedicated - node.taken) for node in state.nodes),
            sum(len(node.shared) for node in state.nodes))


class ListHost(command.Lister):
    """List the hosts that KongMing is published for.

    'free' counts dedicated pCPUs. With --long 'floating' counts the vCPUs
    that float over the shared ones, and 'obeys' says whether the host's
    nova-compute obeys templates.

    Examples::

        openstack kongming host list
        openstack kongming host list --free 16 --long
    """

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument('--long', action='store_true',
                            help='Show more columns.')
        parser.add_argument('--free', metavar='<number>', type=int, default=0,
                            help='Only hosts of which one node has so many '
                                 'free pCPUs.')
        parser.add_argument('--obeying', action='store_true',
                            help='Only hosts that obey templates.')
        return parser

    def take_action(self, parsed_args):
        conn = self.app.client_manager.kongming
        names = _COLUMNS if parsed_args.long else _COLUMNS[:5]
        return names, [
            _row(host)[:len(names)] for host in cloud.hosts(conn)
            if (host.obeys or not parsed_args.obeying) and any(
                node.n_free >= parsed_args.free for node in host.state.nodes)]


#: Without --long the first five.
_COLUMNS = ('host', 'nodes', 'dedicated', 'free', 'shared', 'floating',
            'memory_mib', 'memory_free_mib', 'obeys', 'uuid')


def _row(host):
    nodes = host.state.nodes
    return (host.name, *_sums(host.state),
            sum(node.shared_used for node in nodes),
            sum(node.memory_mib for node in nodes),
            sum(node.memory_mib - node.memory_used_mib for node in nodes),
            host.obeys, host.uuid)


class ShowHost(command.ShowOne):
    """Draw a host: its nodes, cores and pCPUs, and whose they are.

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
        nodes, dedicated, free, shared = _sums(host.state)
        shared_ids = topology.format_cpu_list(
            p for node in host.state.nodes for p in node.shared)
        dedicated_ids = topology.format_cpu_list(
            p for node in host.state.nodes for p in node.dedicated)
        return (('host', 'uuid', 'obeys', 'nodes', 'dedicated', 'free',
                 'shared', 'dedicated_set', 'shared_set', 'map'),
                (host.name, host.uuid, host.obeys, nodes, dedicated, free,
                 shared, dedicated_ids, shared_ids, MapColumn(
                     cloud.with_owners(conn, host))))


class MapHost(command.Command):
    """Draw whose a host's pCPUs are.

    In the terminal each core is a box, each pCPU a line of it with the letter
    of its owner; of a wide host each core is a column, its pCPUs one below
    the other. It is coloured in a terminal, unless NO_COLOR is set.

    Examples::

        openstack kongming host map compute1
        openstack kongming host map compute1 --style rows --width 120
        openstack kongming host map compute1 --color always | less -R
        openstack kongming host map compute1 --format svg > compute1.svg
        openstack kongming host map compute1 --format json
    """

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument('host', metavar='<host>',
                            help='Host (name of its compute node) to draw.')
        parser.add_argument('-f', '--format', default='text',
                            choices=('text', 'svg', 'json'),
                            help='What to write (default: text).')
        parser.add_argument('--color', default='auto',
                            choices=('auto', 'always', 'never'),
                            help='Colours in text (default: auto, in a '
                                 'terminal).')
        parser.add_argument('--style', default=text_mod.AUTO,
                            choices=text_mod.STYLES,
                            help='A box a core, or rows for wide hosts '
                                 '(default: auto, whichever is read more '
                                 'easily).')
        parser.add_argument('--width', metavar='<columns>', type=int,
                            help="Columns of text (default: the "
                                 "terminal's).")
        return parser

    def take_action(self, parsed_args):
        conn = self.app.client_manager.kongming
        host, = cloud.hosts(conn, parsed_args.host)
        state = cloud.with_owners(conn, host)
        if parsed_args.format == 'svg':
            text = svg.svg(host.name, state)
        elif parsed_args.format == 'json':
            text = json.dumps({'host': host.name, 'uuid': host.uuid,
                               'map': MapColumn(state).machine_readable()},
                              indent=2)
        else:
            text = text_mod.host(
                state, parsed_args.width
                or shutil.get_terminal_size().columns,
                parsed_args.color == 'always' or (
                    parsed_args.color == 'auto'
                    and self.app.stdout.isatty()
                    and not os.environ.get('NO_COLOR')),
                parsed_args.style)
        self.app.stdout.write(text + '\n')


class PublishHost(command.ShowOne):
    """Publish a host's NUMA nodes and pCPUs to Placement.

    For hosts whose nova-compute does not do it by itself (compute_driver =
    kongming.LibvirtDriver does). Only what differs is written. Servers with a
    template are not scheduled to a host that is published in this way only,
    as nothing there would obey it.

    Examples::

        ssh compute1 virsh capabilities |
            openstack kongming host publish compute1 --capabilities - \\
                --dedicated 4-31 --shared 0-3
        openstack kongming host publish compute1 --dry-run \\
            --connect qemu+ssh://compute1/system --config-file nova.conf
    """

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument('host', metavar='<host>',
                            help='Host (name of its compute node) to '
                                 'publish.')
        source.add_arguments(parser)
        parser.add_argument('--dry-run', action='store_true',
                            help='Show what would be written, and write '
                                 'nothing.')
        return parser

    def take_action(self, parsed_args):
        _name, host = source.read(parsed_args)
        return publish.COLUMNS, publish.publish(
            self.app.client_manager.kongming, parsed_args.host, host,
            parsed_args.dry_run)


class UnpublishHost(command.ShowOne):
    """Take a host's NUMA nodes out of Placement again.

    Refused while a server has anything of them allocated. Nova's own provider
    of the host stays as it is. Where nova-compute publishes the host by
    itself, turn that off first ([kongming] publish_inventory, or the native
    compute_driver), or it comes back with the next report.

    Examples::

        openstack kongming host unpublish compute1 --dry-run
        openstack kongming host unpublish compute1
    """

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument('host', metavar='<host>',
                            help='Host (name of its compute node) to take '
                                 'out.')
        parser.add_argument('--dry-run', action='store_true',
                            help='Show what would be deleted, and delete '
                                 'nothing.')
        return parser

    def take_action(self, parsed_args):
        conn = self.app.client_manager.kongming
        placement = placement_mod.Placement.of(conn)
        root = placement.root(parsed_args.host)
        done = publisher.unpublish(
            placement, root['uuid'],
            lambda consumer: servers.name_of(conn, consumer),
            parsed_args.dry_run)
        return (('host', 'uuid', 'deleted'),
                (root['name'], root['uuid'], columns.Lines(done.written)))
