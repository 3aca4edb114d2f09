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

"""The host's children in Nova's provider tree, and what they hold back."""

from kongming.host import usage
from kongming.placement import flavor
from kongming.placement import inventory
from kongming.placement import reserved as reserved_mod
from nova import exception
from nova import objects
from oslo_log import log as logging

from nova_ext import cache
from nova_ext.ownership import claim
from nova_ext.ownership import ownership

LOG = logging.getLogger(__name__)


def reserved(context, rt, reportclient, provider_tree, nodename, topology,
             host, stale=frozenset()):
    """What each node's inventory has to reserve.

    Asks Placement only where a server's flavor has asked for one of our
    groups; of a host with native servers only, nothing is allocated on ours.

    :param provider_tree: as Placement has it
    :param topology: nova.objects.NUMATopology of the host
    :param host: the same as kongming.host.usage.HostState
    :param stale: servers whose allocation is about to follow what they own
    :returns: node -> resource class -> amount
    """
    if not any(node.taken or node.never or node.memory_used_mib
               or node.shared_used
               or any(pages.free != pages.total for pages in node.pages)
               for node in host.nodes):
        return {}
    compute = rt.compute_nodes[nodename]
    servers = objects.InstanceList.get_by_host_and_node(
        context, rt.host, nodename,
        expected_attrs=['flavor', 'numa_topology', 'migration_context'])
    users = {server.uuid: _use(server, server.numa_topology)
             for server in servers}
    pending = {server.uuid for server in servers
               if server.numa_topology is not None
               and (server.uuid in stale
                    or claim.will_be_repinned(server, topology))}
    allocations = {}
    if rt.tracked_migrations or any(
            flavor.is_group_key(key) for server in servers
            for key in server.flavor.extra_specs):
        for node in host.nodes:
            uuid = inventory.provider_uuid(compute.uuid, node.id)
            if provider_tree.exists(uuid):
                found = reportclient.get_allocations_for_resource_provider(
                    context, uuid).allocations
                allocations[node.id] = {
                    consumer: allocation['resources']
                    for consumer, allocation in found.items()}
    consumers = {consumer for found in allocations.values()
                 for consumer in found}
    _add_moves(context, rt, consumers, users)
    # What an allocation accounts for it does on whichever node.
    accounted = {uuid: {name for found in allocations.values()
                        for name in found.get(uuid, ())}
                 for uuid in pending}
    return {node.id: reserved_mod.reserved(
        node, _owned_of(node.id, users, topology),
        allocations.get(node.id, {}), accounted) for node in host.nodes}


def _add_moves(context, rt, consumers, users):
    """What servers have left, are going to have, or have twice.

    Nova makes over to the migration what a server has on its source, and
    allocates in the server's own name what it has claimed on its destination.

    :param consumers: those who have something allocated here
    :param users: consumer -> see :func:`_use`; changed here
    """
    for consumer in consumers - users.keys():
        try:
            migration = objects.Migration.get_by_uuid(context, consumer)
        except exception.MigrationNotFound:
            continue
        if migration.source_compute == rt.host:
            server = _server(context, migration.instance_uuid)
            users[consumer] = (_use(server, _topology(server, 'old'),
                                    server.old_flavor)
                               if server else (None, {}))
    for uuid, migration in rt.tracked_migrations.items():
        if migration.dest_compute == rt.host:
            server = _server(context, uuid)
            if server and server.migration_context:
                users[uuid] = _use(server, _topology(server, 'new'),
                                   server.new_flavor)


def _server(context, uuid):
    try:
        return objects.Instance.get_by_uuid(
            context, uuid,
            expected_attrs=['flavor', 'numa_topology', 'migration_context'])
    except exception.InstanceNotFound:
        return None


def _topology(server, which):
    """Its topology before or after the move that it is in."""
    context = server.migration_context
    if context is None:
        return server.numa_topology
    return getattr(context, f'{which}_numa_topology')


def _use(server, numa, flavor_=None):
    """What a server has: its topology, and what each cell claims."""
    flavor_ = flavor_ or server.flavor
    return numa, cache.claims(flavor_.extra_specs, numa)


def _owned_of(node, users, topology):
    """consumer -> kongming.placement.reserved.Owned, of one node."""
    return {consumer: owned(numa, number, topology, claims.get(number))
            for consumer, (numa, claims) in users.items() if numa is not None
            for number, cell in enumerate(numa.cells) if cell.id == node}


def owned(numa, number, topology, claimed=None):
    """What one cell of a server has of the host.

    :param numa: nova.objects.InstanceNUMATopology
    :param number: of the cell
    :param topology: nova.objects.NUMATopology of the host
    :param claimed: kongming.host.usage.CacheClaim of the cell, or None
    """
    cell = numa.cells[number]
    pcpus = set(ownership.Ownership(numa).pcpus_of(number))
    if cell.cpu_thread_policy == 'isolate':
        # Nova counts the siblings as taken, too.
        pcpus |= {p for node in topology.cells for core in node.siblings
                  if pcpus & core for p in core}
    return reserved_mod.Owned(frozenset(pcpus), len(cell.cpuset), cell.memory,
                              cell.pagesize, claimed or usage.CacheClaim())


def update(provider_tree, nodename, host, ratios, reserves, in_use, name_of,
           capacities=None):
    """Make the tree hold what the library says that the host looks like.

    Everything is worked out before the tree is touched; Nova's own provider
    is never written.

    :param provider_tree: nova.compute.provider_tree.ProviderTree
    :param nodename: name of the compute node's provider in it
    :param host: kongming.host.usage.HostState
    :param ratios: kongming.placement.inventory.Ratios
    :param reserves: node -> class -> amount, as :func:`reserved` says
    :param in_use: provider uuid -> resource class -> the consumers who have
        it; asked only where something is to be taken away
    :param name_of: consumer -> how to call it
    :param capacities: node -> kongming.host.usage.CacheCapacity
    """
    root = provider_tree.data(nodename).uuid
    have = []
    for uuid in provider_tree.get_provider_uuids(nodename):
        data = provider_tree.data(uuid)
        if inventory.TRAIT_OWNER in data.traits:
            have.append(inventory.Provider(
                data.name, uuid, data.inventory, frozenset(data.traits)))
    users = {}

    def resource_classes_in_use(uuid):
        users[uuid] = in_use(uuid)
        return set(users[uuid])

    plan = inventory.plan(
        inventory.build(nodename, root, host, ratios, reserves,
                        [inventory.TRAIT_HOOK], capacities), have,
        resource_classes_in_use)
    for uuid, unremovable in plan.in_use.items():
        LOG.warning(
            '%(name)s has no %(classes)s any more, but %(who)s has it '
            'allocated; nothing of it is given out until it is free',
            {'name': provider_tree.data(uuid).name,
             'classes': ', '.join(sorted(unremovable)),
             'who': ', '.join(sorted({
                 name_of(consumer) for class_ in unremovable
                 for consumer in users[uuid][class_]}))})
    for uuid in plan.gone:
        provider_tree.remove(uuid)
    for provider in plan.wanted:
        if not provider_tree.exists(provider.uuid):
            provider_tree.new_child(provider.name, root, uuid=provider.uuid)
        provider_tree.update_inventory(provider.uuid,
                                       dict(provider.inventory))
        provider_tree.update_traits(provider.uuid, provider.traits)
