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

"""How much a placement breaks up a host."""

from __future__ import annotations

from collections.abc import Collection

from kongming.fit import fit
from kongming.host import usage


def of(host: usage.HostState, assignment: fit.Assignment) -> float:
    """What a fit would cost in pieces that are hard to use afterwards.

    The integer part is the number of cores that it leaves with some threads
    owned and some free, less those that were so before; to that comes the
    share, below 1, of pCPUs left free on the nodes that it takes.  Less is
    better; a server that owns nothing costs nothing.
    """
    pieces, left, total = 0, 0, 0
    for cell in assignment.cells:
        node = host.node(cell.node)
        own = {*cell.pins.values(), *cell.reserved}
        if node is None or not own:
            continue
        pieces += _broken(node, node.free - own) - _broken(node, node.free)
        left += len(node.free - own)
        total += len(node.dedicated)
    return pieces + (left / total if total else 0.0)


def stranded(node: usage.NodeState) -> frozenset[int]:
    """Free pCPUs of a node that hardly any server can have as they are.

    Those of a core of which another thread is owned: no server gets the core
    as a whole.  Where the node has no memory left, all that are free.
    """
    if node.memory_mib and node.memory_used_mib >= node.memory_mib:
        return frozenset(node.free)
    return frozenset(
        pcpu for core in node.siblings if core & node.taken
        for pcpu in core & node.free)


def _broken(node: usage.NodeState, free: Collection[int]) -> int:
    """Cores of which a part is free, out of those that may be owned."""
    count = 0
    for core in node.siblings:
        threads = [pcpu for pcpu in core if pcpu in node.dedicated]
        available = sum(pcpu in free for pcpu in threads)
        count += 0 < available < len(threads)
    return count
