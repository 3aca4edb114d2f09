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

"""The thread that keeps Placement true, beside nova-compute's own work.

Nothing of it runs under Nova's resource lock, nor in its report of the host:
there it is woken, by a comparison of what is taken now with what was
published last.  What many claims change together is written once.
"""

import random
import threading
import time

from kongming import exception as km_exc
from kongming.placement import inventory
from kongming.publish import client as client_mod
from kongming.publish import publisher as publisher_mod
from kongming.template import zones
from nova.compute import resource_tracker
import nova.conf
import nova.context
from nova import exception
from nova import objects
from nova import utils
from oslo_log import log as logging

from nova_ext import cache
from nova_ext import figures
from nova_ext import limits
from nova_ext.placement import accounting
from nova_ext.placement import adapter
from nova_ext.placement import allocations
from nova_ext import stats
from nova_ext import translate

CONF = nova.conf.CONF
LOG = logging.getLogger(__name__)
#: How often to look for what others have written, in seconds.
LOOK_INTERVAL = 600.0
#: After so many of these looks all is read anew: where an allocation is
#: deleted, Placement leaves the provider's generation as it was
#: (placement/objects/allocation.py, delete_all).
_LOOKS = 6
#: How long to wait after an error, in seconds, at least and at most, give or
#: take a quarter: all computes meet the same one at the same time.
_PAUSE, _LONGEST_PAUSE = 10.0, 120.0


