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

"""``openstack kongming template ...``: templates on flavors."""

import argparse
import sys

from cliff import columns as cliff_columns
from osc_lib import exceptions

from kongming.cli import columns
from kongming import demand
from kongming import document
from kongming import fit
from kongming import flavor as flavor_mod
from kongming import guest
from kongming import lint
from kongming import template
from osc_plugin import cloud
from osc_plugin import command
from osc_plugin import progress
from osc_plugin import propagate


class SpecsColumn(cliff_columns.FormattableColumn):
    """Extra specs, a line each for people, a mapping for programs."""

    def human_readable(self):
        return '\n'.join(f'{key} = {value}'
                         for key, value in sorted(self._value.items()))

    def machine_readable(self):
        return dict(sorted(self._value.items()))


COLUMNS = ('flavor', 'vcpus', 'ram', 'template', 'placement')


def cell_value(text):
    """``CELL=VALUE`` of an option."""
    cell, sep, value = text.partition('=')
    if not sep or not cell.isdecimal():
        raise argparse.ArgumentTypeError(
            f"'{text}' is not CELL=VALUE, such as 0=1")
    return cell, value


def read(path):
    if path == '-':
        return sys.stdin.read()
    try:
        with open(path, encoding='utf-8') as source:
            return source.read()
    except OSError as exc:
        raise exceptions.CommandError(f'{path}: {exc.strerror}') from exc
    except UnicodeDecodeError as exc:
        raise exceptions.CommandError(
            f'{path}: this is no text in UTF-8 ({exc.reason})') from exc


def described(file, options):
    """The template of a document and of options, which take precedence.

    :param file: name of the document, '-', or None
    :param options: flat keys, with their prefix
    :raises kongming.exception.InvalidTemplate: with every problem found
    """
    specs = {}
    if file:
        specs = template.encode(document.parse(read(file)), most=None)
    return template.decode({**specs, **options})


def add_wish(parser):
    """Options that say a template, and how to go about it."""
    parser.add_argument(
        '--node', metavar='<cell>=<node>', type=cell_value, default=[],
        action='append',
        help='Host NUMA node of a guest NUMA cell (repeatable).')
    parser.add_argument(
        '--pin', metavar='<cell>=<map>', type=cell_value, default=[],
        action='append',
        help="Pins of a cell's vCPUs, vCPU:pCPU separated by blanks, "
             "such as \"0=0:5 1:7\" (repeatable). A pCPU is an id or "
             "n<node>c<core>t<thread>; ranges pair up (0-3:4-7).")
    parser.add_argument(
        '--no-check', action='store_true',
        help='Write it though no published host could ever take it.')
    parser.add_argument(
        '--dry-run', action='store_true',
        help='Check it and say what would be written; change nothing.')


def wished(parsed_args):
    """The template that the arguments describe."""
    wish = described(parsed_args.file, {
        f'{template.PREFIX}{key}.{cell}': value for key in ('node', 'pin')
        for cell, value in getattr(parsed_args, key)})
    # Told here what Nova can't keep.
    template.encode(wish)
    if not wish:
        raise exceptions.CommandError(
            'The template is empty: name a file, --node or --pin.')
    return wish


def demanded(found, wish):
    """What a flavor would ask of a host with this template."""
    return demand.Demand(guest.from_flavor(
        found.vcpus, found.ram, found.extra_specs), wish)


def check(conn, name, wanted, hosts=True):
    """Check what a flavor is to have.

    :param hosts: whether some host has to be able to take it
    :returns: warnings
    :raises CommandError: with all that is wrong
    """
    problems = list(demand.check_guest(wanted.guest, wanted.template))
    if problems:
        raise exceptions.CommandError('\n'.join(
            f"flavor '{name}': {problem}" for problem in problems))
    published = cloud.hosts(conn) if hosts else []
    if hosts:
        _check_hosts(published, wanted)
    return lint.lint(wanted, published[0].state if published else None)


def _check_hosts(published, wanted):
    """Whether any host could take it if it were empty."""
    reasons = []
    for host in published:
        result = fit.fit(host.state.emptied(), wanted)
        if result:
            return
        reasons.append(f'{host.name}: {result}')
    if not reasons:
        raise exceptions.CommandError(
            'No host is published yet, so nothing is known of their '
            'pCPUs; --no-check writes the template all the same.')
    raise exceptions.CommandError(
        'No host could ever take this:\n' + '\n'.join(reasons))


def row(found):
    """A flavor as ``show`` and ``list`` tell it."""
    specs = found.extra_specs
    return (found.name, found.vcpus, found.ram,
            SpecsColumn({
                key: specs[key] for key in specs
                if key.startswith(template.PREFIX)}),
            SpecsColumn({
                key: specs[key] for key in specs
                if flavor_mod.is_group_key(key)
                or key == flavor_mod.GROUP_POLICY}))


