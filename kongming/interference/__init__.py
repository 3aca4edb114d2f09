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

"""Who disturbs a pinned vCPU, and how interrupts keep off owned pCPUs.

What it knows
-------------

snapshot
    What the kernel has counted at one moment: threads, interrupts, softirqs,
    pCPUs.  A difference of two snapshots is an interval.
owner
    The domain and its thread that a pCPU is for.
disturbance
    Anything else that came to that pCPU: a kind, a name, a count, and
    microseconds where they are measured.
home
    Where an interrupt is while no pCPU has an owner.

What it decides
---------------

To whom a count belongs, what is background, what would remove a disturbance,
and which affinity an interrupt gets.  Which settings of a host let others on
owned pCPUs (``violations``).

What it never does
------------------

It reads and writes nothing: :mod:`kongming.kernel` does (``accounts``,
``irq``, ``tracefs``, ``ovs``).  It asks no cloud.

Public names
------------

``snapshot.Snapshot``, ``Thread``, ``Times`` and ``Settings``;
``difference.between`` and ``Interval``; ``owners.of_running``;
``disturbance.find``, ``merge``, ``Owners`` and ``Disturbance``;
``trace.Trace``; ``report.Tally`` and ``Report``; ``text.report`` and
``document``; ``page.page``; ``violations.find``; ``irq.moves``, ``on_owned``,
``bans``, ``Irq`` and ``Machine``.

Reading order
-------------

1. ``snapshot``, ``difference``: the values.
2. ``disturbance``: the rule; ``owners``: for whom.
3. ``report``, ``trace``, ``remedy``, ``text``, ``page``: what people are
   told.
4. ``irq``: where interrupts go.
5. ``violations``: what could disturb, though it has not yet.
6. ``parse``: the texts of ``/proc``.
"""

__all__ = ('difference', 'disturbance', 'irq', 'owners', 'page', 'parse',
           'remedy', 'report', 'snapshot', 'text', 'trace', 'violations')
