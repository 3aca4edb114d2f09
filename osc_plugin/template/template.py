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

import sys

from osc_lib import exceptions

from kongming.cli import columns
from kongming.fit import demand
from kongming.fit import lint
from kongming.fit import nova_fitter
from kongming.placement import flavor as flavor_mod
from kongming.template import template
from osc_plugin import cloud
from osc_plugin import command
from osc_plugin import progress
from osc_plugin.template import propagate
from osc_plugin import template_options


COLUMNS = ('flavor', 'vcpus', 'ram', 'template', 'placement')


def check(conn, name, wanted, hosts=True, stream=None):
    """Check what a flavor is to have.

    :param hosts: whether some host has to be able to take it
    :param stream: where it is shown that this takes long; default standard
        error
    :returns: warnings
    :raises CommandError: with all that is wrong
    """
    problems = list(demand.check_guest(wanted.guest, wanted.template))
    if problems:
        raise exceptions.CommandError('\n'.join(
            f"flavor '{name}': {problem}" for problem in problems))
    if not hosts:
        return lint.lint(wanted)
    with progress.Waiting(stream or sys.stderr, 'reading hosts') as waiting:
        published = cloud.hosts(conn)
        try:
            warnings = _check_hosts(published, wanted)
        except exceptions.CommandError:
            # What is reserved is not known to be there without asking more.
            waiting.say('reading what is reserved on hosts')
            published = cloud.hosts(conn, exact=True)
            warnings = _check_hosts(published, wanted)
    return [*warnings, *lint.lint(wanted, published[0].state)]


def _check_hosts(published, wanted):
    """Whether any host could take it if it were empty, or can as it is.

    Where cells differ, Nova may boot beside others what it refuses on an
    empty host (:mod:`kongming.fit.nova_fitter`).

    :returns: warnings
    :raises CommandError: with what each host says, if none could
    """
    reasons, unhooked, by_nova = [], [], False
    for host in published:
        empty = host.state.emptied()
        result = nova_fitter.bootable(empty, wanted)
        if not result and result.by_nova:
            result = nova_fitter.bootable(host.state, wanted,
                                          limits=host.limits) or result
        if result and host.obeys:
            return []
        if result:
            unhooked.append(host.name)
        why = str(result)
        if not result and result.by_nova:
            by_nova, why = True, nova_fitter.advice(empty, wanted) or why
        reasons.append(f'{host.name}: {why}')
    if unhooked:
        return [f'it fits only where no nova-compute obeys templates '
                f'({", ".join(unhooked)}), so no server of it can be '
                f'scheduled yet']
    if not reasons:
        raise exceptions.CommandError(
            'No host is published yet, so nothing is known of their '
            'pCPUs; --no-check writes the template all the same.')
    raise exceptions.CommandError('\n'.join([
        'No host boots this, neither as it is now nor empty:' if by_nova
        else 'No host could ever take this:', *reasons]))


def row(found):
    """A flavor as ``show`` and ``list`` print it."""
    specs = found.extra_specs
    asking = {flavor_mod.TRAIT_KEY, *flavor_mod.outdated(specs)}
    return (found.name, found.vcpus, found.ram,
            template_options.SpecsColumn({
                key: specs[key] for key in specs
                if key.startswith(template.PREFIX)}),
            template_options.SpecsColumn({
                key: specs[key] for key in specs if key in asking}))


class SetTemplate(command.ShowOne):
    """Write a template to a flavor, in place of the one that it has.

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
        template_options.add_template_options(parser)
        parser.add_argument(
            '--propagate', action='store_true',
            help='Also change running servers that were booted with the '
                 'flavor, one after the other, if the flavor that they were '
                 'booted with grants it. The first that fails ends it; the '
                 'same command goes on from there.')
        command.add_timeout(parser, 120, 'How long to wait for a server')
        return parser

    def take_action(self, parsed_args):
        conn = self.app.client_manager.kongming
        desired = template_options.template_of_options(parsed_args)
        found = cloud.flavor(conn, parsed_args.flavor)
        wanted = template_options.demanded(found, desired)
        for warning in check(conn, found.name, wanted,
                             not parsed_args.no_check, self.app.stderr):
            self.app.stderr.write(f'warning: {warning}\n')
        changes = flavor_mod.changes(found.extra_specs, desired)
        propagation, planned = None, []
        if parsed_args.propagate:
            propagation = propagate.Propagation(conn, found.name, desired)
            planned = propagation.plan()
        if parsed_args.dry_run:
            return ('flavor', 'written', 'removed', 'servers'), (
                found.name, template_options.SpecsColumn(changes.put),
                columns.Lines(changes.remove),
                columns.Lines([server.name for server, _ in planned]))
        cloud.write_specs(conn, found.id, changes)
        if propagation:
            with progress.Progress(self.app.stderr, len(planned)) as shown:
                propagation.run(planned, parsed_args.timeout, shown.step)
        return COLUMNS, row(cloud.flavor(conn, found.id))


class UnsetTemplate(command.Command):
    """Remove the template from a flavor.

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
            found.extra_specs, None))


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
