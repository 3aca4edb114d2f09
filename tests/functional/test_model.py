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

"""No pCPU has two owners: a random history of a cloud of two hosts.

The second level of :mod:`tests.model`: nova-api, scheduler, conductor and
nova-compute are real, libvirt is simulated.  ``KONGMING_TEST_STEPS`` says how
many steps, ``KONGMING_TEST_SEED`` which ones, ``KONGMING_TEST_LOG`` where each
step is written down as it happens.  A failure names its seed.  Two tests share
the steps, so that two cores do; each is one history, and nothing is made of it
that is shorter.

In most steps a call of the hook is to fail: to conductor, of the database or
of libvirt.  Nova's own calls are another matter.
"""

import collections
import contextlib
import dataclasses
import logging
import os
import random
import time
from xml.etree import ElementTree

import fixtures
from nova.compute import resource_tracker
import nova.conf
from nova import context as nova_context
from nova import objects
from nova.tests.functional.api import client
from nova.tests.functional.libvirt import base as nova_base

from kongming.libvirt import affinity
from nova_ext.ownership import ownership
from nova_ext.ownership import write_ahead
from tests.embedded import faults
from tests.embedded import hypervisor
from tests.functional import test_boot
from tests.functional import test_life

CONF = nova.conf.CONF
STEPS = int(os.environ.get('KONGMING_TEST_STEPS', '200'))
SEED = os.environ.get('KONGMING_TEST_SEED', '1')
SEED = random.SystemRandom().randrange(2 ** 32) if (
    SEED == 'random') else int(SEED)
LOG = os.environ.get('KONGMING_TEST_LOG', os.devnull)
HOSTS = 'compute1', 'compute2'
DEDICATED = frozenset({*range(2, 8), *range(10, 16)})
#: Servers of both hosts.
MOST = 7
#: Migrations of which Nova counts what they claimed.
_COUNTED = ('accepted', 'queued', 'preparing', 'pre-migrating', 'migrating',
            'running', 'post-migrating', 'error')
#: How often each kind of step is chosen.
WEIGHTS = {'boot': 5, 'change': 8, 'look_after': 2, 'reboot': 2,
           'stop_or_start': 2, 'rescue': 2, 'unrescue': 3, 'resize': 3,
           'end_resize': 4, 'live_migrate': 2, 'delete': 2, 'restart': 1}


class _Errors(logging.Handler):
    """Audits that failed; Nova makes light of them."""

    def __init__(self):
        super().__init__()
        self.found = []

    def emit(self, record):
        if 'Error updating resources' in record.getMessage():
            self.found.append(record.getMessage())


def _report(tracker, context, compute, startup,
            real=resource_tracker.ResourceTracker._update_to_placement):
    """Who starts reads what Placement has; nobody tells it anything later."""
    if startup:
        real(tracker, context, compute, startup)


