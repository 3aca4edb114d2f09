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

"""``openstack kongming deployment ...``: a document for a whole cluster."""

import sys

from osc_lib import exceptions

from kongming.deployment import deployment as dep
from kongming import exception as km_exc
from kongming.fit import lint
from osc_plugin import cloud
from osc_plugin import command
from osc_plugin.deployment import rollout as rollout_cmd
from osc_plugin import progress
from osc_plugin.server import server as server_cmd
from osc_plugin import template_options


class _OfDocument(command.Lister):
    """What the commands that read a document share."""

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument(
            'file', metavar='<file>',
            help='Document (YAML or JSON); - is standard input.')
        parser.add_argument(
            '--prune', action='store_true',
            help='Delete servers and flavors of the deployment that the '
                 'document has no longer.')
        return parser

    def _plan(self, parsed_args):
        """Document, what is there, and the steps in between.

        :raises CommandError: with every problem, if there are any
        """
        from kongming.deployment import document
        from kongming.deployment import rollout
        conn = self.app.client_manager.kongming
        wanted = document.parse(
            template_options.read(parsed_args.file))
        with progress.Waiting(self.app.stderr, 'reading hosts') as waiting:
            wanted, there = rollout_cmd.read(conn, wanted, waiting.say)
        plan = rollout.plan(wanted, there, parsed_args.prune)
        if plan.problems:
            raise exceptions.CommandError('\n'.join(map(str, plan.problems)))
        host = next((host.state for host in there.hosts.values()), None)
        for flavor in wanted.flavors.values():
            for warning in lint.lint(flavor.demand, host):
                self._warn(f'{flavor.place}: {warning}')
        for warning in plan.warnings:
            self._warn(warning)
        if not plan.steps:
            self.app.stderr.write('There is nothing to do: all is as it is '
                                  'meant.\n')
        return wanted, there, plan

    def _warn(self, text):
        self.app.stderr.write(f'warning: {text}\n')


class ValidateDeployment(_OfDocument):
    """Check a document for a whole cluster, and say what 'apply' would do.

    It checks the document by itself, then against the images, the networks
    and the hosts. All servers have to fit on the hosts together, beside those
    that are there. If something is wrong, it lists all errors with their
    place, and ends with status 1. Otherwise it lists the steps that 'apply'
    would make. It changes nothing.

    Examples::

        openstack kongming deployment validate ran.yaml
        openstack kongming deployment validate --prune ran.yaml
        generate-deployment | openstack kongming deployment validate -
    """

    def take_action(self, parsed_args):
        _wanted, _there, plan = self._plan(parsed_args)
        return ('step', 'name', 'host', 'how'), [
            (step.what, step.name, step.host, step.how)
            for step in plan.steps]


class ApplyDeployment(_OfDocument):
    """Bring a whole cluster to what a document says.

    It checks the document as 'validate' does, and changes nothing if
    something is wrong. Then it makes flavors, changes running servers live,
    as far as their flavor grants it, and boots new servers, each on the host
    that was found for it. The order is one in which no pCPU is assigned
    twice. It leaves alone what is already as the document says.

    The first step that fails ends it. The same command goes on from there.

    .. code-block:: yaml

        version: 1
        name: ran
        templates:
          du:
            vcpus: 4
            ram: 8192
            properties: {hw:cpu_policy: dedicated}
            cells: {0: {node: 1}}
            grant: template
        servers:
          du-1: {template: du, host: compute1, image: du, networks: [ran],
                 cells: {0: {pin: "0-3:24-27"}}}
          du-2: {template: du, image: du, networks: [ran]}

    Examples::

        openstack kongming deployment apply ran.yaml
        openstack kongming deployment apply --prune ran.yaml
        generate-deployment | openstack kongming deployment apply -
    """

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        command.add_timeout(parser, 300, 'How long a step may take')
        return parser

    def take_action(self, parsed_args):
        conn = self.app.client_manager.kongming
        wanted, there, plan = self._plan(parsed_args)
        with progress.Progress(self.app.stderr, len(plan.steps)) as shown:
            rollout_cmd.Rollout(conn, wanted.name, there, parsed_args.timeout,
                                shown.step).run(plan.steps)
        return _COLUMNS, _rows(conn, wanted.name, self.app.stderr)


