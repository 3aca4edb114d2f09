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

"""libvirt domains as values: what they are, and what they ought to be.

What it knows
-------------

domain
    What a domain's XML says: vCPUs, pins, memory, and the flavor and image
    that Nova writes into its metadata.
running
    A domain together with its threads and its memory, as the kernel has them.
expected
    What the flavor's template makes of a domain.  A host knows neither the
    metadata of the server nor its active profile.
standalone domain
    A domain that is not Nova's.  No one accounts its pCPUs.

What it decides
---------------

Which domains of a host violate ownership (``audit``): two owners of a pCPU,
threads or memory in the wrong place, drift between XML and kernel.  Where a
template puts a standalone domain (``standalone``).

What it never does
------------------

It asks neither libvirt nor the kernel; :mod:`kongming.cli.survey` collects
the values with :mod:`kongming.libvirt` and :mod:`kongming.kernel`.  It
repairs nothing.

Public names
------------

``domain.parse``, ``Domain``, ``Running``, ``Task`` and ``Ram``;
``expected.expected`` and ``deviations``; ``standalone.plan``;
``audit.find`` and ``audit.Finding``.

Reading order
-------------

1. ``domain``: a domain's XML, and how it was found running.
2. ``expected``: what its flavor's template asks for.
3. ``standalone``: a template applied to a domain without Nova.
4. ``audit``: all domains of a host, compared.
"""

__all__ = ('audit', 'domain', 'expected', 'standalone')
