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

"""libvirtd's picture of a host's CPUs beside the kernel's.

libvirtd keeps each node's list of CPUs of its first look.  One that goes
offline later stays listed, with itself as its only sibling; one that was
offline then never appears.  A restart of libvirtd while all are online
corrects it.
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Mapping
from typing import NamedTuple

from kongming.host import topology

Pcpus = frozenset[int]


class Cpus(NamedTuple):
    """The kernel's picture.

    :ivar online: pCPUs that are
    :ivar nodes: node -> its pCPUs, offline ones included
    :ivar siblings: pCPU -> all of its core, of those that are online
    """

    online: Pcpus
    nodes: Mapping[int, Pcpus]
    siblings: Mapping[int, Pcpus]


def differences(cpus: Cpus, nodes: Mapping[int, Collection[int]],
                siblings: Iterable[Collection[int]]) -> list[str]:
    """Where libvirt's picture differs from the kernel's, in words.

    Of pCPUs that are offline the kernel tells no siblings, so nothing is said
    of theirs.

    :param nodes: node -> pCPUs, as libvirt lists them; those that Nova does
        not use may be missing
    :param siblings: the cores that libvirt lists
    """
    found = []
    where = {pcpu: node for node, pcpus in cpus.nodes.items()
             for pcpu in pcpus}
    for node, pcpus in sorted(nodes.items()):
        wrong = {pcpu for pcpu in pcpus if where.get(pcpu) != node}
        if wrong:
            found.append(f'pCPU {topology.format_cpu_list(wrong)} is not on '
                         f'node {node}, where libvirtd has it')
    listed = {pcpu: frozenset(core) for core in siblings for pcpu in core}
    known = frozenset().union(*nodes.values())
    seen = known & cpus.online
    alone = sorted(
        pcpu for pcpu, core in cpus.siblings.items()
        if pcpu in known and listed.get(pcpu, core) & seen
        != core & seen)
    if alone:
        found.append(
            f'pCPU {topology.format_cpu_list(alone)} has other siblings than '
            f'libvirtd says (pCPU {alone[0]}: '
            f'{topology.format_cpu_list(cpus.siblings[alone[0]])}, not '
            f'{topology.format_cpu_list(listed[alone[0]])})')
    return found


def remembered(before: Cpus | None, now: Cpus) -> Cpus:
    """A picture with the siblings of pCPUs that are offline by now.

    :param before: an earlier picture; None: there is none
    """
    if before is None:
        return now
    siblings = dict(now.siblings)
    for pcpu, core in before.siblings.items():
        siblings[pcpu] = siblings.get(pcpu, frozenset()) | core
    return now._replace(siblings=siblings)


def missing(cpus: Cpus, nodes: Mapping[int, Collection[int]],
            wanted: Collection[int]) -> Pcpus:
    """pCPUs that the kernel has and libvirt has not.

    :param nodes: node -> pCPUs, as libvirt lists them
    :param wanted: those that Nova is to use
    """
    return frozenset(wanted).intersection(
        *[frozenset().union(*cpus.nodes.values())]).difference(
            *nodes.values())


def corrected(cpus: Cpus,
              siblings: Iterable[Collection[int]]) -> list[frozenset[int]]:
    """The cores of a host, by the kernel where it knows them.

    :param siblings: the cores that libvirt lists; they have the say about
        pCPUs of which the kernel tells nothing, as these are offline
    """
    cores = {frozenset(core) for core in cpus.siblings.values()}
    known = frozenset().union(*cores)
    for core in siblings:
        rest = frozenset(core) - known
        if not rest:
            continue
        # Offline ones stay with those of their core that are online.
        beside = [each for each in cores if each & frozenset(core)]
        if beside:
            cores.remove(beside[0])
            cores.add(beside[0] | rest)
        else:
            cores.add(rest)
        known |= rest
    return sorted(cores, key=min)
