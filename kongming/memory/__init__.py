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

"""Where the memory of a running guest is, and how a cell of it changes nodes.

What it knows
-------------

cell
    The memory of a guest NUMA cell is one mapping of the QEMU process, bound
    to the cell's host node by a policy of its own (``bind:N``).
thread group
    libvirt has a cgroup for the emulator, for each vCPU and for each I/O
    thread. ``cpuset.mems`` of each holds the nodes of all cells.
rank
    The place of a node in a set of nodes, in ascending order.  Whenever
    ``cpuset.mems`` is written, the kernel binds a policy to the node of the
    new set that has the rank which its old node had in the old one
    (``mm/mempolicy.c``, ``mpol_rebind_nodemask``; ``lib/bitmap.c``,
    ``bitmap_remap``).

What it decides
---------------

Whether cells can go to other nodes at all (the kernel keeps their order), in
which order they go, what is to be done next to a process in any state so that
it gets where it is to be, and when it is there.  What is in the way: devices,
too little free memory, threads that never sleep.

The next action follows from what the kernel says of the process, and not from
what was done before.  So a move that was cut short goes on, or back, like any
other; a rollback is a move to where the cell was.

What it never does
------------------

It reads no file and calls no kernel: :mod:`kongming.kernel.numa` does, and
:mod:`kongming.kernel.mover` carries the actions out.

Public names
------------

``maps.parse``, ``Mapping`` and ``cells_of``; ``order.why_not`` and ``steps``;
``move.Seen``, ``next_action`` and its actions; ``refusal.Found`` and
``reasons``; ``estimate.words``.

Reading order
-------------

1. ``order``: the rule by which the kernel rebinds.
2. ``maps``: what ``/proc/PID/numa_maps`` says of the cells.
3. ``move``: from what is to what is wanted.
4. ``refusal``: what is in the way.
5. ``estimate``: how far it is, in words.
"""

__all__ = ('estimate', 'maps', 'move', 'order', 'refusal')
