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

"""A host that is looked at and cleaned up, through libvirt and the database.

nova-compute is stopped meanwhile.  What a server owns is written as it would
be written there (:mod:`nova_ext.ownership`), but for the resource tracker:
nova-compute counts anew when it starts.
"""

import dataclasses
import typing
from xml.etree import ElementTree

from kongming import exception as km_exc
from kongming.host import topology
from kongming.kernel import cgroup
from kongming.kernel import process
from kongming.kernel import resctrlfs
from kongming.libvirt import affinity
from kongming.live import qos
from kongming.live import threads
from kongming.memory import refusal
from kongming.publish import client
from kongming.publish import manual
from kongming.resctrl import schemata
from kongming.template import template
from nova.compute import vm_states
import nova.conf
from nova import exception
from nova import objects
from nova import utils
from oslo_log import log as logging

from nova_ext import cache
from nova_ext.cleanup import decision
from nova_ext import guests
from nova_ext.live import memory_moves
from nova_ext.live import record
from nova_ext.ownership import claimed
from nova_ext.ownership import ownership
from nova_ext import privileged

CONF = nova.conf.CONF
LOG = logging.getLogger(__name__)
_ATTRIBUTES = ['flavor', 'numa_topology', 'migration_context',
               'system_metadata']
#: States in which a server has a domain that was saved, pins included.
_SAVED = vm_states.RESCUED, vm_states.SUSPENDED
DONE, TO_DO, LEFT = 'done', 'to do', 'left'


class Row(typing.NamedTuple):
    """What was found of one server, or of the host, and what came of it.

    :ivar result: DONE, TO_DO (in a dry run) or LEFT
    :ivar reason: why it was left
    """

    server: str
    name: str
    found: list[str]
    result: str
    reason: str = ''


class _Server:
    """A server with its domain, as it was found."""

    def __init__(self, host, server):
        self.server = server
        self._host = host
        self.domain = host.domain(server)
        self.topology = server.numa_topology
        self.pid = self.domain and process.pid(self.domain)
        #: why its QoS is not known; the rest is done all the same
        self.problem = ''
        #: as it is, as it is to be; None where it is not KongMing's
        self.cpu_shares: tuple[qos.CpuShares, qos.CpuShares] | None = None
        now = affinity.read(self.domain) if self.domain else threads.Threads()
        wanted, target, mine = threads.Threads(), '', None
        if self.topology is not None:
            before = ownership.Ownership(self.topology)
            self.topology = before.without_target(now.emulator)
            mine = ownership.Ownership(self.topology)
            target = _target(before, mine) if before.has_target else ''
        if self.domain and mine and not mine.lacks_pcpus:
            wanted = host.native(server, self.topology)
            now = dataclasses.replace(
                now, sched=process.schedulers(self.pid) if self.pid else {})
        self.found = decision.Found(
            target, mine.pcpus if mine else decision.NOTHING,
            bool(mine and mine.lacks_pcpus), server.task_state,
            server.vm_state in _SAVED, bool(self.domain), bool(self.pid),
            now, wanted, self.strays(wanted), tuple(self._others()))

    def strays(self, wanted):
        return (decision.strays(process.tasks(self.pid), wanted)
                if self.pid else ())

    def _others(self):
        if not self.pid:
            return
        left = self.misplaced_memory()
        if left:
            yield f'memory: {left}'
        specs = self.server.flavor.extra_specs
        try:
            concerns = qos.concerns(template.decode(specs))
        except km_exc.InvalidTemplate:
            concerns = False  # nobody obeyed it
        if not concerns:
            return
        try:
            now = cgroup.read(self.domain, self.pid)
        except km_exc.CgroupError as exc:
            self.problem = str(exc)
            return
        wanted, _problems = qos.wanted(
            (), self.server.flavor.vcpus, qos.native(specs),
            cgroup.version())
        self.cpu_shares = now, wanted
        yield from qos.changes(now, wanted)

    def misplaced_memory(self):
        """In words, what is elsewhere after a move that was cut short."""
        if self.topology is None or refusal.of_xml(
                ElementTree.fromstring(self.domain.XMLDesc(0))):
            return ''
        return self._host.moves.misplaced(self.server, self.domain,
                                          self.topology, self.pid)


def _target(before, after):
    pcpus = before.pcpus - after.pcpus
    nodes = ({cell.id for cell in before.topology.cells}
             - {cell.id for cell in after.topology.cells})
    return 'a change that was cut short: ' + ', '.join(
        f'{what} {topology.format_cpu_list(found)}'
        for what, found in (('pCPU', pcpus), ('node', nodes)) if found)


