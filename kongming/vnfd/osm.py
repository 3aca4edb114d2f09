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
"""What OSM's descriptors say of a VDU's CPUs and memory.

Since its release nine they follow SOL 006: ``virtual-compute-desc`` with
``pinning`` (``policy``, ``thread-policy``) and, of OSM's own,
``mempage-size`` and ``numa-node-policy``.  Before, a VDU had ``guest-epa``
with the same, and ``cpu-pinning-policy`` and ``cpu-thread-pinning-policy``
(OSM's information model, ``mano-types.yang``).
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
import functools
from typing import Any

from kongming.template import choices
from kongming.template import template as template_mod
from kongming.vnfd import vdu as mod

_PINNING = {'DEDICATED': 'dedicated', 'SHARED': 'shared', 'ANY': ''}
_SOL006 = {'STATIC': 'dedicated', 'DYNAMIC': 'shared'}
_PAGES = {'LARGE': 'large', 'SMALL': 'small', 'SIZE_2MB': '2MB',
          'SIZE_1GB': '1GB', 'PREFER_LARGE': None}
_MEMORY = {'STRICT': '', 'PREFERRED': choices.PREFERRED, 'INTERLEAVE': None}
_QUOTAS = ('cpu-quota', 'mem-quota', 'disk-io-quota', 'vif-quota')


def vdus(loaded: Any) -> Iterator[tuple[str, mod.Read]]:
    """Each VDU, by its id."""
    for vnfd in _vnfds(loaded):
        computes = {str(entry.get('id')): entry for entry in mod.entries(
            vnfd.get('virtual-compute-desc'))}
        for vdu in mod.entries(vnfd.get('vdu')):
            yield str(vdu.get('id')), mod.attempt(functools.partial(
                _read, vdu, computes.get(str(vdu.get(
                    'virtual-compute-desc')))))


def _read(vdu: Mapping[str, Any], compute: Mapping[str, Any] | None,
          found: mod.Vdu) -> None:
    name = vdu.get('id')
    if isinstance(vdu.get('guest-epa'), Mapping):
        _epa(found, vdu['guest-epa'], f'{name}.guest-epa')
    _size(found, vdu.get('vm-flavor'), f'{name}.vm-flavor')
    if compute is not None:
        _sol006(found, compute, f'virtual-compute-desc.{compute["id"]}')


def _vnfds(loaded: Any) -> list[Mapping[str, Any]]:
    for path in (('vnfd:vnfd-catalog', 'vnfd:vnfd'),
                 ('vnfd:vnfd-catalog', 'vnfd'), ('vnfd-catalog', 'vnfd'),
                 ('etsi-nfv-vnfd:vnfd',), ('vnfd',)):
        found = mod.entries(mod.down(loaded, *path))
        if found:
            return found
    return []


def _size(found: mod.Vdu, flavor: Any, where: str) -> None:
    for key, field in (('vcpu-count', 'vcpus'), ('memory-mb', 'ram_mib')):
        value = mod.down(flavor, key)
        if value is not None:
            setattr(found, field, mod.number(value, f'{where}.{key}'))


def _epa(found: mod.Vdu, epa: Mapping[str, Any], where: str) -> None:
    for key, value in epa.items():
        place = f'{where}.{key}'
        if key == 'cpu-pinning-policy':
            found.choose(mod.POLICY, value, place, _PINNING, '')
        elif key == 'cpu-thread-pinning-policy':
            found.choose(mod.THREADS, value, place, mod.THREAD_WORDS,
                         mod.NO_THREADS)
        elif key == 'mempage-size':
            _pages(found, value, place)
        elif key == 'numa-node-policy':
            _numa(found, value, place)
        elif key in _QUOTAS:
            found.lose(place, value, 'say it as quota:... of the flavor, or '
                                     'as qos of the template')
        elif key == 'numa-unaware':
            continue
        else:
            found.lose(place, value, 'it is none of pinning, threads, NUMA '
                                     'and pages')


def _sol006(found: mod.Vdu, compute: Mapping[str, Any],
            where: str) -> None:
    cpu, memory = (compute.get(key) for key in (
        'virtual-cpu', 'virtual-memory'))
    count = mod.down(cpu, 'num-virtual-cpu')
    if count is not None:
        found.vcpus = mod.number(count, f'{where}.virtual-cpu.'
                                        f'num-virtual-cpu')
    place = f'{where}.virtual-cpu.pinning'
    pinning = mod.down(cpu, 'pinning')
    if isinstance(pinning, Mapping):
        for key, value in pinning.items():
            if key == 'policy':
                found.choose(mod.POLICY, value, f'{place}.{key}', _SOL006, '')
            elif key == 'thread-policy':
                found.choose(mod.THREADS, value, f'{place}.{key}',
                             mod.THREAD_WORDS, mod.NO_THREADS)
            else:
                found.lose(f'{place}.{key}', value,
                           "its text is nobody's standard; say it as pin.0 "
                           'of the template')
    for inside, part in (('virtual-cpu', cpu), ('virtual-memory', memory)):
        for key in _QUOTAS:
            value = mod.down(part, key)
            if value is not None:
                _epa(found, {key: value}, f'{where}.{inside}')
    for key in ('mempage-size', 'numa-node-policy'):
        value = mod.down(memory, key)
        if value is not None:
            _epa(found, {key: value}, f'{where}.virtual-memory')


def _pages(found: mod.Vdu, value: Any, place: str) -> None:
    found.choose(mod.PAGES, value, place, _PAGES,
                 'Nova has large and any; with any the image decides')


def _numa(found: mod.Vdu, policy: Any, where: str) -> None:
    nodes = mod.entries(mod.down(policy, 'node'))
    count = mod.down(policy, 'node-cnt')
    if count is not None or nodes:
        number = len(nodes) if count is None else mod.number(
            count, f'{where}.node-cnt')
        if nodes and number != len(nodes):
            raise mod.refused(f'{where}.node-cnt', count,
                              f'it describes {len(nodes)} node(s)')
        found.set(mod.NODES, str(number), where)
    for cell, node in enumerate(nodes):
        _node(found, cell, node, f'{where}.node.{cell}')
    memory = mod.down(policy, 'mem-policy')
    if memory is not None:
        place = f'{where}.mem-policy'
        chosen = mod.Vdu()
        chosen.choose('memory', memory, place, _MEMORY,
                      'a cell of a guest is bound to one node')
        found.lost += chosen.lost
        if chosen.specs:
            for cell in range(max(1, len(nodes))):
                found.keys[f'{template_mod.PREFIX}memory.{cell}'] = (
                    choices.PREFERRED)


def _node(found: mod.Vdu, cell: int, node: Mapping[str, Any],
          where: str) -> None:
    for key, value in node.items():
        place = f'{where}.{key}'
        if key == 'id':
            if mod.number(value, place) != cell:
                found.lose(place, value,
                           f'guest cells count from 0, this is cell {cell}; '
                           f'the node of a host is node.{cell} of the '
                           f'template')
        elif key == 'vcpu':
            vcpus = sorted(mod.number(entry.get('id'), f'{place}.{index}.id')
                           for index, entry in enumerate(
                               mod.entries(value)))
            found.set(f'hw:numa_cpus.{cell}', ','.join(map(str, vcpus)),
                      place)
        elif key == 'memory-mb':
            found.set(f'hw:numa_mem.{cell}', str(mod.number(value, place)),
                      place)
        elif key == 'paired-threads':
            found.lose(place, value,
                       'pairs of threads are hw:cpu_thread_policy=require, '
                       'or pins such as 0-1:n0c2t0-1 of the template')
        else:
            found.lose(place, value, 'Nova has no word for it')
