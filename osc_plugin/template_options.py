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

"""How a template is given on the command line: options and documents."""

import argparse
import sys

from cliff import columns as cliff_columns
from osc_lib import exceptions

from kongming.fit import demand
from kongming.template import document
from kongming.template import guest
from kongming.template import template


class SpecsColumn(cliff_columns.FormattableColumn):
    """Extra specs, a line each for people, a mapping for programs."""

    def human_readable(self):
        return '\n'.join(f'{key} = {value}'
                         for key, value in sorted(self._value.items()))

    def machine_readable(self):
        return dict(sorted(self._value.items()))


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


def add_template_options(parser):
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


def template_of_options(parsed_args):
    """The template that the arguments describe."""
    desired = described(parsed_args.file, {
        f'{template.PREFIX}{key}.{cell}': value for key in ('node', 'pin')
        for cell, value in getattr(parsed_args, key)})
    # What Nova can't store is an error here.
    template.encode(desired)
    if not desired:
        raise exceptions.CommandError(
            'The template is empty: name a file, --node or --pin.')
    return desired


def demanded(found, desired):
    """What a flavor would ask of a host with this template."""
    return demand.Demand(guest.from_flavor(
        found.vcpus, found.ram, found.extra_specs), desired)
