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

"""The private parts of Nova that KongMing uses.

Nova documents the interfaces of filters, weighers, extra-spec validators,
notifications and the REST API.  All else of it may change with a release.
Constants (states of servers, names of exceptions, values of fields) are not
listed: where one is gone, the hook can't be imported, which
:func:`nova_ext.load.driver` survives.

The page ``doc/source/contributor/private.rst`` is made of this list.
"""

from nova_ext.private.check import Called
from nova_ext.private.check import Fields
from nova_ext.private.check import HOOK
from nova_ext.private.check import LIVE
from nova_ext.private.check import SCHEDULER
from nova_ext.private.check import Set
from nova_ext.private.check import Symbol
from nova_ext.private.check import Taken
from nova_ext.private.check import Value

_DRIVER = 'nova.virt.libvirt.driver', 'LibvirtDriver'
_POWER = 'nova.virt.libvirt.cpu.api', 'API'
_HOST = 'nova.virt.libvirt.host', 'Host'
_TRACKER = 'nova.compute.resource_tracker', 'ResourceTracker'
_HARDWARE = 'nova.virt.hardware', ''
_INSTANCES = 'nova.objects.instance', 'InstanceList'
_ACTION_EVENT = 'nova.objects.instance_action', 'InstanceActionEvent'

#: Methods of Nova's driver that ours stand before: the parameters that ours
#: name, and dots where they pass on whatever follows.
_OVERRIDDEN = {
    'suspend': 'context instance',
    'resume': 'context instance ...',
    'unrescue': 'context instance',
    'live_migration': 'context instance ...',
    'check_can_live_migrate_destination': 'context instance ...',
    'init_host': 'host',
    'cleanup_host': 'host',
    'emit_event': 'event',
    'get_info': 'instance use_cache',
    'get_instance_diagnostics': 'instance',
    'reboot': 'context instance network_info reboot_type ...',
    'power_on': 'context instance ...',
    'rescue': 'context instance ...',
    'destroy': 'context instance ...',
    'migrate_disk_and_power_off': 'context instance ...',
    'spawn': 'context instance image_meta injected_files admin_password '
             'allocations ...',
    'finish_migration':
        'context migration instance disk_info network_info image_meta '
        'resize_instance allocations ...',
    'finish_revert_migration': 'context instance ...',
    'pre_live_migration': 'context instance ...',
    'post_live_migration_at_destination': 'context instance ...',
    'post_claim_migrate_data': 'context instance migrate_data claim',
    'get_available_resource': 'nodename',
    'update_provider_tree': 'provider_tree nodename allocations',
}


def _overridden(parameters):
    names = parameters.split()
    return Taken(tuple(name for name in names if name != '...'),
                 '...' in names)


