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

"""``openstack kongming host ...``: hosts as Placement shows them.

What it knows
-------------

The arguments, columns and help texts of the commands about hosts.

What it decides
---------------

Nothing: what a host has is read by :mod:`osc_plugin.cloud`, drawn by
:mod:`kongming.render` and written to Placement by :mod:`kongming.publish`.

What it never does
------------------

It reads no server's metadata but for ``map --all``.  ``host list`` loads
nothing that draws or publishes: each command pays for its own imports only.

Public names
------------

The commands, as entry points: ``host``, ``map``, ``publish`` and ``clean``.

Reading order
-------------

1. ``host``: ``list``, and the sums of a host.
2. ``map``: ``show`` and ``map``, which draw it; ``survey``: all hosts with
   their servers, for ``map --all``.
3. ``publish``: ``publish`` and ``unpublish``.
4. ``clean``: what no host needs any more.
"""

__all__ = ('clean', 'host', 'map', 'publish', 'survey')
