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

"""Nova's services and Placement in one process, with KongMing in them.

Made of the fixtures that Nova ships in its wheel for its own functional
tests: a real nova-api, scheduler, conductor and compute manager, a real
Placement, SQLite, in-memory messaging.  Keystone, Glance and Neutron are
stand-ins.

Two hypervisors: ``simulated`` is Nova's simulated libvirt, in any NUMA shape;
``libvirt`` is the libvirtd of this machine with its real QEMU domains.
"""

import builtins
import glob
import os
import os.path
import sys
import threading
import time
from xml.etree import ElementTree

import fixtures
import nova.conf
from nova import context as nova_context
from nova import objects
from nova.tests import fixtures as nova_fixtures
from nova.tests.fixtures import libvirt as fakelibvirt
from nova.tests.functional.api import client
from nova.tests.functional import integrated_helpers
from nova.tests.functional.libvirt import base
from placement import deploy
import psutil

from kongming import conf as km_conf
from kongming.host import topology
from kongming.placement import naming
from nova_ext import privileged
from tests.embedded import bus
from tests.embedded import databases
from tests.embedded import guests
from tests.embedded import hypervisor
from tests.embedded import sdk
from tests.embedded import threads
from tests.embedded import witness

CONF = nova.conf.CONF
#: How long to wait until something is looked at again, in seconds.
_POLL = 0.1

#: Nova's tests look for api-paste.ini beside nova/, where it is in a source
#: tree; the wheel puts it under the environment's prefix.
_API_PASTE = os.path.join(sys.prefix, 'etc', 'nova', 'api-paste.ini')

#: What Nova's base test case poisons, and a real hypervisor needs.
_REAL = [(os, 'uname', os.uname), (os, 'listdir', os.listdir),
         (os.path, 'isdir', os.path.isdir), (builtins, 'open', open),
         (glob, 'glob', glob.glob), (glob, 'iglob', glob.iglob),
         (psutil, 'net_if_addrs', psutil.net_if_addrs)]


