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

"""A running domain's memory moved to another node of its host.

libvirt moves it where the domain's memory mode is ``restrictive``: then the
cgroup alone says which nodes it may be on, and changing that takes the pages
along.  What is bound by a policy of its own (``strict``, ``preferred``,
``interleave``) libvirt refuses to change while the domain runs (qemu_driver.c,
qemuDomainSetNumaParamsLive).  For domains that are not Nova's; the memory of
a server is moved by :mod:`kongming.kernel.mover`.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
import time
from typing import Any
from typing import NamedTuple
from xml.etree import ElementTree

from kongming import exception
from kongming.host import topology

_LIVE, _CONFIG = 1, 2
#: virDomainXMLFlags
SECURE, INACTIVE = 1, 2
RESTRICTIVE = 'restrictive'
#: What is to be left free on a node, KiB: the kernel kills the guest, not the
#: move, when a node runs out.
_SPARE_KIB = 128 * 1024
#: How long to leave the kernel before pages that stayed are tried again, in
#: seconds: at first, at most.
_PAUSE = 0.05, 5.0


class Memory(NamedTuple):
    """How a domain's memory is bound.

    :ivar mode: None where it isn't
    :ivar nodes: the nodes that it may be on
    :ivar cells: number of guest NUMA cells that are bound
    :ivar size_kib: all of it
    :ivar page_kib: size of its pages; None: small ones
    :ivar is_pinned: whether a device of the host reads and writes it
    """

    mode: str | None
    nodes: frozenset[int]
    cells: int
    size_kib: int
    page_kib: int | None
    is_pinned: bool = False


def read(domain: Any, flags: int = 0) -> Memory:
    """How a domain's memory is bound now.

    :param flags: :data:`INACTIVE`: how from its next start on
    """
    return of_xml(ElementTree.fromstring(domain.XMLDesc(flags)))


def of_xml(root: ElementTree.Element) -> Memory:
    """How memory is bound in a domain's XML."""
    tune = root.find('./numatune/memory')
    page = root.find('./memoryBacking/hugepages/page')
    return Memory(
        None if tune is None else tune.get('mode', 'strict'),
        frozenset() if tune is None or not tune.get('nodeset')
        else topology.parse_cpu_list(tune.attrib['nodeset']),
        len(root.findall('./numatune/memnode')),
        int(root.findtext('./memory', '0')),
        None if page is None else int(page.attrib['size']),
        bool(root.findall('./devices/hostdev')
             or root.findall("./devices/interface[@type='hostdev']")))


def why_not(memory: Memory) -> str:
    """Why it can't be moved while the domain runs; empty if it can."""
    if memory.cells > 1:
        return ('libvirt moves the memory of all NUMA cells of a guest '
                'together, and this one has several')
    if memory.is_pinned:
        return ('the kernel moves no memory of a guest that a device of the '
                'host was passed through to')
    if memory.mode != RESTRICTIVE:
        return (f"libvirt moves no memory that is bound as '{memory.mode}'; "
                f'a hard reboot binds it so that it can move')
    return ''


def check_free_memory(connection: Any, size_kib: int,
                      page_kib: int | None, node: int) -> None:
    """Ask the host whether a node has enough free memory for a guest's.

    :param connection: libvirt.virConnect
    :param size_kib: what is to go there
    :param page_kib: size of its pages; None: small ones
    :raises kongming.exception.InsufficientMemory: if not
    """
    small = _small_page_kib(connection)
    page_kib = page_kib or small
    pages = -(-size_kib // page_kib)
    free = connection.getFreePages([page_kib], node, 1)[node][page_kib]
    spare = _SPARE_KIB // small if page_kib == small else 0
    if free < pages + spare:
        raise exception.InsufficientMemory(
            f'node {node} has {free} free pages of {page_kib} KiB; '
            f'{pages} are to go there'
            + (f' and {spare} are to be left' if spare else ''))


def _small_page_kib(connection: Any) -> int:
    """4 on x86; 64 on POWER and on some ARM hosts."""
    root = ElementTree.fromstring(connection.getCapabilities())
    return min((int(pages.attrib['size'])
                for pages in root.iterfind('./host//pages')),
               default=topology.SMALL_PAGE_KIB)


def move(domain: Any, node: int,
         where: Callable[[], Mapping[int, int] | None],
         budget: float = 600.0) -> int:
    """Take a domain's memory to a node.

    The call blocks until the kernel has moved the pages, and holds libvirt's
    lock of the domain meanwhile.  Pages that stay behind, as huge pages do
    when they were busy, are taken along by allowing both nodes and then one.

    :param where: asks the kernel: node -> KiB, None where it can't be asked
    :param budget: how long to go on trying for pages that stay behind,
        seconds
    :returns: KiB that are on the node now, 0 where it can't be asked
    :raises kongming.exception.NotMoved: if pages are still elsewhere then
    """
    deadline = time.monotonic() + budget
    pause, _longest = _PAUSE
    both = read(domain).nodes | {node}
    set_nodes(domain, frozenset({node}))
    while True:
        found = where()
        if found is None:
            return 0
        left = sum(kib for at, kib in found.items() if at != node)
        if not left:
            return found.get(node, 0)
        if time.monotonic() > deadline:
            raise exception.NotMoved(
                f'{left} KiB of the memory stay on node '
                f'{topology.format_cpu_list(set(found) - {node})} after '
                f'{budget:g} s')
        time.sleep(pause)
        pause = min(2 * pause, _PAUSE[1])
        set_nodes(domain, both)
        set_nodes(domain, frozenset({node}))


def set_nodes(domain: Any, nodes: frozenset[int]) -> None:
    """Allow a domain's memory these nodes; nothing is written where it is so.
    """
    if read(domain).nodes == nodes:
        return
    wanted = {'numa_nodeset': topology.format_cpu_list(nodes)}
    domain.setNumaParameters(wanted, _LIVE)
    if domain.isPersistent():
        # Not in one call: libvirt takes these flags one at a time.
        domain.setNumaParameters(wanted, _CONFIG)


def bind(domain: Any, node: int, mode: str) -> None:
    """Bind a persistent domain's memory to a node from its next start on.

    :param mode: ``strict`` or ``preferred``
    """
    # virDomainNumatuneMemMode
    domain.setNumaParameters(
        {'numa_nodeset': str(node),
         'numa_mode': {'strict': 0, 'preferred': 1}[mode]}, _CONFIG)
