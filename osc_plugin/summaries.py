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

"""All nodes of a cloud by one answer of Placement, and what holds of the last.

What was read before holds of a node whose generation is the same, as long as
nothing was freed there: to allocate moves the generation, to delete an
allocation does not (placement/objects/allocation.py, ``_set_allocations`` and
``delete_all``).  On a node where nothing was allocated there is nothing to
free.  Of the others the sum tells: where no node of the cloud has another
generation than before, nothing was allocated since, on none of them.  If what
projects use of our classes (``GET /usages``) is still as much as all nodes
together had allocated, nothing was freed either.

That holds whatever other projects there are: what some projects use is not
more than all.  So usages are asked for *before* the list with the generations,
and the generations that are kept are from before what is kept with them.

A provider that was deleted and made again begins with the first generation.
So nothing holds where one was written since, as Placement says in the header
Last-Modified of the list; that is in whole seconds, so what was written a
moment ago is not cached.
"""

from __future__ import annotations

import collections
from collections.abc import Collection
from collections.abc import Mapping
import datetime
import random
from typing import Any
from typing import NamedTuple

from openstack import connection

from kongming import exception
from kongming.placement import summary
from kongming.publish import client as placement_mod
from osc_plugin import cache as cache_mod

#: Of more projects it is quicker to read all nodes again, as a rule.
MOST_PROJECTS = 5
#: Nodes of which it is asked whose servers are there.
_SAMPLES = 4
_OURS = 'CUSTOM_KONGMING_'
#: For how long nothing may have been written, for it to be cached.
_MIN_AGE = datetime.timedelta(seconds=2)
#: The same by this machine's clock, which may go otherwise.
_MIN_AGE_HERE = datetime.timedelta(seconds=62)


class _Cached(NamedTuple):
    """What a cache has.

    :ivar nodes: provider's uuid -> its generation, and what it was
    :ivar projects: ids of those that are known to have servers there
    :ivar are_all: whether no other had, so that nodes in use are kept
    :ivar changed: when one of the nodes was written last, in ISO's format
    """

    nodes: Mapping[str, tuple[int, summary.Node]]
    projects: tuple[str, ...] = ()
    are_all: bool = False
    changed: str = ''


class Reader:
    """Reads all nodes; make it before the list of providers is read."""

    def __init__(self, conn: connection.Connection,
                 placement: placement_mod.Placement) -> None:
        self._placement = placement
        self._cache = cache_mod.Cache.of(conn)
        self._cached = _decoded(self._cache.load() if self._cache else {})
        self._allocated = _allocated(self._cached)
        self._nothing_freed = self._cached.are_all and bool(
            self._allocated) and self._used(
                self._cached.projects) == self._allocated

    def read(self, listing: placement_mod.Listing,
             others: Collection[str]) -> dict[str, summary.Node]:
        """What is known of all nodes, as far as all of a node is.

        :param listing: all node providers, asked for since this was made
        :param others: those of them that are no host's; what is allocated
            there is part of what projects use
        """
        generations = {provider['uuid']: provider['generation']
                       for provider in listing.providers
                       if provider['uuid'] not in others}
        if self._holds(generations, listing, others):
            return {uuid: self._cached.nodes[uuid][1] for uuid in generations}
        found: dict[str, summary.Node] = {}
        for probe in summary.PROBES:
            found.update(summary.nodes(self._placement.candidates(probe)))
            if found.keys() >= generations.keys():
                break
        found = {uuid: node for uuid, node in found.items()
                 if uuid in generations and summary.is_whole(node)}
        if self._cache and _is_old_enough(listing):
            self._cache.store(_content(self._with_projects({
                uuid: (generations[uuid], node)
                for uuid, node in found.items()})._replace(
                    changed=_changed(listing))))
        return found

    def _holds(self, generations: Mapping[str, int],
               listing: placement_mod.Listing,
               others: Collection[str]) -> bool:
        """Whether all that is kept is as it was."""
        cached = self._cached.nodes
        return (_changed(listing) == self._cached.changed != ''
                and all(uuid in cached and cached[uuid][0] == generation
                        for uuid, generation in generations.items())
                and (not self._allocated or (
                    self._nothing_freed and not others
                    and len(cached) == len(generations))))

    def _used(self, projects: Collection[str]) -> collections.Counter[str]:
        """What projects have of our classes; nothing if it is not told."""
        found: collections.Counter[str] = collections.Counter()
        try:
            for project in projects:
                found.update(_ours(self._placement.usages(project)))
        except exception.CloudError:
            return collections.Counter()
        return found

    def _with_projects(self, nodes: Mapping[str, tuple[int, summary.Node]]
                       ) -> _Cached:
        """What is to be kept, once it is known whose servers are there.

        Placement lists no projects, so some consumers are asked for theirs.
        """
        wanted = _allocated(_Cached(nodes))
        projects: dict[str, collections.Counter[str]] = {}

        def are_all() -> bool:
            return sum(projects.values(), collections.Counter()) == wanted

        try:
            for project in self._cached.projects:
                projects[project] = self._used([project])
            in_use = [uuid for uuid, (_generation, node) in nodes.items()
                      if node.is_in_use]
            for uuid in random.sample(in_use, min(_SAMPLES, len(in_use))):
                if are_all() or len(projects) >= MOST_PROJECTS:
                    break
                for consumer in [*self._placement.allocations(uuid)][:1]:
                    owner = self._placement.allocations_of(consumer)[
                        'project_id']
                    if owner and owner not in projects:
                        projects[owner] = self._used([owner])
        except exception.CloudError:
            pass
        return _Cached(nodes, tuple(sorted(
            project for project, used in projects.items() if used)),
            are_all())


