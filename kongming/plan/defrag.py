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

"""Capacity freed on a fragmented host by the fewest moves of running servers.

Only a server whose flavor grants ``template`` can be moved, and only what its
template leaves open; all others are in the way as they are.  Of two ways with
as many moves the one that moves less memory is better.
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
from typing import NamedTuple

from kongming.deployment import deployment as dep
from kongming.deployment import projection
from kongming import exception
from kongming.fit import demand as demand_mod
from kongming.fit import fit
from kongming.fit import nova_fitter
from kongming.host import topology
from kongming.host import usage
from kongming.intent import merge
from kongming.live import qos
from kongming.plan import order
from kongming.solver import problem as problem_mod
from kongming.solver import solve
from kongming.template import choices
from kongming.template import grammar
from kongming.template import guest as guest_mod
from kongming.template import template as template_mod

_STATUSES = ('ACTIVE', 'PAUSED', 'SHUTOFF')


class Fixed(NamedTuple):
    """A server that is in the way as it is."""

    name: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Host:
    """A host and who is on it.

    :ivar state: with everybody
    :ivar base: with those only who can't be moved
    :ivar movers: those who can, by server id
    :ivar fixed: why others can't
    """

    name: str
    state: usage.HostState
    base: usage.HostState
    movers: Mapping[str, problem_mod.Ask]
    fixed: tuple[Fixed, ...] = ()


@dataclasses.dataclass(frozen=True)
class Answer:
    """How to free the capacity.

    :ivar layout: None where no way was found
    :ivar impossible: whether it is proven that there is none
    :ivar batches: ids of those who move, in this order
    :ivar placed: where the wanted servers would be then
    """

    host: Host
    layout: problem_mod.Layout | None
    impossible: bool = False
    batches: tuple[tuple[str, ...], ...] = ()
    placed: tuple[problem_mod.Spot, ...] = ()

    @property
    def cost(self) -> tuple[int, ...]:
        assert self.layout is not None
        return self.layout.score

    @property
    def after(self) -> usage.HostState:
        """The host when all is done."""
        assert self.layout is not None
        return after(self.host, self.layout.spots)


def of_host(name: str, host: dep.Host,
            found: Sequence[dep.FoundServer]) -> Host:
    """Sort the servers of a host.

    :param found: those whose flavor's template Nova shows
    """
    projected = projection.ProjectedHost(host)
    everybody = projected.state()
    movers, fixed = {}, []
    known = {server.id for server in found}
    for server in found:
        reason = why_fixed(server, everybody)
        if reason:
            fixed.append(Fixed(server.name, reason))
            continue
        movers[server.id] = _mover(server, name, {
            node: owned[server.id].page_kib
            for node, owned in host.owned.items() if server.id in owned})
        projected.leave(server.id)
    strangers = {key for owned in host.owned.values() for key in owned}
    fixed += [Fixed(host.names.get(key, key),
                    'it was booted from a flavor without a template')
              for key in sorted(strangers - known)]
    return Host(name, everybody, projected.state(), movers, tuple(fixed))


def why_fixed(server: dep.FoundServer,
              host: usage.HostState) -> str | None:
    """Why a server can't be moved live, if it can't."""
    if server.status not in _STATUSES:
        return f'it is {server.status}'
    specs = server.flavor.specs
    try:
        flavor = template_mod.decode(specs)
        if 'template' not in flavor.grant:
            return "its flavor grants no 'template' (kongming:grant)"
        desired = merge.merge(flavor, server.metadata,
                              quota=qos.native(specs).quota).base
        guest = guest_mod.from_flavor(server.flavor.vcpus,
                                      server.flavor.ram_mib, specs)
    except exception.KongmingError as exc:
        return str(exc)
    if [cell.dedicated for cell in guest.cells] != [
            pins.keys() for _node, pins in server.cells]:
        return 'its cells are not those of its flavor'
    if guest.emulator_isolated:
        return ('it has a pCPU for its emulator threads that Nova does not '
                'report')
    owned = {p for _node, pins in server.cells for p in pins.values()}
    for targets in _targets(desired):
        try:
            named = owned.intersection(grammar.resolve(targets, host))
        except grammar.Unresolvable:
            continue
        if named:
            return (f'its template names pCPU '
                    f'{topology.format_cpu_list(named)}, which it owns')
    return None


def _targets(desired: template_mod.Template) -> Iterator[
        tuple[grammar.Target, ...]]:
    """All pCPUs that a template names, but those of a vCPU."""
    everything = [pin.targets for pins in desired.pins.values()
                  for pin in pins]
    sources: list[template_mod.Template | template_mod.Profile] = [
        desired, *desired.profiles.values()]
    for source in sources:
        everything += [pin.targets for pins in source.pins.values()
                       for pin in pins]
        if isinstance(source.emulator, tuple):
            everything.append(source.emulator)
    everything += [threads for threads in desired.iothreads.values()
                   if isinstance(threads, tuple)]
    for targets in everything:
        rest = tuple(target for target in targets
                     if not isinstance(target, grammar.OfVcpus))
        if rest:
            yield rest


def _mover(server: dep.FoundServer, host: str,
           pages: Mapping[int, int | None]) -> problem_mod.Ask:
    desired = merge.merge(template_mod.decode(server.flavor.specs),
                          server.metadata).base
    guest = server.guest
    guest = guest._replace(cells=tuple(
        cell._replace(page_kib=pages.get(node))
        for cell, (node, _pins) in zip(guest.cells, server.cells)))
    stays = ''
    if any(mode != choices.STRICT for mode in desired.memory.values()):
        stays = 'its template binds its memory in another way than strict'
    return problem_mod.Ask(
        server.id, (demand_mod.Demand(guest, template_mod.Template(
            nodes=desired.nodes)),),
        today=problem_mod.Today(host, server.cells), stays=stays)


def make(host: Host, wanted: Sequence[demand_mod.Demand],
         clock: problem_mod.Clock, solver: str = 'auto') -> Answer:
    """Find the fewest moves after which servers more fit on a host.

    :param wanted: what each of them asks for
    """
    new = [problem_mod.Ask(f'wanted {number}', (demand,))
           for number, demand in enumerate(wanted, 1)]
    movers = dict(host.movers)

    def accept(spots: Mapping[str, problem_mod.Spot]) -> bool:
        # What is there afterwards is what the fit will see.
        return (len(_capacity_for(host, spots, wanted)) >= sum(
            ask.name in spots for ask in new)
            and order.order(host.base, movers, spots) is not None)

    problem = problem_mod.Problem(
        {host.name: host.base}, (*movers.values(), *new),
        problem_mod.DEFRAG_LEVELS, accept)
    layout = solve.solve(problem, clock, solver)
    if layout.score[0]:
        return Answer(host, None, layout.bound[0] > 0)
    batches = order.order(host.base, movers, layout.spots)
    assert batches is not None
    return Answer(host, layout, False, tuple(batches),
                  _capacity_for(host, layout.spots, wanted))


def after(host: Host,
          spots: Mapping[str, problem_mod.Spot]) -> usage.HostState:
    """The host with its servers where a layout says."""
    state = host.base
    for server, ask in host.movers.items():
        state = problem_mod.put(state, ask.shapes[0], spots[server].assignment)
    return state


def _capacity_for(host: Host, spots: Mapping[str, problem_mod.Spot],
                  wanted: Sequence[demand_mod.Demand]
                  ) -> tuple[problem_mod.Spot, ...]:
    """Places for those wanted, one after the other, as far as there are."""
    state = after(host, spots)
    found = []
    for demand in wanted:
        result = nova_fitter.bootable(state, demand)
        if isinstance(result, fit.Assignment):
            state = problem_mod.put(state, demand, result)
            found.append(problem_mod.Spot(host.name, 0, result))
    return tuple(found)


def sort(host: Host, servers: Collection[str], levels: tuple[str, ...],
         clock: problem_mod.Clock, solver: str = 'auto') -> Answer:
    """Find a better layout for running servers of a host; others stay.

    :param servers: ids of movers
    """
    stay = {server: ask for server, ask in host.movers.items()
            if server not in servers}
    movers = {server: host.movers[server] for server in servers}
    base = host.base
    for ask in stay.values():
        base = problem_mod.put(base, ask.shapes[0],
                               problem_mod.of_today(ask).assignment)
    part = dataclasses.replace(host, base=base, movers=movers)

    def accept(spots: Mapping[str, problem_mod.Spot]) -> bool:
        return order.order(base, movers, spots) is not None

    layout = solve.solve(problem_mod.Problem(
        {host.name: base}, tuple(movers.values()), levels, accept), clock,
        solver)
    batches = order.order(base, movers, layout.spots)
    assert batches is not None
    return Answer(part, layout, False, tuple(batches))


def largest(host: Host, clock: problem_mod.Clock,
            solver: str = 'auto') -> Answer:
    """The largest cell on whole cores for which capacity can be freed."""
    total = sum(node.n_free for node in host.state.nodes)
    most = min(total, max((node.n_free for node in host.base.nodes),
                          default=0))
    for size in range(most, 0, -1):
        wanted = whole_cores(size, host.base)
        if fit.fit(host.state, wanted):
            break
        if clock() <= 0:
            break
        share = max(1.0, clock() / 4)
        end = clock() - share
        answer = make(host, [wanted], lambda: clock() - end, solver)
        if answer.layout is not None:
            return answer
    return make(host, [], clock, solver)


def sized(assignment: fit.Assignment) -> demand_mod.Demand:
    """A server that asks for as many pCPUs as it is given."""
    return demand_mod.Demand(guest_mod.Guest(tuple(
        guest_mod.Cell(frozenset(cell.pins), frozenset(), 0)
        for cell in assignment.cells)), template_mod.Template())


def whole_cores(size: int, host: usage.HostState) -> demand_mod.Demand:
    """A server of one cell that asks for pCPUs and for nothing else."""
    smt = any(len(core) > 1 for node in host.nodes for core in node.siblings)
    return demand_mod.Demand(guest_mod.Guest((guest_mod.Cell(
        frozenset(range(size)), frozenset(), 0),),
        'require' if smt and size > 1 else None), template_mod.Template())
