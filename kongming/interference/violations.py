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

"""What could disturb owned pCPUs, though it may not have done so yet.

The host's part of ``kongming check``: threads, interrupts, workqueues,
governors and Open vSwitch, each as a
:class:`kongming.domain.audit.Finding` of the domain :data:`HOST`.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Iterator

from kongming.domain import audit
from kongming.host import topology
from kongming.interference import disturbance
from kongming.interference import irq as irq_mod
from kongming.interference import snapshot

KINDS = ('thread', 'interrupt', 'workqueue', 'governor', 'pmd')
#: Stands for the domain that does wrong.
HOST = 'host'
#: The governor that keeps a pCPU at the same frequency.
_STEADY = 'performance'
_NAMES = 5


def find(now: snapshot.Snapshot, settings: snapshot.Settings,
         irqs: Iterable[irq_mod.Irq],
         owners: disturbance.Owners) -> list[audit.Finding]:
    """All of them; those of one kind together."""
    return [*_threads(now, owners), *_interrupts(irqs, owners),
            *_settings(settings, owners)]


def _finding(kind: str, thread: str | None, pcpus: Iterable[int],
             owners: disturbance.Owners, text: str) -> audit.Finding:
    taken = tuple(sorted(pcpus))
    domains = sorted({owners.pcpus[pcpu].domain for pcpu in taken})
    return audit.Finding(
        kind, HOST, thread, taken, domains[0] if len(domains) == 1 else None,
        f'{text} pCPU {topology.format_cpu_list(taken)}, which '
        f'{", ".join(domains)} own{"s" * (len(domains) == 1)}')


def _threads(now: snapshot.Snapshot,
             owners: disturbance.Owners) -> Iterator[audit.Finding]:
    """Of the host's processes and of the kernel; domains' are audited."""
    by_place: dict[frozenset[int], list[snapshot.Thread]] = {}
    for thread in now.threads.values():
        taken = thread.allowed.intersection(owners.pcpus)
        if taken and not thread.bound and thread.pid not in owners.domains:
            by_place.setdefault(taken, []).append(thread)
    for taken, threads in sorted(by_place.items(),
                                 key=lambda item: sorted(item[0])):
        names = sorted({disturbance.identity(thread, owners).name
                        for thread in threads})
        shown = ', '.join(names[:_NAMES])
        if len(names) > _NAMES:
            shown += f' and {len(names) - _NAMES} other names'
        yield _finding(
            'thread', names[0] if len(names) == 1 else None, taken, owners,
            f'{len(threads)} threads of the host ({shown}) may run on')


def _interrupts(irqs: Iterable[irq_mod.Irq],
                owners: disturbance.Owners) -> Iterator[audit.Finding]:
    for irq in irq_mod.on_owned(irqs, owners.pcpus):
        verb = ('comes, by the kernel, which manages it and moves it for '
                'nobody, to' if irq.managed else 'may come to')
        yield _finding(
            'interrupt', irq.device,
            (irq.effective if irq.managed else irq.allowed)
            & owners.pcpus.keys(), owners,
            f'interrupt {irq.number} ({irq.device}) {verb}')


def _settings(settings: snapshot.Settings,
              owners: disturbance.Owners) -> Iterator[audit.Finding]:
    taken = (settings.workqueues or snapshot.NO_PCPUS) & owners.pcpus.keys()
    if taken:
        yield _finding('workqueue', None, taken, owners,
                       'unbound workqueues of the kernel may work on')
    by_governor: dict[str, set[int]] = {}
    for pcpu, governor in settings.governors.items():
        if governor != _STEADY and pcpu in owners.pcpus:
            by_governor.setdefault(governor, set()).add(pcpu)
    for governor, pcpus in sorted(by_governor.items()):
        yield _finding('governor', None, pcpus, owners,
                       f"the governor '{governor}' changes the frequency of")
    taken = (settings.pmd or snapshot.NO_PCPUS) & owners.pcpus.keys()
    if taken:
        yield _finding('pmd', None, taken, owners,
                       'threads of Open vSwitch poll on')
