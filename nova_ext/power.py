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
"""Nova's power management of pCPUs, as far as templates need more of it.

Nova keeps dedicated pCPUs that no running server owns offline, or at a low
governor (``[libvirt] cpu_power_management``).  It powers up what a server
owns when it starts, and down when it stops (nova/virt/libvirt/cpu/api.py).
What moves while servers run is powered here:

- up before a thread is pinned there, down when it is given up;
- not down while somebody is about to run there, while a borrower is there,
  or under a server that runs on while nova-compute starts.
"""

import threading

from kongming.host import topology
from kongming.kernel import cpus as kernel_cpus
from kongming.kernel import cpuset
from kongming.libvirt import affinity
from kongming.template import template
from nova.compute import resource_tracker
import nova.conf
import nova.context
from nova import objects
from nova import utils
from nova.virt import hardware
from nova.virt.libvirt.cpu import api as cpu_api
from oslo_log import log as logging

from nova_ext.ownership import claimed
from nova_ext.ownership import ownership
from nova_ext import privileged

CONF = nova.conf.CONF
LOG = logging.getLogger(__name__)
_NOTHING: frozenset[int] = frozenset()


def strategy():
    """Nova's strategy; empty where it manages no power."""
    return (CONF.libvirt.cpu_power_management_strategy
            if CONF.libvirt.cpu_power_management else '')


