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

"""The desired state: flavor, granted metadata and active profile as one.

A flavor is the admin's, metadata is the tenant's: nothing in metadata is
obeyed beyond the flavor's grant, nor beyond what the flavor itself says of a
vCPU (:mod:`kongming.intent.ceiling`) or the host's limits.  Intent that is
refused is reported, and has no effect; of the keys that overlay the template,
all are obeyed or none, since half of a new placement is no placement.

Precedence: a profile that the metadata names (and the flavor grants) wins over
the windows; of several profiles whose windows are open at a moment, the first
by name is active.  Whether the conditions of a window's clause hold is an
argument (:mod:`kongming.template.when`); none holds where it is left out.
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Mapping
import dataclasses
import datetime

from kongming import exception
from kongming.intent import ceiling
from kongming.intent import limits as limits_mod
from kongming.template import condition
from kongming.template import grammar
from kongming.template import template as template_mod
from kongming.template import tuning
from kongming.template import when
from kongming.template import window

_NOTHING = template_mod.Profile()
_PROFILE = f'{template_mod.PREFIX}profile'
#: So many problems are reported one by one; a tenant can make many.
_MOST_NAMED = 8

#: Field of the template -> the grant that lets metadata overlay it.
_NEEDS = {'nodes': 'template', 'pins': 'template', 'memory': 'template',
          'emulator': 'template', 'iothreads': 'template',
          'sched': 'template', 'qos': 'qos', 'cache': 'qos'}


@dataclasses.dataclass(frozen=True)
class Intent:
    """The desired state of a server.

    :ivar base: the template that ownership follows: the flavor's with what
        metadata was granted
    :ivar profile: name of the active profile, or None
    :ivar refused: metadata that was not obeyed, and why; of many the first
        ones, and the number of the others
    :ivar beyond: whether that is because of the host's limits

    What is owned is the base's to say; a profile says where threads *run*.
    """

    base: template_mod.Template
    profile: str | None = None
    refused: tuple[exception.Problem, ...] = ()
    beyond: bool = False

    @property
    def overlay(self) -> template_mod.Profile:
        """The active profile; one that says nothing where none is."""
        if self.profile is None:
            return _NOTHING
        return self.base.profiles[self.profile]

    @property
    def emulator(self) -> grammar.Threads | None:
        """Where the emulator threads run now."""
        overlay = self.overlay.emulator
        return self.base.emulator if overlay is None else overlay

    @property
    def sched(self) -> tuple[tuning.Sched, ...]:
        """How vCPUs are scheduled now."""
        return self.overlay.sched or self.base.sched

    @property
    def qos(self) -> tuple[tuning.Qos, ...]:
        """The QoS of vCPUs now."""
        return self.overlay.qos or self.base.qos

    @property
    def cache(self) -> tuple[tuning.Cache, ...]:
        """The classes of vCPUs for caches and memory bandwidth now."""
        return self.overlay.cache or self.base.cache


def merge(flavor: template_mod.Template,
          metadata: Mapping[str, str] | None = None,
          moment: datetime.datetime | None = None,
          limits: limits_mod.Limits = limits_mod.NONE,
          quota: int | None = None,
          met: Collection[condition.Condition] = ()) -> Intent:
    """What a server is to be at a moment.

    :param metadata: the server's, all of it; other keys are skipped
    :param moment: aware of its time zone; None leaves windows unasked
    :param limits: of the host, for metadata; the flavor's template is within
        them
    :param quota: by Nova's flavor, see :func:`kongming.intent.ceiling.above`
    :param met: conditions of its profiles that hold
    """
    mine = template_mod.ours(metadata or {})
    wanted = mine.pop(_PROFILE, None)
    refused: list[exception.Problem] = []
    base, beyond = flavor, False
    if mine:
        base = _overlay(flavor, mine, refused, quota)
        _within, more = limits_mod.within(base, limits)
        if more and base is not flavor:
            base, beyond = flavor, True
            refused.extend(more)
    profile = None
    if wanted is not None:
        profile = _requested(flavor, wanted, refused)
    if profile is None and moment is not None:
        profile = _open(flavor, moment, met)
    return Intent(base, profile, _few(refused), beyond)


def _few(refused: list[exception.Problem]) -> tuple[exception.Problem, ...]:
    more = len(refused) - _MOST_NAMED
    if more <= 0:
        return tuple(refused)
    return (*refused[:_MOST_NAMED], exception.Problem(
        f'{template_mod.PREFIX}*', '...', 0, f'{more} more are not obeyed'))


def next_change(flavor: template_mod.Template,
                metadata: Mapping[str, str] | None,
                moment: datetime.datetime,
                met: Collection[condition.Condition] = ()
                ) -> datetime.datetime | None:
    """When windows make another profile active, or none.

    :param moment: aware of its time zone
    :param met: conditions that hold, and go on to
    :returns: after ``moment``, in UTC; None where metadata names the profile,
        or nothing changes within two years
    """
    wanted = (metadata or {}).get(_PROFILE)
    if wanted is not None and _requested(flavor, wanted, []) is not None:
        return None
    current = _open(flavor, moment, met)
    # While a profile is active those after it by name have no say.
    return min(filter(None, (
        window.next_change(when.windows(profile.when, met), moment)
        for name, profile in flavor.profiles.items()
        if current is None or name <= current)), default=None)


def active(flavor: template_mod.Template, metadata: Mapping[str, str] | None,
           moment: datetime.datetime,
           met: Collection[condition.Condition] = ()) -> str | None:
    """The profile that :func:`merge` finds active, and nothing else of it."""
    wanted = (metadata or {}).get(_PROFILE)
    if wanted is not None:
        requested = _requested(flavor, wanted, [])
        if requested is not None:
            return requested
    return _open(flavor, moment, met)


def _open(flavor: template_mod.Template, moment: datetime.datetime,
          met: Collection[condition.Condition]) -> str | None:
    """The first profile by name that has a clause which is true."""
    return next((
        name for name in sorted(flavor.profiles) if window.active(
            when.windows(flavor.profiles[name].when, met), moment)), None)


def _requested(flavor: template_mod.Template, wanted: str,
               refused: list[exception.Problem]) -> str | None:
    """The profile that metadata names, if it may; None for the windows."""
    name = wanted.strip()
    if 'profile' not in flavor.grant:
        reason = 'the flavor grants no choice of profile (kongming:grant)'
    elif name == template_mod.AUTO:
        return None
    elif name not in flavor.profiles:
        known = ', '.join([*sorted(flavor.profiles), template_mod.AUTO])
        reason = f'the flavor has no such profile; it has {known}'
    else:
        return name
    refused.append(exception.Problem(_PROFILE, wanted, 0, reason))
    return None


def _overlay(flavor: template_mod.Template, mine: Mapping[str, str],
             refused: list[exception.Problem],
             quota: int | None) -> template_mod.Template:
    # What is not granted is not even read, so that it costs nothing.
    problems = [
        exception.Problem(key, mine[key], 0, reason)
        for key in sorted(mine)
        if (reason := _forbidden(key, flavor.grant))]
    if problems:
        refused.extend(problems)
        return flavor
    try:
        asked = template_mod.decode(mine)
    except exception.InvalidTemplate as exc:
        refused.extend(exc.problems)
        return flavor
    problems = list(ceiling.above(asked, flavor, quota))
    if problems:
        refused.extend(problems)
        return flavor
    return dataclasses.replace(
        flavor,
        nodes={**flavor.nodes, **asked.nodes},
        pins={**flavor.pins, **asked.pins},
        memory={**flavor.memory, **asked.memory},
        iothreads={**flavor.iothreads, **asked.iothreads},
        emulator=(flavor.emulator if asked.emulator is None
                  else asked.emulator),
        sched=asked.sched or flavor.sched,
        qos=asked.qos or flavor.qos,
        cache=asked.cache or flavor.cache)


def _forbidden(key: str, grant: frozenset[str]) -> str | None:
    """Why metadata may not hold a key, or None."""
    stem = key.removeprefix(template_mod.PREFIX).split('.')[0]
    if stem in ('grant', 'profile', 'borrow', 'balance'):
        return 'only a flavor says that'
    kind = template_mod.TEMPLATE_KEYS.get(stem)
    if kind is None:
        # There is no such key, as the reader says if there is one to ask.
        return None if grant.intersection(_NEEDS.values()) else (
            'the flavor grants nothing of the kind (kongming:grant)')
    needed = _NEEDS[kind.field]
    if needed not in grant:
        return f"it needs the grant '{needed}' of the flavor (kongming:grant)"
    return None
