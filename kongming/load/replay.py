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

"""The decisions that a host would have made of recorded readings."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
import dataclasses
import datetime

from kongming.intent import calendar
from kongming.load import decision
from kongming.load import recording
from kongming.template import template as template_mod

_HOUR = datetime.timedelta(hours=1)


@dataclasses.dataclass(frozen=True)
class Switch:
    """
    :ivar time: when it switched
    :ivar server: recording.Server
    :ivar before: the profile until then
    :ivar profile: the one from then on
    :ivar because: in words
    """

    time: datetime.datetime
    server: recording.Server
    before: str | None
    profile: str | None
    because: str


@dataclasses.dataclass
class Summary:
    """Of one server.

    :ivar begin: of its first reading
    :ivar end: of its last one
    :ivar seconds: profile -> how long it was active
    :ivar switches: how many there were
    :ivar most: in any hour
    :ivar waited: readings at which it would have switched, and could not
    """

    server: recording.Server
    begin: datetime.datetime
    end: datetime.datetime
    seconds: dict[str | None, float] = dataclasses.field(default_factory=dict)
    switches: int = 0
    most: int = 0
    waited: int = 0

    def percentages(self) -> list[tuple[str | None, float]]:
        """Profile and for how much of the time, in per cent; the most first.
        """
        total = sum(self.seconds.values()) or 1.0
        return [(name, 100 * seconds / total) for name, seconds in sorted(
            self.seconds.items(), key=lambda each: -each[1]) if seconds]


#: Gives the template of a server; None leaves the server out.
Choose = Callable[[recording.Server], template_mod.Template | None]


def as_recorded(server: recording.Server) -> template_mod.Template | None:
    """Its own, where it has conditions.

    :raises kongming.exception.InvalidTemplate: if it is none
    """
    found = template_mod.decode(server.specs)
    return found if decision.of_template(found) else None


class Replay:
    """:param choose: the template of each server

    :param most: switches of a server in an hour; 0: no limit
    :ivar summaries: server's id -> Summary, as far as was read
    """

    def __init__(self, choose: Choose = as_recorded,
                 most: int = decision.SWITCHES) -> None:
        self._choose, self._most = choose, most
        self.summaries: dict[str, Summary] = {}
        self._servers: dict[str, recording.Server] = {}
        self._templates: dict[str, template_mod.Template | None] = {}
        self._deciders: dict[str, decision.Decider] = {}
        self._times: dict[str, list[datetime.datetime]] = {}

    def run(self, entries: Iterable[recording.Entry]) -> Iterator[Switch]:
        """Each switch, as it comes.

        The first profile of a server, where it has one, is one.
        """
        for entry in entries:
            if isinstance(entry, recording.Server):
                self._servers[entry.id] = entry
                self._templates[entry.id] = self._choose(entry)
            else:
                yield from self._read(entry)

    def _read(self, entry: recording.Reading) -> Iterator[Switch]:
        server = self._servers[entry.server]
        template = self._templates[entry.server]
        if template is None:
            return
        decider = self._deciders.setdefault(server.id, decision.Decider())
        at = entry.counters.at
        before = decider.decision
        decider.read(template, entry.counters, at)
        found = decider.decide(template, server.metadata, entry.time, at,
                               self._most)
        summary = self.summaries.setdefault(
            server.id, Summary(server, entry.time, entry.time))
        summary.seconds[before.profile] = summary.seconds.get(
            before.profile, 0.0) + max(
                0.0, (entry.time - summary.end).total_seconds())
        summary.end = entry.time
        summary.waited += bool(found.waits)
        if found.profile != before.profile:
            summary.switches += 1
            times = [time for time in self._times.get(server.id, ())
                     if entry.time - time < _HOUR] + [entry.time]
            self._times[server.id] = times
            summary.most = max(summary.most, len(times))
            yield Switch(entry.time, server, before.profile, found.profile,
                         found.because)


def periods(entries: Iterable[recording.Entry],
            template: template_mod.Template) -> list[
                tuple[recording.Server, calendar.Period, str]]:
    """Which profile of a template would have been active when, and why.

    :returns: by server, then by time
    """
    found = Replay(lambda _server: template)
    switches: dict[str, list[Switch]] = {}
    for switch in found.run(entries):
        switches.setdefault(switch.server.id, []).append(switch)
    result = []
    for summary in found.summaries.values():
        mine = switches.get(summary.server.id, [])
        begins = [(summary.begin, None, ''), *(
            (each.time, each.profile, each.because) for each in mine)]
        ends = [each.time for each in mine] + [summary.end]
        result += [(summary.server, calendar.Period(begin, end, profile), why)
                   for (begin, profile, why), end in zip(begins, ends)
                   if begin < end]
    return result
