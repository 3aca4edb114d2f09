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

"""Placement over HTTP: a client, and the publisher of a host.  An edge.

What it knows
-------------

The requests of Placement's API that KongMing makes, their microversions and
generations, and what each error means.

What it decides
---------------

Only what differs and is to be written.  The payloads come from
:mod:`kongming.placement`.

What it never does
------------------

It touches no inventory that is not KongMing's, and of Nova's own providers
nothing but the trait that goes with the hook.  It knows nothing of Nova: what
is in use of a host is told to it, by nova-compute or by a command.

Public names
------------

``client.Placement``; ``publisher.Publisher`` with its ``Node`` and
``Outcome``; ``manual.publish``, ``unpublish``, ``unhook`` and ``Occupied``;
``leftovers.find``, ``clear`` and ``Leftover``.

Reading order
-------------

1. ``client``: one method a request.
2. ``publisher``: a host's node providers made, updated and removed.
3. ``manual``: the same by a command, for a host without the hook.
4. ``leftovers``: those that no publisher looks after.
"""

__all__ = ('client', 'leftovers', 'manual', 'publisher')
