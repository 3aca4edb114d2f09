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

"""``openstack kongming plan ...``: layouts of many servers.

What it knows
-------------

How hosts and servers of the cloud are read for a plan, how a plan is shown,
and how its moves are carried out and reverted.

What it decides
---------------

Nothing.  :mod:`kongming.plan` and :mod:`kongming.solver` do.

What it never does
------------------

It stores no progress: a plan that was stopped is continued or reverted by
where its servers are.

Public names
------------

The commands, as entry points: ``plan``, ``create`` and ``defrag``.

Reading order
-------------

1. ``plan``: ``show``, ``apply``, ``revert``, and what commands share.
2. ``steps``: hosts for a plan, and its moves carried out (private).
3. ``create``, and ``layout`` that it runs (private): the best layout.
4. ``defrag``, and ``capacity`` that it runs (private): more capacity on a
   fragmented host.
"""

__all__ = ('create', 'defrag', 'plan')
