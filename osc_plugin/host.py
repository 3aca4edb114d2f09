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

import shutil

from cliff import columns as cliff_columns

from kongming import draw
from kongming import topology
from osc_plugin import cloud
from osc_plugin import command


class MapColumn(cliff_columns.FormattableColumn):
    """A drawing for people, nodes and pCPUs for programs."""

    def human_readable(self):
        # The table around it takes a column, borders and blanks.
        return draw.host(self._value,
                         shutil.get_terminal_size().columns - 24)

    def machine_readable(self):
        return [{
            'node': node.id,
            'cores': [list(core) for core in node.cores()],
            'dedicated': sorted(node.dedicated),
            'shared': sorted(node.shared),
            'taken': sorted(node.taken),
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

    Example::

        openstack kongming host list
    """

    def take_action(self, parsed_args):
        conn = self.app.client_manager.kongming
        return (('host', 'nodes', 'dedicated', 'free', 'shared'),
                [(host.name, *_sums(host.state))
                 for host in cloud.hosts(conn)])


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
        host, = cloud.hosts(self.app.client_manager.kongming,
                            parsed_args.host)
        nodes, dedicated, free, shared = _sums(host.state)
        shared_ids = topology.format_cpu_list(
            p for node in host.state.nodes for p in node.shared)
        dedicated_ids = topology.format_cpu_list(
            p for node in host.state.nodes for p in node.dedicated)
        return (('host', 'uuid', 'nodes', 'dedicated', 'free', 'shared',
                 'dedicated_set', 'shared_set', 'map'),
                (host.name, host.uuid, nodes, dedicated, free, shared,
                 dedicated_ids, shared_ids, MapColumn(host.state)))
