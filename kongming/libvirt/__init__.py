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

"""Calls to libvirt: connections, affinity, memory.  An edge.

What it knows
-------------

Which call of libvirt does what, on which state of a domain (live or
persistent config), and which errors mean that nothing was changed.

What it decides
---------------

Nothing about servers.  Where threads go is decided by :mod:`kongming.live`;
this package applies it and reads it back.

What it never does
------------------

It defines no domain for Nova, and keeps no connection open: a domain is handed
in as a ``libvirt.virDomain``.  It does not read ``/proc``, cgroups or resctrl;
:mod:`kongming.kernel` does.  It does not import ``libvirt`` until a call needs
it.

Public names
------------

``hypervisor.connection``, ``host``, ``domain`` and ``running``;
``affinity.read``, ``apply`` and their persistent forms; ``memory.read``,
``why_not``, ``check_free_memory``, ``move`` and ``bind``.

Reading order
-------------

1. ``hypervisor``: connections, the host, its domains.
2. ``affinity``: where threads may run.
3. ``memory``: on which node memory is, and how it moves while a domain runs.
"""

__all__ = ('affinity', 'hypervisor', 'memory')
