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

"""Which servers of a layout Nova boots, one after the other.

Nova's own fitter chooses nodes and pCPUs before it is given those of the
layout, of a host as it is by then (:mod:`kongming.fit.nova_fitter`). So the
order decides: a server that it refuses now it may boot beside one that comes
in between.
"""

from __future__ import annotations

from collections.abc import Mapping

from kongming.fit import nova_fitter
from kongming.solver import problem as problem_mod


def that_boot(problem: problem_mod.Problem,
              spots: Mapping[str, problem_mod.Spot]
              ) -> dict[str, problem_mod.Spot]:
    """The layout without those for whom there is no such order.

    Tried as :mod:`kongming.deployment.placing` does: by their names, and
    those who are refused again after the others.
    """
    found = dict(spots)
    if not problem.has_unequal_cells:
        return found
    hosts: dict[str, list[str]] = {}
    for name, spot in sorted(spots.items()):
        hosts.setdefault(spot.host, []).append(name)
    for host, names in hosts.items():
        for name in _refused(problem, host, names, spots):
            del found[name]
    return found


def _refused(problem: problem_mod.Problem, host: str, names: list[str],
             spots: Mapping[str, problem_mod.Spot]) -> list[str]:
    state, limits = problem.hosts[host], problem.limits.get(host)
    left = []
    for name in names:
        ask, spot = problem.by_name[name], spots[name]
        if ask.today is None:
            left.append(name)
        else:
            state = problem_mod.put(state, ask.shapes[spot.shape],
                                    spot.assignment)
    before = None
    while left and len(left) != before:
        before, refused = len(left), []
        for name in left:
            spot = spots[name]
            demand = problem.by_name[name].shapes[spot.shape]
            if nova_fitter.objection(state, demand, limits):
                refused.append(name)
            else:
                state = problem_mod.put(state, demand, spot.assignment)
        left = refused
    return left
