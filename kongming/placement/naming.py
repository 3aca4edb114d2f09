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

"""What the providers of a host are called, and whose they are.

Each host NUMA node is a root provider of its own, outside the tree of its
compute node: Placement reads whole trees for each host that it answers with,
so native servers would pay for whatever hung there.  Names and uuids follow
from the compute node's, so that everybody knows them without a look-up; an
aggregate keeps those of one host together.
"""

from __future__ import annotations

from collections.abc import Iterable
import hashlib
import re
import uuid

#: Characters in the name of a provider
#: (placement/schemas/resource_provider.py).
LONGEST = 200
_DIGEST = 16
_NAME = re.compile('.*_KONGMING_NODE([0-9]+)', re.DOTALL)


def provider_name(nodename: str, node: int, more: str = '') -> str:
    """A node's provider; shortened where it would be refused.

    :param more: to tell it from one that has the same name
    """
    suffix = f'_KONGMING_NODE{node}'
    if more:
        suffix = f'_{more}{suffix}'
    if len(nodename) + len(suffix) > LONGEST:
        digest = hashlib.sha256(nodename.encode()).hexdigest()[:_DIGEST]
        suffix = f'_{digest}{suffix}'
    return nodename[:LONGEST - len(suffix)] + suffix


def provider_uuid(compute_uuid: str, node: int) -> str:
    return str(uuid.uuid5(uuid.UUID(compute_uuid), f'KONGMING_NODE{node}'))


def aggregate_uuid(compute_uuid: str) -> str:
    """The aggregate of a host's node providers; no other is in it."""
    return str(uuid.uuid5(uuid.UUID(compute_uuid), 'KONGMING_HOST'))


def is_ours(name: str) -> bool:
    """Whether a provider of this name is one of a node."""
    return _NAME.fullmatch(name) is not None


def of_computes(providers: Iterable[tuple[str, str]]) -> tuple[
        dict[str, dict[int, str]], list[str]]:
    """Whose the node providers of a cloud are.

    :param providers: (uuid, name) of all root providers
    :returns: compute node's uuid -> node -> its provider's uuid; and the
        uuids of node providers whose compute node is gone
    """
    ours: dict[str, int] = {}
    others = []
    for found, name in providers:
        if match := _NAME.fullmatch(name):
            ours[found] = int(match[1])
        else:
            others.append(found)
    numbers = sorted(set(ours.values()))
    hosts: dict[str, dict[int, str]] = {}
    left = set(ours)
    for compute in others:
        for number in numbers:
            node = provider_uuid(compute, number)
            if node in left:
                hosts.setdefault(compute, {})[number] = node
                left.discard(node)
    return hosts, [found for found in ours if found in left]
