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

"""Placement, from inside nova-compute.

What it knows
-------------

What the resource tracker knows: which pCPUs are taken, and who is here; and
what was read of the host's node providers last.

stale allocation
    An allocation on a node provider that does not say what the server owns.
stranger
    A consumer with an allocation on a node provider that is not on the host.

What it decides
---------------

When Placement is written to, and whose allocations follow.  Inventories,
reserved amounts and allocations are computed by :mod:`kongming.placement`.

What it never does
------------------

Nothing of it runs under Nova's resource lock, but for a comparison that wakes
it.  It writes to no provider of Nova's, keeps no list of servers, and asks
nothing for a host without servers with a template but when pCPUs change
hands.  It writes no allocation of a server that Nova is at work on.

Public names
------------

``publisher.Publisher``.

Reading order
-------------

1. ``publisher``: the thread, and when it writes.
2. ``accounting``: what is in use, and what no allocation accounts for.
3. ``allocations``: allocations that follow, and what is given back.
4. ``adapter``: how Placement is reached.
"""

__all__ = ('publisher',)
