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

"""Where Nova keeps the topology that a server was claimed.

A first boot has it on the instance.  A move has it in the migration context
as well, from which Nova gives it back or makes it the server's own; the two
must not drift apart.
"""

from nova.compute import task_states
from nova import objects

from nova_ext.ownership import ownership

_REBUILD = (task_states.REBUILDING, task_states.REBUILD_BLOCK_DEVICE_MAPPING,
            task_states.REBUILD_SPAWNING)


def refresh(context, instance):
    """What a server owns, as the database has it now.

    nova-api sends what it read before it said that the server is busy
    (nova/api/openstack/compute/servers.py, _get_server); a live change may
    have come in between.
    """
    if instance.numa_topology is None:
        return
    found = objects.InstanceNUMATopology.get_by_instance_uuid(
        context, instance.uuid)
    if found is not None and not _same(found, instance.numa_topology):
        instance.numa_topology = found
        instance.obj_reset_changes(['numa_topology'])


def correct_move(instance):
    """Have a revert give back what the server owns now, too."""
    move, owned = instance.migration_context, instance.numa_topology
    if (move and move.old_numa_topology and owned
            and not _same(move.old_numa_topology, owned)):
        instance.migration_context = move.obj_clone()
        instance.migration_context.old_numa_topology = owned
        instance.save()


class ClaimedServer:
    """The claim of a server on this host, on the instance.

    During a move, the manager has the instance show the claim on this host
    (``apply_migration_context``, ``mutated_migration_context``).

    :param nodename: of this host; an evacuated server still names its old one
    :param image_meta: of the image that it is made of
    """

    def __init__(self, instance, nodename, image_meta):
        self.instance = instance
        self.nodename = nodename
        self.image_meta = image_meta

    @property
    def topology(self):
        return self.instance.numa_topology

    @property
    def at_home(self):
        """Whether it had its place before: a rebuild where it is."""
        return (self.instance.task_state in _REBUILD
                and self.instance.node == self.nodename)

    @property
    def has_let_go(self):
        """Whether it has given back pCPUs that it will need to run."""
        return self.topology is not None and ownership.Ownership(
            self.topology).lacks_pcpus

    def stay(self, context):
        """Have a rebuild in place keep what the server owns.

        Nova applies what it finds left of a move that was cut short, which
        is claimed by nobody (nova/compute/manager.py, _rebuild_default_impl;
        nova/compute/resource_tracker.py, finish_evacuation).  When it is
        made, Nova puts back what the instance said before, whatever it says
        by then (nova/objects/instance.py, mutated_migration_context), and
        saves that: what it owns must not change meanwhile.

        :returns: whether there was something left
        """
        if not self.at_home or not self.instance.migration_context:
            return False
        owned = objects.InstanceNUMATopology.get_by_instance_uuid(
            context, self.instance.uuid)
        if not _same(owned, self.topology):
            self.show(owned)
        return True

    def show(self, topology):
        """Have the objects say this; nothing is saved yet."""
        context = self.instance.migration_context
        if (context and context.new_numa_topology
                and _same(context.new_numa_topology,
                          self.instance.numa_topology)):
            context.new_numa_topology = topology
        self.instance.numa_topology = topology

    def unmark(self):
        """Have what it owns be saved without marks, as :meth:`save` does.

        It is with what Nova saves next.
        """
        if self.topology is not None:
            self.topology.obj_reset_changes(recursive=True)
            self.instance.numa_topology = self.topology

    def save(self, topology):
        """Make it the server's, in the database.

        Where that fails the objects say what they said before, as Nova is
        about to abort the claim: what they say is what it gives back.
        """
        before, saved = self.topology, False
        # What is saved with marks of changes is found changed by whoever
        # reads it, and written again by all that they save: an old one over
        # this (nova/objects/instance_numa.py, obj_from_db_obj; instance.py,
        # _save_extra_generic).
        topology.obj_reset_changes(recursive=True)
        self.show(topology)
        try:
            self._save()
            saved = True
        finally:
            if not saved:
                self.show(before)

    def _save(self):
        if (self.instance.task_state not in _REBUILD
                or self.instance.node == self.nodename):
            self.instance.save()
            return
        # An evacuated server is its old host's until it has been made here
        # (nova/compute/resource_tracker.py, finish_evacuation), and what it
        # owns is counted there: only its migration context is of this host.
        # Nova shows that one just now, and says that nobody may save it
        # (nova/objects/instance.py, mutated_migration_context).
        with self.instance.mutated_migration_context(revert=True):
            self.instance.save()


class IncomingServer(ClaimedServer):
    """What a server that is still elsewhere was claimed for a live migration.

    :param claim: nova.compute.claims.MoveClaim
    """

    at_home = False

    def __init__(self, claim, nodename):
        super().__init__(claim.instance, nodename, claim.image_meta)
        self._claim = claim

    @property
    def topology(self):
        return self._claim.claimed_numa_topology

    def show(self, topology):
        self.instance.migration_context.new_numa_topology = topology
        self._claim.claimed_numa_topology = topology


def _same(one, other):
    """Whether two instance topologies own the same of a host."""
    return ownership.Ownership(one) == ownership.Ownership(other)
