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

"""``kongming check``: what is not as it should be on this host."""

import dataclasses

from cliff import lister

from kongming.cli import columns
from kongming.cli import help as help_mod
from kongming.cli import survey
from kongming.domain import audit
from kongming import exception
from kongming.interference import owners as owners_mod
from kongming.interference import violations
from kongming.kernel import accounts
from kongming.kernel import irq
from kongming.kernel import ovs

COLUMNS = ('kind', 'domain', 'thread', 'pcpus', 'other', 'text')
_KINDS = audit.KINDS + violations.KINDS
#: Exit status.
FOUND = 2


class Check(help_mod.Help, lister.Lister):
    """Check that the domains here keep to what they own.

    It looks at all domains that run, and needs to be root. It can find::

        overlap    a pCPU that two domains own
        foreign    a vCPU or I/O thread on a pCPU of another domain's
        emulator   emulator threads on a pCPU of another domain's
        isolate    somebody on a core of a domain with
                   hw:cpu_thread_policy=isolate
        memory     memory on a node that it may not be on
        offline    a thread pinned to a pCPU that is not online
        affinity   a thread that the kernel has elsewhere than the XML
        template   a domain elsewhere than its flavor's template says

    and with --host, or if --kind names them, what of the host itself could
    disturb owned pCPUs ('kongming report' shows what does)::

        thread     threads of the host and its kernel that may run there
        interrupt  of a device, that may come there
        workqueue  unbound workqueues of the kernel that may work there
        governor   that changes the frequency there
        pmd        polling threads of Open vSwitch there

    A domain owns the pCPUs to which its vCPUs are pinned one to one. A domain
    of Nova owns those of its dedicated vCPUs. Servers that borrow may use
    pCPUs that a profile leaves unused.

    Exit status: 0 nothing was found, 2 something was found. With any other
    status it could not look (1 an error, 64 a mistake in the command line).

    Examples::

        kongming check
        kongming check --kind overlap --kind memory instance-0000002a
        kongming check --host vnf-1
        kongming check -f json || notify-the-operator
    """

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument('domain', metavar='<domain>', nargs='*',
                            help='Show only what concerns this domain (name '
                                 'or UUID), as the one that does wrong or '
                                 'the one that suffers.')
        parser.add_argument('--kind', metavar='<kind>', action='append',
                            choices=_KINDS,
                            help=f'Show only violations of this kind; can be '
                                 f'repeated: {", ".join(_KINDS)}.')
        parser.add_argument('--host', action='store_true',
                            help='Show what of the host itself could disturb '
                                 'owned pCPUs, too.')
        survey.add_arguments(parser)
        return parser

    def run(self, parsed_args):
        return super().run(parsed_args) or (FOUND if self.app.found else 0)

    def take_action(self, parsed_args):
        kinds = parsed_args.kind or audit.KINDS + (
            violations.KINDS if parsed_args.host else ())
        seen = survey.look(parsed_args, memory=True)
        names = {each.domain.name for each in survey.choose(
            seen.running, parsed_args.domain)}
        found = [each for each in audit.find(seen.host, seen.state,
                                             seen.running)
                 if names & {each.domain, each.other}]
        if set(kinds).intersection(violations.KINDS):
            found += _of_host(seen, names)
        found = [each for each in found if each.kind in kinds]
        self.app.found = bool(found)
        return COLUMNS, [
            (each.kind, each.domain, columns.Maybe(
                each.thread and exception.printable(each.thread)),
             columns.Pcpus(each.pcpus), columns.Maybe(each.other),
             exception.printable(each.text))
            for each in found]


def _of_host(seen, names):
    """What could disturb the pCPUs of some domains."""
    owners = owners_mod.of_running(
        zip(seen.pids, seen.running), seen.state,
        {each.domain.uuid for each in seen.running
         if each.domain.name in names})
    with accounts.Reader() as reader:
        settings = dataclasses.replace(reader.settings(), pmd=ovs.pmd())
        return violations.find(reader.read(owners.pcpus), settings,
                               irq.read(), owners)
