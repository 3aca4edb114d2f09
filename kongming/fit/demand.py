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

"""What is asked of a host: a guest with its template.

A :class:`Demand` is made once a request; :func:`resolve` says what its
template names on one host.
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Iterator
from collections.abc import Mapping
from typing import NamedTuple

from kongming.fit import packing
from kongming.host import topology
from kongming.host import usage
from kongming.template import cache_claims
from kongming.template import grammar
from kongming.template import guest as guest_mod
from kongming.template import template as template_mod

Unfit = packing.Unfit


class CellDemand(NamedTuple):
    """What one cell asks of a node.

    :ivar vcpus: the dedicated ones, ascending
    :ivar extra: pCPUs to own beside theirs, for emulator threads
    :ivar need: pCPUs to own in all
    :ivar shared: how many shared vCPUs it has
    :ivar memory_mib: its memory
    :ivar page_kib: the size of its pages, as of a guest's cell
    :ivar node: the node that the template names, or None
    :ivar claim: what it claims of caches, or None
    :ivar counted: whether it asks for counts of pCPUs and memory only, of
        any node
    """

    number: int
    cell: guest_mod.Cell
    vcpus: tuple[int, ...]
    extra: int
    need: int
    shared: int
    memory_mib: int
    page_kib: int | None
    node: int | None
    claim: usage.CacheClaim | None
    counted: bool


class Demand:
    """A guest and its template, looked at once for all hosts.

    :ivar problem: why no host at all could take them, or None
    :ivar cells: what each cell asks for
    :ivar alike: for each cell the first one that asks for the same
    :ivar names_pcpus: whether anything is to be resolved on each host
    :ivar policy: the thread policy, None where any pCPUs do
    """

    def __init__(self, guest: guest_mod.Guest,
                 template: template_mod.Template) -> None:
        self.guest = guest
        self.template = template
        self.problem = (next(check_guest(guest, template), None)
                        if template else None)
        self.names_pcpus = bool(
            template.pins or template.profiles or template.iothreads
            or isinstance(template.emulator, tuple))
        policy = guest.thread_policy
        self.policy = None if policy == 'prefer' else policy
        self.cells = []
        claims = (cache_claims.claims(template, guest)
                  if cache_claims.concerns(template) else {})
        for number, cell in enumerate(guest.cells):
            extra = 1 if guest.emulator_isolated and number == 0 else 0
            shared, node = len(cell.shared), template.nodes.get(number)
            claim, page_kib = claims.get(number), cell.page_kib
            self.cells.append(CellDemand(
                number, cell, tuple(sorted(cell.dedicated)), extra,
                len(cell.dedicated) + extra, shared, cell.memory_mib,
                page_kib, node, claim,
                bool(cell.dedicated and self.policy is None and not shared
                     and not extra and page_kib is None and node is None
                     and claim is None)))
        first: dict[tuple[object, ...], int] = {}
        # But for its number and those of its vCPUs.
        self.alike = [first.setdefault(cell[3:], cell.number)
                      for cell in self.cells]


def check_guest(guest: guest_mod.Guest,
                template: template_mod.Template) -> Iterator[str]:
    """What the template wants of this guest that it hasn't, host or no host.

    Yields nothing where they go together.
    """
    everything = {v for cell in guest.cells
                  for v in cell.dedicated | cell.shared}
    for number in template.cells:
        if number >= len(guest.cells):
            yield (f'cell {number}: the guest has {len(guest.cells)} NUMA '
                   f'cell(s), counted from 0; hw:numa_nodes makes more')
            continue
        cell = guest.cells[number]
        for where, pins, base in (
                (f'cell {number}', template.pins.get(number, ()), True),
                *((f'profile {name}, cell {number}',
                   profile.pins.get(number, ()), False)
                  for name, profile in template.profiles.items())):
            for pin in pins:
                for vcpu in pin.vcpu_ids():
                    problem = _check_vcpu(vcpu, cell, everything,
                                          pin.floats, base)
                    if problem:
                        yield f'{where}: {problem}'
        for name, profile in template.profiles.items():
            for pin in profile.pins.get(number, ()):
                yield from _check_owners(f'profile {name}, cell {number}',
                                         pin.targets, guest)
    if template.borrow and not any(cell.shared for cell in guest.cells):
        yield ('borrow: no vCPU of the server is shared, and only these use '
               'what others lend; set hw:cpu_policy to shared, or mixed with '
               'a mask')
    if template.balance and not guest.cells:
        yield ('balance: the server has no NUMA cells that could go to '
               'another node; hw:numa_nodes makes some')
    sources: list[tuple[
        str, template_mod.Template | template_mod.Profile]] = [('', template)]
    sources += [(f'profile {name}, ', profile)
                for name, profile in template.profiles.items()]
    for where, source in sources:
        for key, ranges in (
                ('sched', [r for s in source.sched for r in s.vcpus]),
                ('qos', [r for q in source.qos for r in q.vcpus]),
                ('cache', [r for c in source.cache for r in c.vcpus])):
            for part in ranges:
                # Of a server without NUMA cells the count is not known here.
                if guest.cells and part.high not in everything:
                    yield f'{where}{key}: {_beyond(part.high, everything)}'
        if source.cache and not guest.cells:
            # Its caches are those of the nodes that it is on.
            yield (f'{where}cache: the server has no NUMA cells; '
                   f'hw:numa_nodes or hw:cpu_policy makes some')
    yield from _check_threads(guest, template)


def _beyond(vcpu: int, everything: Collection[int]) -> str:
    return f"vCPU {vcpu} is beyond the flavor's {len(everything)} vCPU(s)"


def _check_vcpu(vcpu: int, cell: guest_mod.Cell,
                everything: Collection[int], floats: bool,
                base: bool) -> str | None:
    if vcpu not in everything:
        return _beyond(vcpu, everything)
    if vcpu not in cell.dedicated and vcpu not in cell.shared:
        mine = topology.format_cpu_list(cell.dedicated | cell.shared)
        return (f'vCPU {vcpu} is in another cell; this one has vCPU(s) '
                f'{mine}')
    if base and vcpu in cell.dedicated and floats:
        return (f'vCPU {vcpu} is dedicated and owns one pCPU; only a shared '
                f'vCPU floats')
    if base and vcpu in cell.shared and not floats:
        return (f'vCPU {vcpu} is not dedicated and can own no pCPU; set '
                f'hw:cpu_policy to dedicated, or mixed with a mask')
    return None


def _check_owners(where: str, targets: tuple[grammar.Target, ...],
                  guest: guest_mod.Guest) -> Iterator[str]:
    """Whether the vCPUs that a target refers to own a pCPU."""
    owners = {vcpu for cell in guest.cells for vcpu in cell.dedicated}
    for target in targets:
        if isinstance(target, grammar.OfVcpus):
            for vcpu in target.vcpus.ids():
                if vcpu not in owners:
                    yield (f'{where}: {target}: vCPU {vcpu} is not '
                           f'dedicated and owns no pCPU')
                    break


def _check_threads(guest: guest_mod.Guest,
                   template: template_mod.Template) -> Iterator[str]:
    for where, threads in (
            ('emulator', template.emulator),
            *((f'iothread.{n}', t) for n, t in template.iothreads.items()),
            *((f'profile {name}, emulator', profile.emulator)
              for name, profile in template.profiles.items())):
        if isinstance(threads, tuple):
            yield from _check_owners(where, threads, guest)
    own = [name for name, threads in (
        ('emulator', template.emulator),
        *((f'iothread.{n}', t) for n, t in template.iothreads.items()))
        if threads == grammar.OWN]
    if own and not guest.emulator_isolated:
        yield (f'{own[0]} = own: the server is given no pCPU for it; set '
               f'hw:emulator_threads_policy to isolate')
    if (guest.emulator_isolated and isinstance(template.emulator, tuple)
            and (grammar.count_targets(template.emulator) != 1
                 or isinstance(template.emulator[0], grammar.OfVcpus))):
        yield ('emulator: with hw:emulator_threads_policy=isolate it owns '
               'one pCPU, so name exactly one, and none of a vCPU')


class Resolved(NamedTuple):
    """A template's pCPUs, resolved on one host.

    :ivar exact: for each cell, vCPU -> pCPU
    :ivar floats: for each cell, vCPU -> pCPUs
    :ivar emulator: the pCPU that is to be owned for emulator threads, if the
        template names it
    """

    exact: list[dict[int, int]]
    floats: list[dict[int, frozenset[int]]]
    emulator: int | None = None


#: Of a template that names no pCPU.
NOTHING_NAMED = Resolved([], [])


def resolve(host: usage.HostState, demand: Demand) -> Resolved:
    """What the template names on this host.

    :raises Unfit: where the host can't have it, taken or not
    """
    guest, template = demand.guest, demand.template
    resolved = Resolved([], [])
    owner: dict[int, int] = {}
    for number in range(len(guest.cells)):
        exact: dict[int, int] = {}
        floats: dict[int, frozenset[int]] = {}
        for pin in template.pins.get(number, ()):
            pcpus = _resolve(host, pin.targets, f'cell {number}')
            if pin.floats:
                _only(host.shared, pcpus, f'cell {number}: a shared vCPU '
                                          f'floats over cpu_shared_set')
                floats.update(dict.fromkeys(pin.vcpu_ids(),
                                            frozenset(pcpus)))
                continue
            for vcpu, pcpu in zip(pin.vcpu_ids(), pcpus):
                if pcpu in owner:
                    raise Unfit(
                        'template', f'cell {number}: vCPUs {owner[pcpu]} and '
                                    f'{vcpu} are both pinned to pCPU {pcpu}',
                        (pcpu,))
                owner[pcpu] = vcpu
                exact[vcpu] = pcpu
        resolved.exact.append(exact)
        resolved.floats.append(floats)
    return resolved._replace(emulator=_resolve_threads(host, demand, owner))


def _resolve_threads(host: usage.HostState, demand: Demand,
                     owner: Mapping[int, int]) -> int | None:
    """Check emulator, I/O threads and profiles; the emulator's own pCPU."""
    template = demand.template
    emulator = None
    reach = host.shared.union(owner)
    words = 'neither pinned by this template nor in cpu_shared_set'
    if isinstance(template.emulator, tuple):
        pcpus = _resolve(host, template.emulator, 'emulator')
        if demand.guest.emulator_isolated:
            emulator = pcpus[0]
            if emulator in owner:
                raise Unfit('template', f'emulator: pCPU {emulator} is '
                                        f'pinned to vCPU {owner[emulator]}',
                            (emulator,))
            reach |= {emulator}
        else:
            _only(reach, pcpus, f'emulator: {words}')
    for number, threads in template.iothreads.items():
        if isinstance(threads, tuple):
            where = f'iothread.{number}'
            _only(reach, _resolve(host, threads, where), f'{where}: {words}')
    for name, profile in template.profiles.items():
        where = f'profile {name}'
        for pins in profile.pins.values():
            for pin in pins:
                _only(reach, _resolve(host, pin.targets, where),
                      f'{where}: {words}')
        if isinstance(profile.emulator, tuple):
            _only(reach, _resolve(host, profile.emulator, where),
                  f'{where}: {words}')
    return emulator


def _resolve(host: usage.HostState, targets: tuple[grammar.Target, ...],
             where: str) -> list[int]:
    try:
        pcpus = grammar.resolve(targets, host)
    except grammar.Unresolvable as exc:
        raise Unfit('template', f'{where}: {exc}') from exc
    never = host.never.intersection(pcpus)
    if never:
        raise Unfit('never', f'{where}: {never_words(never)}', never)
    return pcpus


def never_words(pcpus: Collection[int]) -> str:
    return (f'pCPU {topology.format_cpu_list(pcpus)} is never given to a '
            f'template on this host ([kongming] never_pcpus)')


def _only(reach: Collection[int], pcpus: Collection[int],
          words: str) -> None:
    beyond = [pcpu for pcpu in pcpus if pcpu not in reach]
    if beyond:
        raise Unfit('template', f'{words}: pCPU '
                                f'{topology.format_cpu_list(beyond)} of this '
                                f'host is not', beyond)
