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

"""``openstack kongming template create|delete``: flavors with a template."""

import types

from openstack import exceptions as sdk_exc
from osc_lib.cli import parseractions
from osc_lib import exceptions

from kongming.deployment import deployment
from kongming.placement import flavor as flavor_mod
from kongming.template import template
from osc_plugin import cloud
from osc_plugin import command
from osc_plugin.template import template as template_cmd
from osc_plugin import template_options


class CreateTemplate(command.ShowOne):
    """Create a flavor that has a template.

    The template comes from a document, from options, or from both, and is
    checked before the flavor is made, as for 'template set'. Servers of a
    flavor that names pCPUs take these pCPUs. With --private only the projects
    that 'openstack flavor set --project' names may use it.

    Examples::

        openstack kongming template create --vcpus 4 --ram 8192 \\
            --property hw:cpu_policy=dedicated nfv.l du.yaml
        openstack kongming template create --vcpus 2 --ram 2048 --private \\
            --property hw:cpu_policy=dedicated --pin "0=0:5 1:7" nfv.s
    """

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument('flavor', metavar='<flavor>',
                            help='Name of the new flavor.')
        parser.add_argument(
            'file', metavar='<file>', nargs='?',
            help='Document that holds the template; - is standard input.')
        parser.add_argument('--vcpus', metavar='<number>', type=int,
                            required=True, help='Number of vCPUs.')
        parser.add_argument('--ram', metavar='<MiB>', type=int,
                            required=True, help='Memory in MiB.')
        parser.add_argument('--disk', metavar='<GiB>', type=int, default=0,
                            help='Root disk in GiB (default: 0, as large as '
                                 'the image).')
        parser.add_argument('--id', metavar='<id>',
                            help='ID of the flavor (default: a new UUID).')
        parser.add_argument(
            '--property', metavar='<key>=<value>', default={},
            action=parseractions.KeyValueAction,
            help="Nova's own extra specs, such as hw:cpu_policy=dedicated "
                 "(repeatable).")
        parser.add_argument('--private', action='store_true',
                            help='Not for all projects.')
        template_options.add_template_options(parser)
        return parser

    def take_action(self, parsed_args):
        conn = self.app.client_manager.kongming
        name, specs = parsed_args.flavor, parsed_args.property
        if any(key.startswith(template.PREFIX) for key in specs):
            raise exceptions.CommandError(
                'What --property says of kongming: belongs into the '
                'document, or use --node and --pin.')
        desired = template_options.template_of_options(parsed_args)
        wanted = template_options.demanded(types.SimpleNamespace(
            vcpus=parsed_args.vcpus, ram=parsed_args.ram,
            extra_specs=specs), desired)
        for warning in template_cmd.check(conn, name, wanted,
                                          not parsed_args.no_check,
                                          self.app.stderr):
            self.app.stderr.write(f'warning: {warning}\n')
        written = {**specs, **flavor_mod.changes(specs, desired).put}
        if parsed_args.dry_run:
            return ('flavor', 'written'), (
                name, template_options.SpecsColumn(written))
        made = self._make(conn, parsed_args)
        try:
            cloud.write_specs(conn, made.id,
                              flavor_mod.Changes(written, ()))
        except exceptions.CommandError:
            # One without its template would be taken for another kind.
            conn.compute.delete_flavor(made.id)
            raise
        return template_cmd.COLUMNS, template_cmd.row(
            cloud.flavor(conn, made.id))

    @staticmethod
    def _make(conn, parsed_args):
        try:
            return conn.compute.create_flavor(
                name=parsed_args.flavor, vcpus=parsed_args.vcpus,
                ram=parsed_args.ram, disk=parsed_args.disk,
                is_public=not parsed_args.private,
                **({'id': parsed_args.id} if parsed_args.id else {}))
        except sdk_exc.ForbiddenException as exc:
            raise exceptions.CommandError(
                'Nova refused: making a flavor needs the admin role.'
            ) from exc
        except sdk_exc.HttpException as exc:
            raise exceptions.CommandError(
                f'Nova refused the flavor: {exc.details or exc}') from exc


class DeleteTemplate(command.Command):
    """Delete flavors that have a template.

    Servers that were booted from one run on and keep their template. A
    flavor without a template is not deleted, nor one of a deployment.
    'template unset' takes the template away and keeps the flavor.

    Examples::

        openstack kongming template delete nfv.l
        openstack kongming template delete nfv.l nfv.s
    """

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument('flavor', metavar='<flavor>', nargs='+',
                            help='Flavors (names or IDs) to delete.')
        return parser

    def take_action(self, parsed_args):
        conn = self.app.client_manager.kongming
        # All are known before the first goes.
        found = [cloud.template_flavor(conn, name)
                 for name in dict.fromkeys(parsed_args.flavor)]
        for flavor in found:
            whose = flavor.extra_specs.get(deployment.MARK)
            if whose is not None:
                raise exceptions.CommandError(
                    f"Flavor '{flavor.name}' is of the deployment '{whose}'; "
                    f"'openstack kongming deployment delete' deletes all of "
                    f"it.")
        for flavor in found:
            try:
                conn.compute.delete_flavor(flavor.id)
            except sdk_exc.ForbiddenException as exc:
                raise exceptions.CommandError(
                    'Nova refused: deleting a flavor needs the admin role.'
                ) from exc
            except sdk_exc.HttpException as exc:
                raise exceptions.CommandError(
                    f"Nova refused to delete '{flavor.name}': "
                    f'{exc.details or exc}') from exc
