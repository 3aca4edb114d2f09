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

"""Template values that are one word, or a few, of a fixed choice."""

from __future__ import annotations

import re

from kongming.template import grammar

#: How a cell's memory is bound to its node.
STRICT, PREFERRED = 'strict', 'preferred'
#: What a flavor may allow the server's metadata to do.
GRANTS = ('profile', 'template', 'qos')
#: From where a server may borrow pCPUs that their owners lend.
BORROW = ('node', 'host')
#: Among what cells are balanced: the nodes of their host.
BALANCE = ('node',)
#: What a profile does to pCPUs that its server owns and does not use.
LOW, OFF = POWER = ('low', 'off')


def parse_node(value: str) -> int:
    """The id of a host NUMA node.

    :raises kongming.template.grammar.Malformed: if it is no such number
    """
    return grammar.parse_int(value.strip(), 1, 'a host NUMA node',
                             grammar.MAX_NODE)


def parse_memory(value: str) -> str:
    """``strict`` or ``preferred``.

    :raises kongming.template.grammar.Malformed: if it is neither
    """
    if value not in (STRICT, PREFERRED):
        raise grammar.Malformed(
            1, f"'{value}' is no way to bind memory; {STRICT} and "
               f'{PREFERRED} are')
    return value


def parse_borrow(value: str) -> str:
    """``node`` or ``host``.

    :raises kongming.template.grammar.Malformed: if it is neither
    """
    if value not in BORROW:
        raise grammar.Malformed(
            1, f"'{value}' is nothing to borrow from; "
               f'{" and ".join(BORROW)} are')
    return value


def parse_balance(value: str) -> str:
    """``node``.

    :raises kongming.template.grammar.Malformed: if it is something else
    """
    if value not in BALANCE:
        raise grammar.Malformed(
            1, f"'{value}' is nothing to balance a server's cells among; "
               f'{" and ".join(BALANCE)} is')
    return value


def parse_power(value: str) -> str:
    """``low`` or ``off``.

    :raises kongming.template.grammar.Malformed: if it is neither
    """
    if value not in POWER:
        raise grammar.Malformed(
            1, f"'{value}' is no power of a pCPU; {' and '.join(POWER)} are")
    return value


def parse_flag(value: str) -> bool:
    """``true`` or ``false``, as it is written.

    :raises kongming.template.grammar.Malformed: if it is neither
    """
    if value not in ('true', 'false'):
        raise grammar.Malformed(1, f"'{value}' is neither true nor false")
    return value == 'true'


def format_flag(flag: bool) -> str:
    return 'true' if flag else 'false'


def parse_grant(value: str) -> frozenset[str]:
    """What is granted: words separated by blanks or commas.

    :raises kongming.template.grammar.Malformed: naming the first that can
        not be
    """
    granted = set()
    for match in re.finditer(r'[^\s,]+', value):
        if match.group() not in GRANTS:
            raise grammar.Malformed(
                match.start() + 1, f"'{match.group()}' can not be granted; "
                                   f'{", ".join(GRANTS)} can')
        granted.add(match.group())
    return frozenset(granted)


def format_grant(granted: frozenset[str]) -> str:
    return ' '.join(name for name in GRANTS if name in granted)
