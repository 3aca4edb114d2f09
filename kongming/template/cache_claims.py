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

"""What a template claims of caches and memory bandwidth."""

from __future__ import annotations

from collections.abc import Mapping

from kongming.host import usage
from kongming.template import guest as guest_mod
from kongming.template import template as template_mod

_KEY = f'{template_mod.PREFIX}cache'
_PROFILE = f'{template_mod.PREFIX}profile.'


def concerns(desired: template_mod.Template) -> bool:
    """Whether a server can have classes, now or later."""
    return bool(desired.cache
                or any(profile.cache for profile in desired.profiles.values()))


def mentioned(specs: Mapping[str, str]) -> bool:
    """Whether a flavor's extra specs say anything of it."""
    return any(key == _KEY or key.startswith(_PROFILE)
               and key.endswith('.cache') for key in specs)


def claims(desired: template_mod.Template,
           guest: guest_mod.Guest) -> dict[int, usage.CacheClaim]:
    """What each cell claims, enough for any of its profiles.

    A class whose vCPUs are in several cells is counted where the first of
    them is, its part of the cache in each, since each node has its own.
    """
    found: dict[int, usage.CacheClaim] = {}
    for entries in (desired.cache, *(profile.cache for profile
                                     in desired.profiles.values())):
        for number, cell in enumerate(guest.cells):
            vcpus = cell.dedicated | cell.shared
            here = [entry for entry in entries if not vcpus.isdisjoint(
                vcpu for part in entry.vcpus for vcpu in part.ids())]
            if here:
                before = found.get(number, usage.CacheClaim())
                found[number] = usage.CacheClaim(
                    max(before.closids,
                        sum(entry.first in vcpus for entry in here)),
                    max(before.l3, sum(entry.l3 or 0 for entry in here)),
                    before.mb or any(entry.mb for entry in here))
    return found
