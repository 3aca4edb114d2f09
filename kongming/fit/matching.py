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

"""A node of its own for each cell."""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses


@dataclasses.dataclass(frozen=True)
class Conflict:
    """Cells that want fewer nodes than they are.

    :ivar nodes: all the nodes that any of these cells fits on
    """

    cells: tuple[int, ...]
    nodes: tuple[int, ...]


def match(options: Sequence[Sequence[int]]) -> list[int] | Conflict:
    """Give each cell a node of its own, by augmenting paths (Kuhn, 1955).

    Takes at most cells x cells x nodes steps, and finds a matching whenever
    there is one; where a cell has a choice, it gets the first of its nodes
    that leaves the others theirs.

    :param options: for each cell the nodes that it fits on, best first
    :returns: the node of each cell; or a set of cells whose nodes together
        are fewer than they, which exists whenever no matching does (Hall,
        1935)
    """
    first = options[0] if options else ()
    if options.count(first) == len(options) <= len(first):
        # What follows would give each new cell the first node and move the
        # others on by one.
        return list(reversed(first[:len(options)]))
    holder: dict[int, int] = {}

    def augment(cell: int, seen: set[int]) -> bool:
        for node in options[cell]:
            if node in seen:
                continue
            seen.add(node)
            if node not in holder or augment(holder[node], seen):
                holder[node] = cell
                return True
        return False

    # The pickiest cells first leave the others their best node more often.
    for cell in sorted(range(len(options)), key=lambda c: len(options[c])):
        seen: set[int] = set()
        if not augment(cell, seen):
            return Conflict(
                tuple(sorted({cell, *(holder[n] for n in seen)})),
                tuple(sorted(seen)))
    by_cell = {cell: node for node, cell in holder.items()}
    return [by_cell[cell] for cell in range(len(options))]
