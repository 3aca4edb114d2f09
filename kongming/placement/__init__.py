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

"""A host as Placement's inventories, and a template as requests to it.

What it knows
-------------

child
    The resource provider of one host node.  Its name and uuid follow from the
    compute node's, so that everybody knows them without a look-up.
inventory
    What a child offers: ``CUSTOM_KONGMING_PCPU`` and the other resource
    classes, with their ratios.
reserved
    What servers use of a node that no allocation on the child accounts for.
    Placement offers ``total - reserved - allocated``, so a pCPU that is taken
    is never offered, whoever took it.
group
    A granular request group.  Each cell of a template is one group on the
    flavor (``resources_KM0:...``).

What it decides
---------------

The payloads: the children of a host, what each reserves, the allocations of a
server after its ownership has changed, and the extra specs that a template
puts on a flavor.  Every publisher uses these functions, so all write the same.

What it never does
------------------

It makes no request.  :mod:`kongming.publish` makes them over HTTP; in
nova-compute ``nova_ext.placement`` does.

Public names
------------

``inventory.build``, ``read``, ``plan``, ``Provider`` and ``Ratios``;
``reserved.reserved``, ``Owned`` and ``moved``; ``flavor.changes``,
``asked_groups`` and ``groups``.

Reading order
-------------

1. ``inventory``: from a host to children, and back.
2. ``reserved``: what servers take of it.
3. ``flavor``: what a template asks for.
"""

__all__ = ('flavor', 'inventory', 'reserved')
