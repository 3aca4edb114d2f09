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

"""The best layout and a proof of it, by OR-Tools' CP-SAT.

:mod:`kongming.solver.model` says what is to be decided; pins for it are found
by :mod:`kongming.solver.pins`.  Where there are none after all, or the answer
is not accepted, it is ruled out and it tries again.

Needs OR-Tools, the extra ``planner``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kongming.solver import model as model_mod
from kongming.solver import pins
from kongming.solver import problem as problem_mod
from kongming.solver import search

#: How often an answer may be ruled out.
_ATTEMPTS = 50


class Missing(Exception):
    """OR-Tools is not installed."""


def cp_model() -> Any:
    """
    :raises Missing: if OR-Tools is not there
    """
    try:
        from ortools.sat.python import cp_model as found
    except ImportError as exc:
        raise Missing(str(exc)) from exc
    return found


def solve(problem: problem_mod.Problem, clock: problem_mod.Clock,
          start: Mapping[str, problem_mod.Spot] | None = None,
          workers: int = 0) -> search.Found:
    """The best layout, or the best that is found in the time.

    :param start: a layout to begin with
    :param workers: threads; 0 for as many as there are cores
    :raises Missing: if OR-Tools is not there
    """
    found = search.Found(problem)
    if start is not None:
        found.offer(start)
    cp = cp_model()
    bad: list[dict[str, pins.Pick]] = []
    for attempt in range(_ATTEMPTS):
        if clock() <= 0:
            break
        model = model_mod.Model(problem, cp)
        for picks in bad:
            model.rule_out(picks)
        answer, bound = _lexicographic(model, clock, found, workers)
        if attempt == 0 and bound is not None:
            found.bound = bound
        if answer is None:
            break
        pinned = [(mine, pins.assign_host(problem, host, mine))
                  for host, mine in _by_host(answer).items()]
        wrong = [mine for mine, spots in pinned if spots is None]
        if not wrong:
            spots = {name: spot for _mine, found_here in pinned
                     for name, spot in (found_here or {}).items()}
            found.offer(spots)
            if found.score is not None and (
                    found.score <= problem_mod.score(problem, spots)):
                break
            # Not accepted as a whole.
            wrong = [answer]
        bad += wrong
    found.complete = found.score == found.bound
    return found


def _by_host(picks: Mapping[str, pins.Pick]) -> dict[
        str, dict[str, pins.Pick]]:
    hosts: dict[str, dict[str, pins.Pick]] = {}
    for name, pick in picks.items():
        hosts.setdefault(pick.host, {})[name] = pick
    return hosts


def _lexicographic(model: model_mod.Model, clock: problem_mod.Clock,
                   found: search.Found, workers: int) -> tuple[
        dict[str, pins.Pick] | None, tuple[int, ...] | None]:
    """Level after level; picks, and what is proven of the score."""
    problem, cp = found.problem, model.cp
    bound: list[int] = []
    picks = None
    if found.spots is not None:
        model.hint(found.spots)
    for number, level in enumerate(problem.levels):
        left = clock()
        if left <= 0:
            break
        solver = cp.CpSolver()
        solver.parameters.max_time_in_seconds = max(0.05, left * (
            0.6 if number + 1 < len(problem.levels) else 0.9))
        solver.parameters.num_workers = workers
        model.model.minimize(model.levels[level])
        status = solver.solve(model.model)
        if status not in (cp.OPTIMAL, cp.FEASIBLE):
            if status == cp.INFEASIBLE and number == 0:
                raise problem_mod.Unsolvable(
                    'the running servers have no place of their own')
            break
        value = round(solver.objective_value)
        proven = value if status == cp.OPTIMAL else max(
            0, -int(-solver.best_objective_bound // 1))
        bound.append(proven)
        picks = model.read(solver)
        if proven != value:
            break
        model.fix(level, value, solver)
    if not bound:
        return picks, None
    rest = len(problem.levels) - len(bound)
    return picks, (*bound, *(0,) * rest)