class ShowDeployment(command.Lister):
    """Show the servers of a deployment.

    'owned' is what Nova has given each server. 'as_meant' says whether that
    is what its flavor says now; if not, 'why' has the reason. Only an admin
    sees these three columns, and the host.

    Examples::

        openstack kongming deployment show ran
        openstack kongming deployment show ran -f json
    """

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        _add_name(parser)
        return parser

    def take_action(self, parsed_args):
        return _COLUMNS, _rows(
            self.app.client_manager.kongming, parsed_args.deployment,
            self.app.stderr,
            lambda text: self.app.stderr.write(f'warning: {text}\n'))


class DeleteDeployment(command.Command):
    """Delete the servers of a deployment, then its flavors.

    It asks first, unless --yes is given. The first that fails ends it. The
    same command goes on from there.

    Examples::

        openstack kongming deployment delete ran
        openstack kongming deployment delete --yes ran
    """

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        _add_name(parser)
        parser.add_argument('--yes', action='store_true',
                            help='Do not ask.')
        command.add_timeout(parser, 300, 'How long a step may take')
        return parser

    def take_action(self, parsed_args):
        conn = self.app.client_manager.kongming
        name = parsed_args.deployment
        flavors, servers = _there(conn, name)
        why = 'all of it goes'
        steps: list[dep.Step] = [
            dep.DeleteServer(found.id, found.name, found.host, why)
            for found in servers]
        steps += [dep.DeleteFlavor(found.id, found.name, why)
                  for found in flavors.values()]
        if not parsed_args.yes:
            self._ask(servers, flavors)
        with progress.Progress(self.app.stderr, len(steps)) as shown:
            rollout_cmd.Rollout(conn, name, dep.Cloud({}),
                                parsed_args.timeout, shown.step).run(steps)
        hidden = {found.metadata.get(dep.LIKE) for found in servers
                  } - flavors.keys() - {None}
        if hidden:
            self.app.stderr.write(
                f'warning: flavor {", ".join(sorted(hidden))} stays, as far '
                f'as it is there: only an admin sees it\n')

    def _ask(self, servers, flavors):
        if not sys.stdin.isatty():
            raise exceptions.CommandError(
                'Nobody is there to be asked; --yes deletes without.')
        names = ', '.join([found.name for found in servers] + list(flavors))
        self.app.stderr.write(f'Delete {names}? [y/N] ')
        self.app.stderr.flush()
        if sys.stdin.readline().strip().lower() not in ('y', 'yes'):
            raise exceptions.CommandError('Nothing was deleted.')


_COLUMNS = ('server', 'host', 'status', 'template', 'owned', 'as_meant',
            'why')


def _there(conn, name, warn=None):
    """Its flavors by name, and its servers.

    :param warn: called with what is not known; without it that is an error
    :raises CommandError: if there is nothing of it
    """
    flavors = {key: found for key, found in
               rollout_cmd.found_flavors(conn, name).items()
               if found.is_of(name)}
    servers = rollout_cmd.found_servers(conn, name, warn)
    if not flavors and not servers:
        raise exceptions.CommandError(
            f"There is nothing of a deployment '{name}' in this project; "
            f"'openstack kongming deployment apply' makes one.")
    return flavors, servers


def _rows(conn, name, stream, warn=None):
    """:param stream: where it is shown that this takes long"""
    from kongming.deployment import drift
    flavors, servers = _there(conn, name, warn)
    try:
        with progress.Waiting(stream, 'reading hosts'):
            hosts = {host.name: host.state for host in cloud.hosts(conn)}
    except km_exc.Forbidden:
        for found in servers:
            yield (found.name, found.host, found.status,
                   _template(found, name), None, None, None)
        return
    for found in servers:
        like = found.metadata.get(dep.LIKE, found.flavor.name)
        meant = flavors.get(like)
        why = ([f'flavor {like} is gone'] if meant is None
               else drift.reasons(found, meant, hosts.get(found.host)))
        yield (found.name, found.host, found.status,
               _template(found, name),
               server_cmd.PinsColumn(found.cells), not why,
               '; '.join(why) or None)


def _template(found, name):
    """The name of its template in the document."""
    like = found.metadata.get(dep.LIKE, found.flavor.name)
    return like.removeprefix(f'{name}.').partition('.')[0]


def _add_name(parser):
    parser.add_argument('deployment', metavar='<deployment>',
                        help="Deployment, by the document's name.")