class Publisher:
    """:param driver: nova_ext.driver.LibvirtDriver"""

    def __init__(self, driver):
        self._driver = driver
        self._placement = client_mod.Placement(adapter.Adapter())
        self._wake = threading.Event()
        self._at_once = threading.Event()
        self._stop = threading.Event()
        self._one_run = threading.Lock()
        self._cache = cache.Published()
        #: nodename -> _Host
        self._hosts = {}
        #: nodename -> what is published of it, as the scheduler was told
        self._reported = {}
        self.allocations = allocations.Allocations(driver, self._placement)
        #: uuid -> node -> kongming.host.usage.CacheClaim, of servers here
        self.cache_claims = {}

    def start(self):
        threading.Thread(target=self._run_forever, daemon=True,
                         name='kongming-publisher').start()

    def stop(self):
        self._stop.set()
        self._at_once.set()
        self._wake.set()

    def _changed(self):
        """Something may be to be published."""
        figures.COUNTS.publish_wanted()
        self._wake.set()

    def notice(self, nodename):
        """Called under Nova's lock, at each report: wakes what may be slow."""
        compute = self._driver._tracker.compute_nodes.get(nodename)
        host = self._hosts.get(nodename)
        # What was Nova's to write, as a move had not ended yet, may be ours.
        if compute is not None and (
                host is None or self.allocations.stale or host.reported != (
                    compute.numa_topology,
                    accounting.here(self._driver._tracker) & host.allocated)):
            self._changed()

    def look_again(self, nodename):
        """Somebody else has claimed something of a host."""
        if nodename in self._hosts:
            self._hosts[nodename].look_again()
        self._changed()

    def ownership_changed(self, uuids):
        """Have the allocations of servers follow what they own now.

        At once: somebody may be waiting for what they have left.
        """
        self.allocations.stale.update(uuids)
        self._at_once.set()
        self._changed()

    def claimed_here(self, server, allocations):
        """After a server has got its place, or has failed to.

        :param server: nova_ext.ownership.claimed.ClaimedServer
        :param allocations: as Nova has them, by provider uuid; None where it
            has not said
        """
        stale = allocations is None
        try:
            stale = stale or self.allocations.differs(
                server.instance, allocations,
                self._driver._tracker.compute_nodes[server.nodename])
        except Exception:
            # It has its place, whatever Placement says.
            LOG.exception('Its allocations are looked at later',
                          instance=server.instance)
            stale = True
        if stale:
            self.allocations.stale.add(server.instance.uuid)
        self.look_again(server.nodename)

    def _forget_claims(self):
        """Of servers that have gone since the last pass."""
        gone = self.cache_claims.keys() - accounting.here(
            self._driver._tracker)
        for uuid in gone:
            self.cache_claims.pop(uuid, None)

    def claim_caches(self, servers):
        """What servers here claim of caches.

        One that boots may have claimed since they were listed, and goes on
        to claim where it was told to.

        :param servers: nova.objects.Instance, all that have a template
        """
        claimed = {
            server.uuid: {server.numa_topology.cells[number].id: claim
                          for number, claim in found.items()}
            for server in servers if (found := cache.claims(
                server.flavor.extra_specs, server.numa_topology))}
        self._forget_claims()
        for server in servers:
            if server.uuid not in claimed:
                self.cache_claims.pop(server.uuid, None)
        self.cache_claims.update(claimed)

    def published(self, nodename):
        """Nodes of a host whose inventory in Placement is as it should be."""
        host = self._hosts.get(nodename)
        return host.published if host else frozenset()

    def stats_of(self, nodename):
        """:returns: nova_ext.stats.Reported"""
        caches = {}
        published = self._reported[nodename] = self.published(nodename)
        compute = self._driver._tracker.compute_nodes.get(nodename)
        if not cache.why_not() and compute and compute.numa_topology:
            topology = objects.NUMATopology.obj_from_db_obj(
                compute.numa_topology)
            capacities = self._cache.of(topology)
            self._forget_claims()
            caches = {cell.id: cache.left(capacities, self.cache_claims,
                                          cell.id)
                      for cell in topology.cells}
        return stats.Reported(
            frozenset((stats.BOOT, stats.LIVE)
                      if CONF.kongming.reconcile_interval else (stats.BOOT,)),
            published, limits.never(), limits.l3(), caches)

    def _run_forever(self):
        pause = 0.0
        while not self._stop.is_set():
            # Computes that were started together don't write together.
            self._wake.wait(LOOK_INTERVAL * random.uniform(0.8, 1.2))
            self._at_once.wait(
                pause * random.uniform(0.75, 1.25)
                or CONF.kongming.publish_interval * random.uniform(0.5, 1.0))
            if self._stop.is_set():
                return
            self._wake.clear()
            self._at_once.clear()
            if self.run():
                pause = 0.0
            else:
                pause = min(2 * pause or _PAUSE, _LONGEST_PAUSE)
                self._wake.set()

    def run(self, look=False, anew=False):
        """Make Placement true, now.

        :param look: whether to look for what others have written
        :param anew: whether to read again all that was read before
        :returns: whether that went well for all hosts
        """
        with self._one_run:
            if self._stop.is_set():
                return True
            began = time.monotonic()
            done = all([self._publish(nodename, look, anew) for nodename
                        in list(self._driver._tracker.compute_nodes)])
            figures.COUNTS.published(began, not done)
            return done

    def _publish(self, nodename, look, anew):
        try:
            host = self._hosts.get(nodename)
            if host is None:
                host = self._hosts[nodename] = _Host(
                    self._driver, self._placement, nodename)
        except KeyError:
            return True  # Nova has just taken it away
        try:
            context = nova.context.get_admin_context()
            host.look(look, anew)
            while self._update(context, nodename, host):
                pass
            if host.published != self._reported.get(nodename):
                # Once, after a start: the scheduler has nothing claimed
                # before it knows.
                try:
                    _save_stats(self._driver._tracker, nodename,
                                self.stats_of(nodename))
                except BaseException:
                    self._reported.pop(nodename, None)
                    raise
            host.said = ''
            return True
        except Exception as exc:
            # An edge: whatever goes wrong is tried again, later and later.
            if repr(exc) != host.said:
                host.said = repr(exc)
                LOG.warning('Placement is not told of the NUMA nodes of '
                            '%(host)s now: %(reason)s',
                            {'host': nodename, 'reason': exc},
                            exc_info=not isinstance(
                                exc, (km_exc.CloudError,
                                      exception.NovaException)))
            return False

    def _update(self, context, nodename, host):
        """:returns: whether something is to be reserved otherwise now"""
        stale = set(self.allocations.stale)
        present, elsewhere = self.allocations.classify(context,
                                                       host.consumers)
        if CONF.kongming.publish_inventory:
            host.publish(context, self._cache, present,
                         self.allocations.stale, self.cache_claims)
        written = {
            **self.allocations.give_back(context, nodename, elsewhere),
            **self.allocations.follow(context, nodename, host.consumers)}
        for consumer, found in written.items():
            host.reallocated(consumer, found)
        return bool(written) or stale != self.allocations.stale


