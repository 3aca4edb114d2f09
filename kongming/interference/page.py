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

"""A report as one HTML file: the same parts as the page of a whole cloud.

A host knows its domains, and not what Nova knows of them: their cells are
where their pins and the binding of their memory are.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable
from collections.abc import Iterator

from kongming.domain import audit
from kongming.domain import domain as domain_mod
from kongming.host import usage
from kongming.interference import report as report_mod
from kongming.interference import text
from kongming.render import cloud as cloud_mod
from kongming.render import page as page_mod


def page(name: str, moment: str, state: usage.HostState,
         running: Iterable[domain_mod.Running],
         found: report_mod.Report) -> str:
    """
    :param name: of the host
    :param moment: when the interval ended, in UTC (ISO 8601)
    :param state: the host as nova.conf divides it
    """
    return page_mod.report(
        cloud(name, moment, state, running, _doubts(found)),
        text.document(found))


def _doubts(found: report_mod.Report) -> Iterator[str]:
    if found.not_traced:
        yield f'Times of interrupts are not measured: {found.not_traced}'
    if found.lost:
        yield (f'The trace has lost {found.lost} events; its times are too '
               f'small.')


def cloud(name: str, moment: str, state: usage.HostState,
          running: Iterable[domain_mod.Running],
          doubts: Iterable[str] = ()) -> cloud_mod.Cloud:
    """A cloud of one host, its domains as servers."""
    residents = [audit.resident(each, state) for each in running]
    owned = frozenset().union(*(each.owned.pcpus for each in residents))
    return cloud_mod.Cloud(
        name, moment, (cloud_mod.Host(name, '', usage.HostState(
            node.holding(node.taken | owned & node.dedicated)
            for node in state.nodes), obeys=None),),
        tuple(_server(name, each, state) for each in residents),
        doubts=tuple(doubts))


def _server(host: str, resident: audit.Resident,
            state: usage.HostState) -> cloud_mod.Server:
    domain = resident.running.domain
    shown = domain.name
    if domain.flavor is not None and domain.flavor.server:
        shown = f'{domain.flavor.server} ({domain.name})'
    return cloud_mod.Server(
        domain.uuid, shown, host,
        has_template=resident.desired is not None,
        cells=tuple(_cells(resident, state)))


def _cells(resident: audit.Resident,
           state: usage.HostState) -> Iterator[cloud_mod.Cell]:
    """One for each host node that a guest's cell is on.

    A cell's memory is where it is bound to one node; what is bound to none,
    or to several, is nobody's.
    """
    domain = resident.running.domain
    nodes = {pcpu: node.id for node in state.nodes
             for core in node.cores() for pcpu in core}
    left = {pcpu: nodes[pcpu] for pcpu in resident.owned.emulator
            if pcpu in nodes}
    for number, vcpus in enumerate(domain.cells):
        pins: dict[int, dict[int, int]] = collections.defaultdict(dict)
        for vcpu, pcpu in sorted(resident.owned.pins.items()):
            if vcpu in vcpus and pcpu in nodes:
                pins[nodes[pcpu]][vcpu] = pcpu
        bound = domain.memnodes.get(number, domain.nodes)
        home = next(iter(bound)) if len(bound) == 1 else None
        memory = 0
        if home is not None:
            memory = domain.memory_kib[min(
                number, len(domain.memory_kib) - 1)] // 1024
        elif len(pins) == 1:
            home = next(iter(pins))
        floating = len(vcpus) - sum(map(len, pins.values()))
        here = set(pins) if home is None else {home, *pins}
        for node in sorted(here):
            more = frozenset(pcpu for pcpu, its in left.items()
                             if its == node)
            left = {pcpu: its for pcpu, its in left.items() if its != node}
            yield cloud_mod.Cell(
                node, pins[node], more.union(pins[node].values()),
                floating if node == home else 0,
                memory if node == home else 0)
    for node in sorted(set(left.values())):
        yield cloud_mod.Cell(
            node, {}, frozenset(pcpu for pcpu, its in left.items()
                                if its == node), 0, 0)
