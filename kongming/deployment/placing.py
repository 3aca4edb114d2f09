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

"""Places for the new servers of a deployment, all of them together."""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Mapping
from collections.abc import Sequence

from kongming.deployment import deployment as dep
from kongming.deployment import projection
from kongming.fit import fit
from kongming.fit import fragmentation
from kongming.fit import nova_fitter
from kongming.fit import relax


class Placing:
    """Servers that are to be made, in hosts as they will be by then.

    Each of them boots by Nova's own fitter, too, when its turn comes.

    :param flavors: by name
    :param projections: host -> what is there of it; they stay as they are
    :param left_out: flavor -> host -> why Nova's scheduler would leave it out
    """

    def __init__(self, flavors: Mapping[str, dep.Flavor],
                 projections: Mapping[str, projection.ProjectedHost],
                 left_out: Mapping[str, Mapping[str, str]]) -> None:
        self._flavors = flavors
        self._projections = projections
        self._left_out = left_out

    def place(self, servers: Collection[dep.Server]
              ) -> tuple[list[dep.CreateServer], dict[str, str]]:
        """Find a place for each, in the order in which they are to come.

        Whoever found none is tried first the next time: a server that leaves
        its pCPUs open may have taken what another one names.

        :returns: the steps; else none, and server -> why there is no place
        """
        order = sorted(servers, key=self._how_open)
        steps, refused = self._try(order)
        first = refused
        for _again in order:
            if not refused:
                break
            late = next(iter(refused))
            order.sort(key=lambda server: server.name != late)
            steps, refused = self._try(order)
        return (steps, {}) if not refused else ([], first)

    def _how_open(self, server: dep.Server) -> tuple[int, bool, str]:
        """How many pCPUs it leaves to the host's choice; least comes first."""
        demand = self._flavors[server.flavor].demand
        desired = demand.template
        named = sum(len(list(pin.vcpu_ids())) for pins in desired.pins.values()
                    for pin in pins if not pin.floats)
        if demand.guest.emulator_isolated and isinstance(desired.emulator,
                                                         tuple):
            named += 1
        return (sum(cell.need for cell in demand.cells) - named,
                server.host is None, server.name)

    def _try(self, order: Sequence[dep.Server]
             ) -> tuple[list[dep.CreateServer], dict[str, str]]:
        """The steps in this order, and for whom there is no place, and why.

        Nova's own fitter may boot beside others what it refuses now, so
        those who are refused are tried again after them.
        """
        projections = {name: projected.copy()
                       for name, projected in self._projections.items()}
        steps: list[dep.CreateServer] = []
        refused: dict[str, str] = {}
        left = list(order)
        while left:
            came = self._pass(left, projections, refused)
            steps += came
            placed = {step.name for step in came}
            left = [server for server in left if server.name in refused
                    and server.name not in placed and not nova_fitter
                    .are_equal(self._flavors[server.flavor].demand)]
            if not came:
                break
        return steps, refused

    def _pass(self, order: Sequence[dep.Server],
              projections: Mapping[str, projection.ProjectedHost],
              refused: dict[str, str]) -> list[dep.CreateServer]:
        """Try each once.

        :param projections: servers come to them
        :param refused: brought up to date
        """
        steps = []
        for server in order:
            found = self._choose(server, projections)
            refused.pop(server.name, None)
            if isinstance(found, str):
                refused[server.name] = found
            elif found is not None:
                open_ = self._how_open(server)[0] > 0
                projections[found.host].come(
                    f'{server.name} of this document' + (
                        ' (not all its pCPUs are named)' if open_ else ''),
                    self._flavors[server.flavor].guest, found.assignment)
                steps.append(found)
        return steps

    def _choose(self, server: dep.Server,
                projections: Mapping[str, projection.ProjectedHost]
                ) -> dep.CreateServer | str | None:
        """The host that it breaks up least, or why there is none.

        None where the host that it names is not known at all.
        """
        demand = self._flavors[server.flavor].demand
        fits, reasons = [], []
        for host in ([server.host] if server.host is not None
                     else sorted(projections)):
            if host not in projections:
                continue
            why = self._left_out.get(server.flavor, {}).get(host)
            if why:
                reasons.append(f'{host}: the scheduler leaves it out: {why}')
                continue
            state = projections[host].state()
            limits = projections[host].limits
            result = nova_fitter.bootable(state, demand, limits=limits)
            if isinstance(result, fit.Assignment):
                fits.append((fragmentation.of(state, result), host, result))
            elif result.by_nova:
                advice = nova_fitter.advice(state, demand, limits)
                reasons.append(f'{host}: {advice}')
            else:
                less = relax.relax(state, demand, limits)
                reasons.append(f'{host}: {result}' + (
                    f'; it would fit {less}' if less else
                    '; free capacity, or name another host'))
        if fits:
            _cost, host, assignment = min(fits, key=lambda f: f[:2])
            return dep.CreateServer(server, host, assignment)
        return '; '.join(reasons) or None
