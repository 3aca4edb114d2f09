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

"""Who was on a pCPU that another owns, and how often.

The rule
--------

A pCPU with an owner is to run its owner's thread and nothing else.  What else
came there is a :class:`Disturbance`:

``thread``
    a thread of a process of the host;
``domain``
    a thread of a domain, the owner's own emulator included;
``kernel``
    a thread of the kernel;
``interrupt``
    of a device;
``cpu``
    of the CPU's own, such as its timer, and softirqs;
``stolen``
    time that a hypervisor below this host gave to others;
``unnamed``
    threads that ended before they could be seen.

Counts
------

A count is how often it was given the pCPU, or came.  It is exact for what may
run nowhere else.  A thread that may run on others, too, has its whole count
where it was seen last; then ``exact`` is False, and no more than that many
were there.  A trace (:mod:`.trace`) knows each of them.

Background
----------

What no setting takes off a pCPU, and what is too little to be looked for, is
background: the kernel's threads of that very pCPU up to
:data:`BOUND_SHARE` of the time, the CPU's interrupts and softirqs up to
:data:`CPU_RATE`, stolen time and the unnamed up to :data:`BOUND_SHARE`.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
import re
from typing import NamedTuple

from kongming.interference import difference
from kongming.interference import snapshot

THREAD, DOMAIN, KERNEL = 'thread', 'domain', 'kernel'
INTERRUPT, CPU = 'interrupt', 'cpu'
STOLEN, UNNAMED = 'stolen', 'unnamed'
EMULATOR = 'emulator'
KINDS = (THREAD, DOMAIN, KERNEL, INTERRUPT, CPU, STOLEN, UNNAMED)

#: Of the time, up to which a pCPU's own kernel threads are background: 1 ms
#: in a second.
BOUND_SHARE = 0.001
#: A second, up to which interrupts of the CPU's own are background: more than
#: any tick (CONFIG_HZ is 1000 at most).
CPU_RATE = 2000
#: Where microseconds come from.
SCHEDULER, TRACE, CLOCK = 'schedstat', 'tracefs', 'stat'


class Owner(NamedTuple):
    """Who owns a pCPU.

    :ivar domain: its name
    :ivar thread: such as ``vCPU 0``
    :ivar tid: of that thread; 0 where it is several
    """

    domain: str
    thread: str
    tid: int = 0


@dataclasses.dataclass(frozen=True)
class Owners:
    """Who owns what on a host.

    :ivar pcpus: pCPU -> its owner
    :ivar domains: pid -> name of the domain whose process it is
    :ivar threads: thread id -> what it is of its domain, ``emulator``
    """

    pcpus: Mapping[int, Owner]
    domains: Mapping[int, str] = dataclasses.field(default_factory=dict)
    threads: Mapping[int, str] = dataclasses.field(default_factory=dict)


class Key(NamedTuple):
    """The identity of a disturbance: those with equal keys are added up.

    :ivar name: of the thread, of the domain and its thread, of the device
    :ivar number: pid of the process, number of the interrupt; 0: none, or
        several processes that lived for a moment
    """

    kind: str
    name: str
    number: int
    pcpu: int


@dataclasses.dataclass(frozen=True)
class Disturbance:
    """One who was on another's pCPU.

    :ivar owner: of the pCPU
    :ivar count: see the module
    :ivar us: microseconds that it took; None: not measured
    :ivar source: of ``us``: :data:`SCHEDULER`, :data:`TRACE` or
        :data:`CLOCK`
    :ivar bound: whether it is of this very pCPU
    """

    key: Key
    owner: Owner
    count: int
    exact: bool = True
    us: float | None = None
    source: str | None = None
    bound: bool = False

    def plus(self, other: Disturbance) -> Disturbance:
        """Both together; a time that is not known of one is not known."""
        both = self.us is not None and other.us is not None
        return dataclasses.replace(
            self, count=self.count + other.count,
            exact=self.exact and other.exact,
            us=(self.us or 0) + (other.us or 0) if both else None,
            source=self.source if both else None)

    def is_background(self, seconds: float) -> bool:
        """Whether that is what a pCPU has in any case.

        :param seconds: in which it was counted
        """
        if self.key.kind == CPU:
            return self.count <= CPU_RATE * seconds
        if self.bound or self.key.kind in (STOLEN, UNNAMED):
            return (self.us or 0) <= BOUND_SHARE * seconds * 1e6
        return False


def find(interval: difference.Interval,
         owners: Owners) -> list[Disturbance]:
    """All that was where another owns, background included."""
    found: dict[Key, Disturbance] = {}
    for each in (*_threads(interval, owners), *_interrupts(interval, owners),
                 *_rest(interval, owners)):
        found[each.key] = found[each.key].plus(each) if (
            each.key in found) else each
    return list(found.values())


def merge(before: Mapping[Key, Disturbance],
          found: Iterable[Disturbance]) -> dict[Key, Disturbance]:
    """What was found in one interval, added to that of earlier ones."""
    merged = dict(before)
    for each in found:
        known = merged.get(each.key)
        merged[each.key] = known.plus(each) if known else each
    return merged


def _threads(interval: difference.Interval,
             owners: Owners) -> Iterator[Disturbance]:
    for thread, times in interval.ran:
        owner = owners.pcpus.get(thread.last)
        if owner is None or is_owner(thread, owner, owners):
            continue
        here = thread.allowed == {thread.last}
        yield Disturbance(
            identity(thread, owners), owner, times.runs or 1, here,
            times.run_ns / 1000 if here else None,
            SCHEDULER if here else None, thread.kernel and thread.bound
            and here)


def is_owner(thread: snapshot.Thread, owner: Owner, owners: Owners) -> bool:
    """Whether a thread is the one that a pCPU is for."""
    if owner.tid:
        return owner.tid == thread.tid
    # All emulator threads of a domain together may own a pCPU.
    return (owners.domains.get(thread.pid) == owner.domain
            and owners.threads.get(thread.tid, EMULATOR) == owner.thread)


def identity(thread: snapshot.Thread, owners: Owners,
             pcpu: int | None = None) -> Key:
    """What a thread is called.

    :param pcpu: where it was; None: where it was last
    """
    pcpu = thread.last if pcpu is None else pcpu
    if thread.pid in owners.domains:
        what = owners.threads.get(thread.tid, EMULATOR)
        return Key(DOMAIN, f'{owners.domains[thread.pid]} {what}',
                   thread.pid, pcpu)
    if thread.kernel:
        # What KVM and vhost do for a guest has its process in its name.
        work = re.fullmatch(r'(kvm-[\w-]+/|vhost-)(\d+)', thread.name)
        if work and int(work[2]) in owners.domains:
            return Key(DOMAIN, f'{owners.domains[int(work[2])]} '
                               f'{work[1].rstrip("/-")}', int(work[2]), pcpu)
        # kworker/3:2-events: the third worker may be another thread by now,
        # what it works on is what tells.
        work = re.fullmatch(r'(kworker/u?\d+):\w+(?:[-+](.*))?', thread.name,
                            re.DOTALL)
        if work:
            name = f'{work[1]} {work[2]}' if work[2] else work[1]
            return Key(KERNEL, name, 0, pcpu)
        return Key(KERNEL, thread.name, thread.pid, pcpu)
    return Key(THREAD, thread.name, thread.pid, pcpu)


def _interrupts(interval: difference.Interval,
                owners: Owners) -> Iterator[Disturbance]:
    for label, line in interval.interrupts.items():
        for pcpu, count in line.counts.items():
            if pcpu in owners.pcpus:
                yield Disturbance(
                    Key(CPU if line.irq is None else INTERRUPT,
                        line.name or label, line.irq or 0, pcpu),
                    owners.pcpus[pcpu], count)
    for kind, counts in interval.softirqs.items():
        for pcpu, count in counts.items():
            if pcpu in owners.pcpus:
                yield Disturbance(Key(CPU, f'softirq {kind}', 0, pcpu),
                                  owners.pcpus[pcpu], count)


def _rest(interval: difference.Interval,
          owners: Owners) -> Iterator[Disturbance]:
    for pcpu, nanoseconds in interval.stolen_ns.items():
        if pcpu in owners.pcpus:
            yield Disturbance(
                Key(STOLEN, 'hypervisor below this host', 0, pcpu),
                owners.pcpus[pcpu], 1, True, nanoseconds / 1000, CLOCK)
    if not interval.queues:
        return
    seen: dict[int, snapshot.Times] = {}
    for thread, times in interval.ran:
        if len(thread.allowed) > 1:
            # Somewhere; nobody can say what is missing where it may run.
            for pcpu in thread.allowed & owners.pcpus.keys():
                seen[pcpu] = seen.get(pcpu, snapshot.Times()).plus(times)
        else:
            seen[thread.last] = seen.get(
                thread.last, snapshot.Times()).plus(times)
    for pcpu, all_of_it in interval.queues.items():
        left = all_of_it.since(seen.get(pcpu, snapshot.Times()))
        if pcpu in owners.pcpus and left.runs > 0 and left.run_ns > 0:
            yield Disturbance(
                Key(UNNAMED, 'threads that have ended', 0, pcpu),
                owners.pcpus[pcpu], left.runs, False, left.run_ns / 1000,
                SCHEDULER)
