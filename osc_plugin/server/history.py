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

"""``openstack kongming server list|wait|history``: how servers are, were."""

from osc_lib import exceptions

from kongming.compute import hosts
from kongming.compute import servers
from kongming import exception
from osc_plugin import command
from osc_plugin.server import running
from osc_plugin.server import server as server_cmd


class ListServer(command.Lister):
    """List the servers whose flavor has a template.

    --long adds 'owned', which is what Nova has given the server and only an
    admin sees, and 'last_change', which is how the last live change ended.

    Examples::

        openstack kongming server list
        openstack kongming server list --host compute1 --long
        openstack kongming server list --flavor nfv.du --profile night
        openstack kongming server list --all-projects -f json
    """

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument('--host', metavar='<host>',
                            help="Only those on this host, by its service's "
                                 "or its hypervisor's name (admin only).")
        parser.add_argument('--all-projects', action='store_true',
                            help='Those of all projects (admin only).')
        parser.add_argument('--flavor', metavar='<name>',
                            help='Only those booted from this flavor (its '
                                 'name then).')
        parser.add_argument('--profile', metavar='<name>',
                            help='Only those whose active profile this is.')
        parser.add_argument('--long', action='store_true',
                            help='Show what each owns, and its last change.')
        return parser

    def take_action(self, parsed_args):
        conn = self.app.client_manager.kongming
        listed = servers.listing(conn, self._service(parsed_args.host),
                                 parsed_args.all_projects)
        for doubt in listed.doubts():
            self.app.stderr.write(f'warning: {doubt}\n')
        found = [running.Server(conn, server) for server in listed.known]
        if parsed_args.flavor is not None:
            found = [server for server in found if parsed_args.flavor ==
                     server.found['flavor']['original_name']]
        profiles = {server.id: self._profile(server) for server in found}
        if parsed_args.profile is not None:
            found = [server for server in found
                     if profiles[server.id] == parsed_args.profile]
        columns = ['server', 'id', 'host', 'status', 'flavor', 'profile']
        rows = [[server.name, server.id, server.host, server.found['status'],
                 server.found['flavor']['original_name'],
                 profiles[server.id]] for server in found]
        if parsed_args.long:
            columns += ['owned', 'last_change']
            for server, row in zip(found, rows):
                seen = server.see()
                row += [server_cmd.owned(seen),
                        server_cmd.LastChange(seen.newest)]
        return columns, rows

    def _service(self, name):
        """The name of a host's service, by which Nova filters."""
        if name is None:
            return None
        found = hosts.find(self.app.client_manager.kongming, name)
        if found is None:
            raise exceptions.CommandError(
                f"Nova knows no host '{name}'; 'openstack kongming host "
                f"list' shows those there are.")
        return found.service

    def _profile(self, server):
        """None, too, where its flavor's template is none."""
        try:
            return server.intent().profile
        except exception.InvalidTemplate as exc:
            self.app.stderr.write(f'warning: {server.name}: {exc}\n')
            return None


class WaitServer(command.ShowOne):
    """Wait until a server is as its template and its metadata say.

    Ends with status 1 if the host refuses, with the reason, or if the time
    is up. For an admin the host looks at once; others wait for its next
    pass.

    Example::

        openstack kongming server wait du-1 --timeout 30
    """

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument('server', metavar='<server>',
                            help='Server (name or ID) to wait for.')
        command.add_timeout(parser, 120)
        return parser

    def take_action(self, parsed_args):
        server = running.Server.find(self.app.client_manager.kongming,
                                     parsed_args.server)
        seen = running.Wait(server, frozenset(server.changes()), True,
                            parsed_args.timeout,
                            self.app.stderr.write).run()
        return server_cmd.row(seen.server, seen)


class ServerHistory(command.Lister):
    """List a server's live changes, the newest first.

    Examples::

        openstack kongming server history du-1
        openstack kongming server history du-1 --limit 5 -f json
    """

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument('server', metavar='<server>',
                            help='Server (name or ID).')
        parser.add_argument('--limit', metavar='<number>', type=int,
                            default=20,
                            help='How many at most (default: 20).')
        return parser

    def take_action(self, parsed_args):
        if parsed_args.limit < 1:
            raise exceptions.CommandError('--limit is a number from 1 on.')
        server = running.Server.find(self.app.client_manager.kongming,
                                     parsed_args.server)
        found = [server.change(request)
                 for request in server.changes()[:parsed_args.limit]]
        return (('started', 'result', 'details', 'request_id'),
                [(change.started, change.result or 'running',
                  change.details or None, change.request_id)
                 for change in found])
