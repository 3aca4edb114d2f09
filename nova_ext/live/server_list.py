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

"""Nova's list of a host's servers, of which is read again what may be new.

A pass over servers that are where they are wanted costs what this list
costs.  Two thirds of that are flavors and the properties of images, so these
are kept from one pass to the next.  What Nova writes of a server and how
that is seen (``nova/objects/instance.py``, ``save``):

- its topology, its metadata and what a move has left of it (``numa_topology``
  and ``migration_context`` of ``instance_extra``, and ``instance_metadata``)
  are written without a trace in ``instances``: they are read each time;
- its flavor is written before ``instance_type_id`` is, by one ``save``, which
  moves ``updated_at`` also.  Whoever reads a new number reads the new flavor;
- the properties of its image come with another ``image_ref``, or, by
  ``nova-manage image_property``, while it is off; it starts later, which moves
  ``updated_at``.

What somebody writes into the database by hand is read after
:data:`CACHED_FOR` seconds.
"""

import time

from nova import objects

#: What is read of each server each time, and what is kept of it.
_READ = ['numa_topology', 'metadata', 'migration_context']
_CACHED = ['flavor', 'system_metadata']
#: For how long, in seconds.
CACHED_FOR = 600.0
#: So few are read as a whole: whoever writes metadata moves ``updated_at``,
#: and a change would wait for a second request.
FEW = 4


class ServerList:
    """The servers of the nodes of one nova-compute.

    :param clock: seconds, never going back
    """

    def __init__(self, clock=time.monotonic):
        self._clock = clock
        #: node -> server -> (its key, its flavor, its system metadata)
        self._cached = {}
        #: node -> when all of it was read
        self._since = {}

    def read(self, context, host, nodename):
        """All servers of a node, with or without a template.

        :returns: [nova.objects.Instance], each as it was at one moment;
            their ``flavor`` is shared with what was returned before
        """
        now = self._clock()
        kept = self._cached.get(nodename)
        if not kept or len(kept) <= FEW or (
                now - self._since[nodename] >= CACHED_FOR):
            return self._read_all(context, host, nodename, now)
        found = objects.InstanceList.get_by_host_and_node(
            context, host, nodename, expected_attrs=_READ)
        new = {server.uuid for server in found
               if server.uuid not in kept
               or kept[server.uuid][0] != _key(server)}
        if len(new) > len(found) // 2:
            return self._read_all(context, host, nodename, now)
        # Of these nothing that was read by now is used: between two
        # requests they may have been resized.
        again = objects.InstanceList.get_by_filters(
            context, {'uuid': sorted(new), 'host': host, 'node': nodename,
                      'deleted': False},
            expected_attrs=_READ + _CACHED) if new else ()
        same = [server for server in found if server.uuid not in new]
        for server in same:
            _key_then, flavor, system_metadata = kept[server.uuid]
            server.flavor = flavor
            server.system_metadata = dict(system_metadata)
            server.obj_reset_changes(_CACHED)
        self._cached[nodename] = {
            **{server.uuid: kept[server.uuid] for server in same},
            **{server.uuid: _to_cache(server) for server in again}}
        return [*same, *again]

    def _read_all(self, context, host, nodename, now):
        found = objects.InstanceList.get_by_host_and_node(
            context, host, nodename, expected_attrs=_READ + _CACHED)
        self._cached[nodename] = {server.uuid: _to_cache(server)
                                  for server in found}
        self._since[nodename] = now
        return list(found)


def _key(server):
    """Another one where what is kept of a server may be another."""
    return (server.instance_type_id, server.image_ref, server.updated_at,
            server.launched_at, server.vm_state, server.task_state)


def _to_cache(server):
    return _key(server), server.flavor, server.system_metadata
