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

"""Ownership written ahead: in the tracker first, then in the database.

Every change of what a server owns goes through :func:`write`, under Nova's
resource lock:

1. the resource tracker is charged with what the server has *and* with what it
   is to have;
2. the server is saved;
3. the tracker is narrowed to what the server has then.

So whatever the database says at any moment, no native claim can be given a
pCPU of it.  The answer to the save may be lost (a messaging time-out, a
conductor that is killed).  Then nobody knows which of the two the database
has, or will have once a conductor that is slow gets to it: the tracker stays
charged with both, and the server is *uncertain*.  Nothing is done to it until
:func:`resolve` has had the tracker rebuilt from the database.

Nova's audit rebuilds the tracker from the database, and knows nothing of
this; :func:`charge_again` is called at the end of it, under the same lock.
"""

import dataclasses
import time
import typing
import weakref

from nova.compute import resource_tracker
from nova.compute import vm_states
import nova.conf
from nova import exception
from nova import objects
from nova import utils
from nova.virt import hardware
from oslo_log import log as logging

from nova_ext.ownership import ownership

CONF = nova.conf.CONF
LOG = logging.getLogger(__name__)

#: After these nothing that counts was written: the server is gone, or the
#: call has not left this process.  No other answer says so: a topology is
#: written before, and apart from, the columns that ``expected_task_state``
#: guards (nova/objects/instance.py, Instance.save).
NOT_SAVED = exception.InstanceNotFound, exception.OrphanedObjectError
#: For how long, beyond the time that an answer is waited for, a conductor may
#: still carry out what it was asked, in seconds: a message that nobody has
#: taken by then has expired in the bus, and one that somebody has taken waits
#: for database locks only (innodb_lock_wait_timeout is 50 by default).
LATE = 60.0
#: States in which a server starts again as an XML says that was saved before.
SAVED_XML = vm_states.RESCUED, vm_states.SUSPENDED


@dataclasses.dataclass(frozen=True)
class Uncertain:
    """A server of which it is not known what the database has.

    :ivar before, after: nova.objects.InstanceNUMATopology; ``before`` is None
        where the tracker was not charged with it
    :ivar since: by the monotonic clock
    :ivar changes: whether the database tells the one from the other; what is
        saved without marks of changes, say, is the same before and after
    """

    nodename: str
    before: typing.Any
    after: typing.Any
    since: float
    changes: bool


#: resource tracker -> server's uuid -> Uncertain
_uncertain: typing.MutableMapping[typing.Any, dict[str, Uncertain]] = (
    weakref.WeakKeyDictionary())


def uncertain(rt):
    """server's uuid -> Uncertain, of the servers of a resource tracker."""
    return _uncertain.setdefault(rt, {})


def host_topology(compute):
    """nova.objects.NUMATopology of a compute node, as the tracker has it."""
    return objects.NUMATopology.obj_from_db_obj(compute.numa_topology)


def is_tracked(rt, uuid):
    """Whether the tracker counts a server, or a move of it to this host."""
    return uuid in rt.tracked_instances or uuid in rt.tracked_migrations


def is_charged(rt, uuid, topology, host):
    """Whether the tracker is charged with what a server was claimed.

    The audit forgets the claim of a server that is evacuated from ERROR
    (nova/compute/resource_tracker.py, _instance_in_resize_state).  What is
    not counted may be another's by now, and is never given back.

    :param topology: nova.objects.InstanceNUMATopology
    :param host: nova.objects.NUMATopology, as the tracker has it
    """
    taken = {cell.id: cell.pinned_cpus for cell in host.cells}
    mine = ownership.Ownership(topology)
    return is_tracked(rt, uuid) and all(
        mine.pcpus_of(number) <= taken.get(cell.id, set())
        for number, cell in enumerate(topology.cells))


def without(host, topology):
    """A host without what a server has, if it has anything."""
    return hardware.numa_usage_from_instance_numa(host, topology, free=True)


def with_(host, topology):
    """A host with what a server is to have.

    :raises nova.exception.CPUPinningInvalid: if something of it is another's
    """
    return hardware.numa_usage_from_instance_numa(host, topology)


def write(rt, server, before, after, publish=True):
    """Have a server own something else; called under Nova's resource lock.

    :param rt: nova.compute.resource_tracker.ResourceTracker
    :param server: nova_ext.ownership.claimed.ClaimedServer
    :param before: InstanceNUMATopology that the tracker is charged with for
        it; None where it is charged with none
    :param after: InstanceNUMATopology
    :param publish: whether the scheduler is told; otherwise what ends it does
        so in a moment, or else Nova's next audit.  Claims go by the tracker
    :raises nova.exception.CPUPinningInvalid: if something of it is another's
    :raises nova.exception.ComputeResourcesUnavailable: if it is uncertain
    """
    compute, uuid = rt.compute_nodes[server.nodename], server.instance.uuid
    if uuid in uncertain(rt):
        raise exception.ComputeResourcesUnavailable(
            reason='the answer to an earlier change of what it owns was lost')
    charged = compute.numa_topology
    host = host_topology(compute)
    final = with_(without(host, before), after)
    compute.numa_topology = both(host, final)._to_json()
    try:
        server.save(after)
    except NOT_SAVED:
        compute.numa_topology = charged
        raise
    except BaseException:
        uncertain(rt)[uuid] = Uncertain(
            server.nodename, before, after, time.monotonic(),
            ownership.Ownership(server.topology)
            != ownership.Ownership(after))
        LOG.warning('The answer to a change of what it owns was lost; both '
                    'stay taken until the database is known',
                    instance=server.instance)
        raise
    compute.numa_topology = final._to_json()
    if not publish:
        return
    # The scheduler reads the record.  If this fails, tracker and server agree
    # on what to give back.  Nova saves what is not as it has saved it last
    # (nova/compute/resource_tracker.py, _resource_change): until there is an
    # answer, that is nothing.
    saved = rt.old_resources.pop(server.nodename, objects.ComputeNode())
    compute.save()
    saved.numa_topology = compute.numa_topology
    rt.old_resources[server.nodename] = saved


