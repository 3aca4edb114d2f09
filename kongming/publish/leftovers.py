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

"""Node providers that no nova-compute looks after.

Nova deletes the tree of a compute node with its service, and node providers
are not in it.  Builds before the first release had them in that tree.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping
import dataclasses
from typing import Any

from kongming import exception
from kongming.placement import naming
from kongming.publish import client as placement_mod
from kongming.publish import publisher


@dataclasses.dataclass(frozen=True)
class Leftover:
    """One of them.

    :ivar compute: uuid of the compute node that it lies below; None where
        its compute node is gone
    """

    uuid: str
    name: str
    compute: str | None = None

    @property
    def why(self) -> str:
        return ('its compute node is gone' if self.compute is None else
                "it is in its compute node's tree, where an older build has "
                "made it")


def find(providers: Iterable[Mapping[str, Any]]) -> list[Leftover]:
    """The leftovers of a cloud, by name.

    :param providers: all, as Placement lists them
    """
    found, roots = [], {}
    for provider in providers:
        if provider['parent_provider_uuid'] is None:
            roots[provider['uuid']] = provider['name']
        elif naming.is_ours(provider['name']):
            found.append(Leftover(provider['uuid'], provider['name'],
                                  provider['root_provider_uuid']))
    _hosts, gone = naming.of_computes(roots.items())
    found += [Leftover(uuid, roots[uuid]) for uuid in gone]
    return sorted(found, key=lambda left: (left.name, left.uuid))


def clear(placement: placement_mod.Placement, leftover: Leftover,
          dry_run: bool = False) -> tuple[str, list[str]]:
    """Delete one, or put it where its host's publisher finds it.

    What servers have of a host that is gone they have no more: it is taken
    from their allocations, and what they have elsewhere stays.  What they
    have of a host that is there they keep.

    :returns: what was done, in words; and the consumers that have something
        of it
    :raises kongming.exception.CloudError: if Placement refuses
    """
    try:
        consumers = sorted(placement.allocations(leftover.uuid))
        if leftover.compute is not None and consumers:
            if not dry_run:
                found, = placement.providers(uuid=leftover.uuid)
                publisher.adopt(placement, found, leftover.compute)
            return "taken out of its compute node's tree", consumers
        if not dry_run:
            for consumer in consumers:
                placement.withdraw(consumer, {leftover.uuid})
            placement.delete(leftover.uuid)
        return 'deleted', consumers
    except exception.NotFound:
        return 'gone meanwhile', []
