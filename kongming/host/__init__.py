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

"""A compute host: what it is made of, and what of it is free.

What it knows
-------------

host
    A compute node's hardware, as libvirt's capabilities document describes it.
node
    A host NUMA node.  It has an id, memory, pages and distances to others.
core
    The sibling pCPUs of one physical core.  :func:`.topology.order_cores` is
    the order in which relative addresses (``n0c2t1``) count cores.
pCPU
    A host logical CPU.  Sets of pCPUs are Python sets; only the parsers of
    this package read and write them as text (``0-3,8``).
host state
    A host with what Nova may use of it (dedicated, shared, never), what
    servers own, and what is left of pages, memory, cache and bandwidth.

What it decides
---------------

Nothing.  It answers what is free and what would be free if a server left.

What it never does
------------------

It calls neither libvirt, nor Nova, nor Placement.  Who knows a host builds
the values: :mod:`kongming.libvirt.hypervisor` from a connection,
:mod:`kongming.placement.inventory` from inventories, ``nova_ext.translate``
from Nova's objects.

Public names
------------

``topology.Host``, ``Node`` and ``Core``; ``topology.parse_cpu_list`` and
``format_cpu_list``; ``capabilities.parse``; ``usage.HostState``,
``NodeState``, ``Pages``, ``CacheClaim``, ``CacheCapacity`` and ``Limits``;
``usage.of_host``; ``stale.Cpus``, ``differences``, ``missing``,
``remembered`` and ``corrected``.

Reading order
-------------

1. ``topology``: hosts, nodes, cores and pCPUs.
2. ``capabilities``: a host from libvirt's capabilities document.
3. ``usage``: the same host with servers on it.
4. ``stale``: libvirtd's picture of the CPUs beside the kernel's.
"""

__all__ = ('capabilities', 'stale', 'topology', 'usage')