class KongmingMixin:
    """Nova set up as the installation guide says; checks for tests."""

    api_major_version = 'v2.1'
    microversion = 'latest'
    ADMIN_API = True
    #: False: the native driver and filters, to compare with.
    HOOKED = True
    RECONCILE_INTERVAL = 0
    #: Whether nova-compute publishes by itself, and then at once.
    PUBLISHES = False
    #: How often a server is looked at, twice a second, until it is there.
    RETRIES = 60
    #: Of a Placement in a process of its own; '' for one in this.
    PLACEMENT_URL = ''
    #: Further filters of Nova's.
    FILTERS: tuple[str, ...] = ()

    #: What the hypervisor is, in words.
    HYPERVISOR = ''

    def setUp(self):
        # nova-api compiles its thousand routes for each test, and Python
        # keeps 512 patterns.
        self.useFixture(fixtures.MonkeyPatch('re._MAXCACHE', 20000))
        self.useFixture(databases.Databases())
        self.service_threads = self.useFixture(threads.Threads())
        self.useFixture(fixtures.MonkeyPatch(
            'nova.tests.fixtures.OpenStackSDKFixture', sdk.Sdk))
        super().setUp()
        self.useFixture(bus.Bus())
        # A busy machine is slow; that says nothing of libvirt.
        self.useFixture(fixtures.MonkeyPatch('nova_ext.live.jobs.PATIENCE',
                                             30.0))
        # No daemon with more rights: the tests run as they are.
        privileged.context.set_client_mode(False)
        privileged.resctrl_context.set_client_mode(False)
        self.placement_app = deploy.loadapp(
            self.placement_fixture.conf_fixture.conf)
        for image in guests.IMAGES:
            self.glance.create(None, dict(image), open(
                guests.write(self.useFixture(fixtures.TempDir()).path,
                             image['name']), 'rb'))

    def _until(self, look, seconds, idle=1.0):
        """Look again and again until it is so and services are idle.

        A server is ACTIVE, or in ERROR, before nova-compute has done all that
        belongs to it: it tells Placement, and why, later.

        :param look: returns what is true if it is so
        :param seconds: to look for it
        :param idle: how long to wait for work of services each time; a
                        test may hold one up
        :returns: what was found last
        """
        end = time.monotonic() + seconds
        while True:
            self.service_threads.wait(idle)
            found = look()
            if found or time.monotonic() > end:
                return found
            time.sleep(_POLL)

    def _wait_for_server_parameter(self, server, expected_params,
                                   max_retries=10, api=None,
                                   wait_for_fault_key=True):
        api = api or self.admin_api
        # It says ERROR before it says why.
        with_fault = (wait_for_fault_key
                      and expected_params.get('status') == 'ERROR')
        found = {}

        def look():
            found.clear()
            found.update(api.get_server(server['id']))
            return (all(found[key] == value
                        for key, value in expected_params.items())
                    and ('fault' in found or not with_fault))

        # Nova's five seconds are short for two busy cores.
        if not self._until(look, max(max_retries, self.RETRIES) / 2):
            self.fail(f'{expected_params} expected, {found} found')
        return found

    def _wait_for_migration_status(self, server, expected_statuses):
        found = []

        def look():
            found[:] = [
                migration for migration in
                self.admin_api.api_get('/os-migrations').body['migrations']
                if migration['instance_uuid'] == server['id']]
            return [migration for migration in found
                    if migration['status'].lower() in expected_statuses]

        wanted = self._until(look, self.RETRIES / 2)
        if not wanted:
            self.fail(f'{expected_statuses} expected, {found} found')
        return wanted[0]

    def _wait_until_deleted(self, server):
        was_in_error = server.get('status') == 'ERROR'

        def look():
            try:
                found = self.api.get_server(server['id'])
            except client.OpenStackApiNotFoundException:
                return True
            if found['status'] == 'ERROR' and not was_in_error:
                self.fail('It is in ERROR instead of deleted')
            return False

        if not self._until(look, self.RETRIES / 2):
            self.fail('It is not deleted')

    def _wait_for_assert(self, assert_func, max_retries=10, sleep=0.5):
        end = time.monotonic() + max(max_retries, self.RETRIES) / 2
        while True:
            try:
                return assert_func()
            except AssertionError:
                if time.monotonic() > end:
                    raise
            time.sleep(_POLL)

    def _setup_services(self):
        # Nova's fixture that guards which cell is meant by a context can
        # deadlock with heartbeats when much is going on; nobody misses them.
        self.flags(report_interval=0, service_down_time=7 * 24 * 3600)
        if self.PLACEMENT_URL:
            self.placement_fixture.endpoint = self.PLACEMENT_URL
        super()._setup_services()

    def _stop_computes(self):
        super()._stop_computes()
        # A pass that has begun goes on; it must not meet the next test.
        for thread in threading.enumerate():
            if thread.name.startswith('kongming'):
                thread.join(60)

    def _setup_compute_service(self):
        self.flags(api_paste_config=_API_PASTE, group='wsgi')
        # Tests trigger reconciler and publisher themselves.
        if not self.PUBLISHES:
            self.useFixture(fixtures.MonkeyPatch(
                'nova_ext.placement.publisher.Publisher.start',
                lambda this: None))
        km_conf.register_opts(CONF)
        self.flags(reconcile_interval=self.RECONCILE_INTERVAL,
                   publish_interval=0, group='kongming')
        self.flags(compute_driver=(
            'kongming.LibvirtDriver' if self.HOOKED
            else 'libvirt.LibvirtDriver'))

    def _setup_scheduler_service(self):
        if self.HOOKED:
            self.flags(available_filters=[
                'nova.scheduler.filters.all_filters',
                'nova_ext.filters.KongmingFilter'], group='filter_scheduler')
            self.flags(weight_classes=[
                'nova.scheduler.weights.all_weighers',
                'nova_ext.weights.KongmingWeigher'],
                group='filter_scheduler')
        self.flags(enabled_filters=[
            'ComputeFilter', 'ComputeCapabilitiesFilter',
            'ImagePropertiesFilter',
            *self.FILTERS, *(['KongmingFilter'] if self.HOOKED else []),
            'NUMATopologyFilter'], group='filter_scheduler')
        return self.start_service('scheduler')

    # What is where: helpers that ask the parts, each by its own way.

    def domain_xml(self, server_id):
        """The domain as the hypervisor tells it."""
        connection = self.connection_of(server_id)
        return connection.lookupByUUIDString(server_id).XMLDesc(0)

    def capabilities(self, host='compute1'):
        """What libvirt says of a host."""
        driver = self.computes[host].driver
        return driver._host.get_connection().getCapabilities()

    def instance(self, server_id):
        with self.in_cell() as context:
            return objects.Instance.get_by_uuid(
                context, server_id,
                expected_attrs=['numa_topology', 'flavor'])

    def compute_node(self, host='compute1'):
        with self.in_cell() as context:
            return objects.ComputeNode.get_first_node_by_host_for_old_compat(
                context, host)

    def in_cell(self):
        """A context for the database of the hosts.

        Without a cell, Nova's fixture takes that which any thread has asked
        last (nova/tests/fixtures/nova.py, CellDatabases).
        """
        return nova_context.target_cell(
            nova_context.get_admin_context(), self.cell_mappings['cell1'])

    def usage(self, host='compute1'):
        """node -> (owned pCPUs, memory in use), as the tracker has saved."""
        topology = objects.NUMATopology.obj_from_db_obj(
            self.compute_node(host).numa_topology)
        return {cell.id: (set(cell.pinned_cpus), cell.memory_usage)
                for cell in topology.cells}

    def publish(self, anew=False):
        """Have Placement told now by every compute that has the hook."""
        for compute in list(self.computes.values()):
            publisher = getattr(compute.driver, 'publisher', None)
            if publisher:
                publisher.run(look=True, anew=anew)

    def reconcile(self, host='compute1'):
        """A pass over a host, and the end of all that it has started."""
        driver = self.computes[host].driver
        busy = driver.passes.run()
        driver._reconciler.jobs.wait()
        return busy

    def settle(self):
        """Wait for passes that were asked for, and for what they started."""
        for compute in list(self.computes.values()):
            reconciler = compute.driver._reconciler
            asked = reconciler._trigger._next
            if asked is not None:
                asked.wait()
            with reconciler._trigger._one_thread:
                pass
            reconciler.jobs.wait()

    def restart_compute_service(self, *args, **kwargs):
        restarted = super().restart_compute_service(*args, **kwargs)
        self.publish_and_audit()
        return restarted

    def publish_and_audit(self):
        """Have hosts publish, and their stats say so."""
        self.publish()
        self.audit()

    def audit(self):
        """Run Nova's periodic audit on every compute now."""
        for compute in self.computes.values():
            compute.manager.update_available_resource(
                nova_context.get_admin_context())

    def children(self, host='compute1', publish=True):
        """node -> (inventories, usages, traits) of our providers."""
        if publish:
            self.publish()
        found = {}
        for provider in self.placement.get(
                '/resource_providers?member_of=' + naming.aggregate_uuid(
                    self.compute_rp_uuids[host]),
                version='1.14').body['resource_providers']:
            name, sep, node = provider['name'].partition('_KONGMING_NODE')
            if sep:
                at = f"/resource_providers/{provider['uuid']}"
                found[int(node)] = (
                    self.placement.get(f'{at}/inventories').body[
                        'inventories'],
                    self.placement.get(f'{at}/usages').body['usages'],
                    set(self.placement.get(
                        f'{at}/traits', version='1.6').body['traits']))
        return found

    def allocations_of(self, server_id):
        """provider uuid -> resources."""
        self.publish()
        return {uuid: found['resources'] for uuid, found in
                self.placement.get(f'/allocations/{server_id}').body[
                    'allocations'].items()}