def both(one, other):
    """A host of which is taken what is taken of either.

    :param one: nova.objects.NUMATopology, changed
    :param other: the same host
    """
    for cell, more in zip(one.cells, other.cells):
        cell.pinned_cpus = cell.pinned_cpus | more.pinned_cpus
        cell.cpu_usage = max(cell.cpu_usage, more.cpu_usage)
        cell.memory_usage = max(cell.memory_usage, more.memory_usage)
        for pages, others in zip(cell.mempages, more.mempages):
            pages.used = max(pages.used, others.used)
    return one


def charge_again(rt, nodename):
    """Charge the tracker with both places of each uncertain server.

    For the end of Nova's audit, which is under the resource lock.
    """
    for uuid, found in list(uncertain(rt).items()):
        if not is_tracked(rt, uuid):
            continue
        compute = rt.compute_nodes[nodename]
        try:
            compute.numa_topology = _with_both_places(
                rt, uuid, found, host_topology(compute))._to_json()
        except exception.CPUPinningInvalid:
            LOG.exception('A pCPU that server %s may own is another\'s',
                          uuid)


def _with_both_places(rt, uuid, found, host):
    """A host that the audit has charged with either of them."""
    places = [place for place in (found.before, found.after) if place]
    # One may be a part of the other, and then be charged as well.
    charged = [place for place in sorted(places, key=_size)
               if is_charged(rt, uuid, place, host)]
    rest = host
    for place in charged[-1:]:
        rest = without(rest, place)
    for place in places:
        host = both(host.obj_clone(), with_(rest, place))
    return host


def _size(topology):
    return len(ownership.Ownership(topology).pcpus)


@utils.synchronized(resource_tracker.COMPUTE_RESOURCE_SEMAPHORE, fair=True)
def audit(context, rt, nodename):
    """Have Nova's audit rebuild the tracker; where it fails, it stays.

    Nova's forgets what is taken before it asks the database, so that after a
    lost answer the whole host is free (nova/compute/resource_tracker.py,
    _update_available_resource).  The lock is held around it, which who has
    it may take again: a claim that waits for it would find the host so.
    """
    compute = rt.compute_nodes[nodename]
    charged = compute.numa_topology
    instances, migrations = set(rt.tracked_instances), dict(
        rt.tracked_migrations)
    try:
        rt.update_available_resource(context, nodename)
    except BaseException:
        compute.numa_topology = charged
        rt.tracked_instances = instances
        rt.tracked_migrations = migrations
        raise


def resolve(context, rt, leave):
    """End uncertainty where the database is known; called without the lock.

    A server that the database has at its new place was saved.  One that it
    has anywhere else may still be, until a message would have expired.  What
    is written of a server that the tracker does not count, as its boot
    failed, is not counted here whatever it is.

    :param leave: called with a server and with the pCPUs that it turns out
        not to own, which its threads have left when it returns: Nova may have
        defined its domain anew meanwhile
    :returns: whether a server is uncertain still
    """
    waiting = uncertain(rt)
    for uuid, found in list(waiting.items()):
        server = _read(context, uuid) if is_tracked(rt, uuid) else None
        if server is not None:
            if not _is_known(server, found):
                continue
            try:
                leave(server, _charged(found) - _owned(server))
            except Exception:
                LOG.exception('Its threads could not leave what it does not '
                              'own', instance=server)
                continue
        del waiting[uuid]
        try:
            audit(context, rt, found.nodename)
        except BaseException:
            waiting[uuid] = found
            raise
        LOG.info('What server %s owns is known again', uuid)
    return bool(waiting)


def _read(context, uuid):
    """A server; None if it is gone, and nobody's to save any more."""
    try:
        return objects.Instance.get_by_uuid(
            context, uuid, expected_attrs=['numa_topology',
                                           'migration_context'])
    except exception.InstanceNotFound:
        return None


def _is_known(server, found):
    """Whether what the database has is what it will have.

    Nova may be about to define the domain by what it has read before, and
    does define it by what is saved in an XML.
    """
    if server.task_state is not None or server.vm_state in SAVED_XML:
        return False
    age = time.monotonic() - found.since
    return age >= CONF.rpc_response_timeout + LATE or (
        found.changes and any(
            ownership.Ownership(topology) == ownership.Ownership(found.after)
            for topology in _topologies(server)))


def _topologies(server):
    move = server.migration_context
    return [topology for topology in (
        server.numa_topology, move and move.new_numa_topology) if topology]


def _charged(found):
    return frozenset().union(*(
        ownership.Ownership(topology).pcpus
        for topology in (found.before, found.after) if topology))


def _owned(server):
    return frozenset().union(*(
        ownership.Ownership(topology).pcpus
        for topology in _topologies(server)))
