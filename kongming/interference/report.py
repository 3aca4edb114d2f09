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

"""What an interval comes to: owners, who disturbed them, and remedies.

A :class:`Tally` adds intervals up as they come; :meth:`Tally.report` says at
any time what there was so far.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping
import dataclasses
from typing import NamedTuple

from kongming.interference import difference
from kongming.interference import disturbance
from kongming.interference import irq as irq_mod
from kongming.interference import remedy
from kongming.interference import snapshot
from kongming.interference import trace as trace_mod

#: irq_vectors (arch/x86/include/asm/trace/irq_vectors.h) -> /proc/interrupts.
VECTORS = {'local_timer': 'Local timer interrupts',
           'reschedule': 'Rescheduling interrupts',
           'call_function': 'Function call interrupts',
           'call_function_single': 'Function call interrupts',
           'irq_work': 'IRQ work interrupts',
           'thermal_apic': 'Thermal event interrupts',
           'spurious_apic': 'Spurious interrupts'}


class Owned(NamedTuple):
    """What the thread had that owns a pCPU.

    :ivar times: None where it is not one thread
    """

    pcpu: int
    owner: disturbance.Owner
    times: snapshot.Times | None
    switches: snapshot.Switches | None


class Entry(NamedTuple):
    disturbance: disturbance.Disturbance
    remedy: str


@dataclasses.dataclass(frozen=True)
class Report:
    """What an interval comes to.

    :ivar seconds: how long
    :ivar owned: by pCPU
    :ivar disturbances: the worst first
    :ivar background: what no setting takes away, or what is too little
    :ivar not_traced: why there was no trace; empty: there was
    :ivar lost: events that the trace has lost
    """

    seconds: float
    owned: tuple[Owned, ...] = ()
    disturbances: tuple[Entry, ...] = ()
    background: tuple[Entry, ...] = ()
    not_traced: str = ''
    lost: int = 0


class Tally:
    """Intervals of one host, added up."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.owners = disturbance.Owners({})
        self._found: dict[disturbance.Key, disturbance.Disturbance] = {}
        self._times: dict[int, snapshot.Times] = {}
        self._switches: dict[int, snapshot.Switches] = {}
        self._threads: dict[int, snapshot.Thread] = {}

    def add(self, interval: difference.Interval,
            owners: disturbance.Owners) -> None:
        """:param owners: who owned what in that interval"""
        self.seconds += interval.seconds
        self.owners = owners
        self._found = disturbance.merge(
            self._found, disturbance.find(interval, owners))
        tids = {owner.tid for owner in owners.pcpus.values()}
        for thread, times in interval.ran:
            self._threads[thread.tid] = thread
            if thread.tid in tids:
                self._times[thread.tid] = self._times.get(
                    thread.tid, snapshot.Times()).plus(times)
        for tid, (one, other) in interval.switches.items():
            before = self._switches.get(tid, snapshot.Switches(0, 0))
            self._switches[tid] = snapshot.Switches(
                before.voluntary + one, before.involuntary + other)

    @property
    def processes(self) -> set[int]:
        """pids of the host's processes that were on an owned pCPU."""
        return {key.number for key in self._found
                if key.kind == disturbance.THREAD}

    def report(self, settings: snapshot.Settings,
               irqs: Mapping[int, irq_mod.Irq],
               units: Mapping[int, str], *, not_traced: str = '',
               trace: trace_mod.Trace | None = None) -> Report:
        """So far.

        :param irqs: number -> interrupt
        :param units: pid -> unit of systemd
        :param not_traced: why there is no trace
        """
        found = self._found
        if trace is not None:
            found = traced(found, trace, self._threads, self.owners)
        owned = frozenset(self.owners.pcpus)
        entries = [Entry(each, remedy.remedy(each, owned, settings, irqs,
                                             units))
                   for each in sorted(found.values(), key=_worst_first)]
        background = [entry for entry in entries
                      if entry.disturbance.is_background(self.seconds)]
        return Report(
            self.seconds, tuple(
                Owned(pcpu, owner, self._times.get(
                    owner.tid, snapshot.Times()) if owner.tid else None,
                    self._switches.get(owner.tid))
                for pcpu, owner in sorted(self.owners.pcpus.items())),
            tuple(entry for entry in entries if entry not in background),
            tuple(background), not_traced, trace.lost if trace else 0)


