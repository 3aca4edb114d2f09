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

"""What is counted of a host, as Prometheus has it.

What it knows
-------------

metric
    A name by Prometheus' conventions, its kind, its few labels, and what it
    says; :data:`catalog.CATALOG` has all of them.
sample
    A metric's value with the values of its labels.
account
    What nova-compute has counted since it started: it writes it into a file
    now and then, since nobody else can know.

What it decides
---------------

What is a sample of a host that was looked at (pCPUs of a node, violations,
memory that is elsewhere), and how an account becomes samples.

What it never does
------------------

It reads and writes nothing, and it serves nobody: ``kongming metrics`` does,
and in nova-compute ``nova_ext.figures``.

Public names
------------

``catalog.CATALOG``, ``Metric`` and ``table``; ``account.Account`` and
``Durations``; ``host.samples`` and ``Sample``; ``families.families``, which
needs Prometheus' client library (the extra requirement ``metrics``).

Reading order
-------------

1. ``catalog``: what there is.
2. ``account``: what nova-compute writes.
3. ``host``: what is seen on the host.
4. ``families``: in the form of the client library.
"""

__all__ = ('account', 'catalog', 'families', 'host')
