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

"""Violations: what is wrong with the domains of a host.

One look at values: nothing here asks anybody, so a pCPU that changes hands
while somebody looks can be reported wrongly; look again before you act.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
from typing import NamedTuple

from kongming.domain import domain as domain_mod
from kongming.domain import expected
from kongming.host import topology
from kongming.host import usage
from kongming.live import threads
from kongming.template import template as template_mod

Pcpus = frozenset[int]
_NOTHING: Pcpus = frozenset()
_BINDING = ('strict', 'restrictive')

#: What can be found; 'kongming check --help' says what each is.
KINDS = ('overlap', 'foreign', 'emulator', 'isolate', 'memory', 'offline',
         'affinity', 'template')


class Finding(NamedTuple):
    """One violation.

    :ivar kind: of :data:`KINDS`
    :ivar domain: name of the domain that does wrong
    :ivar thread: of that domain, if one is concerned
    :ivar pcpus: that are concerned
    :ivar other: name of the domain that suffers, if one does
    """

    kind: str
    domain: str
    thread: str | None
    pcpus: tuple[int, ...]
    other: str | None
    text: str


@dataclasses.dataclass(frozen=True)
class Resident:
    """A running domain and what it owns.

    :ivar desired: the template of its flavor; None where it has none
    """

    running: domain_mod.Running
    owned: threads.Owned
    desired: template_mod.Template | None

    @property
    def name(self) -> str:
        return self.running.domain.name

    @property
    def isolates(self) -> bool:
        flavor = self.running.domain.flavor
        return flavor is not None and flavor.guest.thread_policy == 'isolate'

    def is_on(self, pcpu: int) -> bool:
        """Whether any of its threads may run there now."""
        return any(pcpu in task.allowed for task in self.running.tasks)

    def borrows(self) -> bool:
        return self.desired is not None and self.desired.borrow is not None


def resident(running: domain_mod.Running,
             host: usage.HostState) -> Resident:
    """A domain with what it owns, as far as its host can know.

    A domain that is not Nova's owns what its vCPUs are pinned to one to one;
    where two of them share a pCPU, neither owns it.
    Of Nova's servers the flavor says which vCPUs own a pCPU.  While a profile
    has such a vCPU float, the template says which, if it names pCPUs and no
    metadata can say otherwise.

    :param host: by nova.conf; where it knows no sets, every pCPU is in both
    """
    domain = running.domain
    known = _is_split(host)
    desired = expected.template_of(domain)
    base = expected.exact_pins(desired, host) if desired is not None else {}
    if desired is not None and 'template' in desired.grant:
        base = {}
    vcpus: Iterable[int] = range(domain.vcpus)
    emulator = _NOTHING
    if domain.flavor is not None:
        vcpus = domain.flavor.guest.cells[0].dedicated
        found = domain.pins.emulator or _NOTHING
        if domain.flavor.guest.emulator_isolated and len(found) == 1:
            emulator = found
    pins = {}
    for vcpu in vcpus:
        pcpus = domain.pins.vcpus.get(vcpu, _NOTHING)
        if len(pcpus) == 1 and not (known and pcpus & host.shared):
            pins[vcpu], = pcpus
        elif vcpu in base:
            pins[vcpu] = base[vcpu]
    if domain.flavor is None:
        users = collections.Counter(pins.values())
        pins = {vcpu: pcpu for vcpu, pcpu in pins.items()
                if users[pcpu] == 1}
    if known:
        emulator -= host.shared
    return Resident(running, threads.Owned(
        pins, emulator.difference(pins.values())), desired)


def _is_split(host: usage.HostState) -> bool:
    """Whether shared and dedicated pCPUs are distinct."""
    return any(node.dedicated - node.shared for node in host.nodes)


def find(host: topology.Host, state: usage.HostState,
         running: Iterable[domain_mod.Running]) -> list[Finding]:
    """All that is wrong.

    :param host: the pCPUs that are online, and their cores
    :param state: the same host as nova.conf divides it
    """
    residents = [resident(each, state) for each in sorted(
        running, key=lambda each: each.domain.name)]
    found = [*_overlaps(residents), *_foreign(residents),
             *_shared_cores(residents, host)]
    for each in residents:
        found += _misplaced_memory(each)
        found += _threads(each, host)
        found += _against_template(each, state)
    return found


# Between domains.

def _overlaps(residents: Sequence[Resident]) -> Iterator[Finding]:
    owners: dict[int, Resident] = {}
    for each in residents:
        for pcpu in sorted(each.owned.pcpus):
            first = owners.setdefault(pcpu, each)
            if first is not each:
                yield Finding(
                    'overlap', each.name, _owner(each.owned, pcpu), (pcpu,),
                    first.name,
                    f'pCPU {pcpu} is owned by {_owner(each.owned, pcpu)} of '
                    f'{each.name} and by {_owner(first.owned, pcpu)} of '
                    f'{first.name}')


def _owner(owned: threads.Owned, pcpu: int) -> str:
    return next((f'{domain_mod.VCPU} {vcpu}'
                 for vcpu, own in owned.pins.items() if own == pcpu),
                domain_mod.EMULATOR)


def _foreign(residents: Sequence[Resident]) -> Iterator[Finding]:
    """Threads on what others own; what both own is an overlap.

    What its owner has left, a server that borrows may use.
    """
    everyone = _NOTHING.union(*(each.owned.pcpus for each in residents))
    for each in residents:
        others = [other for other in residents if other is not each]
        taken_by_others = everyone - each.owned.pcpus
        for (kind, number), pcpus in _places(each.running).items():
            if not pcpus & taken_by_others:
                continue  # as a rule; a host has many threads
            for other in others:
                taken = tuple(sorted(
                    pcpu for pcpu in (pcpus & other.owned.pcpus
                                      - each.owned.pcpus)
                    if not each.borrows() or other.is_on(pcpu)))
                if taken:
                    thread = domain_mod.thread_name(kind, number)
                    yield Finding(
                        'emulator' if kind == domain_mod.EMULATOR
                        else 'foreign', each.name, thread, taken, other.name,
                        f'{thread} of {each.name} may run on pCPU '
                        f'{topology.format_cpu_list(taken)}, which '
                        f'{other.name} owns')


def _places(running: domain_mod.Running) -> dict[tuple[str, int], Pcpus]:
    """(kind, number) -> pCPUs that its threads may run on."""
    found: dict[tuple[str, int], Pcpus] = {}
    for task in running.tasks:
        key = task.kind, task.number
        found[key] = found.get(key, _NOTHING) | task.allowed
    return found


def _shared_cores(residents: Sequence[Resident],
                  host: topology.Host) -> Iterator[Finding]:
    for each in residents:
        if not each.isolates:
            continue
        for vcpu, pcpu in sorted(each.owned.pins.items()):
            core = host.core_of(pcpu)
            siblings = frozenset(core.pcpus if core else ()) - {pcpu}
            if not siblings or not each.is_on(pcpu):
                continue
            for other in residents:
                yield from _on_siblings(each, vcpu, siblings, other)


def _on_siblings(owner: Resident, vcpu: int, siblings: Pcpus,
                 other: Resident) -> Iterator[Finding]:
    for (kind, number), pcpus in _places(other.running).items():
        if other is owner and (kind != domain_mod.VCPU or number <= vcpu):
            continue  # reported once; its other threads float over its own
        shared = tuple(sorted(pcpus & siblings))
        if shared:
            thread = domain_mod.thread_name(kind, number)
            yield Finding(
                'isolate', other.name, thread, shared, owner.name,
                f'{thread} of {other.name} may run on pCPU '
                f'{topology.format_cpu_list(shared)}, on the core of vCPU '
                f'{vcpu} of {owner.name}, whose thread policy is isolate')


# Of one domain.

def misplaced_kib(running: domain_mod.Running) -> dict[
        tuple[int, ...], int]:
    """Nodes that memory of a domain may be on -> how much is elsewhere."""
    domain = running.domain
    away: dict[tuple[int, ...], int] = {}
    for ram in running.ram:
        allowed = ram.bound
        if allowed is None and domain.mode in _BINDING:
            allowed = domain.nodes.union(*domain.memnodes.values())
        if not allowed:
            continue
        left = sum(kib for node, kib in ram.kib.items()
                   if node not in allowed)
        if left:
            key = tuple(sorted(allowed))
            away[key] = away.get(key, 0) + left
    return away


def _misplaced_memory(each: Resident) -> Iterator[Finding]:
    domain = each.running.domain
    for nodes, kib in sorted(misplaced_kib(each.running).items()):
        yield Finding(
            'memory', domain.name, None, (), None,
            f'{kib} KiB of the memory of {domain.name} are elsewhere than on '
            f'node {topology.format_cpu_list(nodes)}')


def _threads(each: Resident, host: topology.Host) -> Iterator[Finding]:
    domain = each.running.domain
    reported = set()
    for task in each.running.tasks:
        intended = domain.intended(task.kind, task.number)
        key = task.kind, task.number
        if intended is None or key in reported:
            continue
        thread = domain_mod.thread_name(*key)
        offline = intended - host.pcpus
        if offline:
            reported.add(key)
            yield Finding(
                'offline', domain.name, thread, tuple(sorted(offline)), None,
                f'{thread} of {domain.name} is pinned to pCPU '
                f'{topology.format_cpu_list(offline)}, which is not online')
        if drifted(task, domain, host):
            reported.add(key)
            yield Finding(
                'affinity', domain.name, thread,
                tuple(sorted(task.allowed)), None,
                f'{thread} of {domain.name} (thread {task.id}) may run on '
                f'pCPU {topology.format_cpu_list(task.allowed)}; its XML '
                f'says {topology.format_cpu_list(intended)}')


def drifted(task: domain_mod.Task, domain: domain_mod.Domain,
            host: topology.Host) -> bool:
    """Whether the kernel has a thread elsewhere than the XML says."""
    intended = domain.intended(task.kind, task.number)
    if intended is None or not intended & host.pcpus:
        return False  # without any pCPU online the kernel runs it anywhere
    return task.allowed & host.pcpus != intended & host.pcpus


# Against the template.

def _against_template(each: Resident,
                      host: usage.HostState) -> Iterator[Finding]:
    domain = each.running.domain
    found = expected.expected(domain, host)
    if found is None or each.desired is None:
        return
    for thread, now, wanted in expected.deviations(domain, found):
        yield Finding(
            'template', domain.name, thread, tuple(sorted(now)), None,
            f'{thread} of {domain.name} is on pCPU '
            f'{topology.format_cpu_list(now) or "any"}; its template says '
            f'{topology.format_cpu_list(wanted)}')
    yield from _other_nodes(domain, each.desired.nodes)


def _other_nodes(domain: domain_mod.Domain,
                 wanted: Mapping[int, int]) -> Iterator[Finding]:
    for cell, node in sorted(wanted.items()):
        nodes = domain.memnodes.get(cell)
        if nodes and nodes != {node}:
            yield Finding(
                'template', domain.name, None, (), None,
                f'cell {cell} of {domain.name} is on node '
                f'{topology.format_cpu_list(nodes)}; its template says '
                f'{node}')