def _worst_first(
        found: disturbance.Disturbance) -> tuple[float, int, int, str]:
    return (-(found.us or 0), -found.count, found.key.pcpu, found.key.name)


def traced(found: Mapping[disturbance.Key, disturbance.Disturbance],
           trace: trace_mod.Trace,
           threads: Mapping[int, snapshot.Thread],
           owners: disturbance.Owners) -> dict[
               disturbance.Key, disturbance.Disturbance]:
    """What was found, with what a trace of the same interval knows better.

    Counts that are exact stay, as they are of that very interval; a trace
    begins a moment earlier and ends a moment later.

    :param threads: thread id -> thread, of those that were seen
    """
    seen = _of_trace(trace, threads, owners)
    merged = {}
    for key, each in found.items():
        more = seen.pop(key._replace(name='') if (
            key.kind == disturbance.INTERRUPT) else key, None)
        if each.exact and (each.us is not None or more is None):
            merged[key] = each
        elif more is not None:
            merged[key] = dataclasses.replace(
                more, key=key, count=each.count if each.exact else more.count,
                bound=each.bound)
        elif trace.lost:
            merged[key] = each  # it may be among what was lost
    merged.update({key: each for key, each in seen.items()
                   if key.kind not in (disturbance.INTERRUPT,
                                       disturbance.CPU)})
    return merged


def _of_trace(trace: trace_mod.Trace,
              threads: Mapping[int, snapshot.Thread],
              owners: disturbance.Owners) -> dict[
                  disturbance.Key, disturbance.Disturbance]:
    found: dict[disturbance.Key, disturbance.Disturbance] = {}
    for seen, spent in trace.spent.items():
        owner = owners.pcpus.get(seen.pcpu)
        key = _key(seen, owner, trace, threads, owners) if owner else None
        if owner is None or key is None:
            continue
        each = disturbance.Disturbance(
            key, owner, spent.number, True, spent.us,
            None if spent.us is None else disturbance.TRACE)
        found[key] = found[key].plus(each) if key in found else each
    return found


def _key(seen: trace_mod.Seen, owner: disturbance.Owner,
         trace: trace_mod.Trace, threads: Mapping[int, snapshot.Thread],
         owners: disturbance.Owners) -> disturbance.Key | None:
    """None for the owner itself, and for what has no name here."""
    if seen.kind == trace_mod.RAN:
        tid = int(seen.what)
        thread = threads.get(tid)
        if thread is None:
            if tid == owner.tid:
                return None
            # It ended before it was seen.
            return disturbance.Key(
                disturbance.THREAD, trace.names.get(tid, '?'), 0, seen.pcpu)
        if disturbance.is_owner(thread, owner, owners):
            return None
        return disturbance.identity(thread, owners, seen.pcpu)
    if seen.kind == trace_mod.IRQ:
        # Interrupts are told apart by their numbers.
        return disturbance.Key(disturbance.INTERRUPT, '', int(seen.what),
                               seen.pcpu)
    name = (f'softirq {seen.what}' if seen.kind == trace_mod.SOFTIRQ
            else VECTORS.get(seen.what))
    return disturbance.Key(disturbance.CPU, name, 0, seen.pcpu) if (
        name) else None


def totals(entries: Iterable[Entry], pcpu: int) -> int:
    """How often a pCPU was disturbed."""
    return sum(entry.disturbance.count for entry in entries
               if entry.disturbance.key.pcpu == pcpu)
