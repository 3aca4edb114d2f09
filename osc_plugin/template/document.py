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
from kongming.template import guest
from kongming.template import template
from kongming.vnfd import sol001
from osc_plugin import cloud
from osc_plugin import command
from osc_plugin.template import template as template_cmd
from osc_plugin import template_options


class ValidateTemplate(command.Command):
    """Check a document by itself, without a cloud.

    It lists all errors with place, value and what would be right, and then
    ends with status 1. 'template set --dry-run' also checks a document against
    a flavor and the hosts.

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

    'sol001' is the virtual_cpu of a VNF descriptor (ETSI NFV-SOL 001). It has
    the pins only.

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
    """Write pinning, threads and NUMA of a VNF descriptor to a flavor.

    It reads TOSCA (ETSI NFV-SOL 001), OSM's descriptors (virtual-compute-desc
    and guest-epa), and what ONAP says of the hardware platform, in TOSCA or
    in its policies. Policies, NUMA cells and page sizes become extra specs of
    Nova, such as hw:cpu_policy. In TOSCA virtual_cpu_pinning_policy is
    'static', and virtual_cpu_pinning_rule is a list of texts: entries of a
    pin map, such as "0:4 1:36". For another guest NUMA cell than the first,
    its number and "=" stand before them: "1=2:8 3:9" is about cell 1.

    It replaces the flavor's pins, and those extra specs that the descriptor
    has; the rest of the flavor stays. A warning names each value that has no
    counterpart in Nova or in a template.

    Examples::

        openstack kongming template import --flavor nfv.l vnfd.yaml
        openstack kongming template import --flavor nfv.l --vdu du vnfd.yaml
    """

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument('file', metavar='<file>',
                            help='Descriptor (YAML or JSON); - is standard '
                                 'input.')
        parser.add_argument('--flavor', metavar='<flavor>', required=True,
                            help='Flavor (name or ID) to write it to.')
        parser.add_argument('--vdu', metavar='<name>',
                            help='VDU to take it from, if several say '
                                 'something.')
        return parser

    def take_action(self, parsed_args):
        conn = self.app.client_manager.kongming
        said = sol001.read(template_options.read(parsed_args.file),
                           parsed_args.vdu)
        found = cloud.flavor(conn, parsed_args.flavor)
        self._warn(said, found)
        specs = {**{key: value for key, value in found.extra_specs.items()
                    if not key.startswith(f'{template.PREFIX}pin.')},
                 **said.specs}
        desired = template.decode({**specs, **said.keys})
        asking = demand.Demand(guest.from_flavor(
            found.vcpus, found.ram, specs), desired).guest
        problems = list(demand.check_guest(asking, desired))
        if problems:
            raise exceptions.CommandError('\n'.join(
                f"flavor '{found.name}': {problem}" for problem in problems))
        # A flavor without a template stays one.
        ours = flavor_mod.changes(found.extra_specs, desired or None)
        cloud.write_specs(conn, found.id, flavor_mod.Changes(
            {**said.specs, **ours.put}, ours.remove))
        return template_cmd.COLUMNS, template_cmd.row(
            cloud.flavor(conn, found.id))

    def _warn(self, said, found):
        for problem in said.lost:
            self.app.stderr.write(f'warning: {problem}\n')
        for what, wanted, there in (('vCPUs', said.vcpus, found.vcpus),
                                    ('MiB of RAM', said.ram_mib, found.ram)):
            if wanted not in (None, there):
                self.app.stderr.write(
                    f"warning: the descriptor asks for {wanted} {what}, "
                    f"flavor '{found.name}' has {there}\n")
