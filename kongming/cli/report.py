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

"""``kongming report``: who disturbed owned pCPUs, in an interval."""

import contextlib
import datetime
import json
import socket
import sys

from cliff import command

from kongming.cli import help as help_mod
from kongming.cli import observe
from kongming import exception
from kongming.interference import text
from kongming.interference import trace as trace_mod
from kongming.kernel import tracefs

TEXT, JSON, HTML = 'text', 'json', 'html'
#: Exit status.
FOUND = 2


class Report(help_mod.Help, command.Command):
    """Report who disturbed the pCPUs that domains own, and what removes it.

    It counts for some seconds, then prints each disturbance: pCPU, kind,
    name, how often it was there, microseconds, and what would remove it. The
    kinds are::

        thread     a thread of a process of this host
        domain     a thread of a domain, the emulator of the same included
        kernel     a thread of the kernel
        interrupt  of a device
        cpu        of the CPU's own (ticks, softirqs), where there are many
        stolen     time that a hypervisor below this host gave to others
        unnamed    threads that ended before they could be seen

    With a trace of those pCPUs (tracefs: sched_switch, irq and softirq
    events), for which it has to run as root, all counts and times are exact,
    and threads that lived for a moment have names. Without a trace, counts
    and times are exact for threads that may run on this pCPU only. For other
    threads '<=' marks counts as upper limits. Other times are 'not measured'.

    HTML is one file that needs no network: the cores of this host with their
    owners, the pCPUs that were disturbed, and all of the above with a search.
    It has the background, too.

    Exit status: 0 nobody was there, 2 somebody was. With any other status it
    could not look (1 an error, 64 a mistake in the command line).

    Examples::

        kongming report
        kongming report vnf-1 --seconds 60
        kongming report instance-0000002a -f json --background
        kongming report --seconds 60 -f html > report.html
    """

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        observe.add_arguments(parser)
        parser.add_argument(
            '--seconds', metavar='<n>', type=observe.seconds, default=10.0,
            help='How long to count (default: 10).')
        parser.add_argument(
            '--no-trace', action='store_true',
            help='Do not trace, even where it is possible.')
        parser.add_argument(
            '--background', action='store_true',
            help='Show what no setting takes off a pCPU, too; JSON and HTML '
                 'always have it.')
        parser.add_argument(
            '-f', '--format', choices=(TEXT, JSON, HTML), default=TEXT,
            help='text (default), json, or html: one file that needs no '
                 'network.')
        return parser

    def run(self, parsed_args):
        return super().run(parsed_args) or (FOUND if self.app.found else 0)

    def take_action(self, parsed_args):
        observer = observe.Observer(parsed_args)
        with contextlib.ExitStack() as stack:
            session, why_not = _session(parsed_args, observer, stack)
            trace = trace_mod.Trace()
            for _ in observe.ticks([observer], parsed_args.seconds, 1.0):
                if session:
                    trace.add(session.lines())
            if session:
                session.stop()
                trace.add(session.lines())
        found = observer.report(trace=trace if session else None,
                                not_traced=why_not)
        self.app.found = bool(found.disturbances)
        if parsed_args.format == JSON:
            print(json.dumps(text.document(found), indent=2))
        elif parsed_args.format == HTML:
            from kongming.interference import page
            seen = observer.seen
            sys.stdout.write(page.page(
                socket.gethostname(),
                datetime.datetime.now(datetime.UTC).isoformat(),
                seen.state, seen.running, found))
        else:
            print(text.report(found, parsed_args.background))


def _session(args, observer, stack):
    """(what traces, why nothing does)."""
    if args.no_trace:
        return None, '--no-trace'
    try:
        return stack.enter_context(
            tracefs.Session(observer.owners.pcpus)), ''
    except exception.NotTraced as exc:
        return None, str(exc)
