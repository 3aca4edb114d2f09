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

"""``openstack kongming host list``: hosts as Placement shows them."""

from osc_plugin import cloud
from osc_plugin import command
from osc_plugin import progress


def sums(state):
    """nodes, dedicated pCPUs, free ones of them, shared pCPUs."""
    return (len(state.nodes),
            sum(len(node.dedicated) for node in state.nodes),
            sum(len(node.dedicated - node.taken) for node in state.nodes),
            sum(len(node.shared) for node in state.nodes))


class ListHost(command.Lister):
    """List the hosts that KongMing is published for.

    'free' counts dedicated pCPUs. --long adds columns, which take long for
    many hosts: 'floating' counts the vCPUs that float over shared pCPUs.
    'obeys' says whether nova-compute obeys templates. 'live' says whether it
    changes running servers: act, observe or off ([kongming] live_changes),
    or unseen, where it does not see their threads.

    A warning names node providers that no host has: their host was deleted,
    or an older build made them. --leftovers lists them, and 'openstack
    kongming host clean' deletes them.

    Examples::

        openstack kongming host list
        openstack kongming host list --free 16 --long
        openstack kongming host list --leftovers
    """

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument('--long', action='store_true',
                            help='Show more columns.')
        parser.add_argument('--free', metavar='<number>', type=int, default=0,
                            help='Only hosts with a node that has so many '
                                 'free pCPUs.')
        parser.add_argument('--obeying', action='store_true',
                            help='Only hosts that obey templates.')
        parser.add_argument('--leftovers', action='store_true',
                            help='List node providers that no host has, '
                                 'with the reason, instead of hosts.')
        return parser

    def take_action(self, parsed_args):
        conn = self.app.client_manager.kongming
        if parsed_args.leftovers:
            return ('provider', 'uuid', 'reason'), [
                (left.name, left.uuid, left.why)
                for left in cloud.leftover_nodes(conn)]
        with progress.Waiting(self.app.stderr, 'reading hosts'):
            hosts, left = cloud.hosts_and_leftovers(conn, parsed_args.long)
        if left:
            self.app.stderr.write(
                f"warning: {len(left)} node provider(s) in Placement are no "
                f"host's; 'openstack kongming host list --leftovers' shows "
                f"them, and 'openstack kongming host clean' clears them\n")
        names = _COLUMNS if parsed_args.long else _COLUMNS[:5]
        modes = cloud.live_changes(conn) if parsed_args.long else {}
        return names, [
            _row(host, modes)[:len(names)] for host in hosts
            if (host.obeys or not parsed_args.obeying) and any(
                node.n_free >= parsed_args.free for node in host.state.nodes)]


#: Without --long the first five.
_COLUMNS = ('host', 'nodes', 'dedicated', 'free', 'shared', 'floating',
            'memory_mib', 'memory_free_mib', 'obeys', 'live', 'uuid')


def _row(host, modes):
    nodes = host.state.nodes
    return (host.name, *sums(host.state),
            sum(node.shared_used for node in nodes),
            sum(node.memory_mib for node in nodes),
            sum(node.memory_mib - node.memory_used_mib for node in nodes),
            host.obeys,
            modes.get(host.uuid, 'act' if host.obeys else None), host.uuid)