class Cleanup:
    """Of this host, ``[DEFAULT] host``.

    :param context: an admin's
    :param driver: nova_ext.driver.LibvirtDriver, which nobody has started
    :param dry_run: whether nothing is to be changed
    """

    def __init__(self, context, driver, dry_run=False):
        self._context, self._driver = context, driver
        self._dry_run = dry_run
        self.moves = memory_moves.MemoryMoves()
        self._names = {}

    def run(self, inventories=False):
        """Clean up; what can't be cleaned up is left and reported.

        :param inventories: whether to clean up in Placement, too
        :returns: a Row of each server and thing that had to be, or has to be
        """
        everybody = objects.InstanceList.get_by_host(
            self._context, CONF.host, expected_attrs=_ATTRIBUTES)
        self._names = {server.uuid: server.display_name
                       for server in everybody}
        concerned = [server for server in everybody if _is_concerned(server)]
        rows = [*self._servers(concerned)]
        rows += self._groups({row.server for row in rows
                              if row.result == LEFT})
        return rows + (list(self._providers()) if inventories else [])

    # What decisions need.

    def domain(self, server):
        """Its libvirt domain where that runs, whatever Nova says."""
        try:
            domain = self._driver._host.get_guest(server)._domain
        except exception.InstanceNotFound:
            return None
        return domain if domain.isActive() else None

    def native(self, server, numa):
        """Its threads as Nova would have them."""
        return guests.threads_of(self._driver.native_numa_config(
            numa, server.flavor, objects.ImageMeta.from_instance(server)))

    # What is done.

    def _servers(self, concerned):
        looked_at, in_use = [], decision.NOTHING
        for server in concerned:
            try:
                looked_at.append(_Server(self, server))
            except Exception as exc:
                # Where it runs is not known, so nobody comes back to a pCPU;
                # else it is not in the others' way.
                LOG.exception('The server could not be looked at',
                              instance=server)
                in_use = frozenset(range(self._width()))
                yield self._row(server, [], LEFT, str(exc))
        failed = {}
        for each in looked_at:
            # Borrowers leave first, then owners come back.
            reason = decision.why_not(each.found) or self._try(
                each, self._narrow)
            if reason:
                failed[each.server.uuid] = reason
                in_use |= decision.foreign(each.found)
        for each in looked_at:
            words = decision.differences(each.found)
            reason = (failed.get(each.server.uuid)
                      or decision.why_not(each.found, in_use))
            if not reason and words:
                reason = self._try(each, self._restore)
                self._record(each.server, words, reason)
            reason = reason or each.problem
            if words or reason:
                yield self._row(each.server, words, LEFT if reason else DONE,
                                reason)

    def _row(self, server, words, result, reason=''):
        return Row(server.uuid, server.display_name, words,
                   TO_DO if self._dry_run and result == DONE else result,
                   reason)

    def _try(self, each, function):
        """:returns: why it can't be done; empty where it was done"""
        if self._dry_run:
            return ''
        try:
            function(each)
        except Exception as exc:
            LOG.exception('The server could not be cleaned up',
                          instance=each.server)
            return str(exc)
        return ''

    def _narrow(self, each):
        if each.domain and decision.foreign(each.found):
            self._run_on(each, decision.narrowed(each.found))

    def _restore(self, each):
        if each.domain:
            if each.misplaced_memory():
                self.moves.move_home(each.server, each.domain,
                                     each.topology)
            self._run_on(each, each.found.wanted)
        if each.found.target:
            self._drop_target(each)
        for vcpu, sched in each.found.now.sched.items():
            asked = each.found.wanted.sched.get(vcpu, threads.Sched())
            if sched != asked:
                privileged.set_scheduler(each.pid, vcpu, *asked)
        if each.cpu_shares:
            now, wanted = each.cpu_shares
            cgroup.apply(each.domain, each.pid, now, wanted,
                         privileged.set_share)

    def _run_on(self, each, wanted):
        """Have threads there, and the kernel say so."""
        affinity.apply(each.domain, wanted, self._width())
        strays = each.strays(wanted)
        if strays:
            raise RuntimeError('; '.join(strays))

    def _width(self):
        """Number of the host's pCPUs, offline ones included."""
        return max(self._driver._host.get_available_cpus()) + 1

    def _drop_target(self, each):
        """What it has only, in the database.

        Nova is asked again: nova-api may have begun something meanwhile.
        """
        server = objects.Instance.get_by_uuid(
            self._context, each.server.uuid, expected_attrs=_ATTRIBUTES)
        if (server.task_state is not None or server.host != CONF.host
                or ownership.Ownership(server.numa_topology)
                != ownership.Ownership(each.server.numa_topology)):
            raise RuntimeError('something else was done to it meanwhile')
        claimed.ClaimedServer(server, server.node, None).save(each.topology)

    def _record(self, server, words, reason):
        if not self._dry_run:
            record.Change(server, CONF.host, words).end(
                record.ChangeFailed(reason=reason) if reason else None)

    def _groups(self, left):
        """Classes of service, but for those of servers that were left."""
        files = resctrlfs.Files()
        if not files.is_here():
            return
        groups = [name for name in files.names()
                  if schemata.server_of(name)
                  and schemata.server_of(name) not in left]
        refused = {}
        if groups and not self._dry_run:
            refused = privileged.arrange_clos(*resctrlfs.Host(
                left=tuple(left), memory_bandwidth=cache.memory_bandwidth())
            )[1]
        for name in groups:
            uuid = schemata.server_of(name) or ''
            yield Row(uuid, self._names.get(uuid, '-'),
                      [f'resctrl group {name}'], LEFT if name in refused
                      else TO_DO if self._dry_run else DONE,
                      refused.get(name, ''))

    def _providers(self):
        placement = client.Placement(utils.get_ksa_adapter('placement'))
        for node in objects.ComputeNodeList.get_all_by_host(
                self._context, CONF.host):
            reason = ''
            try:
                written = manual.unpublish(
                    placement, node.uuid, self._name_of,
                    self._dry_run).written
                written += manual.unhook(placement, node.uuid,
                                         self._dry_run).written
            except km_exc.InUse as exc:
                written, reason = (), str(exc)
            if written or reason:
                yield Row('', node.hypervisor_hostname,
                          ['node providers in Placement', *written],
                          LEFT if reason else
                          TO_DO if self._dry_run else DONE, reason)

    def _name_of(self, consumer):
        return f'{self._names.get(consumer, "consumer")} ({consumer})'


def _is_concerned(server):
    """Whether KongMing may have left something on it."""
    return template.has_template(server.flavor.extra_specs) or (
        server.numa_topology is not None
        and ownership.Ownership(server.numa_topology).has_target)