@utils.synchronized(resource_tracker.COMPUTE_RESOURCE_SEMAPHORE, fair=True)
def _save_stats(rt, nodename, reported):
    """Save what a host has reported beside what Nova has.

    Nova's audit would do it, too, but may meet a move that is about to end.

    :param reported: nova_ext.stats.Reported
    """
    rt.stats[nodename].digest_stats(stats.report(reported))
    compute = rt.compute_nodes[nodename]
    compute.stats = rt.stats[nodename]
    compute.save()


class _Host:
    """What is published of one compute node.

    :ivar reported: the tracker's topology when it was published last, and
        who of those with an allocation was here then
    :ivar allocated: who had something allocated then
    :ivar published: nodes whose inventory is in Placement
    :ivar said: the error that was logged last
    """

    def __init__(self, driver, placement, nodename):
        self._driver = driver
        self._nodename = nodename
        self._publisher = publisher_mod.Publisher(
            placement, nodename,
            driver._tracker.compute_nodes[nodename].uuid)
        self._looked, self._looks = None, 0
        self._inconsistency = None
        self._unremovable = None
        self.allocated: frozenset[str] = frozenset()
        self.reported: tuple[str | None, frozenset[str]] = None, frozenset()
        self.published: frozenset[int] = frozenset()
        self.said = ''

    @property
    def consumers(self):
        return {consumer for node in self._publisher.nodes.values()
                for consumer in node.allocations}

    def reallocated(self, consumer, allocations):
        """See :meth:`kongming.publish.publisher.Publisher.reallocated`."""
        self._publisher.reallocated(consumer, allocations)

    def look_again(self):
        """Have it read what others have written before it writes again."""
        self._looked = None

    def look(self, at_once, anew):
        """Read what others have written, where that is due."""
        now = time.monotonic()
        if at_once or anew or self._looked is None or (
                now >= self._looked + LOOK_INTERVAL):
            self._looks += 1
            if anew or self._looks % _LOOKS == 0:
                self._publisher.nodes.clear()
            self._publisher.look()
            self._looked = now

    def publish(self, context, caches, present, stale, claims):
        rt = self._driver._tracker
        compute = rt.compute_nodes[self._nodename]
        reported = compute.numa_topology
        if not reported:
            LOG.debug('%s reports no NUMA topology, so none is published',
                      self._nodename)
            return
        ratios = self._driver._get_allocation_ratios(
            rt.provider_tree.data(self._nodename).inventory
            if rt.provider_tree else {})

        def build():
            # Again where somebody has come in between.
            topology = objects.NUMATopology.obj_from_db_obj(
                compute.numa_topology)
            if not self._is_to_be_published(topology):
                topology.cells = []
            host = limits.host_state(topology)
            return inventory.build(
                self._nodename, compute.uuid, host,
                inventory.Ratios(ratios['VCPU'], ratios['MEMORY_MB']),
                accounting.reserves(
                    context, rt, self._nodename, topology, host,
                    self._publisher.nodes, present, stale, claims),
                [inventory.zones_trait(zones.database().version)],
                capacities=caches.of(topology))

        done = self._publisher.publish(build)
        self._warn(context, done)
        self.allocated = frozenset(self.consumers)
        self.reported = reported, present & self.allocated
        self.published = frozenset(
            number for node in self._publisher.nodes.values()
            if (number := inventory.node_of_traits(node.as_is.traits))
            is not None)

    def _is_to_be_published(self, topology):
        inconsistency = translate.inconsistency(topology)
        if inconsistency and inconsistency != self._inconsistency:
            LOG.error('%(node)s is not published: %(reason)s',
                      {'node': self._nodename, 'reason': inconsistency})
        self._inconsistency = inconsistency
        # Where nobody said which pCPUs are for whom, there is nothing to
        # claim.
        return not inconsistency and bool(
            CONF.compute.cpu_dedicated_set or CONF.compute.cpu_shared_set)

    def _warn(self, context, done):
        if done.unremovable and done.unremovable != self._unremovable:
            nodes = self._publisher.nodes
            for line in done.named(nodes, {
                    consumer: _name_of(context, consumer)
                    for uuid in done.unremovable
                    for consumer in nodes[uuid].allocations}).in_use:
                LOG.warning('%s', line)
        self._unremovable = done.unremovable


def _name_of(context, consumer):
    try:
        server = objects.Instance.get_by_uuid(context, consumer)
    except exception.InstanceNotFound:
        return f'consumer {consumer}'
    return f'server {km_exc.printable(server.display_name)} ({consumer})'
