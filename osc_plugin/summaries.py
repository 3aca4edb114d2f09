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
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from openstack import connection

from kongming.placement import summary
from kongming.publish import client as placement_mod
from osc_plugin import cache as cache_mod


def read(conn: connection.Connection, placement: placement_mod.Placement,
         generations: Mapping[str, int]) -> dict[str, summary.Node]:
    """What one answer says of all nodes, as far as it says all of a node.

    What was read before holds of a node whose generation is the same and on
    which nothing was allocated: to allocate moves the generation.  To delete
    an allocation does not (placement/objects/allocation.py, ``delete_all``),
    so of the others all is read again.

    :param generations: node provider's uuid -> its generation, from before
    """
    cache = cache_mod.Cache.of(conn)
    found = _unchanged(cache.load() if cache else {}, generations)
    if found.keys() >= generations.keys():
        return found
    found = {}
    for probe in summary.PROBES:
        found.update(summary.nodes(placement.candidates(probe)))
        if found.keys() >= generations.keys():
            break
    found = {uuid: node for uuid, node in found.items()
             if uuid in generations and summary.is_whole(node)}
    if cache:
        cache.store(_content(found, generations))
    return found


def _content(found: Mapping[str, summary.Node],
             generations: Mapping[str, int]) -> dict[str, Any]:
    """For a cache: nodes that are alike stand in it once."""
    idle = {uuid: node for uuid, node in found.items() if not node.is_in_use}
    kinds = {id(node): node for node in idle.values()}
    numbers = {key: number for number, key in enumerate(kinds)}
    return {'kinds': [[dict(node.resources), sorted(node.traits)]
                      for node in kinds.values()],
            'nodes': {uuid: [generations[uuid], numbers[id(node)]]
                      for uuid, node in idle.items()}}


def _unchanged(content: Mapping[str, Any], generations: Mapping[str, int]
               ) -> dict[str, summary.Node]:
    """What holds of what a cache has."""
    if not content:
        return {}
    try:
        kinds = [summary.Node({
            name: (int(capacity), int(used))
            for name, (capacity, used) in resources.items()},
            frozenset(map(str, traits)))
            for resources, traits in content['kinds']]
        return {uuid: kinds[number] for uuid, (generation, number)
                in content['nodes'].items()
                if generations.get(uuid) == generation
                and not kinds[number].is_in_use}
    except (ValueError, TypeError, AttributeError, LookupError):
        return {}
