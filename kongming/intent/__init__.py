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

"""The desired state of a server: flavor, granted metadata, active profile.

What it knows
-------------

intent
    What a server is to be at a moment: the template with its overlay, and the
    reasons for which a part of the metadata is not obeyed.
ceiling
    What the flavor says of a vCPU's QoS, scheduler or cache.  Metadata may ask
    for as much or less.
limits
    What the operator of a host lets any template do (``[kongming]`` in
    nova.conf), whoever wrote it.
calendar
    The profiles of the servers of a host over time.

What it decides
---------------

Which keys of the metadata are obeyed.  The order of precedence is: the host's
limits, the flavor's grant, the ceiling.  Of the keys that overlay the
template, all are obeyed or none.  A profile that is requested and granted wins
over windows; of several open windows the first profile by name wins.

It decides, too, whether the metadata of a server changes too often
(``rate_limit``), and which of many changes a host makes now (``budget``).

What it never does
------------------

It reads no clock and no option: the moment and the limits are arguments.  It
does not ask whether the result fits on a host; :mod:`kongming.fit` does.

Public names
------------

``merge.merge``, ``merge.Intent`` and ``merge.next_change``; ``limits.Limits``
and ``limits.within``; ``rate_limit.RateLimiter``; ``budget.Budget``;
``calendar.of_host`` and ``calendar.conflicts``.

Reading order
-------------

1. ``limits``: the most that a host allows.
2. ``ceiling``: the most that a flavor allows.
3. ``merge``: all of it put together.
4. ``calendar``: the same for a span of time.
5. ``rate_limit``: a token bucket a server.
6. ``budget``: changes of a host, shared among projects.
"""

__all__ = ('budget', 'calendar', 'limits', 'merge', 'rate_limit')
