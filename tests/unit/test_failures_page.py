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

"""Which test makes each failure of admin/failures, and looks at what is seen.

A row of the page is named by the words of its first cell.
"""

import ast
import re

from tests import base
from tests import documents

MADE = {
    "``Host '...' is not published``":
        'unit.test_cloud:HostsTest.test_not_published',
    '``Placement is not told of the NUMA nodes of ... now``':
        'functional.test_fault:TemplateTest.test_placement_is_updated_later',
    "``node provider(s) in Placement are no host's``":
        'functional.test_cli_publish:WithoutTheHookTest.test_clean',
    '``A pass over the servers with a template failed``':
        'functional.test_live:IntervalTest.test_a_fault_does_not_end_it',
    '``Servers with a template may be refused or misplaced: the installed '
    'Nova``': 'unit.nova_ext.test_filters:FilterTest.'
        'test_nova_looks_different',
    '``The file of [kongming] metrics_file is not written``':
        'unit.nova_ext.test_figures:WriterTest.test_what_can_not_be_written',
    '``It does not start on pCPU ... that it owns``':
        'functional.test_starts:RefusingTest.test_a_new_owner_finds_no_host',
    '``libvirt could not move the server that has borrowed it and its owner '
    'starts``':
        'functional.test_starts:RefusingTest.test_a_native_owner_starts',
    '``Running servers are not looked after``':
        'functional.test_fault:EdgesTest.test_init_host',
    '``400 ... kongming:pin.0 = ...``':
        'functional.test_cli:BadInputTest.test_malformed_map',
    '``is given to cell ... already``':
        'unit.template.test_template:BadTest.test_pcpu_in_two_cells',
    '``it fits only where no nova-compute obeys templates``':
        'functional.test_cli_publish:WithoutTheHookTest.'
        'test_template_servers_do_not_go_there',
    '``is owned by ...``': 'functional.test_boot:BootTest.'
        'test_filter_says_why',
    '``dedicated pCPU(s) asked for, ... free``, ``MiB asked for, ... MiB '
    'free``': 'unit.live.test_rearrange:PlanTest.test_other_node_is_full',
    '``nova-compute runs without KongMing``, ``No running server of this '
    'host is changed: the installed Nova``; ``live`` is ``off``':
        'functional.test_private:LiveTest.test_boots_and_stays',
    '``its nova-compute obeys no templates``':
        'unit.nova_ext.test_filters:FilterTest.test_a_host_without_the_hook',
    '``is never given to a template on this host``':
        'functional.test_limits:NeverTest.test_a_forced_host_refuses',
    '``PCI devices that have to be near were claimed for node``':
        'functional.test_kinds:DeviceTest.'
        'test_far_from_it_where_that_is_refused',
    '``Running with the pins that Nova chose``':
        'functional.test_life:ResizeTest.test_refused_but_to_be_ignored',
    '``... has no ... any more, but ... has it allocated``':
        'functional.test_placement:FollowTest.'
        'test_what_is_in_the_way_is_said_by_name',
    "``Server '...' stays as it is``":
        'functional.test_cli_server:ServerTest.test_refused_by_the_host',
    '``was not changed within ... s``':
        'unit.osc_plugin.test_running:WaitTest.test_time_is_up',
    '``not done after ... s; it goes on``':
        'unit.nova_ext.test_jobs:EachTest.test_a_slow_one_goes_on_as_a_job',
    '``as many jobs run as may``':
        'unit.nova_ext.test_jobs:EachTest.test_all_hang',
    '``it waits its turn: this host changes ... servers a minute``':
        'functional.test_cases_time:BudgetTest.test_the_others_wait',
    '``... (... times)``': 'functional.test_live:FaultTest.'
        'test_what_fails_is_not_tried_at_every_pass',
    '``live changes are recorded later``':
        'unit.nova_ext.test_record:RecordsTest.'
        'test_in_order_when_it_can_be_done',
    '``A live change waits until it can be recorded``':
        'unit.nova_ext.test_changes:RecordTest.test_nothing_is_begun',
    '``pCPUs are to change hands in a ring, and there is no free one to '
    'start with``': 'functional.test_live:ChangeTest.'
        'test_ring_without_a_free_pcpu',
    '``the kernel keeps the order of the cells of a running guest``':
        'functional.test_live:CellsTest.test_order_is_refused',
    '``the kernel moves no memory that is pinned for ...``, ``open, for '
    'which its memory is pinned``, ``are pinned (VmPin ...)``':
        'functional.test_live:MemoryTest.'
        'test_what_the_kernel_knows_is_refused_up_front',
    '``its pages have ... KiB, and pages of at most ... KiB are moved``':
        'unit.memory.test_refusal:RefusalTest.test_xml',
    '``real-time threads of this host never sleep``':
        'nested.test_memory:RefusalTest.test_threads_that_never_sleep',
    '``cpuset.mems of its thread group ...``':
        'nested.test_memory:RefusalTest.test_thread_groups_that_differ',
    '``whoever moves its pages may use node ... only``':
        'unit.memory.test_refusal:RefusalTest.test_nodes_of_the_mover',
    '``memfd memory stays bound to the node of its start``':
        'functional.test_live:MemoryTest.'
        'test_memfd_is_looked_at_in_each_pass',
    '``Its memory is moved back``':
        'functional.test_live:MemoryTest.test_somebody_moved_it_by_hand',
    '``after ... s ... pages of ... KiB of cell ... are on node ...``':
        'functional.test_live:MemoryTest.test_pages_that_stay',
    '``node ... has ... free pages of ... KiB``':
        'functional.test_live:MemoryTest.'
        'test_insufficient_memory_is_refused_up_front',
    '``its metadata ask for other things too often``':
        'functional.test_hostile:FlappingTest.test_granted',
    '``not_obeyed`` in ``server show``':
        'functional.test_limits:MetadataTest.'
        'test_is_not_obeyed_and_reported_once',
    '``pCPU ... is on node ... and on node ..., so no template is obeyed '
    'there``': 'functional.test_cases_ownership:FakeNodesTest.'
        'test_it_is_not_published',
    '``The host observes by itself``':
        'functional.test_observe:ObserveTest.test_by_itself',
    '``Observed, not changed``':
        'functional.test_observe:ObserveTest.test_by_configuration',
    "``Nova's own fitter finds no place for it``, ``Nova's own fitter gives "
    'cell``': 'unit.fit.test_nova_fitter:NovaFitterTest.'
        'test_cells_that_differ',
    '``No host could ever take this``':
        'unit.osc_plugin.test_template_set:HostsTest.test_too_large_for_any',
    '``No host boots this, neither as it is now nor empty``':
        'unit.osc_plugin.test_template_set:HostsTest.'
        'test_nova_boots_it_nowhere',
    '``Threads are freer than they may be and are put back``':
        'functional.test_power:WitnessTest.test_freed_by_hand',
    '``A pin that libvirt refused has freed threads``, ``The kernel keeps '
    'its threads on pCPU``':
        'functional.test_power:WitnessTest.test_refused_pin',
    '``The kernel can not be asked where servers really run``; ``live`` is '
    '``unseen``':
        'functional.test_power:BlindTest.test_a_namespace_of_its_own',
    '``The host is taken for what it was``':
        'functional.test_power:WitnessTest.test_pcpu_goes_offline',
    '``pCPU ... is offline; writing 1 to``':
        'functional.test_power:LiveTest.test_cannot_be_powered_up',
    '``pCPU ... keeps its power``':
        'functional.test_power:LendingTest.test_a_borrower_that_stays',
    "``libvirtd's picture of the CPUs is older than the kernel's``":
        'functional.test_power:StaleTest.test_siblings_are_the_kernels',
    '``Not obeyed: ... .power:``':
        'functional.test_power:NightTest.test_another_strategy',
    '``a borrower could not leave pCPU ... yet``':
        'functional.test_profile:LendTest.test_borrower_that_can_not_leave',
    "``domain's process is not to be seen here``":
        'functional.test_qos:OutOfSightTest.'
        'test_reported_once_for_each_change',
    '``class(es) of service that this host``':
        'unit.resctrl.test_resctrl:ArrangeTest.test_closids_run_out',
    'libvirtd': 'functional.test_cases_time:HangingTest.'
        'test_other_servers_are_looked_after',
    'the database, RabbitMQ, conductor':
        'functional.test_cases_time:RecordedLaterTest.test_once',
    'Placement': 'functional.test_cases_time:PlacementAwayTest.'
        'test_live_changes_go_on',
    '``Unable to load the virtualization driver``':
        'unit.nova_ext.test_installed:InstalledTest.test_shim_is_missing',
    '``privsep helper command exited non-zero``':
        'unit.nova_ext.test_installed:HelperTest.test_it_is_said_which',
    '``reports no NUMA topology``':
        'unit.nova_ext.test_filters:FilterTest.'
        'test_a_host_without_a_numa_topology',
    "a filter or weigher that Nova doesn't find":
        'unit.nova_ext.test_installed:InstalledTest.'
        'test_a_filter_that_nova_does_not_find',
    '``it has ... characters and Nova keeps ...``':
        'unit.template.test_metadata:SayTest.test_it_is_said_how_long_it_is',
    '``warning: ...``':
        'functional.test_cli:TemplateTest.test_what_is_surely_not_meant',
    '``No valid host was found``':
        'functional.test_boot:BootTest.test_second_server_gets_no_host',
    '``Placement left no allocation candidate``':
        'unit.nova_ext.test_filters:FilterTest.test_no_candidate_is_left',
    'the server is in ERROR after a resize, with such a reason as its fault':
        'functional.test_life:ResizeTest.'
        'test_refused_at_the_end_the_reason_is_reported',
    '``It owns fewer pCPUs than it needs``':
        'functional.test_live:FaultTest.'
        'test_it_owns_fewer_pcpus_than_it_needs',
    '``Rebuilt with the pins that it had``':
        'functional.test_life:InPlaceTest.'
        'test_rebuilt_while_its_template_can_not_be_had',
    '``the server is busy (...)``':
        'unit.nova_ext.test_steps:BusyTest.'
        'test_nova_does_something_else_with_it',
    '``its process is not on this machine``':
        'unit.nova_ext.test_steps:AnotherMachineTest.'
        'test_its_memory_does_not_move',
    "``the host gives real-time threads no time in the domain's cgroup``":
        'unit.kernel.test_process:RealTimeTest.test_its_cgroup_has_no_time',
    '``The answer to a change of what it owns was lost; both stay taken``':
        'unit.nova_ext.test_ownership_faults:FaultTest.test_never_saved',
    '``A step could not be rolled back``':
        'unit.nova_ext.test_changes:RecordTest.'
        'test_what_can_not_be_rolled_back',
    '``Threads were not where they belong and are put back``':
        'functional.test_live:FaultTest.test_drift_is_put_back',
    '``it is for root to write``, ``this process sees the cgroups mounted '
    'read-only``': 'unit.kernel.test_cgroup:WriteTest.test_not_root',
    '``was not what it is to be and is put back``':
        'unit.nova_ext.test_report_once:GivenTest.'
        'test_somebody_has_changed_it',
    'nova-compute':
        'functional.test_profile:ProfileTest.test_nova_compute_is_away',
    # It asks nova-compute, which never asks it.
    'nova-api': 'functional.test_profile:ProfileTest.test_nobody_asks',
    '``Advice: ...``':
        'functional.test_load:AdviseTest.test_nothing_changes',
    '``It has not all that it owns back yet``':
        'unit.nova_ext.test_enforce:ByLoadTest.test_a_borrower_stays',
    '``it has switched as often as it may in an hour``':
        'functional.test_load:ActTest.test_switches_before_a_restart_count',
    '``It is not moved for balance``':
        'unit.nova_ext.test_balance:BalanceTest.test_it_can_not',
    '``No cell is balanced, as the kernel does not tell``':
        'unit.nova_ext.test_balance:BalanceTest.'
        'test_the_kernel_is_silent',
    '``use is not known``':
        'functional.test_load:ActTest.test_it_can_not_be_read',
}


class RowsTest(base.TestCase):

    def rows(self):
        page = documents.read(documents.SOURCE.relative_to(documents.TOP)
                              / 'admin' / 'failures.rst')
        tables = page.partition('Troubleshooting\n====')[0]
        return {' '.join(cell.split()) for cell in re.findall(
            r'^   \* - (.*?)^     - ', tables, re.MULTILINE | re.DOTALL)
            } - {'what you see', 'what is down'}

    def test_each_row(self):
        self.assertEqual(self.rows(), MADE.keys())

    def test_each_test(self):
        self.assertEqual([], [
            test for test in MADE.values() if not self._is_there(test)])

    def _is_there(self, test):
        module, _colon, method = test.partition(':')
        owner, _dot, name = method.partition('.')
        path = documents.TOP.joinpath(
            'tests', *module.split('.')).with_suffix('.py')
        return any(
            getattr(part, 'name', None) == name
            for found in ast.parse(path.read_text()).body
            if getattr(found, 'name', None) == owner
            for part in found.body)
