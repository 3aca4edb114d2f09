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

"""``kongming watch``: who is on owned pCPUs, live."""

import contextlib
import json
import sys
import time

from cliff import command

from kongming.cli import help as help_mod
from kongming.cli import observe
from kongming.cli import record
from kongming import exception
from kongming.interference import text

TABLE, JSON = 'table', 'json'
#: ECMA-48: to the first column of the first line, and nothing below.
_HOME = '\x1b[H\x1b[J'
_MOST = 15


class Watch(help_mod.Help, command.Command):
    """Watch the pCPUs that domains own: use, waiting, and who else is there.

    Once a second, for each pCPU that a domain here owns::

        use           share of the time in which its owner's thread ran
        wait          share of the time in which that thread could have run
                      and waited (run delay)
        switched out  how often another thread was given the pCPU instead
        disturbed     how often somebody else was there: threads, kernel
                      threads, interrupts of devices

    and below the table those who were there since the beginning, with counts.
    '<=' before a count marks a thread that may also run elsewhere: it ran that
    often in all. 'kongming report' with tracefs counts such threads exactly.
    What no setting removes (ticks, the pCPU's own kernel threads) is left out.

    On a terminal the table stays where it is. Elsewhere each second adds
    lines, or with '-f json' one line of JSON. Ctrl-C ends it. It needs no
    cloud, and no more rights than libvirt's socket asks for.

    --record also writes to a file what the vCPUs of all domains did, or those
    of the domain that is named, for 'kongming replay': some 150 bytes for a
    domain and reading. If no domain owns a pCPU, it does only that.

    Examples::

        kongming watch
        kongming watch vnf-1 --seconds 30
        kongming watch instance-0000002a -f json --seconds 60 > figures.json
        kongming watch --record week.jsonl --interval 5 --seconds 604800
    """

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        observe.add_arguments(parser)
        parser.add_argument(
            '--seconds', metavar='<n>', type=observe.seconds,
            help='End after so many seconds (default: with Ctrl-C).')
        parser.add_argument(
            '--interval', metavar='<n>', type=observe.seconds, default=1.0,
            help='Seconds between two readings (default: 1).')
        parser.add_argument(
            '--record', metavar='<file>',
            help="Write readings to this file, for 'kongming replay'.")
        parser.add_argument(
            '-f', '--format', choices=(TABLE, JSON), default=TABLE,
            help='table (default), or json: a line of JSON for each reading.')
        return parser

    def take_action(self, parsed_args):
        with contextlib.ExitStack() as stack:
            recorder = None
            if parsed_args.record:
                recorder = record.Recorder(
                    parsed_args, stack.enter_context(_new(
                        parsed_args.record)))
            self._watch(parsed_args, recorder)

    def _watch(self, parsed_args, recorder):
        try:
            observer = observe.Observer(parsed_args)
        except exception.NotFound:
            if recorder is None:
                raise
            observer = None
        show = _json if parsed_args.format == JSON else (
            _screen if sys.stdout.isatty() else _lines)
        try:
            for _ in observe.ticks(
                    [each for each in (observer, recorder) if each],
                    parsed_args.seconds, parsed_args.interval):
                if observer:
                    show(observer)
                sys.stdout.flush()
        except KeyboardInterrupt:
            print(file=sys.stderr)


def _new(name):
    """
    :raises kongming.exception.NotFound: if it can't be written
    """
    try:
        return open(name, 'w', encoding='utf-8')
    except OSError as exc:
        raise exception.NotFound(
            f"'{name}' can not be written: {exc.strerror}") from exc


def _json(observer):
    print(json.dumps({'time': time.time(),
                      **text.document(observer.report(last=True))}))


def _lines(observer):
    found = observer.report(last=True)
    stamp = time.strftime('%H:%M:%S')
    for line in text.table(text.HEADINGS, text.owned(found)):
        print(stamp, line)
    for entry in found.disturbances:
        print(stamp, '!', *text.entry_row(entry.disturbance))


def _screen(observer):
    print(_HOME + '\n'.join(
        [*text.table(text.HEADINGS, text.owned(observer.report(last=True))),
         '', *_since(observer.report())]))


def _since(found):
    if not found.disturbances:
        return [f'Nobody else was on these pCPUs in {found.seconds:.0f} s.']
    rows = [text.entry_row(entry.disturbance)
            for entry in found.disturbances[:_MOST]]
    lines = [f'In {found.seconds:.0f} s:', *text.table(
        ('pcpu', 'kind', 'name', 'count', 'us'), rows)]
    if len(found.disturbances) > _MOST:
        lines.append(f'and {len(found.disturbances) - _MOST} more')
    return lines
