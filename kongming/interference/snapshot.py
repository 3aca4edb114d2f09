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

"""What the kernel has counted: one reading, as values.

A :class:`Snapshot` is what :class:`kongming.kernel.accounts.Reader` gives.
Counters only grow, so one snapshot says little; :mod:`.difference` takes two.
"""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
from typing import NamedTuple

Pcpus = frozenset[int]
NO_PCPUS: Pcpus = frozenset()


class Times(NamedTuple):
    """What the scheduler has counted (Documentation/scheduler/sched-stats).

    :ivar run_ns: time on a pCPU
    :ivar wait_ns: run delay: time in which it could have run and waited for
        a pCPU
    :ivar runs: how often it was given a pCPU
    """

    run_ns: int = 0
    wait_ns: int = 0
    runs: int = 0

    def since(self, before: Times) -> Times:
        return Times(self.run_ns - before.run_ns,
                     self.wait_ns - before.wait_ns, self.runs - before.runs)

    def plus(self, other: Times) -> Times:
        return Times(self.run_ns + other.run_ns,
                     self.wait_ns + other.wait_ns, self.runs + other.runs)


class Switches(NamedTuple):
    """Context switches of a thread.

    :ivar voluntary: it had nothing to do (a vCPU: its guest was idle)
    :ivar involuntary: another thread was given its pCPU
    """

    voluntary: int
    involuntary: int


class Thread(NamedTuple):
    """A thread as it was when it was last seen to have run.

    :ivar pid: of its process; its own of a kernel thread
    :ivar name: as it has named itself: anything, newlines included
    :ivar times: until now
    :ivar allowed: pCPUs that it may run on, by its affinity and its cpuset
    :ivar last: the pCPU that it ran on last
    :ivar kernel: whether it is one of the kernel's
    :ivar bound: whether the kernel refuses to give it another affinity
    :ivar start: when it began, in clock ticks since the boot
    """

    pid: int
    tid: int
    name: str
    times: Times
    allowed: Pcpus
    last: int
    kernel: bool = False
    bound: bool = False
    start: int = 0


class Line(NamedTuple):
    """A line of ``/proc/interrupts``.

    :ivar irq: number of a device's interrupt; None for one of the CPU's own
    :ivar name: who asked for it, or what it is
    :ivar counts: pCPU -> how often it came
    """

    irq: int | None
    name: str
    counts: Mapping[int, int]


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """One reading.

    :ivar at: seconds on a clock that only goes forward
    :ivar online: pCPUs that were online
    :ivar threads: thread id -> thread; all of the host, but those that ended
        while they were read
    :ivar switches: thread id -> of the threads that were asked for
    :ivar interrupts: label (``36``, ``LOC``) -> line
    :ivar softirqs: kind (``NET_RX``) -> pCPU -> count
    :ivar stolen_ns: pCPU -> time that a hypervisor below gave to others
    :ivar queues: pCPU -> what all its threads together had; empty where the
        kernel has no ``/proc/schedstat`` (CONFIG_SCHEDSTATS)
    """

    at: float
    online: Pcpus
    threads: Mapping[int, Thread]
    switches: Mapping[int, Switches] = dataclasses.field(
        default_factory=dict)
    interrupts: Mapping[str, Line] = dataclasses.field(default_factory=dict)
    softirqs: Mapping[str, Mapping[int, int]] = dataclasses.field(
        default_factory=dict)
    stolen_ns: Mapping[int, int] = dataclasses.field(default_factory=dict)
    queues: Mapping[int, Times] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Settings:
    """What decides who may disturb, and changes seldom.

    :ivar online: pCPUs that are online
    :ivar isolated: by ``isolcpus``, as the kernel has understood it
    :ivar nohz_full: pCPUs without a tick while one thread runs there
    :ivar irqaffinity: of the kernel's command line; None: not said
    :ivar workqueues: where unbound workqueues may work; None: not known
    :ivar governors: pCPU -> its frequency governor; none where there is none
    :ivar pmd: pCPUs of Open vSwitch's polling threads; None: not known
    """

    online: Pcpus = NO_PCPUS
    isolated: Pcpus = NO_PCPUS
    nohz_full: Pcpus = NO_PCPUS
    irqaffinity: Pcpus | None = None
    workqueues: Pcpus | None = None
    governors: Mapping[int, str] = dataclasses.field(default_factory=dict)
    pmd: Pcpus | None = None
