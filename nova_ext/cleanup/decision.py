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

"""What is to be done about a server; nothing here does it."""

import dataclasses

from kongming.domain import domain as domain_mod
from kongming.host import topology
from kongming.live import threads

NOTHING: frozenset[int] = frozenset()


@dataclasses.dataclass(frozen=True)
class Found:
    """A server as it was found, and as Nova by itself would have it.

    :ivar target: what a change that was cut short goes to, in words
    :ivar owned: pCPUs that it owns without that
    :ivar lacks_pcpus: whether these are fewer than it needs
    :ivar task_state: what Nova does to it; None where that is nothing
    :ivar is_saved: whether it starts next with a domain that was saved
    :ivar is_running: whether its domain runs
    :ivar is_visible: whether the process of its domain is seen
    :ivar now, wanted: kongming.live.threads.Threads
    :ivar strays: threads that the kernel has elsewhere, in words
    :ivar others: what else differs (memory, QoS), in words
    """

    target: str = ''
    owned: frozenset[int] = NOTHING
    lacks_pcpus: bool = False
    task_state: str | None = None
    is_saved: bool = False
    is_running: bool = True
    is_visible: bool = True
    now: threads.Threads = threads.Threads()
    wanted: threads.Threads = threads.Threads()
    strays: tuple[str, ...] = ()
    others: tuple[str, ...] = ()


def differences(found):
    """In words, what KongMing has left; nothing where all is Nova's."""
    return ([found.target] if found.target else []) + (
        threads.changes(found.now, found.wanted) or [*found.strays]) + [
            *found.others]


def foreign(found):
    """pCPUs that it runs on now and is to leave."""
    return found.now.pcpus - found.wanted.pcpus


def narrowed(found):
    """Its threads where nobody runs on a pCPU that it is to leave.

    A thread that has to go elsewhere stays until others have left, too.
    """
    now, wanted = found.now, found.wanted

    def both(before, after):
        return (before or NOTHING) & after or before or after

    return threads.Threads(
        {vcpu: both(now.vcpus.get(vcpu), pcpus)
         for vcpu, pcpus in wanted.vcpus.items()},
        None if wanted.emulator is None
        else both(now.emulator, wanted.emulator),
        {number: both(now.iothreads.get(number), pcpus)
         for number, pcpus in wanted.iothreads.items()})


def why_not(found, in_use=NOTHING):
    """Why a server is left as it is; empty where it is not.

    :param in_use: pCPUs that servers run on which could not be made to leave
    """
    if found.task_state:
        return (f'Nova is busy with it ({found.task_state}): start '
                f'nova-compute, wait until it is done, and run this again')
    if found.lacks_pcpus:
        return ('it owns fewer pCPUs than it has dedicated vCPUs, since its '
                'boot was cut short: delete it')
    if found.target and found.is_saved:
        return ('it is rescued or suspended, and the domain that was saved '
                'may be on the pCPUs that it goes to: start nova-compute, '
                'unrescue or resume it, and run this again')
    if found.is_running and not found.is_visible:
        return ('the process of its domain is not to be seen here: '
                '/run/libvirt and /proc of the host are needed')
    used = in_use & found.owned - found.now.pcpus
    if used:
        return (f'pCPU {topology.format_cpu_list(used)} is its own, and '
                f'another server that borrowed it still runs there')
    return ''


def strays(tasks, wanted):
    """In words, which threads may run where they are not wanted.

    :param tasks: kongming.domain.domain.Task of each, as the kernel has it
    :param wanted: kongming.live.threads.Threads
    """
    found = {}
    for task in tasks:
        allowed = {
            domain_mod.VCPU: wanted.vcpus,
            domain_mod.IOTHREAD: wanted.iothreads,
        }.get(task.kind, {}).get(task.number)
        if task.kind == domain_mod.EMULATOR:
            allowed = wanted.emulator
        if allowed is not None and not task.allowed <= allowed:
            # Of the emulator's threads one is enough.
            found[domain_mod.thread_name(task.kind, task.number)] = (
                f'pCPU {topology.format_cpu_list(task.allowed)} by the '
                f'kernel, not {topology.format_cpu_list(allowed)}')
    return tuple(f'{name}: {words}' for name, words in sorted(found.items()))
