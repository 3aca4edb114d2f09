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

import nova.conf
from nova import exception
from nova import objects
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


@dataclasses.dataclass(frozen=True)
class Uncertain:
    """A server of which it is not known what the database has.

    :ivar before, after: nova.objects.InstanceNUMATopology; ``before`` is None
        where the tracker was not charged with it
    :ivar since: by the monotonic clock
    """

    nodename: str
    before: typing.Any
    after: typing.Any
    since: float


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
    """A host without what a server has."""
    return hardware.numa_usage_from_instance_numa(host, topology, free=True)


def write(rt, server, before, after):
    """Have a server own something else; called under Nova's resource lock.

    :param rt: nova.compute.resource_tracker.ResourceTracker
    :param server: nova_ext.ownership.claimed.ClaimedServer
    :param before: InstanceNUMATopology that the tracker is charged with for
        it; None where it is charged with none
    :param after: InstanceNUMATopology
    :raises nova.exception.CPUPinningInvalid: if something of it is another's
    """
    compute, uuid = rt.compute_nodes[server.nodename], server.instance.uuid
    charged = compute.numa_topology
    host = host_topology(compute)
    final = hardware.numa_usage_from_instance_numa(
        host if before is None else without(host, before), after)
    compute.numa_topology = both(host, final)._to_json()
    try:
        server.save(after)
    except NOT_SAVED:
        compute.numa_topology = charged
        raise
    except BaseException:
        uncertain(rt)[uuid] = Uncertain(server.nodename, before, after,
                                        time.monotonic())
        LOG.warning('The answer to a change of what it owns was lost; both '
                    'stay taken until the database is known',
                    instance=server.instance)
        raise
    compute.numa_topology = final._to_json()
    # The scheduler reads the record.  If this fails, tracker and server agree
    # on what to give back.
    compute.save()


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
    waiting = _uncertain.get(rt)
    if not waiting:
        return
    compute = rt.compute_nodes.get(nodename)
    if compute is None or not compute.numa_topology:
        return
    host = host_topology(compute)
    for uuid, found in waiting.items():
        if found.nodename != nodename or not is_tracked(rt, uuid):
            continue
        for topology in (found.before, found.after):
            for number, cell in enumerate(topology.cells if topology else ()):
                pcpus = ownership.Ownership(topology).pcpus_of(number)
                for node in host.cells:
                    if node.id == cell.id:
                        node.pinned_cpus = node.pinned_cpus | pcpus
    compute.numa_topology = host._to_json()


def resolve(context, rt):
    """End uncertainty where the database is known; called without the lock.

    A server that the database has at its new place was saved.  One that it
    has anywhere else may still be, until a message would have expired.  What
    is written of a server that the tracker does not count, as its boot
    failed, is not counted here whatever it is.

    :returns: whether a server is uncertain still
    """
    waiting = uncertain(rt)
    for uuid, found in list(waiting.items()):
        age = time.monotonic() - found.since
        if (age < CONF.rpc_response_timeout + LATE and is_tracked(rt, uuid)
                and not _is_saved(context, uuid, found)):
            continue
        del waiting[uuid]
        try:
            rt.update_available_resource(context, found.nodename)
        except BaseException:
            waiting[uuid] = found
            raise
        LOG.info('What server %s owns is known again', uuid)
    return bool(waiting)


def _is_saved(context, uuid, found):
    """Whether the database has what was to be saved.

    A server that is gone is nobody's to save any more.
    """
    try:
        server = objects.Instance.get_by_uuid(
            context, uuid, expected_attrs=['numa_topology',
                                           'migration_context'])
    except exception.InstanceNotFound:
        return True
    topologies = [server.numa_topology]
    if server.migration_context is not None:
        topologies.append(server.migration_context.new_numa_topology)
    return any(
        topology is not None and ownership.Ownership(topology)
        == ownership.Ownership(found.after) for topology in topologies)
