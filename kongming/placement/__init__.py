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

"""A host as Placement's inventories, and a template as a claim on them.

What it knows
-------------

node provider
    The resource provider of one host NUMA node.  It is a root of its own,
    outside the compute node's tree: Placement reads whole trees for each host
    that it answers with, so every native server would pay for what hung
    there.  Its name and uuid follow from the compute node's, so that
    everybody knows them without a look-up.  Those of a host are in one
    aggregate.
inventory
    What a node provider offers: ``CUSTOM_KONGMING_PCPU`` and the other
    resource classes, with their ratios.
reserved
    What servers use of a node that no allocation on its provider accounts
    for.  Placement offers ``total - reserved - allocated``, so a pCPU that is
    taken is never offered, whoever took it.
claim
    What a server has allocated of the nodes of its host: of each cell that
    its template binds to a node, counts and memory, and by its own class each
    pCPU that is named.  KongmingFilter writes it into the allocation candidate
    that it lets pass.
trait
    ``CUSTOM_KONGMING_HOOK``, on the compute node's own provider where
    nova-compute obeys templates.  It is all that a flavor asks Placement for.

What it decides
---------------

The payloads: the node providers of a host, what each reserves, the
allocations of a server before and after its ownership has changed, and the
extra specs that a template puts on a flavor.  Every publisher uses these
functions, so all write the same.

What it never does
------------------

It makes no request.  :mod:`kongming.publish` makes them over HTTP.

Public names
------------

``naming.provider_name``, ``provider_uuid``, ``aggregate_uuid``, ``is_ours``
and ``of_computes``; ``cores.core_traits`` and ``cores_of_traits``;
``inventory.build``, ``read``, ``plan``, ``Provider`` and ``Ratios``;
``reserved.reserved``, ``beside``, ``allocated`` and ``Owned``;
``claim.claim``; ``flavor.changes``, ``outdated`` and ``without_outdated``;
``scheduling.of_flavor``; ``summary.nodes`` and ``host``.

Reading order
-------------

1. ``naming``: what the providers of a host are called, and whose they are.
2. ``cores``: which pCPUs share a core, in traits.
3. ``inventory``: from a host to node providers, and back.
4. ``reserved``: what servers take of it that nobody has allocated.
5. ``claim``: what a server that is to come allocates.
6. ``flavor``: what a template asks for.
7. ``summary``: hosts by one answer for all of them.
8. ``scheduling``: what a flavor asks of the compute node beside.
"""

__all__ = (
    'claim', 'cores', 'flavor', 'inventory', 'naming', 'reserved',
    'scheduling', 'summary',
)