class SimulatedCloud(KongmingMixin, base.ServersTestBase):
    """A cloud on Nova's simulated libvirt."""

    HYPERVISOR = "simulated (Nova's simulated libvirt)"
    CAST_AS_CALL = False
    #: 2 nodes x 4 cores x 2 threads.
    SHAPE = {'cpu_nodes': 2, 'cpu_sockets': 1, 'cpu_cores': 4,
             'cpu_threads': 2, 'kB_mem': 16 * 1024 ** 2}
    DEDICATED = '2-7,10-15'
    SHARED = '0-1,8-9'

    def setUp(self):
        super().setUp()
        self.useFixture(hypervisor.LiveTuning())
        self.kernel_of_host = self.useFixture(hypervisor.Witness())
        # The base class has sixteen online.
        self.useFixture(fixtures.MonkeyPatch(
            'nova.virt.libvirt.host.Host.get_online_cpus',
            lambda host: set(range(max(16, self.host_info().cpus)))))
        self.flags(cpu_dedicated_set=self.DEDICATED,
                   cpu_shared_set=self.SHARED, group='compute')

    def host_info(self):
        return fakelibvirt.HostInfo(**self.SHAPE)

    def start_host(self, name='compute1'):
        started = self.start_compute(hostname=name,
                                     host_info=self.host_info())
        self.publish_and_audit()
        return started

    def connection_of(self, server_id):
        host = self.instance(server_id).host
        return self.computes[host].driver._host.get_connection()

    def _get_connection(self, host_info=None, *args, **kwargs):
        # The base class allows for 15 pCPUs.
        if host_info and host_info.cpus > 15:
            return fakelibvirt.Connection(
                'qemu:///system', version=fakelibvirt.FAKE_LIBVIRT_VERSION,
                hv_version=fakelibvirt.FAKE_QEMU_VERSION,
                host_info=host_info, pci_info=args[0] if args else None,
                hostname=kwargs.get('hostname')
                or (args[5] if len(args) > 5 else None))
        return super()._get_connection(host_info, *args, **kwargs)


