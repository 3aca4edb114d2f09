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

"""Every error that the library raises, in one tree.

A message says what is wrong, where, and what would be right.
"""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses
from typing import Any


class KongmingError(Exception):
    """Base of the tree; ``msg_fmt`` is filled from the keyword arguments."""

    msg_fmt = 'An unknown error occurred.'

    def __init__(self, message: str | None = None, **kwargs: Any) -> None:
        self.kwargs = kwargs
        super().__init__(message or self.msg_fmt % kwargs)


@dataclasses.dataclass(frozen=True)
class Problem:
    """One thing wrong with a template.

    :ivar key: the whole key, as the flavor or the metadata holds it
    :ivar value: the whole value of that key
    :ivar column: where in the value it went wrong, counted from 1;
        0 where the value as a whole is meant
    :ivar reason: what is wrong, and what is allowed
    """

    key: str
    value: str
    column: int
    reason: str

    def __str__(self) -> str:
        where = f', column {self.column}' if self.column else ''
        shown = self.value if len(self.value) <= 60 else (
            self.value[:57] + '...')
        return printable(f"{self.key} = '{shown}'{where}: {self.reason}")


def printable(text: str) -> str:
    """Text that comes from a tenant, fit for a terminal and a log line."""
    return ''.join(
        c if c.isprintable() else c.encode('unicode_escape').decode('ascii')
        for c in text)


class InvalidTemplate(KongmingError):
    """A template that can't be obeyed as it is written.

    :ivar problems: all of them, in the order of the keys
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__('; '.join(str(p) for p in self.problems))


class InvalidTopology(KongmingError):
    msg_fmt = 'The host topology makes no sense: %(reason)s'
