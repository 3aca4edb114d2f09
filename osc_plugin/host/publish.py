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

"""``openstack kongming host publish|unpublish``: a host in Placement."""

from kongming.cli import columns
from kongming.cli import publish
from kongming.cli import source
from kongming.compute import servers
from kongming.publish import client as placement_mod
from kongming.publish import manual
from osc_plugin import command


class PublishHost(command.ShowOne):
    """Publish a host's NUMA nodes and pCPUs to Placement.

    For hosts whose nova-compute does not do it by itself (compute_driver =
    kongming.LibvirtDriver does). Only what differs is written. A host that is
    published by this command only gets no servers with a template, as
    nothing there would obey it.

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
    """Delete a host's node providers in Placement.

    It refuses while a server has something of them allocated. It also takes
    KongMing's traits, such as CUSTOM_KONGMING_HOOK, off Nova's own provider
    of the host. Give nova-compute Nova's own compute_driver first:
    KongMing's creates the node providers again with its next report.

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
        done = manual.unpublish(
            placement, root['uuid'],
            lambda consumer: servers.name_of(conn, consumer),
            parsed_args.dry_run)
        unhooked = manual.unhook(placement, root['uuid'],
                                 parsed_args.dry_run)
        return (('host', 'uuid', 'deleted'),
                (root['name'], root['uuid'],
                 columns.Lines(done.written + unhooked.written)))