class LibvirtCloud(KongmingMixin, integrated_helpers._IntegratedTestBase):
    """A cloud on this machine's libvirtd and its real domains."""

    CAST_AS_CALL = False
    URI = 'qemu:///system'
    #: A folder that Nova and QEMU see under the same path.
    DISKS = '/var/tmp'
    VIRT_TYPE = 'kvm' if os.access('/dev/kvm', os.R_OK | os.W_OK) else 'qemu'
    HYPERVISOR = f'libvirt ({URI}, real {VIRT_TYPE} domains)'
    #: How many pCPUs are shared; the others are dedicated.
    SHARED_PCPUS = 1

    def setUp(self):
        self.compute_rp_uuids = {}
        super().setUp()
        # Real files, a real host: take Nova's poison out again.
        for place, name, real in _REAL:
            self.useFixture(fixtures.MockPatchObject(place, name, real))
        self.useFixture(nova_fixtures.PrivsepFixture())
        # Nova never ends the threads that take libvirt's events, so that no
        # test would end; nothing here waits for an event.
        fakelibvirt.disable_event_thread(self)
        self.useFixture(fixtures.MockPatch(
            'nova.virt.libvirt.host.Host._connection_closed'))
        # A page of XML in every failed test's log.
        self.useFixture(fixtures.MockPatch(
            'nova.virt.libvirt.host.Host._log_host_capabilities'))
        # QEMU runs as another user and has to reach its disks.
        instances = self.useFixture(fixtures.TempDir(rootdir=self.DISKS)).path
        os.chmod(instances, 0o755)
        shared, dedicated = self.cpu_sets()
        self.flags(instances_path=instances, force_config_drive=False,
                   vif_plugging_is_fatal=False, vif_plugging_timeout=0)
        self.flags(cpu_shared_set=topology.format_cpu_list(shared) or None,
                   cpu_dedicated_set=topology.format_cpu_list(
                       dedicated) or None,
                   group='compute')
        self.flags(virt_type=self.VIRT_TYPE, connection_uri=self.URI,
                   cpu_mode='none', inject_partition=-2, images_type='raw',
                   group='libvirt')
        self.flags(enabled=False, group='vnc')
        self.flags(enabled=False, group='spice')

    def cpu_sets(self):
        """The host's pCPUs: shared ones, dedicated ones."""
        pcpus = sorted(os.sched_getaffinity(0))
        return pcpus[:self.SHARED_PCPUS], pcpus[self.SHARED_PCPUS:]

    def shell(self, script):
        """Run a shell script where the domains run; what it writes."""
        return witness.local(script)

    def threads(self, server):
        """vCPU -> pCPUs that its thread may run on."""
        root = ElementTree.fromstring(self.domain_xml(server['id']))
        return witness.threads(root.findtext('name'), self.shell)

    def _delete_servers(self):
        for server in self.api.get_servers(detail=False):
            self._delete_server(server)

    def start_host(self, name='compute1'):
        self.computes[name] = self.start_service('compute', host=name)
        self.addCleanup(self._delete_servers)
        self.compute_rp_uuids[name] = self.compute_node(name).uuid
        self.publish_and_audit()
        return name

    def connection_of(self, server_id):
        host = self.instance(server_id).host
        return self.computes[host].driver._host.get_connection()


CLOUDS = {'simulated': SimulatedCloud, 'libvirt': LibvirtCloud}
