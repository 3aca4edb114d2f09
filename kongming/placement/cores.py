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

"""Which pCPUs share a core, in the traits of a node's provider."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
import re

#: Characters in the name of a trait or of a resource class
#: (placement/schemas/trait.py, resource_class.py).
LONGEST = 255

_CORE_TRAIT = re.compile('CUSTOM_KONGMING_CORE((?:_[0-9]+)+)')
_CORES_TRAIT = re.compile(
    'CUSTOM_KONGMING_CORES_([0-9]+)_([0-9]+)_([0-9]+)_([0-9]+)_([0-9]+)')


def core_traits(cores: Iterable[Sequence[int]]) -> list[str]:
    """The sibling layout in few traits.

    ``CUSTOM_KONGMING_CORES_first_last_step_offset_threads`` stands for the
    cores whose first threads are first, first+step, ... last, and whose
    further threads lie ``offset`` apart; a core that is in no such row is
    ``CUSTOM_KONGMING_CORE_`` and its pCPUs, in several traits with the same
    first pCPU where one would be too long.  Hosts of one kind share their
    traits, so a cloud has as many names as it has kinds of layout.
    """
    shapes: dict[tuple[int, int], list[int]] = {}
    names: list[str] = []
    for core in cores:
        offsets = {b - a for a, b in zip(core, core[1:])}
        if len(offsets) > 1:
            names.extend(_irregular(core))
        else:
            offset = offsets.pop() if offsets else 0
            shapes.setdefault((offset, len(core)), []).append(core[0])
    for (offset, threads), firsts in sorted(shapes.items()):
        for row in _rows(sorted(firsts)):
            step = row.step if len(row) > 1 else 0
            names.append(f'CUSTOM_KONGMING_CORES_{row[0]}_{row[-1]}_{step}_'
                         f'{offset}_{threads}')
    return sorted(names)


def _irregular(core: Sequence[int]) -> Iterator[str]:
    first, *rest = core
    start = name = f'CUSTOM_KONGMING_CORE_{first}'
    for pcpu in rest:
        more = f'{name}_{pcpu}'
        if len(more) > LONGEST:
            yield name
            more = f'{start}_{pcpu}'
        name = more
    yield name


def _rows(numbers: list[int]) -> list[range]:
    """Ascending numbers cut into arithmetic rows, greedily."""
    rows: list[range] = []
    start = 0
    while start < len(numbers):
        end = start + 1
        step = (numbers[end] - numbers[start]) if end < len(numbers) else 1
        while end < len(numbers) and numbers[end] - numbers[end - 1] == step:
            end += 1
        rows.append(range(numbers[start], numbers[end - 1] + 1, step))
        start = end
    return rows


def cores_of_traits(traits: Iterable[str]) -> list[tuple[int, ...]]:
    """The inverse of :func:`core_traits`; foreign traits are skipped."""
    cores: list[tuple[int, ...]] = []
    irregular: dict[int, set[int]] = {}
    for trait in traits:
        if match := _CORES_TRAIT.fullmatch(trait):
            first, last, step, offset, threads = map(int, match.groups())
            cores.extend(
                tuple(pcpu + offset * thread for thread in range(threads))
                for pcpu in range(first, last + 1, step or 1))
        elif match := _CORE_TRAIT.fullmatch(trait):
            first, *rest = map(int, match[1].split('_')[1:])
            irregular.setdefault(first, {first}).update(rest)
    cores.extend(tuple(sorted(core)) for core in irregular.values())
    return sorted(cores)
