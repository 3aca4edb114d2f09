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

"""``openstack kongming template check``: where a template fits."""

from osc_lib import exceptions

from kongming.fit import capacity
from kongming.fit import fit
from kongming.fit import nova_fitter
from kongming.fit import relax
from kongming.template import template
from osc_plugin import cloud
from osc_plugin import command
from osc_plugin import progress
from osc_plugin import template_options


class CheckTemplate(command.Lister):
    """Show on which hosts a flavor's template fits now, and why not.

    'times' is how many servers of the flavor fit on a host, one after the
    other. 'how' is where the first of them would be, or what is in the way. A
    server fits only if Nova boots it there. If Nova's own fitter would refuse
    its cells, 'how' says so, and which order of the cells helps. A host that
    Nova's scheduler would leave out takes none: it is disabled or down, or
    lacks a trait, disk, an aggregate or the zone. The exit status is 1 if no
    host can take a server.

    Examples::

        openstack kongming template check nfv.l
        openstack kongming template check nfv.l --host compute1
        openstack kongming template check nfv.l -f json -c host -c times
    """

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument('flavor', metavar='<flavor>',
                            help='Flavor (name or ID) to check.')
        parser.add_argument('--host', metavar='<host>',
                            help="Only this host, by its service's or its "
                                 "hypervisor's name.")
        parser.add_argument('--availability-zone', metavar='<zone>',
                            help='Only hosts of this availability zone take '
                                 'it.')
        parser.add_argument('--fits', action='store_true',
                            help='Only hosts that can take it.')
        return parser

    def run(self, parsed_args):
        super().run(parsed_args)
        return 0 if self._fits else 1

    def take_action(self, parsed_args):
        conn = self.app.client_manager.kongming
        found = cloud.template_flavor(conn, parsed_args.flavor)
        wanted = template_options.demanded(
            found, template.decode(found.extra_specs))
        doubts: list[str] = []
        with progress.Waiting(self.app.stderr, 'reading hosts') as waiting:
            hosts = cloud.hosts(conn, parsed_args.host)
            waiting.say("asking for what Nova's scheduler would leave out")
            refused, = cloud.left_out(
                conn, hosts, [cloud.scheduled(
                    found, parsed_args.availability_zone or '')],
                doubts.append)
            waiting.say(f'fitting into {len(hosts)} hosts')
            # Hosts that are alike have one state.
            kinds = {id(host.state): host for host in hosts if host.obeys
                     and host.name not in refused}
            fits = {key: _fit(host, wanted) for key, host in kinds.items()}
            rows = [_row(host, refused.get(host.name), fits)
                    for host in hosts]
        for doubt in doubts:
            self.app.stderr.write(f'warning: {doubt}\n')
        if not rows:
            raise exceptions.CommandError(
                'No host is published yet, so nothing is known of their '
                'pCPUs.')
        self._fits = any(times for _host, _fits, times, _how in rows)
        return ('host', 'fits', 'times', 'how'), [
            row for row in rows if row[1] or not parsed_args.fits]


def _row(host, refused, fits):
    if refused:
        return host.name, False, 0, f'the scheduler leaves it out: {refused}'
    if not host.obeys:
        return (host.name, False, 0, 'its nova-compute obeys no templates '
                                     '(it is published by command only)')
    return host.name, *fits[id(host.state)]


def _fit(host, wanted):
    """(whether, how many times, how) it fits."""
    times = capacity.times(host.state, wanted, host.limits)
    result = fit.fit(host.state, wanted, limits=host.limits)
    how = str(result)
    objection = (nova_fitter.advice(host.state, wanted, host.limits)
                 if result else None)
    if objection:
        return False, 0, f'{how}\n{objection}'
    if not result:
        less = relax.relax(host.state, wanted, host.limits)
        how += f'\nit would fit {less}' if less else ''
    return bool(result), times, how
