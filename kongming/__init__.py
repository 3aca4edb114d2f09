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

"""KongMing's library: which pCPUs, node and memory each Nova server gets.

The library knows hosts, templates, fitting, libvirt, the kernel and what
Placement stores.  It does not know Nova: ``nova_ext`` and ``osc_plugin``
import it, and it imports neither.  Each package is one noun, and its docstring
says what it knows, what it decides, what it never does, and in which order its
modules are read.

What it knows
-------------

Packages are in layers.  A package imports those below it and none beside or
above it (``.importlinter``):

=============  ============================================================
edges          :mod:`kongming.cli`, :mod:`kongming.compute`,
               :mod:`kongming.publish`, :mod:`kongming.libvirt`,
               :mod:`kongming.kernel`
many servers   :mod:`kongming.plan`, :mod:`kongming.deployment`,
               :mod:`kongming.solver`
one host       :mod:`kongming.domain`, :mod:`kongming.placement`,
               :mod:`kongming.render`, :mod:`kongming.live`,
               :mod:`kongming.fit`
values         :mod:`kongming.intent`, :mod:`kongming.memory`,
               :mod:`kongming.vnfd`, :mod:`kongming.resctrl`,
               :mod:`kongming.template`, :mod:`kongming.host`
shared by all  ``kongming.exception``, ``kongming.conf``
=============  ============================================================

What it never does
------------------

What decides does no I/O: the clock, the configuration and connections are
arguments.  What does I/O decides nothing.  Only the edges do I/O.

Reading order
-------------

A newcomer needs three names:

* :func:`kongming.template.template.decode` reads a template from extra specs;
* :func:`kongming.fit.fit.fit` places a server by its template on one host;
* :func:`kongming.placement.inventory.build` makes the inventory of a host in
  Placement.
"""

__all__ = (
    'cli', 'compute', 'conf', 'deployment', 'domain', 'exception', 'fit',
    'host', 'intent', 'kernel', 'libvirt', 'live', 'memory', 'placement',
    'plan', 'publish', 'render', 'resctrl', 'solver', 'template', 'vnfd',
)
