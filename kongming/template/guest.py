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

"""What a server asks for, in the words of Nova's ``hw:`` extra specs.

A :class:`Guest` says *what kind* of CPUs and memory each guest NUMA cell
wants; the template says *which*.  ``nova_ext`` makes it from Nova's own
objects; :func:`from_flavor` works it out where only the flavor is at hand, as
in the command line.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from kongming import exception
from kongming.template import grammar


class Cell(NamedTuple):
    """A guest NUMA cell.

    :ivar dedicated: vCPU ids that own a pCPU each
    :ivar shared: vCPU ids that float
    :ivar memory_mib: in MiB
    :ivar page_kib: a page size in KiB, or Nova's -1 (small), -2 (large),
        -3 (any); None where nothing was asked for
    """

    dedicated: frozenset[int]
    shared: frozenset[int]
    memory_mib: int
    page_kib: int | None = None


class Guest(NamedTuple):
    """A server's cells; a cell's number is its place in the tuple.

    :ivar thread_policy: None, ``prefer``, ``isolate`` or ``require``
    :ivar emulator_isolated: ``hw:emulator_threads_policy=isolate``: one
        pCPU more, on the node of cell 0, for the emulator threads
    """

    cells: tuple[Cell, ...]
    thread_policy: str | None = None
    emulator_isolated: bool = False


def _invalid(key: str, value: str, reason: str) -> exception.InvalidTemplate:
    return exception.InvalidTemplate(
        [exception.Problem(key, value, 0, reason)])


def from_flavor(vcpus: int, ram_mib: int,
                specs: Mapping[str, str]) -> Guest:
    """The guest that a flavor alone makes, as Nova would.

    An image's ``hw_*`` properties can change it; Nova decides then.

    :param vcpus: of the flavor
    :param ram_mib: of the flavor, in MiB
    :param specs: all extra specs of the flavor
    :raises kongming.exception.InvalidTemplate: where an ``hw:`` key that it
        needs is malformed
    """
    policy = specs.get('hw:cpu_policy', 'shared')
    everything = frozenset(range(vcpus))
    dedicated = _dedicated(policy, everything, specs)
    count = _number(specs, 'hw:numa_nodes', 1)
    if count < 1 or count > max(vcpus, 1):
        raise _invalid('hw:numa_nodes', str(count),
                       f'a server of {vcpus} vCPU(s) can have 1 to {vcpus} '
                       f'cells')
    cells = []
    share = vcpus // count
    for cell in range(count):
        text = specs.get(f'hw:numa_cpus.{cell}')
        mine = (_cpus(f'hw:numa_cpus.{cell}', text) if text else
                frozenset(range(cell * share, (cell + 1) * share)))
        cells.append(Cell(
            dedicated=mine & dedicated,
            shared=mine - dedicated,
            memory_mib=_number(specs, f'hw:numa_mem.{cell}',
                               ram_mib // count),
            page_kib=_page_size(specs.get('hw:mem_page_size'))))
    return Guest(
        tuple(cells),
        thread_policy=specs.get('hw:cpu_thread_policy'),
        emulator_isolated=(
            specs.get('hw:emulator_threads_policy') == 'isolate'))


def _dedicated(policy: str, everything: frozenset[int],
               specs: Mapping[str, str]) -> frozenset[int]:
    if policy == 'dedicated':
        return everything
    if policy != 'mixed':
        return frozenset()
    mask = specs.get('hw:cpu_dedicated_mask')
    if mask is None:
        realtime = specs.get('hw:cpu_realtime_mask', '')
        return everything & _masked(
            'hw:cpu_realtime_mask', realtime, everything)
    return everything & _masked('hw:cpu_dedicated_mask', mask, everything)


def _masked(key: str, mask: str, everything: frozenset[int]) -> frozenset[int]:
    """Nova's masks: ``0-3,^1``; one of exclusions only starts from all."""
    out: set[int] = set()
    chosen: set[int] = set()
    parts = [part.strip() for part in mask.split(',') if part.strip()]
    for part in parts:
        target = out if part.startswith('^') else chosen
        target |= _cpus(key, part.lstrip('^'))
    if parts and not chosen:
        chosen = set(everything)
    return frozenset(chosen - out)


def _cpus(key: str, text: str) -> frozenset[int]:
    try:
        ranges = grammar.parse_id_list(text.replace(' ', ''), 1, 'a vCPU',
                                       grammar.MAX_VCPU)
    except grammar.Malformed as exc:
        raise _invalid(key, text, exc.reason) from exc
    return frozenset(v for part in ranges for v in part.ids())


def _number(specs: Mapping[str, str], key: str, default: int) -> int:
    value = specs.get(key)
    if value is None:
        return default
    if not value.isdecimal():
        raise _invalid(key, value, 'a whole number belongs here')
    return int(value)


_PAGE_WORDS = {'small': -1, 'large': -2, 'any': -3}
_PAGE_UNITS = (('KIB', 1), ('MIB', 1024), ('GIB', 1024 ** 2),
               ('KB', 1), ('MB', 1024), ('GB', 1024 ** 2),
               ('K', 1), ('M', 1024), ('G', 1024 ** 2))


def _page_size(text: str | None) -> int | None:
    if text is None:
        return None
    if text in _PAGE_WORDS:
        return _PAGE_WORDS[text]
    upper = text.upper()
    for unit, scale in _PAGE_UNITS:
        if upper.endswith(unit) and upper[:-len(unit)].isdecimal():
            return int(upper[:-len(unit)]) * scale
    if upper.isdecimal():
        return int(upper)
    raise _invalid('hw:mem_page_size', text,
                   'small, large, any or a size like 2MB, 1GB or 2048 (KiB) '
                   'belongs here')
