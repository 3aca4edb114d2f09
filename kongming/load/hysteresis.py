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

"""Whether one condition holds, by figures that come one after the other."""

from __future__ import annotations

import dataclasses

from kongming.template import condition as condition_mod

#: Seconds from which on minutes are exact enough for words.
_MINUTES = 120


@dataclasses.dataclass(frozen=True)
class State:
    """Of one condition of one server.

    :ivar holds: whether it holds
    :ivar since: when it began to, or ended; None: it never did
    :ivar turning: since when figures are so that it begins or ends; None:
        they are not
    :ivar extreme: the figure that was nearest to the threshold meanwhile, or
        that has ended it, in per cent
    """

    holds: bool = False
    since: float | None = None
    turning: float | None = None
    extreme: float | None = None

    def interrupted(self) -> State:
        """Nothing is known of a time: what has to last begins anew."""
        return dataclasses.replace(self, turning=None)

    def ended(self, at: float) -> State:
        """It holds no more, as nothing is known of its server."""
        return State(False, at if self.holds else self.since)


def step(state: State, condition: condition_mod.Condition,
         value: float | None, begin: float, at: float,
         factor: float = 1) -> State:
    """Its state after one more figure.

    :param value: in per cent; None: not measured, which changes nothing
    :param begin: since when that was measured
    :param at: until when
    :param factor: how many times as long as it says the condition has to be
        true before it holds
    """
    if value is None:
        return state
    is_so = condition.ends if state.holds else condition.begins
    if not is_so(value):
        return state.interrupted() if state.turning is not None else state
    turning = begin if state.turning is None else state.turning
    worst = value if state.turning is None or state.extreme is None else (
        max if condition.below != state.holds else min)(state.extreme, value)
    lasted = at - turning
    if state.holds:
        due = (lasted >= (0 if condition.below else condition.lasts)
               and at - (state.since or 0.0) >= condition.holds)
    else:
        due = lasted >= condition.lasts * factor
    if due:
        return State(not state.holds, at, None, worst)
    return dataclasses.replace(state, turning=turning, extreme=worst)


def because(before: State, after: State, condition: condition_mod.Condition,
            at: float) -> str:
    """Why a condition has begun or ended, in words."""
    if after.extreme is None or after.turning is not None:
        return f'{condition.figure} is not known'
    turning = at if before.turning is None else before.turning
    lasted = round(at - turning)
    if lasted > _MINUTES:
        lasted = round(lasted / 60) * 60
    threshold = condition.threshold if after.holds else condition.ends_at
    side = 'below' if condition.below == after.holds else 'above'
    return (f'{condition.figure} {after.extreme:.1f}%, {side} '
            f'{condition_mod.format_percent(threshold)}'
            + (f' for {condition_mod.format_duration(lasted)}'
               if lasted else ''))
