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
driver sees the server.  :func:`repin` takes the lock again, gives those
back, takes the ones that the template names, and leaves instance, resource
tracker and compute node record in agreement.

Two servers that boot together may each have been claimed on what the other's
template names.  Then the one that comes first lets go of all it holds and
waits outside the lock until the other has settled: nobody waits while
holding something, so there is no deadlock, and nobody touches a claim that is
not its own.
"""

import time

from kongming import exception as km_exc
from kongming.fit import demand
from kongming.fit import fit
from kongming.host import usage
from kongming.intent import merge
from kongming.template import cache_claims
from kongming.template import template
from nova.compute import resource_tracker
from nova.compute import task_states
from nova.compute import vm_states
from nova import exception
from nova import objects
from nova import utils
from nova.virt import hardware
from oslo_log import log as logging

from nova_ext import cache
from nova_ext import limits
from nova_ext.ownership import granted
from nova_ext.ownership import ownership
from nova_ext.ownership import write_ahead
from nova_ext import translate

LOG = logging.getLogger(__name__)

#: How long to wait for servers that boot at the same time, in seconds.  Each
#: settles as soon as its networks and volumes are ready.
WAIT = 30.0
_POLL = 0.1, 1.0
#: States from which a server is claimed and spawned; an unshelved one, too.
BOOTING = (vm_states.BUILDING, vm_states.SHELVED_OFFLOADED)


class _Refused(Exception):
    """The template doesn't fit now.

    :ivar passing: whether only servers that are about to settle are in the
        way
    :ivar stale: whether only pCPUs that no server owns are in the way,
        besides
    """

    def __init__(self, reason, passing, stale=False):
        super().__init__(reason)
        self.passing = passing
        self.stale = stale


def repin(rt, context, server, claims):
    """Give a claimed server the pCPUs and nodes of its template.

    Changes nothing for a server that has them already, so it can be repeated.

    :param rt: Nova's resource tracker, which holds the claim
    :param server: nova_ext.ownership.claimed.ClaimedServer
    :param claims: uuid -> node -> kongming.host.usage.CacheClaim, of servers
        here; what this one claims is added
    :returns: whether anything was changed
    :raises nova.exception.ComputeResourcesUnavailable: if the template can't
        be had here; Nova aborts the claim then and tries its next host
    """
    try:
        desired, beyond = _desired(server)
    except km_exc.InvalidTemplate as exc:
        raise _unavailable(exc) from exc
    if beyond:
        raise _unavailable('; '.join(map(str, beyond)))
    state = _Caches(rt, server, desired, claims)
    deadline = time.monotonic() + WAIT
    pause, longest = _POLL
    audited = False
    while True:
        try:
            return _swap(rt, context, server, desired, state)
        except _Refused as exc:
            if exc.stale and not audited:
                # A server that is deleted soon after it has come by live
                # migration stays in the tracker's usage until the next audit
                # (nova/compute/resource_tracker.py,
                # _update_usage_from_instance takes it for a new one).
                LOG.info('pCPUs that no server owns are in the way, so the '
                         'resource tracker looks again: %s', exc,
                         instance=server.instance)
                audited = True
                try:
                    write_ahead.audit(context.elevated(), rt,
                                      server.nodename)
                except Exception:
                    # Nova's manager makes light of it, too.
                    LOG.warning('The audit failed', exc_info=True,
                                instance=server.instance)
                continue
            if not exc.passing or time.monotonic() > deadline:
                raise _unavailable(exc) from exc
            LOG.debug('Waiting for servers that boot at the same time: %s',
                      exc, instance=server.instance)
        time.sleep(pause)
        pause = min(2 * pause, longest)


def _desired(server):
    """The flavor's template; what has changed live since stays so at home.

    :returns: kongming.template.template.Template, and what of the flavor's
        is beyond this host's limits
    :raises kongming.exception.InvalidTemplate: if the flavor's is none
    """
    desired, beyond = limits.decode(server.instance.flavor.extra_specs)
    if server.at_home:
        desired = merge.merge(desired, server.instance.metadata,
                              limits=limits.of_host()).base
    return desired, beyond


class _Caches:
    """A host with what is free of its caches, where a server claims some.

    :raises nova.exception.ComputeResourcesUnavailable: if it has none
    """

    def __init__(self, rt, server, desired, claims):
        self._claims, self._uuid = claims, server.instance.uuid
        self._capacities = None
        if not cache_claims.concerns(desired) or server.at_home:
            return
        reason = cache.why_not()
        if reason:
            raise _unavailable(f'cache: {reason}')
        self._capacities = cache.capacities(write_ahead.host_topology(
            rt.compute_nodes[server.nodename]))

    def of(self, topology, owners=usage.NOBODY):
        """:returns: kongming.host.usage.HostState"""
        host = limits.host_state(topology, owners)
        if self._capacities is not None:
            for node in host.nodes:
                node.cache_capacity = cache.left(
                    self._capacities, self._claims, node.id, self._uuid)
        return host

    def retain(self, asked, assignment):
        """What it claims, for those that come next."""
        if self._capacities is not None:
            self._claims[self._uuid] = {
                going.node: cell.claim for cell, going
                in zip(asked.cells, assignment.cells) if cell.claim}


def _unavailable(reason):
    return exception.ComputeResourcesUnavailable(reason=str(reason))


@utils.synchronized(resource_tracker.COMPUTE_RESOURCE_SEMAPHORE, fair=True)
def _swap(rt, context, server, desired, state):
    """One attempt, under Nova's resource lock."""
    instance, compute = server.instance, rt.compute_nodes[server.nodename]
    claimed = server.topology
    asked = demand.Demand(_asked(server), desired)
    if asked.problem:
        raise _Refused(asked.problem, passing=False)
    if claimed is None and not limits.never():
        return False  # it owns nothing, and its template names nothing
    if not compute.numa_topology:
        raise _Refused('the host reports no NUMA topology', passing=False)
    now = write_ahead.host_topology(compute)
    reason = translate.inconsistency(now)
    if reason:
        raise _Refused(reason, passing=False)
    if claimed is None:
        if limits.host_state(now).shared:
            return False
        raise _Refused('all pCPUs that it could float over are in [kongming] '
                       'never_pcpus', passing=False)
    if server.at_home and satisfied(desired, claimed,
                                    translate.host_state(now)):
        return False
    charged = write_ahead.is_charged(rt, instance.uuid, claimed, now)
    host = write_ahead.without(now, claimed) if charged else now
    bounds = {
        'allowed': granted.allowed(server),
        'limits': usage.Limits(compute.cpu_allocation_ratio,
                               compute.ram_allocation_ratio)}
    result = (fit.fit(state.of(host), asked, **bounds)
              or _beside_booting(rt, context, server, host, asked, bounds,
                                 state))
    mine = ownership.Ownership(claimed)
    wanted = mine.assigned(result)
    if mine == ownership.Ownership(wanted):
        return False
    write_ahead.write(rt, server, claimed if charged else None, wanted)
    state.retain(asked, result)
    LOG.info('The template\'s pins are claimed: %s', result,
             instance=instance)
    return True


