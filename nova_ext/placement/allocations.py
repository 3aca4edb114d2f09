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

"""Allocations on node providers that follow what servers own.

Nova claims them with the rest of a server, moves and deletes them with it.
What is seen to here is what it does not know of: a live change, a claim that
was fitted anew on its host, and what is left on a host that a server has not
come to, or has been evacuated from (nova/scheduler/client/report.py,
remove_provider_tree_from_instance_allocation knows the compute node's tree
only).

Nothing is written of a server that Nova is at work on; what is written names
the consumer's generation, so that whoever was there meanwhile wins.
"""

import time
import typing

from kongming import exception as km_exc
from kongming.placement import naming
from nova.compute import vm_states
from nova import exception
from nova import objects
from oslo_log import log as logging

from nova_ext.placement import accounting

LOG = logging.getLogger(__name__)
#: For how long a consumer that the cell's database doesn't know may still be
#: a server that is on its way here, in seconds.
_UNKNOWN = 1200.0


class Allocations:
    """:param driver: nova_ext.driver.LibvirtDriver
    :param placement: kongming.publish.client.Placement
    """

    def __init__(self, driver, placement):
        self._driver = driver
        self._placement = placement
        #: Servers whose allocation doesn't say what they own yet; what they
        #: own is not to be reserved, or it could never be allocated to them.
        self.stale = set()
        self._checked = set()
        #: consumer -> since when nobody knows it
        self._unknown = {}

    def differs(self, server, allocations, compute):
        """Whether a server was claimed something else than it has now.

        :param allocations: provider's uuid -> what Nova says of it
        """
        nodes = self._nodes(compute)
        mine = {uuid: found['resources'] for uuid, found
                in allocations.items() if uuid in nodes}
        return bool(mine) and mine != accounting.allocated(server, compute)

    def follow(self, context, nodename, consumers=()):
        """Have allocations say what servers own.

        All in one request, since one may get what another gives up.

        :param consumers: those who have something allocated here
        :returns: what was written, see :meth:`_write`
        """
        rt = self._driver._tracker
        if nodename not in self._checked:
            # What was before this process is not known.
            self._checked.add(nodename)
            self.stale |= set(consumers) & rt.tracked_instances
        here = [uuid for uuid in list(self.stale)
                if uuid in rt.tracked_instances]
        self.stale.intersection_update(
            rt.tracked_instances | rt.tracked_migrations.keys())
        # Who changes from here on is looked at again.
        left = set(here)
        self.stale.difference_update(left)
        wanted = {}
        try:
            for uuid in here:
                payload = self._wanted(context, uuid, nodename)
                if payload == {}:
                    left.discard(uuid)
                elif payload:
                    wanted[uuid] = payload
            written = self._write(wanted)
            left -= written.keys()
        finally:
            self.stale.update(left)
        return written

    def _write(self, wanted):
        """
        :param wanted: uuid -> what the client's ``reallocate`` takes
        :returns: uuid -> provider's uuid -> resource class -> amount
        """
        if not wanted:
            return {}
        try:
            self._placement.reallocate(wanted)
        except km_exc.Conflict as exc:
            if len(wanted) > 1:
                written: dict[str, typing.Any] = {}
                for uuid, payload in wanted.items():
                    written |= self._write({uuid: payload})
                return written
            LOG.debug('The allocations of %s are not written now: %s',
                      *wanted, exc)
            return {}
        return {uuid: {provider: found['resources'] for provider, found
                       in payload['allocations'].items()}
                for uuid, payload in wanted.items()}

    def _wanted(self, context, uuid, nodename):
        """What is to be written of a server.

        :returns: {} where it is so; None where it can't be told now
        """
        server = accounting.read(context, uuid)
        if server is None or server.numa_topology is None:
            return {}
        rt = self._driver._tracker
        if (server.host != rt.host or server.node != nodename
                or accounting.is_nova_at_work(rt, server)):
            return None
        found = self._placement.allocations_of(uuid)
        compute = rt.compute_nodes[nodename]
        if not self.differs(server, found['allocations'], compute):
            return {}
        nodes = self._nodes(compute)
        return {**found, 'allocations': {
            **{provider: {'resources': allocation['resources']}
               for provider, allocation in found['allocations'].items()
               if provider not in nodes},
            **{provider: {'resources': amounts} for provider, amounts
               in accounting.allocated(server, compute).items()}}}

    def classify(self, context, consumers):
        """Who of those that have something allocated here are here.

        :returns: those that are, and those that are known not to be, nor to
            be about to come
        """
        present = accounting.here(self._driver._tracker)
        strangers = set(consumers) - present
        for consumer in self._unknown.keys() - strangers:
            del self._unknown[consumer]
        elsewhere: set[str] = set()
        for consumer in strangers:
            where = self._where(context, consumer)
            if where is not None:
                (present if where else elsewhere).add(consumer)
        return present, elsewhere

    def _where(self, context, consumer):
        """Whether one is here; None where it may be about to come."""
        server = accounting.read(context, consumer)
        if server is None:
            return False if self._is_nobody(context, consumer) else None
        self._unknown.pop(consumer, None)
        if server.host == self._driver._tracker.host:
            # The tracker finds it with its next audit: it was evacuated from
            # ERROR, say.
            return server.task_state is None or None
        if (server.host is None or server.task_state is not None
                or server.vm_state == vm_states.RESIZED):
            return None
        return False

    def give_back(self, context, nodename, elsewhere):
        """Free what is allocated here for servers that are not here.

        :returns: what was written, see :meth:`_write`
        """
        written: dict[str, typing.Any] = {}
        for consumer in elsewhere:
            try:
                left = self._give_back(context, consumer, nodename)
            except km_exc.Conflict as exc:
                LOG.debug('Nothing of %s is given back now: %s', consumer,
                          exc)
                continue
            if left is not None:
                written[consumer] = {
                    provider: allocation['resources']
                    for provider, allocation in left.items()}
        return written

    def _give_back(self, context, consumer, nodename):
        """:returns: what it has left, None where nothing was written"""
        # First, so that what is allocated from here on is left alone.
        found = self._placement.allocations_of(consumer)
        server = accounting.read(context, consumer)
        if server is not None:
            if self._where(context, consumer) is not False:
                return None
            self._drop_move(context, server)
        left = self._placement.withdraw(consumer, self._nodes(
            self._driver._tracker.compute_nodes[nodename]), found)
        if left is not None:
            LOG.info('What it had allocated on the NUMA nodes of %s is given '
                     'back, as it is not there', nodename,
                     instance_uuid=consumer)
        return left

    def _is_nobody(self, context, consumer):
        """Whether the cell has not known a consumer for long.

        A server is claimed for before it is in the database of its cell.
        """
        try:
            objects.Migration.get_by_uuid(context, consumer)
        except exception.MigrationNotFound:
            since = self._unknown.setdefault(consumer, time.monotonic())
            return time.monotonic() >= since + _UNKNOWN
        return False

    def _drop_move(self, context, server):
        """Where it was to come here.

        When a later claim for it is aborted, Nova would give back what was
        claimed for this one: a claim holds a copy of the instance from before
        it (nova/compute/claims.py, Claim).
        """
        if server.migration_context is None:
            return
        try:
            migration = objects.Migration.get_by_id(
                context, server.migration_context.migration_id)
        except exception.MigrationNotFound:
            return
        if migration.dest_compute == self._driver._tracker.host:
            server.drop_migration_context()

    @staticmethod
    def _nodes(compute):
        """uuids of the node providers of a host"""
        if not compute.numa_topology:
            return set()
        topology = objects.NUMATopology.obj_from_db_obj(compute.numa_topology)
        return {naming.provider_uuid(compute.uuid, cell.id)
                for cell in topology.cells}
