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
"""Classes of service for caches and memory bandwidth, in resctrl's words.

An entry of ``kongming:cache`` is one group of the kernel's resctrl file
system (Documentation/filesystems/resctrl.rst), which takes one of the few
CLOSIDs that the hardware has.  This module knows what the files say and what
there is to give; :mod:`kongming.resctrl.clos` says who gets what of it, and
:mod:`kongming.kernel.resctrlfs` reads and writes.

``l3`` is cache that nobody else fills.  It is taken from the ways that the
operator has set aside, as libvirt's ``cachetune`` has it, too: those that the
default group has no more, and no group of others.  Ways that devices fill as
well (``shareable_bits``) are no one's own and never taken.  ``mb`` is a most,
which the kernel enforces for each group by itself, so nothing of it is taken.

Whole ways are less than what was asked for, never more.  That is why the sum
of what was asked for, in per cent, can be counted: where it is no more than
:attr:`usage.CacheCapacity.l3`, the ways are enough, and one row of them holds
all.
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Mapping
import re
from typing import NamedTuple

from kongming.host import usage
from kongming.resctrl import bitmask
from kongming.template import tuning

#: The group that everything is in by itself: the file system's root.
DEFAULT = ''
BANDWIDTH = 'MB'
#: Those whose values are decimal.
_DECIMAL = (BANDWIDTH, 'SMBA')
_NAME = re.compile(
    'kongming-([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})-([0-9]{1,4})')
#: What info/ has of the L3 cache: with the mount option cdp for code and for
#: data, which are given the same ways.
_L3 = ('L3', 'L3CODE', 'L3DATA')
#: The unit of ``MB`` on AMD, 1/8 GB/s, in MiB/s.
_EIGHTH = 128
#: Mount option by which ``MB`` is in MiB/s.
_SOFTWARE = 'mba_MBps'

#: resource -> domain -> mask of ways, or bandwidth
Schemata = Mapping[str, Mapping[int, int]]

# What the files say.


class Cache(NamedTuple):
    """A host's L3 cache.

    :ivar resources: by which it is called in schemata
    :ivar full: mask of all ways
    :ivar least: how many ways a group has at least
    :ivar shared: mask of the ways that devices use as well
    """

    resources: tuple[str, ...]
    full: int
    least: int = 1
    shared: int = 0

    @property
    def ways(self) -> int:
        return self.full.bit_count()

    def ways_of(self, percent: int) -> int:
        """Whole ways; fewer than ``least`` are none."""
        ways = percent * self.ways // 100
        return ways if ways >= self.least else 0


class Bandwidth(NamedTuple):
    """How a host counts memory bandwidth.

    :ivar full: what stands for 100 %
    :ivar least: what a group has at least
    :ivar step: a group has a multiple of this
    """

    full: int = 100
    least: int = 10
    step: int = 10

    def of(self, percent: int) -> int:
        """What to write; no more than was asked for, but the least."""
        least = -(-self.least // self.step) * self.step
        return max(least, percent * self.full // 100
                   // self.step * self.step)


class Info(NamedTuple):
    """What a host can do.

    :ivar closids: groups that there can be, the default one included
    :ivar cache: None where it has no such control
    :ivar bandwidth: None likewise, and where per cent mean nothing
    """

    closids: int
    cache: Cache | None = None
    bandwidth: Bandwidth | None = None


class Tree(NamedTuple):
    """A host's resctrl file system.

    :ivar groups: name -> schemata, the default one's included
    :ivar tasks: name -> threads, of our groups
    """

    info: Info
    groups: Mapping[str, Schemata]
    tasks: Mapping[str, frozenset[int]]


def group_name(server: str, entry: tuning.Cache) -> str:
    """A server's group; the same after each restart of anything."""
    return f'kongming-{server}-{entry.first}'


def server_of(group: str) -> str | None:
    """Whose group it is; None for those that are not ours."""
    match = _NAME.fullmatch(group)
    return match[1] if match else None


