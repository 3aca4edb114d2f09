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

"""Which providers of a cloud are nodes of which host, by few requests."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Set
from typing import Any
from typing import NamedTuple

from kongming.placement import inventory
from kongming.placement import naming
from kongming.publish import client as placement_mod


class Providers(NamedTuple):
    """Providers of a cloud, by few requests.

    :ivar nodes: those of nodes
    :ivar obeying: uuids of compute nodes that obey templates
    :ivar every: all that are needed to tell whose the nodes are
    """

    nodes: placement_mod.Listing
    obeying: Set[str]
    every: list[dict[str, Any]]


def read(placement: placement_mod.Placement) -> Providers:
    """What Placement lists; all providers only where that is needed."""
    nodes = placement.listed(inventory.TRAIT)
    obeying = placement.with_trait(
        inventory.TRAIT_HOOK) if nodes.providers else []
    every = [*nodes.providers, *obeying]
    known = {uuid for mine in of_hosts(every).values()
             for uuid in mine.values()}
    if not nodes.providers or any(provider['uuid'] not in known
                                  for provider in nodes.providers):
        # Some are of hosts that obey nothing, or are gone.
        every = placement.providers()
    return Providers(nodes, {provider['uuid'] for provider in obeying},
                     every)


def of_hosts(providers: Iterable[Mapping[str, Any]]
             ) -> dict[str, dict[int, str]]:
    """compute node's uuid -> node -> its provider's uuid."""
    return naming.of_computes(
        (provider['uuid'], provider['name']) for provider in providers
        if provider['parent_provider_uuid'] is None)[0]
