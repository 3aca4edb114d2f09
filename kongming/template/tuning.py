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

"""Scheduler, QoS and caches: the values of ``sched``, ``qos``, ``cache``."""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
import decimal
import re

from kongming.template import grammar

#: Linux scheduling policies that libvirt can set on a vCPU thread, and
#: ``other``, the kernel's own, for a profile that resets one.
POLICIES = ('other', 'batch', 'idle', 'fifo', 'rr')
REALTIME = ('fifo', 'rr')

#: sched(7): priorities of real-time policies.
MIN_PRIORITY, MAX_PRIORITY = 1, 99
#: cgroup v2, cpu.weight (Documentation/admin-guide/cgroup-v2.rst).
MIN_WEIGHT, MAX_WEIGHT = 1, 10000


@dataclasses.dataclass(frozen=True)
class Sched:
    """One entry: ``1-3:fifo:1``.

    :ivar priority: 1 to 99 for ``fifo`` and ``rr``, else None
    """

    vcpus: tuple[grammar.Range, ...]
    policy: str
    priority: int | None = None

    def __str__(self) -> str:
        text = f'{",".join(map(str, self.vcpus))}:{self.policy}'
        return text if self.priority is None else f'{text}:{self.priority}'


@dataclasses.dataclass(frozen=True)
class Qos:
    """One entry: ``1-3:weight=200,quota=50%,burst=20%``.

    :ivar weight: share of a contended pCPU, 100 being the usual one
    :ivar quota: the most of one pCPU, in hundredths of a per cent
    :ivar burst: what unused quota may be saved up for later, likewise
    """

    vcpus: tuple[grammar.Range, ...]
    weight: int | None = None
    quota: int | None = None
    burst: int | None = None

    def __str__(self) -> str:
        parts = [] if self.weight is None else [f'weight={self.weight}']
        parts += [f'{name}={_format_percent(value)}'
                  for name, value in (('quota', self.quota),
                                      ('burst', self.burst))
                  if value is not None]
        return f'{",".join(map(str, self.vcpus))}:{",".join(parts)}'


@dataclasses.dataclass(frozen=True)
class Cache:
    """One entry: ``0-3:l3=25%,mb=50%``; its vCPUs are one class of service.

    :ivar l3: of the L3 cache, what these vCPUs have for themselves and all
        together, in per cent; None: what everybody has
    :ivar mb: the most of the memory bandwidth, in per cent
    """

    vcpus: tuple[grammar.Range, ...]
    l3: int | None = None
    mb: int | None = None

    def __str__(self) -> str:
        parts = [f'{name}={value}%' for name, value in (
            ('l3', self.l3), ('mb', self.mb)) if value is not None]
        return f'{",".join(map(str, self.vcpus))}:{",".join(parts)}'

    @property
    def first(self) -> int:
        """The lowest of its vCPUs, which are in no other entry."""
        return min(part.low for part in self.vcpus)


def _format_percent(hundredths: int) -> str:
    whole, rest = divmod(hundredths, 100)
    return f'{whole}.{rest:02}'.rstrip('0').rstrip('.') + '%'


def _percent(text: str, column: int, what: str) -> int:
    match = re.fullmatch(r'([0-9]{1,3}(?:\.[0-9]{1,2})?)%', text)
    hundredths = int(decimal.Decimal(match[1]) * 100) if match else -1
    # The kernel takes no quota under 1 ms; of libvirt's period of 100 ms
    # that is 1 % (kernel/sched/core.c, min_cfs_quota_period).
    if not 100 <= hundredths <= 10000:
        raise grammar.Malformed(
            column, f"'{text}' is not a {what}; 1% to 100% of one pCPU is, "
                    f'two decimals at most')
    return hundredths


def _entries(value: str, form: str) -> list[
        tuple[int, tuple[grammar.Range, ...], int, str]]:
    """(column, vCPUs, column of the rest, rest) of each word."""
    found = []
    seen: set[int] = set()
    for column, word in grammar.words(value):
        vcpus, colon, rest = word.partition(':')
        if not colon:
            raise grammar.Malformed(
                column, f"'{word}' has no colon; write {form}")
        ranges = grammar.parse_id_list(vcpus, column, 'a vCPU',
                                       grammar.MAX_VCPU)
        for part in ranges:
            for vcpu in part.ids():
                if vcpu in seen:
                    raise grammar.Malformed(
                        column, f'vCPU {vcpu} stands here a second time; '
                                f'give each vCPU once')
                seen.add(vcpu)
        found.append((column, ranges, column + len(vcpus) + 1, rest))
    if not found:
        raise grammar.Malformed(1, f'it is empty; write {form}')
    return found


