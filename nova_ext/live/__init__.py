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

"""Changes while servers run: one reconciler a host.

What it knows
-------------

reconcile
    Compare the desired state (flavor, granted metadata, active profile) with
    the actual state (topology, libvirt, kernel), and carry out the difference.
pass
    One run of the reconciler over all servers of the host.  It is level
    triggered: nothing is remembered that could not be worked out again.
step
    One journalled part of a change.  The server first owns old and new pCPUs,
    then threads and memory move, then it owns the new pCPUs alone.
job
    Slow work on a server, beside passes and other jobs: a live change, or a
    call that libvirt does not answer.  Nobody else touches its server.
lend, borrow, reclaim
    Lent pCPUs are used by borrowers while their owner is off them.  An owner
    that returns reclaims them: borrowers leave first.

What it decides
---------------

Which servers may change now, when a failed change is tried again, and whether
a step is completed or rolled back.  Places, order and threads are decided by
:mod:`kongming.live`.

What it never does
------------------

No pCPU has two owners at any moment.  It does not hold Nova's resource lock
while libvirt works.  It does not need Nova's database to switch a profile.

Public names
------------

``reconciler.Reconciler``; ``passes``, which the driver starts; ``reclaim``
and ``definition``, which are asked before a domain starts; ``memory_moves``
and ``record``, which the cleanup of a host uses.

Reading order
-------------

1. ``reconciler``: the pass; ``places``: what it plans, ``observe``: what it
   reports where it only looks, ``server_list``: Nova's
   list of servers, ``owned``: who owns what (private).
2. ``intents``: the desired state of each server; ``load``: the profile that
   its load calls for, ``watched``: what is read of it; ``balance``: the node
   that it calls for, ``contention``: what is wanted on the nodes (private).
3. ``jobs``: threads for what is slow (private).
4. ``changes``: a live change as a job (private).
5. ``steps``: one step, carried out or rolled back; ``domains``: threads of
   running domains, ``memory_moves``: their memory, ``states``: whether a
   server may be changed, ``keys``: by what results are remembered (private).
6. ``witness``: what the kernel says of threads, and freed ones put back;
   ``enforce``: threads and profiles; ``lending``: who may be on lent pCPUs
   (private).
7. ``reclaim``: borrowers leave before an owner starts.
8. ``definition``: what a domain would start with next.
9. ``passes``, ``present``, ``mode``, ``trigger``, ``alarm``: whether and when
   there is anything to do (private).
10. ``cpu_shares``, ``clos``: QoS and caches of running servers;
    ``interrupts``: interrupts of devices keep off owned pCPUs (private).
11. ``failures``: what failed is reported once and tried again later (private).
12. ``record``, ``report_once``: instance actions and log lines; ``history``:
    what instance actions tell of the time before a restart, ``restored``:
    what of it counts (private).
"""

__all__ = ('definition', 'memory_moves', 'passes', 'reclaim', 'reconciler',
           'record')
