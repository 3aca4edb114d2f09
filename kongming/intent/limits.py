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

"""What the operator of a host lets a template do, whoever wrote it.

A flavor is an admin's and metadata are a tenant's; ``[kongming]`` in a
compute node's nova.conf is above both.  What a host's limits say of pCPUs is
known by :class:`kongming.host.usage.NodeState`, whose ``never`` no fit takes.
"""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses
from typing import Any
from typing import NamedTuple
from typing import TypeVar

from kongming import exception
from kongming.template import template as template_mod
from kongming.template import tuning


class Limits(NamedTuple):
    """The most that any template may ask for.

    :ivar max_weight: ``kongming:qos``, ``weight``
    :ivar max_realtime_priority: ``kongming:sched``, of ``fifo`` and ``rr``;
        0: neither
    """

    max_weight: int = tuning.MAX_WEIGHT
    max_realtime_priority: int = tuning.MAX_PRIORITY


#: No more than what the grammar says.
NONE = Limits()

Source = TypeVar('Source', template_mod.Template, template_mod.Profile)


def within(template: template_mod.Template, limits: Limits) -> tuple[
        template_mod.Template, tuple[exception.Problem, ...]]:
    """As much of a template as the limits allow.

    A weight or a priority that is too high becomes the highest that is
    allowed, rather than none: without a weight a vCPU could be given more.

    :returns: the template, the same one where nothing is beyond the limits,
        and what is, a problem for each key
    """
    result, problems = _lower(template, template_mod.PREFIX, limits)
    profiles = {}
    for name, profile in template.profiles.items():
        profiles[name], more = _lower(
            profile, f'{template_mod.PREFIX}profile.{name}.', limits)
        problems += more
    if not problems:
        return template, ()
    return dataclasses.replace(result, profiles=profiles), tuple(problems)


def _lower(source: Source, prefix: str, limits: Limits) -> tuple[
        Source, list[exception.Problem]]:
    """A template or a profile within the limits, and what was not."""
    problems = []
    qos = tuple(_lower_weight(entry, limits.max_weight)
                for entry in source.qos)
    if qos != source.qos:
        problems.append(_problem(
            f'{prefix}qos', source.qos,
            f'the highest weight on this host is {limits.max_weight} '
            f'([kongming] max_weight)'))
    most = limits.max_realtime_priority
    sched = tuple(lower for entry in source.sched
                  if (lower := _lower_priority(entry, most)))
    if sched != source.sched:
        problems.append(_problem(
            f'{prefix}sched', source.sched,
            (f'the highest real-time priority on this host is {most}' if most
             else 'no vCPU is scheduled in real time on this host')
            + ' ([kongming] max_realtime_priority)'))
    return dataclasses.replace(source, qos=qos, sched=sched), problems


def _problem(key: str, entries: Sequence[Any],
             reason: str) -> exception.Problem:
    return exception.Problem(key, ' '.join(map(str, entries)), 0, reason)


def _lower_weight(entry: tuning.Qos, most: int) -> tuning.Qos:
    if entry.weight is None or entry.weight <= most:
        return entry
    return dataclasses.replace(entry, weight=most)


def _lower_priority(entry: tuning.Sched, most: int) -> tuning.Sched | None:
    """None: it is scheduled as usual."""
    if entry.policy not in tuning.REALTIME or (entry.priority or 0) <= most:
        return entry
    return dataclasses.replace(entry, priority=most) if most else None
