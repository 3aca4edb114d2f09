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

"""What is legal in a template but surely not meant."""

from __future__ import annotations

from collections.abc import Iterator
import itertools

from kongming.fit import demand as demand_mod
from kongming.host import usage
from kongming.template import choices
from kongming.template import condition as condition_mod
from kongming.template import grammar
from kongming.template import template as template_mod
from kongming.template import tuning
from kongming.template import when

#: From here on a vCPU competes with the kernel's own real-time threads
#: (migration and watchdog are at 99; threaded interrupts at 50).
_HIGH_PRIORITY = 50
#: Hundredths of a per cent between two thresholds; figures differ by as much
#: from one time to the next.
_NARROW = 100
#: Seconds for which what lowers its own figure should hold.
_HOLD = 120


def lint(demand: demand_mod.Demand,
         host: usage.HostState | None = None) -> Iterator[str]:
    """Warnings, a sentence each.

    :param host: what can only be known of a host is looked at where one is
        given
    """
    template = demand.template
    yield from _lint_profiles(template)
    cells = range(len(demand.guest.cells))
    if template.balance and cells and not any(map(template.is_open, cells)):
        yield ('balance has nothing to move: of each cell the template names '
               'the node or pins')
    for where, sched, qos in (
            ('', template.sched, template.qos),
            *((f'profile {name}: ', profile.sched, profile.qos)
              for name, profile in template.profiles.items())):
        yield from _lint_tuning(where, sched, qos)
    if host is not None:
        try:
            resolved = demand_mod.resolve(host, demand)
        except demand_mod.Unfit:
            return
        yield from _lint_on_host(demand, host, resolved)


def _lint_profiles(template: template_mod.Template) -> Iterator[str]:
    for name, profile in template.profiles.items():
        if not profile.when and 'profile' not in template.grant:
            yield (f'profile {name} is never active: it has no window '
                   f'(profile.{name}.when) and metadata may not choose it '
                   f'(grant = profile)')
        if not (profile.pins or profile.emulator or profile.sched
                or profile.qos or profile.cache):
            yield (f'profile {name} changes nothing, so that it has nothing '
                   f'to lend' if profile.lend
                   else f'profile {name} moves no thread, so that no pCPU '
                        f'is left for power to act on' if profile.power
                   else f'profile {name} changes nothing')
    if 'profile' in template.grant and not template.profiles:
        yield 'a choice of profile is granted, but there is no profile'
    for name, profile in template.profiles.items():
        for clause in profile.when:
            yield from _lint_clause(name, profile, clause)
    for first, second in itertools.combinations(sorted(template.profiles), 2):
        if _is_shadowed(template.profiles[second].when,
                        template.profiles[first].when):
            yield (f'profile {second} is never active by its conditions: '
                   f'profile {first}, which comes before it by name, is '
                   f'active whenever they hold')


def _lint_clause(name: str, profile: template_mod.Profile,
                 clause: when.Clause) -> Iterator[str]:
    """Conditions that never hold together, or that make a server flap."""
    for one, other in itertools.combinations(clause.conditions, 2):
        if one.excludes(other):
            yield (f'profile {name}: {one} and {other} exclude each other, '
                   f'so that it is never active by them')
    for condition in clause.conditions:
        if abs(condition.ends_at - condition.threshold) < min(
                _NARROW, condition.threshold):
            yield (f'profile {name}: {condition} ends at '
                   f'{condition_mod.format_percent(condition.ends_at)}, so '
                   f'near to where it begins that the server would flap')
        if (not condition.below and condition.figure != condition_mod.USE
                and (profile.pins or profile.qos)
                and condition.holds < _HOLD):
            yield (f'profile {name}: it lowers {condition.figure} by itself, '
                   f'and {condition} holds for no more than '
                   f'{condition_mod.format_duration(condition.holds)}, so '
                   f'that the server would flap; hold 10m is usual')


def _is_shadowed(later: when.When, first: when.When) -> bool:
    """Whether of two profiles by load alone the first is always active when
    the later one would be.
    """
    return bool(later) and all(
        clause.window is None and any(
            other.window is None and all(
                any(mine.implies(theirs) for mine in clause.conditions)
                for theirs in other.conditions)
            for other in first)
        for clause in later)


def _vcpus(ranges: tuple[grammar.Range, ...]) -> set[int]:
    return {vcpu for part in ranges for vcpu in part.ids()}


def _lint_tuning(where: str, sched: tuple[tuning.Sched, ...],
                 qos: tuple[tuning.Qos, ...]) -> Iterator[str]:
    realtime = {vcpu for entry in sched if entry.policy in tuning.REALTIME
                for vcpu in _vcpus(entry.vcpus)}
    for entry in qos:
        both = sorted(realtime & _vcpus(entry.vcpus))
        if both and entry.weight is not None:
            yield (f'{where}vCPU {both[0]} has a real-time policy, on which '
                   f'a weight has no effect')
    for policy in sched:
        if policy.priority is not None and policy.priority >= _HIGH_PRIORITY:
            yield (f'{where}{policy}: from priority {_HIGH_PRIORITY} on a '
                   f'busy vCPU can starve interrupts of its pCPU')


def _lint_on_host(demand: demand_mod.Demand, host: usage.HostState,
                  resolved: demand_mod.Resolved) -> Iterator[str]:
    template = demand.template
    node_of = {p: node.id for node in host.nodes
               for p in node.dedicated | node.shared}
    core_of = {p: core for node in host.nodes for core in node.siblings
               for p in core}
    for number, (exact, floats) in enumerate(
            zip(resolved.exact, resolved.floats)):
        by_core: dict[frozenset[int], int] = {}
        for vcpu, pcpu in exact.items():
            core = frozenset(core_of.get(pcpu, {pcpu}))
            if core in by_core and demand.policy == 'isolate':
                yield (f'cell {number}: vCPUs {by_core[core]} and {vcpu} '
                       f'are on one core, and the thread policy is isolate')
            by_core[core] = vcpu
        home = template.nodes.get(number)
        if home is None and exact:
            home = node_of.get(next(iter(exact.values())))
        strict = template.memory.get(
            number, choices.STRICT) == choices.STRICT
        away = sorted({node_of[p] for pcpus in floats.values()
                       for p in pcpus if p in node_of} - {home})
        if home is not None and away and strict:
            yield (f'cell {number}: its memory is strictly on node {home}, '
                   f'but vCPUs float over node {away[0]} too')
    owner = {p: v for exact in resolved.exact for v, p in exact.items()}
    for name, threads in (
            ('emulator', template.emulator),
            *((f'iothread.{n}', t) for n, t in template.iothreads.items())):
        if isinstance(threads, tuple):
            hit = sorted(set(grammar.resolve(threads, host)) & owner.keys())
            if hit:
                yield (f'{name}: pCPU {hit[0]} is the one of dedicated vCPU '
                       f'{owner[hit[0]]}, which it will disturb')
