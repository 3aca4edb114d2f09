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

"""``openstack kongming server ...``: running servers.

What it knows
-------------

A server's template, metadata, ownership and last live change, as Nova's API
tells them; and how to wait until the host has done what the metadata says.

What it decides
---------------

When a wait is over: the server has what its metadata says, or the host has
refused it.

What it never does
------------------

It moves nothing itself.  It writes the server's metadata, and a request for
the server's diagnostics triggers the reconciler of its host.

Public names
------------

``running.Server``, ``Wait`` and ``write``; the commands, as entry points:
``server``, ``history`` and ``advise``.

Reading order
-------------

1. ``running``: a server, and waiting for it.
2. ``advise``: what a server's load calls for; ``migration``: moves to other
   hosts that it calls for.
3. ``server``: ``set``, ``unset``, ``show``.
4. ``history``: ``list``, ``wait``, ``history``.
"""

__all__ = ('advise', 'history', 'running', 'server')
