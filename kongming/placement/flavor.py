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

"""What a template puts on a flavor: its keys, and one trait.

The trait has Placement leave out hosts that obey no template.  Nothing else
is asked of it: what a server gets of the host's NUMA nodes is claimed with
the candidate that KongmingFilter lets pass (:mod:`kongming.placement.claim`).
"""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
import re

from kongming.placement import inventory
from kongming.template import template as template_mod

#: The extra spec, and its value.
TRAIT_KEY, REQUIRED = f'trait:{inventory.TRAIT_HOOK}', 'required'
GROUP_POLICY = 'group_policy'
# Builds before the first release asked for a group a cell.
_GROUP_KEY = re.compile(r'(?:resources|trait)_KM[0-9]+:CUSTOM_KONGMING\w*')


@dataclasses.dataclass(frozen=True)
class Changes:
    """What to do to a flavor's extra specs.

    :ivar put: keys to write, with their values
    :ivar remove: keys to take away, after those were written
    """

    put: Mapping[str, str]
    remove: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.put or self.remove)


def changes(old: Mapping[str, str],
            desired: template_mod.Template | None) -> Changes:
    """From a flavor's extra specs to those with this template, or none.

    Keys that are not ours stay as they are.
    """
    new: dict[str, str] = {}
    if desired is not None:
        new = {**template_mod.encode(desired), TRAIT_KEY: REQUIRED}
    ours = {key for key in old if key.startswith(template_mod.PREFIX)
            or key == TRAIT_KEY}
    ours.update(outdated(old))
    return Changes(
        {key: value for key, value in new.items() if old.get(key) != value},
        tuple(sorted(ours - new.keys())))


def outdated(specs: Mapping[str, str]) -> list[str]:
    """Keys on a flavor that builds before the first release have written.

    ``group_policy`` goes with their groups only if nobody else has a
    suffixed group.
    """
    ours = [key for key in specs if _GROUP_KEY.fullmatch(key)]
    if ours and GROUP_POLICY in specs and not any(
            re.match(r'(?:resources|trait|in_tree)[^:]+:', key)
            for key in specs if key not in ours):
        ours.append(GROUP_POLICY)
    return sorted(ours)


def without_outdated(specs: Mapping[str, str]) -> Changes:
    """From what an earlier build wrote to what is asked for now.

    The template stays as it is, readable or not.
    """
    remove = tuple(outdated(specs))
    asks = {TRAIT_KEY: REQUIRED} if (
        remove and template_mod.has_template(specs)
        and specs.get(TRAIT_KEY) != REQUIRED) else {}
    return Changes(asks, remove)
