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

"""Hosts by the summaries of ``GET /allocation_candidates``.

One answer holds all node providers of a cloud: of each class what can be
allocated (``capacity``, total less reserved, times the ratio) and what is
allocated (``used``), and the traits.  What is free follows from that exactly.
Totals do not: what is reserved is missing in the memory and in the vCPUs that
a host has here, and in those that it has in use.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping
import json
from typing import Any
from typing import NamedTuple

from kongming.host import usage
from kongming.placement import inventory

#: A node that is full has none left of one or the other; hardly any has
#: nothing left of all.
PROBES = (inventory.MEMORY_MB, inventory.VCPU, inventory.PCPU)


class Node(NamedTuple):
    """What is known of a node provider.

    :ivar resources: class -> capacity, used
    """

    resources: Mapping[str, tuple[int, int]]
    traits: frozenset[str]

    @property
    def is_in_use(self) -> bool:
        """Whether anything is allocated on it."""
        return any(used for _capacity, used in self.resources.values())


def nodes(answer: Mapping[str, Any]) -> dict[str, Node]:
    """provider's uuid -> node, of an answer of Placement.

    Nodes that are alike, as many of a cloud are, are one and the same.
    """
    alike: dict[str, Node] = {}
    found = {}
    for uuid, summary in answer['provider_summaries'].items():
        # Placement gives traits in no order.
        summary['traits'].sort()
        key = json.dumps([summary['resources'], summary['traits']],
                         sort_keys=True)
        if key not in alike:
            alike[key] = Node({
                name: (each['capacity'], each['used'])
                for name, each in summary['resources'].items()},
                frozenset(summary['traits']))
        found[uuid] = alike[key]
    return found


class Hosts:
    """Hosts of nodes; those whose nodes are the same are read once.

    They share what they are; nobody changes a state in place.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[int, ...], tuple[
            list[Node], usage.HostState, usage.Limits]] = {}

    def read(self, found: Iterable[Node]
             ) -> tuple[usage.HostState, usage.Limits]:
        """As :func:`host`."""
        mine = list(found)
        # Kept with it, so that no other is known by the same number.
        key = tuple(map(id, mine))
        if key not in self._known:
            self._known[key] = mine, *host(mine)
        return self._known[key][1:]


def host(found: Iterable[Node]) -> tuple[usage.HostState, usage.Limits]:
    """A host of its nodes, and how far what floats may overcommit it.

    Memory that overcommits a node is counted as memory of the node.
    """
    known = list(found)
    state = inventory.read(map(_part, known))
    by_id = {inventory.node_of_traits(node.traits): node for node in known}
    floating = [(node, by_id[node.id].resources.get(inventory.VCPU, (0, 0))[0])
                for node in state.nodes if node.shared]
    # Of a node on which nothing is reserved it is the ratio itself.
    ratio = max((capacity / len(node.shared)
                 for node, capacity in floating), default=0.0) or 1.0
    for node, capacity in floating:
        node.shared_used += round(ratio * len(node.shared)) - capacity
    return state, usage.Limits(ratio, 1.0)


def _part(node: Node) -> tuple[
        dict[str, dict[str, Any]], frozenset[str], dict[str, int]]:
    """As :func:`kongming.placement.inventory.read` takes it."""
    records: dict[str, dict[str, Any]] = {}
    for name, (capacity, _used) in node.resources.items():
        records[name] = {'total': capacity}
        if not capacity and inventory.named_pcpus([name]):
            records[name] = {'total': 1, 'reserved': 1}
    return records, node.traits, {
        name: used for name, (_all, used) in node.resources.items()}


def is_whole(node: Node) -> bool:
    """Whether a summary says all that a fit needs.

    Of how many per cent a way of an L3 cache is it says nothing.
    """
    return inventory.L3 not in node.resources
