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

"""What a server's metadata is to say, and whether the server has it."""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
from typing import NamedTuple

from kongming import exception
from kongming import grammar
from kongming import merge
from kongming import template as template_mod
from kongming import threads
from kongming import usage


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


def say(metadata: Mapping[str, str], wish: template_mod.Template) -> Changes:
    """Have metadata say a template, beside what it says of other keys.

    The end of an earlier, longer map goes.

    :raises kongming.exception.InvalidTemplate: where a value is longer than
        Nova keeps
    """
    wanted = template_mod.encode(wish)
    stale = [key for key in metadata if key not in wanted
             and any(key.startswith(f'{stem}.') for stem in wanted)]
    return Changes({key: value for key, value in wanted.items()
                    if metadata.get(key) != value}, _last_first(stale))


def take_back(metadata: Mapping[str, str],
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

    What only a flavor can hold (profiles, grant, borrow) stays.

    :param specs: of the flavor that it was booted with
    :param metadata: its own
    :raises kongming.exception.CannotFollow: if that flavor says more than
        metadata can take back
    :raises kongming.exception.InvalidTemplate: where a value is longer than
        Nova keeps
    """
    mine = _keys(template_mod.decode(specs))
    meant = _keys(wanted)
    left = sorted(mine.keys() - meant.keys())
    if left:
        raise exception.CannotFollow(keys=', '.join(left))
    same = {key for key, value in meant.items() if mine.get(key) == value}
    said = say(metadata, template_mod.decode({
        key: value for key, value in meant.items() if key not in same}))
    # What an earlier change said, and the flavor says by itself now.
    over = take_back(metadata, [key.removeprefix(template_mod.PREFIX)
                                for key in same])
    return Changes(said.put, [*over.remove, *said.remove])


def strange(metadata: Mapping[str, str],
            wanted: template_mod.Template) -> Changes:
    """Take back what metadata says of keys that a template says nothing of.

    The profile that is asked for stays.
    """
    meant = _keys(wanted)
    return take_back(metadata, {
        stem for key in metadata if key.startswith(template_mod.PREFIX)
        and (stem := '.'.join(key.removeprefix(
            template_mod.PREFIX).split('.')[:2])) != 'profile'
        and template_mod.PREFIX + stem not in meant})


def _keys(wish: template_mod.Template) -> dict[str, str]:
    """What of it metadata may say, each map whole."""
    return template_mod.encode(dataclasses.replace(
        wish, profiles={}, grant=frozenset(), borrow=None), most=None)


def _last_first(keys: Collection[str]) -> list[str]:
    return sorted(keys, reverse=True, key=lambda key: [
        (part.isdecimal(), int(part) if part.isdecimal() else 0, part)
        for part in key.split('.')])


#: A cell's host node and what its dedicated vCPUs own: vCPU -> pCPU.
Cell = tuple[int, Mapping[int, int]]


def reads_host(wish: template_mod.Template) -> bool:
    """Whether a host has to be known to tell what is unmet of a template.

    Nodes and pCPUs that are named by their ids say all by themselves.
    """
    return bool(wish.emulator or wish.iothreads or wish.sched) or any(
        pin.floats or not all(isinstance(target, grammar.Range)
                              for target in pin.targets)
        for pins in wish.pins.values() for pin in pins)


def unmet(wish: template_mod.Template, cells: Sequence[Cell],
          host: usage.HostState, emulator_isolated: bool) -> list[str]:
    """What of a template a server does not have, in words.

    :param cells: in their order
    :param host: any will do unless :func:`reads_host`
    :param emulator_isolated: the pCPU owned for emulator threads is told
        nobody, so nothing is said of them
    """
    found = []
    for number, node in sorted(wish.nodes.items()):
        if number >= len(cells):
            found.append(f'cell {number}: the server has {len(cells)} NUMA '
                         f'cell(s), counted from 0')
        elif cells[number][0] != node:
            found.append(f'cell {number} is on node {cells[number][0]}, not '
                         f'on node {node}')
    owned = {vcpu: pcpu for _node, pins in cells
             for vcpu, pcpu in pins.items()}
    for number, pins in sorted(wish.pins.items()):
        for pin in pins:
            if not pin.floats:
                found.extend(_elsewhere(number, pin, owned, host))
    return found + _not_obeyed(wish, owned, host, emulator_isolated)


def _elsewhere(number: int, pin: grammar.Pin, owned: Mapping[int, int],
               host: usage.HostState) -> list[str]:
    try:
        pcpus = grammar.resolve(pin.targets, host)
    except grammar.Unresolvable as exc:
        return [f'cell {number}: {exc}']
    return [f'vCPU {vcpu} owns pCPU {owned[vcpu]}, not pCPU {pcpu}'
            if vcpu in owned else f'vCPU {vcpu} owns no pCPU'
            for vcpu, pcpu in zip(pin.vcpu_ids(), pcpus)
            if owned.get(vcpu) != pcpu]


def _not_obeyed(wish: template_mod.Template, owned: Mapping[int, int],
                host: usage.HostState, emulator_isolated: bool) -> list[str]:
    """As the host finds it when it places the threads."""
    nowhere: frozenset[int] = frozenset()
    if emulator_isolated:
        wish = dataclasses.replace(wish, emulator=None)
    default = threads.Threads(
        {vcpu: nowhere for pins in wish.pins.values() for pin in pins
         for vcpu in pin.vcpu_ids()},
        nowhere,
        # How many the server has is not known here.
        dict.fromkeys(range(1, max(wish.iothreads, default=0) + 1), nowhere))
    return threads.shape(default, host, threads.Owned(owned),
                         merge.Intent(wish))[1]
