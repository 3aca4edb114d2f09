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

"""L3 cache and memory bandwidth of a host, by CLOS.

What it knows
-------------

CLOS
    A class of service: one group of the kernel's resctrl file system, which
    takes one of the few CLOSIDs of the hardware.  An entry of
    ``kongming:cache`` is one CLOS.
schemata
    The text by which the kernel says what a group may use of each L3 cache and
    of memory bandwidth.
ways
    The parts into which a cache is divided.  A group has consecutive ways, as
    the bits of a mask.

What it decides
---------------

Which ways each server's group gets, and the steps from the groups that exist
to those that are to exist.  Ways are taken only of what the operator has set
aside; groups that are not KongMing's are never changed.

What it never does
------------------

It reads and writes no file; :mod:`kongming.kernel.resctrlfs` does.

Public names
------------

``schemata.Info``, ``Tree`` and ``parse_schemata``; ``schemata.capacities`` and
``slots``, which Placement counts by;
``clos.plan`` with ``clos.Class``, ``Step`` and ``Plan``.

Reading order
-------------

1. ``schemata``: what the files say, and what there is to give.
2. ``bitmask``: rows of consecutive ways (private).
3. ``clos``: who gets what, and how to get there.
"""

__all__ = ('clos', 'schemata')
