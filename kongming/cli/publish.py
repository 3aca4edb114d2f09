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

"""``kongming publish``: this host in Placement."""

from cliff import show
import openstack

from kongming.cli import columns
from kongming.cli import help as help_mod
from kongming.cli import source
from kongming.compute import servers
from kongming.libvirt import hypervisor
from kongming.publish import client as placement_mod
from kongming.publish import manual


COLUMNS = ('host', 'uuid', 'written', 'in_use', 'doubts')


def publish(conn, name, host, dry_run):
    """Publish a host; returns the row of :data:`COLUMNS`."""
    placement = placement_mod.Placement.of(conn)
    root = placement.root(name)
    last = manual.Occupied()

    def occupied():
        nonlocal last
        last = servers.occupied(conn, root['uuid'], host)
        return last

    done = manual.publish(placement, name, root['uuid'], host, occupied,
                          dry_run)
    return (name, root['uuid'], columns.Lines(done.written),
            columns.Lines(done.in_use), columns.Lines(last.doubts))


class Publish(help_mod.Help, show.ShowOne):
    """Publish this host's NUMA nodes and pCPUs to Placement.

    It is for hosts whose nova-compute does not publish them (compute_driver =
    kongming.LibvirtDriver does). Run it again after a change; it writes only
    what differs. A host that is published by this command only gets no
    servers with a template, as nothing there would obey it.

    Examples::

        kongming --os-cloud admin publish
        kongming publish --dry-run -f json
        kongming publish --config-file /etc/nova/nova-cpu.conf
    """

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        source.add_arguments(parser, hypervisor.URI)
        parser.add_argument(
            '--name', metavar='<host>',
            help="The compute node's name in Placement (default: libvirt's "
                 "name of the host).")
        parser.add_argument('--dry-run', action='store_true',
                            help='Show what would be written, and write '
                                 'nothing.')
        return parser

    def take_action(self, parsed_args):
        name, host = source.read(parsed_args, source.NOVA_CONF)
        name = parsed_args.name or name
        if name is None:
            self.app.parser.error(
                '--capabilities has no name: say --name, too')
        conn = openstack.connect(cloud=self.app.options.os_cloud)
        return COLUMNS, publish(conn, name, host, parsed_args.dry_run)
