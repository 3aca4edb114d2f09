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

"""Base classes of our commands: the docstring is the help, as written."""

from osc_lib.command import command
from osc_lib import exceptions

from kongming.cli import help as help_mod
from kongming import exception


class _Base(help_mod.Help):
    def run(self, parsed_args):
        try:
            return super().run(parsed_args)
        except exception.InvalidTemplate as exc:
            # Every problem, a line each.
            raise exceptions.CommandError(
                '\n'.join(map(str, exc.problems))) from exc
        except exception.KongmingError as exc:
            raise exceptions.CommandError(str(exc)) from exc


def add_timeout(parser, default, what='How long to wait'):
    """The option that goes with waiting."""
    parser.add_argument(
        '--timeout', metavar='<seconds>', type=int, default=default,
        help=f'{what} (default: {default}).')


class Command(_Base, command.Command):
    pass


def _shown(parsed_args, values):
    """What is not there is a dash for people, and null for programs."""
    if parsed_args.formatter != 'table':
        return values
    return tuple('-' if value is None else value for value in values)


class Lister(_Base, command.Lister):
    def produce_output(self, parsed_args, column_names, data):
        return super().produce_output(
            parsed_args, column_names,
            [_shown(parsed_args, row) for row in data])


class ShowOne(_Base, command.ShowOne):
    def produce_output(self, parsed_args, column_names, data):
        return super().produce_output(parsed_args, column_names,
                                      _shown(parsed_args, data))
