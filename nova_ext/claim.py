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

"""Nova's arbitrary pins swapped for the template's.

Nova claims pCPUs of its own choice, under its resource lock, before the
driver sees the server.  :func:`settle` takes the lock again, gives those
back, takes the ones that the template names, and leaves instance, resource
tracker and compute node record in agreement.

Two servers that boot together may each have been claimed on what the other's
template names.  Then the one that comes first lets go of all it holds and
waits outside the lock until the other has settled: nobody waits while
holding something, so there is no deadlock, and nobody touches a claim that is
not its own.
"""

import time

from kongming import demand
from kongming import exception as km_exc
from kongming import fit
from kongming import flavor
from kongming import inventory
from kongming import template
from kongming import usage
from nova.compute import resource_tracker
from nova.compute import task_states
from nova.compute import vm_states
from nova import exception
from nova import objects
from nova import utils
from nova.virt import hardware
from oslo_log import log as logging

from nova_ext import translate

LOG = logging.getLogger(__name__)

#: How long to wait for servers that boot at the same time, in seconds.  Each
#: settles as soon as its networks and volumes are ready.
WAIT = 30.0
_POLL = 0.1, 1.0


class _Refused(Exception):
    """The template doesn't fit now.

    :ivar passing: whether only servers that are about to settle are in the
        way
    """

    def __init__(self, reason, passing):
        super().__init__(reason)
        self.passing = passing


def settle(rt, context, instance, allocations):
    """Give a claimed server the pCPUs and nodes of its template.

    Changes nothing for a server that has them already, so it can be repeated.

    :param rt: Nova's resource tracker, which holds the claim
    :param allocations: the server's Placement allocations by provider uuid;
        a node granted there is the node that is used
    :raises nova.exception.ComputeResourcesUnavailable: if the template can't
        be had here; Nova aborts the claim then and tries its next host
    """
    try:
        wish = template.decode(instance.flavor.extra_specs)
    except km_exc.InvalidTemplate as exc:
        raise _unavailable(exc) from exc
    deadline = time.monotonic() + WAIT
    pause, longest = _POLL
    while True:
        try:
            _swap(rt, context, instance, wish, allocations)
            return
        except _Refused as exc:
            if not exc.passing or time.monotonic() > deadline:
                raise _unavailable(exc) from exc
            LOG.debug('Waiting for servers that boot at the same time: %s',
                      exc, instance=instance)
        time.sleep(pause)
        pause = min(2 * pause, longest)


def _unavailable(reason):
    return exception.ComputeResourcesUnavailable(reason=str(reason))


@utils.synchronized(resource_tracker.COMPUTE_RESOURCE_SEMAPHORE, fair=True)
def _swap(rt, context, instance, wish, allocations):
    """One attempt, under Nova's resource lock."""
    compute = rt.compute_nodes[instance.node]
    claimed = instance.numa_topology
    asked = demand.Demand(_asked(instance), wish)
    if asked.problem:
        raise _Refused(asked.problem, passing=False)
    if claimed is None:
        return  # it owns nothing, and its template names nothing to own
    if not compute.numa_topology:
        raise _Refused('the host reports no NUMA topology', passing=False)
    host = hardware.numa_usage_from_instance_numa(
        objects.NUMATopology.obj_from_db_obj(compute.numa_topology),
        claimed, free=True)
    bounds = {
        'allowed': _allowed(instance, compute.uuid, host, allocations),
        'limits': usage.Limits(compute.cpu_allocation_ratio,
                               compute.ram_allocation_ratio)}
    result = fit.fit(translate.host_state(host), asked, **bounds)
    if not result:
        raise _refusal(rt, context, instance, host, asked, bounds)
    wanted = translate.assigned(claimed, result)
    if _same(claimed, wanted):
        return
    _store(rt, context, instance, compute, host, wanted)
    LOG.info('Template settled: %s', result, instance=instance)


def _asked(instance):
    """The guest as it was asked for: a claim has page sizes resolved."""
    guest = translate.guest_of(instance.numa_topology)
    wanted = hardware.numa_get_constraints(
        instance.flavor, instance.image_meta)
    if wanted is None or len(wanted) != len(guest.cells):
        return guest
    return guest._replace(cells=tuple(
        cell._replace(page_kib=asked.pagesize)
        for cell, asked in zip(guest.cells, wanted.cells)))


def _allowed(instance, compute_uuid, host, allocations):
    """cell -> the nodes that it may go to, or None for any."""
    if instance.pci_requests and instance.pci_requests.requests:
        # Nova has claimed devices to go with the nodes of its claim.
        return {number: {cell.id} for number, cell in
                enumerate(instance.numa_topology.cells)}
    return granted_nodes(compute_uuid, host, instance.flavor.extra_specs,
                         allocations)


