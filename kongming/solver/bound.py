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

"""What no layout can do better, found by counting alone.

Every server of which a cell needs at least ``v`` pCPUs takes as many of one
node, of which a node with ``f`` free ones has ``f // v``; and all servers
together take no more than there is.  Where a solver has not proven more, this
is the bound.
"""

from __future__ import annotations

from kongming.solver import problem as problem_mod


def bound(problem: problem_mod.Problem) -> tuple[int, ...]:
    """A lower bound of the score.

    The levels after the first are for layouts in which nobody is left
    out, which is right where the first is 0, and else they are 0.
    """
    free = sorted((node.n_free for state in problem.hosts.values()
                   for node in state.nodes), reverse=True)
    needs = sorted(sum(cell.need for cell in ask.shapes[0].cells)
                   for ask in problem.asks)
    unplaced = max(_by_total(needs, sum(free)), _by_cell(problem, free), 0)
    values = {'unplaced': unplaced}
    if unplaced == 0:
        values['cells'] = sum(min(len(shape.cells) for shape in ask.shapes)
                              for ask in problem.asks)
        values['hosts'] = _hosts(problem, sum(needs))
        values['peak'] = _peak(problem, sum(needs))
    return tuple(values.get(level, 0) for level in problem.levels)


def _by_total(needs: list[int], free: int) -> int:
    """How many are left when the small ones have filled everything."""
    for number, need in enumerate(needs):
        free -= need
        if free < 0:
            return len(needs) - number
    return 0


def _by_cell(problem: problem_mod.Problem, free: list[int]) -> int:
    # Of several shapes the one with the smallest cells is the easiest.
    largest = [min(max((cell.need for cell in shape.cells), default=0)
                   for shape in ask.shapes) for ask in problem.asks]
    return max((sum(need >= v for need in largest)
                - sum(count // v for count in free)
                for v in set(largest) if v), default=0)


def _hosts(problem: problem_mod.Problem, need: int) -> int:
    if not problem.asks:
        return 0
    sizes = sorted((sum(node.n_free for node in state.nodes)
                    for state in problem.hosts.values()), reverse=True)
    used = 0
    while need > 0 and used < len(sizes):
        need -= sizes[used]
        used += 1
    return max(1, used)


def _peak(problem: problem_mod.Problem, need: int) -> int:
    """As if all could be spread evenly."""
    nodes = [node for state in problem.hosts.values()
             for node in state.nodes]
    total = sum(len(node.dedicated) for node in nodes)
    used = sum(len(node.taken & node.dedicated) for node in nodes)
    before = max(problem_mod.loads(problem, {}).values(), default=0)
    return max(before, 1000 * (used + need) // max(1, total))