def parse_info(files: Mapping[str, Mapping[str, str]], options: str = '',
               memory_bandwidth: int = 0) -> Info | None:
    """What is in ``info/``.

    :param files: resource -> file -> text
    :param options: of the mount, as /proc/self/mountinfo has them
    :param memory_bandwidth: of each L3 cache in MiB/s, for hosts that don't
        count in per cent; 0: not known
    :returns: None where the host controls nothing of this
    """
    limits = [int(texts['num_closids']) for texts in files.values()
              if 'num_closids' in texts]
    if not limits:
        return None  # it only watches
    cache = bandwidth = None
    names = tuple(name for name in _L3 if name in files)
    if names:
        texts = files[names[0]]
        cache = Cache(names, int(texts['cbm_mask'], 16),
                      max(1, int(texts['min_cbm_bits'])),
                      int(texts.get('shareable_bits', '0'), 16))
    if BANDWIDTH in files:
        texts = files[BANDWIDTH]
        least, step = (int(texts[name])
                       for name in ('min_bandwidth', 'bandwidth_gran'))
        if _SOFTWARE in options.split(','):
            bandwidth = Bandwidth(memory_bandwidth, 1, 1)
        elif texts.get('delay_linear', '1').strip() == '0':
            # AMD (arch/x86/kernel/cpu/resctrl/core.c,
            # __rdt_get_mem_config_amd).
            bandwidth = Bandwidth(memory_bandwidth // _EIGHTH,
                                  max(1, least), max(1, step))
        else:
            bandwidth = Bandwidth(100, least, max(1, step))
        if not bandwidth.full:
            bandwidth = None
    return Info(min(limits), cache, bandwidth)


def parse_schemata(text: str) -> dict[str, dict[int, int]]:
    """A group's ``schemata``; what is not set up is left out."""
    found: dict[str, dict[int, int]] = {}
    for line in text.splitlines():
        name, _colon, rest = line.strip().partition(':')
        base = 10 if name in _DECIMAL else 16
        for part in rest.split(';'):
            domain, equals, value = part.partition('=')
            if equals:
                found.setdefault(name, {})[int(domain)] = int(value, base)
    return found


def format_line(resource: str, values: Mapping[int, int]) -> str:
    """A line of ``schemata``."""
    form = 'd' if resource in _DECIMAL else 'x'
    return f'{resource}:' + ';'.join(
        f'{domain}={value:{form}}' for domain, value in sorted(
            values.items()))


# What there is to give.

def capacities(tree: Tree, domains: Mapping[int, Collection[int]],
               most: int | None = None) -> dict[int, usage.CacheCapacity]:
    """What each node has for servers, those that have some included.

    CLOSIDs are the whole host's and so are divided among its nodes with CPUs,
    as is an L3 cache that several nodes share: what one of them offers is
    there, whatever the others have given away.  Nodes without CPUs have none.

    :param domains: node -> ids of its L3 caches; empty where it has no CPUs
    :param most: CLOSIDs that servers may have in all; None: all there are
    """
    with_cpus = [node for node in sorted(domains) if domains[node]]
    each, more = divmod(slots(tree, most), len(with_cpus) or 1)
    sharing: dict[int, int] = {}
    for of_node in domains.values():
        for domain in of_node:
            sharing[domain] = sharing.get(domain, 0) + 1
    found = {}
    for place, node in enumerate(with_cpus):
        n_closids = each + (place < more)
        capacity = usage.CacheCapacity(
            n_closids, mb=bool(n_closids and tree.info.bandwidth))
        cache = tree.info.cache
        if n_closids and cache is not None:
            ways = min((bitmask.longest(free(tree, cache, domain))
                        // sharing[domain] for domain in domains[node]),
                       default=0)
            least = -(-100 * cache.least // cache.ways)
            if ways >= cache.least:
                capacity = capacity._replace(
                    l3=100 * ways // cache.ways, least=least)
        found[node] = capacity
    return found


def slots(tree: Tree, most: int | None) -> int:
    """CLOSIDs for servers; the default group and others' have theirs."""
    free = tree.info.closids - sum(
        server_of(group) is None for group in tree.groups)
    return max(0, free if most is None else min(free, most))


def masks(tree: Tree, cache: Cache, group: str, domain: int) -> int:
    """All ways that a group may fill."""
    mask = 0
    for resource in cache.resources:
        mask |= tree.groups[group].get(resource, {}).get(domain, 0)
    return mask


def set_aside(tree: Tree, cache: Cache, domain: int) -> int:
    """What the operator has left for others than the default group."""
    if domain not in tree.groups[DEFAULT].get(cache.resources[0], {}):
        return 0  # its pCPUs are offline
    return cache.full & ~cache.shared & ~masks(tree, cache, DEFAULT, domain)


def free(tree: Tree, cache: Cache, domain: int) -> int:
    """What of it no group of others fills."""
    mask = set_aside(tree, cache, domain)
    for group in tree.groups:
        if server_of(group) is None:
            mask &= ~masks(tree, cache, group, domain)
    return mask


def caches(nodes: Mapping[int, Collection[int]],
           cache_of: Mapping[int, int]) -> dict[int, frozenset[int]]:
    """node -> ids of its L3 caches.

    :param nodes: node -> its pCPUs
    :param cache_of: pCPU -> id of its L3 cache; those offline have none
    """
    return {node: frozenset(cache_of[pcpu] for pcpu in pcpus
                            if pcpu in cache_of)
            for node, pcpus in nodes.items()}