def parse_sched(value: str) -> tuple[Sched, ...]:
    """``0:other 1-3:fifo:1``.

    :raises kongming.template.grammar.Malformed: with the column
    """
    return tuple(_parse_sched(*entry)
                 for entry in _entries(value, 'vCPU:policy:priority, such '
                                              'as 1-3:fifo:1'))


def _parse_sched(column: int, vcpus: tuple[grammar.Range, ...], at: int,
                 rest: str) -> Sched:
    policy, colon, priority = rest.partition(':')
    if policy not in POLICIES:
        raise grammar.Malformed(
            at, f"'{policy}' is not a scheduling policy; "
                f'{", ".join(POLICIES)} are')
    if policy not in REALTIME:
        if colon:
            raise grammar.Malformed(
                at + len(policy), f'{policy} has no priority; only '
                                  f'{" and ".join(REALTIME)} have')
        return Sched(vcpus, policy)
    at += len(policy) + 1
    if not colon:
        raise grammar.Malformed(
            at - 1, f'{policy} needs a priority, {MIN_PRIORITY} to '
                    f'{MAX_PRIORITY}: {policy}:1')
    number = grammar.parse_int(priority, at, 'a priority', MAX_PRIORITY)
    if number < MIN_PRIORITY:
        raise grammar.Malformed(at, f'the lowest priority is {MIN_PRIORITY}')
    return Sched(vcpus, policy, number)


def _weight(text: str, column: int, what: str) -> int:
    number = grammar.parse_int(text, column, f'a {what}', MAX_WEIGHT)
    if number < MIN_WEIGHT:
        raise grammar.Malformed(column,
                                f'the lowest {what} is {MIN_WEIGHT}')
    return number


_QOS: dict[str, Callable[[str, int, str], int]] = {
    'weight': _weight, 'quota': _percent, 'burst': _percent}


def _named(known: dict[str, Callable[[str, int, str], int]], at: int,
           rest: str, form: str) -> dict[str, int]:
    """``name=value,name=value``."""
    given: dict[str, int] = {}
    for part in rest.split(','):
        name, equals, text = part.partition('=')
        if name not in known or not equals:
            raise grammar.Malformed(at, f"'{part}' is not {form}")
        if name in given:
            raise grammar.Malformed(at, f'{name} stands here a second time')
        given[name] = known[name](text, at + len(name) + 1, name)
        at += len(part) + 1
    return given


def parse_qos(value: str) -> tuple[Qos, ...]:
    """``0:weight=400 1-3:quota=50%,burst=20%``.

    :raises kongming.template.grammar.Malformed: with the column
    """
    return tuple(_parse_qos(*entry) for entry in _entries(
        value, 'vCPU:name=value, such as 1-3:weight=200,quota=50%'))


def _parse_qos(column: int, vcpus: tuple[grammar.Range, ...], at: int,
               rest: str) -> Qos:
    given = _named(_QOS, at, rest, f'a QoS value; weight=1..{MAX_WEIGHT}, '
                                   f'quota=1..100% and burst=1..100% are')
    if 'burst' in given and given['burst'] > given.get('quota', 0):
        # The kernel refuses cpu.max.burst above the quota (EINVAL).
        raise grammar.Malformed(
            column, 'a burst needs a quota that is at least as large')
    return Qos(vcpus, **given)


def _whole_percent(text: str, column: int, what: str) -> int:
    # Placement counts them, in whole numbers.
    match = re.fullmatch(r'([1-9][0-9]?|100)%', text)
    if match is None:
        raise grammar.Malformed(
            column, f"'{text}' is not what {what} can be; 1% to 100% is, "
                    f'without decimals')
    return int(match[1])


_CACHE: dict[str, Callable[[str, int, str], int]] = {
    'l3': _whole_percent, 'mb': _whole_percent}


def parse_cache(value: str) -> tuple[Cache, ...]:
    """``0-3:l3=25%,mb=50% 4-7:mb=20%``.

    :raises kongming.template.grammar.Malformed: with the column
    """
    return tuple(
        Cache(vcpus, **_named(_CACHE, at, rest, 'l3=1..100% or mb=1..100%'))
        for _column, vcpus, at, rest in _entries(
            value, 'vCPUs:name=value, such as 0-3:l3=25%,mb=50%'))
