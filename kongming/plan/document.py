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

"""A plan as a file, YAML or JSON; its structure is ``plan-v1.json``.

It holds no progress: where its servers are shows how far a plan has been
carried out, so it can be stopped, continued and reverted at any step.
"""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
from typing import Any
from typing import NamedTuple

import yaml

from kongming import exception
from kongming.fit import fit
from kongming.plan import defrag
from kongming.plan import figures as figures_mod
from kongming.solver import pins as pins_mod
from kongming.solver import problem
from kongming.template import document
from kongming.template import grammar
from kongming.template import schema as schema_mod

#: Each cell's node, and vCPU -> pCPU.
Cells = tuple[tuple[int, Mapping[int, int]], ...]


class Level(NamedTuple):
    level: str
    value: int
    bound: int


class Move(NamedTuple):
    """One running server's part of a step.

    :ivar memory_mib: what goes to another node
    """

    id: str
    name: str
    was: Cells
    goal: Cells
    memory_mib: int = 0

    def back(self) -> Move:
        return self._replace(was=self.goal, goal=self.was)

    def spot(self, host: str) -> problem.Spot:
        """The place that it goes to."""
        return problem.Spot(host, 0, fit.Assignment(tuple(
            fit.CellAssignment(node, pins) for node, pins in self.goal)))

    def __str__(self) -> str:
        words = []
        for number, ((node, pins), (to, new)) in enumerate(zip(
                self.was, self.goal)):
            if node != to:
                words.append(f'cell {number} node {node}->{to}')
            words += _moves({vcpu: (pcpu, new[vcpu]) for vcpu, pcpu
                             in sorted(pins.items()) if new[vcpu] != pcpu})
        return ' '.join(words)


def _moves(moved: Mapping[int, tuple[int, int]]) -> list[str]:
    """``0:4->8``; of three or more that go on alike ``0-3:4-7->8-11``."""
    runs: list[list[int]] = []
    for vcpu, (was, goal) in moved.items():
        last = runs[-1] if runs else None
        if last and (vcpu, was, goal) == tuple(
                start + last[3] for start in last[:3]):
            last[3] += 1
        else:
            runs.append([vcpu, was, goal, 1])
    found = []
    for *starts, length in runs:
        if length < 3:
            found += ['{}:{}->{}'.format(*(start + n for start in starts))
                      for n in range(length)]
        else:
            found.append('{}:{}->{}'.format(*(
                f'{start}-{start + length - 1}' for start in starts)))
    return found


class Step(NamedTuple):
    """Servers of a host that move together."""

    host: str
    moves: tuple[Move, ...]

    def back(self) -> Step:
        return Step(self.host, tuple(move.back() for move in self.moves))


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a file holds.

    :ivar deployment: of new servers; None in a plan of moves
    :ivar steps: of running ones
    """

    solver: str
    score: tuple[Level, ...]
    figures: Mapping[str, Mapping[str, int]] = dataclasses.field(
        default_factory=dict)
    wanted: str = ''
    deployment: Mapping[str, Any] | None = None
    steps: tuple[Step, ...] = ()

    @property
    def proven(self) -> bool:
        return all(level.value == level.bound for level in self.score)


def levels(names: tuple[str, ...],
           layout: problem.Layout) -> tuple[Level, ...]:
    """The score of a layout by the names of its levels."""
    return tuple(map(Level, names, layout.score, layout.bound))


def figures(before: figures_mod.Figures,
            after: figures_mod.Figures) -> dict[str, dict[str, int]]:
    """Both as a plan keeps them."""
    return {when: {key: value for key, value in found._asdict().items()
                   if value is not None}
            for when, found in (('before', before), ('after', after))}


def steps(answer: defrag.Answer,
          names: Mapping[str, str]) -> tuple[Step, ...]:
    """The steps of an answer.

    :param names: server id -> its name
    """
    found = []
    for batch in answer.batches:
        moves = []
        for server in batch:
            ask = answer.host.movers[server]
            assert answer.layout is not None and ask.today is not None
            spot = answer.layout.spots[server]
            moves.append(Move(
                server, names[server], ask.today.cells, tuple(
                    (cell.node, cell.pins) for cell in
                    spot.assignment.cells), problem.memory_moved(ask, spot)))
        found.append(Step(answer.host.name, tuple(moves)))
    return tuple(found)


def schema() -> dict[str, Any]:
    """The schema, as JSON Schema 2020-12."""
    return schema_mod.load('plan-v1', 'kongming.plan')


def to_document(found: Plan) -> dict[str, Any]:
    """As JSON or YAML have it."""
    result: dict[str, Any] = {
        'version': 1, 'solver': found.solver,
        'score': [level._asdict() for level in found.score]}
    if found.wanted:
        result['wanted'] = found.wanted
    if found.figures:
        result['figures'] = {when: dict(figures) for when, figures
                             in found.figures.items()}
    if found.deployment is not None:
        result['deployment'] = found.deployment
    else:
        result['moves'] = [{
            'host': step.host, 'servers': [{
                'id': move.id, 'name': move.name, 'memory': move.memory_mib,
                'from': _cells(move.was), 'to': _cells(move.goal)}
                for move in step.moves]} for step in found.steps]
    return result


def dump(found: Plan) -> str:
    """As YAML."""
    text: str = yaml.safe_dump(to_document(found), sort_keys=False)
    return text


def _cells(cells: Cells) -> list[dict[str, Any]]:
    pins = pins_mod.pins_of({number: found for number, (_node, found)
                             in enumerate(cells)})
    return [{'node': node, 'pin': ' '.join(map(str, pins.get(number, ())))}
            for number, (node, _pins) in enumerate(cells)]


def parse(text: str) -> Plan:
    """Read a file.

    :raises kongming.exception.InvalidTemplate: with every problem found, each
        named by its place
    """
    loaded = document.load(text)
    problems = list(map(document.explain, document.validator(
        schema()).iter_errors(loaded)))
    if not problems and ('deployment' in loaded) == ('moves' in loaded):
        problems.append(exception.Problem(
            document.THE_WHOLE, '...', 0,
            'a plan has either a deployment or moves'))
    if problems:
        raise exception.InvalidTemplate(problems)
    return Plan(
        loaded['solver'],
        tuple(Level(**level) for level in loaded['score']),
        loaded.get('figures', {}), loaded.get('wanted', ''),
        loaded.get('deployment'), tuple(
            Step(step['host'], tuple(
                _move(move, f'moves.{number}.servers.{index}')
                for index, move in enumerate(step['servers'])))
            for number, step in enumerate(loaded.get('moves', ()))))


def _move(entry: Mapping[str, Any], where: str) -> Move:
    return Move(entry['id'], entry['name'],
                _read(entry['from'], f'{where}.from'),
                _read(entry['to'], f'{where}.to'), entry.get('memory', 0))


def _read(entries: list[Mapping[str, Any]], where: str) -> Cells:
    cells = []
    for number, entry in enumerate(entries):
        pins: dict[int, int] = {}
        try:
            found = grammar.parse_pins(entry['pin']) if entry['pin'] else ()
            for pin in found:
                pins.update(zip(pin.vcpu_ids(), (
                    pcpu for target in pin.targets
                    if isinstance(target, grammar.Range)
                    for pcpu in target.ids())))
        except grammar.Malformed as exc:
            raise exception.InvalidTemplate([exception.Problem(
                f'{where}.{number}.pin', entry['pin'], exc.column,
                exc.reason)]) from exc
        cells.append((entry['node'], dict(sorted(pins.items()))))
    return tuple(cells)
