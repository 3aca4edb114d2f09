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

"""What is counted of a host that was looked at."""

from __future__ import annotations

import collections
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any
from typing import NamedTuple

from kongming.domain import audit
from kongming.domain import domain as domain_mod
from kongming.fit import fragmentation
from kongming.host import topology
from kongming.host import usage


class Sample(NamedTuple):
    """:ivar name: of :data:`kongming.metrics.catalog.CATALOG`

    :ivar labels: values, in the order of the metric's labels
    :ivar value: a number, or kongming.metrics.account.Durations
    """

    name: str
    labels: tuple[str, ...]
    value: Any


def samples(host: topology.Host, state: usage.HostState,
            running: Iterable[domain_mod.Running],
            findings: Iterable[audit.Finding],
            misplaced_kib: Mapping[str, int]) -> Iterator[Sample]:
    """
    :param state: as nova.conf divides it
    :param findings: of :func:`kongming.domain.audit.find`
    :param misplaced_kib: domain's name -> memory that is elsewhere
    """
    residents = [audit.resident(each, state) for each in running]
    for node in host.nodes:
        yield from _node(node, state.node(node.id), residents)
    counts = collections.Counter(found.kind for found in findings)
    for kind in audit.KINDS:
        yield Sample('kongming_violations', (kind,), counts[kind])
    for each in residents:
        domain = each.running.domain
        yield Sample('kongming_server_info', (
            domain.name, domain.uuid,
            domain.flavor.server if domain.flavor else ''), 1)
    for name, kib in misplaced_kib.items():
        yield Sample('kongming_server_misplaced_memory_bytes', (name,),
                     kib * 1024)


def _node(node: topology.Node, state: usage.NodeState | None,
          residents: Iterable[audit.Resident]) -> Iterator[Sample]:
    dedicated = state.dedicated if state else frozenset()
    shared = state.shared if state else frozenset()
    owners: dict[int, audit.Resident] = {}
    for each in residents:
        owners.update((pcpu, each) for pcpu in each.owned.pcpus
                      if pcpu in node.pcpus)
    lent = {pcpu for pcpu, owner in owners.items() if not owner.is_on(pcpu)}
    borrowed = {pcpu for pcpu in lent if any(
        each is not owners[pcpu] and each.is_on(pcpu)
        for each in residents)}
    owned = frozenset(owners)
    taken = state.holding(owned & dedicated) if state else None
    for name, number in (
            ('owned', len(owned)), ('free', taken.n_free if taken else 0),
            ('stranded', len(fragmentation.stranded(taken)) if taken else 0),
            ('lent', len(lent)), ('borrowed', len(borrowed)),
            ('offline', len(node.offline)), ('shared', len(shared))):
        yield Sample(f'kongming_node_{name}_pcpus', (str(node.id),), number)
