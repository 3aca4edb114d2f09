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

"""What a server's vCPUs did, from the kernel's counters.

Times are those of ``/proc/PID/task/TID/schedstat``
(Documentation/scheduler/sched-stats.rst): time on a pCPU, and run delay.
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Mapping
import dataclasses
from typing import NamedTuple

from kongming.template import condition

_NS = 10 ** 9


class Times(NamedTuple):
    """Of one vCPU, since its thread began, in nanoseconds.

    :ivar run_ns: on a pCPU
    :ivar wait_ns: ready to run, and waiting for a pCPU
    """

    run_ns: int
    wait_ns: int


@dataclasses.dataclass(frozen=True)
class Counters:
    """One reading of a server.

    :ivar at: seconds on a clock that only goes forward while its host runs
    :ivar vcpus: vCPU -> its times
    :ivar start: when its process began, in the kernel's clock ticks since
        the boot of the host; another number is another start of the server
    :ivar remote: share of its memory that is on other nodes than its cells
        are to be, in per cent; None: not read this time
    """

    at: float
    vcpus: Mapping[int, Times]
    start: int = 0
    remote: float | None = None


class Figures(NamedTuple):
    """What was measured in a time.

    All in per cent of the time that the vCPUs had, all of them together.

    :ivar seconds: how long it was
    :ivar use: they ran, or wanted to and waited for a pCPU; what a server
        wants is so known where it has little, too
    :ivar wait: they waited for a pCPU
    :ivar remote: memory on other nodes; None: not known
    """

    seconds: float
    use: float
    wait: float
    remote: float | None = None

    def of(self, figure: str) -> float | None:
        """:param figure: of kongming.template.condition.FIGURES"""
        return {condition.USE: self.use, condition.WAIT: self.wait,
                condition.REMOTE: self.remote}[figure]

    def __str__(self) -> str:
        text = f'use {self.use:.1f}%, wait {self.wait:.1f}%'
        if self.remote is not None:
            text += f', remote {self.remote:.1f}%'
        return text


def between(before: Counters, after: Counters,
            vcpus: Collection[int] | None = None) -> Figures | None:
    """What was measured from one reading to the next.

    vCPUs that came or went in between are left out.

    :param vcpus: only these; None: all
    :returns: None where that can't be known: the server was started anew, a
        counter went back, no time has passed, or no vCPU was there both times
    """
    seconds = after.at - before.at
    both = before.vcpus.keys() & after.vcpus.keys()
    if vcpus is not None:
        both &= set(vcpus)
    if seconds <= 0 or not both or before.start != after.start:
        return None
    run = wait = 0
    for vcpu in both:
        ran = after.vcpus[vcpu].run_ns - before.vcpus[vcpu].run_ns
        waited = after.vcpus[vcpu].wait_ns - before.vcpus[vcpu].wait_ns
        if ran < 0 or waited < 0:
            return None
        run, wait = run + ran, wait + waited
    had = seconds * _NS * len(both) / 100
    # A thread's times are brought up to date by ticks: over a short time
    # they may be more than it was.
    return Figures(seconds, min(100.0, (run + wait) / had),
                   min(100.0, wait / had), after.remote)


def remote(mappings: Iterable[Mapping[int, int]],
           nodes: Collection[int]) -> float | None:
    """How much of a guest's memory is on other nodes, in per cent.

    :param mappings: node -> KiB that are there, of each
    :param nodes: that it is to be on
    :returns: None where it has touched none yet
    """
    total = away = 0
    for mapping in mappings:
        for node, kib in mapping.items():
            total += kib
            away += 0 if node in nodes else kib
    return 100 * away / total if total else None
