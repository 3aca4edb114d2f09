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

"""``kongming ps``: domains and their threads."""

from cliff import lister

from kongming.cli import columns
from kongming.cli import help as help_mod
from kongming.cli import survey
from kongming.domain import audit
from kongming.domain import domain as domain_mod
from kongming.domain import expected as expected_mod

COLUMNS = ('domain', 'thread', 'intended', 'actual', 'scheduler',
           'last_pcpu', 'drift')
LONG = ('uuid', 'server', 'profile', 'template', 'threads')

_ORDER = (domain_mod.VCPU, domain_mod.IOTHREAD, domain_mod.EMULATOR)


class Drift(columns.Lines):
    """Marked for people, so that it is seen in a long table."""

    def human_readable(self):
        return ', '.join(f'! {word}' for word in self._value)


def rows(found, host, state):
    """A row for each thread of a domain; the emulator's are one.

    :param found: kongming.domain.domain.Running
    """
    domain = found.domain
    expected = expected_mod.expected(domain, state)
    wrong = set()
    if expected is not None:
        wrong = {thread for thread, _now, _wanted in expected_mod.deviations(
            domain, expected)}
    groups: dict[tuple[int, int], list[domain_mod.Task]] = {}
    for task in found.tasks:
        groups.setdefault((_ORDER.index(task.kind), task.number), []).append(
            task)
    for (place, number), tasks in sorted(groups.items()):
        kind = _ORDER[place]
        name = domain_mod.thread_name(kind, number)
        drift = []
        if any(audit.drifted(task, domain, host) for task in tasks):
            drift.append('affinity')
        if name in wrong:
            drift.append('template')
        # The emulator's first thread is QEMU's main one.
        first = tasks[0]
        yield (domain.name, name,
               columns.Pcpus(domain.intended(kind, number)),
               columns.Pcpus(frozenset().union(
                   *(task.allowed for task in tasks))),
               str(first.sched), first.last, Drift(drift),
               domain.uuid, columns.Maybe(
                   domain.flavor.server if domain.flavor else None),
               columns.Maybe(expected.profile if expected else None),
               _said(expected, kind, number),
               columns.Lines([str(task.id) for task in tasks]))


def _said(expected, kind, number):
    """Where the template has a thread; none where it says nothing of it."""
    if expected is None:
        return columns.Maybe(None)
    threads = expected.threads
    pcpus = (threads.emulator if kind == domain_mod.EMULATOR else (
        threads.vcpus if kind == domain_mod.VCPU
        else threads.iothreads).get(number))
    return columns.Maybe(None) if pcpus is None else columns.Pcpus(pcpus)


class Ps(help_mod.Help, lister.Lister):
    """Show where the threads of this host's domains run.

    A row for each vCPU and each I/O thread, and one for all other threads of
    the domain, the emulator's. The columns are::

        intended   where the domain's XML has it ('any': it says nothing)
        actual     where the kernel lets it run
        scheduler  policy and priority
        last_pcpu  where it ran last
        drift      affinity: the kernel has it elsewhere than the XML;
                   template: the XML has it elsewhere than the template of
                   the server's flavor, in none of its profiles

    and with --long the domain's UUID, its name in Nova, the template's
    profile that is active by all appearance, where the template has the
    thread, and the ids of its threads. Where the flavor grants 'template',
    the server's metadata decides, which a host does not know.

    Examples::

        kongming ps
        kongming ps instance-0000002a --long
        kongming ps -f json
    """

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument('domain', metavar='<domain>', nargs='*',
                            help='Domain (name or UUID) to show (default: '
                                 'all that run).')
        parser.add_argument('--long', action='store_true',
                            help='Show more columns.')
        survey.add_arguments(parser)
        return parser

    def take_action(self, parsed_args):
        seen = survey.look(parsed_args)
        names = COLUMNS + (LONG if parsed_args.long else ())
        return names, [
            row[:len(names)]
            for found in sorted(
                survey.choose(seen.running, parsed_args.domain),
                key=lambda each: each.domain.name)
            for row in rows(found, seen.host, seen.state)]
