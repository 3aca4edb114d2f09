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

"""Which profile of a server is active by its load, and why.

A :class:`Decider` is fed with readings of one server, as they come:

* figures over some seconds (:data:`PERIOD`) make a condition begin, and end
  one that asks for much;
* one that asks for little ends by the figures of the last moments
  (:data:`SHORT`), since somebody else may be on the server's pCPUs.

What keeps a server from switching to and fro, beside a condition's second
threshold and its times: a limit of switches in an hour, of which two are left
whenever a profile begins, so that it can always end; and a condition that
ended soon after it began has to be true for twice as long the next time, and
so on, up to an hour.

A server of which nothing is known, because it was just started or cannot be
read, has no condition that holds.
"""

from __future__ import annotations

import collections
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
import dataclasses
import datetime
import functools

from kongming.intent import merge
from kongming.load import figures as figures_mod
from kongming.load import hysteresis
from kongming.template import condition as condition_mod
from kongming.template import template as template_mod
from kongming.template import when

#: Seconds that a figure covers at least, for what may take its time.
PERIOD = 5.0
#: Seconds that it covers for what may not.
SHORT = 0.2
#: Seconds without a reading after which nothing is known.
GAP = 60.0
#: Likewise of memory, which is read seldom.
GAP_REMOTE = 600.0
#: Switches of a server in an hour, where nobody says another number.
SWITCHES = 12
_HOUR = 3600.0
#: A condition may be made to wait for so many times what it says.
_MAX_FACTOR = 64

Met = frozenset[condition_mod.Condition]
_NONE: Met = frozenset()


@dataclasses.dataclass(frozen=True)
class Decision:
    """What is active, and why.

    :ivar profile: its name, or None
    :ivar usual: what would be, did nobody look at the load
    :ivar met: conditions that count, for kongming.intent.merge
    :ivar because: why it switched last, in words; empty: it never did
    :ivar waits: why it does not switch now, in words; empty: it need not
    """

    profile: str | None = None
    usual: str | None = None
    met: Met = _NONE
    because: str = ''
    waits: str = ''

    @property
    def by_load(self) -> bool:
        return self.profile != self.usual


