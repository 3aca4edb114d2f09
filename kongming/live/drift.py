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

"""Drift of a running server: what of its template it does not have."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses

from kongming.host import usage
from kongming.intent import merge
from kongming.live import threads
from kongming.template import grammar
from kongming.template import template as template_mod

#: A cell's host node and what its dedicated vCPUs own: vCPU -> pCPU.
Cell = tuple[int, Mapping[int, int]]


def needs_host(desired: template_mod.Template) -> bool:
    """Whether a host has to be known to find what is unmet of a template.

    Nodes and pCPUs that are named by their ids say all by themselves.
    """
    return bool(desired.emulator or desired.iothreads or desired.sched) or any(
        pin.floats or not all(isinstance(target, grammar.Range)
                              for target in pin.targets)
        for pins in desired.pins.values() for pin in pins)


def unmet(desired: template_mod.Template, cells: Sequence[Cell],
          host: usage.HostState, emulator_isolated: bool) -> list[str]:
    """What of a template a server does not have, in words.

    :param cells: in their order
    :param host: any will do unless :func:`needs_host`
    :param emulator_isolated: the pCPU owned for emulator threads is
        shown to nobody, so nothing is said of them
    """
    found = []
    for number, node in sorted(desired.nodes.items()):
        if number >= len(cells):
            found.append(f'cell {number}: the server has {len(cells)} NUMA '
                         f'cell(s), counted from 0')
        elif cells[number][0] != node:
            found.append(f'cell {number} is on node {cells[number][0]}, not '
                         f'on node {node}')
    owned = {vcpu: pcpu for _node, pins in cells
             for vcpu, pcpu in pins.items()}
    for number, pins in sorted(desired.pins.items()):
        for pin in pins:
            if not pin.floats:
                found.extend(_elsewhere(number, pin, owned, host))
    return found + _not_obeyed(desired, owned, host, emulator_isolated)


def _elsewhere(number: int, pin: grammar.Pin, owned: Mapping[int, int],
               host: usage.HostState) -> list[str]:
    try:
        pcpus = grammar.resolve(pin.targets, host)
    except grammar.Unresolvable as exc:
        return [f'cell {number}: {exc}']
    return [f'vCPU {vcpu} owns pCPU {owned[vcpu]}, not pCPU {pcpu}'
            if vcpu in owned else f'vCPU {vcpu} owns no pCPU'
            for vcpu, pcpu in zip(pin.vcpu_ids(), pcpus)
            if owned.get(vcpu) != pcpu]


def _not_obeyed(desired: template_mod.Template, owned: Mapping[int, int],
                host: usage.HostState, emulator_isolated: bool) -> list[str]:
    """As the host finds it when it places the threads."""
    nowhere: frozenset[int] = frozenset()
    if emulator_isolated:
        desired = dataclasses.replace(desired, emulator=None)
    default = threads.Threads(
        {vcpu: nowhere for pins in desired.pins.values() for pin in pins
         for vcpu in pin.vcpu_ids()},
        nowhere,
        # How many the server has is not known here.
        dict.fromkeys(range(1, max(desired.iothreads, default=0) + 1),
                      nowhere))
    return threads.shape(default, host, threads.Owned(owned),
                         merge.Intent(desired))[1]
