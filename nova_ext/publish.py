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

from kongming import accounts
from kongming import flavor
from kongming import inventory
from nova import objects
from oslo_log import log as logging

from nova_ext import claim

LOG = logging.getLogger(__name__)


def reserved(context, rt, reportclient, provider_tree, nodename, topology,
             host):
    """What each node's inventory has to reserve.

    Asks Placement only where a server's flavor has asked for one of our
    groups; of a host with native servers only, nothing is allocated on ours.

    :param provider_tree: as Placement has it
    :param topology: nova.objects.NUMATopology of the host
    :param host: the same as kongming.usage.HostState
    :returns: node -> resource class -> amount
    """
    if not any(node.taken or node.memory_used_mib or node.shared_used
               or any(pages.free != pages.total for pages in node.pages)
               for node in host.nodes):
        return {}
    compute = rt.compute_nodes[nodename]
    servers: dict[int, dict[str, accounts.Owned]] = {
        node.id: {} for node in host.nodes}
    unsettled = set()
    asked = False
    for server in objects.InstanceList.get_by_host_and_node(
            context, rt.host, nodename,
            expected_attrs=['flavor', 'numa_topology']):
        asked = asked or any(map(flavor.is_group_key,
                                 server.flavor.extra_specs))
        if server.numa_topology is None:
            continue
        if claim.about_to_settle(server, topology):
            unsettled.add(server.uuid)
        for cell in server.numa_topology.cells:
            if cell.id in servers:
                servers[cell.id][server.uuid] = _owned(cell, topology)
    moving = {migration.uuid for migration in rt.tracked_migrations.values()}
    result = {}
    for node in host.nodes:
        allocations = {}
        uuid = inventory.provider_uuid(compute.uuid, node.id)
        if (asked or moving) and provider_tree.exists(uuid):
            allocations = {
                consumer: found['resources'] for consumer, found in
                reportclient.get_allocations_for_resource_provider(
                    context, uuid).allocations.items()}
        result[node.id] = accounts.reserved(
            node, servers[node.id], allocations, unsettled, moving)
    return result


def _owned(cell, topology):
    pcpus = set((cell.cpu_pinning or {}).values())
    pcpus |= cell.cpuset_reserved or set()
    if cell.cpu_thread_policy == 'isolate':
        # Nova counts the siblings as taken, too.
        pcpus |= {p for node in topology.cells for core in node.siblings
                  if pcpus & core for p in core}
    return accounts.Owned(frozenset(pcpus), len(cell.cpuset), cell.memory,
                          cell.pagesize)


def update(provider_tree, nodename, host, ratios, held, in_use):
    """Make the tree hold what the library says that the host looks like.

    Everything is worked out before the tree is touched; Nova's own provider
    is never written.  What is gone from the host but still allocated stays,
    all of it reserved: Placement would refuse to take it away, and Nova's
    whole update of the host would fail with that.

    :param provider_tree: nova.compute.provider_tree.ProviderTree
    :param nodename: name of the compute node's provider in it
    :param host: kongming.usage.HostState
    :param ratios: kongming.inventory.Ratios
    :param held: node -> class -> amount, as :func:`reserved` tells
    :param in_use: provider uuid -> the resource classes allocated on it;
        asked only where something is to be taken away
    """
    root = provider_tree.data(nodename).uuid
    wanted = {}
    traits = {}
    for provider in inventory.build(nodename, root, host, ratios, held):
        wanted[provider.uuid] = dict(provider.inventory)
        traits[provider.uuid] = provider
    gone = []
    for uuid in provider_tree.get_provider_uuids(nodename):
        data = provider_tree.data(uuid)
        if inventory.TRAIT_OWNER not in data.traits:
            continue
        lost = set(data.inventory) - set(wanted.get(uuid, ()))
        kept = lost & in_use(uuid) if lost else set()
        if kept:
            LOG.warning('%(name)s has no %(classes)s any more, but servers '
                        'have them allocated; nothing of them is given out',
                        {'name': data.name,
                         'classes': ', '.join(sorted(kept))})
        if uuid not in wanted and not kept:
            gone.append(uuid)
        elif kept:
            wanted.setdefault(uuid, {}).update(
                (name, {**data.inventory[name],
                        'reserved': data.inventory[name]['total']})
                for name in kept)
    for uuid in gone:
        provider_tree.remove(uuid)
    for uuid, records in wanted.items():
        if not provider_tree.exists(uuid):
            provider_tree.new_child(traits[uuid].name, root, uuid=uuid)
        provider_tree.update_inventory(uuid, records)
        if uuid in traits:
            provider_tree.update_traits(uuid, traits[uuid].traits)
