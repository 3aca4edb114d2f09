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

"""``openstack kongming template validate|export|import``: documents."""

import json

from osc_lib import exceptions
import yaml

from kongming.fit import demand
from kongming.placement import flavor as flavor_mod
from kongming.template import document
from kongming.template import sol001
from kongming.template import template
from osc_plugin import cloud
from osc_plugin import command
from osc_plugin.template import template as template_cmd
from osc_plugin import template_options


class ValidateTemplate(command.Command):
    """Check a document by itself, without a cloud.

    All that is wrong is listed at once, by place and value, with what would be
    right; then this ends with status 1. 'template set --dry-run' checks it
    against a flavor and the hosts as well.

    Examples::

        openstack kongming template validate du.yaml
        generate-template | openstack kongming template validate -
    """

    auth_required = False

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument(
            'file', metavar='<file>',
            help='Document (YAML or JSON); - is standard input.')
        return parser

    def take_action(self, parsed_args):
        # What Nova can't store is an error, too.
        template.encode(template_options.described(parsed_args.file, {}))


class ExportTemplate(command.Command):
    """Write a flavor's template as a document.

    'sol001' is the virtual_cpu of a VNF descriptor (ETSI NFV-SOL 001), which
    has a place for pins only.

    Examples::

        openstack kongming template export nfv.l > du.yaml
        openstack kongming template export --format json nfv.l
        openstack kongming template export --format sol001 nfv.l
    """

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument('flavor', metavar='<flavor>',
                            help='Flavor (name or ID) to export from.')
        parser.add_argument('-f', '--format', default='yaml',
                            choices=('yaml', 'json', 'sol001'),
                            help='What to write (default: yaml).')
        return parser

    def take_action(self, parsed_args):
        found = cloud.template_flavor(self.app.client_manager.kongming,
                                      parsed_args.flavor)
        desired = template.decode(found.extra_specs)
        if parsed_args.format == 'sol001':
            content = sol001.dump(desired)
            lost = template.encode(
                desired, most=None).keys() - template.encode(
                    template.Template(pins=desired.pins), most=None).keys()
            if lost:
                self.app.stderr.write(
                    f'warning: SOL 001 has no place for '
                    f'{", ".join(sorted(lost))}\n')
        else:
            content = document.to_document(desired)
        if parsed_args.format == 'json':
            self.app.stdout.write(json.dumps(content, indent=2) + '\n')
        else:
            self.app.stdout.write(yaml.safe_dump(content, sort_keys=False))


class ImportTemplate(command.ShowOne):
    """Put the pins of a VNF descriptor (ETSI NFV-SOL 001) on a flavor.

    Of a node template its virtual_cpu_pinning is taken: with 'static' each
    virtual_cpu_pinning_rule holds entries of a pin map, such as "0:4 1:36",
    for another NUMA cell than the first "1=2:8 3:9". It replaces the pins
    that the flavor has; the rest of the flavor's template stays.

    Examples::

        openstack kongming template import --flavor nfv.l vnfd.yaml
        openstack kongming template import --flavor nfv.l --vdu du vnfd.yaml
    """

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument('file', metavar='<file>',
                            help='Descriptor (YAML); - is standard input.')
        parser.add_argument('--flavor', metavar='<flavor>', required=True,
                            help='Flavor (name or ID) to put it on.')
        parser.add_argument('--vdu', metavar='<name>',
                            help='Node template to take it from, where '
                                 'several have pins.')
        return parser

    def take_action(self, parsed_args):
        conn = self.app.client_manager.kongming
        pins = sol001.parse(template_options.read(parsed_args.file),
                            parsed_args.vdu).pins
        found = cloud.flavor(conn, parsed_args.flavor)
        template_specs = {
            key: value for key, value in found.extra_specs.items()
            if not key.startswith(f'{template.PREFIX}pin.')}
        desired = template.decode({
            **template_specs, **template.encode(template.Template(pins=pins))})
        asking = template_options.demanded(found, desired).guest
        problems = list(demand.check_guest(asking, desired))
        if problems:
            raise exceptions.CommandError('\n'.join(
                f"flavor '{found.name}': {problem}" for problem in problems))
        cloud.write_specs(conn, found.id, flavor_mod.changes(
            found.extra_specs, desired))
        return template_cmd.COLUMNS, template_cmd.row(
            cloud.flavor(conn, found.id))
