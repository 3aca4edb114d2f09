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

"""Two hosts and their servers; what Nova's compute manager does, in its order.

Only the hook's own messages are lost: Nova's are another matter.
"""

import contextlib
import itertools
from unittest import mock

from nova.compute import task_states
from nova.compute import vm_states
import nova.conf
import nova.context
from nova import exception
from nova import objects
from nova.virt import hardware
import oslo_messaging as messaging
from oslo_messaging import conffixture

from nova_ext.ownership import claim as claims
from nova_ext.ownership import claimed
from nova_ext.ownership import write_ahead
from tests.model import database
from tests.model import host as hosts

CONF = nova.conf.CONF
# Has the options of RPC registered, as nova-compute has when it starts.
conffixture.ConfFixture(CONF)
#: What a step of the test may raise; anything else is a fault.
EXPECTED = (*hosts.EXPECTED, messaging.MessagingTimeout)
_CHANGES = (task_states.RESIZE_PREP, task_states.RESIZE_MIGRATING,
            task_states.RESIZE_MIGRATED, task_states.RESIZE_FINISH)


class Broken(AssertionError):
    """A pCPU has two owners, or is about to."""


class Cloud:
    """:param host: class of the hosts

    :ivar hosts: name -> tests.model.host.Host
    """

    def __init__(self, names=('one', 'two'), host=hosts.Host):
        self.clock = hosts.Clock()
        self.database = database.Database()
        self.bus = database.Bus(
            self.clock, CONF.rpc_response_timeout + write_ahead.LATE - 1)
        self.context = nova.context.get_admin_context()
        self._uuids = itertools.count(1)
        self._lost = None, 0
        self._broken = None
        #: names of hosts of which more may be taken than is owned
        self.unsure = set()
        self.resources = contextlib.ExitStack()
        for patch in (*database.patches(self.database, self.bus),
                      *hosts.patches(self.clock)):
            self.resources.enter_context(patch)
        self.hosts = {
            name: host(name, _uuid(1000 + number))
            for number, name in enumerate(names)}
        #: called, one each time, when the hook leaves Nova's lock
        self.queue = []
        for host in self.hosts.values():
            host.unlocked = self._unlocked
            host.libvirt.moved = self.check
            host.well = self.bus.well
        swap = claims._swap

        def swapped(*args, **kwargs):
            try:
                return swap(*args, **kwargs)
            finally:
                self._unlocked()

        self.resources.enter_context(
            mock.patch.object(claims, '_swap', swapped))

    def _unlocked(self):
        """Who waited for the lock has it next, before any handler."""
        self.check()
        if self.queue:
            with self.bus.well():
                self.queue.pop()()
            self.check()

    # What is lost.

    @contextlib.contextmanager
    def losing(self, fault, number):
        """Have the n-th message of the hook be lost, in what is done."""
        self._lost = fault, number
        try:
            yield
        finally:
            self._lost = None, 0

    @contextlib.contextmanager
    def hook(self):
        """The hook is at work."""
        lost = self.bus.lost
        try:
            with self.bus.losing(*self._lost):
                yield
        finally:
            if self.bus.lost != lost:
                self.unsure.update(self.hosts)

    def carry_out(self, number):
        """A conductor gets to a write that nobody waits for any more."""
        if self.bus.late:
            self.bus.late.pop(number % len(self.bus.late)).carry_out()
            self.unsure.update(self.hosts)

    def wait(self, seconds):
        """Time passes; what is late is so for so long only."""
        now = self.clock.now + seconds
        for late in [late for late in self.bus.late if late.until <= now]:
            self.carry_out(self.bus.late.index(late))
        self.clock.now = now

    # What nova-api has.

    def servers(self, *states, busy=False):
        """Servers in these states, or in any."""
        return [uuid for uuid, row in self.database.instances.items()
                if not row['deleted'] and row['host']
                and (not states or row['vm_state'] in states)
                and (busy or row['task_state'] is None)]

    def read(self, uuid):
        """As nova-api reads it."""
        with self.bus.well():
            return objects.Instance.get_by_uuid(
                self.context, uuid, expected_attrs=[
                    'flavor', 'numa_topology', 'metadata', 'system_metadata',
                    'migration_context', 'pci_requests', 'pci_devices',
                    'resources'])

    def host_of(self, server):
        return self.hosts[server.host]

    # What the compute manager does (nova/compute/manager.py).

    def claim(self, host, flavor):
        """As far as spawning; returns the server and its claim."""
        uuid = _uuid(next(self._uuids))
        self.database.add(
            uuid, flavor, hardware.numa_get_constraints(
                flavor, objects.ImageMeta(
                    properties=objects.ImageMetaProps())),
            vm_state=vm_states.BUILDING, task_state=task_states.SCHEDULING)
        return uuid, self.claim_again(host, uuid)

    def claim_again(self, host, uuid):
        """Also of one that has failed elsewhere."""
        server = self.read(uuid)
        claim = host.rt.instance_claim(
            self.context, server, host.name, {}, None)
        self._save(server, task_state=task_states.SPAWNING)
        return claim

    def spawn(self, host, claim):
        """``_build_and_run_instance``, from where it has a claim."""
        server = claim.instance_ref
        try:
            with claim, self.hook():
                host.driver.spawn(self.context, server, server.image_meta,
                                  [], None, {})
        except EXPECTED:
            self._save(server, vm_state=vm_states.ERROR, task_state=None)
            raise
        self._save(server, vm_state=vm_states.ACTIVE, task_state=None)

    def reboot(self, server):
        with self._task(server, task_states.REBOOT_STARTED_HARD):
            with self.hook():
                self.host_of(server).driver.reboot(
                    self.context, server, None, 'HARD')
            server.vm_state = vm_states.ACTIVE

    def stop(self, server):
        with self._task(server, task_states.POWERING_OFF):
            self.host_of(server).libvirt.end(server.uuid)
            server.vm_state = vm_states.STOPPED

    def start(self, server):
        with self._task(server, task_states.POWERING_ON):
            with self.hook():
                self.host_of(server).driver.power_on(
                    self.context, server, None)
            server.vm_state = vm_states.ACTIVE

    def rescue(self, server):
        with self._task(server, task_states.RESCUING):
            with self.hook():
                self.host_of(server).driver.rescue(
                    self.context, server, None, None, None, None)
            server.vm_state = vm_states.RESCUED

    def unrescue(self, server):
        with self._task(server, task_states.UNRESCUING):
            self.host_of(server).driver.unrescue(self.context, server)
            server.vm_state = vm_states.ACTIVE

    def rebuild(self, server):
        """``_rebuild_default_impl``, of a server that stays where it is."""
        with self._task(server, task_states.REBUILDING):
            driver = self.host_of(server).driver
            with self.hook():
                driver.destroy(self.context, server, None)
            self._save(server, task_state=task_states.REBUILD_SPAWNING)
            with self.hook(), server.mutated_migration_context():
                driver.spawn(self.context, server, server.image_meta, [],
                             None, {})
            server.vm_state = vm_states.ACTIVE

    def delete(self, server):
        with self._task(server, task_states.DELETING):
            host = self.host_of(server)
            with self.hook():
                host.driver.destroy(self.context, server, None)
            server.vm_state = vm_states.DELETED
        if server.uuid not in host.rt.tracked_instances:
            # Of one that has come lately Nova gives back nothing.
            self.unsure.add(host.name)
        host.rt.update_usage(self.context, server, server.node)
        server.destroy()
        host.libvirt.saved.pop(server.uuid, None)

    def _save(self, server, **values):
        """``server.save()``, without Nova's notifications.

        Most of the time, then, of this test; whatever else has been changed
        is saved by Nova's own.
        """
        for name, value in values.items():
            setattr(server, name, value)
        changes = server.obj_what_changed()
        if changes <= {'host', 'node', 'compute_id', 'vm_state',
                       'task_state'}:
            self.database.instances[server.uuid].update(
                {name: server[name] for name in changes})
            server.obj_reset_changes(changes)
        else:
            server.save()

    @contextlib.contextmanager
    def _task(self, server, task):
        """``reverts_task_state``: what is done to a server alone."""
        self._save(server, task_state=task)
        try:
            yield
        finally:
            self._save(server, task_state=None)

    def prepare_resize(self, server, host, flavor):
        """``prep_resize``, at the destination."""
        migration = objects.Migration(
            self.context, source_compute=server.host,
            source_node=server.node, instance_uuid=server.uuid,
            status='accepted', migration_type=(
                'migration' if flavor.id == server.instance_type_id
                else 'resize'),
            old_instance_type_id=server.instance_type_id,
            new_instance_type_id=flavor.id)
        migration.create()
        self._save(server, task_state=task_states.RESIZE_PREP)
        server.new_flavor = flavor
        server.save()
        try:
            host.rt.resize_claim(
                self.context, server, flavor, host.name, migration, {},
                image_meta=server.image_meta)
        except EXPECTED:
            self._failed(migration)
            self._save(server, task_state=None)
            raise
        return migration

    def resize(self, server, migration):
        """``resize_instance`` at the source, ``finish_resize`` at the other.
        """
        with self._fails(server, migration):
            migration.status = 'migrating'
            migration.save()
            self._save(server, task_state=task_states.RESIZE_MIGRATING)
            with self.hook():
                self.host_of(server).driver.migrate_disk_and_power_off(
                    self.context, server, None, None, None)
            migration.status = 'post-migrating'
            migration.save()
            server.host = migration.dest_compute
            server.node = migration.dest_node
            server.compute_id = migration.get_dest_compute_id()
            server.old_flavor = server.flavor
            self._save(server, task_state=task_states.RESIZE_MIGRATED)

    def finish_resize(self, server, migration):
        with self._fails(server, migration):
            if migration.is_resize:
                server.flavor = server.new_flavor
                server.instance_type_id = server.new_flavor.id
            server.apply_migration_context()
            self._save(server, task_state=task_states.RESIZE_FINISH)
            with self.hook():
                self.host_of(server).driver.finish_migration(
                    self.context, migration, server, '', None,
                    server.image_meta, False, {})
            migration.status = 'finished'
            migration.save()
            self._save(server, vm_state=vm_states.RESIZED, task_state=None)

    @contextlib.contextmanager
    def _fails(self, server, migration):
        """``_error_out_instance_on_exception``, ``errors_out_migration``."""
        try:
            yield
        except EXPECTED:
            self._save(server, vm_state=vm_states.ERROR, task_state=None)
            self._failed(migration)
            # Nova does not count the claim of a server that comes back before
            # the audit has seen that it is gone (resource_tracker.py,
            # _update_usage_from_migration).
            for host in self.hosts.values():
                host.audit()
            raise

    @staticmethod
    def _failed(migration):
        """What an operator makes of 'error'.

        Nova shows a server's next migration context wherever one that is in
        error has come (nova/compute/resource_tracker.py,
        _update_available_resource).
        """
        migration.status = 'failed'
        migration.save()

    def confirm(self, server):
        migration = self._migration(server)
        source = self.hosts[migration.source_compute]
        source.rt.drop_move_claim_at_source(self.context, server, migration)
        server.vm_state = vm_states.ACTIVE
        server.old_flavor = server.new_flavor = None
        server.save()

    def revert(self, server):
        migration = self._migration(server)
        self._save(server, task_state=task_states.RESIZE_REVERTING)
        dest, source = (self.hosts[migration.dest_compute],
                        self.hosts[migration.source_compute])
        with self.hook():
            dest.driver.destroy(self.context, server, None)
        dest.rt.drop_move_claim_at_dest(self.context, server, migration)
        server.flavor = server.old_flavor
        server.instance_type_id = server.old_flavor.id
        node = source.rt.compute_nodes[source.name]
        server.host, server.node = source.name, source.name
        server.compute_id = node.id
        server.save()
        source.libvirt.define(server)
        server.drop_migration_context()
        server.old_flavor = server.new_flavor = None
        self._save(server, vm_state=vm_states.ACTIVE, task_state=None)

    def _migration(self, server):
        return objects.Migration.get_by_id(
            self.context, server.migration_context.migration_id)

    # What the hook does by itself.

    def change(self, host, steps_):
        """Steps of a live change, or none of them.

        See :meth:`nova_ext.live.changes.Changes._carry_out`.
        """
        done = []
        with self.hook():
            if not host.is_ready(steps_):
                return
            for step in steps_:
                try:
                    host.steps.take(self.context, self.read(step.server),
                                    step, None, None)
                except EXPECTED:
                    for before in reversed(done):
                        with contextlib.suppress(EXPECTED):
                            host.steps.take(
                                self.context, self.read(before.server),
                                before.back(), None, None)
                    raise
                done.append(step)

    def resolve(self, host):
        lost = self.bus.lost
        with self.hook():
            waits = write_ahead.resolve(self.context, host.rt,
                                        host.steps._domains.leave)
        if self.bus.lost != lost:
            raise Broken(f'{host.name}: nobody noticed a lost message')
        if waits != bool(write_ahead.uncertain(host.rt)):
            raise Broken(f'{host.name}: whether something is uncertain is '
                         f'answered with {waits}')

    def write_uncertain(self, host, uuid):
        """Nobody may, whoever it is that did not look."""
        server = self.read(uuid)
        try:
            write_ahead.write(
                host.rt, claimed.ClaimedServer(server, host.name, None),
                server.numa_topology, server.numa_topology.obj_clone())
        except exception.ComputeResourcesUnavailable:
            return
        raise Broken(f'{host.name}: {uuid} was written while uncertain')

    def look_after(self, host):
        with self.hook():
            host.look_after(self.context, write_ahead.uncertain(host.rt))

    def restart(self, host):
        """nova-compute starts anew.

        What a conductor has taken from the one before it is carried out by
        then: of that, nobody knows any more.
        """
        while self.bus.late:
            self.carry_out(0)
        host.start()
        self.unsure.discard(host.name)

    def audit(self, host):
        host.audit()
        if not write_ahead.uncertain(host.rt):
            self.unsure.discard(host.name)

    # The invariant.

    def topologies(self, host):
        """server -> what the database gives it of a host, moves included."""
        found = {}
        for uuid, row in self.database.instances.items():
            if row['deleted']:
                continue
            if row['host'] != host.name:
                topologies = self._moving(uuid, row, host)
            elif row['task_state'] == task_states.RESIZE_MIGRATED:
                # It is here, and is about to be shown what it claimed.
                topologies = [
                    self.database.context_of(uuid).new_numa_topology]
            else:
                topologies = [self.database.topology(uuid)]
            if topologies:
                found[uuid] = topologies
        return found

    def owned(self, host):
        """server -> the pCPUs of that."""
        return {uuid: frozenset().union(*map(hosts.pcpus_of, topologies))
                for uuid, topologies in self.topologies(host).items()}

    def _moving(self, uuid, row, host):
        """What a server that is elsewhere may come, or come back, to."""
        if (row['vm_state'] != vm_states.RESIZED
                and row['task_state'] not in _CHANGES):
            return []
        move = self.database.context_of(uuid)
        if move is None:
            return []
        migration = self.database.migrations[move.migration_id]
        if migration['status'] in ('failed', 'confirmed', 'reverted'):
            return []
        return [topology for end, topology in (
            ('source_compute', move.old_numa_topology),
            ('dest_compute', move.new_numa_topology))
            if migration[end] == host.name]

    def check(self):
        """No pCPU has two owners, whoever is asked, nor is about to have.

        What is found while the hook is at work is told again afterwards,
        in case that it handles the first.
        """
        if self._broken is None:
            try:
                for host in self.hosts.values():
                    self._check(host)
            except Broken as exc:
                self._broken = exc
        if self._broken is not None:
            raise self._broken

    def _check(self, host):
        topologies, charged = self.topologies(host), host.charged
        owned = self.owned(host)
        once('the database', owned)
        running = {uuid: domain.pcpus for uuid, domain
                   in host.libvirt.running.items()}
        # What borrows owns nothing, and shares with others that borrow.
        owners = {uuid: pcpus for uuid, pcpus in running.items()
                  if not host.borrows(uuid)}
        once('libvirt', owners)
        for uuid in running.keys() - owners.keys():
            once('a borrower', {**owners, uuid: running[uuid]})
        for uuid, pcpus in owners.items():
            if not pcpus <= charged.pinned:
                raise Broken(f'{host.name}: {uuid} runs on '
                             f'{sorted(pcpus - charged.pinned)}, which are '
                             f'free')
            once('domain and database', {
                **owned, uuid: owned.get(uuid, frozenset()) | pcpus})
        _counted(host, charged, topologies)
        for late in self.bus.late:
            uuid = late.topology and late.obj.uuid
            if uuid in owned and self.database.instances[uuid][
                    'host'] == host.name:
                once('what is saved late', {
                    **owned,
                    uuid: owned[uuid] | hosts.pcpus_of(late.topology)})
                _counted(host, charged,
                         {**topologies, uuid: [late.topology]})

    def check_exactly(self):
        """What the tracker has is what is owned, and the scheduler knows.

        Nova knows as well what it has saved: what differs from that, and
        nothing else, it saves again.  All that where nothing was lost since
        the tracker was made from the database.
        """
        for host in self.hosts.values():
            if host.name in self.unsure:
                continue
            wanted = hosts.usage(self.topologies(host))
            for what, found in (('tracker', host.charged),
                                ('record', hosts.usage_of(
                                    self.database.computes[host.uuid][
                                        'numa_topology'])),
                                ('tracker as it was saved', host.saved)):
                if found != wanted:
                    raise Broken(f'{host.name}: the {what} has {found}, the '
                                 f'database {wanted}')

    def settle(self):
        """All that was late is over, and the tracker says what is owned."""
        self.wait(10 * self.bus.longest)
        for host in self.hosts.values():
            for uuid in list(write_ahead.uncertain(host.rt)):
                row = self.database.instances[uuid]
                if row['vm_state'] == vm_states.RESCUED:
                    self.unrescue(self.read(uuid))
                    self.check()
            write_ahead.resolve(self.context, host.rt,
                                host.steps._domains.leave)
            self.check()
            host.audit()
            self.check()
            uncertain = write_ahead.uncertain(host.rt)
            self.unsure -= {host.name} if not uncertain else set()
            if any(self.database.instances[uuid]['task_state'] is None
                   for uuid in uncertain):
                raise Broken(f'{host.name}: uncertain for ever')
            self.check_exactly()
            for _pass in range(2):
                host.look_after(self.context, uncertain)
                self.check()


def _counted(host, charged, topologies):
    """:raises Broken: if the tracker has less than that"""
    wanted = hosts.usage(topologies)
    if not wanted <= charged:
        raise Broken(f'{host.name}: the tracker has {charged}, less than '
                     f'{wanted}')


def once(where, pcpus_of):
    """:raises Broken: if two have the same pCPU"""
    owners = {}
    for uuid, pcpus in pcpus_of.items():
        for pcpu in pcpus:
            if owners.setdefault(pcpu, uuid) != uuid:
                raise Broken(f'{where}: pCPU {pcpu} is of {owners[pcpu]} '
                             f'and of {uuid}')


def _uuid(number):
    return f'00000000-0000-4000-8000-{number:012}'
