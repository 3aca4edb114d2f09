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
is to be done; :mod:`kongming.resctrlfs` reads and writes them.

``l3`` is cache that nobody else fills.  It is taken from the ways that the
operator has set aside, as libvirt's ``cachetune`` has it, too: those that the
default group has no more, and no group of others.  Ways that devices fill as
well (``shareable_bits``) are no one's own and never taken.  ``mb`` is a most,
which the kernel enforces for each group by itself, so nothing of it is taken.

Whole ways are less than what was asked for, never more.  That is why the sum
of what was asked for, in per cent, can be counted: where it is no more than
:attr:`Room.l3`, the ways are enough, and one row of them holds all.
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import re
from typing import NamedTuple

from kongming import guest as guest_mod
from kongming import template as template_mod
from kongming import tuning

#: The group that everything is in by itself: the file system's root.
DEFAULT = ''
BANDWIDTH = 'MB'
#: Those whose values are decimal.
_DECIMAL = (BANDWIDTH, 'SMBA')
_KEY = f'{template_mod.PREFIX}cache'
_PROFILE = f'{template_mod.PREFIX}profile.'
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


# What a template asks for.

class Claim(NamedTuple):
    """What is counted of one cell.

    :ivar classes: CLOSIDs
    :ivar l3: per cent of the L3 cache
    :ivar mb: whether memory bandwidth is limited
    """

    classes: int = 0
    l3: int = 0
    mb: bool = False


def concerns(wish: template_mod.Template) -> bool:
    """Whether a server can have classes, now or later."""
    return bool(wish.cache
                or any(profile.cache for profile in wish.profiles.values()))


def mentioned(specs: Mapping[str, str]) -> bool:
    """Whether a flavor's extra specs say anything of it."""
    return any(key == _KEY or key.startswith(_PROFILE)
               and key.endswith('.cache') for key in specs)


def claims(wish: template_mod.Template,
           guest: guest_mod.Guest) -> dict[int, Claim]:
    """What each cell claims, so that any profile finds room.

    A class whose vCPUs are in several cells is counted where the first of
    them is, its part of the cache in each, since each node has its own.
    """
    found: dict[int, Claim] = {}
    for entries in (wish.cache, *(profile.cache for profile
                                  in wish.profiles.values())):
        for number, cell in enumerate(guest.cells):
            vcpus = cell.dedicated | cell.shared
            here = [entry for entry in entries if not vcpus.isdisjoint(
                vcpu for part in entry.vcpus for vcpu in part.ids())]
            if here:
                before = found.get(number, Claim())
                found[number] = Claim(
                    max(before.classes,
                        sum(entry.first in vcpus for entry in here)),
                    max(before.l3, sum(entry.l3 or 0 for entry in here)),
                    before.mb or any(entry.mb for entry in here))
    return found


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

class Room(NamedTuple):
    """What servers can be given of one node.

    :ivar classes: CLOSIDs
    :ivar l3: per cent of its L3 cache that are set aside
    :ivar least: the least per cent that are a whole way
    :ivar mb: whether memory bandwidth can be limited
    """

    classes: int = 0
    l3: int = 0
    least: int = 1
    mb: bool = False


