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

from collections.abc import Iterator
from collections.abc import Mapping
import re
from typing import NamedTuple

from kongming import exception
from kongming.template import grammar
from oslo_utils import strutils


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

    An image's ``hw_*`` properties can change it; Nova decides then.  Follows
    ``numa_get_constraints`` (nova/virt/hardware.py).

    :param vcpus: of the flavor
    :param ram_mib: of the flavor, in MiB
    :param specs: all extra specs of the flavor
    :raises kongming.exception.InvalidTemplate: where Nova would refuse a key
        that says what kind of CPUs and memory a server has
    """
    everything = frozenset(range(vcpus))
    emulator = _one_of(specs, 'hw:emulator_threads_policy',
                       ('isolate', 'share'))
    policy = _cpu_policy(vcpus, specs, emulator)
    thread_policy = _thread_policy(policy, specs)
    if emulator == 'isolate' and policy == 'shared':
        raise _invalid('hw:emulator_threads_policy', emulator,
                       'a server with hw:cpu_policy dedicated or mixed can '
                       'have it')
    dedicated = _dedicated(policy, everything, specs)
    page_kib = _page_size(specs.get('hw:mem_page_size'))
    return Guest(
        tuple(Cell(mine & dedicated, mine - dedicated, memory_mib, page_kib)
              for mine, memory_mib in _cells(vcpus, ram_mib, specs)),
        thread_policy, emulator == 'isolate')


def _one_of(specs: Mapping[str, str], key: str,
            words: tuple[str, ...]) -> str | None:
    value = specs.get(key) or None
    if value is not None and value not in words:
        raise _invalid(key, value, f'one of {", ".join(words)} belongs here')
    return value


_RESOURCE = re.compile('resources([1-9][0-9]*)?:(VCPU|PCPU)')
_TRAIT = re.compile('trait([1-9][0-9]*)?:HW_CPU_HYPERTHREADING')


def _cpu_policy(vcpus: int, specs: Mapping[str, str],
                emulator: str | None) -> str:
    """``dedicated``, ``mixed`` or ``shared``, by whichever key says so."""
    policy = _one_of(specs, 'hw:cpu_policy', ('dedicated', 'mixed', 'shared'))
    amounts = {'VCPU': 0, 'PCPU': 0}
    for key, value in specs.items():
        if (match := _RESOURCE.match(key)) and _is_whole(value):
            amounts[match[2]] += int(value)
    asked = [f'resources:{name}' for name, amount in amounts.items() if amount]
    if asked and policy:
        raise _invalid(asked[0], str(amounts[asked[0][10:]]),
                       'use either this or hw:cpu_policy')
    if len(asked) > 1:
        raise _invalid('resources:PCPU', str(amounts['PCPU']),
                       'use either this or resources:VCPU')
    if amounts['PCPU']:
        want = vcpus + (emulator == 'isolate')
        if amounts['PCPU'] != want:
            raise _invalid('resources:PCPU', str(amounts['PCPU']),
                           f'{want} belong here: the vCPUs of the flavor, and '
                           f'one more if hw:emulator_threads_policy is '
                           f'isolate')
        return 'dedicated'
    return policy or 'shared'


def _is_whole(text: str) -> bool:
    """Whether Python's int() takes it, as Nova does."""
    try:
        int(text)
    except ValueError:
        return False
    return True


def _thread_policy(policy: str, specs: Mapping[str, str]) -> str | None:
    """By ``hw:cpu_thread_policy`` or by the trait, which says the same."""
    key = 'hw:cpu_thread_policy'
    thread_policy = _one_of(specs, key, ('prefer', 'isolate', 'require'))
    by_trait = next((
        (name, value) for name, value in specs.items()
        if _TRAIT.match(name) and value), None)
    if by_trait:
        if thread_policy:
            raise _invalid(by_trait[0], by_trait[1],
                           f'use either this or {key}')
        key = by_trait[0]
        thread_policy = {'required': 'require', 'forbidden': 'isolate'}.get(
            by_trait[1])
    if thread_policy and policy == 'shared':
        raise _invalid(key, specs[key], 'a server with hw:cpu_policy '
                                        'dedicated or mixed can have it')
    return thread_policy


def _dedicated(policy: str, everything: frozenset[int],
               specs: Mapping[str, str]) -> frozenset[int]:
    key = 'hw:cpu_dedicated_mask'
    mask = specs.get(key) or None
    if mask:
        chosen = _mask(key, mask, everything)
        if policy != 'mixed':
            raise _invalid(key, mask, 'a server with hw:cpu_policy mixed can '
                                      'have it')
        if not chosen or chosen == everything:
            raise _invalid(key, mask, 'a part of the vCPUs belongs here')
    realtime = strutils.bool_from_string(specs.get('hw:cpu_realtime'))
    if realtime:
        key = 'hw:cpu_realtime_mask'
        if policy == 'shared':
            raise _invalid('hw:cpu_realtime', specs['hw:cpu_realtime'],
                           'a server with hw:cpu_policy dedicated or mixed '
                           'can have it')
        text = specs.get(key) or ''
        real = _mask(key, text, everything) if text else everything
        if not real or (real == everything
                        and not specs.get('hw:emulator_threads_policy')):
            raise _invalid(key, text, 'a part of the vCPUs belongs here, or '
                                      'hw:emulator_threads_policy is to be '
                                      'set')
    if policy == 'dedicated':
        return everything
    if policy == 'shared':
        return frozenset()
    if realtime and mask:
        raise _invalid('hw:cpu_dedicated_mask', mask,
                       'use either this or hw:cpu_realtime')
    if realtime:
        return real
    if mask:
        return chosen
    raise _invalid('hw:cpu_policy', policy, 'hw:cpu_dedicated_mask is to say '
                                            'which vCPUs are dedicated')


