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

"""Threads of running domains: what is wanted, what is, and the way there."""

import dataclasses
from xml.etree import ElementTree

from kongming.host import topology as listed
from kongming.kernel import process
from kongming.libvirt import affinity
from kongming.live import power as power_mod
from kongming.live import threads
from kongming.live import witness as witness_mod
from kongming.memory import refusal
from nova.compute import vm_states
from nova import exception
from nova import objects
from oslo_log import log as logging
from oslo_utils import excutils

from nova_ext import guests
from nova_ext import limits
from nova_ext.live import keys
from nova_ext.live import record
from nova_ext.live import witness
from nova_ext.ownership import ownership
from nova_ext import power
from nova_ext import privileged

LOG = logging.getLogger(__name__)


class Domains:
    """:param driver: nova_ext.driver.LibvirtDriver"""

    def __init__(self, driver):
        self._driver = driver
        self.witness = witness.Witness(driver.cpu_api)
        #: servers of which the kernel has found threads too free, in this
        #: pass
        self.freed = set()
        #: server -> (key of its topology, its flavor and image, threads):
        #: what Nova would make of it
        self._known = {}
        #: (server, whether it borrows) -> (its topology as it was read, what
        #: else it was worked out of, the topology's key, and what came of it:
        #: threads that are wanted, what was not obeyed,
        #: kongming.live.power.Power)
        self._wanted = {}
        #: server -> (number of the pass that read it, XML of its domain,
        #: Threads in it, why its memory stays, the domain)
        self._read = {}
        self._pass = 0
        #: server -> (id of its domain, its process, or None)
        self._pids = {}
        #: the host, its key and how power is managed, in this pass
        self._host = None
        self._last_layout = self._last_host = None
        #: why Nova says nothing of the host, as it was reported last
        self._reported = ''

    def wanted(self, server, topology, intent, lent=frozenset()):
        """The threads of a server, by what it owns and its template.

        :param lent: pCPUs that other servers lend
        :returns: kongming.live.threads.Threads, and what was not obeyed and
            why
        """
        return self._work_out(server, topology, intent, lent)[:2]

    def _work_out(self, server, topology, intent, lent):
        """:returns: as :meth:`wanted`, and kongming.live.power.Power"""
        host, host_key, strategy = self._layout()
        memo = self._wanted.get((server.uuid, bool(lent)))
        if memo is not None and memo[0] is topology and memo[1] == (
                intent, lent, host_key, strategy):
            return memo[3]  # in the same pass
        key = keys.key_of(topology)
        given = intent, lent, host_key, strategy
        if memo is None or memo[1] != given or memo[2] != key:
            memo = None, None, None, self._threads(
                server, topology, key, intent, lent, host, strategy)
        self._wanted[server.uuid, bool(lent)] = (
            topology, given, key, memo[3])
        return memo[3]

    def _threads(self, server, topology, key, intent, lent, host, strategy):
        known = self._known.get(server.uuid)
        key = key, server.instance_type_id, server.image_ref
        if known is None or known[0] != key:
            config = self._driver.native_numa_config(
                topology, server.flavor,
                objects.ImageMeta.from_instance(server))
            known = key, guests.threads_of(config)
            self._known[server.uuid] = known
        owned = ownership.Ownership(topology).owned
        places, problems = threads.shape(known[1], host, owned, intent, lent)
        needed = power_mod.wanted(places, owned, intent, strategy)
        if needed.problem:
            problems = problems + [needed.problem]
        return places, problems, needed._replace(up=needed.up | places.pcpus)

    def layout(self):
        """The host, as far as its pCPUs are concerned."""
        return self._layout()[0]

    def _layout(self):
        found = self._host
        if found is None:
            # Another thread may forget it meanwhile.
            host = self._last_host = self._read_host()
            key = keys.layout_key(host)
            if key == self._last_layout:
                key = self._last_layout  # quicker to compare
            self._last_layout = key
            found = self._host = host, key, power.strategy()
        return found

    def _read_host(self):
        """The host; as it was where a dedicated pCPU has gone offline.

        Nova says nothing of a host then, unless it manages power
        (nova/virt/libvirt/driver.py, _get_pcpu_available), and servers have to
        be kept where they belong all the more.
        """
        try:
            topology = self._driver._get_host_numa_topology()
        except exception.Invalid as exc:
            if self._last_host is None:
                raise
            if str(exc) != self._reported:
                self._reported = str(exc)
                LOG.warning('The host is taken for what it was: %s', exc)
            return self._last_host
        self._reported = ''
        return limits.host_state(topology)

    def dedicated(self):
        """All pCPUs of the host that servers can own."""
        return frozenset().union(*(
            node.dedicated for node in self.layout().nodes))

    def forget(self, uuids):
        """Forget what was worked out for others than these, and the host."""
        self._host = None
        self._pass += 1
        self.freed.clear()
        self.witness.retain(uuids)
        for known in self._known, self._read:
            for uuid in known.keys() - uuids:
                known.pop(uuid, None)
        for uuid, (_ident, pid) in list(self._pids.items()):
            if pid is None or uuid not in uuids:
                self._pids.pop(uuid, None)
        for key in list(self._wanted):
            if key[0] not in uuids:
                self._wanted.pop(key, None)

    def differences(self, server, topology, intent, lent=frozenset(),
                    act=False):
        """In words, which threads are not where they are wanted.

        libvirt says so; where it says that all are, the kernel is asked.

        :param act: whether pCPUs get the power that they need
        """
        domain = self.domain(server)
        if domain is None:
            self.witness.stopped(server)
            return []
        if act:
            self.power_up(server, topology, intent, lent)
        wanted = self._possible(server, topology, intent, lent)
        found = threads.changes(self._look(server, domain), wanted)
        if not found and self.witness.freed(server, domain, wanted,
                                            witness.CPUSETS):
            self.freed.add(server.uuid)
        return found

    def _possible(self, server, topology, intent, lent):
        """Threads where they are wanted, as far as that is online."""
        wanted, _problems = self.wanted(server, topology, intent, lent)
        online = self._driver.cpu_api.online()
        if online is None or wanted.pcpus <= online:
            return wanted
        return witness_mod.online_only(
            wanted, ownership.Ownership(topology).pcpus,
            self.layout().shared, online)

    def _power(self, server, topology, intent, lent=frozenset()):
        """See :func:`kongming.live.power.wanted`."""
        return self._work_out(server, topology, intent, lent)[2]

    def power_up(self, server, topology, intent, lent=frozenset()):
        """Power what a server that runs needs.

        :returns: what is offline all the same
        """
        return self._driver.cpu_api.ensure(
            self._power(server, topology, intent, lent).up)

    def power_down(self, server, topology, intent):
        """Take the power from what its profile leaves of what it owns.

        Whatever starts it meanwhile powers that up first, and pins its
        threads there.
        """
        down = self.powered(self._power(server, topology, intent).down)
        since = self._driver.cpu_api.ups
        domain = self.domain(server) if down else None
        if domain is not None:
            self._driver.cpu_api.rest(
                down - affinity.read(domain).pcpus, since)

    def pcpus(self, server):
        """Where libvirt has a server's threads; nowhere if it does not run."""
        domain = self.domain(server)
        return affinity.read(domain).pcpus if domain else frozenset()

    def powered(self, pcpus):
        """Those pCPUs that have power, as far as is known."""
        return pcpus - self._driver.cpu_api.off(pcpus)

    def make_ready(self, server, topology, intent):
        """Before a server that runs owns a place: it has to be online.

        :raises record.ChangeFailed: naming what is not
        """
        offline = self.power_up(server, topology, intent)
        if offline:
            first = min(offline)
            raise record.ChangeFailed(
                reason=f'pCPU {listed.format_cpu_list(offline)} is offline; '
                       f'writing 1 to /sys/devices/system/cpu/cpu{first}/'
                       f'online brings it back')

    def _look(self, server, domain):
        """All of a domain's threads."""
        now = self._parse(server, domain)[2]
        try:
            return self._with_sched(now, self.pid(server, domain))
        except (FileNotFoundError, ProcessLookupError):
            self._pids.pop(server.uuid, None)
            return now  # it has ended

    def pid(self, server, domain):
        """The process of a domain that runs; None where it is not seen.

        A domain that starts anew has another id.
        """
        ident = domain.ID()
        known = self._pids.get(server.uuid)
        if known is None or known[0] != ident:
            known = self._pids[server.uuid] = ident, process.pid(domain)
        return known[1]

    def _parse(self, server, domain):
        text = domain.XMLDesc(0)
        known = self._read.get(server.uuid)
        if known is None or known[1] != text:
            root = ElementTree.fromstring(text)
            read = affinity.of_xml(root), refusal.of_xml(root)
        else:
            read = known[2:4]
        self._read[server.uuid] = found = self._pass, text, *read, domain
        return found

    def stays(self, server, domain):
        """Why its memory can't move, by its domain's XML; empty: it can.

        By what was read in this pass, where it was.
        """
        known = self._read.get(server.uuid)
        if known is None or known[0] != self._pass:
            known = self._parse(server, domain)
        return known[3]

    def run_on(self, server, topology, intent, lent=frozenset(),
               before_each=lambda: None):
        """Have a server's threads where they are wanted.

        :param before_each: see :func:`kongming.libvirt.affinity.apply`
        """
        domain = self.domain(server)
        if domain is None:
            return
        before_each()
        self.power_up(server, topology, intent, lent)
        wanted = self._possible(server, topology, intent, lent)
        owned = ownership.Ownership(topology).pcpus
        try:
            affinity.apply(domain, wanted, self._width(), before_each)
        except Exception:
            with excutils.save_and_reraise_exception():
                # Not on what was reclaimed meanwhile.
                before_each()
                self.witness.harmless(
                    server, domain, wanted,
                    owned | ownership.pcpus_of(server))
        before_each()
        self.witness.put_back(server, domain, wanted, owned, self._width())
        self._schedule(server, domain, wanted)

    def _schedule(self, server, domain, wanted):
        """By the kernel; libvirt has no call for it, and does not know it."""
        pid = self.pid(server, domain)
        try:
            found = {} if pid is None else process.schedulers(pid)
        except (FileNotFoundError, ProcessLookupError):
            self._pids.pop(server.uuid, None)
            return  # it has ended
        for vcpu, now in found.items():
            sched = wanted.sched.get(vcpu, threads.Sched())
            if sched != now:
                privileged.set_scheduler(pid, vcpu, sched.policy,
                                         sched.priority)

    @staticmethod
    def _with_sched(now, pid):
        if pid is None:
            return now
        return dataclasses.replace(now, sched=process.schedulers(pid))

    def leave(self, server, pcpus):
        """Have a server's threads leave pCPUs that it does not own.

        :param server: nova.objects.Instance, as the database has it
        """
        if server.numa_topology is not None:
            self.leave_by(self.domain(server),
                          ownership.Ownership(server.numa_topology), pcpus)

    def leave_by(self, domain, mine, pcpus):
        """The same by what it owns.

        :param domain: None where it is not running
        :param mine: nova_ext.ownership.ownership.Ownership
        """
        if domain is None or not pcpus:
            return
        now = affinity.read(domain)
        affinity.apply(domain, dataclasses.replace(
            now,
            vcpus={vcpu: frozenset({mine.pins[vcpu]})
                   if vcpu in mine.pins and on & pcpus else on - pcpus
                   for vcpu, on in now.vcpus.items()},
            emulator=now.emulator and (
                now.emulator - pcpus or mine.emulator or mine.pcpus),
            iothreads={number: on - pcpus or mine.pcpus
                       for number, on in now.iothreads.items()}),
            self._width())

    @staticmethod
    def check_left(domain, pcpus):
        """Ask the kernel, where it can be, whether threads left pCPUs.

        A domain that was started by what was saved of it may be on any of
        what its server owns.

        :raises record.ChangeFailed: if one has not
        """
        pid = domain and process.pid(domain)
        for task in process.tasks(pid) if pid else ():
            if task.allowed & pcpus:
                raise record.ChangeFailed(
                    reason=f'thread {task.id} may still run on a pCPU that '
                           f'is to be given up')

    @staticmethod
    def move_off(server, pcpus, otherwise):
        """Have the kernel move a server's threads off pCPUs.

        libvirt is not asked for anything; see
        :func:`kongming.kernel.process.move_off`.

        :raises record.ChangeFailed: if its process is not to be found
        """
        pid = process.pid_of(server.name, server.uuid)
        if pid is None:
            raise record.ChangeFailed(
                reason='its process is not on this machine')
        privileged.move_off(pid, sorted(pcpus), sorted(otherwise))

    def domain(self, server):
        """Its libvirt domain, None where it is not running."""
        if server.vm_state == vm_states.STOPPED:
            return None
        try:
            guest = self._driver._host.get_guest(server)
        except exception.InstanceNotFound:
            return None
        return guest._domain if guest._domain.isActive() else None

    def seen(self, server):
        """The same; the one that this pass has looked at, where it has."""
        known = self._read.get(server.uuid)
        if known is None or known[0] != self._pass:
            return self.domain(server)
        return known[4]

    def key_of(self, server):
        """See :func:`nova_ext.live.keys.key_of`, of its topology."""
        known = self._wanted.get((server.uuid, False))
        if known is None or known[0] is not server.numa_topology:
            return keys.key_of(server.numa_topology)
        return known[2]

    def _width(self):
        return max(self._driver._host.get_available_cpus()) + 1
