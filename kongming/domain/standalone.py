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

"""What a template makes of a domain that is not Nova's.

Nobody accounts pCPUs there: vCPUs that are pinned one to one own theirs, all
others float.  Any pCPU of the host will do that no other domain owns.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
from typing import NamedTuple

from kongming.domain import domain as domain_mod
from kongming import exception
from kongming.host import topology
from kongming.host import usage
from kongming.intent import merge
from kongming.live import threads
from kongming.template import choices
from kongming.template import grammar
from kongming.template import template as template_mod

Pcpus = frozenset[int]


class Plan(NamedTuple):
    """The desired state of a domain that is not Nova's.

    :ivar threads: those that the template says anything of; of the scheduler
        those vCPUs that it names, ``other`` included
    :ivar node: where the memory is to be; None: where it is
    :ivar mode: how it is bound there
    :ivar notes: what has no effect on such a domain, or may be a surprise
    """

    threads: threads.Threads
    node: int | None = None
    mode: str = choices.STRICT
    notes: tuple[str, ...] = ()


class Others(NamedTuple):
    """The other domains of the host.

    :ivar owners: pCPU -> name of the other domain that owns it
    :ivar dedicated: pCPUs that Nova gives to servers; None where not known
    :ivar shared: pCPUs that ``shared`` stands for; None where not known
    """

    owners: Mapping[int, str]
    dedicated: Pcpus | None = None
    shared: Pcpus | None = None


def plan(desired: template_mod.Template, profile: str | None,
         domain: domain_mod.Domain, host: topology.Host,
         others: Others) -> Plan:
    """What a template makes of a domain.

    :param profile: of the template's, to be obeyed on top; None: none
    :raises kongming.exception.NotApplicable: with all that is in the way
    """
    if profile is not None and profile not in desired.profiles:
        raise exception.NotApplicable([
            f"it has no profile '{profile}'; it has "
            f'{", ".join(sorted(desired.profiles)) or "none"}'])
    intent = merge.Intent(desired, profile)
    problems = [*_not_here(intent), *_unknown(desired, intent.overlay, domain)]
    if problems:
        raise exception.NotApplicable(problems)
    desired, notes = _without_effect(_say_shared(desired, others.shared))
    state = usage.of_host(host, None, None)
    intent = merge.Intent(desired, profile)
    exact = _exact(desired, state, problems)
    problems += _not_online(intent, state, exact)
    if problems:
        raise exception.NotApplicable(problems)
    wanted, problems = _threads(intent, domain, state, exact)
    problems += [f'pCPU {pcpu} is owned by the domain {others.owners[pcpu]}'
                 for pcpu in sorted(wanted.pcpus & others.owners.keys())]
    problems += _other_nodes(desired, domain, host, exact)
    if problems:
        raise exception.NotApplicable(problems)
    novas = wanted.pcpus & (others.dedicated or frozenset())
    if novas:
        notes.append(f'pCPU {topology.format_cpu_list(novas)} is in '
                     f"cpu_dedicated_set: Nova doesn't know of this domain "
                     f'and may give it to a server')
    single = len(domain.cells) == 1
    notes += [f'memory.{cell}: how memory is bound is changed together with '
              f'its node only, and of a guest with one NUMA cell'
              for cell in sorted(desired.memory)
              if not single or cell not in desired.nodes]
    return Plan(wanted, desired.nodes.get(0) if single else None,
                desired.memory.get(0, choices.STRICT), tuple(notes))


def _not_here(intent: merge.Intent) -> Iterator[str]:
    """What only Nova's side can do."""
    if intent.qos:
        yield 'qos: it can be had of servers of Nova only'
    if intent.cache:
        yield 'cache: it can be had of servers of Nova only'
    for name, threads_ in _lists(intent.base, intent.overlay):
        if threads_ == grammar.OWN:
            yield (f'{name} = own: nobody gives the domain a pCPU for it; '
                   f'name one')


def _lists(desired: template_mod.Template,
           overlay: template_mod.Profile) -> Iterator[
               tuple[str, grammar.Threads | None]]:
    yield 'emulator', desired.emulator
    yield 'emulator', overlay.emulator
    for number, threads_ in desired.iothreads.items():
        yield f'iothread.{number}', threads_


def _unknown(desired: template_mod.Template, overlay: template_mod.Profile,
             domain: domain_mod.Domain) -> Iterator[str]:
    """vCPUs and cells that the domain hasn't."""
    for cell in sorted({*desired.cells}):
        if cell >= len(domain.cells):
            yield (f'cell {cell}: the domain has {len(domain.cells)} NUMA '
                   f'cell(s), counted from 0')
            continue
        for pin in (*desired.pins.get(cell, ()), *overlay.pins.get(cell, ())):
            for vcpu in pin.vcpu_ids():
                if vcpu >= domain.vcpus:
                    yield (f'cell {cell}: the domain has {domain.vcpus} '
                           f'vCPU(s), counted from 0, and no vCPU {vcpu}')
                elif vcpu not in domain.cells[cell]:
                    mine = topology.format_cpu_list(domain.cells[cell])
                    yield (f'cell {cell}: vCPU {vcpu} is in another cell; '
                           f'this one has vCPU(s) {mine}')
    beyond = sorted(vcpu for vcpu in _scheduled(merge.Intent(desired))
                    if vcpu >= domain.vcpus)
    if beyond:
        yield f'sched: the domain has {domain.vcpus} vCPU(s), counted from 0'


def _scheduled(intent: merge.Intent) -> set[int]:
    return {vcpu for entry in intent.sched for part in entry.vcpus
            for vcpu in part.ids()}


