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

"""A compute host whose servers lend and borrow by their load.

What is real beside :mod:`tests.model.host`: nova-compute's enforcer, its
lending and its intents.  Which conditions hold is a table.
"""

import types
from unittest import mock

from nova.compute import vm_states
import nova.context
from nova import objects

from kongming.host import usage
from kongming.live import threads
from kongming.load import decision
from kongming.template import template
from nova_ext.live import changes
from nova_ext.live import enforce
from nova_ext.live import intents
from nova_ext.live import jobs
from nova_ext.live import reclaim
from nova_ext.live import states
from nova_ext.ownership import ownership
from tests.model import host as hosts

_STATE = usage.HostState([
    usage.NodeState(number, frozenset(dedicated), shared=frozenset(shared))
    for number, (shared, dedicated) in enumerate(hosts.NODES)])
_RUNNING = (*states.CHANGEABLE, vm_states.RESCUED)


class Domains(hosts.Domains):
    """With threads as templates, profiles and lent pCPUs have them.

    :ivar freed: servers that the kernel says are elsewhere; there is none
    """

    def __init__(self, host):
        super().__init__(host)
        self._model = host

    def layout(self):
        return _STATE

    def wanted(self, server, topology, intent, lent=frozenset()):
        return threads.shape(_default(topology), _STATE,
                             ownership.Ownership(topology).owned, intent,
                             lent)

    def powered(self, pcpus):
        return pcpus

    def differences(self, server, topology, intent, lent=frozenset(),
                    act=False):
        now = self._libvirt.running.get(server.uuid)
        return threads.changes(now, self.wanted(
            server, topology, intent, lent)[0]) if now else []

    def run_on(self, server, topology, intent=None, lent=frozenset(),
               before_each=lambda: None):
        if intent is None:
            intent = self._model.enforcer.intents.of(server, None)
        before_each()
        wanted, _problems = self.wanted(server, topology, intent, lent)
        self._libvirt.move(server.uuid, hosts.Domain(
            wanted.vcpus, wanted.emulator))

    def move_off(self, server, pcpus, otherwise):
        """By the kernel, which does not fail."""
        now = self._libvirt.running[server.uuid]
        self._libvirt.running[server.uuid] = hosts.Domain(
            {vcpu: allowed - pcpus or otherwise - pcpus
             for vcpu, allowed in now.vcpus.items()},
            now.emulator - pcpus or otherwise - pcpus)


def _default(topology):
    owned = ownership.Ownership(topology).owned
    shared = frozenset().union(*(hosts.NODES[cell.id][0]
                                 for cell in topology.cells))
    vcpus = {vcpu: shared for cell in topology.cells for vcpu in cell.cpuset}
    vcpus.update({vcpu: frozenset({pcpu})
                  for vcpu, pcpu in owned.pins.items()})
    return threads.Threads(
        vcpus, owned.emulator or frozenset(owned.pins.values()) or shared)


class Host(hosts.Host):
    """
    :ivar enforcer: nova_ext.live.enforce.Enforcer
    :ivar calm: servers whose conditions hold
    :ivar borrowed: how often a server was on what is another one's, over all
        hosts
    """

    borrowed = 0

    def start(self):
        super().start()
        # Of load nothing is known any more.
        self.calm = set()
        self.steps._domains = Domains(self)
        self.enforcer = enforce.Enforcer(
            self.steps._domains, jobs.Jobs(), intents.Intents(self._met))
        self.driver._reconciler = mock.Mock(**{
            'reclaim.side_effect': self._reclaim,
            'evict.side_effect': self.enforcer.evict,
            'own_only.side_effect': lambda server: self.enforcer.own_only(
                server, self.with_template),
            'jobs.of.return_value': None})
        self.driver._lifecycle = Lifecycle(self.driver)
        self.libvirt.about_to_define = self._about_to_define

    def _met(self, server, flavor, _metadata, _moment):
        return decision.of_template(flavor) if (
            server.uuid in self.calm) else frozenset()

    def _reclaim(self, pcpus):
        return self.enforcer.reclaim(pcpus, self.with_template)

    def _about_to_define(self, server, topology):
        # Nova asks the hook for the pins of each domain that it makes.
        self.driver._lifecycle.reclaim(
            topology, template.has_template(server.flavor.extra_specs))

    def with_template(self):
        """All that are here, as the database has them."""
        with self.well():
            return self._listed(nova.context.get_admin_context())

    def _listed(self, context):
        return [server for server
                in objects.InstanceList.get_by_host_and_node(
                    context, self.name, self.name, expected_attrs=[
                        'flavor', 'numa_topology', 'metadata',
                        'migration_context', 'system_metadata'])
                if template.has_template(server.flavor.extra_specs)
                and server.numa_topology is not None]

    def borrows(self, uuid):
        found = self.libvirt.running.get(uuid)
        # What borrows owns nothing.
        return found is not None and all(
            pcpus & hosts.SHARED for pcpus in found.vcpus.values())

    def is_ready(self, steps_):
        """See nova_ext.live.places.Places._without_borrowed."""
        still_used = self._reclaim(changes.pcpus_of(steps_))
        uuids = {step.server for step in steps_}
        servers = {server.uuid: server for server in self.with_template()
                   if server.uuid in uuids}
        return not still_used and not self.enforcer.hand_over(
            servers, steps_, {
                uuid: self.enforcer.intents.of(server, None)
                for uuid, server in servers.items()})

    def load_changes(self, some):
        """Servers are idle now that were busy, and the other way round."""
        ending, others = some & self.calm, some - self.calm
        self.calm ^= some
        self.enforcer.switch_by_load(ending, others)
        self._count()

    def look_after(self, context, uncertain):
        self.enforcer.begin()
        listed = self._listed(context)
        self.enforcer.first(listed)
        idle = {server.uuid: server for server in listed
                if server.task_state is None and server.vm_state in _RUNNING
                and server.uuid not in uncertain}
        self.enforcer.enforce(dict(idle), {})
        self._count()
        for server in idle.values():
            try:
                self._look_after_one(context, server)
            except Exception:
                continue

    def _look_after_one(self, context, server):
        if server.migration_context is not None:
            server = self.steps.end_move(context, server.uuid)
        if (server.vm_state in states.CHANGEABLE
                and ownership.Ownership(server.numa_topology).has_target):
            self.steps.drop_target(context, server)

    def _count(self):
        Host.borrowed += sum(
            bool(domain.pcpus) for uuid, domain
            in self.libvirt.running.items() if self.borrows(uuid))


class Lifecycle(hosts.Lifecycle):

    def before_saved(self, instance):
        self._driver._reconciler.own_only(instance)
        self._driver._reconciler.reclaim(ownership.pcpus_of(instance))


def patches(clock):
    """Who waits for borrowers does not really wait."""
    yield mock.patch.object(reclaim, 'time', clock)
    yield mock.patch.object(
        enforce, 'LOG', types.SimpleNamespace(
            **dict.fromkeys(('log', 'warning', 'info', 'error'),
                            lambda *_args, **_kwargs: None)))
