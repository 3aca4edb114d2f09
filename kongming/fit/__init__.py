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

"""Fitting: where the cells and vCPUs of one server go on one host.

What it knows
-------------

demand
    A guest with its template, worked out once for all hosts.
assignment
    A fit: a node for each cell and a pCPU for each dedicated vCPU.
refusal
    No fit, with the reasons: which node lacks what, and who owns it.

What it decides
---------------

Who fits where.  Cells go to nodes by a bipartite matching, in polynomial time;
vCPUs go to pCPUs by Nova's thread policies.  A fit that Nova would refuse is
none: KongMing decides *which*, Nova decides *what kind*.

It also decides what would have to give for a fit (``relax``), how many more
servers fit (``capacity``), how much a fit breaks up a host
(``fragmentation``), and what in a template is legal but surely a mistake
(``lint``).

What it never does
------------------

It changes nothing and asks nobody: a :class:`kongming.host.usage.HostState`
goes in, a value comes out.  Two servers that change at once are not its
concern (:mod:`kongming.live.rearrange`), nor are many servers on many hosts
(:mod:`kongming.solver`).

Public names
------------

``demand.Demand`` and ``demand.resolve``; ``fit.fit``, ``fit.Assignment``,
``fit.Refusal`` and ``fit.Reason``; ``relax.relax``; ``capacity.times``;
``fragmentation.of``; ``lint.lint``; ``nova_fitter.bootable``,
``nova_fitter.objection``, ``nova_fitter.way_round``, ``nova_fitter.advice``
and ``nova_fitter.are_equal``.

Reading order
-------------

1. ``demand``: what is asked.
2. ``matching``: a node of its own for each cell (private).
3. ``packing``: the pCPUs of a node, by the thread policy (private).
4. ``fit``: both together.
5. ``relax``, ``capacity``, ``fragmentation``, ``lint``: questions about a fit.
6. ``nova_fitter``: what Nova's own fitter makes of it.
"""

__all__ = ('capacity', 'demand', 'fit', 'fragmentation', 'lint',
           'nova_fitter', 'relax')
