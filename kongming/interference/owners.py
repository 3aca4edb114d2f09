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

"""Who owns which pCPU of a host, by its domains."""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Iterable

from kongming.domain import audit
from kongming.domain import domain as domain_mod
from kongming.host import usage
from kongming.interference import disturbance


def of_running(running: Iterable[tuple[int, domain_mod.Running]],
               state: usage.HostState,
               chosen: Collection[str] | None = None) -> disturbance.Owners:
    """Owners of pCPUs on which they are.

    A pCPU that its owner has left, as a profile that lends has it, nobody is
    disturbed on.

    :param running: pid of its process, and the domain
    :param state: the host as nova.conf divides it
    :param chosen: UUIDs of the domains whose pCPUs count; None: all
    """
    pcpus: dict[int, disturbance.Owner] = {}
    domains, threads = {}, {}
    for pid, each in running:
        name = each.domain.name
        domains[pid] = name
        tids = {}
        for task in each.tasks:
            threads[task.id] = domain_mod.thread_name(task.kind, task.number)
            if task.kind == domain_mod.VCPU:
                tids[task.number] = task
        if chosen is not None and each.domain.uuid not in chosen:
            continue
        resident = audit.resident(each, state)
        for vcpu, pcpu in resident.owned.pins.items():
            found = tids.get(vcpu)
            if found is not None and pcpu in found.allowed:
                pcpus[pcpu] = disturbance.Owner(
                    name, domain_mod.thread_name(domain_mod.VCPU, vcpu),
                    found.id)
        for pcpu in resident.owned.emulator:
            if resident.is_on(pcpu):
                pcpus[pcpu] = disturbance.Owner(name, domain_mod.EMULATOR)
    return disturbance.Owners(pcpus, domains, threads)
