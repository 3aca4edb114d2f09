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

"""What is to be done next so that a guest's cells are on their nodes.

.. code-block:: none

    slices                              whole
    emulator's cpuset.mems: + b         migrate_pages {a} -> {b}
    slices of the cell's mapping -> b
              cpuset.mems of all groups: {.., b}, without a
              what is still elsewhere, by exact slices

A write of ``cpuset.mems`` moves what is left and rebinds the policy, but holds
a lock for which each change of a pCPU set on the host waits: so most pages
move before.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
from typing import NamedTuple

from kongming import exception
from kongming.host import topology
from kongming.memory import maps
from kongming.memory import order

#: The thread group whose nodes are widened; that of the process itself.
EMULATOR = 'emulator'
#: How often what a cell has elsewhere is moved before its policy is rebound;
#: a busy guest comes to have pages there meanwhile.
ROUNDS = 2
#: What may be left to the rebinding.
LITTLE_KIB = 16 * 1024


@dataclasses.dataclass(frozen=True)
class Seen:
    """A process, as the kernel tells of it.

    :ivar cells: the memory of each cell
    :ivar groups: thread group -> its ``cpuset.mems``
    """

    cells: tuple[maps.Mapping, ...]
    groups: Mapping[str, frozenset[int]]


class Widen(NamedTuple):
    """Let the emulator's group have these nodes: a move needs its target."""

    nodes: frozenset[int]


class Migrate(NamedTuple):
    """Move all that the process has on some nodes to another one."""

    cell: int
    sources: frozenset[int]
    node: int


class Sweep(NamedTuple):
    """Move what a cell has elsewhere to its node, slice by slice."""

    cell: int
    node: int


class Bind(NamedTuple):
    """Let each thread group have these nodes, and no others."""

    nodes: frozenset[int]


Action = Widen | Migrate | Sweep | Bind


def next_action(seen: Seen, goal: Sequence[int], whole: bool,
                rounds: Mapping[int, int]) -> Action | None:
    """What to do next; None where all is as it is to be.

    :param goal: the node that each cell is to be on
    :param whole: whether all pages of a process may be moved in one call
    :param rounds: cell -> how often it was swept or migrated already
    :raises kongming.exception.NotMoved: if the kernel would bind, or has
        bound, a cell to another node
    """
    nodes = frozenset(goal)
    if all(group == nodes for group in seen.groups.values()):
        _check_bound(seen, goal)
        for cell, node in enumerate(goal):
            if seen.cells[cell].elsewhere_kib(node):
                return Sweep(cell, node)
        return None
    for cell, node in enumerate(goal):
        left = seen.cells[cell].elsewhere_kib(node)
        done = rounds.get(cell, 0)
        if done >= ROUNDS or left <= (LITTLE_KIB if done else 0):
            continue
        sources = frozenset(seen.cells[cell].kib) - {node}
        if whole and not sources & nodes:
            return Migrate(cell, sources, node)
        if node not in seen.groups[EMULATOR]:
            return Widen(seen.groups[EMULATOR] | nodes)
        return Sweep(cell, node)
    _check_order(seen, goal)
    return Bind(nodes)


def _check_order(seen: Seen, goal: Sequence[int]) -> None:
    now = [min(cell.nodes, default=node)
           for cell, node in zip(seen.cells, goal)]
    if len(now) > 1 and order.ranks(now) != order.ranks(goal):
        raise exception.NotMoved(
            f'the kernel would bind its cells, now on node '
            f'{", ".join(map(str, now))}, in another order than to node '
            f'{", ".join(map(str, goal))}; a hard reboot binds them')


def _check_bound(seen: Seen, goal: Sequence[int]) -> None:
    for number, (cell, node) in enumerate(zip(seen.cells, goal)):
        if not cell.policy_is_of_file and not cell.is_bound_to(node):
            raise exception.NotMoved(
                f'the kernel has cell {number} bound to node '
                f'{topology.format_cpu_list(cell.nodes)} and not to node '
                f'{node}; a hard reboot binds it')


def stale_policies(seen: Seen, goal: Sequence[int]) -> tuple[int, ...]:
    """Cells whose memfd goes on being bound to another node.

    What these touch for the first time comes into being there.
    """
    return tuple(
        number for number, (cell, node) in enumerate(zip(seen.cells, goal))
        if cell.policy_is_of_file and not cell.is_bound_to(node))


def left(seen: Seen, goal: Sequence[int]) -> str:
    """In words, what is not as it is to be."""
    found = [
        f'{cell.elsewhere_kib(node) // cell.page_kib} pages of '
        f'{cell.page_kib} KiB of cell {number} are on node '
        f'{topology.format_cpu_list(set(cell.kib) - {node})} and not on node '
        f'{node}'
        for number, (cell, node) in enumerate(zip(seen.cells, goal))
        if cell.elsewhere_kib(node)]
    found += [
        f'cpuset.mems of {name} is {topology.format_cpu_list(group)}'
        for name, group in sorted(seen.groups.items())
        if group != frozenset(goal)]
    return '; '.join(found)


def is_there(seen: Seen, goal: Sequence[int]) -> bool:
    """Whether pages, policies and thread groups are as they are to be."""
    return not left(seen, goal) and all(
        cell.policy_is_of_file or cell.is_bound_to(node)
        for cell, node in zip(seen.cells, goal))
