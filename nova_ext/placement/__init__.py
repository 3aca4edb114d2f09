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

The provider tree that Nova hands to its driver, and the allocations of servers
whose ownership has changed.

stale allocation
    An allocation on KongMing's children that no longer matches what the server
    owns.

What it decides
---------------

When an allocation follows its server.  Inventories, reserved amounts and
allocations are computed by :mod:`kongming.placement`.

What it never does
------------------

It changes no inventory of Nova's own provider.  It fails no periodic task of
Nova: a fault is logged, and the tree stays as Nova made it.

Public names
------------

``publish.update``; ``allocations.Allocations``.

Reading order
-------------

1. ``publish``: the children in Nova's tree, and what they reserve.
2. ``allocations``: allocations that follow ownership.
"""

__all__ = ('allocations', 'publish')