def _mask(key: str, text: str, everything: frozenset[int]) -> frozenset[int]:
    """vCPUs; of exclusions first, ``^0``, those of all the vCPUs."""
    if text.strip().startswith('^'):
        text = f'0-{len(everything) - 1},{text}'
    chosen = _cpus(key, text)
    if not chosen <= everything:
        raise _invalid(key, text, _beyond(chosen, everything))
    return chosen


def _beyond(chosen: frozenset[int], everything: frozenset[int]) -> str:
    return (f'vCPU {max(chosen - everything)} is beyond the '
            f'{len(everything)} of the flavor')


def _cpus(key: str, text: str) -> frozenset[int]:
    """Nova's lists, ``0-3,^1`` (nova/virt/hardware.py, parse_cpu_spec)."""
    chosen: set[int] = set()
    out: set[int] = set()
    for part in filter(None, map(str.strip, text.split(','))):
        excluded = part.startswith('^')
        try:
            ranges = grammar.parse_id_list(
                part.removeprefix('^').replace(' ', ''), 1, 'a vCPU',
                grammar.MAX_VCPU)
        except grammar.Malformed as exc:
            raise _invalid(key, text, exc.reason) from exc
        (out if excluded else chosen).update(
            vcpu for part in ranges for vcpu in part.ids())
    return frozenset(chosen - out)


#: nova/objects/image_meta.py, ImageMetaProps.NUMA_NODES_MAX
_MAX_CELLS = 128


def _cells(vcpus: int, ram_mib: int, specs: Mapping[str, str]
           ) -> Iterator[tuple[frozenset[int], int]]:
    """vCPUs and MiB of each cell."""
    count = _number(specs, 'hw:numa_nodes', 1)
    if not 1 <= count <= max(vcpus, 1):
        raise _invalid('hw:numa_nodes', str(count),
                       f'a server of {vcpus} vCPU(s) can have 1 to {vcpus} '
                       f'cells')
    texts = _of_cells(specs, 'hw:numa_cpus')
    sizes = _of_cells(specs, 'hw:numa_mem')
    if not texts and not sizes:
        if vcpus % count or ram_mib % count:
            raise _invalid('hw:numa_nodes', str(count),
                           f'{vcpus} vCPU(s) and {ram_mib} MiB can not be '
                           f'divided by it; hw:numa_cpus.N and hw:numa_mem.N '
                           f'say what each cell has')
        share = vcpus // count
        for cell in range(count):
            yield (frozenset(range(cell * share, (cell + 1) * share)),
                   ram_mib // count)
        return
    for key, found in (('hw:numa_cpus', texts), ('hw:numa_mem', sizes)):
        if len(found) != count:
            raise _invalid(f'{key}.{min(len(found), count)}', '',
                           f'hw:numa_cpus.N and hw:numa_mem.N belong here '
                           f'for each of the {count} cell(s), from 0, or none '
                           f'at all')
    everything = frozenset(range(vcpus))
    left = everything
    memory = [_number(specs, f'hw:numa_mem.{cell}', 0)
              for cell in range(count)]
    for cell, text in enumerate(texts):
        key = f'hw:numa_cpus.{cell}'
        mine = _cpus(key, text)
        if not mine <= everything:
            raise _invalid(key, text, _beyond(mine, everything))
        if not mine <= left:
            raise _invalid(key, text, f'vCPU {min(mine - left)} is in another '
                                      f'cell as well')
        left -= mine
        yield mine, memory[cell]
    if left:
        raise _invalid('hw:numa_cpus.0', texts[0],
                       f'vCPU {min(left)} is in no cell')
    if sum(memory) != ram_mib:
        raise _invalid('hw:numa_mem.0', sizes[0],
                       f'the cells have {sum(memory)} MiB, the flavor '
                       f'{ram_mib} MiB')


def _of_cells(specs: Mapping[str, str], key: str) -> list[str]:
    found = []
    for cell in range(_MAX_CELLS):
        text = specs.get(f'{key}.{cell}')
        if text is None:
            break
        found.append(text)
    return found


def _number(specs: Mapping[str, str], key: str, default: int) -> int:
    value = specs.get(key) or None
    if value is None:
        return default
    if not _is_whole(value) or int(value) < 0:
        raise _invalid(key, value, 'a whole number belongs here')
    return int(value)


_PAGE_WORDS = {'small': -1, 'large': -2, 'any': -3}


def _page_size(text: str | None) -> int | None:
    if not text:
        return None
    if text in _PAGE_WORDS:
        return _PAGE_WORDS[text]
    try:
        kib = (int(text) if text.isdigit() else
               strutils.string_to_bytes(text, return_int=True) / 1024)
    except ValueError:
        kib = 0
    if kib <= 0 or kib != int(kib):
        raise _invalid('hw:mem_page_size', text,
                       'small, large, any or a size like 2MB, 1GB or 2048 '
                       '(KiB) belongs here')
    return int(kib)
