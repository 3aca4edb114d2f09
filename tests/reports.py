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

"""A report to be drawn: a host of two nodes, its domains, who disturbed them.
"""

from kongming.domain import domain as domain_mod
from kongming.host import topology
from kongming.host import usage
from kongming.interference import disturbance
from kongming.interference import page
from kongming.interference import report as report_mod
from kongming.interference import snapshot
from kongming.live import threads
from tests import clouds

#: Two nodes of 16 cores of two threads; the first two cores of each are
#: shared.
HOST = topology.Host(tuple(
    topology.Node(node, tuple(topology.Core((core, core + 32))
                              for core in range(16 * node, 16 * node + 16)))
    for node in range(2)))
SHARED = frozenset(pcpu for first in (0, 1, 16, 17)
                   for pcpu in (first, first + 32))
STATE = usage.of_host(HOST, HOST.pcpus - SHARED, SHARED)
#: Name, its vCPUs' pCPUs, the node of its memory.
DOMAINS = (('upf-1', (2, 34, 3, 35), 0), ('du-1', (18, 50), 1),
           ('db', (4, 36, 20, 52), None))


def domain(number, name, pcpus, node):
    """Its emulator floats over what is shared."""
    pins = threads.Threads({vcpu: frozenset({pcpu})
                            for vcpu, pcpu in enumerate(pcpus)}, SHARED)
    return domain_mod.Running(domain_mod.Domain(
        name, f'{number:08x}-0000-4000-8000-000000000000', len(pcpus),
        (frozenset(range(len(pcpus))),), pins=pins,
        mode=None if node is None else 'strict',
        nodes=frozenset() if node is None else frozenset({node}),
        memory_kib=(4 << 20,)), tuple(domain_mod.Task(
            domain_mod.VCPU, vcpu, 1000 * number + vcpu, frozenset({pcpu}),
            pcpu) for vcpu, pcpu in enumerate(pcpus)))


def entry(kind, name, pcpu, owner, count, us, remedy, number=0, **more):
    return report_mod.Entry(disturbance.Disturbance(
        disturbance.Key(kind, name, number, pcpu), owner, count, us=us,
        source=None if us is None else disturbance.TRACE, **more), remedy)


def report(name='backup', domains=DOMAINS, entries=()):
    """(domains that run, the report of ten seconds).

    :param name: of a thread, a device, and in remedies
    """
    running = [domain(number, *each)
               for number, each in enumerate(domains, 1)]
    owned = []
    for each in running:
        for vcpu, pcpus in sorted(each.domain.pins.vcpus.items()):
            pcpu, = pcpus
            owned.append(report_mod.Owned(
                pcpu, disturbance.Owner(each.domain.name, f'vCPU {vcpu}',
                                        each.tasks[vcpu].id),
                snapshot.Times((vcpu + 1) * 10 ** 9, 10 ** 7 * pcpu, 100),
                snapshot.Switches(50, pcpu)))
    owners = {each.pcpu: each.owner for each in owned}
    first, second = sorted(owners)[:2]
    return running, report_mod.Report(
        10.0, tuple(sorted(owned)), (
            entry(disturbance.THREAD, name, first, owners[first], 312,
                  2501234.0, f'taskset -apc 0-1 4711 # {name}', 4711),
            entry(disturbance.INTERRUPT, f'{name}-TxRx-3', second,
                  owners[second], 9000, None,
                  'echo 0-1 > /proc/irq/36/smp_affinity_list', 36),
            entry(disturbance.KERNEL, 'kworker/u64 writeback', first,
                  owners[first], 7, None,
                  'echo 3 > /sys/devices/virtual/workqueue/cpumask', 0,
                  exact=False), *entries),
        (entry(disturbance.CPU, 'Local timer interrupts', first,
               owners[first], 2500, 4321.0, ''),), '--no-trace', 3)


def drawn(*args, name='compute1', **kwargs):
    """The file."""
    running, found = report(*args, **kwargs)
    return page.page(name, clouds.MOMENT.isoformat(), STATE, running, found)
