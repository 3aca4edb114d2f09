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

"""Time zones of one database: the newer of the system's and ``tzdata``'s.

Governments change their clocks at short notice, and a distribution follows
late.  ``zoneinfo`` would take the system's database where there is one, so
two hosts with the same requirements could disagree on a window.
"""

from __future__ import annotations

from collections.abc import Sequence
import functools
import pathlib
import re
from typing import NamedTuple
import zoneinfo

import tzdata

_VERSION = re.compile('[0-9]{4}[a-z]{1,2}')
_KEY = re.compile(r'[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*')
#: Its first line names the version; Debian, Fedora and IANA ship it.
_SOURCE = 'tzdata.zi'


class Database(NamedTuple):
    """Compiled rules of all zones.

    :ivar version: as IANA calls it, such as ``2026f``
    :ivar folder: where they lie
    """

    version: str
    folder: pathlib.Path

    def zone(self, name: str) -> zoneinfo.ZoneInfo:
        """
        :raises zoneinfo.ZoneInfoNotFoundError: if it has none of that name
        """
        if not _KEY.fullmatch(name):
            raise zoneinfo.ZoneInfoNotFoundError(name)
        try:
            with (self.folder / name).open('rb') as source:
                return zoneinfo.ZoneInfo.from_file(source, key=name)
        except (OSError, ValueError) as exc:
            raise zoneinfo.ZoneInfoNotFoundError(name) from exc


def of_package() -> Database:
    """That of ``tzdata`` from PyPI."""
    return Database(tzdata.IANA_VERSION,
                    pathlib.Path(tzdata.__path__[0]) / 'zoneinfo')


def of_system(paths: Sequence[str] = zoneinfo.TZPATH) -> Database | None:
    """The system's; None where it has none, or one without a version."""
    for path in map(pathlib.Path, paths):
        try:
            with (path / _SOURCE).open(encoding='ascii') as source:
                found = _VERSION.search(source.readline(80))
        except (OSError, ValueError):
            continue
        if found:
            return Database(found[0], path)
    return None


def newest(system: Database | None, package: Database) -> Database:
    """The newer one; of two that are as new the package's.

    It is the same on all hosts, and a distribution may have left some of the
    system's out.
    """
    return system if system and system.version > package.version else package


@functools.cache
def database() -> Database:
    """What this process decides by, for as long as it runs."""
    return newest(of_system(), of_package())


@functools.cache
def zone(name: str) -> zoneinfo.ZoneInfo:
    """
    :raises zoneinfo.ZoneInfoNotFoundError: if there is none of that name
    """
    return database().zone(name)
