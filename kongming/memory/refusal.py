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

"""What is in the way of a guest's memory, before anything is touched."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
from xml.etree import ElementTree

from kongming.host import topology

#: What of a domain's XML has the host pin the guest's memory, and what that
#: is.
_PINNING = (
    ("./devices/hostdev", 'a device of the host that was passed through '
                          '(hostdev)'),
    ("./devices/interface[@type='hostdev']",
     'a port that was passed through (SR-IOV)'),
    ("./devices/interface[@type='vdpa']", 'a vDPA port'),
    ('./launchSecurity', 'memory encryption (SEV)'),
)
#: Huge pages of another size were never moved by us.
_PAGES_KIB = (4, 16, 64, 2048)


@dataclasses.dataclass(frozen=True)
class Found:
    """What the kernel says of a process and of its host.

    :ivar devices: files that it has open and that pin its memory, or encrypt
        it
    :ivar pinned_kib: of its memory (``VmPin``)
    :ivar realtime_is_unlimited: whether ``kernel.sched_rt_runtime_us`` is -1
    :ivar spinning: names of real-time threads of the host that never sleep
    :ivar nodes: to which whoever moves the pages may move them
    :ivar groups: thread group -> its ``cpuset.mems``
    """

    devices: Sequence[str] = ()
    pinned_kib: int = 0
    realtime_is_unlimited: bool = False
    spinning: Sequence[str] = ()
    nodes: frozenset[int] = frozenset()
    groups: Mapping[str, frozenset[int]] = dataclasses.field(
        default_factory=dict)


def of_xml(root: ElementTree.Element) -> str:
    """Why the memory of a domain can't move, by its XML; empty: it can."""
    for path, what in _PINNING:
        if root.find(path) is not None:
            return (f'the kernel moves no memory that is pinned for {what}; '
                    f'detach it, or migrate the server, which starts it on '
                    f'the node')
    sizes = {int(page.attrib['size']) for page in
             root.findall('./memoryBacking/hugepages/page')}
    if sizes - {*_PAGES_KIB}:
        return (f'its pages have {max(sizes)} KiB, and pages of at most '
                f'{max(_PAGES_KIB)} KiB are moved; only a migration takes it '
                f'to another node')
    modes = {element.get('mode', 'strict') for element in
             root.findall('./numatune/*')}
    if not modes:
        return ('it is not bound to a node; a flavor with hw:numa_nodes, '
                'hw:mem_page_size or dedicated pCPUs binds it')
    free = modes - {'strict', 'restrictive'}
    if free:
        return (f"its memory is bound as '{min(free)}', which lets it be "
                f"anywhere; a template without kongming:memory binds it as "
                f"'strict' at the next hard reboot")
    return ''


def reasons(found: Found, before: Sequence[int],
            after: Sequence[int]) -> list[str]:
    """Why cells can't go from nodes to others, by the kernel; empty: they can.

    :param before: node of each cell; the same as after where they are to go
        back there
    """
    reasons = []
    if found.devices:
        reasons.append(f'its process has {", ".join(found.devices)} open, for '
                       f'which its memory is pinned; detach the device')
    if found.pinned_kib:
        reasons.append(f'{found.pinned_kib} KiB of its memory are pinned '
                       f'(VmPin in /proc/PID/status); detach what pins it')
    if found.realtime_is_unlimited and found.spinning:
        reasons.append(
            f'kernel.sched_rt_runtime_us is -1 and real-time threads of this '
            f'host never sleep ({", ".join(found.spinning)}); the kernel '
            f'would wait for them for as long. Set it to 950000 for the '
            f'time of the move, or have them sleep')
    beyond = frozenset(after) - found.nodes
    if beyond:
        reasons.append(
            f'whoever moves its pages may use node '
            f'{topology.format_cpu_list(found.nodes)} only, and not node '
            f'{topology.format_cpu_list(beyond)} (AllowedMemoryNodes of the '
            f'unit of nova-compute)')
    # Those in the middle of the same move are alike enough.
    alike = {frozenset(before), frozenset(after),
             frozenset(before) | frozenset(after)}
    different = {name: nodes for name, nodes in found.groups.items()
                 if nodes not in alike}
    if different and len(before) > 1:
        name, nodes = min(different.items())
        reasons.append(
            f"cpuset.mems of its thread group {name} is "
            f"'{topology.format_cpu_list(nodes)}', and that of its cells' "
            f"nodes is '{topology.format_cpu_list(before)}'; a hard reboot "
            f"makes them alike")
    return reasons