def _asked(server):
    """The guest as it was asked for: a claim has page sizes resolved."""
    guest = translate.guest_of(server.topology)
    wanted = hardware.numa_get_constraints(
        server.instance.flavor, server.image_meta)
    if wanted is None or len(wanted) != len(guest.cells):
        return guest
    return guest._replace(cells=tuple(
        cell._replace(page_kib=asked.pagesize)
        for cell, asked in zip(guest.cells, wanted.cells)))


def _beside_booting(rt, context, server, host, asked, bounds, state):
    """A second look, at who is in the way.

    Servers that are about to settle use no memory yet, and may settle on
    another node, so theirs is not in the way.  Their pCPUs are, until they
    have settled: then this server lets go of its own, so that they can.

    Owners go by name into the log only: the reason is the server's fault,
    which its tenant reads.

    :returns: kongming.fit.fit.Assignment
    :raises _Refused: with the reason
    """
    instance = server.instance
    owners = {}
    without = host
    for other in objects.InstanceList.get_by_host_and_node(
            context, rt.host, server.nodename,
            expected_attrs=['flavor', 'numa_topology']):
        if other.uuid == instance.uuid or other.numa_topology is None:
            continue
        owned = ownership.pcpus_of(other)
        name = km_exc.printable(other.display_name)
        owners.update(dict.fromkeys(owned, f'server {name} ({other.uuid})'))
        if will_be_repinned(other, host):
            without = write_ahead.without(without, other.numa_topology)
    with_pins = without.obj_clone()
    for cell, now in zip(with_pins.cells, host.cells):
        cell.pinned_cpus = now.pinned_cpus
    result = fit.fit(state.of(with_pins), asked, **bounds)
    if result:
        return result
    LOG.info('%(host)s: the template does not fit: %(reason)s',
             {'host': rt.host, 'reason': fit.fit(
                 state.of(host, owners), asked, **bounds)},
             instance=instance)
    why = str(fit.fit(state.of(host), asked, **bounds))
    if granted.has_near_devices(instance):
        nodes = sorted({cell.id for cell in server.topology.cells})
        why += (f' (PCI devices that have to be near were claimed for node '
                f'{", ".join(map(str, nodes))})')
    passing = bool(fit.fit(state.of(without), asked, **bounds))
    if passing:
        _let_go(rt, server)
        raise _Refused(why, passing)
    raise _Refused(why, passing, stale=_is_stale(
        rt, context, without, owners.keys(), asked, bounds, state))


