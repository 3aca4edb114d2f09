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

"""Hosts out of a file, as ``openstack kongming host map --format json`` wrote
it: one host, a list of them, or several one after the other.

Who is on them is in the way as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
import json
from typing import Any

from kongming import exception
from kongming.host import usage


def read(text: str) -> dict[str, usage.HostState]:
    """The hosts by name.

    :raises kongming.exception.InvalidTopology: where that is no such file
    """
    hosts: dict[str, usage.HostState] = {}
    for entry in _entries(text):
        try:
            name, nodes = str(entry['host']), entry['map']
            if name in hosts:
                raise exception.InvalidTopology(
                    reason=f"host '{exception.printable(name)}' stands in "
                           f'the inventory a second time')
            hosts[name] = usage.HostState(map(_node, nodes))
        except (KeyError, TypeError, ValueError, AttributeError,
                OverflowError) as exc:
            raise exception.InvalidTopology(
                reason=f'entry {len(hosts) + 1} of the inventory is not what '
                       f"'openstack kongming host map --format json' "
                       f'writes: {type(exc).__name__} '
                       f'{exception.shown(str(exc), 80)}') from exc
    if not hosts:
        raise exception.InvalidTopology(
            reason='the inventory has no hosts in it')
    return hosts


def _entries(text: str) -> Iterator[Any]:
    decoder = json.JSONDecoder(object_pairs_hook=_once)
    position = 0
    while text[position:].strip():
        position += len(text[position:]) - len(text[position:].lstrip())
        try:
            entry, position = decoder.raw_decode(text, position)
        except json.JSONDecodeError as exc:
            raise exception.InvalidTopology(
                reason=f'the inventory is not JSON: line {exc.lineno}, '
                       f'column {exc.colno}: {exc.msg}') from exc
        except (RecursionError, ValueError) as exc:
            # Nested too deeply, or a number of thousands of digits.
            raise exception.InvalidTopology(
                reason=f'the inventory can not be read: '
                       f'{exception.shown(str(exc), 80)}') from exc
        yield from entry if isinstance(entry, list) else [entry]


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A mapping, of which no key would win in silence."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for number, (key, _value) in enumerate(pairs)
                     if any(key == other for other, _v in pairs[:number]))
        raise exception.InvalidTopology(
            reason=f"'{exception.printable(twice)}' stands a second time in "
                   f'an entry of the inventory')
    return found


def _node(entry: Any) -> usage.NodeState:
    return usage.NodeState(
        int(entry['node']), frozenset(entry['dedicated']),
        frozenset(entry['taken']), shared=frozenset(entry['shared']),
        siblings=entry['cores'], memory_mib=int(entry['memory_mib']),
        memory_used_mib=int(entry['memory_mib']) - int(
            entry['memory_free_mib']),
        pages=[usage.Pages(int(page['size_kib']), int(page['total']),
                           int(page['free'])) for page in entry['pages']],
        owners={int(pcpu): owner
                for pcpu, owner in entry['owners'].items()},
        l3={int(pcpu): int(l3)
            for pcpu, l3 in entry.get('l3', {}).items()},
        never=frozenset(entry.get('never', ())))