def _say_shared(desired: template_mod.Template,
                shared: Pcpus | None) -> template_mod.Template:
    """The same with pCPUs in place of the word."""
    def said(threads_: grammar.Threads | None) -> grammar.Threads | None:
        if threads_ != grammar.SHARED:
            return threads_
        if not shared:
            raise exception.NotApplicable([
                'shared: which pCPUs are shared is not known; say --shared, '
                "or name nova.conf with --config-file"])
        return tuple(grammar.Range(pcpu, pcpu) for pcpu in sorted(shared))

    return dataclasses.replace(
        desired, emulator=said(desired.emulator),
        iothreads={number: found for number, threads_
                   in desired.iothreads.items()
                   if (found := said(threads_)) is not None},
        profiles={name: dataclasses.replace(
            profile, emulator=said(profile.emulator))
            for name, profile in desired.profiles.items()})


def _without_effect(desired: template_mod.Template) -> tuple[
        template_mod.Template, list[str]]:
    """The same without what means nothing here, and words for that."""
    notes = []
    if desired.borrow:
        notes.append('borrow: nobody lends anything to this domain')
    if desired.balance:
        notes.append('balance: the memory of this domain stays where it is')
    if any(profile.lend for profile in desired.profiles.values()):
        notes.append('lend: what a profile leaves is lent to nobody')
    if any(profile.power for profile in desired.profiles.values()):
        notes.append('power: nobody powers down what a profile leaves')
    if any(profile.when for profile in desired.profiles.values()):
        notes.append('profiles begin and end by --profile only, not on time '
                     'and not by load')
    if desired.grant:
        notes.append('grant: the domain has no metadata')
    return dataclasses.replace(
        desired, borrow=None, balance=None, grant=frozenset(),
        profiles={name: dataclasses.replace(profile, lend=False,
                                            power=None)
                  for name, profile in desired.profiles.items()}), notes


def _exact(desired: template_mod.Template, state: usage.HostState,
           problems: list[str]) -> dict[int, int]:
    """vCPU -> the pCPU that it is to own."""
    exact: dict[int, int] = {}
    owner: dict[int, int] = {}
    for cell, pins in sorted(desired.pins.items()):
        for pin in pins:
            if pin.floats:
                continue
            try:
                pcpus = grammar.resolve(pin.targets, state)
            except grammar.Unresolvable:
                continue  # reported with all that is not online
            for vcpu, pcpu in zip(pin.vcpu_ids(), pcpus):
                if owner.setdefault(pcpu, vcpu) != vcpu:
                    problems.append(
                        f'cell {cell}: vCPUs {owner[pcpu]} and {vcpu} are '
                        f'both pinned to pCPU {pcpu}')
                exact[vcpu] = pcpu
    return exact


def _not_online(intent: merge.Intent, state: usage.HostState,
                exact: Mapping[int, int]) -> Iterator[str]:
    for where, targets in _targets(intent):
        try:
            missing = set(grammar.resolve(
                targets, state, exact)) - state.shared
        except grammar.Unresolvable as exc:
            yield f'{where}: {exc}'
            continue
        if missing:
            yield (f'{where}: the host has no pCPU '
                   f'{topology.format_cpu_list(missing)} online; it has '
                   f'{topology.format_cpu_list(state.shared)}')


def _targets(intent: merge.Intent) -> Iterator[
        tuple[str, tuple[grammar.Target, ...]]]:
    for pins in (intent.base.pins, intent.overlay.pins):
        for cell, entries in sorted(pins.items()):
            for pin in entries:
                yield f'cell {cell}', pin.targets
    for name, threads_ in _lists(intent.base, intent.overlay):
        if isinstance(threads_, tuple):
            yield name, threads_


def _threads(intent: merge.Intent, domain: domain_mod.Domain,
             state: usage.HostState, exact: Mapping[int, int]
             ) -> tuple[threads.Threads, list[str]]:
    """Those threads that the template says anything of, and problems."""
    everywhere = state.shared
    wanted, problems = threads.shape(
        threads.Threads(
            {**dict.fromkeys(range(domain.vcpus), everywhere),
             **{vcpu: frozenset({pcpu}) for vcpu, pcpu in exact.items()}},
            everywhere, dict.fromkeys(domain.iothreads, everywhere)),
        state, threads.Owned(exact), intent)
    named = {vcpu for pins in (intent.base.pins, intent.overlay.pins)
             for entries in pins.values() for pin in entries
             for vcpu in pin.vcpu_ids()}
    return threads.Threads(
        {vcpu: pcpus for vcpu, pcpus in wanted.vcpus.items()
         if vcpu in named},
        wanted.emulator if intent.emulator is not None else None,
        {number: wanted.iothreads[number]
         for number in intent.base.iothreads
         if number in wanted.iothreads},
        {vcpu: wanted.sched.get(vcpu, threads.Sched())
         for vcpu in sorted(_scheduled(intent))}), problems


def _other_nodes(desired: template_mod.Template, domain: domain_mod.Domain,
                 host: topology.Host,
                 exact: Mapping[int, int]) -> Iterator[str]:
    for cell, node in sorted(desired.nodes.items()):
        if host.node(node) is None:
            yield (f'cell {cell}: the host has no node {node}, it has '
                   f'node(s) {topology.format_cpu_list(host.node_ids())}')
            continue
        for vcpu in sorted(domain.cells[cell] & exact.keys()):
            found = host.node_of(exact[vcpu])
            if found is not None and found.id != node:
                yield (f'cell {cell} is to be on node {node}, and pCPU '
                       f'{exact[vcpu]} of vCPU {vcpu} is on node {found.id}')
        if len(domain.cells) > 1 and node not in domain.memnodes.get(
                cell, ()):
            yield (f'cell {cell}: libvirt moves the memory of all NUMA cells '
                   f'of a guest together; bind it to node {node} by hand '
                   f"(numatune/memnode, 'virsh edit {domain.name}')")
