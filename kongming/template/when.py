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

"""When a profile is active: windows, conditions, and both together.

``22:00-06:00 Europe/Berlin and use<15% for 10m; Sat-Sun 00:00-24:00`` has two
clauses; the profile is active while one of them is true.  A clause is true
while its window, where it has one, is open, and all its conditions hold.
Which conditions hold is decided elsewhere (:mod:`kongming.load`) and is an
argument here.
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Iterator
import dataclasses

from kongming.template import condition as condition_mod
from kongming.template import grammar
from kongming.template import window as window_mod

_AND = 'and'
_ALWAYS = window_mod.Window(None, 0, 24 * 60)


@dataclasses.dataclass(frozen=True)
class Clause:
    """
    :ivar window: None: at all times
    :ivar conditions: all of which have to hold
    """

    window: window_mod.Window | None = None
    conditions: tuple[condition_mod.Condition, ...] = ()

    def __str__(self) -> str:
        parts = [] if self.window is None else [str(self.window)]
        return f' {_AND} '.join([*parts, *map(str, self.conditions)])


When = tuple[Clause, ...]


def parse(value: str) -> When:
    """Several clauses, ``;`` between them.

    :raises kongming.template.grammar.Malformed: with the column
    """
    clauses = []
    start = 0
    for part in value.split(';'):
        clauses.append(_parse_clause(part, start))
        start += len(part) + 1
    return tuple(clauses)


def format_when(when: When) -> str:
    return '; '.join(map(str, when))


def windows(when: When, met: Collection[condition_mod.Condition] = ()
            ) -> tuple[window_mod.Window, ...]:
    """In which windows it is active.

    :param met: conditions that hold
    """
    return tuple(
        clause.window or _ALWAYS for clause in when
        if all(condition in met for condition in clause.conditions))


def conditions(whens: Iterable[When]) -> Iterator[condition_mod.Condition]:
    """All conditions, as often as they are written."""
    for when in whens:
        for clause in when:
            yield from clause.conditions


def _parse_clause(text: str, offset: int) -> Clause:
    words = [(column + offset, word) for column, word in grammar.words(text)]
    if not any(word == _AND for _column, word in words) and (
            not condition_mod.is_condition(words)):
        return Clause(window_mod.parse_window(words, offset, len(text)))
    window = None
    found: list[condition_mod.Condition] = []
    for begin, end, part in _parts(words, offset, len(text)):
        if not part:
            raise grammar.Malformed(
                begin, f"a window or a condition goes on each side of "
                       f"'{_AND}'")
        if condition_mod.is_condition(part):
            condition = condition_mod.parse(part)
            if any((condition.figure, condition.below)
                   == (other.figure, other.below) for other in found):
                raise grammar.Malformed(
                    part[0][0], f'{condition.figure}'
                    f'{"<" if condition.below else ">"} stands here a second '
                    f'time; one of them says it all')
            found.append(condition)
        elif window is not None:
            raise grammar.Malformed(
                part[0][0], "a second window; a semicolon goes between "
                            "windows, 'and' between a window and conditions")
        else:
            window = window_mod.parse_window(part, begin - 1, end - begin)
    return Clause(window, tuple(found))


def _parts(words: list[tuple[int, str]], offset: int, length: int) -> Iterator[
        tuple[int, int, list[tuple[int, str]]]]:
    """First column, column after the end, words; between the ``and``."""
    part: list[tuple[int, str]] = []
    begin = offset + 1
    for column, word in words:
        if word == _AND:
            yield begin, column, part
            part, begin = [], column + len(word)
        else:
            part.append((column, word))
    yield begin, offset + length + 1, part
