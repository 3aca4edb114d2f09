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

"""``openstack kongming plan defrag``: what it takes.

:mod:`osc_plugin.plan.capacity` does it.
"""

from osc_lib import exceptions

from osc_plugin import command
from osc_plugin.plan import plan


class DefragPlan(command.Command):
    """Free capacity on a fragmented host by the fewest live moves.

    With a flavor, the plan moves running servers of the host until a server
    of the flavor fits; without one, until the largest cell fits that can be
    had on whole cores. Without a host, the plan is for the host that takes
    the fewest moves. Of two plans with as many moves, the one that moves less
    memory is taken.

    Only servers whose flavor grants 'template' move, and only vCPUs that
    their template leaves open. This command changes nothing. It draws the
    host as it is and as it would be. --out writes a plan for 'plan apply'.

    Examples::

        openstack kongming plan defrag compute1 --for-flavor nfv.l
        openstack kongming plan defrag compute1 --for-flavor nfv.l \\
            --out defrag.plan
        openstack kongming plan apply defrag.plan
        openstack kongming plan defrag --for-flavor nfv.l --count 2
        openstack kongming plan defrag compute1 --format json
    """

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument('host', metavar='<host>', nargs='?',
                            help='Host (name of its compute node).')
        parser.add_argument('--for-flavor', metavar='<flavor>',
                            help='Flavor (name or ID) that is to fit.')
        parser.add_argument('--count', metavar='<number>', type=int,
                            default=1, help='How many servers of it are to '
                                            'fit (default: 1).')
        parser.add_argument('-f', '--format', default='text',
                            choices=('text', 'json'),
                            help='What to write (default: text).')
        parser.add_argument('--width', metavar='<columns>', type=int,
                            help="Columns of text (default: the "
                                 "terminal's).")
        plan.add_solver(parser)
        return parser

    def take_action(self, parsed_args):
        if not parsed_args.host and not parsed_args.for_flavor:
            raise exceptions.CommandError(
                'Name a <host>, or a flavor with --for-flavor, or both.')
        if parsed_args.count < 1:
            raise exceptions.CommandError('--count is 1 or more.')
        from osc_plugin.plan import capacity
        capacity.Defragmentation(self.app, parsed_args).run()
