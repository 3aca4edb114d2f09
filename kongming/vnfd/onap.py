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
"""What ONAP's descriptors and policies say of a VDU's CPUs and memory.

ONAP has *features of the hardware platform* with attributes such as
``logicalCpuPinningPolicy``.  They stand in TOSCA, in the maps that SOL 001
leaves open (``vdu_cpu_requirements``, ``vdu_memory_requirements``,
``logical_node``, ``requested_additional_capabilities``, the last often in
Nova's own words), and in its policies, as ``flavorProperties`` of a VNFC.  A
value is text, or JSON in text with ``value`` or ``configurationValue``.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
import functools
import re
from typing import Any

from kongming import exception
from kongming.template import markup
from kongming.vnfd import vdu as mod

_PINNING = {'SHARED': 'shared', 'DEDICATED': 'dedicated', 'MIXED': 'mixed',
            'ANY': ''}
_MIB = {'KB': 1 / 1024, 'KIB': 1 / 1024, 'MB': 1, 'MIB': 1, 'GB': 1024,
        'GIB': 1024, 'TB': 1024 ** 2, 'TIB': 1024 ** 2}
_COUNTS = {'numCpuSockets': 'hw:cpu_sockets', 'numCpuCores': 'hw:cpu_cores',
           'numCpuThreads': 'hw:cpu_threads', 'numaNodes': mod.NODES,
           'numberOfNumaNodes': mod.NODES}
_CELL = re.compile(r'numa(Cpu|Mem)-([0-9]{1,3})')
#: Extra specs of Nova that say what these features say.
_NOVA = re.compile(r'hw:(?:cpu_\w+|numa_\w+(?:\.[0-9]+)?|mem_page_size|'
                   r'emulator_threads_policy)')
#: Of the flavor itself.
_SIZES = ('numVirtualCpu', 'virtualMemSize')


def read_tosca(found: mod.Vdu, compute: Any, where: str) -> None:
    """Read the open maps of a VDU's ``virtual_compute``.

    :raises kongming.exception.InvalidTemplate: naming place and value
    """
    for part, key in (('virtual_cpu', 'vdu_cpu_requirements'),
                      ('virtual_memory', 'vdu_memory_requirements')):
        _attributes(found, mod.down(compute, part, key),
                    f'{where}.{part}.{key}')
    for key in ('logical_node', 'logical_node_requirements'):
        node = mod.down(compute, key)
        inner = mod.down(node, 'logical_node_requirements')
        for name, value in (node if isinstance(node, Mapping) else {}
                            ).items():
            if isinstance(value, Mapping):
                # A map of names, each with requirements.
                inner = value.get('logical_node_requirements', value)
                _attributes(found, inner, f'{where}.{key}.{name}')
            else:
                _attributes(found, {name: value}, f'{where}.{key}')
    wanted = mod.down(compute, 'requested_additional_capabilities')
    for name, value in (wanted if isinstance(wanted, Mapping) else {}
                        ).items():
        _attributes(found, mod.down(value, 'target_performance_parameters'),
                    f'{where}.requested_additional_capabilities.{name}')
    cpus = mod.down(compute, 'virtual_cpu', 'num_virtual_cpu')
    if isinstance(cpus, (int, str)):
        found.vcpus = mod.number(cpus, f'{where}.virtual_cpu.num_virtual_cpu')
    size = mod.down(compute, 'virtual_memory', 'virtual_mem_size')
    if isinstance(size, str):
        found.ram_mib = _mib(size, f'{where}.virtual_memory.virtual_mem_size')


def vnfcs(loaded: Any) -> Iterator[tuple[str, mod.Read]]:
    """Each VNFC of a policy, by its id."""
    if isinstance(loaded, list):
        for inner in loaded:
            yield from vnfcs(inner)
    elif isinstance(loaded, Mapping):
        features = loaded.get('flavorProperties')
        if features is None:
            for inner in loaded.values():
                yield from vnfcs(inner)
            return
        name = str(loaded.get('id'))
        yield name, mod.attempt(functools.partial(
            _features, features, f'{name}.flavorProperties'))


def _features(features: Any, where: str, found: mod.Vdu) -> None:
    for index, feature in enumerate(mod.entries(features)):
        for entry in mod.entries(feature.get('hpa-feature-attributes')):
            _attribute(found, str(entry.get('hpa-attribute-key')),
                       entry.get('hpa-attribute-value'), f'{where}.{index}',
                       str(entry.get('unit') or ''))


def _attributes(found: mod.Vdu, attributes: Any, where: str) -> None:
    for key, value in (attributes if isinstance(attributes, Mapping)
                       else {}).items():
        _attribute(found, key, value, where)


def _attribute(found: mod.Vdu, key: str, said: Any, where: str,
               unit: str = '') -> None:
    place, value = f'{where}.{key}', said
    if isinstance(said, str) and said.lstrip()[:1] == '{':
        try:
            value = markup.load(said)
        except exception.InvalidTemplate:
            found.lose(place, said, 'it is no JSON')
            return
    if isinstance(value, Mapping):
        unit = str(value.get('unit') or unit)
        value = next((value[word] for word in (
            'value', 'configurationValue', 'configuration-value')
            if word in value), None)
    cell = _CELL.fullmatch(key)
    if value is None or isinstance(value, Mapping):
        found.lose(place, said, 'it has no value')
    elif key == 'logicalCpuPinningPolicy':
        found.choose(mod.POLICY, value, place, _PINNING, '')
    elif key == 'logicalCpuThreadPinningPolicy':
        found.choose(mod.THREADS, value, place, mod.THREAD_WORDS,
                     mod.NO_THREADS)
    elif key in _COUNTS:
        found.set(_COUNTS[key], str(mod.number(value, place)), place)
    elif key == 'memoryPageSize':
        found.set(mod.PAGES, _pages(value, unit, place), place)
    elif cell and cell[1] == 'Cpu':
        cpus = value if isinstance(value, list) else re.split(
            r'[\s,]+', str(value).strip())
        found.set(f'hw:numa_cpus.{cell[2]}', ','.join(
            str(mod.number(cpu, place)) for cpu in cpus), place)
    elif cell:
        found.set(f'hw:numa_mem.{cell[2]}', str(_mib(
            f'{value} {unit}', place)), place)
    elif _NOVA.fullmatch(key):
        found.set(key, mod.shown(value), place)
    elif key not in _SIZES:
        found.lose(place, said, 'it is none of pinning, threads, NUMA and '
                                'pages that Nova or a template has a word '
                                'for')


def _mib(text: str, where: str) -> int:
    """An amount of memory in MiB; without a unit it is that."""
    match = re.fullmatch(r'([0-9]{1,9})(?:\.0+)?\s*([A-Za-z]*)', text.strip())
    factor = match and _MIB.get((match[2] or 'MB').upper())
    if not match or factor is None:
        raise mod.refused(where, text, 'it must be an amount of memory, such '
                                       'as 4096 MB or 4 GB')
    return int(int(match[1]) * factor)


def _pages(value: Any, unit: str, where: str) -> str:
    text = f'{value}{unit}'.replace(' ', '')
    if text.lower() in ('small', 'large', 'any'):
        return text.lower()
    match = re.fullmatch(r'([0-9]{1,9})(KI?B|MI?B|GI?B)?', text.upper())
    if not match:
        raise mod.refused(where, value, 'it must be small, large, any or a '
                                        'size, such as 2 MB')
    return f'{match[1]}{(match[2] or "KB").replace("I", "")}'
