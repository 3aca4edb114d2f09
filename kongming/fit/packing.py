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

"""Which pCPUs of a node a cell gets, by the thread policy.

The policies are Nova's (``hw:cpu_thread_policy``; nova/virt/hardware.py,
``_pack_instance_onto_cores``), put so that pins can be given beforehand:

================ ============================================================
none, ``prefer`` any free pCPUs; whole cores as long as they are filled, then
                 the most broken ones
``isolate``      each vCPU has a core to itself, of the most threads that a
                 core of the node has
``require``      no vCPU is on a core without another vCPU of the cell, but for
                 the last one of an odd number, beside a free sibling
================ ============================================================
"""

from __future__ import annotations

from collections.abc import Iterable

from kongming.host import topology
from kongming.host import usage


class Unfit(Exception):
    """Something does not fit; it becomes a reason.

    :ivar kind: what is in the way: ``pcpu``, ``core``, ``count``,
        ``memory``, ``pages``, ``shared``, ``node``, ``granted``,
        ``template``, ``never``
    :ivar pcpus: the pCPUs in the way, where it is they
    """

    def __init__(self, kind: str, text: str,
                 pcpus: Iterable[int] = ()) -> None:
        super().__init__(text)
        self.kind = kind
        self.pcpus = tuple(pcpus)


def choose(node: usage.NodeState, free: usage.PcpuSet, exact: usage.PcpuSet,
           count: int, extra: int,
           policy: str | None) -> tuple[list[int], list[int]]:
    """pCPUs for ``count`` vCPUs beside those that are pinned to ``exact``.

    ``exact`` is known to be free, and enough pCPUs are.

    :param free: the node's pCPUs that may be chosen, ``exact`` among them
    :param extra: pCPUs more, for emulator threads
    :raises Unfit: if the thread policy can't be met
    """
    if policy == 'isolate':
        return _isolated(node, free, exact, count, extra)
    if policy == 'require':
        chosen = _on_siblings(node, free, exact, count)
    else:
        chosen = pack(node, free - exact if exact else free, count)
    rest: list[int] = []
    if extra:
        rest = pack(node, free - exact - set(chosen), extra)
    return chosen, rest


def pack(node: usage.NodeState, free: usage.PcpuSet,
         count: int) -> list[int]:
    """Whole cores, of one L3 if they do, then the most broken ones."""
    if not count:
        return []
    siblings = node.siblings
    whole = [*filter(free.issuperset, siblings)]
    if not all(whole):
        # So an offline pCPU's siblings may be reported.
        whole = [core for core in whole if core]
    if whole:
        whole.sort(key=min)
        if node.l3:
            whole = _one_l3_first(node, whole, count)
    chosen: list[int] = []
    unused: list[usage.PcpuSet] = []
    left = count
    for core in whole:
        if len(core) <= left:
            chosen += sorted(core)
            left -= len(core)
            if not left:
                return chosen
        else:
            unused.append(core)
    alone = free.difference(chosen, *unused)
    if max(map(len, siblings), default=1) <= 2:
        # What is free of a broken core is one pCPU.
        chosen += sorted(alone)
    else:
        broken = [alone.intersection(core) for core in siblings]
        broken.sort(key=lambda pcpus: (len(pcpus), sorted(pcpus)))
        for core in broken:
            chosen += sorted(core)
        # pCPUs whose siblings the host does not report.
        chosen += sorted(alone.difference(chosen))
    for core in unused:
        chosen += sorted(core)
    return chosen[:count]


def nova_packs(node: usage.NodeState, free: usage.PcpuSet, count: int,
               extra: int, policy: str | None) -> bool:
    """Whether Nova finds pCPUs for ``count`` vCPUs, wherever that is.

    It takes the same number of threads of each core.  As
    ``_pack_instance_onto_cores`` of nova/virt/hardware.py has it.

    :param free: the node's dedicated pCPUs that nobody owns
    :param extra: pCPUs more, for emulator threads
    """
    left = [len(free & core) for core in node.siblings]
    most = threads(node) or 1
    if policy == 'isolate':
        if most > 1 and node.dedicated != node.shared:
            return False  # Nova bug 1889633
        whole = left.count(most)
        # An empty choice is none for it.
        return 0 < count <= whole and (
            not extra or sum(map(bool, left)) > count)
    if policy == 'require':
        return most > 1 and (count > 0 or not extra) and any(
            each * sum(number >= each for number in left) >= count
            for each in range(2, most + 1)
            if any(number >= each for number in left)) and (
                sum(left) >= count + extra)
    return sum(left) >= count + extra and (count > 0 or not extra)


