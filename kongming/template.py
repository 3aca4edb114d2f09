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

"""The template: the whole wish for one server, and its flat encoding.

Flavor extra specs and server metadata hold a template as flat keys under
``kongming:``.  A value may be 255 characters at most there, so a pin map that
is longer goes on in ``kongming:pin.N.1``, ``kongming:pin.N.2`` and so on.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping
import dataclasses
import re
import types

from kongming import exception
from kongming import grammar

PREFIX = 'kongming:'

#: What Nova stores of a key and of a value (nova/db/api/models.py,
#: FlavorExtraSpecs; nova/db/main/models.py, InstanceMetadata).
MAX_LENGTH = 255

#: More cells than a guest can have nodes for.
MAX_CELL = grammar.MAX_NODE

_NODE = re.compile(r'node\.([0-9]{1,4})')
_PIN = re.compile(r'pin\.([0-9]{1,4})(?:\.([0-9]{1,3}))?')

_KEYS_HELP = ('the keys are node.N and pin.N (a long map goes on in '
              'pin.N.1, pin.N.2, ...), N being a guest NUMA cell from 0')


@dataclasses.dataclass(frozen=True)
class Template:
    """One server's wish.

    :ivar nodes: cell -> host node
    :ivar pins: cell -> its pin map
    """

    nodes: Mapping[int, int] = dataclasses.field(
        default_factory=lambda: types.MappingProxyType({}))
    pins: Mapping[int, tuple[grammar.Pin, ...]] = dataclasses.field(
        default_factory=lambda: types.MappingProxyType({}))

    def __bool__(self) -> bool:
        return bool(self.nodes or self.pins)

    @property
    def cells(self) -> list[int]:
        """The cells that the template says anything of, ascending."""
        return sorted({*self.nodes, *self.pins})


def has_template(specs: Mapping[str, str]) -> bool:
    """Whether any key is KongMing's: the one question native servers ask."""
    return any(key.startswith(PREFIX) for key in specs)


def decode(specs: Mapping[str, str]) -> Template:
    """Read a template from extra specs or metadata; other keys are skipped.

    :raises kongming.exception.InvalidTemplate: with every problem found
    """
    problems: list[exception.Problem] = []
    nodes: dict[int, int] = {}
    chunks: dict[int, dict[int, str]] = {}
    for full_key in sorted(specs):
        if not full_key.startswith(PREFIX):
            continue
        key, value = full_key[len(PREFIX):], specs[full_key]
        try:
            if match := _NODE.fullmatch(key):
                nodes[_cell(match[1])] = parse_node(value)
            elif match := _PIN.fullmatch(key):
                part = int(match[2] or 0)
                chunks.setdefault(_cell(match[1]), {})[part] = value
            else:
                raise grammar.Malformed(
                    0, f'there is no such key; {_KEYS_HELP}')
        except grammar.Malformed as exc:
            problems.append(
                exception.Problem(full_key, value, exc.column, exc.reason))
    pins: dict[int, tuple[grammar.Pin, ...]] = {}
    for cell, parts in sorted(chunks.items()):
        try:
            pins[cell] = _join_pins(cell, parts)
        except _Misplaced as exc:
            problems.append(exc.problem)
    problems += _across_cells(pins)
    if problems:
        raise exception.InvalidTemplate(problems)
    return Template(types.MappingProxyType(nodes),
                    types.MappingProxyType(pins))


def encode(template: Template) -> dict[str, str]:
    """The flat keys of a template; :func:`decode` gives it back."""
    specs = {f'{PREFIX}node.{cell}': str(node)
             for cell, node in template.nodes.items()}
    for cell, pins in template.pins.items():
        for part, value in enumerate(_chunks(pins)):
            specs[_pin_key(cell, part)] = value
    return dict(sorted(specs.items()))


def check_entry(key: str, value: str) -> None:
    """Check one key by itself, as nova-api hands them over.

    :param key: with its ``kongming:`` prefix
    :raises kongming.exception.InvalidTemplate: naming key, value and column
    """
    match = _PIN.fullmatch(key.removeprefix(PREFIX))
    if match and match[2]:
        # A continuation is checked as the map that it continues.
        key = f'{PREFIX}pin.{match[1]}'
    decode({key: value})


def parse_node(value: str) -> int:
    """A host node id."""
    return grammar.parse_int(value, 1, 'a host NUMA node', grammar.MAX_NODE)


def _cell(digits: str) -> int:
    if int(digits) > MAX_CELL or str(int(digits)) != digits:
        raise grammar.Malformed(
            0, f"'{digits}' is not a guest NUMA cell; a number from 0 to "
               f"{MAX_CELL} without leading zeros is")
    return int(digits)


class _Misplaced(Exception):
    def __init__(self, problem: exception.Problem) -> None:
        self.problem = problem


def _join_pins(cell: int, parts: Mapping[int, str]) -> tuple[
        grammar.Pin, ...]:
    """One map from ``pin.N``, ``pin.N.1`` ..., errors told by the part."""
    for expected, part in enumerate(sorted(parts)):
        if part != expected:
            raise _Misplaced(exception.Problem(
                _pin_key(cell, part), parts[part], 0,
                f'it continues {_pin_key(cell, expected)}, which is missing'))
    joined, starts = '', []
    for part in range(len(parts)):
        starts.append(len(joined))
        joined += parts[part] + ' '
    try:
        return grammar.parse_pins(joined)
    except grammar.Malformed as exc:
        offset = exc.column - 1
        part = max(p for p, start in enumerate(starts) if start <= offset)
        raise _Misplaced(exception.Problem(
            _pin_key(cell, part), parts[part], offset - starts[part] + 1,
            exc.reason)) from exc


def _pin_key(cell: int, part: int) -> str:
    return f'{PREFIX}pin.{cell}' + (f'.{part}' if part else '')


def _across_cells(pins: Mapping[int, tuple[grammar.Pin, ...]]) -> list[
        exception.Problem]:
    """vCPUs and pCPUs that two cells claim."""
    problems: list[exception.Problem] = []
    vcpus: dict[int, int] = {}
    pcpus: dict[int, int] = {}
    for cell, entries in sorted(pins.items()):
        for entry in entries:
            taken = [f'vCPU {v} stands in cell {vcpus[v]} already'
                     for v in entry.vcpu_ids() if v in vcpus]
            owned = [] if entry.floats else [
                p for target in entry.targets
                if isinstance(target, grammar.Range) for p in target.ids()]
            taken += [f'pCPU {p} is given to cell {pcpus[p]} already'
                      for p in owned if p in pcpus]
            if taken:
                problems.append(exception.Problem(
                    _pin_key(cell, 0), str(entry), 0,
                    f'{taken[0]}; give each once'))
            vcpus.update(dict.fromkeys(entry.vcpu_ids(), cell))
            pcpus.update(dict.fromkeys(owned, cell))
    return problems


def _chunks(pins: Iterable[grammar.Pin]) -> list[str]:
    """Entries packed into as few values as fit, in their order."""
    values = ['']
    for pin in map(str, pins):
        if values[-1] and len(values[-1]) + 1 + len(pin) > MAX_LENGTH:
            values.append('')
        values[-1] = f'{values[-1]} {pin}'.lstrip()
    return values