class ModelTest(nova_base.LibvirtMigrationMixin, test_life.LifeBase):

    def setUp(self):
        super().setUp()
        # What is written late is the first level's.
        self.useFixture(fixtures.MonkeyPatch(
            'nova_ext.ownership.write_ahead.LATE',
            -CONF.rpc_response_timeout))
        self.flags(change_interval=0, publish_inventory=False,
                   group='kongming')
        self.useFixture(hypervisor.Kernel())
        self.faults = self.useFixture(faults.Faults())
        self.errors = _Errors()
        logger = logging.getLogger('nova.compute.manager')
        logger.addHandler(self.errors)
        self.addCleanup(logger.removeHandler, self.errors)
        self.log = open(LOG, 'a')
        self.addCleanup(self.log.close)
        self.hosts(2)
        # What Placement is told is seen to by other tests, and takes most of
        # an audit's time; the rest of it is starting uptime(1).
        for where, function in (
                ('nova.compute.resource_tracker.ResourceTracker.'
                 '_update_to_placement', _report),
                ('nova.virt.libvirt.driver.LibvirtDriver.get_host_uptime',
                 lambda driver: 'up')):
            self.useFixture(fixtures.MonkeyPatch(where, function))
        self.natives = [self._create_flavor(
            vcpu=vcpus, memory_mb=64, disk=1, ephemeral=0, swap=0,
            extra_spec={**test_boot.PINNED, **specs})
            for vcpus, specs in (
                (1, {}), (2, {}), (3, {}),
                (1, {'hw:emulator_threads_policy': 'isolate'}))]
        self.templates = [
            self.flavor({'node.0': node, 'pin.0': pins, 'grant': 'template'},
                        vcpus=len(pins.split()) + ('cpu_dedicated_mask'
                                                   in hw),
                        memory=64, **hw)
            for node, pins, hw in (
                ('0', '0:2', {}), ('0', '0:3 1:2', {}), ('0', '0:2 1:4', {}),
                ('1', '0:13', {}), ('1', '0:13 1:10', {}),
                ('1', '0:15 1:14 2:10', {}),
                ('0', '0:7', {'cpu_policy': 'mixed',
                              'cpu_dedicated_mask': '0'}),
                ('1', '0:12', {'emulator_threads_policy': 'isolate'}))]

    # Steps; each returns what it did, in words, or None: nothing to be done.

    def boot(self):
        if len(self.servers()) >= MOST:
            return None
        return self.post(self.rng.choice(self.rng.choice(
            [self.natives, self.templates])))['id']

    def change(self):
        """Metadata as a tenant writes it, then the trigger."""
        server = self.choose('active', 'stopped', template=True)
        if server is None:
            return None
        cell = server.numa_topology.cells[0]
        node = self.rng.choice([cell.id, cell.id, 1 - cell.id])
        pcpus = self.rng.sample(range(8 * node + 2, 8 * node + 8),
                                len(cell.cpu_pinning or {}))
        pins = ' '.join(f'{vcpu}:{pcpu}' for vcpu, pcpu in zip(
            sorted(cell.cpu_pinning or {}), pcpus))
        self.api.post_server_metadata(server.uuid, {
            'kongming:node.0': str(node), 'kongming:pin.0': pins})
        self._reconcile(server.host)
        return f'{server.uuid} {pins}'

    def look_after(self):
        host = self.rng.choice(HOSTS)
        self._reconcile(host)
        return host

    def reboot(self):
        return self.act({'reboot': {'type': 'HARD'}}, 'active', 'error')

    def stop_or_start(self):
        return self.rng.choice([
            lambda: self.act({'os-stop': None}, 'active'),
            lambda: self.act({'os-start': None}, 'stopped')])()

    def rescue(self):
        server = self.choose('active')
        if server is None:
            return None
        # Rescue writes beside the disks, which are simulated.
        os.makedirs(os.path.join(CONF.instances_path, server.uuid),
                    exist_ok=True)
        return self.act({'rescue': {}}, server=server)

    def unrescue(self):
        return self.act({'unrescue': None}, 'rescued')

    def resize(self):
        server = self.choose('active', 'stopped')
        if server is None:
            return None
        flavor = self.rng.choice([*self.natives, *self.templates, None])
        return self.act({'migrate': None} if flavor is None else
                        {'resize': {'flavorRef': flavor}}, server=server)

    def end_resize(self):
        return self.act(self.rng.choice([{'confirmResize': None},
                                         {'revertResize': None}]),
                        'resized')

    def live_migrate(self):
        server = self.choose('active')
        if server is None:
            return None
        # For _migrate_stub.
        self.server = {'id': server.uuid}
        self.src = self.computes[server.host]
        self.dest, = (compute for name, compute in self.computes.items()
                      if name != server.host)
        return self.act({'os-migrateLive': {
            'host': None, 'block_migration': 'auto'}}, server=server)

    def _migrate_stub(self, domain, destination, params, flags):
        super()._migrate_stub(domain, destination, params, flags)
        # libvirt ends it where it was.
        domain._connection._mark_not_running(domain)

    def delete(self):
        server = self.choose()
        if server is None:
            return None
        self.api.delete_server(server.uuid)
        return server.uuid

    def restart(self):
        host = self.rng.choice(HOSTS)
        self.restart_compute_service(host)
        return host

    # How.

    def servers(self, *states):
        """Servers that came to a host, as the database has them."""
        found = objects.InstanceList.get_by_filters(
            nova_context.get_admin_context(), {'deleted': False},
            sort_key='id', sort_dir='asc', expected_attrs=[
                'flavor', 'numa_topology', 'migration_context'])
        return [server for server in found
                if not states or server.vm_state in states]

    def choose(self, *states, template=False):
        """A server in one of these states, or None."""
        found = [server for server in self.servers(*states)
                 if not template
                 or 'kongming:pin.0' in server.flavor.extra_specs]
        return self.rng.choice(found) if found else None

    def act(self, body, *states, server=None):
        server = server or self.choose(*states)
        if server is None:
            return None
        self.api.post_server_action(server.uuid, body)
        return f'{server.uuid} {next(iter(body))}'

    def _reconcile(self, host):
        self.reconcile(host)

    def step(self, number):
        words = None
        while words is None:
            name, = self.rng.choices(list(WEIGHTS), WEIGHTS.values())
            if self.rng.random() < 0.75:
                self.faults.arm(
                    self.rng.choice(faults.KINDS), self.rng.random() < 0.5,
                    self.rng.choice([0, 1, 1, 2, 3, 4, 5, 8]),
                    self.rng.randrange(4))
            try:
                words = getattr(self, name)()
            except client.OpenStackApiException as exc:
                words = f'refused with {exc.response.status_code}'
        self.idle()
        self.done[name] += 1
        self.log.write(f'{number} {name} {words}; '
                       f'{self.faults.disarm() or "all well"}\n')
        self.log.flush()

    def idle(self):
        """Until nothing is going on; what Nova leaves is put to an end."""
        # A server that is being scheduled is in no cell yet.
        if not self._until(lambda: self.service_threads.wait(0) and not any(
                server.task_state or server.vm_state == 'building'
                for server in self.servers()), 60):
            for server in self.servers():
                if server.task_state:
                    self.api.post_server_action(
                        server.uuid, {'os-resetState': {'state': 'error'}})
        # What an operator does about a move that failed: else Nova counts
        # what it claimed (nova/compute/resource_tracker.py,
        # _update_available_resource).
        for migration in objects.MigrationList.get_by_filters(
                nova_context.get_admin_context(), {'status': _COUNTED}):
            migration.status = 'failed'
            migration.save()
            self.placement.delete(f'/allocations/{migration.uuid}')

    # The invariant.

    def owners(self):
        """host -> server -> pCPUs that the database gives it there."""
        found = {host: {} for host in HOSTS}
        for server in self.servers():
            if server.host is None:
                continue
            found[server.host][server.uuid] = ownership.pcpus_of(server)
            move = server.migration_context
            if server.vm_state == 'resized' and move.old_numa_topology:
                # It may come back.
                other, = {*HOSTS} - {server.host}
                found[other][server.uuid] = ownership.Ownership(
                    move.old_numa_topology).pcpus
        return found

    def running(self, host):
        """server -> dedicated pCPUs that its domain may run on."""
        return {uuid: threads.pcpus & DEDICATED
                for uuid, threads in self.threads(host).items()}

    def threads(self, host):
        """server -> kongming.live.threads.Threads of its domain."""
        connection = self.computes[host].driver._host.get_connection()
        return {domain.UUIDString(): self._threads_of(domain)
                for domain in connection.listAllDomains(3)
                if domain.isActive()}

    @staticmethod
    def _threads_of(domain):
        # A resize that fails late leaves the old flavor with the topology of
        # the new one (nova/compute/manager.py, _finish_resize).  libvirt
        # ignores pins of vCPUs that a domain has not, the simulated one
        # doesn't.
        found = affinity.read(domain)
        vcpus = int(ElementTree.fromstring(domain.XMLDesc(0)).findtext('vcpu'))
        return dataclasses.replace(found, vcpus={
            vcpu: pcpus for vcpu, pcpus in found.vcpus.items()
            if vcpu < vcpus})

    def charged(self, host):
        """What the tracker has taken."""
        compute = self.computes[host].manager.rt.compute_nodes[host]
        return set().union(*(
            cell.pinned_cpus for cell in
            write_ahead.host_topology(compute).cells))

    def uncertain(self, host):
        return write_ahead.uncertain(self.computes[host].manager.rt)

    def assertOneOwner(self, owners):
        for host, owned in owners.items():
            running, charged = self.running(host), self.charged(host)
            self.once('database', owned)
            self.once('libvirt', running)
            for uuid, pcpus in running.items():
                self.once('libvirt and database', {
                    **owned, uuid: owned.get(uuid, frozenset()) | pcpus})
            for where, found in (('database', owned), ('libvirt', running)):
                self.assertLessEqual(
                    set().union(*found.values()), charged,
                    f'{host}, {where}: {found}; uncertain: '
                    f'{self.uncertain(host)}; {self.threads(host)}')

    def once(self, where, pcpus_of):
        owners = {}
        for uuid, pcpus in pcpus_of.items():
            for pcpu in pcpus:
                self.assertEqual(uuid, owners.setdefault(pcpu, uuid),
                                 f'{where}: pCPU {pcpu} has two owners')

    def check(self):
        owners = self.owners()
        self.assertOneOwner(owners)
        # An audit succeeds, and counts what is owned.
        self.audit()
        self.assertEqual([], self.errors.found)
        self.assertOneOwner(owners)
        for host, owned in owners.items():
            if not self.uncertain(host):
                owned = set().union(*owned.values())
                self.assertEqual(owned, self.charged(host), host)
                self.assertEqual(owned, set().union(*(
                    pcpus for pcpus, _memory in self.usage(host).values())),
                    host)

    def settle(self):
        """All is well again, and then all is given back."""
        for state, action in (('rescued', {'unrescue': None}),
                              ('resized', {'confirmResize': None}),
                              ('error', {'reboot': {'type': 'HARD'}})):
            for server in self.servers(state):
                if server.host:
                    self.act(action, server=server)
        self.idle()
        for _pass in range(2):
            for host in HOSTS:
                self._reconcile(host)
        self.check()
        active = {server.uuid for server in self.servers('active')}
        for host, owned in self.owners().items():
            self.assertEqual({}, self.uncertain(host))
            self.assertEqual(
                {uuid: pcpus for uuid, pcpus in owned.items()
                 if uuid in active}, self.running(host))
        for server in self.servers():
            self.api.delete_server(server.uuid)
        self.idle()
        self.check()
        for host in HOSTS:
            self.assertEqual(set(), self.charged(host))

    def one_owner(self, seed):
        began, steps = time.monotonic(), STEPS // 2
        self.rng = random.Random(seed)
        self.done = collections.Counter()
        self.log.write(f'seed {seed}, {steps} steps\n')
        try:
            for number in range(steps):
                self.step(number)
                self.check()
            self.settle()
            # Where nothing runs any more nothing goes wrong.
            self.assertLessEqual(steps // 20, self.done['change'])
        except Exception as exc:
            self.log.write(f'{type(exc).__name__}: {exc}\n')
            with contextlib.suppress(AttributeError):
                exc.add_note(f'KONGMING_TEST_SEED={SEED} '
                             f'KONGMING_TEST_STEPS={STEPS}')
            raise
        self.log.write(f'{steps} steps, {time.monotonic() - began:.0f} s\n')

    def test_one_owner(self):
        self.one_owner(SEED)

    def test_one_owner_again(self):
        self.one_owner(SEED + 1)
