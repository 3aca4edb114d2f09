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

"""``kongming replay``: what profiles by load would have done."""

import contextlib
import sys

from cliff import lister

from kongming.cli import columns
from kongming.cli import help as help_mod
from kongming import exception
from kongming.load import decision
from kongming.load import recording
from kongming.load import replay
from kongming.template import document

COLUMNS = ('time', 'server', 'from', 'to', 'because')
SUMMARY = ('server', 'from', 'to', 'switches', 'most_in_an_hour', 'waited',
           'profiles')


class Percentages(columns.Lines):
    """Profile and per cent of the time; a line each for people."""

    def human_readable(self):
        return '\n'.join(f'{name or "-"} {share:.1f}%'
                         for name, share in self._value) or '-'

    def machine_readable(self):
        return [{'profile': name, 'percent': round(share, 1)}
                for name, share in self._value]


class Replay(help_mod.Help, lister.Lister):
    """Show which profiles servers would have had, by recorded figures.

    It reads a file of 'kongming watch --record', and decides as nova-compute
    does ([kongming] by_load), with windows, the limit of switches and what
    keeps a server from flapping. So conditions can be tried on the figures of
    last week. It needs no cloud and no libvirt.

    Each switch is a row, with what was measured. --summary has a row for each
    server: how often it switched, how often in the worst hour, at how many
    readings only the limit kept it from switching, and for how much of the
    time each profile was active ('-' is none).

    It uses the template of the server's flavor as it was recorded, or the one
    that --template names. Servers without conditions are left out.

    Examples::

        kongming watch --record week.jsonl --interval 5 --seconds 604800
        kongming replay week.jsonl --summary
        kongming replay week.jsonl --server web-1 --template web.yaml
        kongming replay week.jsonl -f json
    """

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument('file', metavar='<file>',
                            help="What 'kongming watch --record' wrote; - is "
                                 'standard input.')
        parser.add_argument('--server', metavar='<server>',
                            help='Only this server (name or ID).')
        parser.add_argument('--template', metavar='<document>',
                            help="A template (YAML or JSON) to try instead "
                                 "of the servers' own.")
        parser.add_argument(
            '--switches-per-hour', metavar='<n>', type=_count,
            default=decision.SWITCHES,
            help=f'As [kongming] load_switches_per_hour (default: '
                 f'{decision.SWITCHES}; 0: no limit).')
        parser.add_argument('--summary', action='store_true',
                            help='A row for each server.')
        return parser

    def take_action(self, parsed_args):
        wanted = _template(parsed_args.template)

        def choose(server):
            if parsed_args.server not in (None, server.id, server.name):
                return None
            return wanted or replay.as_recorded(server)

        found = replay.Replay(choose, parsed_args.switches_per_hour)
        with _opened(parsed_args.file) as file:
            switches = [
                (switch.time.isoformat(timespec='seconds'),
                 exception.printable(switch.server.name),
                 columns.Maybe(switch.before), columns.Maybe(switch.profile),
                 switch.because)
                for switch in found.run(recording.load(file))]
        if not found.summaries:
            raise exception.NotFound(
                'No server in these figures has a profile with conditions'
                + (f" and the name or ID '{parsed_args.server}'"
                   if parsed_args.server else '')
                + '; --template names a template to try.')
        if not parsed_args.summary:
            return COLUMNS, switches
        return SUMMARY, [
            (exception.printable(each.server.name),
             each.begin.isoformat(timespec='seconds'),
             each.end.isoformat(timespec='seconds'), each.switches, each.most,
             each.waited, Percentages(each.percentages()))
            for each in found.summaries.values()]


def _count(text):
    found = int(text)
    if found < 0:
        raise ValueError
    return found


def _template(name):
    """:raises kongming.exception.KongmingError: if it is none"""
    if name is None:
        return None
    with _opened(name) as file:
        found = document.parse(file.read())
    if not decision.of_template(found):
        raise exception.NotFound(
            f"No profile of '{name}' has a condition, such as when: use<15% "
            f'for 10m; there is nothing to replay.')
    return found


@contextlib.contextmanager
def _opened(name):
    if name == '-':
        yield sys.stdin
        return
    try:
        with open(name, encoding='utf-8') as file:
            yield file
    except (OSError, UnicodeDecodeError) as exc:
        raise exception.NotFound(
            f"'{name}' can not be read: "
            f'{getattr(exc, "strerror", None) or exc}') from exc
