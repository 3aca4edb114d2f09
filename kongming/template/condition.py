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

"""Conditions on what a server measured: ``use<15% for 10m``.

Each has two thresholds, so that a figure that lies on one of them does not
switch to and fro: it begins to hold beyond the first one, and ends at the
second one (``until``).

A condition that asks for *little* (``<``) gives something up: it begins late
and ends at once.  One that asks for *much* (``>``) begins soon, and ends
when the figure has been beyond the second threshold for as long again, but
not before ``hold``: what it switches to lowers the figure by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses
import re

from kongming.template import grammar

#: What is measured of a server, in per cent.
USE, WAIT, REMOTE = FIGURES = ('use', 'wait', 'remote')

#: Seconds; a condition is decided by figures of some seconds each.
MIN_FOR, MAX_FOR = 5, 24 * 3600
#: Where a condition says no times, in seconds.
FOR_BELOW, FOR_ABOVE = 600, 30
HOLD_BELOW, HOLD_ABOVE = 0, 600
#: 100 %, in hundredths of a per cent.
_WHOLE = 10000

_FORM = ('write use, wait or remote, < or >, and per cent, such as '
         'use<15% for 10m')
_COMPARISON = re.compile(r'([^<>]*)([<>])(.*)')
_PERCENT = re.compile(r'([0-9]{1,3})(?:\.([0-9]{1,2}))?%')
_DURATION = re.compile(r'([0-9]{1,6})([smh])')
_UNITS = {'s': 1, 'm': 60, 'h': 3600}
_OPTIONS = ('until', 'for', 'hold')


@dataclasses.dataclass(frozen=True)
class Condition:
    """One figure against one threshold.

    :ivar figure: one of :data:`FIGURES`
    :ivar below: whether the figure has to be below the threshold; else above
    :ivar threshold: in hundredths of a per cent
    :ivar until: the second threshold, as it was written
    :ivar seconds: likewise, how long before it begins to hold
    :ivar hold: likewise, the least time for which it holds, in seconds
    """

    figure: str
    below: bool
    threshold: int
    until: int | None = None
    seconds: int | None = None
    hold: int | None = None

    def __str__(self) -> str:
        parts = [f'{self.figure}{"<" if self.below else ">"}'
                 f'{format_percent(self.threshold)}']
        if self.until is not None:
            parts.append(f'until {format_percent(self.until)}')
        if self.seconds is not None:
            parts.append(f'for {format_duration(self.seconds)}')
        if self.hold is not None:
            parts.append(f'hold {format_duration(self.hold)}')
        return ' '.join(parts)

    @property
    def ends_at(self) -> int:
        """The second threshold: by itself twice the first one, or half way to
        100 %, of one that asks for little; half of it, of one that asks for
        much.
        """
        if self.until is not None:
            return self.until
        if self.below:
            return min(2 * self.threshold, (self.threshold + _WHOLE) // 2)
        return self.threshold // 2

    @property
    def lasts(self) -> int:
        """How long the figure has to be so before it holds, in seconds."""
        if self.seconds is not None:
            return self.seconds
        return FOR_BELOW if self.below else FOR_ABOVE

    @property
    def holds(self) -> int:
        """The least time for which it holds, in seconds."""
        if self.hold is not None:
            return self.hold
        return HOLD_BELOW if self.below else HOLD_ABOVE

    def begins(self, value: float) -> bool:
        """Whether a figure is so that it may begin to hold.

        :param value: in per cent
        """
        return (value * 100 < self.threshold if self.below
                else value * 100 > self.threshold)

    def ends(self, value: float) -> bool:
        """Whether a figure is so that it may end.

        On the second threshold it does: none is above 100 % or below 0 %.
        """
        return (value * 100 >= self.ends_at if self.below
                else value * 100 <= self.ends_at)

    def implies(self, other: Condition) -> bool:
        """Whether the other one begins to hold no later than this one."""
        return (self.figure == other.figure and self.below == other.below
                and (self.threshold <= other.threshold if self.below
                     else self.threshold >= other.threshold)
                and self.lasts >= other.lasts)

    def excludes(self, other: Condition) -> bool:
        """Whether they can't begin to hold at the same time."""
        if self.figure != other.figure or self.below == other.below:
            return False
        below, above = (self, other) if self.below else (other, self)
        return below.threshold <= above.threshold


