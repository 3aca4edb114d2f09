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
"""Which classes of service servers get of a host, and how to get there."""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import NamedTuple

from kongming.resctrl import bitmask
from kongming.resctrl import schemata


class Class(NamedTuple):
    """A group as it is to be.

    :ivar name: see :func:`kongming.resctrl.schemata.group_name`
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
    :ivar shared: group -> who fills its ways as well, to be logged
    """

    steps: tuple[Step, ...]
    refused: Mapping[str, str]
    shared: Mapping[str, str]


def plan(tree: schemata.Tree, wanted: Sequence[Class],
         left: Collection[str] = (), strays: Iterable[int] = (),
         most: int | None = None) -> Plan:
    """From what is to what is to be; nothing where that is the same.

    Only groups of ours are touched.  Whoever has something keeps it where it
    can; who came first gets what there is.  Ways of groups that are here move
    only where that frees ways.

    :param wanted: the groups of all servers that were looked at
    :param left: servers that were not, whose groups stay
    :param strays: threads of vCPUs that are to be in no group of ours
    :param most: CLOSIDs that servers may have in all; None: all there are
    """
    ours = {group for group in tree.groups
            if schemata.server_of(group) is not None}
    names = {each.name for each in wanted}
    gone = sorted(group for group in ours - names
                  if schemata.server_of(group) not in left)
    ours -= {*gone}
    refused = {}
    steps = [Step(REMOVE, group, (), schemata.server_of(group) or '')
             for group in gone]
    # Those that are here come first, so that none is taken from them.
    going = []
    slots = schemata.slots(tree, most)
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
            steps += _converge(tree, each, masks.get(each.name, {}),
                               each.name in ours)
    strays_in_use = frozenset(strays) & frozenset().union(*(
        tree.tasks.get(group, frozenset()) for group in ours))
    if strays_in_use:
        steps.append(Step(TASKS, schemata.DEFAULT, _ids(strays_in_use)))
    return Plan(tuple(sorted(steps, key=lambda step: _ORDER.index(
        step.kind))), refused, shared)


def _impossible(tree: schemata.Tree, wanted: Class) -> str | None:
    """Why no amount of free cache would do."""
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


def _place(tree: schemata.Tree, going: Sequence[Class],
           refused: dict[str, str], ours: Collection[str]) -> tuple[
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
        aside = 0
        for domain in sorted({d for each in asking for d in each.domains}):
            free = schemata.free(tree, cache, domain)
            aside = schemata.set_aside(tree, cache, domain)
            for group in fixed:
                mask = schemata.masks(tree, cache, group, domain)
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
            f'in one row; {aside.bit_count()} are set aside, others have '
            f'some of these')


def _percent(going: Iterable[Class], name: str) -> int:
    return next(each.l3 or 0 for each in going if each.name == name)


def _place_in(tree: schemata.Tree, cache: schemata.Cache, domain: int,
              free: int, asking: Sequence[Class],
              shared: dict[str, str]) -> tuple[dict[str, int], str | None]:
    """One cache.

    :returns: group -> mask; and the group for which too little is left, if any
    """
    found: dict[str, int] = {}
    left = free
    sizes = {each.name: cache.ways_of(each.l3 or 0) for each in asking}
    now = {each.name: schemata.masks(tree, cache, each.name, domain)
           for each in asking if each.name in tree.groups}

    def is_whole(mask: int, ways: int) -> bool:
        return mask.bit_count() == ways == bitmask.longest(mask)

    for name, mask in now.items():
        if is_whole(mask, sizes[name]) and not mask & ~left:
            found[name] = mask
            left &= ~mask
    for each in asking:
        name = each.name
        if name in found:
            continue
        mask = bitmask.fit(left, sizes[name])
        if mask:
            found[name] = mask
            left &= ~mask
            continue
        again = bitmask.pack(free, {other: sizes[other]
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
                and not mask & ~schemata.set_aside(tree, cache, domain)):
            # Somebody has put a group over it; it is not to suffer twice.
            found[name] = mask
            shared[name] = ', '.join(sorted(
                group for group in tree.groups if group
                and schemata.server_of(group) is None
                and schemata.masks(tree, cache, group, domain) & mask))
            continue
        return found, name
    return found, None


def _converge(tree: schemata.Tree, wanted: Class, masks: Mapping[int, int],
              is_there: bool) -> Iterator[Step]:
    """Steps for one group."""
    name, server = wanted.name, schemata.server_of(wanted.name) or ''
    if not is_there:
        yield Step(MAKE, name, (), server)
    lines = []
    now = tree.groups.get(name, {})
    for resource, values in _schemata(tree, wanted, masks).items():
        if now.get(resource) != values:
            lines.append(schemata.format_line(resource, values))
    if lines:
        yield Step(SCHEMATA, name, tuple(lines), server)
    missing = wanted.tasks - tree.tasks.get(name, frozenset())
    if missing:
        yield Step(TASKS, name, _ids(missing), server)


def _schemata(tree: schemata.Tree, wanted: Class,
              masks: Mapping[int, int]) -> dict[str, dict[int, int]]:
    """What a group is to say; where it has nothing, it is as the default."""
    default = tree.groups[schemata.DEFAULT]
    found: dict[str, dict[int, int]] = {}
    cache, bandwidth = tree.info.cache, tree.info.bandwidth
    for resource in cache.resources if cache else ():
        found[resource] = {**default.get(resource, {}), **masks}
    if schemata.BANDWIDTH in default:
        value = None
        if wanted.mb is not None and bandwidth is not None:
            value = bandwidth.of(wanted.mb)
        found[schemata.BANDWIDTH] = {
            domain: usual if value is None else value
            for domain, usual in default[schemata.BANDWIDTH].items()}
    return found


def _ids(tasks: Iterable[int]) -> tuple[str, ...]:
    return tuple(map(str, sorted(tasks)))
