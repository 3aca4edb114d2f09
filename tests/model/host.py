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

"""A compute host: the tracker, the hook, and libvirt as a table."""

import collections
import contextlib
import dataclasses
import functools
import types
from unittest import mock

from nova.compute import resource_tracker
from nova.compute import vm_states
import nova.context
from nova import exception
from nova import objects
from nova.virt.libvirt import driver as nova_driver

from nova_ext import driver as hook
from nova_ext import lifecycle
from nova_ext.live import domains
from nova_ext.live import states
from nova_ext.live import steps
from nova_ext.ownership import ownership

#: Of each node: shared, dedicated.
NODES = (({0, 1}, {2, 3, 4, 5, 6, 7}), ({8, 9}, {10, 11, 12, 13, 14, 15}))
SHARED = frozenset().union(*(shared for shared, _dedicated in NODES))


class Clock:
    """Stands for the module ``time``; nobody really waits."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


class LibvirtError(Exception):
    """What a libvirt says that is not well."""


@dataclasses.dataclass(frozen=True)
class Domain:
    """Which pCPUs a domain's threads are on."""

    vcpus: dict
    emulator: frozenset
    iothreads: dict = dataclasses.field(default_factory=dict)
    sched: dict = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, topology):
        mine = ownership.Ownership(topology)
        return cls({vcpu: frozenset({pcpu})
                    for vcpu, pcpu in mine.pins.items()},
                   mine.emulator or frozenset(mine.pins.values()))

    @property
    def pcpus(self):
        """Those that somebody can own."""
        return self.emulator.union(*self.vcpus.values()) - SHARED


class Libvirt:
    """The domains of a host.

    :ivar running: server -> Domain
    :ivar saved: server -> what the XML says that a rescue has saved
    :ivar fails: None, or whether the next change is made before it fails
    :ivar moved: called after each change of a running domain
    """

    def __init__(self):
        self.running, self.saved = {}, {}
        self.fails = None
        self.moved = lambda: None
        #: called with a server and its topology before it is defined
        self.about_to_define = lambda server, topology: None

    @contextlib.contextmanager
    def failing(self, made):
        self.fails = made
        try:
            yield
        finally:
            self.fails = None

    def define(self, server):
        """What Nova makes of a topology, of the hook's and of its own."""
        topology = server.numa_topology
        if server.flavor.extra_specs.get('kongming:node.0'):
            topology = ownership.Ownership(topology).current
        self.about_to_define(server, topology)
        self.running[server.uuid] = Domain.of(topology)

    def move(self, uuid, domain):
        """Threads of a domain that runs."""
        if uuid not in self.running:
            return
        fails, self.fails = self.fails, None
        if fails is not False:
            self.running[uuid] = domain
            self.moved()
        if fails is not None:
            raise LibvirtError('libvirt is away')

    def end(self, uuid):
        self.running.pop(uuid, None)


class _Native(nova_driver.LibvirtDriver):
    """Nova's driver as the hook finds it behind ``super()``."""

    def spawn(self, context, instance, *args, **kwargs):
        self.libvirt.define(instance)

    reboot = power_on = spawn

    def finish_migration(self, context, migration, instance, *args,
                         **kwargs):
        self.libvirt.define(instance)

    def rescue(self, context, instance, *args, **kwargs):
        # The XML of the domain as it runs (nova/virt/libvirt/driver.py,
        # rescue: unrescue.xml).
        self.libvirt.saved[instance.uuid] = self.libvirt.running[
            instance.uuid]
        self.libvirt.define(instance)

    def unrescue(self, context, instance):
        self.libvirt.running[instance.uuid] = self.libvirt.saved.pop(
            instance.uuid)

    def destroy(self, context, instance, *args, **kwargs):
        self.libvirt.end(instance.uuid)

    def migrate_disk_and_power_off(self, context, instance, *args, **kwargs):
        self.libvirt.end(instance.uuid)
        return ''

    def post_claim_migrate_data(self, context, instance, migrate_data, claim):
        return migrate_data

    def update_provider_tree(self, provider_tree, nodename,
                             allocations=None):
        pass

    def get_available_resource(self, nodename):
        topology = objects.NUMATopology(cells=[
            objects.NUMACell(
                id=number, cpuset=shared, pcpuset=dedicated, socket=0,
                memory=8192, cpu_usage=0, memory_usage=0,
                pinned_cpus=set(), siblings=[
                    {pcpu, pcpu + 1}
                    for pcpu in sorted(shared | dedicated)[::2]],
                mempages=[objects.NUMAPagesTopology(
                    size_kb=4, total=8192 * 256, used=0, reserved=0)])
            for number, (shared, dedicated) in enumerate(NODES)])
        return {
            'uuid': self.uuid, 'hypervisor_hostname': nodename,
            'vcpus': 16, 'memory_mb': 16384, 'local_gb': 1000,
            'vcpus_used': 0, 'memory_mb_used': 0, 'local_gb_used': 0,
            'hypervisor_type': 'QEMU', 'hypervisor_version': 1,
            'cpu_info': '', 'disk_available_least': 1000,
            'supported_instances': [], 'numa_topology': topology._to_json()}

    def node_is_available(self, nodename):
        return True

    @staticmethod
    def get_host_ip_addr():
        return '192.0.2.1'


