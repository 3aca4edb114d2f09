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

"""What a server's metadata is to be, so that it says a template.

Metadata is the tenant's to write; :mod:`kongming.intent.merge` obeys of it
what the flavor grants.
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Mapping
import dataclasses
from typing import NamedTuple

from kongming import exception
from kongming.template import template as template_mod


class Changes(NamedTuple):
    """What to do to a server's metadata; other keys stay as they are.

    Keys are removed first, in this order: what is left of a map is at each
    moment a shorter one, never one with a gap or with a strange end.
    """

    put: dict[str, str]
    remove: list[str]

    def applied(self, metadata: Mapping[str, str]) -> dict[str, str]:
        """The metadata afterwards."""
        return {**{key: value for key, value in metadata.items()
                   if key not in self.remove}, **self.put}


def express(metadata: Mapping[str, str],
            desired: template_mod.Template) -> Changes:
    """Have metadata say a template, beside what it says of other keys.

    The end of an earlier, longer map goes.

    :raises kongming.exception.InvalidTemplate: where a value is longer than
        Nova keeps
    """
    wanted = template_mod.encode(desired)
    stale = [key for key in metadata if key not in wanted
             and any(key.startswith(f'{stem}.') for stem in wanted)]
    return Changes({key: value for key, value in wanted.items()
                    if metadata.get(key) != value}, _last_first(stale))


def unset(metadata: Mapping[str, str],
          stems: Collection[str] | None = None) -> Changes:
    """Have metadata say nothing of some keys any more.

    :param stems: such as ``pin.0``; None stands for all
    """
    mine = [key for key in metadata if key.startswith(template_mod.PREFIX)]
    if stems is not None:
        full = [template_mod.PREFIX + stem for stem in stems]
        mine = [key for key in mine if any(
            key == stem or key.startswith(f'{stem}.') for stem in full)]
    return Changes({}, _last_first(mine))


def follow(specs: Mapping[str, str], metadata: Mapping[str, str],
           wanted: template_mod.Template) -> Changes:
    """Have a server be as another template says than it was booted with.

    What only a flavor can hold (profiles, grant, borrow, balance) stays.

    :param specs: of the flavor that it was booted with
    :param metadata: its own
    :raises kongming.exception.CannotFollow: if that flavor says more than
        metadata can unset
    :raises kongming.exception.InvalidTemplate: where a value is longer than
        Nova keeps
    """
    mine = _keys(template_mod.decode(specs))
    meant = _keys(wanted)
    left = sorted(mine.keys() - meant.keys())
    if left:
        raise exception.CannotFollow(keys=', '.join(left))
    same = {key for key, value in meant.items() if mine.get(key) == value}
    said = express(metadata, template_mod.decode({
        key: value for key, value in meant.items() if key not in same}))
    # What an earlier change said, and the flavor says by itself now.
    over = unset(metadata, [key.removeprefix(template_mod.PREFIX)
                            for key in same])
    return Changes(said.put, [*over.remove, *said.remove])


def unset_others(metadata: Mapping[str, str],
                 wanted: template_mod.Template) -> Changes:
    """Unset in metadata the keys that a template says nothing of.

    The profile that is asked for stays.
    """
    meant = _keys(wanted)
    return unset(metadata, {
        stem for key in metadata if key.startswith(template_mod.PREFIX)
        and (stem := '.'.join(key.removeprefix(
            template_mod.PREFIX).split('.')[:2])) != 'profile'
        and template_mod.PREFIX + stem not in meant})


def _keys(desired: template_mod.Template) -> dict[str, str]:
    """What of it metadata may say, each map whole."""
    return template_mod.encode(dataclasses.replace(
        desired, profiles={}, grant=frozenset(), borrow=None, balance=None),
        most=None)


def _last_first(keys: Collection[str]) -> list[str]:
    return sorted(keys, reverse=True, key=lambda key: [
        (part.isdecimal(), int(part) if part.isdecimal() else 0, part)
        for part in key.split('.')])
