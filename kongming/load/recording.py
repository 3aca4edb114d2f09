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

"""Readings of servers as a file of JSON lines.

The first line says what it is; then each line is a server with its template,
which goes before its readings and again where it has changed, or a reading::

    {"kongming_figures": 1, "host": "compute1"}
    {"server": "3f...", "name": "web-1", "specs": {...}, "metadata": {...}}
    {"server": "3f...", "time": "2026-11-27T20:00:00+00:00", "at": 1234.5,
     "start": 99, "vcpus": {"0": [730000, 1200]}, "remote": 0.0}

Readings hold counters, not figures, so that every second line of a file can be
left out and the rest is true.  ``remote`` is left out where it was not read.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
import datetime
import json
import math
from typing import Any

from kongming import exception
from kongming.load import figures

VERSION = 1
_MARK = 'kongming_figures'


@dataclasses.dataclass(frozen=True)
class Server:
    """A server as it was from here on.

    :ivar id: its UUID, or whatever else names it in the file
    :ivar name: as it is shown to people
    :ivar specs: extra specs of its flavor
    """

    id: str
    name: str
    specs: Mapping[str, str]
    metadata: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Reading:
    """
    :ivar server: its id
    :ivar time: aware of its time zone
    """

    server: str
    time: datetime.datetime
    counters: figures.Counters


Entry = Server | Reading


def header(host: str) -> str:
    """The first line, without its end."""
    return json.dumps({_MARK: VERSION, 'host': host})


def dump(entry: Entry) -> str:
    """A line, without its end; :func:`load` reads it back."""
    if isinstance(entry, Server):
        return json.dumps({
            'server': entry.id, 'name': entry.name,
            'specs': dict(entry.specs), 'metadata': dict(entry.metadata)})
    counters = entry.counters
    found: dict[str, Any] = {
        'server': entry.server, 'time': entry.time.isoformat(),
        'at': counters.at, 'start': counters.start,
        'vcpus': {str(vcpu): list(times)
                  for vcpu, times in sorted(counters.vcpus.items())}}
    if counters.remote is not None:
        found['remote'] = counters.remote
    return json.dumps(found)


def load(lines: Iterable[str]) -> Iterator[Entry]:
    """What a file holds, line by line.

    A last line that was cut short, as by a program that was killed, is left
    out.

    :raises kongming.exception.InvalidRecording: naming the line
    """
    known: set[str] = set()
    number = 0
    for number, line in enumerate(lines, 1):
        try:
            found = json.loads(line)
        except ValueError as exc:
            if number > 1 and not line.endswith('\n'):
                return
            raise exception.InvalidRecording(
                line=number, reason=f'it is no JSON ({exc})') from exc
        if number == 1:
            _check_header(found)
            continue
        try:
            entry = _entry(found)
        except (KeyError, TypeError, ValueError, AttributeError,
                OverflowError) as exc:
            what = (f'{exc.args[0]} is missing' if isinstance(exc, KeyError)
                    else str(exc))
            raise exception.InvalidRecording(
                line=number, reason=f'it is neither a server nor a reading: '
                                    f'{what}') from exc
        if isinstance(entry, Server):
            known.add(entry.id)
        elif entry.server not in known:
            raise exception.InvalidRecording(
                line=number, reason=f'a reading of {entry.server}, of which '
                                    f'no line before says what it is')
        yield entry
    if not number:
        raise exception.InvalidRecording(line=1, reason='the file is empty')


def _check_header(found: Any) -> None:
    version = found.get(_MARK) if isinstance(found, dict) else None
    if version is None:
        raise exception.InvalidRecording(
            line=1, reason=f"it does not say '{_MARK}'; 'kongming watch "
                           f"--record' writes such files")
    if version != VERSION:
        raise exception.InvalidRecording(
            line=1, reason=f'version {version} is not known, {VERSION} is')


def _entry(found: Any) -> Entry:
    server = _text(found['server'])
    if 'vcpus' not in found:
        return Server(server, _text(found['name']), _texts(found['specs']),
                      _texts(found.get('metadata', {})))
    moment = datetime.datetime.fromisoformat(found['time'])
    if moment.tzinfo is None:
        raise ValueError(f'the time {found["time"]} has no offset')
    return Reading(server, moment, figures.Counters(
        _number(found['at']),
        {_count(int(vcpu)): figures.Times(*map(_count, times))
         for vcpu, times in found['vcpus'].items()},
        _count(found['start']),
        None if found.get('remote') is None else _number(found['remote'])))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f'{value!r} is no text')
    return value


def _texts(value: Any) -> dict[str, str]:
    return {_text(key): _text(entry) for key, entry in value.items()}


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or (
            not math.isfinite(value)):
        raise ValueError(f'{value!r} is no number')
    return value


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f'{value!r} is no count')
    return value