class Lifecycle(lifecycle.Lifecycle):

    def before_saved(self, instance):
        """A domain is written down here as it runs."""


class Driver(hook.LibvirtDriver, _Native):
    """The hook, for one host."""

    def __init__(self, name, uuid, libvirt):
        # Not its superclass's, which asks for a libvirtd.
        self.uuid, self.libvirt = uuid, libvirt
        self._host = types.SimpleNamespace(get_hostname=lambda: name)
        # Nobody lends or borrows here.
        self._reconciler = mock.Mock(**{
            'reclaim.return_value': frozenset(),
            'jobs.of.return_value': None})
        # Placement is not part of this.
        self.publisher = mock.Mock(cache_claims={})
        # All pCPUs have power, and nobody can say whether they are online.
        self.cpu_api = mock.Mock(**{
            'online.return_value': None, 'off.return_value': frozenset(),
            'ensure.return_value': frozenset()})
        self._lifecycle = Lifecycle(self)
        self.virtapi = mock.Mock()

    def wake(self):
        """Who runs a pass is chosen by the test."""


class Domains(domains.Domains):
    """Of which libvirt does what the table does."""

    @staticmethod
    def check_left(domain, pcpus):
        """There is no kernel to be asked."""

    def power_up(self, *_args):
        """All have power; nothing is offline."""
        return frozenset()

    def power_down(self, *_args):
        """Nothing is managed."""

    def __init__(self, host):
        super().__init__(host.driver)
        self._libvirt = host.libvirt

    def run_on(self, server, topology, intent=None, lent=frozenset()):
        self._libvirt.move(server.uuid, Domain.of(topology))

    def domain(self, server):
        now = self._libvirt.running.get(server.uuid)
        return now and Affinity(self._libvirt, server.uuid)

    def _width(self):
        return 16


class Steps(steps.Steps):
    """Between whose parts the test goes on; memory stays."""

    def __init__(self, host):
        super().__init__(host.driver, Domains(host))
        self._model = host

    def _own(self, *args, **kwargs):
        try:
            return super()._own(*args, **kwargs)
        finally:
            self._model.unlocked()

    def _go(self, server, before, after, intent, job, is_back=False):
        self._domains.run_on(server, after)
        return 0


class Affinity:
    """A domain, and what :mod:`kongming.libvirt.affinity` does with one."""

    def __init__(self, libvirt, uuid):
        self._libvirt, self._uuid = libvirt, uuid

    @staticmethod
    def read(domain):
        return domain._libvirt.running[domain._uuid]

    @staticmethod
    def apply(domain, wanted, width, _before_each=None):
        domain._libvirt.move(domain._uuid, wanted)


