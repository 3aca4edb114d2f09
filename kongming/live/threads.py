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

"""Where the threads of a server are to run, and how they are scheduled.

What a server *owns* is fixed before; :func:`shape` says what its template
makes of the places that Nova gives its threads by itself.
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Mapping
import dataclasses
from typing import NamedTuple

from kongming.fit import demand
from kongming.host import topology
from kongming.host import usage
from kongming.intent import merge
from kongming.template import grammar
from kongming.template import tuning

Pcpus = frozenset[int]


class Sched(NamedTuple):
    """How one thread is scheduled; see :mod:`kongming.template.tuning`."""

    policy: str = 'other'
    priority: int = 0

    def __str__(self) -> str:
        return f'{self.policy}:{self.priority}' if self.priority else (
            self.policy)


@dataclasses.dataclass(frozen=True)
class Threads:
    """All threads of a server.

    :ivar vcpus: vCPU -> pCPUs that it may run on
    :ivar emulator: pCPUs of the emulator threads, None where not pinned
    :ivar iothreads: I/O thread, from 1 -> pCPUs
    :ivar sched: vCPU -> how it is scheduled, where not as usual
    """

    vcpus: Mapping[int, Pcpus] = dataclasses.field(default_factory=dict)
    emulator: Pcpus | None = None
    iothreads: Mapping[int, Pcpus] = dataclasses.field(default_factory=dict)
    sched: Mapping[int, Sched] = dataclasses.field(default_factory=dict)

    @property
    def pcpus(self) -> Pcpus:
        """All that any of them may run on."""
        return (self.emulator or frozenset()).union(
            *self.vcpus.values(), *self.iothreads.values())


class Owned(NamedTuple):
    """What a server has of its host.

    :ivar pins: dedicated vCPU -> its pCPU
    :ivar emulator: pCPUs owned for the emulator threads
    """

    pins: Mapping[int, int]
    emulator: Pcpus = frozenset()

    @property
    def pcpus(self) -> Pcpus:
        return self.emulator.union(self.pins.values())


def shape(default: Threads, host: usage.HostState, owned: Owned,
          intent: merge.Intent,
          lent: Pcpus = frozenset()) -> tuple[Threads, list[str]]:
    """What the template makes of the places that Nova would give.

    Nothing here gives a thread a pCPU that is neither its server's own nor in
    ``cpu_shared_set`` nor lent, nor one that is never given to a template.
    What asks for one is left out, and reported; so is real time for a vCPU
    that others would have to wait for.

    :param default: what Nova gives by itself, each vCPU in it
    :param lent: by other servers, and free of their threads
    :returns: the threads, and what was not obeyed and why
    """
    shaper = _Shaper(host, owned)
    default = shaper.without_never(default)
    vcpus = dict(default.vcpus)
    for number, pins in intent.base.pins.items():
        shaper.float_over(f'pin.{number}', vcpus, [
            pin for pin in pins if pin.floats], host.shared, owned.pins)
    for number, pins in intent.overlay.pins.items():
        key = f'profile.{intent.profile}.pin.{number}'
        shaper.float_over(key, vcpus, [pin for pin in pins if pin.floats],
                          shaper.reach)
        shaper.pair_up(key, vcpus, [pin for pin in pins if not pin.floats])
    left: Pcpus = frozenset()
    if intent.overlay.lend or intent.overlay.power:
        left = frozenset(owned.pins.values()).difference(*vcpus.values())
    if intent.base.borrow:
        for vcpu in vcpus.keys() - owned.pins.keys():
            vcpus[vcpu] |= _borrowed(intent.base.borrow, lent, vcpus[vcpu],
                                     host)
    # Other threads leave with the vCPUs, where nothing is said of them.
    everywhere = frozenset().union(*vcpus.values())
    emulator = default.emulator
    if emulator is not None:
        emulator = shaper.threads('emulator', intent.emulator,
                                  emulator - left or everywhere)
    iothreads = {
        number: shaper.threads(
            f'iothread.{number}', intent.base.iothreads.get(number),
            pcpus - left or everywhere)
        for number, pcpus in default.iothreads.items()}
    for number in sorted(set(intent.base.iothreads) - set(iothreads)):
        shaper.problems.append(
            f'iothread.{number}: the server has {len(iothreads)} I/O '
            f'thread(s), counted from 1')
    return Threads(vcpus, emulator, iothreads, _scheduled(
        default.sched, intent.sched, vcpus, shaper)), shaper.problems


def _borrowed(borrow: str, lent: Pcpus, place: Pcpus,
              host: usage.HostState) -> Pcpus:
    """What of the lent pCPUs a vCPU may use that is at this place."""
    lent = lent - host.never
    if borrow == 'host':
        return lent
    return lent.intersection(
        pcpu for node in host.nodes if place & (node.dedicated | node.shared)
        for pcpu in node.dedicated)


def lends(threads: Threads, owned: Owned, intent: merge.Intent) -> Pcpus:
    """Which of its pCPUs a server has no use for, and lends.

    :param threads: as :func:`shape` gives them
    """
    return (owned.pcpus - threads.pcpus if intent.overlay.lend
            else frozenset())


def _scheduled(default: Mapping[int, Sched],
               wanted: tuple[tuning.Sched, ...], vcpus: Mapping[int, Pcpus],
               shaper: _Shaper) -> dict[int, Sched]:
    sched = dict(default)
    for entry in wanted:
        for part in entry.vcpus:
            for vcpu in part.ids():
                if vcpu not in vcpus:
                    continue
                if (entry.policy in tuning.REALTIME
                        and not vcpus[vcpu] <= shaper.owned.pcpus):
                    shaper.problems.append(
                        f'sched: vCPU {vcpu} is not scheduled in real time, '
                        f'since it does not run on pCPUs of its own')
                    continue
                sched[vcpu] = Sched(entry.policy, entry.priority or 0)
    return {vcpu: found for vcpu, found in sched.items()
            if found != Sched()}


class _Shaper:
    def __init__(self, host: usage.HostState, owned: Owned) -> None:
        self.host = host
        self.owned = owned
        self.reach = owned.pcpus | host.shared
        self.problems: list[str] = []

    def float_over(self, key: str, vcpus: dict[int, Pcpus],
                   pins: Iterable[grammar.Pin], reach: Collection[int],
                   but: Collection[int] = ()) -> None:
        """Have vCPUs float, all but some."""
        for pin in pins:
            pcpus = self._resolve(key, pin.targets, reach)
            if pcpus is not None:
                vcpus.update({vcpu: frozenset(pcpus)
                              for vcpu in pin.vcpu_ids()
                              if vcpu in vcpus and vcpu not in but})

    def pair_up(self, key: str, vcpus: dict[int, Pcpus],
                pins: Iterable[grammar.Pin]) -> None:
        """Have each vCPU on one of the targets, in their order."""
        for pin in pins:
            pcpus = self._resolve(key, pin.targets, self.reach) or ()
            vcpus.update({
                vcpu: frozenset({pcpu})
                for vcpu, pcpu in zip(pin.vcpu_ids(), pcpus)
                if vcpu in vcpus})

    def without_never(self, default: Threads) -> Threads:
        """Less than Nova would give, but for what is owned already."""
        never = self.host.never - self.owned.pcpus
        if not never:
            return default

        def less(pcpus: Pcpus, which: str) -> Pcpus:
            if not pcpus & never:
                return pcpus
            if pcpus <= never:
                self.problems.append(f'{which} has no other pCPU than those '
                                     f'of [kongming] never_pcpus')
                return pcpus
            return pcpus - never

        return dataclasses.replace(
            default,
            vcpus={vcpu: less(pcpus, f'vCPU {vcpu}')
                   for vcpu, pcpus in default.vcpus.items()},
            emulator=(None if default.emulator is None
                      else less(default.emulator, 'emulator')),
            iothreads={number: less(pcpus, f'iothread.{number}')
                       for number, pcpus in default.iothreads.items()})

    def threads(self, key: str, threads: grammar.Threads | None,
                otherwise: Pcpus) -> Pcpus:
        if threads is None:
            return otherwise
        if threads == grammar.OWN:
            return self.owned.emulator or otherwise
        if isinstance(threads, str):
            return self.host.shared or otherwise
        found = self._resolve(key, threads, self.reach)
        return otherwise if found is None else frozenset(found)

    def _resolve(self, key: str, targets: tuple[grammar.Target, ...],
                 reach: Collection[int]) -> list[int] | None:
        try:
            pcpus = grammar.resolve(targets, self.host, self.owned.pins)
        except grammar.Unresolvable as exc:
            self.problems.append(f'{key}: {exc}')
            return None
        beyond = set(pcpus).difference(reach)
        if beyond & self.host.never:
            self.problems.append(
                f'{key}: {demand.never_words(beyond & self.host.never)}')
            return None
        if beyond:
            self.problems.append(
                f'{key}: pCPU {topology.format_cpu_list(beyond)} is neither '
                f'its own nor in cpu_shared_set')
            return None
        return pcpus


def changes(now: Threads, wanted: Threads) -> list[str]:
    """In words, what has to change; nothing where all is as wanted.

    Schedulers are compared where ``now`` knows them.
    """
    found = [f'vCPU {vcpu}: {_change(now.vcpus.get(vcpu), pcpus)}'
             for vcpu, pcpus in sorted(wanted.vcpus.items())
             if now.vcpus.get(vcpu) != pcpus]
    if wanted.emulator is not None and now.emulator != wanted.emulator:
        found.append(f'emulator: {_change(now.emulator, wanted.emulator)}')
    found += [f'iothread {number}: '
              f'{_change(now.iothreads.get(number), pcpus)}'
              for number, pcpus in sorted(wanted.iothreads.items())
              if now.iothreads.get(number) != pcpus]
    found += [f'vCPU {vcpu}: {before} -> {after}'
              for vcpu, before in sorted(now.sched.items())
              if before != (after := wanted.sched.get(vcpu, Sched()))]
    return found


def _change(before: Pcpus | None, after: Pcpus) -> str:
    return (f'pCPU {topology.format_cpu_list(before) if before else "-"} -> '
            f'{topology.format_cpu_list(after)}')
