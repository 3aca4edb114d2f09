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

"""What a template puts on a flavor: its keys, and a request to Placement.

Each cell is one granular group, since ``same_subtree`` can't be asked for
from a flavor.  pCPUs given by their id are claimed each by its own class,
others are counted.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping
import dataclasses
import re

from kongming.host import usage
from kongming.placement import inventory
from kongming.template import cache_claims
from kongming.template import grammar
from kongming.template import guest as guest_mod
from kongming.template import template as template_mod

GROUP_POLICY = 'group_policy'


def group(cell: int) -> str:
    """The suffix of a cell's granular resource group."""
    return f'_KM{cell}'


_GROUP = re.compile('_KM([0-9]+)')


def cell_of_group(suffix: str) -> int | None:
    """The cell whose group a suffix names; None for foreign groups."""
    match = _GROUP.fullmatch(suffix)
    return int(match[1]) if match else None


_GROUP_KEY = re.compile(r'(?:resources|trait)_KM[0-9]+:CUSTOM_KONGMING\w*')


def asked_groups(specs: Mapping[str, str]) -> dict[int, dict[str, int]]:
    """What a flavor asks Placement for: cell -> resource class -> amount."""
    asked: dict[int, dict[str, int]] = {}
    for key, value in specs.items():
        match = _RESOURCES_KEY.fullmatch(key)
        if match and value.isdecimal() and int(value):
            asked.setdefault(int(match[1]), {})[match[2]] = int(value)
    return asked


_RESOURCES_KEY = re.compile(r'resources_KM([0-9]+):(CUSTOM_KONGMING\w*)')


def is_group_key(key: str) -> bool:
    """Whether an extra spec was written by :func:`groups`."""
    return _GROUP_KEY.fullmatch(key) is not None


def groups(template: template_mod.Template,
           guest: guest_mod.Guest) -> dict[str, str]:
    """Extra specs by which a flavor asks Placement for what it will use."""
    specs: dict[str, str] = {}
    claims = cache_claims.claims(template, guest)
    for number, cell in enumerate(guest.cells):
        resources = f'resources{group(number)}'
        pcpus = len(cell.dedicated)
        if guest.emulator_isolated and number == 0:
            pcpus += 1
        if pcpus:
            specs[f'{resources}:{inventory.PCPU}'] = str(pcpus)
        for pcpu in _ids_of(template.pins.get(number, ())):
            specs[f'{resources}:{inventory.pcpu_class(pcpu)}'] = '1'
        if cell.shared:
            specs[f'{resources}:{inventory.VCPU}'] = str(len(cell.shared))
        if cell.page_kib in inventory.PAGES:
            specs[f'{resources}:{inventory.PAGES[cell.page_kib]}'] = str(
                cell.memory_mib * 1024 // cell.page_kib)
        elif cell.page_kib is None or cell.page_kib == -1:
            specs[f'{resources}:{inventory.MEMORY_MB}'] = str(cell.memory_mib)
        traits = [inventory.TRAIT_HOOK]
        claim = claims.get(number, usage.CacheClaim())
        if claim.closids:
            specs[f'{resources}:{inventory.CLOSID}'] = str(claim.closids)
        if claim.l3:
            specs[f'{resources}:{inventory.L3}'] = str(claim.l3)
            traits.append(inventory.TRAIT_CAT)
        if claim.mb:
            traits.append(inventory.TRAIT_MBA)
        if number in template.nodes:
            traits.append(inventory.node_trait(template.nodes[number]))
        for trait in traits:
            specs[f'trait{group(number)}:{trait}'] = 'required'
    if len(guest.cells) > 1:
        # isolate would bind every suffixed group of the request, those of
        # ports and PCI devices too; where traits part the cells already
        # there is no need for it.
        named = all(n in template.nodes for n in range(len(guest.cells)))
        specs[GROUP_POLICY] = 'none' if named else 'isolate'
    return specs


def ungranted(claims: Mapping[int, usage.CacheClaim],
              granted: Iterable[Mapping[str, int]]) -> str | None:
    """Why a server is not to have what it claims of caches, or None.

    :param claims: cell -> what it claims
    :param granted: what Placement has granted it of each node
    """
    granted = list(granted)
    for name, amount in (
            (inventory.CLOSID, sum(c.closids for c in claims.values())),
            (inventory.L3, sum(c.l3 for c in claims.values()))):
        found = sum(resources.get(name, 0) for resources in granted)
        if found < amount:
            return (f'cache: it needs {amount} of {name} and Placement has '
                    f'granted {found} on this host; the flavor has to ask '
                    f"for it, as 'openstack kongming template set' writes it")
    return None


def _ids_of(pins: Iterable[grammar.Pin]) -> list[int]:
    return sorted(
        pcpu for pin in pins if not pin.floats
        for target in pin.targets if isinstance(target, grammar.Range)
        for pcpu in target.ids())


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


def changes(old: Mapping[str, str], desired: template_mod.Template | None,
            guest: guest_mod.Guest | None) -> Changes:
    """From a flavor's extra specs to those with this template, or none.

    Keys that are not ours stay as they are; ``group_policy`` goes with our
    groups only if nobody else has a suffixed group.
    """
    new: dict[str, str] = {}
    if desired is not None and guest is not None:
        new = {**template_mod.encode(desired), **groups(desired, guest)}
    ours = [key for key in old
            if key.startswith(template_mod.PREFIX) or is_group_key(key)]
    foreign_groups = any(
        re.match(r'(?:resources|trait|in_tree)[^:]+:', key)
        for key in old if key not in ours)
    if foreign_groups and GROUP_POLICY in old:
        # Whoever wrote the other groups has decided it.
        new.pop(GROUP_POLICY, None)
    elif ours and GROUP_POLICY in old:
        ours.append(GROUP_POLICY)
    return Changes(
        {key: value for key, value in new.items() if old.get(key) != value},
        tuple(sorted(key for key in ours if key not in new)))
