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

"""Nova from outside: its API and its nova.conf.  An edge.

What it knows
-------------

What Nova's API tells an admin of servers, what they own and how a live change
of theirs went (instance actions); which pCPUs nova.conf gives to Nova
(``cpu_dedicated_set``, ``cpu_shared_set``, ``[kongming] never_pcpus``).

What it decides
---------------

Nothing.  It turns answers into values of the library.

What it never does
------------------

It does not import Nova.  It makes no connection to the cloud: an
``openstack.connection.Connection`` is handed in.

Public names
------------

``nova_conf.read`` and ``CpuSets``; ``servers.occupied``, ``residents``,
``live_change``, ``going_on``, ``load``, ``find``, ``create`` and ``listing``;
``hosts.find`` and ``services``; ``scheduling.Scheduling``; ``api.get`` and
``entries``.

Reading order
-------------

1. ``nova_conf``: which pCPUs Nova may use of a host.
2. ``api``: requests of Nova, and lists of several pages.
3. ``hosts``: the names of hosts, and whether they take servers.
4. ``scheduling``: why the scheduler would leave out a host.
5. ``servers``: what its servers have of it.
"""

__all__ = ('api', 'hosts', 'nova_conf', 'scheduling', 'servers')
