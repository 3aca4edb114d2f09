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

"""Flavor, granted metadata and active profile made one wish.

A flavor is the admin's, metadata is the tenant's: nothing in metadata is
obeyed beyond the flavor's grant.  Intent that is refused is told, and has no
effect; of the keys that overlay the template, all are obeyed or none, since
half of a new placement is no placement.

Precedence: a profile that the metadata names (and the flavor grants) wins over
the windows; of several profiles whose windows are open at a moment, the first
by name is active.
"""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
import datetime

from kongming import exception
from kongming import template as template_mod
from kongming import window

_PROFILE = f'{template_mod.PREFIX}profile'

#: Field of the template -> the grant that lets metadata overlay it.
_NEEDS = {'nodes': 'template', 'pins': 'template', 'memory': 'template',
          'emulator': 'template', 'iothreads': 'template',
          'sched': 'template', 'qos': 'qos'}


@dataclasses.dataclass(frozen=True)
class Intent:
    """What a server is to be.

    :ivar base: the template that ownership follows: the flavor's with what
        metadata was granted
    :ivar profile: name of the active profile, or None
    :ivar refused: metadata that was not obeyed, and why
    """

    base: template_mod.Template
    profile: str | None = None
    refused: tuple[exception.Problem, ...] = ()

    @property
    def now(self) -> template_mod.Template:
        """The base with the active profile laid over it.

        It says where threads *run*; what is owned is the base's to say.
        """
        if self.profile is None:
            return self.base
        overlay = self.base.profiles[self.profile]
        return dataclasses.replace(
            self.base,
            pins={**self.base.pins, **overlay.pins},
            emulator=(self.base.emulator if overlay.emulator is None
                      else overlay.emulator),
            sched=overlay.sched or self.base.sched,
            qos=overlay.qos or self.base.qos)


def merge(flavor: template_mod.Template,
          metadata: Mapping[str, str] | None = None,
          moment: datetime.datetime | None = None) -> Intent:
    """What a server is to be at a moment.

    :param metadata: the server's, all of it; other keys are skipped
    :param moment: aware of its time zone; None leaves windows unasked
    """
    mine = {key: value for key, value in (metadata or {}).items()
            if key.startswith(template_mod.PREFIX)}
    wanted = mine.pop(_PROFILE, None)
    refused: list[exception.Problem] = []
    base = _overlay(flavor, mine, refused)
    profile = None
    if wanted is not None:
        profile = _requested(flavor, wanted, refused)
    if profile is None and moment is not None:
        profile = next(
            (name for name in sorted(flavor.profiles)
             if window.active(flavor.profiles[name].when, moment)), None)
    return Intent(base, profile, tuple(refused))


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
             refused: list[exception.Problem]) -> template_mod.Template:
    if not mine:
        return flavor
    try:
        asked = template_mod.decode(mine)
    except exception.InvalidTemplate as exc:
        refused.extend(exc.problems)
        return flavor
    problems = [
        exception.Problem(key, mine[key], 0, reason)
        for key in sorted(mine)
        if (reason := _forbidden(key, flavor.grant))]
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
        qos=asked.qos or flavor.qos)


def _forbidden(key: str, grant: frozenset[str]) -> str | None:
    """Why metadata may not hold a key, or None."""
    stem = key.removeprefix(template_mod.PREFIX).split('.')[0]
    if stem in ('grant', 'profile'):
        return 'only a flavor says that'
    needed = _NEEDS[template_mod.TEMPLATE_KEYS[stem].field]
    if needed not in grant:
        return f"it needs the grant '{needed}' of the flavor (kongming:grant)"
    return None
