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

"""What a host reports of itself in its compute node's stats.

Nova carries them to the scheduler with the host's record, so that filter and
weigher need not guess, and need not ask anybody.  Stats are strings:

``kongming_version``
    of the hook, e.g. ``1.2.0``.
``kongming_obeys``
    what of a template it obeys, blank-separated: ``boot``, ``live``.
``kongming_published``
    NUMA nodes whose inventory in Placement is as it should be, e.g. ``0-1``.
``kongming_never``
    pCPUs that are given to no template, e.g. ``0,64``.
``kongming_l3``
    pCPUs that share an L3 cache, e.g. ``0-7,64-71 8-15,72-79``.
``kongming_live``
    whether running servers are changed: ``act``, ``observe``, ``off``, or
    ``unseen`` where the kernel can't be asked; and for how many of them
    something would be done while it observes, e.g. ``observe:3``.
``kongming_irq``
    ``[kongming] irq_affinity``, and how many interrupts of devices may come
    to pCPUs that have an owner, e.g. ``report:3``.
``kongming_cache``
    what is free of caches: node, CLOSIDs, per cent of L3, the least per cent,
    whether memory bandwidth can be limited; e.g. ``0:7:60:5:1 1:7:60:5:1``.
``kongming_tzdata``
    by which database of time zones it decides, e.g. ``2026f``; the trait
    ``CUSTOM_KONGMING_TZDATA_2026F`` of its nodes tells the same to those who
    see Placement only.
"""

import functools
from importlib import metadata
import typing

from kongming import exception as km_exc
from kongming.host import topology
from kongming.host import usage
from kongming.template import zones

BOOT, LIVE = 'boot', 'live'
_PREFIX = 'kongming_'


class Reported(typing.NamedTuple):
    """What a host has reported.

    :ivar obeys: what of a template
    :ivar published: nodes that something can be claimed of in Placement
    :ivar never: pCPUs that are given to no template
    :ivar l3: pCPU -> number of its L3 cache
    :ivar live: whether running servers are changed
    :ivar irq: what is done with interrupts of devices, and how many may come
        to pCPUs that have an owner
    :ivar caches: node -> kongming.host.usage.CacheCapacity that is free;
        None: not known
    """

    obeys: frozenset[str] = frozenset()
    published: frozenset[int] = frozenset()
    never: frozenset[int] = frozenset()
    l3: dict[int, int] = {}
    caches: dict[int, usage.CacheCapacity] | None = None
    live: str = ''
    irq: str = ''


@functools.lru_cache(1)
def _version():
    try:
        return metadata.version('kongming')
    except metadata.PackageNotFoundError:
        return 'unknown'


def report(found):
    """The stats of a host.

    :param found: Reported
    """
    groups: dict[int, list[int]] = {}
    for pcpu, cache in found.l3.items():
        groups.setdefault(cache, []).append(pcpu)
    stats = {
        'version': _version(),
        'tzdata': zones.database().version,
        'obeys': ' '.join(sorted(found.obeys)),
        'published': topology.format_cpu_list(found.published),
        'never': topology.format_cpu_list(found.never),
        'l3': ' '.join(topology.format_cpu_list(pcpus)
                       for _cache, pcpus in sorted(groups.items()))}
    if found.live:
        stats['live'] = found.live
    if found.irq:
        stats['irq'] = found.irq
    if found.caches is not None:
        stats['cache'] = ' '.join(
            f'{node}:{free.closids}:{free.l3}:{free.least}:{free.mb:d}'
            for node, free in sorted(found.caches.items()))
    return {f'{_PREFIX}{key}': value for key, value in stats.items()}


def reported(stats):
    """What a host has reported by its stats; nothing where it has no hook.

    :param stats: of nova.scheduler.host_manager.HostState
    :returns: Reported
    """
    if not stats or f'{_PREFIX}obeys' not in stats:
        return NOTHING
    return _reported(*(stats.get(f'{_PREFIX}{key}') for key in (
        'obeys', 'published', 'never', 'l3', 'cache', 'live',
        'irq')))


NOTHING = Reported()


@functools.lru_cache(4096)
def _reported(obeys, published, never, l3, cache, live, irq):
    # Hosts of one kind say the same, and say it again for each request.
    try:
        return Reported(
            frozenset((obeys or '').split()),
            _numbers(published), _numbers(never),
            {pcpu: number for number, pcpus in enumerate((l3 or '').split())
             for pcpu in _numbers(pcpus)},
            None if cache is None else dict(map(_cache, cache.split())),
            live or '', irq or '')
    except (ValueError, km_exc.KongmingError):
        # Of a build of tomorrow.
        return NOTHING


def _numbers(text):
    return frozenset(topology.parse_cpu_list(text)) if text else frozenset()


def _cache(text):
    node, closids, l3, least, mb = map(int, text.split(':'))
    return node, usage.CacheCapacity(closids, l3, least, bool(mb))
