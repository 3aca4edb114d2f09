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

"""``kongming ...``: commands for use on a host.  An edge.

What it knows
-------------

The arguments, columns and help of the commands.  ``kongming topology`` shows
the host, ``ps`` its domains and threads, ``check`` violations, ``watch`` and
``report`` who disturbs owned pCPUs, ``apply`` puts a standalone domain where a
template says, ``publish`` writes the host to Placement.

What it decides
---------------

Nothing.  A command collects values from the edges, asks a package that
decides, and prints the answer.

What it never does
------------------

It needs no Nova on the machine.  It changes no domain of Nova's.

Public names
------------

The commands, which ``setup.cfg`` names as entry points; ``columns``, ``help``
and ``source``, which the plugin of ``openstack`` shares.

Reading order
-------------

1. ``app``: the program.
2. ``help``, ``columns``, ``source``: what commands share.
3. ``survey``: the domains of a host and their threads; ``observe``: what the
   kernel counts of them; ``record``: the same as a file (all private).
4. ``topology``, ``ps``, ``check``, ``watch``, ``report``, ``replay``,
   ``apply``, ``publish``: a command each.
5. ``metrics``: figures for Prometheus; ``endpoint``: who gets them;
   ``exporter``: what they are read from, and for how long that holds.
"""

__all__ = ('app', 'apply', 'check', 'columns', 'endpoint', 'exporter', 'help',
           'metrics', 'ps', 'publish', 'replay', 'report', 'source',
           'topology', 'watch')
