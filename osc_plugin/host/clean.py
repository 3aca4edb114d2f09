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
"""``openstack kongming host clean``: what no host needs any more."""

from osc_lib import exceptions

from kongming.cli import columns
from kongming.compute import servers
from kongming import exception
from kongming.placement import flavor as flavor_mod
from kongming.publish import client as placement_mod
from kongming.publish import leftovers
from osc_plugin import cloud
from osc_plugin import command
from osc_plugin import progress

_COLUMNS = ('kind', 'name', 'reason', 'done', 'servers')


class CleanHost(command.Lister):
    """Delete what KongMing has left in Placement and on flavors.

    When a compute service is deleted, Nova does not delete the node
    providers of its host. This command deletes them, with the allocations
    that servers still have there. Allocations elsewhere stay, and so do the
    node providers of hosts that exist.

    Builds before the first release kept the node providers in the tree of
    the compute node. These are deleted, or made roots if servers have them
    allocated. The keys of such builds on flavors (resources_KM0:...,
    trait_KM0:...) are removed. Update each nova-compute first: an old one
    creates its node providers again.

    The command can be repeated. It ends with status 1 if something was
    refused, and does the rest all the same.

    Examples::

        openstack kongming host clean --dry-run
        openstack kongming host clean
        openstack kongming host clean -f json
    """

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument('--dry-run', action='store_true',
                            help='Show what would be cleared, and change '
                                 'nothing.')
        return parser

    def run(self, parsed_args):
        super().run(parsed_args)
        return 1 if self._refused else 0

    def take_action(self, parsed_args):
        conn = self.app.client_manager.kongming
        self._refused = False
        placement = placement_mod.Placement.of(conn)
        found = leftovers.find(placement.providers())
        flavors = [(flavor, changes) for flavor in conn.compute.flavors(
            get_extra_specs=True, is_public=None)
            if (changes := flavor_mod.without_outdated(flavor.extra_specs))]
        total = len(flavors) + len(found)
        rows = []
        with progress.Progress(self.app.stderr, total) as shown:
            # Of new hosts they ask for what none has in its tree.
            for number, (flavor, changes) in enumerate(flavors, 1):
                shown.step(f'[{number}/{total}] flavor {flavor.name}')
                rows.append(('flavor', flavor.name,
                             'an older build has written its keys',
                             *self._flavor(conn, flavor, changes,
                                           parsed_args.dry_run)))
            for number, left in enumerate(found, len(flavors) + 1):
                shown.step(f'[{number}/{total}] provider {left.name}')
                rows.append(('provider', left.name, left.why,
                             *self._provider(conn, placement, left,
                                             parsed_args.dry_run)))
        return _COLUMNS, rows

    def _flavor(self, conn, flavor, changes, dry_run):
        try:
            if not dry_run:
                cloud.write_specs(conn, flavor.id, changes)
        except exceptions.CommandError as exc:
            return self._refuse(exc)
        return f'{len(changes.remove)} key(s) removed', columns.Lines([])

    def _provider(self, conn, placement, left, dry_run):
        try:
            done, consumers = leftovers.clear(placement, left, dry_run)
        except exception.Forbidden:
            raise
        except exception.CloudError as exc:
            return self._refuse(exc)
        return done, columns.Lines(
            [servers.name_of(conn, consumer) for consumer in consumers])

    def _refuse(self, exc):
        self._refused = True
        return f'refused: {exc}', columns.Lines([])
