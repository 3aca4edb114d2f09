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

"""The least that a server would have to give up to fit.

Asked for after a refusal only, so that filtering hosts costs nothing more.
"""

from __future__ import annotations

from collections.abc import Iterator
import dataclasses

from kongming.fit import demand as demand_mod
from kongming.fit import nova_fitter
from kongming.host import topology
from kongming.host import usage
from kongming.template import grammar
from kongming.template import template as template_mod

Demand = demand_mod.Demand


def relax(host: usage.HostState, demand: Demand,
          limits: usage.Limits | None = None) -> str | None:
    """The first of these, from little to much, with which Nova boots it.

    Pins that are in the way, one cell's at a time and as few as possible; a
    named node; a named pCPU for the emulator; the thread policy; all pins and
    nodes; then fewer vCPUs or less memory.

    :param limits: as of :func:`kongming.fit.fit.fit`
    :returns: a clause that follows "it would fit", or None if none of these
        alone would do
    """
    for text, less in _steps(host, demand):
        if nova_fitter.bootable(host, less, limits=limits):
            return text
    for text, less in _smaller(demand):
        if nova_fitter.bootable(host, less, limits=limits):
            return text
    return None


def _steps(host: usage.HostState,
           demand: Demand) -> Iterator[tuple[str, Demand]]:
    guest, template = demand.guest, demand.template

    def with_template(**fields: object) -> Demand:
        return Demand(guest, dataclasses.replace(
            template, **fields))  # type: ignore[arg-type]

    drops = sorted(
        (len(vcpus), number, vcpus)
        for number in template.pins
        for vcpus in _blocked_pins(host, demand, number))
    for _count, number, vcpus in drops:
        names = topology.format_cpu_list(vcpus)
        pins = {**template.pins, number: _without(template.pins[number],
                                                  set(vcpus))}
        yield (f'without the pin(s) of vCPU {names}',
               with_template(pins=pins))
    for number in template.nodes:
        yield (f'without node.{number}', with_template(nodes={
            n: node for n, node in template.nodes.items() if n != number}))
    if isinstance(template.emulator, tuple):
        yield 'with a free choice for emulator', with_template(emulator=None)
    if guest.thread_policy in ('isolate', 'require'):
        yield (f'with hw:cpu_thread_policy=prefer instead of '
               f'{guest.thread_policy}', Demand(
                   guest._replace(thread_policy='prefer'), template))
    yield ('without any pins', with_template(
        pins={}, profiles={}, iothreads={}, emulator=None))
    yield ('without any pins and nodes', with_template(
        pins={}, nodes={}, profiles={}, iothreads={}, emulator=None))


def _blocked_pins(host: usage.HostState, demand: Demand,
                  number: int) -> Iterator[tuple[int, ...]]:
    """For each node, the vCPUs whose pins can't be had there."""
    try:
        exact = demand_mod.resolve(host, demand).exact
    except demand_mod.Unfit:
        return
    if number >= len(exact):
        return
    for node in host.nodes:
        blocked = tuple(vcpu for vcpu, pcpu in exact[number].items()
                        if pcpu not in node.free)
        if blocked:
            yield blocked


def _without(pins: tuple[grammar.Pin, ...],
             vcpus: set[int]) -> tuple[grammar.Pin, ...]:
    """A pin map less some vCPUs; entries that lose one are split."""
    remaining: list[grammar.Pin] = []
    for pin in pins:
        if pin.floats or not vcpus.intersection(pin.vcpu_ids()):
            remaining.append(pin)
            continue
        targets = [t for target in pin.targets for t in _singles(target)]
        remaining.extend(grammar.Pin((grammar.Range(vcpu, vcpu),), (target,))
                         for vcpu, target in zip(pin.vcpu_ids(), targets)
                         if vcpu not in vcpus)
    return tuple(remaining)


def _singles(target: grammar.Target) -> Iterator[grammar.Target]:
    """One target for each pCPU, in the order in which they pair up."""
    if isinstance(target, grammar.Range):
        yield from (grammar.Range(p, p) for p in target.ids())
        return
    if isinstance(target, grammar.OfVcpus):
        yield from (grammar.OfVcpus(grammar.Range(v, v))
                    for v in target.vcpus.ids())
        return
    for node in target.node.ids():
        for core in target.core.ids():
            for thread in target.thread.ids():
                yield grammar.Relative(*(
                    grammar.Range(n, n) for n in (node, core, thread)))


def _smaller(demand: Demand) -> Iterator[tuple[str, Demand]]:
    """The guest with less of something in one cell, template aside."""
    unpinned = template_mod.Template(nodes=demand.template.nodes)
    guest = demand.guest
    most = max((len(c.dedicated) for c in guest.cells), default=0)
    for less in range(1, most):
        for number, cell in enumerate(guest.cells):
            if less >= len(cell.dedicated):
                continue
            fewer = cell._replace(dedicated=frozenset(
                sorted(cell.dedicated)[:-less]))
            yield (f'with {less} dedicated vCPU(s) less in cell {number}, '
                   f'and no pins', Demand(guest._replace(cells=(
                       *guest.cells[:number], fewer,
                       *guest.cells[number + 1:])), unpinned))
    for part in (4, 2):
        for number, cell in enumerate(guest.cells):
            size = cell.memory_mib // part * (part - 1)
            fewer = cell._replace(memory_mib=size)
            yield (f'with {size} MiB in cell {number}, and no pins', Demand(
                guest._replace(cells=(
                    *guest.cells[:number], fewer,
                    *guest.cells[number + 1:])), unpinned))
