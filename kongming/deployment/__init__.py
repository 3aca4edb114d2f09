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

"""A cluster of servers: as its document means it, as it is, the steps between.

What it knows
-------------

deployment
    Flavors and servers with their templates, as one document describes them.
found
    What of it exists in the cloud.  Flavors and servers of a deployment bear
    its mark; nothing is stored elsewhere.
drift
    What a server of the deployment is not, and is meant to be.
projection
    What servers have of a host at some point of a plan.

What it decides
---------------

The steps of a rollout and their order, with no pCPU assigned twice at any of
them: servers that go give up their pCPUs first, servers that stay change
places next, new servers come last.  All problems are found before the first
step; a plan with a problem has no steps.

What it never does
------------------

It creates, changes and deletes nothing; ``osc_plugin.deployment`` reads the
cloud and carries the steps out.

Public names
------------

``document.parse``; ``deployment.Deployment``, ``Cloud``, ``Plan`` and the
steps (``CreateServer``, ``ChangeServers``, ...); ``rollout.plan``;
``drift.facts`` and ``drift.reasons``; ``projection.ProjectedHost``.

Reading order
-------------

1. ``deployment``: the values.
2. ``document``: their text form, and its schema.
3. ``drift``: one server, compared.
4. ``projection``: a host while a plan is made.
5. ``placing``: places for new servers, all together (private).
6. ``rollout``: the plan.
"""

__all__ = ('deployment', 'document', 'drift', 'projection', 'rollout')
