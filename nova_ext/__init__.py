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

"""The Nova side: the compute hook, the filter, the weigher, the validator.

It translates Nova's objects into the library's values and back, and takes
Nova's locks.  What is decided is decided in :mod:`kongming`.

What it knows
-------------

Nova's objects, its resource tracker, its driver interface and its filters.

hook
    The part of KongMing inside nova-compute: a subclass of Nova's libvirt
    driver.
claim
    The pCPUs and pages that Nova has accounted to a server on a host.

What it decides
---------------

Only what is about Nova: when a lock is taken, what is written to the database
and when, which state of a server allows a change.

What it never does
------------------

It does nothing to a server without ``kongming:`` keys.  No fault of its own
fails an operation of Nova's.  It never writes metadata, and writes nothing of
a server that has a ``task_state``.

Public names
------------

What Nova loads by name: ``load.driver()``, ``filters.KongmingFilter``,
``weights.KongmingWeigher`` and ``validators.register``.  These names are
configuration and are not changed.

Reading order
-------------

1. ``translate``: Nova's NUMA objects to the library's values, and back;
   ``stats``: what a host tells the scheduler of itself; ``figures``: what
   nova-compute counts.
2. ``limits``, ``cache``: the limits and the caches of this host.
3. ``filters``, ``weights``, ``validators``: scheduler and nova-api.
4. ``ownership``: Nova's claim swapped for the template's.
5. ``placement``: the thread that keeps Placement true.
6. ``guests``: the template in the domain that Nova defines.
7. ``power``: Nova's power management of pCPUs.
8. ``live``: changes while servers run.
9. ``privileged``: what needs more rights than nova-compute has.
10. ``driver``: the hook, where all of it is called from; ``lifecycle``: what
    is to be so before a domain starts or is saved; ``diagnostics``: who asks
    for them has a host look at its servers.
11. ``private``: the private parts of Nova, compared with the Nova that is
    installed; ``load``: the hook, or Nova's own driver where they differ.
12. ``cleanup``: a host that goes back to Nova's own driver.
"""

__all__ = ('driver', 'filters', 'load', 'validators', 'weights')
