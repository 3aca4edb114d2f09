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

"""Who owns which pCPU: Nova's claim, made to follow the template.

What it knows
-------------

claim
    The topology that Nova has given a server on a host.  Nova keeps it in
    ``instance.numa_topology`` and, while a server moves, in its migration
    context as well.
current, target
    What a server owns, and what it goes to during a change.  Both are in its
    topology, so the database is the journal.  ``ownership.Ownership`` is the
    only place that knows in which form.
uncertain
    A server of which the answer to a save was lost.  The resource tracker
    stays charged with both places until the database is known.
granted nodes
    The nodes that PCI devices leave to a cell.  What was claimed of nodes in
    Placement binds nobody: the host decides, and the allocation follows.

What it decides
---------------

Which claim is swapped, and when: under Nova's own resource lock, before the
driver spawns the server.  Of two servers that were claimed on each other's
pCPUs, the first one lets go of its claim and waits outside the lock.  The fit
itself is decided by :mod:`kongming.fit`.

Every change of ownership is written ahead: the tracker is charged with old
and new, the server is saved, then the tracker is narrowed.

What it never does
------------------

It frees nothing that is not shown to be this server's.  It does not move
threads or memory; :mod:`nova_ext.live` does.

Public names
------------

``ownership.Ownership``; ``write_ahead.write``, ``charge_again`` and
``resolve``; ``claimed.ClaimedServer``, ``IncomingServer`` and ``refresh``;
``claim.repin``, ``take_any`` and ``satisfied``.

Reading order
-------------

1. ``ownership``: what a server has, and what it goes to.
2. ``write_ahead``: a change of it, safe at any moment.
3. ``claimed``: where Nova keeps the claim.
4. ``granted``: the nodes that are left to a cell (private).
5. ``claim``: the swap.
"""

__all__ = ('claim', 'claimed', 'ownership', 'write_ahead')