def _changed(listing: placement_mod.Listing) -> str:
    return listing.changed.isoformat() if listing.changed else ''


def _is_old_enough(listing: placement_mod.Listing) -> bool:
    """Whether whoever writes after it is told by a later moment."""
    if listing.changed is None:
        return False
    if listing.asked is not None:
        return listing.asked - listing.changed >= _MIN_AGE
    return datetime.datetime.now(
        datetime.UTC) - listing.changed >= _MIN_AGE_HERE


def _ours(amounts: Mapping[str, int]) -> dict[str, int]:
    return {name: amount for name, amount in amounts.items()
            if amount and name.startswith(_OURS)}


def _allocated(cached: _Cached) -> collections.Counter[str]:
    """class -> what all nodes together have allocated."""
    found: collections.Counter[str] = collections.Counter()
    nodes = {id(node): node for _generation, node in cached.nodes.values()}
    for key, count in collections.Counter(
            id(node) for _generation, node in cached.nodes.values()).items():
        for name, (_capacity, used) in nodes[key].resources.items():
            if used:
                found[name] += used * count
    return found


def _content(cached: _Cached) -> dict[str, Any]:
    """For a cache: nodes that are alike, or alike but for use, stand once.

    Nodes in use are left out where nothing could tell that they hold.
    """
    shapes: dict[tuple[Any, ...], int] = {}
    kinds: dict[int, tuple[int, list[Any]]] = {}
    nodes = {}
    for uuid, (generation, node) in cached.nodes.items():
        if node.is_in_use and not cached.are_all:
            continue
        if id(node) not in kinds:
            shape = (tuple((name, capacity) for name, (capacity, _used)
                           in node.resources.items()),
                     tuple(sorted(node.traits)))
            kinds[id(node)] = len(kinds), [
                shapes.setdefault(shape, len(shapes)),
                {name: used for name, (_capacity, used)
                 in node.resources.items() if used}]
        nodes[uuid] = [generation, kinds[id(node)][0]]
    return {'shapes': [[dict(capacities), traits]
                       for capacities, traits in shapes],
            'kinds': [kind for _number, kind in kinds.values()],
            'nodes': nodes, 'projects': cached.projects,
            'all': cached.are_all, 'changed': cached.changed}


def _decoded(content: Mapping[str, Any]) -> _Cached:
    """The reverse of it; nothing where it is not as it should be."""
    if not content:
        return _Cached({})
    try:
        shapes = [({str(name): int(capacity) for name, capacity
                    in capacities.items()}, frozenset(map(str, traits)))
                  for capacities, traits in content['shapes']]
        kinds = []
        for number, used in content['kinds']:
            capacities, traits = shapes[number]
            if used.keys() - capacities.keys():
                return _Cached({})
            kinds.append(summary.Node({
                name: (capacity, int(used.get(name, 0)))
                for name, capacity in capacities.items()}, traits))
        return _Cached({uuid: (generation, kinds[number]) for uuid, (
            generation, number) in content['nodes'].items()},
            tuple(map(str, content['projects'])), content['all'] is True,
            str(content['changed']))
    except (ValueError, TypeError, AttributeError, LookupError):
        return _Cached({})
