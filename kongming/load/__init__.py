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

"""Profiles by load: what a server measured, and which profile that calls for.

What it knows
-------------

figures
    What a server's vCPUs did between two readings of the kernel's counters:
    use, wait and remote memory, in per cent.
recording
    Such readings as a file, so that thresholds can be tried on last week.

What it decides
---------------

Which conditions of a server's profiles hold (``hysteresis``), which profile
is active by them, by windows and by metadata (``decision``), and why.  A
server switches a limited number of times in an hour, and what was left soon
after it began has to be earned for longer the next time.  A server of which
nothing is known has what its flavor gives it by itself.

Which cell would better be on another node of its host, what that would save
and cost, and whether it may move again (``balance``); and, as a plan only,
which server would better be on another host (``migration``).

What it never does
------------------

It reads no file, no clock and no option.  It does not put threads anywhere.

Public names
------------

``figures.Counters`` and ``figures.between``; ``decision.Decider`` and
``Decision``; ``recording.Reading``, ``recording.dump`` and
``recording.load``; ``replay.replay``; ``balance.Balancer``, ``moves`` and
``nearer``; ``migration.plan``.

Reading order
-------------

1. ``figures``: from counters to per cent.
2. ``hysteresis``: whether one condition holds.
3. ``decision``: the profile of one server.
4. ``recording``, ``replay``: the same over a file.
5. ``balance``: the nodes of a host.
6. ``migration``: the hosts of a cloud.
"""

__all__ = ('balance', 'decision', 'figures', 'hysteresis', 'migration',
           'recording', 'replay')