def format_percent(hundredths: int) -> str:
    whole, rest = divmod(hundredths, 100)
    return f'{whole}.{rest:02}'.rstrip('0').rstrip('.') + '%' if rest else (
        f'{whole}%')


def format_duration(seconds: int) -> str:
    """As short as it is exact: ``90s``, ``10m``, ``2h``."""
    for unit in ('h', 'm'):
        if seconds and not seconds % _UNITS[unit]:
            return f'{seconds // _UNITS[unit]}{unit}'
    return f'{seconds}s'


def is_condition(words: Sequence[tuple[int, str]]) -> bool:
    """Whether words are meant to be a condition, and no window."""
    return bool(words) and (any(
        '<' in word or '>' in word for _column, word in words)
        or words[0][1] in (*FIGURES, *_OPTIONS))


def parse(words: Sequence[tuple[int, str]]) -> Condition:
    """One condition.

    :param words: with their columns
    :raises kongming.template.grammar.Malformed: with the column
    """
    column, word = words[0]
    match = _COMPARISON.fullmatch(word)
    if match is None:
        raise grammar.Malformed(column, f"'{word}' is no condition; {_FORM}")
    if match[1] not in FIGURES:
        raise grammar.Malformed(
            column, f"'{match[1]}' is not measured; {', '.join(FIGURES)} are")
    below = match[2] == '<'
    at = column + match.start(3)
    threshold = _percent(match[3], at)
    if not 0 < threshold < _WHOLE:
        raise grammar.Malformed(
            at, f'{format_percent(threshold)} is always or never reached; '
                f'the least is 0.01%, the most 99.99%')
    found = _options(words[1:])
    if 'until' in found:
        at, text = found['until']
        until = _percent(text, at)
        if until > _WHOLE or (until <= threshold if below
                              else until >= threshold):
            raise grammar.Malformed(
                at, f'{match[1]}{match[2]}{format_percent(threshold)} can '
                    f'not end at {text}; the second threshold is '
                    + ('above the first one, 100% at most' if below
                       else 'below the first one'))
    return Condition(
        match[1], below, threshold,
        _percent(found['until'][1], 0) if 'until' in found else None,
        _duration(*found['for'], MIN_FOR) if 'for' in found else None,
        _duration(*found['hold'], 0) if 'hold' in found else None)


def _options(words: Sequence[tuple[int, str]]) -> dict[
        str, tuple[int, str]]:
    """Name -> column and text of what follows it."""
    found: dict[str, tuple[int, str]] = {}
    rest = list(words)
    while rest:
        column, name = rest.pop(0)
        if name not in _OPTIONS:
            raise grammar.Malformed(
                column, f"'{name}' can not stand here; "
                        f'{", ".join(_OPTIONS)} can, and \'and\' before '
                        f'another condition')
        if name in found:
            raise grammar.Malformed(
                column, f"'{name}' stands here a second time")
        if not rest:
            raise grammar.Malformed(
                column + len(name), f"nothing follows '{name}'; write "
                + ('until 30%' if name == 'until' else f'{name} 10m'))
        found[name] = rest.pop(0)
    return found


def _percent(text: str, column: int) -> int:
    match = _PERCENT.fullmatch(text)
    if match is None:
        raise grammar.Malformed(
            column, f"'{text}' is not per cent; 15% is, two decimals at most")
    return int(match[1]) * 100 + int((match[2] or '').ljust(2, '0'))


def _duration(column: int, text: str, least: int) -> int:
    match = _DURATION.fullmatch(text)
    seconds = int(match[1]) * _UNITS[match[2]] if match else -1
    if not least <= seconds <= MAX_FOR:
        raise grammar.Malformed(
            column, f"'{text}' is no time; {format_duration(least)} to 24h "
                    f'is, in s, m or h')
    return seconds
