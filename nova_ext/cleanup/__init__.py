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

"""KongMing taken off the servers of a host: ``python -m nova_ext.cleanup``.

What it knows
-------------

What KongMing leaves on a host's servers: a change that was cut short,
borrowed pCPUs, per-vCPU cgroup values, real-time schedulers, CLOS, and the
host's providers in Placement.

What it decides
---------------

What is to be done about each server, so that Nova's own driver finds what it
would have made itself.

What it never does
------------------

It does nothing while nova-compute runs on the host, and nothing to a server
with a task state.  No pCPU is given up before the kernel says that no thread
of the server runs there.

Public names
------------

The program itself.

Reading order
-------------

1. ``decision``: what is to be done about a server.
2. ``host``: looks, and does it.
3. ``command``: the arguments and the table of what was done.
"""

__all__ = ()
