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

"""``openstack kongming advise``: what the load of servers calls for."""

from concurrent import futures

from cliff import columns as cliff_columns
from osc_lib import exceptions

from kongming.compute import hosts
from kongming.compute import servers
from kongming import exception
from kongming.host import topology
from kongming.load import decision
from kongming.template import template
from osc_plugin import command
from osc_plugin import progress
from osc_plugin.server import migration
from osc_plugin.server import running

#: Requests at a time.
_AT_ONCE = 8


class GainColumn(cliff_columns.FormattableColumn):
    """What a profile would free: a line for people, parts for programs."""

    def human_readable(self):
        if self._value is None:
            return '-'
        parts = []
        if self._value['lends']:
            parts.append(f'lends pCPU '
                         f'{topology.format_cpu_list(self._value["lends"])}')
        if self._value['saves']:
            parts.append(f'saves at most {self._value["saves"]}% wait')
        return ', '.join(parts) or '-'

    def machine_readable(self):
        return self._value and {key: self._value[key]
                                for key in ('lends', 'saves')}


class MoveColumn(cliff_columns.FormattableColumn):
    """Where a server would be better off: for people in a line."""

    def human_readable(self):
        move = self._value
        if move is None:
            return '-'
        parts = [f'cell {move["cell"]} to node {move["target"]}'
                 if move.get('host') is None else
                 f'step {move["step"]}: to host {move["host"]}, node '
                 f'{move["target"]}']
        if move['saves']:
            parts.append(f'saves {move["saves"]:g} pCPU of wait')
        if move['local_mib']:
            parts.append(f'{move["local_mib"]} MiB more are local')
        if move['seconds'] is not None:
            parts.append(f'copied in about {move["seconds"]} s')
        return ', '.join(parts)

    def machine_readable(self):
        return self._value


class LoadColumn(cliff_columns.FormattableColumn):
    """What a host knows of a server's load, for people in some lines."""

    def human_readable(self):
        found = self._value
        if found is None:
            return '-'
        lines = [measured(found) or 'nothing measured yet']
        if found['profile'] != found['usual']:
            lines.append(f'{_MODES[found["mode"]]} profile '
                         f'{found["profile"]}: {found["because"]}')
        if found['waits']:
            lines.append(f'waits: {found["waits"]}')
        move = found['move']
        if move is not None:
            lines.append(f'advised: {MoveColumn(move).human_readable()}: '
                         f'{move["because"]}')
            if move['waits']:
                lines.append(f'it is not moved: {move["waits"]}')
        return '\n'.join([*lines, *found['progress']])

    def machine_readable(self):
        return self._value


_MODES = {'act': 'in', 'advise': 'advised:'}


def measured(found):
    """What of a server was measured last, in words; empty: nothing was."""
    return ', '.join(f'{figure} {found[figure]}%'
                     for figure in ('use', 'wait', 'remote')
                     if found[figure] is not None)


def goes_by_load(specs):
    """Whether a flavor's template has profiles by load, or is balanced."""
    try:
        found = template.decode(specs)
        return bool(found.balance or decision.of_template(found))
    except exception.InvalidTemplate:
        return False


class Advise(command.Lister):
    """Show what servers' load calls for, and what that would gain.

    It lists each server whose flavor has conditions
    (kongming:profile.NAME.when, such as use<15% for 10m) or kongming:balance.
    'profile' is the one that is active. 'advice' is the one that the host
    would switch to, and empty if nothing would change; the evidence is beside
    it. 'gain' has the pCPUs that others could use meanwhile, and the wait
    that could be saved at most.

    'move' is the move that would lower the wait of floating vCPUs the most,
    and what it saves. It moves a cell to another node of its host or, if that
    does not help, the server to another host. If a server's memory is on
    another node, 'move' brings it to the cell's node, or to a host where it
    fits.

    Moves to other hosts are a plan of numbered steps: each is worked out
    after those before it, and 'openstack server migrate --live-migration
    --host' makes it. A server goes only where Nova's scheduler lets it and
    where its template fits. Its host has to be known: by what was measured
    there, or as it has no server yet.

    Hosts with [kongming] by_load = advise, the default, only show here what
    they would do. Hosts with act do it. Hosts with off, and servers that do
    not run, have no figures. Only an admin sees the figures.

    Examples::

        openstack kongming advise
        openstack kongming advise compute1
        openstack kongming advise compute1 -f json
    """

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument('host', metavar='<host>', nargs='?',
                            help="Host, by its service's or its hypervisor's "
                                 'name (default: all).')
        return parser

    def take_action(self, parsed_args):
        conn = self.app.client_manager.kongming
        service = None
        if parsed_args.host is not None:
            found = hosts.find(conn, parsed_args.host)
            if found is None:
                raise exceptions.CommandError(
                    f"Nova knows no host '{parsed_args.host}'; 'openstack "
                    f"kongming host list' shows those there are.")
            service = found.service
        listed = servers.listing(conn, service, True)
        doubts = list(listed.doubts())
        known = [running.Server(conn, server) for server in listed.known]
        known = [server for server in known if goes_by_load(server.specs)]
        with progress.Waiting(self.app.stderr, 'asking hosts'), (
                futures.ThreadPoolExecutor(_AT_ONCE)) as pool:
            loads = list(pool.map(
                lambda server: servers.load(conn, server.id), known))
            moves = migration.moves(conn, zip(known, loads),
                                    doubts.append)
        for doubt in dict.fromkeys(doubts):
            self.app.stderr.write(f'warning: {doubt}\n')
        return ('server', 'id', 'host', 'by_load', 'profile', 'advice',
                'because', 'measured', 'gain', 'move', 'waits'), [
                    _row(server, load, moves.get(server.id))
                    for server, load in zip(known, loads)]


def _row(server, load, move=None):
    """:param move: to another host"""
    if load is None:
        return (server.name, server.id, server.host, None,
                server.intent().profile, *[None] * 3, GainColumn(None),
                MoveColumn(None), None)
    acts = load['mode'] == 'act'
    wanted = load['profile']
    differs = wanted != load['usual']
    return (server.name, server.id, server.host, load['mode'],
            wanted if acts else load['usual'],
            wanted if differs and not acts else None,
            load['because'] or None if differs else None,
            measured(load) or None, GainColumn(load if differs else None),
            MoveColumn(load['move'] or move), load['waits'] or (
                load['move'] and load['move']['waits']) or None)