class Decider:
    """Of one server.

    :ivar figures: what was measured last over some seconds; None: nothing
    :ivar decision: Decision, the last one
    """

    def __init__(self) -> None:
        self.figures: figures_mod.Figures | None = None
        self.decision = Decision()
        self._states: dict[condition_mod.Condition, hysteresis.State] = {}
        #: condition -> how many times as long it has to be true
        self._factors: dict[condition_mod.Condition, int] = {}
        #: condition -> why it has begun or ended
        self._evidence: dict[condition_mod.Condition, str] = {}
        #: figure -> when it was known last
        self._known: dict[str, float] = {}
        #: the first reading of the figures that are being collected
        self._base: figures_mod.Counters | None = None
        #: memory elsewhere, where it was read since then
        self._remote: float | None = None
        #: readings of the last moments
        self._recent: collections.deque[figures_mod.Counters] = (
            collections.deque())
        self._switches: collections.deque[float] = collections.deque()

    @property
    def is_urgent(self) -> bool:
        """Whether it has to be read often: it may want back what it gave."""
        return self.decision.by_load and any(
            state.holds and condition.below
            for condition, state in self._states.items())

    def read(self, flavor: template_mod.Template,
             counters: figures_mod.Counters | None, at: float) -> None:
        """Take in a reading.

        :param flavor: whose conditions are looked at
        :param counters: None: it could not be read
        :param at: now, by the clock of the counters
        """
        wanted = of_template(flavor)
        for known in self._states, self._factors, self._evidence:
            for condition in known.keys() - wanted:
                del known[condition]
        for condition in wanted - self._states.keys():
            self._states[condition] = hysteresis.State()
        if counters is not None:
            self._take(counters)
        for condition, state in self._states.items():
            # A clock that went back is no better than one that jumped.
            age = at - self._known.get(condition.figure, at)
            if state.holds and not 0 <= age <= (
                    GAP_REMOTE if condition.figure == condition_mod.REMOTE
                    else GAP):
                self._put(condition, state.ended(at), at)

    def _take(self, counters: figures_mod.Counters) -> None:
        last = self._recent[-1] if self._recent else None
        if last is None or not 0 <= counters.at - last.at <= GAP or (
                last.start != counters.start):
            if last is not None:
                self._end_all(counters.at)
            self._begin_at(counters)
            return
        if counters.at == last.at or self._base is None:
            return
        if figures_mod.between(last, counters) is None:
            # A counter went back: what lasts has to begin anew.
            for condition, state in self._states.items():
                self._states[condition] = state.interrupted()
            self._begin_at(counters)
            return
        if counters.remote is not None:
            self._remote = counters.remote
        self._recent.append(counters)
        while len(self._recent) > 2 and (
                counters.at - self._recent[1].at >= SHORT):
            self._recent.popleft()
        self._look_at_once(counters)
        if counters.at - self._base.at >= PERIOD:
            self._look(self._base, counters)
            self._base = counters

    def _begin_at(self, counters: figures_mod.Counters) -> None:
        self._recent.clear()
        self._recent.append(counters)
        self._base, self.figures = counters, None

    def _end_all(self, at: float) -> None:
        for condition, state in self._states.items():
            self._put(condition, state.ended(at), at)

    def _look_at_once(self, counters: figures_mod.Counters) -> None:
        """End conditions that ask for little, by the last moments."""
        found = figures_mod.between(self._recent[0], counters)
        if found is None or found.seconds < SHORT:
            return
        ended = False
        for condition, state in self._states.items():
            if state.holds and condition.below:
                self._step(condition, found, self._recent[0].at, counters.at)
                ended |= not self._states[condition].holds
        if ended:
            self._base = counters

    def _look(self, base: figures_mod.Counters,
              counters: figures_mod.Counters) -> None:
        found = figures_mod.between(base, counters)
        if found is None:
            return
        # It is read seldom, and rarely with the reading that ends a period.
        found, self._remote = found._replace(remote=self._remote), None
        remote = self.figures.remote if self.figures else None
        self.figures = found if found.remote is not None else found._replace(
            remote=remote)
        for condition in self._states:
            self._step(condition, found, base.at, counters.at)

    def _step(self, condition: condition_mod.Condition,
              found: figures_mod.Figures, begin: float, at: float) -> None:
        value = found.of(condition.figure)
        if value is not None:
            self._known[condition.figure] = at
        self._put(condition, hysteresis.step(
            self._states[condition], condition, value, begin, at,
            self._factor(condition)), at)

    def _factor(self, condition: condition_mod.Condition) -> float:
        most = max(1.0, _HOUR / condition.lasts)
        return min(self._factors.get(condition, 1), most)

    def _put(self, condition: condition_mod.Condition,
             state: hysteresis.State, at: float) -> None:
        before = self._states[condition]
        self._states[condition] = state
        if before.holds == state.holds:
            return
        self._evidence[condition] = hysteresis.because(
            before, state, condition, at)
        if before.holds and before.since is not None:
            soon = 3 * condition.lasts + 2 * condition.holds
            self._factors[condition] = (
                min(_MAX_FACTOR, 2 * self._factors.get(condition, 1))
                if at - before.since < soon else 1)

    def restore(self, switches: Iterable[float]) -> None:
        """Have switches by load count that were made before.

        :param switches: when, by the clock of :meth:`read`
        """
        self._switches = collections.deque(
            sorted([*switches, *self._switches]))

    def decide(self, flavor: template_mod.Template,
               metadata: Mapping[str, str] | None,
               moment: datetime.datetime, at: float,
               most: int = SWITCHES,
               why_not: Callable[[], str] | None = None) -> Decision:
        """What is active now.

        :param moment: of windows, aware of its time zone
        :param at: of load, as for :meth:`read`
        :param most: switches in an hour; 0: no limit
        :param why_not: why no profile may begin by load now, in words; asked
            only where one would
        """
        active = functools.partial(merge.active, flavor, metadata, moment)
        before = self.decision
        usual = active()
        met = frozenset(condition for condition, state in self._states.items()
                        if state.holds)
        profile, waits = active(met), ''
        if profile not in (before.profile, usual):
            waits = self._why_not(at, most) or (why_not() if why_not else '')
        if waits:
            waits = f'profile {profile}: {waits}'
            met &= before.met
            if active(met) != before.profile:
                met = _NONE
            profile = active(met)
        because = before.because
        if profile != before.profile:
            if before.by_load or profile != usual:
                self._switches.append(at)
            because = self._because(flavor, before, profile, usual, met)
        self.decision = Decision(profile, usual, met, because, waits)
        return self.decision

    def _why_not(self, at: float, most: int) -> str:
        """Why no profile may begin by load, in words."""
        while self._switches and not 0 <= at - self._switches[0] < _HOUR:
            self._switches.popleft()
        if not most or len(self._switches) + 2 <= most:
            return ''
        return (f'it has switched as often as it may in an hour ({most} '
                f'times)')

    def _because(self, flavor: template_mod.Template, before: Decision,
                 profile: str | None, usual: str | None, met: Met) -> str:
        if profile != usual:
            # Its window may have opened after its conditions began to hold.
            concerned = of_profiles(flavor, {profile}) & met
        else:
            concerned = of_profiles(flavor, {before.profile}) & (
                before.met - met)
        return '; '.join(self._evidence[condition]
                         for condition in sorted(concerned, key=str)
                         if condition in self._evidence) or (
            'by its windows or its metadata')

    def progress(self, at: float) -> list[str]:
        """What is on its way to begin or to end, in words."""
        found = []
        for condition, state in sorted(self._states.items(),
                                       key=lambda each: str(each[0])):
            if state.turning is not None:
                lasted = condition_mod.format_duration(
                    max(0, round(at - state.turning)))
                due = round(condition.lasts * (
                    1 if state.holds else self._factor(condition)))
                found.append(
                    f'{condition}: {"ending" if state.holds else "true"} for '
                    f'{lasted} of {condition_mod.format_duration(due)}')
        return found


@functools.lru_cache(1024)
def _conditions(whens: tuple[when.When, ...]) -> Met:
    return frozenset(when.conditions(whens))


def of_template(flavor: template_mod.Template) -> Met:
    """All conditions of a template's profiles."""
    return _conditions(tuple(
        profile.when for profile in flavor.profiles.values()))


def of_profiles(flavor: template_mod.Template,
                names: set[str | None]) -> Met:
    """Those of some of its profiles."""
    return _conditions(tuple(
        profile.when for name, profile in sorted(flavor.profiles.items())
        if name in names))
