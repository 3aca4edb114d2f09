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

"""A template as a document, for people and for MANOs: YAML or JSON.

::

    version: 1
    cells:
      0:
        node: 1
        pin: "0:4 1:36 2-3:5-6"

A pin map may also be written as a mapping, ``pin: {0: 4, 1: 36}``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from kongming import exception
from kongming import template

VERSION = 1


def _problem(where: str, value: Any, reason: str) -> exception.Problem:
    return exception.Problem(where, str(value), 0, reason)


def parse(text: str) -> template.Template:
    """Read a document.

    :raises kongming.exception.InvalidTemplate: with every problem found; the
        keys are those that the flavor would get
    """
    try:
        loaded = yaml.safe_load(text)
    except yaml.YAMLError as exc:
        mark = getattr(exc, 'problem_mark', None)
        where = (f'line {mark.line + 1}, column {mark.column + 1}'
                 if mark else 'the document')
        raise exception.InvalidTemplate([_problem(
            where, '', f'it is neither YAML nor JSON: '
                       f'{getattr(exc, "problem", None) or exc}')]) from exc
    return from_document(loaded)


def from_document(loaded: Any) -> template.Template:
    """The same for a document that is loaded already."""
    if not isinstance(loaded, Mapping):
        raise exception.InvalidTemplate([_problem(
            'the document', loaded, 'it must be a mapping with the keys '
                                    'version and cells')])
    problems: list[exception.Problem] = []
    for key in loaded:
        if key not in ('version', 'cells'):
            problems.append(_problem(
                str(key), loaded[key],
                'there is no such key; version and cells are'))
    if loaded.get('version', VERSION) != VERSION:
        problems.append(_problem('version', loaded['version'],
                                 f'only version {VERSION} is known'))
    specs: dict[str, str] = {}
    cells = loaded.get('cells') or {}
    if not isinstance(cells, Mapping):
        raise exception.InvalidTemplate([*problems, _problem(
            'cells', cells, 'it must map cell numbers to node and pin')])
    for number, cell in cells.items():
        if not isinstance(cell, Mapping):
            problems.append(_problem(
                f'cells.{number}', cell, 'it must be a mapping with the '
                                         'keys node and pin'))
            continue
        for key, value in cell.items():
            if key not in ('node', 'pin'):
                problems.append(_problem(
                    f'cells.{number}.{key}', value,
                    'there is no such key; node and pin are'))
                continue
            if isinstance(value, Mapping):
                value = ' '.join(f'{v}:{p}' for v, p in value.items())
            specs[f'{template.PREFIX}{key}.{number}'] = str(value)
    try:
        result = template.decode(specs)
    except exception.InvalidTemplate as exc:
        raise exception.InvalidTemplate(
            [*problems, *exc.problems]) from exc
    if problems:
        raise exception.InvalidTemplate(problems)
    return result


def to_document(wish: template.Template) -> dict[str, Any]:
    """A document that :func:`from_document` reads back the same."""
    cells: dict[int, dict[str, Any]] = {}
    for number in wish.cells:
        cell: dict[str, Any] = {}
        if number in wish.nodes:
            cell['node'] = wish.nodes[number]
        if number in wish.pins:
            cell['pin'] = ' '.join(map(str, wish.pins[number]))
        cells[number] = cell
    return {'version': VERSION, 'cells': cells}
