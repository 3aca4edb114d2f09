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

"""What a flavor asks of a host beside CPUs and memory of its nodes.

Nova's scheduler asks Placement for traits and resources of the compute node,
and some of its filters look at aggregates.  What of that a flavor alone says
is here; images, ports and the API's hints say more.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set
import dataclasses
import re

from oslo_utils import specs_matcher

from kongming.placement import inventory

_AGGREGATE = 'aggregate_instance_extra_specs:'
_RESOURCE = re.compile('resources:([A-Z0-9_]+)')
#: What the nodes of a host are asked for, exactly.
_OF_NODES = ('VCPU', 'PCPU', 'MEMORY_MB')
DISK = 'DISK_GB'


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What is asked of a host.

    :ivar required: traits that it has to have
    :ivar forbidden: traits that it may not have
    :ivar resources: class -> amount, of the compute node itself
    :ivar aggregates: metadata of its aggregates, as
        AggregateInstanceExtraSpecsFilter wants it
    :ivar zone: the availability zone that it has to be in, if any
    """

    required: Set[str] = frozenset()
    forbidden: Set[str] = frozenset()
    resources: Mapping[str, int] = dataclasses.field(default_factory=dict)
    aggregates: Mapping[str, str] = dataclasses.field(default_factory=dict)
    zone: str = ''


def of_flavor(specs: Mapping[str, str], disk_gib: int,
              zone: str = '') -> Wanted:
    """What a flavor asks for.

    :param specs: its extra specs
    :param disk_gib: root and ephemeral disks and swap
    """
    resources = {match[1]: int(value) for key, value in specs.items()
                 if (match := _RESOURCE.fullmatch(key))
                 and value.isdecimal()}
    resources.setdefault(DISK, disk_gib)
    traits = {how: frozenset(
        key.removeprefix('trait:') for key, value in specs.items()
        if key.startswith('trait:') and value == how)
        for how in ('required', 'forbidden')}
    return Wanted(
        traits['required'] - {inventory.TRAIT_HOOK}, traits['forbidden'],
        {name: amount for name, amount in resources.items()
         if amount and name not in _OF_NODES},
        {key.removeprefix(_AGGREGATE): value for key, value in specs.items()
         if key.startswith(_AGGREGATE)}, zone)


def aggregates_lack(wanted: Wanted,
                    metadata: Mapping[str, Set[str]]) -> list[str]:
    """What the aggregates of a host do not say, as ``key=value``.

    :param metadata: key -> values, of all of its aggregates
    """
    return [f'{key}={value}' for key, value in sorted(
        wanted.aggregates.items()) if not any(
            specs_matcher.match(found, value)
            for found in metadata.get(key, ()))]
