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

"""VNF descriptors: what MANOs write of a VDU's CPUs and memory.

What it knows
-------------

The words of three families of descriptors for pinning, threads, NUMA and page
sizes: TOSCA (ETSI NFV-SOL 001), OSM (SOL 006 and ``guest-epa``), and ONAP's
features of the hardware platform.

What it decides
---------------

Which extra specs of Nova and which keys of a template say the same.  What
neither can say is named, by place and value; an error does the same.

What it never does
------------------

It knows no host and writes no flavor.  A node of a descriptor is a cell of
the guest; on which node of a host it is, the template says.

Public names
------------

``sol001.read`` and ``parse`` of any of these descriptors, ``sol001.dump``;
``vdu.Vdu``, what they say.

Reading order
-------------

1. ``vdu``: what is said of one VDU.
2. ``osm``, ``onap``: their words.
3. ``sol001``: TOSCA, and which family a descriptor is of.
"""

__all__ = ('sol001', 'vdu')