class CpuApi(cpu_api.API):
    """What Nova's driver asks about pCPUs.

    :param driver: nova_ext.driver.LibvirtDriver
    """

    def __init__(self, driver):
        super().__init__()
        self._driver = driver
        #: held while a pCPU goes up or down; never while Nova's lock is
        #: waited for
        self._lock = threading.Lock()
        #: how often pCPUs were powered up, and which one when
        self._ups = 0
        self._last_up = {}
        #: pCPUs at the low governor, as far as this process knows
        self._low = set()

    @staticmethod
    def managed():
        """pCPUs whose power Nova manages; none where it manages none."""
        if not CONF.libvirt.cpu_power_management:
            return _NOTHING
        return frozenset(hardware.get_cpu_dedicated_set_nozero())

    def off(self, pcpus):
        """Which pCPUs have no power: offline, or at the low governor.

        :returns: nothing where that is not known
        """
        pcpus = frozenset(pcpus)
        return (pcpus & self._low) | self.offline(pcpus)

    @staticmethod
    def online():
        """pCPUs that are online; None where that is not to be seen."""
        try:
            return kernel_cpus.online()
        except (OSError, ValueError):
            return None

    def offline(self, pcpus):
        online = self.online()
        return _NOTHING if online is None else frozenset(pcpus) - online

    def power_up(self, cpus):
        with self._lock:
            self._ups += 1
            self._last_up.update(dict.fromkeys(cpus, self._ups))
            super().power_up(cpus)
            self._low.difference_update(cpus)
        if strategy() == 'cpu_state':
            _reclaim_cpus(frozenset(cpus) & self.managed())

    def ensure(self, pcpus):
        """Power up what has no power, before somebody runs there.

        :returns: those that are offline all the same
        """
        off = self.off(pcpus)
        if not off:
            return _NOTHING
        if off & self.managed():
            LOG.info('pCPU %s gets power',
                     topology.format_cpu_list(off & self.managed()))
            try:
                self.power_up(off & self.managed())
            except Exception:
                # What is offline still is told by whoever needs it.
                LOG.exception('pCPU %s could not be powered up',
                              topology.format_cpu_list(off & self.managed()))
        return self.offline(off)

    def give_up(self, pcpus):
        """Power down what nobody owns any more."""
        since = self._ups
        pcpus = self.managed() & pcpus
        try:
            pcpus -= self.off(pcpus)
            if pcpus:
                self._down(pcpus - _pinned(self._driver._tracker), since)
        except Exception:
            # Nobody is hurt by a pCPU that stays on.
            LOG.exception('pCPU %s could not be powered down',
                          topology.format_cpu_list(pcpus))

    def sweep(self, owned):
        """Power down what was left on of changes that were cut short.

        :param owned: pCPUs that servers of the host own, whatever state they
            are in, or may come to own
        """
        left = self.managed() - owned
        if left:
            self.give_up(left)

    @property
    def ups(self):
        """How often pCPUs were powered up until now."""
        return self._ups

    def rest(self, pcpus, since):
        """Power down what its server owns and does not use.

        :param since: :attr:`ups` before it was looked where its threads are;
            what was powered up later, as for its next start, stays so
        """
        pcpus = self.managed() & pcpus
        self._down(pcpus - self.off(pcpus), since)

    def _down(self, pcpus, since):
        """:param since: what was powered up later stays so"""
        if not pcpus:
            return
        LOG.info('pCPU %s loses power', topology.format_cpu_list(pcpus))
        for pcpu in sorted(pcpus):
            with self._lock:
                if self._last_up.get(pcpu, 0) <= since:
                    self._power_down({pcpu})

    def _power_down(self, cpus):
        try:
            super()._power_down(cpus)
        finally:
            if strategy() == 'governor':
                self._low.update(self.managed() & frozenset(cpus))

    def power_down_for_instance(self, instance):
        """Called when a server has stopped, or has left."""
        if instance.numa_topology is None or not self.managed():
            return
        if instance.host not in (None, self._driver._tracker.host):
            # It was evacuated: what it owns is another host's.
            return
        if not template.has_template(instance.flavor.extra_specs):
            super().power_down_for_instance(instance)
            return
        try:
            # nova-api may have read it before a live change.
            claimed.refresh(nova.context.get_admin_context(), instance)
            pcpus = self.managed() & ownership.pcpus_of(instance)
            still_used = self._driver.borrowed_still(pcpus)
        except Exception:
            LOG.exception('It is not known what it owns, or who borrows '
                          'that; its pCPUs keep their power',
                          instance=instance)
            return
        if still_used:
            LOG.warning('pCPU %s keeps its power: a server that borrowed it '
                        'could not be moved',
                        topology.format_cpu_list(still_used),
                        instance=instance)
        self._power_down(pcpus - still_used)

    def power_down_all_dedicated_cpus(self):
        """Called when nova-compute starts; servers may run."""
        used = self._used() if self.managed() else _NOTHING
        if not used:
            super().power_down_all_dedicated_cpus()
            if strategy() == 'governor':
                self._low.update(self.managed())
            return
        self._power_down(self.managed() - used)
        self.power_up(used & self.managed())

    def _used(self):
        """All that running domains are pinned to.

        Nova takes these offline as well when it starts, which frees their
        threads onto all pCPUs of the host.
        """
        found = _NOTHING
        for guest in self._driver._host.list_guests(only_running=True):
            try:
                found |= affinity.read(guest._domain).pcpus
            except Exception:
                LOG.warning('It is not known where a domain runs',
                            exc_info=True)
        return found


def _reclaim_cpus(pcpus):
    """Where it is cgroup version 1, libvirt could pin nobody there."""
    try:
        if cpuset.lacking(pcpus):
            privileged.reclaim_cpus(sorted(pcpus))
    except Exception:
        LOG.exception('The cpusets of domains lack pCPU %s, which was '
                      'offline; nothing can be pinned there',
                      topology.format_cpu_list(pcpus))


@utils.synchronized(resource_tracker.COMPUTE_RESOURCE_SEMAPHORE, fair=True)
def _pinned(rt):
    """All that the tracker counts as owned; during an audit it has less."""
    return _NOTHING.union(*(
        cell.pinned_cpus for compute in rt.compute_nodes.values()
        if compute.numa_topology for cell in
        objects.NUMATopology.obj_from_db_obj(compute.numa_topology).cells))