class Host:
    """One nova-compute; its libvirt survives it.

    :ivar unlocked: called when the hook has left Nova's lock
    """

    def __init__(self, name, uuid):
        self.name, self.uuid = name, uuid
        self.libvirt = Libvirt()
        self.unlocked = lambda: None
        #: nothing that is sent meanwhile is lost
        self.well = contextlib.nullcontext
        self.start()

    def start(self):
        """nova-compute starts; all that it knew is gone."""
        self.driver = Driver(self.name, self.uuid, self.libvirt)
        self.rt = resource_tracker.ResourceTracker(
            self.name, self.driver, mock.Mock(**{
                'get_allocations_for_resource_provider.return_value':
                    mock.Mock(allocations={})}))
        self.rt.service_ref = types.SimpleNamespace(id=1, host=self.name)
        self.driver.virtapi._compute.rt = self.rt
        self.steps = Steps(self)
        self.audit(startup=True)

    def is_ready(self, steps_):
        """Whether nobody has borrowed what steps go to; they leave."""
        return True

    def borrows(self, uuid):
        """Whether a server may be on what is another one's."""
        return False

    def audit(self, startup=False):
        self.rt.update_available_resource(
            nova.context.get_admin_context(), self.name, startup=startup)

    @property
    def charged(self):
        """The Usage that the tracker has."""
        return usage_of(self.rt.compute_nodes[self.name].numa_topology)

    @property
    def saved(self):
        """The Usage that Nova has saved, as far as it knows."""
        saved = self.rt.old_resources.get(self.name)
        return saved and usage_of(saved.numa_topology)

    @property
    def pinned(self):
        """All pCPUs that it has taken."""
        return self.charged.pinned

    def look_after(self, context, uncertain):
        """Bring servers to where they are owned, as a pass does.

        See :meth:`nova_ext.live.reconciler.Reconciler._pass`; what it wants
        anew is chosen by the test.
        """
        for server in objects.InstanceList.get_by_host_and_node(
                context, self.name, self.name, expected_attrs=[
                    'flavor', 'numa_topology', 'metadata',
                    'migration_context', 'system_metadata']):
            if (server.uuid in uncertain or server.task_state is not None
                    or server.vm_state not in (*states.CHANGEABLE,
                                               vm_states.RESCUED)
                    or not server.flavor.extra_specs.get('kongming:node.0')):
                continue
            with contextlib.suppress(Exception):
                self._look_after_one(context, server)

    def _look_after_one(self, context, server):
        if server.migration_context is not None:
            server = self.steps.end_move(context, server.uuid)
        mine = ownership.Ownership(server.numa_topology)
        self.steps._domains.run_on(server, mine.current)
        if server.vm_state in states.CHANGEABLE and mine.has_target:
            self.steps.drop_target(context, server)


def patches(clock):
    """What has Nova and the hook ask nobody else."""
    for module in ('write_ahead', 'claim'):
        yield mock.patch(f'nova_ext.ownership.{module}.time', clock)
    for module in ('domains', 'steps'):
        yield mock.patch(f'nova_ext.live.{module}.affinity', Affinity)
    yield mock.patch('nova.compute.utils.is_volume_backed_instance',
                     return_value=False)
    yield mock.patch('nova.compute.monitors.MonitorHandler',
                     lambda tracker: mock.Mock(monitors=[]))
    # Placement is told of nothing; the hook is asked at this point.
    yield mock.patch.object(
        resource_tracker.ResourceTracker, '_update_to_placement',
        lambda self, context, compute, startup:
        self.driver.update_provider_tree(
            mock.Mock(), compute.hypervisor_hostname))


@dataclasses.dataclass(frozen=True)
class Usage:
    """What is taken of a host.

    :ivar pinned: pCPUs
    :ivar amounts: (node, what) -> how much of memory, pages, shared vCPUs
    """

    pinned: frozenset
    amounts: dict

    def __le__(self, other):
        return self.pinned <= other.pinned and all(
            amount <= other.amounts.get(what, 0)
            for what, amount in self.amounts.items())


# The test asks for these after each step.

@functools.lru_cache(maxsize=10000)
def usage_of(numa_topology):
    """Of a host, as it is saved."""
    found = objects.NUMATopology.obj_from_db_obj(numa_topology)
    amounts = {}
    for cell in found.cells:
        amounts[cell.id, 'memory'] = cell.memory_usage
        amounts[cell.id, 'shared'] = cell.cpu_usage
        amounts[cell.id, 'pages'] = sum(
            pages.used for pages in cell.mempages)
    return Usage(frozenset().union(*(cell.pinned_cpus
                                     for cell in found.cells)),
                 {what: amount for what, amount in amounts.items() if amount})


@functools.lru_cache(maxsize=10000)
def pcpus_of(topology):
    """Of a server's topology, which nobody changes."""
    return ownership.Ownership(topology).pcpus if topology else frozenset()


@functools.lru_cache(maxsize=10000)
def _amounts_of(topology):
    found = []
    for cell in topology.cells if topology else ():
        found += [((cell.id, 'memory'), cell.memory),
                  ((cell.id, 'shared'), len(cell.cpuset)),
                  ((cell.id, 'pages'), cell.memory * 1024 // 4)]
    return found


def usage(topologies):
    """Of servers' topologies: server -> those."""
    amounts = collections.Counter()
    for mine in topologies.values():
        for topology in mine:
            for what, amount in _amounts_of(topology):
                amounts[what] += amount
    return Usage(
        frozenset().union(*(pcpus_of(topology) for mine in topologies.values()
                            for topology in mine)), +amounts)


#: What the hook raises when something is wrong, and Nova handles.
EXPECTED = exception.NovaException, LibvirtError
