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

"""Drift: where a server of a deployment is not as the document says.

Metadata changes of a running server what its flavor grants; the rest is a
problem of the plan.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping

from kongming.deployment import deployment as dep
from kongming import exception
from kongming.host import usage
from kongming.intent import merge
from kongming.live import drift
from kongming.live import qos
from kongming.template import metadata as metadata_mod
from kongming.template import template as template_mod


def facts(flavor: dep.FoundFlavor) -> tuple[int, int, int]:
    """vCPUs, MiB of memory and GiB of disk."""
    return flavor.vcpus, flavor.ram_mib, flavor.disk_gib


def elsewhere(server: dep.Server, found: dep.FoundServer,
              images: Mapping[str, str | None]
              ) -> Iterator[tuple[str, str, str]]:
    """Where a server that is there is another one: place, value, reason."""
    if server.host is not None and found.host not in (None, server.host):
        yield ('.host', server.host, f"it is on {found.host}; 'openstack "
                                     f"server migrate' moves it")
    wanted = images.get(server.image)
    if wanted is not None and found.image not in (None, wanted):
        yield ('.image', server.image,
               f"it was booted from another image ({found.image}); "
               f"'openstack server rebuild' changes that")


def other_flavor(found: dep.FoundServer,
                 flavor: dep.Flavor) -> Iterator[str]:
    """What no change of metadata makes of a server."""
    booted = found.flavor
    for what, have, want in zip(('vcpus', 'ram', 'disk'), facts(booted), (
            flavor.vcpus, flavor.ram_mib, flavor.disk_gib)):
        if have != want:
            yield f'it was booted with {what} {have}, not {want}'
    old, new = dep.native(booted.specs), dep.native(flavor.properties)
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) != new.get(key):
            yield (f'it was booted with {key} {old.get(key, "unset")}, not '
                   f'{new.get(key, "unset")}')


def meant_by(found: dep.FoundServer, flavor: dep.Flavor) -> tuple[
        metadata_mod.Changes, template_mod.Template, list[str]]:
    """Its metadata's changes, what it is meant to be, and what can't be."""
    try:
        booted = template_mod.decode(found.flavor.specs)
        changes = metadata_mod.follow(found.flavor.specs, found.metadata,
                                      flavor.desired)
    except exception.KongmingError as exc:
        return metadata_mod.Changes({}, []), flavor.desired, [str(exc)]
    strange = metadata_mod.unset_others(changes.applied(found.metadata),
                                        flavor.desired)
    changes = metadata_mod.Changes(changes.put,
                                   [*changes.remove, *strange.remove])
    reasons = [f'it keeps the {field} of the flavor that it was booted with'
               for field in ('profiles', 'grant', 'borrow', 'balance')
               if getattr(booted, field) != getattr(flavor.desired, field)]
    intent = merge.merge(booted, changes.applied(found.metadata),
                         quota=qos.native(found.flavor.specs).quota)
    reasons += [str(refused) for refused in intent.refused
                if refused.key in changes.put]
    return changes, intent.base, reasons


def reasons(found: dep.FoundServer, flavor: dep.FoundFlavor,
            layout: usage.HostState | None) -> list[str]:
    """What a server is not, and by its flavor as it is now is meant to be.

    :param layout: its host, where that is known
    """
    meant = dep.Flavor(*facts(flavor), dep.native(flavor.specs),
                       template_mod.decode(flavor.specs))
    changes, desired, never = meant_by(found, meant)
    words = dep.words(changes.put, changes.remove)
    why = [*other_flavor(found, meant), *never, *(
        [f'its metadata is to be changed: {words}'] if words else [])]
    if layout is not None and found.cells:
        why += drift.unmet(desired, found.cells, layout,
                           meant.guest.emulator_isolated)
    return why


def is_as_its_flavor(found: dep.FoundServer) -> bool:
    """Whether it has the cells that its flavor alone makes."""
    cells = found.guest.cells
    return [cell.dedicated for cell in cells] == [
        pins.keys() for _node, pins in found.cells]
