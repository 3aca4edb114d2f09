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

"""What nova-compute has counted since it started, as it goes into a file."""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
import json
from typing import Any

from kongming import exception
from kongming.metrics import host

#: Of the layout of the file.
LAYOUT = 1
#: Upper bounds in seconds: threads take milliseconds, memory minutes.
BOUNDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
          600.0)
RESULTS = ('success', 'error')


@dataclasses.dataclass
class Durations:
    """How long something took, each time.

    :ivar counts: by :data:`BOUNDS`, and at last of those above all bounds
    """

    counts: list[int] = dataclasses.field(
        default_factory=lambda: [0] * (len(BOUNDS) + 1))
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect.bisect_left(BOUNDS, seconds)] += 1
        self.seconds += seconds

    @property
    def count(self) -> int:
        return sum(self.counts)


def _by_result() -> dict[str, Durations]:
    return {result: Durations() for result in RESULTS}


@dataclasses.dataclass
class Account:
    """The figures of one nova-compute.

    :ivar written: by the Unix clock
    :ivar last_pass: when one ended well, likewise; 0: none has
    :ivar publisher_lag: seconds for which Placement has not been told
    :ivar load_servers: how many are looked at
    :ivar advised_profiles: how many of them their load calls for another one
        of; ``advised_moves`` likewise, for another node
    :ivar load_switches: of profiles, by load; ``load_moves`` of cells
    """

    written: float = 0.0
    changes: dict[str, Durations] = dataclasses.field(
        default_factory=_by_result)
    moved_kib: int = 0
    passes: dict[str, Durations] = dataclasses.field(
        default_factory=_by_result)
    last_pass: float = 0.0
    jobs_running: int = 0
    jobs_started: int = 0
    publisher_lag: float = 0.0
    publisher_failures: int = 0
    load_servers: int = 0
    advised_profiles: int = 0
    advised_moves: int = 0
    load_switches: int = 0
    load_moves: int = 0

    def to_json(self) -> str:
        return json.dumps({'layout': LAYOUT, **dataclasses.asdict(self)},
                          separators=(',', ':'))

    @classmethod
    def from_json(cls, text: str) -> Account:
        """
        :raises kongming.exception.Invalid: if it is no account
        """
        try:
            found = json.loads(text)
            if found.pop('layout') != LAYOUT:
                raise ValueError('another layout')
            for key in ('changes', 'passes'):
                found[key] = {result: _durations(found[key][result])
                              for result in RESULTS}
            result = cls(**found)
            for field in dataclasses.fields(cls):
                if not isinstance(getattr(result, field.name),
                                  (int, float, dict)):
                    raise ValueError(f'{field.name} is no number')
            return result
        except (ValueError, TypeError, LookupError, AttributeError,
                RecursionError) as exc:
            raise exception.Invalid(
                f'it is not what nova-compute writes ({exc})') from exc

    def samples(self) -> Iterator[host.Sample]:
        """As :mod:`kongming.metrics.catalog` names them."""
        for result, taken in self.changes.items():
            yield host.Sample('kongming_live_change_duration_seconds',
                              (result,), taken)
        yield host.Sample('kongming_live_change_moved_bytes_total', (),
                          self.moved_kib * 1024)
        for result, taken in self.passes.items():
            yield host.Sample('kongming_pass_duration_seconds', (result,),
                              taken)
        for name, value in (
                ('kongming_last_pass_timestamp_seconds', self.last_pass),
                ('kongming_jobs_running', self.jobs_running),
                ('kongming_jobs_started_total', self.jobs_started),
                ('kongming_publisher_lag_seconds', self.publisher_lag),
                ('kongming_publisher_failures_total',
                 self.publisher_failures),
                ('kongming_load_servers', self.load_servers),
                ('kongming_load_switches_total', self.load_switches),
                ('kongming_load_moves_total', self.load_moves),
                ('kongming_compute_account_timestamp_seconds',
                 self.written)):
            yield host.Sample(name, (), value)
        for kind, number in (('profile', self.advised_profiles),
                             ('move', self.advised_moves)):
            yield host.Sample('kongming_load_advice', (kind,), number)


def _durations(found: Mapping[str, Any]) -> Durations:
    counts = [int(count) for count in found['counts']]
    if len(counts) != len(BOUNDS) + 1 or min(counts) < 0:
        raise ValueError('counts')
    return Durations(counts, float(found['seconds']))
