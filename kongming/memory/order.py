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

"""The order of a guest's cells, which the kernel keeps.

A write of ``cpuset.mems`` binds each policy to the node that has the same
rank in the new set.  The lowest node stays the lowest cell's, whatever is
written.
"""

from __future__ import annotations

from collections.abc import Sequence


def remap(node: int, old: frozenset[int], new: frozenset[int]) -> int:
    """Where the kernel binds what was bound to a node.

    :param old: the set that the policy was bound in
    :param new: the set that is written, not empty
    :returns: the node of the same rank; the node itself where it is not in
        the old set (``lib/bitmap.c``, ``bitmap_remap``)
    """
    if node not in old:
        return node
    return sorted(new)[sorted(old).index(node) % len(new)]


def ranks(nodes: Sequence[int]) -> tuple[int, ...]:
    """The rank of each cell among the others.

    :param nodes: of each cell, all different
    """
    ascending = sorted(nodes)
    return tuple(ascending.index(node) for node in nodes)


def why_not(before: Sequence[int], after: Sequence[int]) -> str:
    """Why the cells of a running guest can't change nodes so; empty: they can.

    :param before: node of each cell
    :param after: node that each cell is to be on
    """
    if len(set(after)) < len(after):
        return 'two of its cells are to be on one node'
    if ranks(before) == ranks(after):
        return ''
    for one, (low, first) in enumerate(zip(before, after)):
        for other, (high, last) in enumerate(zip(before, after)):
            if low < high and first > last:
                return (
                    f'cell {one} is on a lower node than cell {other} '
                    f'({low}, {high}) and is to be on a higher one ({first}, '
                    f'{last}); the kernel keeps the order of the cells of a '
                    f'running guest. A hard reboot starts it in another '
                    f'order, where its template asks for it at a boot or a '
                    f'move')
    raise AssertionError('ranks differ, so two cells change their order')


def keeps(nodes: Sequence[int], cell: int, target: int) -> bool:
    """Whether one cell can go to a node while the others stay.

    :param nodes: of each cell now
    """
    after = [*nodes]
    after[cell] = target
    return not why_not(nodes, after)


def steps(before: Sequence[int],
          after: Sequence[int]) -> list[tuple[int, int]]:
    """One cell after the other, each in an order that the kernel keeps.

    :returns: (cell, node that it goes to)
    :raises ValueError: where :func:`why_not` says why not
    """
    reason = why_not(before, after)
    if reason:
        raise ValueError(reason)
    now = [*before]
    left = [cell for cell, node in enumerate(before) if node != after[cell]]
    found = []
    while left:
        # The highest of those that go up can always go, or the lowest of
        # those that go down: nothing that stays is in between.
        cell = next(cell for cell in left if keeps(now, cell, after[cell]))
        now[cell] = after[cell]
        left.remove(cell)
        found.append((cell, after[cell]))
    return found
