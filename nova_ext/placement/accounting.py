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

"""What servers have of a host's nodes, as the resource tracker knows it.

The tracker knows which pCPUs are taken, and who is here; only those that are
about to have something else than they hold now are read from the database.
"""

from kongming import exception as km_exc
from kongming.host import usage
from kongming.intent import merge
from kongming.placement import claim as placement_claim
from kongming.placement import naming
from kongming.placement import reserved
from kongming.template import template
from nova.compute import vm_states
from nova import exception
from nova import objects

from nova_ext import cache
from nova_ext import limits
from nova_ext.ownership import claim
from nova_ext.ownership import ownership

_ATTRIBUTES = ['flavor', 'numa_topology', 'migration_context', 'metadata']


def here(rt):
    """Consumers whose allocations account for what is in use.

    Nova makes over to the migration what a server has on its source, and
    allocates in the server's own name what it has claimed on its destination.
    """
    moves = dict(rt.tracked_migrations)
    return {*rt.tracked_instances, *moves,
            *(migration.uuid for migration in moves.values())}


def reserves(context, rt, nodename, topology, host, nodes, present, stale,
             claims):
    """What each node's inventory has to reserve.

    :param topology: nova.objects.NUMATopology of the host, usage included
    :param host: the same as kongming.host.usage.HostState
    :param nodes: provider's uuid -> kongming.publish.publisher.Node
    :param present: consumers that are here, see :func:`here`
    :param stale: servers whose allocation is to follow what they own
    :param claims: uuid -> node -> kongming.host.usage.CacheClaim
    :returns: node -> resource class -> amount
    """
    compute = rt.compute_nodes[nodename]
    known = {node.id: nodes[uuid].allocations for node in host.nodes
             if (uuid := naming.provider_uuid(compute.uuid, node.id))
             in nodes}
    booting = {uuid for found in known.values() for uuid in found
               if uuid in present and _is_booting(rt, nodename, uuid)}
    coming, partly = {}, {}
    for uuid in booting | stale & present:
        server = read(context, uuid)
        if server is None or server.numa_topology is None:
            continue
        if uuid in stale and not is_nova_at_work(rt, server) or (
                uuid in booting and claim.will_be_repinned(server, topology)):
            coming[uuid] = of_nodes(server, topology)
        elif uuid in stale:
            # It follows later, and has some of it until then.
            partly[uuid] = of_nodes(server, topology)
    result = {}
    huge_mib = {
        cell.id: sum(pages.used * pages.size_kb // 1024
                     for pages in cell.mempages
                     if host.node(cell.id).huge_page_kib(pages.size_kb))
        for cell in topology.cells}
    for node in host.nodes:
        granted = known.get(node.id, {})
        result[node.id] = reserved.beside(
            node, huge_mib[node.id],
            [reserved.had(partly[consumer].get(node.id, reserved.Owned()),
                          amounts) if consumer in partly else amounts
             for consumer, amounts in granted.items()
             if consumer in present and consumer not in coming],
            [found[node.id] for found in coming.values() if node.id in found],
            _claimed(node.id, claims, coming))
    return result


def read(context, uuid):
    """A server, or None."""
    try:
        return objects.Instance.get_by_uuid(
            context, uuid, expected_attrs=_ATTRIBUTES)
    except exception.InstanceNotFound:
        return None


def is_nova_at_work(rt, server):
    """Whether its allocations are Nova's to write."""
    return (server.task_state is not None
            or server.vm_state == vm_states.RESIZED
            or server.uuid in rt.tracked_migrations)


def _is_booting(rt, nodename, uuid):
    state = rt.stats[nodename].states.get(uuid)
    return state is not None and state['vm_state'] in claim.BOOTING


def _claimed(node, claims, coming):
    found: dict[str, int] = {}
    for uuid, of_server in list(claims.items()):
        if node in of_server and uuid not in coming:
            for name, amount in reserved.Owned(
                    claim=of_server[node]).cache_amounts().items():
                found[name] = found.get(name, 0) + amount
    return found


def of_nodes(server, topology, siblings=True):
    """What a server has of each node of a host.

    :param topology: nova.objects.NUMATopology of the host
    :param siblings: with what Nova counts as taken beside its pCPUs
    :returns: node -> kongming.placement.reserved.Owned
    """
    numa = server.numa_topology
    claims = cache.claims(server.flavor.extra_specs, numa)
    small = {cell.id: min((pages.size_kb for pages in cell.mempages),
                          default=0) for cell in topology.cells}
    found = {}
    for number, cell in enumerate(numa.cells):
        pcpus = set(ownership.Ownership(numa).pcpus_of(number))
        if siblings and cell.cpu_thread_policy == 'isolate':
            pcpus |= {p for node in topology.cells for core in node.siblings
                      if pcpus & core for p in core}
        found[cell.id] = reserved.Owned(
            frozenset(pcpus), len(cell.cpuset), cell.memory,
            None if cell.pagesize == small.get(cell.id) else cell.pagesize,
            claims.get(number, usage.CacheClaim()))
    return found


def allocated(server, compute):
    """What a server's allocations on the nodes of its host are to be.

    :param compute: nova.objects.ComputeNode
    :returns: provider's uuid -> resource class -> amount
    """
    topology = objects.NUMATopology.obj_from_db_obj(compute.numa_topology)
    desired = _desired(server)
    bound = {cell.id for number, cell in enumerate(server.numa_topology.cells)
             if placement_claim.is_bound(desired, number)}
    return reserved.allocated(
        {naming.provider_uuid(compute.uuid, node): owned for node, owned
         in of_nodes(server, topology, siblings=False).items()
         if node in bound}, _named(server, desired))


def _desired(server):
    """Its template, with what has changed since."""
    try:
        desired = limits.decode(server.flavor.extra_specs)[0]
        return merge.merge(desired, server.metadata,
                           limits=limits.of_host()).base
    except km_exc.InvalidTemplate:
        return template.Template()


def _named(server, desired):
    """The pCPUs of a server that its template names."""
    found = set()
    mine = ownership.Ownership(server.numa_topology)
    for number, cell in enumerate(mine.current.cells):
        vcpus = placement_claim.named_vcpus(desired, number)
        found |= {pcpu for vcpu, pcpu in (cell.cpu_pinning or {}).items()
                  if vcpu in vcpus}
    if isinstance(desired.emulator, tuple):
        found |= mine.emulator
    return found