def _is_stale(rt, context, host, owned, asked, bounds, state):
    """Whether it would fit but for pCPUs that no server owns."""
    if all(cell.pinned_cpus <= owned for cell in host.cells):
        return False
    owned = owned | _of_migrations(rt, context)
    for cell in host.cells:
        cell.pinned_cpus &= owned
    return bool(fit.fit(state.of(host), asked, **bounds))


def _of_migrations(rt, context):
    """pCPUs here of servers that come, or may come back."""
    found = set()
    for uuid in list(rt.tracked_migrations):
        try:
            move = objects.Instance.get_by_uuid(
                context, uuid, expected_attrs=['migration_context']
                ).migration_context
        except exception.InstanceNotFound:
            continue
        for topology in (move.old_numa_topology, move.new_numa_topology
                         ) if move else ():
            if topology:
                found |= ownership.Ownership(topology).pcpus
    return found


def will_be_repinned(other, host):
    """Whether a server holds pCPUs that it will swap before it runs."""
    specs = other.flavor.extra_specs
    if (other.vm_state not in BOOTING
            or not template.has_template(specs)):
        return False
    if other.task_state != task_states.SPAWNING:
        return True
    try:
        return not satisfied(
            template.decode(specs), other.numa_topology,
            translate.host_state(host))
    except km_exc.InvalidTemplate:
        return False


@utils.synchronized(resource_tracker.COMPUTE_RESOURCE_SEMAPHORE, fair=True)
def take_any(rt, server):
    """Pins for a server that runs whatever its template says.

    Those of its claim, unless it has let go of them, or of those that are
    never given to a template.

    :raises nova.exception.ComputeResourcesUnavailable: if there are none left
    """
    claimed, compute = server.topology, rt.compute_nodes[server.nodename]
    if claimed is None or not server.has_let_go and (
            server.at_home or limits.never().isdisjoint(
                ownership.Ownership(claimed).pcpus)):
        return
    host = write_ahead.host_topology(compute)
    charged = write_ahead.is_charged(rt, server.instance.uuid, claimed, host)
    if charged:
        host = write_ahead.without(host, claimed)
    result = fit.fit(limits.host_state(host), demand.Demand(
        _asked(server), template.Template()))
    if not result:
        raise _unavailable(result)
    write_ahead.write(rt, server, claimed if charged else None,
                      ownership.Ownership(claimed).assigned(result))


def _let_go(rt, server):
    """Keep node and memory of the claim, give back its pCPUs."""
    claimed = server.topology
    if ownership.Ownership(claimed).pcpus and write_ahead.is_charged(
            rt, server.instance.uuid, claimed,
            write_ahead.host_topology(rt.compute_nodes[server.nodename])):
        write_ahead.write(rt, server, claimed,
                          ownership.Ownership(claimed).without_pcpus())


def satisfied(desired, topology, host):
    """Whether a server is where its template names a node or a pCPU.

    What it has it keeps, be it among those that are never given.

    :param topology: nova.objects.InstanceNUMATopology
    :param host: kongming.host.usage.HostState; what is taken does not matter
    """
    if ownership.Ownership(topology).lacks_pcpus:
        return False
    if any(number >= len(topology) or topology.cells[number].id != node
           for number, node in desired.nodes.items()):
        return False
    try:
        resolved = demand.resolve(
            host, demand.Demand(translate.guest_of(topology), desired))
    except demand.Unfit:
        return False
    return all(pins.items() <= (cell.cpu_pinning or {}).items()
               for pins, cell in zip(resolved.exact, topology.cells))
