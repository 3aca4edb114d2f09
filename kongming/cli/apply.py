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

"""``kongming apply``: a template onto a domain that is not Nova's."""

import collections
import dataclasses

from cliff import show

from kongming.cli import columns
from kongming.cli import help as help_mod
from kongming.cli import source
from kongming.cli import survey
from kongming.domain import audit
from kongming.domain import domain as domain_mod
from kongming.domain import standalone
from kongming import exception
from kongming.host import capabilities
from kongming.host import topology
from kongming.host import usage
from kongming.kernel import process
from kongming.libvirt import affinity
from kongming.libvirt import hypervisor
from kongming.libvirt import memory
from kongming.live import threads
from kongming.template import document

COLUMNS = ('domain', 'uuid', 'live', 'persistent', 'notes')


class Target:
    """A domain that a plan is carried out on.

    :param conn: libvirt.virConnect that may write
    :param domain: libvirt.virDomain
    :param width: number of the host's pCPUs, offline ones included
    """

    def __init__(self, conn, domain, plan, width):
        self._conn = conn
        self._domain = domain
        self._plan = plan
        self._width = width
        self._pid = process.pid(domain) if domain.isActive() else None

    def differences(self):
        """In words, what is not as planned: now, and from the next start."""
        live, later = [], []
        if self._domain.isActive():
            live = threads.changes(self._now(), self._plan.threads)
            live += self._memory(0)
        if self._domain.isPersistent():
            later = threads.changes(
                self._only_named(affinity.read_config(self._domain)),
                self._plan.threads)
            later += self._memory(memory.INACTIVE)
        return live, later

    def _now(self):
        sched = process.schedulers(self._pid) if self._pid else {}
        return self._only_named(dataclasses.replace(
            affinity.read(self._domain), sched=sched))

    def _only_named(self, now):
        """With the scheduler of those vCPUs only that the plan names."""
        return dataclasses.replace(now, sched={
            vcpu: now.sched.get(vcpu, threads.Sched())
            for vcpu in self._plan.threads.sched})

    def _memory(self, flags):
        if self._plan.node is None:
            return []
        bound = memory.read(self._domain, flags)
        if bound.nodes != {self._plan.node}:
            before = topology.format_cpu_list(bound.nodes) or 'any'
            return [f'memory: node {before} -> {self._plan.node}']
        # How it is bound libvirt does not change of a running domain; what
        # is restrictive is strict and can be moved as well.
        mode = 'strict' if bound.mode == memory.RESTRICTIVE else bound.mode
        if flags == memory.INACTIVE and mode != self._plan.mode:
            return [f'memory: {mode} -> {self._plan.mode}']
        return []

    def check(self):
        """What would be in the way of a running domain.

        :raises kongming.exception.KongmingError: naming it
        """
        if not self._domain.isActive():
            return
        if self._plan.threads.sched and self._pid is None:
            raise exception.NotVisible(
                name=self._domain.name(),
                reason='its QEMU process is not known here')
        if self._memory(0):
            bound = memory.read(self._domain)
            # Unbound memory libvirt moves, once.
            reason = memory.why_not(bound) if bound.mode else ''
            if reason:
                raise exception.NotApplicable([
                    f'cell 0 is to be on node {self._plan.node}: {reason}; '
                    f"stop the domain ('virsh shutdown "
                    f"{self._domain.name()}'), apply, and start it"])
            memory.check_free_memory(self._conn, bound.size_kib,
                                     bound.page_kib, self._plan.node)

    def carry_out(self):
        """Do what differs.

        :raises kongming.exception.KongmingError: if it can't be done; what
            was changed of running threads is rolled back
        """
        before = affinity.read(self._domain)
        sched = self._now().sched if self._pid else {}
        done = False
        try:
            self._change()
            done = True
        except (OSError, RuntimeError) as exc:
            raise exception.NotApplicable([
                getattr(exc, 'strerror', None) or str(exc)]) from exc
        finally:
            if not done:
                self._roll_back(before, sched)
        left = [text for texts in self.differences() for text in texts]
        if left:
            raise exception.NotApplicable([
                f'it was done, but it is not so: {"; ".join(left)}'])

    def _change(self):
        if self._domain.isActive():
            affinity.apply(self._domain, dataclasses.replace(
                self._plan.threads, sched={}), self._width)
            self._schedule(self._plan.threads.sched)
            if self._memory(0):
                memory.move(self._domain, self._plan.node, self._where)
        if self._domain.isPersistent():
            self._persist()

    def _persist(self):
        affinity.apply_config(self._domain, self._plan.threads, self._width)
        if self._memory(memory.INACTIVE):
            memory.bind(self._domain, self._plan.node, self._plan.mode)

    def _schedule(self, sched):
        if self._pid is None:
            return
        now = process.schedulers(self._pid)
        for vcpu, (policy, priority) in sched.items():
            if vcpu in now and now[vcpu] != (policy, priority):
                process.set_scheduler(self._pid, vcpu, policy, priority)

    def _where(self):
        """node -> KiB of its memory; None where that can't be seen."""
        if self._pid is None:
            return None
        found: collections.Counter[int] = collections.Counter()
        for ram in process.ram(self._pid,
                               memory.read(self._domain).size_kib):
            found.update(ram.kib)
        return found

    def _roll_back(self, before, sched):
        """Threads that had no pins of their own may be anywhere again."""
        wanted = self._plan.threads
        everywhere = frozenset(range(self._width))
        affinity.apply(self._domain, threads.Threads(
            {vcpu: before.vcpus.get(vcpu, everywhere)
             for vcpu in wanted.vcpus},
            (before.emulator or everywhere) if wanted.emulator else None,
            {number: before.iothreads.get(number, everywhere)
             for number in wanted.iothreads}), self._width)
        self._schedule(sched)


