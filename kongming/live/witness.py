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

"""What the kernel says of a server's threads beside what is wanted of them.

libvirt goes on showing the pin that it set last, whatever happens to the
thread.  Whether a thread is *freer* than it may be is asked of the kernel:

===================================  ==========================================
a pin that libvirt refuses           writes the cpuset first, and fails then:
                                     where no pCPU of it is online the thread
                                     is free on all pCPUs of the host
a pCPU that goes offline             frees the threads that were pinned there
``taskset``                          changes the affinity, not the cpuset
===================================  ==========================================

A thread with fewer pCPUs than it may have is nobody's harm, and left so.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping
import dataclasses
from typing import NamedTuple

from kongming.host import topology
from kongming.live import threads

Pcpus = frozenset[int]
#: As :mod:`kongming.domain.domain` names them, which is above this package.
VCPU, IOTHREAD, EMULATOR = 'vCPU', 'I/O thread', 'emulator'


class Thread(NamedTuple):
    """A thread, as the kernel has it.

    :ivar kind: ``VCPU``, ``IOTHREAD`` or ``EMULATOR``, which is whatever is
        neither
    :ivar number: of the vCPU or the I/O thread
    :ivar allowed: online pCPUs that it may run on
    :ivar cpuset: those of its own cpuset; None where it has none, or that
        says nothing
    """

    kind: str
    number: int
    id: int
    allowed: Pcpus
    cpuset: Pcpus | None = None

    def __str__(self) -> str:
        return (f'thread {self.id} of the emulator'
                if self.kind == EMULATOR else f'{self.kind} {self.number}')


def place(wanted: threads.Threads, kind: str, number: int) -> Pcpus | None:
    """Where a thread is wanted; None: nothing is said of it."""
    if kind == VCPU:
        return wanted.vcpus.get(number)
    if kind == IOTHREAD:
        return wanted.iothreads.get(number)
    return wanted.emulator


def freed(found: Iterable[Thread],
          wanted: threads.Threads) -> list[Thread]:
    """Threads that may run where they are not wanted."""
    outside = []
    for thread in found:
        pcpus = place(wanted, thread.kind, thread.number)
        if pcpus is not None and not (
                thread.allowed <= pcpus
                and (thread.cpuset is None or thread.cpuset <= pcpus)):
            outside.append(thread)
    return outside


def cause(thread: Thread, wanted: threads.Threads,
          online: Pcpus | None) -> str:
    """Why a thread is freer than it may be, as far as the kernel tells.

    :param thread: of :func:`freed`
    :param online: pCPUs that are; None: not known
    """
    pcpus = place(wanted, thread.kind, thread.number) or Pcpus()
    offline = pcpus - online if online is not None else Pcpus()
    if offline:
        return f'pCPU {topology.format_cpu_list(offline)} is offline'
    if thread.cpuset is None:
        return 'its affinity was changed by somebody else than libvirt'
    if online is not None and not thread.cpuset & online:
        return (f'its cpuset has pCPU '
                f'{topology.format_cpu_list(thread.cpuset)} only, which is '
                f'offline: a pin there was refused')
    if not thread.cpuset <= pcpus:
        return (f'its cpuset has pCPU '
                f'{topology.format_cpu_list(thread.cpuset)}: a pin was '
                f'refused, or somebody has written it')
    if thread.allowed <= thread.cpuset:
        return 'its affinity was changed'
    return ('its cpuset is right, so a pCPU of it was offline, or its '
            'affinity was set past libvirt, as by taskset')


def words(outside: Iterable[Thread], wanted: threads.Threads,
          online: Pcpus | None) -> list[str]:
    """What is wrong with threads of :func:`freed`, and why, in words."""
    found = []
    for thread in outside:
        pcpus = place(wanted, thread.kind, thread.number) or Pcpus()
        now = thread.allowed
        if now <= pcpus and thread.cpuset is not None:
            now = thread.cpuset
        found.append(
            f'{thread} may run on pCPU {topology.format_cpu_list(now)}, not '
            f'on {topology.format_cpu_list(pcpus) or "-"} only, by the '
            f'kernel ({cause(thread, wanted, online)})')
    return found


def online_only(wanted: threads.Threads, owned: Pcpus, shared: Pcpus,
                online: Pcpus) -> threads.Threads:
    """Threads where they are wanted, as far as that is online.

    One that is left with nothing stays on what else its server owns, and else
    floats over what nobody owns.  A thread for which nothing at all is online
    stays where it is wanted: there is nowhere else.

    :param owned: all that the server owns
    :param shared: pCPUs that nobody owns
    """
    if wanted.pcpus <= online:
        return wanted

    def here(pcpus: Pcpus) -> Pcpus:
        return (pcpus & online or owned & online or shared & online or pcpus)

    return dataclasses.replace(
        wanted,
        vcpus={vcpu: here(pcpus) for vcpu, pcpus in wanted.vcpus.items()},
        emulator=None if wanted.emulator is None else here(wanted.emulator),
        iothreads={number: here(pcpus)
                   for number, pcpus in wanted.iothreads.items()})


def kept(outside: Iterable[Thread], wanted: threads.Threads, owned: Pcpus,
         online: Pcpus) -> Mapping[int, Pcpus]:
    """Where the kernel is to keep threads that libvirt does not put back.

    :param outside: of :func:`freed`
    :returns: id of the thread -> pCPUs, of those for which there are any
    """
    places = {}
    for thread in outside:
        pcpus = place(wanted, thread.kind, thread.number) or Pcpus()
        found = pcpus & online or owned & online
        if found:
            places[thread.id] = found
    return places
