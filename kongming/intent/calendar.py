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

"""Which profile is active when, and what it meets on its host.

A calendar is worked out ahead from what hosts decide by: windows, metadata
and ownership as they are now.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import datetime
from typing import NamedTuple

from kongming.host import topology
from kongming.host import usage
from kongming.intent import merge
from kongming.template import grammar
from kongming.template import template as template_mod


class Period(NamedTuple):
    """A time in which one profile is active.

    :ivar begin: in UTC
    :ivar end: likewise, exclusive; None where nothing changes within two
        years
    :ivar profile: its name, None where none is
    """

    begin: datetime.datetime
    end: datetime.datetime | None
    profile: str | None


def periods(flavor: template_mod.Template,
            metadata: Mapping[str, str] | None, begin: datetime.datetime,
            end: datetime.datetime | None) -> Iterator[Period]:
    """What is active from one moment to another, one period after another.

    :param begin: aware of its time zone; the first period begins there
    :param end: likewise, the last one ends there; None: only the first
        period, as long as it lasts
    """
    moment: datetime.datetime | None = begin.astimezone(datetime.timezone.utc)
    last = None if end is None else end.astimezone(datetime.timezone.utc)
    while moment is not None and (last is None or moment < last):
        until = merge.next_change(flavor, metadata, moment)
        if last is not None:
            until = last if until is None else min(until, last)
        yield Period(moment, until,
                     merge.merge(flavor, metadata, moment).profile)
        moment = None if last is None else until


def effect(profile: template_mod.Profile) -> dict[str, str]:
    """What a profile says, by the keys of a flavor without their prefix."""
    prefix = f'{template_mod.PREFIX}profile.it.'
    specs = template_mod.encode(
        template_mod.Template(profiles={'it': profile}), most=None)
    return {key.removeprefix(prefix): value for key, value in specs.items()
            if key != f'{prefix}when'}


class Resident(NamedTuple):
    """A server of a host.

    :ivar name: as it is shown to people
    :ivar flavor: the template of its flavor
    :ivar metadata: all of it
    :ivar pins: dedicated vCPU -> the pCPU that it owns
    :ivar idle_siblings: those pCPUs and what else nobody may use beside it:
        siblings under the thread policy ``isolate``
    :ivar emulator_isolated: it owns a pCPU for its emulator threads, too;
        which one Nova shows to nobody
    """

    name: str
    flavor: template_mod.Template
    metadata: Mapping[str, str]
    pins: Mapping[int, int]
    idle_siblings: frozenset[int]
    emulator_isolated: bool = False


class Conflict(NamedTuple):
    """A part of a profile that its host would not obey.

    :ivar key: of the profile
    :ivar pcpus: which it names and the server has no right to
    :ivar owner: the server that owns them, None where none does
    :ivar reason: in words
    """

    key: str
    pcpus: tuple[int, ...]
    owner: str | None
    reason: str

    def __str__(self) -> str:
        return f'{self.key}: {self.reason}'


class Entry(NamedTuple):
    """A period of one server."""

    period: Period
    server: Resident
    conflicts: tuple[Conflict, ...] = ()


def of_host(residents: Sequence[Resident], host: usage.HostState,
            begin: datetime.datetime,
            end: datetime.datetime | None) -> list[Entry]:
    """The calendar of a host's servers, by time, then by name.

    Servers without profiles are in it as owners only.

    :param begin: as for :func:`periods`, and so ``end``
    """
    entries = []
    for server in residents:
        found = {name: tuple(conflicts(profile, server, residents, host))
                 for name, profile in server.flavor.profiles.items()}
        if found:
            entries += [
                Entry(period, server, found.get(period.profile or '', ()))
                for period in periods(server.flavor, server.metadata,
                                      begin, end)]
    return sorted(entries, key=lambda entry: (
        entry.period.begin, entry.server.name))


def conflicts(profile: template_mod.Profile, server: Resident,
              residents: Iterable[Resident],
              host: usage.HostState) -> Iterator[Conflict]:
    """Where a profile would have threads that its server may not have there.

    A host refuses these at run time, see :func:`kongming.live.threads.shape`.
    Lent pCPUs are no exception: the host gives them to borrowers by itself,
    and no profile names them.
    """
    reach = host.shared.union(server.pins.values())
    places = [(f'pin.{cell}', pin.targets)
              for cell, pins in sorted(profile.pins.items()) for pin in pins]
    if isinstance(profile.emulator, tuple):
        places.append(('emulator', profile.emulator))
    for key, targets in places:
        try:
            pcpus = frozenset(grammar.resolve(targets, host, server.pins))
        except grammar.Unresolvable as exc:
            yield Conflict(key, (), None, str(exc))
            continue
        beyond = pcpus - reach
        for other in residents:
            theirs = beyond & other.idle_siblings
            if theirs and other is not server:
                beyond -= theirs
                yield Conflict(
                    key, tuple(sorted(theirs)), other.name,
                    f'pCPU {topology.format_cpu_list(theirs)} is owned by '
                    f'{other.name}')
        if beyond and not (key == 'emulator' and server.emulator_isolated):
            yield Conflict(
                key, tuple(sorted(beyond)), None,
                f'pCPU {topology.format_cpu_list(beyond)} is neither its own '
                f'nor in cpu_shared_set')