class SetTemplate(command.ShowOne):
    """Put a template on a flavor, in place of the one that it has.

    The template comes from a document (YAML or JSON), from options, or from
    both, options taking precedence. It is checked against the flavor and
    against the hosts before anything is written.

    .. code-block:: yaml

        version: 1
        cells:
          0:
            node: 1
            pin: "0:5 1:7"

    Examples::

        openstack kongming template set --flavor nfv.l du.yaml
        openstack kongming template set --flavor nfv.l --node 0=1 \\
            --pin "0=0:5 1:7"
        openstack kongming template set --flavor nfv.l --propagate \\
            --dry-run du.yaml
    """

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument(
            'file', metavar='<file>', nargs='?',
            help='Document that holds the template; - is standard input.')
        parser.add_argument(
            '--flavor', metavar='<flavor>', required=True,
            help='Flavor (name or ID) to put the template on.')
        add_wish(parser)
        parser.add_argument(
            '--propagate', action='store_true',
            help='Bring running servers that were booted with the flavor '
                 'there, too, one after the other, as far as the flavor '
                 'that they were booted with grants it. Ends at the first '
                 'that fails; the same command goes on from there.')
        command.add_timeout(parser, 120, 'How long to wait for a server')
        return parser

    def take_action(self, parsed_args):
        conn = self.app.client_manager.kongming
        wish = wished(parsed_args)
        found = cloud.flavor(conn, parsed_args.flavor)
        wanted = demanded(found, wish)
        for warning in check(conn, found.name, wanted,
                             not parsed_args.no_check):
            self.app.stderr.write(f'warning: {warning}\n')
        changes = flavor_mod.changes(found.extra_specs, wish, wanted.guest)
        propagation, planned = None, []
        if parsed_args.propagate:
            propagation = propagate.Propagation(conn, found.name, wish)
            planned = propagation.plan()
        if parsed_args.dry_run:
            return ('flavor', 'written', 'removed', 'servers'), (
                found.name, SpecsColumn(changes.put),
                columns.Lines(changes.remove),
                columns.Lines([server.name for server, _ in planned]))
        cloud.write_specs(conn, found.id, changes)
        if propagation:
            with progress.Progress(self.app.stderr, len(planned)) as shown:
                propagation.run(planned, parsed_args.timeout, shown.step)
        return COLUMNS, row(cloud.flavor(conn, found.id))


class UnsetTemplate(command.Command):
    """Take the template off a flavor.

    Extra specs that KongMing did not write stay as they are. Servers keep
    the template that they were booted with.

    Example::

        openstack kongming template unset --flavor nfv.l
    """

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument(
            '--flavor', metavar='<flavor>', required=True,
            help='Flavor (name or ID) to take the template off.')
        return parser

    def take_action(self, parsed_args):
        conn = self.app.client_manager.kongming
        found = cloud.flavor(conn, parsed_args.flavor)
        cloud.write_specs(conn, found.id, flavor_mod.changes(
            found.extra_specs, None, None))


class ShowTemplate(command.ShowOne):
    """Show a flavor's template and what it asks Placement for.

    Examples::

        openstack kongming template show nfv.l
        openstack kongming template show nfv.l -f json
    """

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument('flavor', metavar='<flavor>',
                            help='Flavor (name or ID) to show.')
        return parser

    def take_action(self, parsed_args):
        found = cloud.template_flavor(self.app.client_manager.kongming,
                                      parsed_args.flavor)
        return COLUMNS, row(found)


class ListTemplate(command.Lister):
    """List the flavors that have a template.

    Examples::

        openstack kongming template list
        openstack kongming template list --profile night --long
    """

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument(
            '--long', action='store_true',
            help='Show what each asks Placement for, too.')
        parser.add_argument('--profile', metavar='<name>',
                            help='Only those with a profile of this name.')
        return parser

    def take_action(self, parsed_args):
        conn = self.app.client_manager.kongming
        columns = COLUMNS if parsed_args.long else COLUMNS[:-1]
        rows = [row(found)[:len(columns)]
                for found in conn.compute.flavors(
                    get_extra_specs=True, is_public=None)
                if template.has_template(found.extra_specs)
                and (parsed_args.profile is None
                     or _has_profile(found, parsed_args.profile))]
        return columns, sorted(rows, key=lambda row: row[0])


def _has_profile(found, name):
    return any(key.startswith(f'{template.PREFIX}profile.{name}.')
               for key in found.extra_specs)
