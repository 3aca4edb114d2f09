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

"""Live changes of running servers, as values: places, order, threads, QoS.

What it knows
-------------

own
    A dedicated vCPU owns exactly one pCPU, and no other server runs there.
float
    A shared vCPU runs on a set of pCPUs where others may run, too.
affinity
    The pCPUs on which libvirt lets a thread run now.  A profile narrows or
    moves it without a change of ownership.
lend, borrow
    A server lends the pCPUs that its active profile leaves unused.  Servers
    with ``kongming:borrow`` run on lent pCPUs until the owner returns.
move, step
    A move takes one vCPU from one pCPU to another.  A step holds the moves of
    one cell; none of its targets is owned by another server.

What it decides
---------------

In which order servers of a host change pCPUs, so that no pCPU has two owners
at any moment; a ring goes by way of a free pCPU.  Where each thread runs and
how it is scheduled.  What a vCPU's cgroup contains for its QoS.  What of its
template a running server does not have (drift).

What it never does
------------------

It moves nothing: ``nova_ext.live`` carries steps out, with
:mod:`kongming.libvirt` and :mod:`kongming.kernel`.  Journal, locks and
rollback are there, too.

Public names
------------

``rearrange.plan`` with ``Resident``, ``Move``, ``Step`` and ``Plan``;
``threads.shape``, ``Threads``, ``Owned`` and ``lends``; ``qos.wanted``,
``CpuShares`` and ``changes``; ``drift.unmet``; ``progress.add`` and ``read``;
``witness.freed``, ``Thread``, ``words``, ``online_only`` and ``kept``;
``power.wanted`` and ``Power``.

Reading order
-------------

1. ``threads``: where the threads of one server run.
2. ``power``: which of its pCPUs have power; ``witness``: what the kernel says
   of its threads.
3. ``qos``: what its vCPUs get of these pCPUs.
4. ``rearrange``: several servers that change places.
5. ``drift``: desired against actual.
6. ``progress``: what goes on, as diagnostics tell it.
"""

__all__ = ('drift', 'power', 'progress', 'qos', 'rearrange', 'threads',
           'witness')
