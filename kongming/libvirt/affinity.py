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

"""Where libvirt lets the threads of a running domain run.

The domain is handed in by whoever has it, a ``libvirt.virDomain``; nothing
here knows how it was found.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Collection
import dataclasses
from typing import Any
from xml.etree import ElementTree

from kongming.domain import domain as domain_mod
from kongming.live import threads

#: virDomainModificationImpact; the numbers are libvirt's ABI.
_LIVE, _CONFIG = 1, 2
#: virDomainXMLFlags
_SECURE, _INACTIVE = 1, 2


def read(domain: Any) -> threads.Threads:
    """What holds for a domain now, as libvirt knows it.

    How threads are scheduled it can't say of a running domain; see
    :mod:`kongming.kernel.process`.
    """
    return of_xml(ElementTree.fromstring(domain.XMLDesc(0)))


def of_xml(root: ElementTree.Element) -> threads.Threads:
    """The same in the XML of a domain that runs."""
    return dataclasses.replace(domain_mod.pins(root), sched={})


def read_config(domain: Any) -> threads.Threads:
    """What will hold when a persistent domain starts next."""
    return _pins(domain, _INACTIVE)


def _pins(domain: Any, flags: int) -> threads.Threads:
    return domain_mod.pins(ElementTree.fromstring(domain.XMLDesc(flags)))


def apply(domain: Any, wanted: threads.Threads, width: int,
          before_each: Callable[[], None] = lambda: None) -> bool:
    """Have a domain's threads run where they are wanted.

    Nothing is written for what holds already.  Emulator and I/O threads go
    first, so that they are gone from what their vCPUs leave behind.

    :param width: number of the host's pCPUs, offline ones included
    :param before_each: called before each thread, as libvirt may have hung;
        what it raises ends it
    :returns: whether anything was changed
    :raises RuntimeError: if libvirt says yes, but not so afterwards
    """
    now = read(domain)
    if not threads.changes(now, wanted):
        return False
    _write(domain, now, wanted, width,
           (_LIVE if domain.isActive() else 0)
           | (_CONFIG if domain.isPersistent() else 0), before_each)
    _check(read(domain), wanted)
    return True


def apply_config(domain: Any, wanted: threads.Threads, width: int) -> bool:
    """Have a persistent domain's threads there from its next start on.

    :returns: whether anything was changed
    :raises RuntimeError: if libvirt says yes, but not so afterwards
    """
    now = read_config(domain)
    sched = {**now.sched, **wanted.sched}
    wanted = dataclasses.replace(wanted, sched={
        vcpu: each for vcpu, each in sched.items()
        if each != threads.Sched()})
    if not threads.changes(now, wanted) and now.sched == wanted.sched:
        return False
    _write(domain, now, wanted, width, _CONFIG)
    if now.sched != wanted.sched:
        # libvirt has no call for it.
        domain.connect().defineXML(domain_mod.with_sched(
            domain.XMLDesc(_INACTIVE | _SECURE), wanted.sched))
    _check(read_config(domain), wanted)
    return True


def again(domain: Any, wanted: threads.Threads, width: int,
          which: Collection[tuple[str, int]]) -> None:
    """Pin threads once more, whatever libvirt says of them.

    It writes cpuset and affinity then, though the pin is the same.  Only the
    running domain is pinned: how it is defined has not changed.

    :param which: kind and number, as of :class:`kongming.domain.domain.Task`
    """
    for kind, number in sorted(which):
        if kind == domain_mod.EMULATOR and wanted.emulator is not None:
            domain.pinEmulator(_map(wanted.emulator, width), _LIVE)
        elif kind == domain_mod.IOTHREAD and number in wanted.iothreads:
            domain.pinIOThread(number, _map(wanted.iothreads[number], width),
                               _LIVE)
        elif kind == domain_mod.VCPU and number in wanted.vcpus:
            domain.pinVcpuFlags(number, _map(wanted.vcpus[number], width),
                                _LIVE)


def _write(domain: Any, now: threads.Threads, wanted: threads.Threads,
           width: int, flags: int,
           before_each: Callable[[], None] = lambda: None) -> None:
    if wanted.emulator is not None and now.emulator != wanted.emulator:
        before_each()
        domain.pinEmulator(_map(wanted.emulator, width), flags)
    for number, pcpus in wanted.iothreads.items():
        if now.iothreads.get(number) != pcpus:
            before_each()
            domain.pinIOThread(number, _map(pcpus, width), flags)
    for vcpu, pcpus in wanted.vcpus.items():
        if now.vcpus.get(vcpu) != pcpus:
            before_each()
            domain.pinVcpuFlags(vcpu, _map(pcpus, width), flags)


def _check(now: threads.Threads, wanted: threads.Threads) -> None:
    left = threads.changes(now, wanted)
    if left:
        raise RuntimeError(f'libvirt took it, but it is not so: '
                           f'{"; ".join(left)}')


def _map(pcpus: frozenset[int], width: int) -> tuple[bool, ...]:
    return tuple(pcpu in pcpus for pcpu in range(width))