class Apply(help_mod.Help, show.ShowOne):
    """Place a domain that is not Nova's as a template says.

    The template is a document, YAML or JSON, as for 'openstack kongming
    template set'. A running domain changes while it runs, and a persistent
    one also for its next start. What the template does not name stays as it
    is. pCPUs that the host does not have, or that another domain owns, are
    refused. How memory is bound (strict or preferred) changes with the next
    start.

    There is no flavor: a vCPU that the template pins to one pCPU owns it, and
    others float over any pCPUs. Relative addresses (n0c2t1) count cores over
    all pCPUs of the host. 'shared' stands for cpu_shared_set.

    Servers of Nova are refused, since Nova would not know of the change: use
    'openstack kongming server set'. With --force they are changed all the
    same, until Nova or KongMing's hook moves them back, at the latest with a
    hard reboot.

    Examples::

        kongming apply du.yaml du-1 --dry-run
        kongming apply du.yaml du-1
        kongming apply --profile night du.yaml du-1
        kongming apply - du-1 < du.yaml
    """

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument('file', metavar='<file>',
                            help='Template; - for standard input.')
        parser.add_argument('domain', metavar='<domain>',
                            help='Domain (name or UUID), running or not.')
        parser.add_argument('--profile', metavar='<name>',
                            help="The template's profile that is to be "
                                 'active (default: none).')
        parser.add_argument('--dry-run', action='store_true',
                            help='Check it and show what would be changed; '
                                 'change nothing.')
        parser.add_argument('--force', action='store_true',
                            help='Change a server of Nova, too.')
        survey.add_arguments(parser)
        return parser

    def take_action(self, parsed_args):
        desired = document.parse(source.read_text(parsed_args.file))
        sets = source.read_sets(parsed_args, source.NOVA_CONF)
        with hypervisor.connection(parsed_args.connect, write=True) as conn:
            domain = hypervisor.domain(conn, parsed_args.domain)
            spec = domain_mod.parse(domain.XMLDesc(0))
            if spec.flavor is not None and not parsed_args.force:
                raise exception.NotApplicable([
                    f'{spec.name} is the server {spec.flavor.server} '
                    f'({spec.uuid}) of Nova, which would not know; use '
                    f"'openstack kongming server set', or say --force"])
            host = capabilities.parse(conn.getCapabilities())
            plan = standalone.plan(
                desired, parsed_args.profile, spec, host, standalone.Others(
                    _owners(conn, spec, host, sets),
                    sets and sets.dedicated, sets and sets.shared))
            target = Target(conn, domain, plan, conn.getInfo()[2])
            target.check()
            live, later = target.differences()
            if (live or later) and not parsed_args.dry_run:
                target.carry_out()
        return COLUMNS, (spec.name, spec.uuid, columns.Lines(live),
                         columns.Lines(later), columns.Lines(plan.notes))


def _owners(conn, spec, host, sets):
    """pCPU -> the other domain that owns it."""
    state = usage.of_host(host, sets and sets.dedicated,
                          sets and sets.shared)
    found = {}
    for _domain, xml in hypervisor.running(conn):
        other = domain_mod.parse(xml)
        if other.uuid != spec.uuid:
            owned = audit.resident(domain_mod.Running(other), state).owned
            found.update(dict.fromkeys(owned.pcpus, other.name))
    return found
