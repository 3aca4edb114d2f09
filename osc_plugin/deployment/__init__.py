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

"""``openstack kongming deployment ...``: a document for a whole cluster.

What it knows
-------------

How the flavors and servers of a deployment are found in the cloud, and how
each step of a plan is carried out.

What it decides
---------------

Nothing.  :mod:`kongming.deployment` plans.

What it never does
------------------

It touches no flavor and no server without the mark of the deployment.  It
begins no step of a plan that has problems.

Public names
------------

``rollout.read`` and ``rollout.Rollout``, which plans use as well; the
commands, as entry points: ``deployment``.

Reading order
-------------

1. ``rollout``: what exists, and the steps carried out.
2. ``deployment``: ``validate``, ``apply``, ``show``, ``delete``.
"""

__all__ = ('deployment', 'rollout')
