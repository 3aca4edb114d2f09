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

"""``kongming ...``, for use on a host."""

from importlib import metadata
import sys

from cliff import app
from cliff import commandmanager

#: Exit status of a command line that is not understood (sysexits.h).  2, as
#: argparse has it, is what 'check' says of a host with violations.
USAGE = 64


class App(app.App):

    #: Whether 'check' has found something.
    found = False

    def __init__(self):
        super().__init__(
            description='What KongMing can do on a host, by itself.',
            version=metadata.version('kongming'),
            command_manager=commandmanager.CommandManager('kongming.cli'),
            deferred_help=True)

    def build_option_parser(self, description, version, *args, **kwargs):
        parser = super().build_option_parser(
            description, version, *args, **kwargs)
        parser.add_argument(
            '--os-cloud', metavar='<cloud>',
            help='Cloud of clouds.yaml to talk to; else the OS_ variables '
                 'of the environment say it.')
        return parser


def main(argv=None):
    application = App()
    try:
        code = application.run(sys.argv[1:] if argv is None else argv)
    except SystemExit as exc:
        code = exc.code
    return USAGE if code == 2 and not application.found else code