def threads(node: usage.NodeState) -> int:
    """pCPUs of the largest core."""
    return max(map(len, node.siblings), default=1)


def _one_l3_first(node: usage.NodeState, whole: list[usage.PcpuSet],
                  count: int) -> list[usage.PcpuSet]:
    """Cores of the smallest L3 that is large enough, then the others'."""
    cache = {core: node.l3.get(min(core), -1)
             for core in map(frozenset, whole)}
    free_by_l3: dict[int, int] = {}
    for core, number in cache.items():
        free_by_l3[number] = free_by_l3.get(number, 0) + len(core)

    def rank(core: frozenset[int]) -> tuple[bool, int, int, int]:
        number = cache[core]
        enough = free_by_l3[number] >= count
        return (not enough,
                free_by_l3[number] if enough else -free_by_l3[number],
                number, min(core))

    return [*sorted(cache, key=rank)]


def _isolated(node: usage.NodeState, free: usage.PcpuSet,
              exact: usage.PcpuSet, count: int,
              extra: int) -> tuple[list[int], list[int]]:
    cores = node.cores()
    if (threads(node) > 1 and node.dedicated != node.shared):
        # nova/virt/hardware.py, _pack_instance_onto_cores: refused there on
        # any host that shows siblings (Nova bug 1889633).
        raise Unfit('core', 'the thread policy isolate needs pCPUs without '
                            'siblings among those that Nova may use')
    if not count and not exact:
        # An empty choice is none for _pack_instance_onto_cores.
        raise Unfit('core', 'Nova grants the thread policy isolate to no cell '
                            'without dedicated vCPUs')
    # Nova takes no core for a vCPU that has fewer threads than the largest.
    most = threads(node)
    whole: list[tuple[int, ...]] = []
    beside: list[tuple[int, ...]] = []
    for core in cores:
        named = exact.intersection(core)
        alone = free.issuperset(core)
        if named and (len(named) > 1 or not alone or len(core) < most):
            raise Unfit('core', f'the thread policy isolate wants the core '
                                f'of pCPU {min(named)} '
                                f'({topology.format_cpu_list(core)}) for one '
                                f'vCPU alone'
                                + (f', and all {most} threads of it'
                                   if len(core) < most else ''), core)
        if alone and not named:
            (whole if len(core) == most else beside).append(core)
    # Emulator threads may be on a smaller one, but on none that is shared
    # with others: Nova's tracker takes the siblings as well
    # (nova/objects/numa.py, pin_cpus_with_siblings).
    rest = [*beside, *whole[count:]]
    if len(whole) < count or len(rest) < extra:
        raise Unfit('core', f'the thread policy isolate asks for '
                            f'{count + extra + len(exact)} free core(s), '
                            f'{len(whole) + len(exact)} are'
                            + (f', and {len(beside)} with fewer threads, for '
                               f'emulator threads' if beside and extra
                               else ''))
    return ([core[0] for core in whole[:count]],
            [core[0] for core in rest[:extra]])


def _on_siblings(node: usage.NodeState, free: usage.PcpuSet,
                 exact: usage.PcpuSet, count: int) -> list[int]:
    cores = node.cores()
    if threads(node) < 2:
        raise Unfit('core', 'the thread policy require needs a host with SMT')
    if not nova_packs(node, free, count + len(exact), 0, 'require'):
        raise Unfit('core', f'the thread policy require finds no sibling '
                            f'threads for {count + len(exact)} vCPU(s): Nova '
                            f'takes the same number of each core, two or '
                            f'more')
    # (vCPUs placed, one alone already) -> pCPUs taken to get there.
    reach: dict[tuple[int, bool], tuple[int, ...]] = {(0, False): ()}
    for core in cores:
        left = [p for p in core if p in free and p not in exact]
        named = len(exact.intersection(core))
        grown: dict[tuple[int, bool], tuple[int, ...]] = {}
        for (placed, single), taken in reach.items():
            for more in range(min(len(left), count - placed), -1, -1):
                alone = named + more == 1
                if alone and (single or named + len(left) < 2):
                    continue
                grown.setdefault((placed + more, single or alone),
                                 (*taken, *left[:more]))
        reach = grown
    for single in (False, True):
        if (count, single) in reach:
            return list(reach[count, single])
    raise Unfit('core', 'the thread policy require finds no sibling threads '
                        'for all vCPUs')
