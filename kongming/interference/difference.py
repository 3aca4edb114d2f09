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

"""What has happened between two snapshots."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
from typing import NamedTuple

from kongming.interference import snapshot


class Ran(NamedTuple):
    """A thread that has run.

    :ivar thread: as it was at the end
    :ivar times: in the interval
    """

    thread: snapshot.Thread
    times: snapshot.Times


@dataclasses.dataclass(frozen=True)
class Interval:
    """From one snapshot to the next; what has not happened is left out.

    :ivar seconds: how long
    :ivar ran: threads that were given a pCPU, or had one all the time
    :ivar switches: thread id -> of the threads that were asked for
    :ivar interrupts: label -> line, with counts of the interval
    :ivar softirqs: kind -> pCPU -> count
    :ivar stolen_ns: pCPU -> time
    :ivar queues: pCPU -> what all its threads together had
    """

    seconds: float
    ran: tuple[Ran, ...] = ()
    switches: Mapping[int, snapshot.Switches] = dataclasses.field(
        default_factory=dict)
    interrupts: Mapping[str, snapshot.Line] = dataclasses.field(
        default_factory=dict)
    softirqs: Mapping[str, Mapping[int, int]] = dataclasses.field(
        default_factory=dict)
    stolen_ns: Mapping[int, int] = dataclasses.field(default_factory=dict)
    queues: Mapping[int, snapshot.Times] = dataclasses.field(
        default_factory=dict)


def between(first: snapshot.Snapshot,
            second: snapshot.Snapshot) -> Interval:
    """What has happened from one to the other.

    A thread that was not there at first has all that it had since it began.
    What a thread had that ended in between is not known; see
    :attr:`Interval.queues`.  A counter that is less than before has begun
    anew.
    """
    return Interval(
        second.at - first.at, tuple(_ran(first, second)),
        {tid: snapshot.Switches(
            now.voluntary - first.switches[tid].voluntary,
            now.involuntary - first.switches[tid].involuntary)
         for tid, now in second.switches.items()
         if tid in first.switches
         and _is_same(first.threads.get(tid), second.threads.get(tid))},
        _lines(first.interrupts, second.interrupts),
        {kind: counts for kind, now in second.softirqs.items()
         if (counts := _counts(first.softirqs.get(kind, {}), now))},
        _counts(first.stolen_ns, second.stolen_ns),
        {pcpu: now.since(first.queues[pcpu])
         for pcpu, now in second.queues.items()
         if pcpu in first.queues and now.runs >= first.queues[pcpu].runs})


def _ran(first: snapshot.Snapshot,
         second: snapshot.Snapshot) -> Iterator[Ran]:
    for tid, now in second.threads.items():
        before = first.threads.get(tid)
        if before is now:
            continue  # the reader makes no new one of who has not run
        times = now.times
        if before is not None and _is_same(before, now):
            times = times.since(before.times)
        if times.runs or times.run_ns:
            yield Ran(now, times)


def _is_same(before: snapshot.Thread | None,
             now: snapshot.Thread | None) -> bool:
    """Whether it is one thread; numbers are given again."""
    return before is not None and now is not None and (
        before.start == now.start)


def _lines(first: Mapping[str, snapshot.Line],
           second: Mapping[str, snapshot.Line]) -> dict[str, snapshot.Line]:
    found = {}
    for label, now in second.items():
        before = first.get(label)
        if before is now:
            continue
        # A number may have become another device's.
        counts = _counts(before.counts if before is not None
                         and before.name == now.name else {}, now.counts)
        if counts:
            found[label] = now._replace(counts=counts)
    return found


def _counts(before: Mapping[int, int],
            now: Mapping[int, int]) -> dict[int, int]:
    found = {}
    for pcpu, count in now.items():
        # Of a pCPU that was offline, or not looked at, nobody knows from
        # where it counts on.
        less = before.get(pcpu, count if before else 0)
        found[pcpu] = count - less if count >= less else count
    return {pcpu: count for pcpu, count in found.items() if count}