SYMBOLS = (
    Symbol(*_DRIVER, '__init__', Taken(('virtapi', 'read_only')), HOOK,
           'The hook adds its parts to the driver.',
           'nova-compute could not make its driver.'),
    Symbol(*_DRIVER, '_get_guest_numa_config',
           Taken(('instance_numa_topology', 'flavor', 'image_meta')), HOOK,
           'The template decides where threads and memory of a domain go '
           'before Nova writes its XML.',
           'Servers would start where Nova chose, or not at all.'),
    Symbol('nova.virt.libvirt.driver', '', 'GuestNumaConfig',
           Fields(('cpuset', 'cputune', 'numaconfig', 'numatune')), HOOK,
           'What _get_guest_numa_config returns is read and changed.',
           'Servers with a template could not start.'),
    Symbol('nova.virt.libvirt.config', '',
           'LibvirtConfigGuestCPUTuneVCPUSched', Called(0), HOOK,
           'Real-time priorities of vCPUs are written into the XML.',
           'Servers whose template has priorities could not start.'),
    Symbol(*_DRIVER, '_init_host_topology', Taken(()), HOOK,
           'At its end all dedicated pCPUs are online, and the CPUs of the '
           'kernel are compared with those of libvirtd.',
           'A stale picture of libvirtd would not be noticed.'),
    Symbol(*_DRIVER, '_get_host_numa_topology', Called(0), HOOK,
           'The layout of the host, for the fit and for threads.',
           'Servers with a template could not start.'),
    Symbol(*_DRIVER, '_get_vcpu_available', Called(0), HOOK,
           'The pCPUs over which a server without NUMA cells floats.',
           'A server with a template and without NUMA cells could not start '
           'where never_pcpus is set.'),
    Symbol(*_DRIVER, '_host', Set(), HOOK,
           'libvirt is reached by the connection of Nova.',
           'Servers with a template could neither start nor change.'),
    Symbol(*_DRIVER, 'cpu_api', Set(), HOOK,
           'The power of pCPUs is managed by our own object in its place.',
           'pCPUs under running threads could be taken offline.'),
    *(Symbol(*_DRIVER, name, _overridden(parameters), HOOK,
             'A server with a template is looked at before or after it, see '
             ':doc:`starts`.' if name not in (
                 'init_host', 'cleanup_host', 'emit_event',
                 'get_available_resource', 'update_provider_tree',
                 'get_info', 'get_instance_diagnostics')
             else 'The hook begins, ends, reports or looks again with it.',
             'Nova would call it by other arguments than the hook takes.')
      for name, parameters in _OVERRIDDEN.items()),
    Symbol(*_POWER, 'power_up', Taken(('cpus',)), HOOK,
           'Counts what was powered up, so that it is not powered down '
           'meanwhile.',
           'A pCPU could lose power under a thread that has just come.'),
    Symbol(*_POWER, '_power_down', Taken(('cpus',)), HOOK,
           'Powers down what nobody owns any more.',
           'pCPUs would keep their power, or lose it too early.'),
    Symbol(*_POWER, 'power_down_for_instance', Taken(('instance',)), HOOK,
           'pCPUs that a borrower still uses keep their power.',
           'A pCPU could lose power under a borrower.'),
    Symbol(*_POWER, 'power_down_all_dedicated_cpus', Taken(()), HOOK,
           'pCPUs of running servers keep their power when nova-compute '
           'starts.',
           'Threads of running servers would be freed onto all pCPUs.'),
    Symbol('nova.compute.manager', 'ComputeVirtAPI', '_compute', Set(), HOOK,
           'The way from the driver to the resource tracker.',
           'No claim could be changed.'),
    Symbol('nova.compute.manager', 'ComputeManager', 'rt', Set(), HOOK,
           'The resource tracker of nova-compute.',
           'No claim could be changed.'),
    Symbol('nova.compute.resource_tracker', '', 'COMPUTE_RESOURCE_SEMAPHORE',
           Value('compute_resources'), HOOK,
           'The lock under which Nova claims; ownership changes under it.',
           'Two servers could be given one pCPU at the same time.'),
    Symbol('nova.utils', '', 'synchronized', Called(1, ('fair',)), HOOK,
           'Takes that lock.',
           'Two servers could be given one pCPU at the same time.'),
    Symbol(*_TRACKER, 'host', Set(), HOOK, 'The name of this host.',
           'Servers of this host would be taken for those of another one.'),
    Symbol(*_TRACKER, 'compute_nodes', Set(), HOOK,
           'What is taken of the host, as the scheduler reads it.',
           'No claim could be changed.'),
    Symbol(*_TRACKER, 'tracked_instances', Set(), HOOK,
           'Which servers the tracker counts.',
           'pCPUs of another server could be given back.'),
    Symbol(*_TRACKER, 'tracked_migrations', Set(), HOOK,
           'Which moves the tracker counts.',
           'pCPUs of a server that comes could be given away.'),
    Symbol(*_TRACKER, 'old_resources', Set(), HOOK,
           'What Nova has saved last, so that it saves a lost answer again.',
           'After a lost answer the scheduler would read an old usage.'),
    Symbol(*_TRACKER, 'stats', Set(), LIVE,
           'What the host reports is saved at once.',
           'The scheduler would read old reports until the next audit.'),
    Symbol('nova.compute.stats', 'Stats', 'states', Set(), LIVE,
           'Which servers are booting.',
           'Placement would reserve what a booting server is to leave.'),
    Symbol('nova.compute.stats', 'Stats', 'digest_stats', Called(1), LIVE,
           'What the host reports is saved at once.',
           'The scheduler would read old reports until the next audit.'),
    Symbol(*_TRACKER, 'provider_tree', Set(), LIVE,
           'Allocation ratios as Placement has them.',
           'Nodes would be published by other ratios than the host.'),
    Symbol(*_TRACKER, 'update_available_resource', Called(2), HOOK,
           "Nova's audit, after a lost answer.",
           'What an uncertain server owns would stay taken.'),
    Symbol('nova.compute.claims', 'MoveClaim', 'claimed_numa_topology',
           Set(), HOOK,
           'What a live migration has claimed on its destination.',
           'A server would arrive on the pCPUs that Nova chose.'),
    Symbol('nova.compute.claims', 'MoveClaim', 'image_meta', Set(), HOOK,
           'The image of a server that comes by live migration.',
           'A live migration of a server with a template would be refused.'),
    Symbol('nova.compute.claims', 'MoveClaim', 'abort', Called(0), HOOK,
           'Gives back the claim of a live migration that is refused.',
           'The claim would stay until the next audit.'),
    Symbol(*_HARDWARE, 'numa_usage_from_instance_numa',
           Called(2, ('free',)), HOOK,
           'Counts what a server owns, or no longer owns, of the host.',
           "The tracker would count otherwise than Nova's own claims."),
    Symbol(*_HARDWARE, 'numa_get_constraints', Called(2), HOOK,
           'What a flavor and an image ask for.',
           'A page size that was asked for would not be known.'),
    Symbol(*_HARDWARE, 'get_cpu_dedicated_set', Called(0), HOOK,
           'The pCPUs that servers can own.',
           'Interrupts and power of the wrong pCPUs would be managed.'),
    Symbol(*_HARDWARE, 'get_cpu_dedicated_set_nozero', Called(0), HOOK,
           'The same for the management of power.',
           'Power of the wrong pCPUs would be managed.'),
    Symbol(*_HARDWARE, 'get_cpu_shared_set', Called(0), HOOK,
           'The pCPUs over which servers float.',
           'A stale picture of libvirtd would not be noticed.'),
    Symbol('nova.objects.numa', 'NUMATopology', '_to_json', Called(0), HOOK,
           'Writes what is taken of the host into its compute node.',
           'No claim could be changed.'),
    Symbol('nova.objects.numa', 'NUMATopology', 'obj_from_db_obj', Called(1),
           HOOK, 'Reads what is taken of the host from its compute node.',
           'No claim could be changed.'),
    Symbol('nova.objects.numa', '', 'NUMACell',
           Fields(('id', 'cpuset', 'pcpuset', 'pinned_cpus', 'cpu_usage',
                   'memory', 'memory_usage', 'mempages', 'siblings')), HOOK,
           'What is taken of each node.', 'No claim could be changed.'),
    Symbol('nova.objects.instance_numa', '', 'InstanceNUMACell',
           Fields(('id', 'cpuset', 'pcpuset', 'cpu_pinning_raw',
                   'cpuset_reserved', 'memory', 'pagesize', 'cpu_policy',
                   'cpu_thread_policy')), HOOK,
           'What a server owns; a change is written ahead into it.',
           'What a server owns would be read wrongly.'),
    Symbol('nova.objects.instance_numa', 'InstanceNUMATopology',
           'get_by_instance_uuid', Called(2), HOOK,
           'What a server owns, as the database has it now.',
           'A server could start on what it owned before a live change.'),
    Symbol('nova.objects.instance', 'Instance', 'mutated_migration_context',
           Called(0, ('revert',)), HOOK,
           'An evacuated server is saved while Nova shows its claim here.',
           'The evacuation of a server with a template would fail.'),
    Symbol('nova.objects.migration_context', '', 'MigrationContext',
           Fields(('old_numa_topology', 'new_numa_topology')), HOOK,
           'What a server owns on both sides of a move.',
           'A revert could give back what the server no longer owns.'),
    Symbol(*_HOST, 'get_guest', Called(1), LIVE,
           'The domain of a server.', 'No domain would be found.'),
    Symbol(*_HOST, 'list_guests', Called(0, ('only_running',)), LIVE,
           'All domains, for the power of pCPUs when nova-compute starts.',
           'pCPUs under running threads could be taken offline.'),
    Symbol(*_HOST, 'get_available_cpus', Called(0), LIVE,
           'How many CPUs a mask of libvirt has.',
           'Threads could not be pinned.'),
    Symbol(*_HOST, 'get_connection', Called(0), LIVE,
           'The name of the host in reports on interrupts.',
           'Interrupts would not be reported.'),
    Symbol(*_HOST, 'get_hostname', Called(0), HOOK,
           "The name of this host's compute node.",
           'No claim could be changed.'),
    Symbol('nova.virt.libvirt.guest', 'Guest', '_domain', Set(), LIVE,
           'The virDomain of libvirt.', 'Threads could not be pinned.'),
    Symbol(*_DRIVER, '_get_allocation_ratios', Called(1), LIVE,
           'Allocation ratios of the host, for its nodes.',
           'The nodes of the host would not be published.'),
    Symbol('nova.scheduler.client.report', '', 'SchedulerReportClient',
           Called(0), LIVE, 'Placement, with the options of nova-compute.',
           'The nodes of the host would not be published.'),
    *(Symbol('nova.scheduler.client.report', 'SchedulerReportClient', name,
             Called(positional, ('version',)), LIVE,
             'A request to Placement.',
             'The nodes of the host would not be published.')
      for name, positional in (('get', 1), ('put', 2), ('post', 2),
                               ('delete', 1))),
    Symbol(*_INSTANCES, 'get_by_host_and_node',
           Called(3, ('expected_attrs',)), LIVE,
           'The servers of the host, for each pass.',
           'No pass could be made.'),
    Symbol(*_INSTANCES, 'get_by_filters', Called(2, ('expected_attrs',)),
           LIVE, 'Those of them that have changed.',
           'No pass could be made.'),
    Symbol(*_INSTANCES, 'get_by_host', Called(2, ('expected_attrs',)), LIVE,
           'The servers of the host when nova-compute starts.',
           'No server would be looked after.'),
    Symbol('nova.objects.instance_action', 'InstanceAction', 'action_start',
           Called(3, ('want_result',)), LIVE,
           'A live change is an instance action.',
           'Live changes would not be recorded.'),
    Symbol(*_ACTION_EVENT, 'event_start',
           Called(3, ('want_result', 'host')), LIVE,
           'Its steps are events.', 'Live changes would not be recorded.'),
    Symbol(*_ACTION_EVENT, 'event_finish', Called(3, ('want_result',)), LIVE,
           'Its steps are events.', 'Live changes would not be recorded.'),
    Symbol(*_ACTION_EVENT, 'event_finish_with_failure',
           Called(3, ('exc_val', 'exc_tb', 'want_result')), LIVE,
           'Its result is that of its last event.',
           'Live changes would not be recorded.'),
    Symbol('nova.objects.instance_action', 'InstanceActionList',
           'get_by_instance_uuid', Called(2, ('filters',)), LIVE,
           'What was changed before nova-compute started.',
           'Rates and back-off would begin anew with each start.'),
    Symbol('nova.objects.instance_action', 'InstanceActionEventList',
           'get_by_action', Called(2), LIVE, 'The same.',
           'Rates and back-off would begin anew with each start.'),
    Symbol('nova.rpc', '', 'get_versioned_notifier', Called(1), LIVE,
           'Notifications of live changes.', 'None would be sent.'),
    Symbol('nova.scheduler.host_manager', 'HostState',
           'allocation_candidates', Set(), SCHEDULER,
           'The claim of a template rides on the candidate that the filter '
           'lets pass.',
           'Placement would not count what a template names.'),
    Symbol('nova.scheduler.utils', '', 'request_is_rebuild', Called(1),
           SCHEDULER, 'A rebuild stays where it is.',
           'Rebuilds of servers with a template would fail.'),
    Symbol('nova.scheduler.utils', '', 'get_weight_multiplier', Called(3),
           SCHEDULER, 'The multiplier of an aggregate.',
           'Hosts would be weighed without it, or not at all.'),
    Symbol(*_HARDWARE, 'numa_fit_instance_to_host',
           Called(2, ('limits', 'pci_requests', 'pci_stats',
                      'provider_mapping')), SCHEDULER,
           "Whether Nova's own fitter boots cells that differ.",
           'Such servers could be sent to hosts that refuse them.'),
)
