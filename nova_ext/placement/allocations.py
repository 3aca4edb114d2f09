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

"""Allocations in Placement that follow what servers own."""

from keystoneauth1 import exceptions as ks_exc
from kongming.placement import flavor
from kongming.placement import inventory
from kongming.placement import reserved
from nova import exception
from nova import objects
from oslo_log import log as logging

from nova_ext import cache
from nova_ext.placement import publish

LOG = logging.getLogger(__name__)
#: The first in which an allocation says its consumer's generation.
_VERSION = '1.28'


class Allocations:
    """:param driver: nova_ext.driver.LibvirtDriver"""

    def __init__(self, driver):
        self._driver = driver
        #: Servers whose allocation doesn't name what they own yet; what they
        #: own is not to be reserved, or it could never be allocated to them.
        self.stale = set()
        self._checked = False
        #: Servers that may have something allocated here and never come.
        self.expected = set()
        self._asked = False

    def catch_up(self, context, nodename, servers):
        """Allocations that did not follow a change, or a crash before.

        :param servers: by uuid
        """
        if not self._checked:
            # What was before this process is not known.
            self.stale |= servers.keys()
            self._checked = True
        self.stale &= servers.keys()
        if not self.stale:
            return
        left = self.follow(context, self.stale)
        if not left:
            return
        # Now that they are known to be stale, nothing is reserved for them.
        tracker, server = self._driver._tracker, servers[min(left)]
        tracker.update_usage(context, server, nodename)
        if self.follow(context, left) != left:
            tracker.update_usage(context, server, nodename)

    def give_back(self, context, nodename, here):
        """Free what is allocated here for servers that did not come.

        A move that was cut short leaves it, and Nova only warns
        (nova/compute/resource_tracker.py,
        _remove_deleted_instances_allocations): without pCPUs by name it is in
        nobody's way while there is capacity.  But those would be granted to
        nobody again, not even to the same server.

        :param here: servers that are here
        """
        try:
            if not self._asked:
                # What was before this process is not known.
                self.expected |= self._consumers(context, nodename)
                self._asked = True
            self.expected -= here
            for uuid in list(self.expected):
                if self._is_over(context, uuid, nodename):
                    self.expected.discard(uuid)
        except (exception.NovaException, ks_exc.ClientException) as exc:
            LOG.debug('Nothing is given back now: %s', exc)

    def _consumers(self, context, nodename):
        """Who has something allocated on our nodes.

        :raises nova.exception.ResourceProviderAllocationRetrievalFailed: if
            Placement doesn't answer
        """
        found = set()
        for provider in self._nodes(nodename):
            response = self._driver.virtapi.reportclient.get(
                f'/resource_providers/{provider}/allocations',
                global_request_id=context.global_id)
            if response.status_code == 200:
                found.update(response.json()['allocations'])
            elif response.status_code != 404:  # not published
                raise exception.ResourceProviderAllocationRetrievalFailed(
                    rp_uuid=provider, error=response.text)
        return found

    def _is_over(self, context, uuid, nodename):
        """See to a server that may have been about to come.

        :returns: whether it is to be expected no more
        """
        # First, so that what is allocated from here on is left alone.
        found = self._driver.virtapi.reportclient.get_allocs_for_consumer(
            context, uuid)
        try:
            server = objects.Instance.get_by_uuid(
                context, uuid, expected_attrs=['migration_context'])
        except exception.InstanceNotFound:
            return True  # deleted, or a migration
        if server.host == self._driver._tracker.host:
            return True
        if server.host is None or server.task_state is not None:
            return False
        self._drop_move(context, server)
        left = {provider: {'resources': allocation['resources']}
                for provider, allocation in found['allocations'].items()
                if provider not in self._nodes(nodename)}
        if len(left) == len(found['allocations']):
            return True
        LOG.info('What it had allocated on the nodes of %s is given back, as '
                 'it did not come', nodename, instance=server)
        return self._post(context, {
            uuid: self._payload(found, left)}) is None

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

    def _nodes(self, nodename):
        """provider of ours -> node"""
        compute = self._driver._tracker.compute_nodes[nodename]
        if not compute.numa_topology:
            return {}
        topology = objects.NUMATopology.obj_from_db_obj(compute.numa_topology)
        return {inventory.provider_uuid(compute.uuid, cell.id): cell.id
                for cell in topology.cells}

    @staticmethod
    def _payload(found, allocations):
        """Of one consumer; refused where it has changed since."""
        return {'allocations': allocations,
                'consumer_generation': found['consumer_generation'],
                'project_id': found['project_id'],
                'user_id': found['user_id']}

    def follow(self, context, uuids):
        """Have allocations name the pCPUs that servers own.

        All in one request, since one may get what another gives up.

        :returns: the servers for which it couldn't be done now
        """
        uuids = set(uuids)
        payload = {}
        try:
            for uuid in uuids:
                payload.update(self._wanted(context, uuid))
            left = self._post(context, payload)
        except (exception.NovaException, ks_exc.ClientException) as exc:
            left = str(exc)
        if left:
            LOG.info('Allocations will follow later: %s', left)
            if len(uuids) > 1:
                stale = set()
                for uuid in uuids:
                    stale |= self.follow(context, {uuid})
                return stale
            self.stale |= uuids
            return uuids
        self.stale -= uuids
        return set()

    def _post(self, context, payload):
        """:returns: why it couldn't be done, or None"""
        if not payload:
            return None
        response = self._driver.virtapi.reportclient.post(
            '/allocations', payload, version=_VERSION,
            global_request_id=context.global_id)
        if response is None:
            return 'Placement could not be reached'
        return None if response.status_code == 204 else response.text

    def _wanted(self, context, uuid):
        """What is to be posted for a server; empty where it is so."""
        server = objects.Instance.get_by_uuid(
            context, uuid, expected_attrs=['flavor', 'numa_topology'])
        if not flavor.asked_groups(server.flavor.extra_specs):
            return {}
        compute = self._driver._tracker.compute_nodes[server.node]
        found = self._driver.virtapi.reportclient.get_allocs_for_consumer(
            context, uuid)
        topology = objects.NUMATopology.obj_from_db_obj(compute.numa_topology)
        nodes = self._nodes(server.node)
        claims = cache.claims(server.flavor.extra_specs, server.numa_topology)
        owned = {
            provider: publish.owned(server.numa_topology, number, topology,
                                    claims.get(number))
            for provider, node in nodes.items()
            for number, cell in enumerate(server.numa_topology.cells)
            if cell.id == node}
        allocations = {provider: allocation['resources'] for
                       provider, allocation in found['allocations'].items()}
        granted = {provider: resources for provider, resources
                   in allocations.items() if provider in nodes}
        wanted = reserved.moved(granted, owned)
        if not granted or wanted == granted:
            return {}
        for provider in granted:
            del allocations[provider]
        allocations.update(wanted)
        return {uuid: self._payload(found, {
            provider: {'resources': resources}
            for provider, resources in allocations.items()})}