def rooms(tree: Tree, domains: Mapping[int, Collection[int]],
          most: int | None = None) -> dict[int, Room]:
    """What each node has for servers, those that have some included.

    CLOSIDs are the whole host's and so are divided among its nodes, as is an
    L3 cache that several nodes share: what is promised of one is there,
    whatever was promised of the others.

    :param domains: node -> ids of its L3 caches
    :param most: CLOSIDs that servers may have in all; None: all there are
    """
    each, more = divmod(_slots(tree, most), len(domains) or 1)
    sharing: dict[int, int] = {}
    for of_node in domains.values():
        for domain in of_node:
            sharing[domain] = sharing.get(domain, 0) + 1
    found = {}
    for place, node in enumerate(sorted(domains)):
        classes = each + (place < more)
        room = Room(classes, mb=bool(classes and tree.info.bandwidth))
        cache = tree.info.cache
        if classes and cache is not None:
            ways = min((_longest(_free(tree, cache, domain))
                        // sharing[domain] for domain in domains[node]),
                       default=0)
            least = -(-100 * cache.least // cache.ways)
            if ways >= cache.least:
                room = room._replace(l3=100 * ways // cache.ways, least=least)
        found[node] = room
    return found


def _slots(tree: Tree, most: int | None) -> int:
    """CLOSIDs for servers; the default group and others' have theirs."""
    free = tree.info.closids - sum(
        server_of(group) is None for group in tree.groups)
    return max(0, free if most is None else min(free, most))


def _masks(tree: Tree, cache: Cache, group: str, domain: int) -> int:
    """All ways that a group may fill."""
    mask = 0
    for resource in cache.resources:
        mask |= tree.groups[group].get(resource, {}).get(domain, 0)
    return mask


def _set_aside(tree: Tree, cache: Cache, domain: int) -> int:
    """What the operator has left for others than the default group."""
    if domain not in tree.groups[DEFAULT].get(cache.resources[0], {}):
        return 0  # its pCPUs are offline
    return cache.full & ~cache.shared & ~_masks(tree, cache, DEFAULT, domain)


def _free(tree: Tree, cache: Cache, domain: int) -> int:
    """What of it no group of others fills."""
    mask = _set_aside(tree, cache, domain)
    for group in tree.groups:
        if server_of(group) is None:
            mask &= ~_masks(tree, cache, group, domain)
    return mask


def _runs(mask: int) -> Iterator[tuple[int, int]]:
    """(lowest bit, number) of each row of consecutive bits."""
    low = 0
    while mask:
        skip = (mask & -mask).bit_length() - 1
        mask >>= skip
        low += skip
        length = (~mask & mask + 1).bit_length() - 1
        yield low, length
        mask >>= length
        low += length


def _longest(mask: int) -> int:
    return max((length for _low, length in _runs(mask)), default=0)


def _fit(free: int, ways: int) -> int:
    """As many consecutive ways in the shortest row; 0 if there is none."""
    found = min(((length, low) for low, length in _runs(free)
                 if length >= ways), default=None)
    return 0 if found is None else ((1 << ways) - 1) << found[1]


# What is to be done.

class Class(NamedTuple):
    """A group as it is to be.

    :ivar name: see :func:`group_name`
    :ivar l3: per cent; None: as everybody
    :ivar mb: likewise
    :ivar domains: the L3 caches where it has its own ways
    :ivar tasks: threads to be in it
    """

    name: str
    l3: int | None = None
    mb: int | None = None
    domains: frozenset[int] = frozenset()
    tasks: frozenset[int] = frozenset()


REMOVE, MAKE, SCHEMATA, TASKS = _ORDER = ('remove', 'make', 'schemata',
                                          'tasks')


class Step(NamedTuple):
    """One thing to do.

    :ivar kind: one of these, which are done in this order
    :ivar group: which it is done to, or the default one
    :ivar lines: of schemata, or thread ids
    :ivar server: whose it is
    """

    kind: str
    group: str
    lines: tuple[str, ...] = ()
    server: str = ''

    def __str__(self) -> str:
        first = self.group.rpartition('-')[2]
        what = f'class of vCPU {first}' if self.group else 'no class'
        if self.kind == SCHEMATA:
            return f'{what}: {" ".join(self.lines)}'
        if self.kind == TASKS:
            return f'{what}: threads {", ".join(self.lines)}'
        return f'{what} {"made" if self.kind == MAKE else "removed"}'


class Plan(NamedTuple):
    """What to do, in this order.

    :ivar refused: group -> why it can't be; what there is of it stays
    :ivar shared: group -> who fills its ways as well, to be told
    """

    steps: tuple[Step, ...]
    refused: Mapping[str, str]
    shared: Mapping[str, str]


def plan(tree: Tree, wanted: Sequence[Class],
         left: Collection[str] = (), strays: Iterable[int] = (),
         most: int | None = None) -> Plan:
    """From what is to what is to be; nothing where that is the same.

    Only groups of ours are touched.  Whoever has something keeps it where it
    can; who came first gets what there is.  Ways of groups that are here move
    only where that makes room.

    :param wanted: the groups of all servers that were looked at
    :param left: servers that were not, whose groups stay
    :param strays: threads of vCPUs that are to be in no group of ours
    :param most: CLOSIDs that servers may have in all; None: all there are
    """
    ours = {group for group in tree.groups if server_of(group) is not None}
    names = {each.name for each in wanted}
    gone = sorted(group for group in ours - names
                  if server_of(group) not in left)
    ours -= {*gone}
    refused = {}
    steps = [Step(REMOVE, group, (), server_of(group) or '')
             for group in gone]
    # Those that are here come first, so that none is taken from them.
    going = []
    slots = _slots(tree, most)
    taken = len(ours)
    for each in sorted(wanted, key=lambda each: each.name not in ours):
        reason = _impossible(tree, each)
        if not reason and each.name not in ours:
            if taken >= slots:
                reason = (f'all {slots} class(es) of service that this host '
                          f'has for servers are taken')
            else:
                taken += 1
        if reason:
            refused[each.name] = reason
        else:
            going.append(each)
    masks, shared = _place(tree, going, refused, ours)
    for each in going:
        if each.name not in refused:
            steps += _bring(tree, each, masks.get(each.name, {}),
                            each.name in ours)
    astray = frozenset(strays) & frozenset().union(*(
        tree.tasks.get(group, frozenset()) for group in ours))
    if astray:
        steps.append(Step(TASKS, DEFAULT, _ids(astray)))
    return Plan(tuple(sorted(steps, key=lambda step: _ORDER.index(
        step.kind))), refused, shared)


def _impossible(tree: Tree, wanted: Class) -> str | None:
    """Why no room in the world would do."""
    info = tree.info
    if wanted.mb is not None and info.bandwidth is None:
        return 'memory bandwidth can not be limited in per cent on this host'
    if wanted.l3 is None:
        return None
    if info.cache is None:
        return 'the L3 cache can not be divided on this host'
    if not info.cache.ways_of(wanted.l3):
        return (f'{wanted.l3}% of the L3 cache are less than the '
                f'{info.cache.least} of {info.cache.ways} ways that a class '
                f'has at least on this host')
    return None


def _place(tree: Tree, going: Sequence[Class], refused: dict[str, str],
           ours: Collection[str]) -> tuple[
               dict[str, dict[int, int]], dict[str, str]]:
    """Ways of their own.

    :param refused: who finds none is added here
    :returns: group -> domain -> mask; and who fills ways of it as well
    """
    cache = tree.info.cache
    if cache is None:
        return {}, {}
    while True:
        masks: dict[str, dict[int, int]] = {}
        shared: dict[str, str] = {}
        asking = [each for each in going
                  if each.l3 is not None and each.name not in refused]
        # Groups that stay as they are, and so do their ways.
        fixed = set(ours) - {each.name for each in going
                             if each.name not in refused}
        failed = None
        for domain in sorted({d for each in asking for d in each.domains}):
            free = _free(tree, cache, domain)
            aside = _set_aside(tree, cache, domain)
            for group in fixed:
                mask = _masks(tree, cache, group, domain)
                # One that was never set up has them all, like the default.
                free &= ~(0 if mask & ~aside else mask)
            found, failed = _place_in(tree, cache, domain, free, [
                each for each in asking if domain in each.domains], shared)
            if failed:
                break
            for name, mask in found.items():
                masks.setdefault(name, {})[domain] = mask
        if not failed:
            return masks, shared
        refused[failed] = (
            f'the {cache.ways_of(_percent(going, failed))} ways of the L3 '
            f'cache {domain} that it is to have for itself are not to be had '
            f'in one row; {_set_aside(tree, cache, domain).bit_count()} are '
            f'set aside, others have some of these')


def _percent(going: Iterable[Class], name: str) -> int:
    return next(each.l3 or 0 for each in going if each.name == name)


def _place_in(tree: Tree, cache: Cache, domain: int, free: int,
              asking: Sequence[Class], shared: dict[str, str]) -> tuple[
                  dict[str, int], str | None]:
    """One cache.

    :returns: group -> mask; and the group that finds no room, if one does not
    """
    found: dict[str, int] = {}
    left = free
    sizes = {each.name: cache.ways_of(each.l3 or 0) for each in asking}
    now = {each.name: _masks(tree, cache, each.name, domain)
           for each in asking if each.name in tree.groups}

    def is_whole(mask: int, ways: int) -> bool:
        return mask.bit_count() == ways == _longest(mask)

    for name, mask in now.items():
        if is_whole(mask, sizes[name]) and not mask & ~left:
            found[name] = mask
            left &= ~mask
    for each in asking:
        name = each.name
        if name in found:
            continue
        mask = _fit(left, sizes[name])
        if mask:
            found[name] = mask
            left &= ~mask
            continue
        again = _pack(free, {other: sizes[other]
                             for other in (*found, name)})
        if again:
            found = again
            left = free
            for mask in found.values():
                left &= ~mask
            continue
        mask = now.get(name, 0)
        others = 0
        for other in found.values():
            others |= other
        if (is_whole(mask, sizes[name]) and not mask & others
                and not mask & ~_set_aside(tree, cache, domain)):
            # Somebody has put a group over it; it is not to suffer twice.
            found[name] = mask
            shared[name] = ', '.join(sorted(
                group for group in tree.groups if group
                and server_of(group) is None
                and _masks(tree, cache, group, domain) & mask))
            continue
        return found, name
    return found, None


def _pack(free: int, sizes: Mapping[str, int]) -> dict[str, int]:
    """All anew, the largest first; nothing if that fails."""
    found = {}
    for name, ways in sorted(sizes.items(), key=lambda item: (-item[1],
                                                              item[0])):
        mask = _fit(free, ways)
        if not mask:
            return {}
        found[name] = mask
        free &= ~mask
    return found


def _bring(tree: Tree, wanted: Class, masks: Mapping[int, int],
           is_there: bool) -> Iterator[Step]:
    """Steps for one group."""
    name, server = wanted.name, server_of(wanted.name) or ''
    if not is_there:
        yield Step(MAKE, name, (), server)
    lines = []
    now = tree.groups.get(name, {})
    for resource, values in _schemata(tree, wanted, masks).items():
        if now.get(resource) != values:
            lines.append(format_line(resource, values))
    if lines:
        yield Step(SCHEMATA, name, tuple(lines), server)
    missing = wanted.tasks - tree.tasks.get(name, frozenset())
    if missing:
        yield Step(TASKS, name, _ids(missing), server)


def _schemata(tree: Tree, wanted: Class,
              masks: Mapping[int, int]) -> dict[str, dict[int, int]]:
    """What a group is to say; where it has nothing, it is as the default."""
    default = tree.groups[DEFAULT]
    found: dict[str, dict[int, int]] = {}
    cache, bandwidth = tree.info.cache, tree.info.bandwidth
    for resource in cache.resources if cache else ():
        found[resource] = {**default.get(resource, {}), **masks}
    if BANDWIDTH in default:
        value = None
        if wanted.mb is not None and bandwidth is not None:
            value = bandwidth.of(wanted.mb)
        found[BANDWIDTH] = {
            domain: usual if value is None else value
            for domain, usual in default[BANDWIDTH].items()}
    return found


def _ids(tasks: Iterable[int]) -> tuple[str, ...]:
    return tuple(map(str, sorted(tasks)))


def caches(nodes: Mapping[int, Collection[int]],
           cache_of: Mapping[int, int]) -> dict[int, frozenset[int]]:
    """node -> ids of its L3 caches.

    :param nodes: node -> its pCPUs
    :param cache_of: pCPU -> id of its L3 cache; those offline have none
    """
    return {node: frozenset(cache_of[pcpu] for pcpu in pcpus
                            if pcpu in cache_of)
            for node, pcpus in nodes.items()}