def _store(rt, context, instance, compute, host, topology):
    """Make a topology the server's, in the database first.

    :param host: the host's NUMATopology without this server
    """
    used = hardware.numa_usage_from_instance_numa(host, topology)
    before, saved = instance.numa_topology, False
    instance.numa_topology = topology
    try:
        instance.save()
        saved = True
    finally:
        if not saved:
            # Nova is about to abort the claim: what this object says is what
            # it gives back, so it has to be what the tracker holds.
            instance.numa_topology = before
    compute.numa_topology = used._to_json()
    # The scheduler reads the record.  If this fails the boot fails, and
    # tracker and server agree on what to give back.
    compute.save()


def _refusal(rt, context, instance, host, asked, bounds):
    """Why the template doesn't fit.

    Owners go by name into the log only: the reason is the server's fault,
    which its tenant reads.
    Where all that is in the way is about to go, this server lets go of its
    own pCPUs, so that the others can settle.
    """
    neighbours = objects.InstanceList.get_by_host_and_node(
        context, rt.host, instance.node,
        expected_attrs=['flavor', 'numa_topology'])
    owners = {}
    passing = set()
    for other in neighbours:
        if other.uuid == instance.uuid or other.numa_topology is None:
            continue
        owned = (other.numa_topology.cpu_pinning
                 | other.numa_topology.cpuset_reserved)
        owners.update(dict.fromkeys(owned, f'server {other.display_name} '
                                           f'({other.uuid})'))
        if about_to_settle(other, host):
            passing |= owned
    LOG.info('%(host)s: the template does not fit: %(reason)s',
             {'host': rt.host, 'reason': fit.fit(
                 translate.host_state(host, owners), asked, **bounds)},
             instance=instance)
    why = fit.fit(translate.host_state(host), asked, **bounds)
    if not passing:
        return _Refused(str(why), passing=False)
    without = host.obj_clone()
    for cell in without.cells:
        cell.pinned_cpus = cell.pinned_cpus - passing
    if not fit.fit(translate.host_state(without), asked, **bounds):
        return _Refused(str(why), passing=False)
    _let_go(rt, context, instance, host)
    return _Refused(str(why), passing=True)


def about_to_settle(other, host):
    """Whether a server holds pCPUs that it will swap before it runs."""
    specs = other.flavor.extra_specs
    if (other.vm_state != vm_states.BUILDING
            or not template.has_template(specs)):
        return False
    if other.task_state != task_states.SPAWNING:
        return True
    try:
        return not satisfied(
            template.decode(specs), other.numa_topology, host)
    except km_exc.InvalidTemplate:
        return False


def _let_go(rt, context, instance, host):
    """Keep node and memory of the claim, give back its pCPUs."""
    bare = instance.numa_topology.obj_clone()
    if not bare.cpu_pinning and not bare.cpuset_reserved:
        return
    for cell in bare.cells:
        if cell.cpu_pinning is not None:
            cell.cpu_pinning = {}
        cell.cpuset_reserved = None
    _store(rt, context, instance, rt.compute_nodes[instance.node], host, bare)


def satisfied(wish, topology, host):
    """Whether a server is where its template names a node or a pCPU.

    :param topology: nova.objects.InstanceNUMATopology
    :param host: nova.objects.NUMATopology
    """
    if any(number >= len(topology) or topology.cells[number].id != node
           for number, node in wish.nodes.items()):
        return False
    try:
        wishes = demand.resolve(
            translate.host_state(host),
            demand.Demand(translate.guest_of(topology), wish))
    except demand.Unfit:
        return False
    return all(pins.items() <= (cell.cpu_pinning or {}).items()
               for pins, cell in zip(wishes.exact, topology.cells))


def granted_nodes(compute_uuid, host, specs, allocations):
    """The nodes that a server's allocation leaves each of its cells.

    :param specs: the flavor's extra specs, whose groups were asked for
    :returns: cell -> set of node ids, or None where Placement was asked for
        no node
    """
    granted = {}
    for cell in host.cells:
        uuid = inventory.provider_uuid(compute_uuid, cell.id)
        if uuid in (allocations or {}):
            granted[cell.id] = allocations[uuid]['resources']
    if not granted:
        return None
    allowed = {}
    for number, wanted in flavor.asked_groups(specs).items():
        # Each group was granted as a whole; which node's it is is told by
        # the amounts.
        allowed[number] = {node for node, found in granted.items()
                           if found == wanted} or set(granted)
    return allowed


def _same(one, other):
    return all(a.id == b.id
               and (a.cpu_pinning or {}) == (b.cpu_pinning or {})
               and (a.cpuset_reserved or set()) == (b.cpuset_reserved or set())
               and a.pagesize == b.pagesize
               for a, b in zip(one.cells, other.cells))
