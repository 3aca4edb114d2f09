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

"""The threads of a domain as the kernel of this machine knows them.

For what libvirt has no call: how a running vCPU thread is scheduled, and on
which nodes the guest's memory really is.  Works where libvirtd is this
machine's; elsewhere there is nothing to read, and the answer is None.
"""

from __future__ import annotations

import errno
import os
import pathlib
import re
from typing import Any

from kongming.domain import domain as domain_mod
from kongming.host import topology
from kongming.live import threads
from kongming.memory import maps as maps_mod

_RUN = pathlib.Path('/run/libvirt/qemu')
_PROC = pathlib.Path('/proc')
_CGROUP = pathlib.Path('/sys/fs/cgroup')
_POLICIES = {'other': os.SCHED_OTHER, 'batch': os.SCHED_BATCH,
             'idle': os.SCHED_IDLE, 'fifo': os.SCHED_FIFO,
             'rr': os.SCHED_RR}
_NAMES = {number: name for name, number in _POLICIES.items()}


def pid(domain: Any) -> int | None:
    """The QEMU process of a domain; None where it is not on this machine."""
    return pid_of(domain.name(), domain.UUIDString())


def pid_of(name: str, server: str) -> int | None:
    """The same without asking libvirt.

    :param name: of the domain
    :param server: uuid of the server and its domain
    """
    try:
        found = int((_RUN / f'{name}.pid').read_text())
        # Another machine's libvirtd may have a domain of the same name.
        return found if is_of(found, server) else None
    except (OSError, ValueError):
        return None


def is_of(process: int, server: str) -> bool:
    """Whether a process is a server's.

    :param server: uuid of the server and its domain
    :raises OSError: if the process has ended
    """
    return server.encode() in (
        _PROC / str(process) / 'cmdline').read_bytes()


def vcpu_threads(process: int) -> dict[int, int]:
    """vCPU -> id of its thread; QEMU names these "CPU 0/KVM"."""
    found = {}
    for task in (_PROC / str(process) / 'task').iterdir():
        try:
            name = re.match('CPU ([0-9]+)/', (task / 'comm').read_text())
        except OSError:
            continue  # it has ended
        if name:
            found[int(name[1])] = int(task.name)
    return found


def schedulers(process: int) -> dict[int, threads.Sched]:
    """vCPU -> how its thread is scheduled."""
    found = {}
    for vcpu, thread in vcpu_threads(process).items():
        found[vcpu] = _scheduler(thread)
    return found


def _scheduler(thread: int) -> threads.Sched:
    policy = os.sched_getscheduler(thread)
    # A flag that a child falls back to the usual one is no policy.
    policy &= ~os.SCHED_RESET_ON_FORK
    return threads.Sched(_NAMES.get(policy, str(policy)),
                         os.sched_getparam(thread).sched_priority)


def set_scheduler(process: int, vcpu: int, policy: str,
                  priority: int) -> None:
    """Schedule a vCPU's thread; needs CAP_SYS_NICE.

    :raises OSError: as the kernel refuses it
    """
    thread = vcpu_threads(process)[vcpu]
    try:
        os.sched_setscheduler(thread, _POLICIES[policy],
                              os.sched_param(priority))
    except PermissionError as exc:
        if priority and not may_be_realtime(process, thread):
            raise PermissionError(
                exc.errno, f'{policy} is not possible here: the host gives '
                           f"real-time threads no time in the domain's "
                           f'cgroup (cpu.rt_runtime_us is 0)') from exc
        raise


def may_be_realtime(process: int, thread: int) -> bool:
    """Whether a thread's cgroup has real-time to give.

    Only version 1 of the cpu controller can say no, on kernels with
    CONFIG_RT_GROUP_SCHED (Documentation/scheduler/sched-rt-group.rst).
    """
    groups = _PROC / str(process) / 'task' / str(thread) / 'cgroup'
    for line in groups.read_text().splitlines():
        _number, controllers, path = line.split(':', 2)
        if 'cpu' in controllers.split(','):
            runtime = (_CGROUP / controllers / path.lstrip('/')
                       / 'cpu.rt_runtime_us')
            return not runtime.exists() or int(runtime.read_text()) > 0
    return True


# All threads of a domain.

#: QEMU's names of threads (-name debug-threads=on, which libvirt sets), cut
#: to 15 characters by the kernel; libvirt's names of I/O threads.
_TASKS = {domain_mod.VCPU: re.compile(r'CPU ([0-9]+)/'),
          domain_mod.IOTHREAD: re.compile(r'IO iothread([0-9]+)$')}
#: How often to look for threads that were made meanwhile, by threads that
#: had not been moved yet.
_ROUNDS = 5
#: Made by the kernel for a vCPU thread, wherever that is at that moment.
_KERNEL = 'kvm-'


def tasks(process: int) -> list[domain_mod.Task]:
    """All threads of a domain; what is no vCPU and no I/O thread is counted
    among the emulator's, as libvirt does.

    :raises OSError: if the process has ended
    """
    found = []
    for task in sorted((_PROC / str(process) / 'task').iterdir(),
                       key=lambda task: int(task.name)):
        try:
            kind = kind_of((task / 'comm').read_text().strip())
            if kind is not None:
                found.append(_task(task, *kind))
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended
    return found


def kind_of(name: str) -> tuple[str, int] | None:
    """What a thread is, by its name; None for one of the kernel's own.

    :returns: kind and number, see :class:`kongming.domain.domain.Task`
    """
    if name.startswith(_KERNEL):
        return None
    for kind, pattern in _TASKS.items():
        match = pattern.match(name)
        if match:
            return kind, int(match[1])
    return domain_mod.EMULATOR, 0


def _task(task: pathlib.Path, kind: str, number: int) -> domain_mod.Task:
    allowed = re.search(r'^Cpus_allowed_list:\s*(\S+)$',
                        (task / 'status').read_text(), re.MULTILINE)
    # proc(5), field 39; the name, field 2, may have blanks in it.
    last = (task / 'stat').read_text().rpartition(')')[2].split()[39 - 3]
    return domain_mod.Task(
        kind, number, int(task.name),
        topology.parse_cpu_list(allowed[1]) if allowed else frozenset(),
        int(last), _scheduler(int(task.name)))


def move_off(process: int, pcpus: frozenset[int],
             otherwise: frozenset[int]) -> None:
    """Have no thread of a domain run on some pCPUs; needs CAP_SYS_NICE.

    Past libvirt, which goes on saying what it said before.  A thread stays on
    whatever else it may run on.

    :param otherwise: pCPUs for a thread that may run nowhere else
    :raises OSError: as the kernel refuses it, or if the process has ended
    """
    for _ in range(_ROUNDS):
        found = [task for task in tasks(process) if task.allowed & pcpus]
        if not found:
            return
        for task in found:
            try:
                os.sched_setaffinity(
                    task.id, task.allowed - pcpus or otherwise - pcpus)
            except ProcessLookupError:
                continue  # it has ended
    raise OSError(errno.EBUSY, f'threads {[task.id for task in found]} are '
                               f'still allowed on pCPU '
                               f'{topology.format_cpu_list(pcpus)}')


def ram(process: int, least_kib: int) -> list[domain_mod.Ram]:
    """Where the memory of a guest is; needs to be root or the same user.

    :param least_kib: size of the smallest of its NUMA cells
    :raises OSError: if the process has ended, or this user may not look
    """
    folder = _PROC / str(process)
    return parse_ram((folder / 'maps').read_text(),
                     (folder / 'numa_maps').read_text(), least_kib)


def parse_ram(maps: str, numa_maps: str,
              least_kib: int) -> list[domain_mod.Ram]:
    """The same from the text of ``/proc/PID/maps`` and ``numa_maps``.

    A guest's memory is a mapping that has a policy of its own (QEMU binds
    nothing else), or one that is as large as a cell and writable.  A policy
    of a memfd may be of earlier than its pages, and says nothing.
    """
    return [domain_mod.Ram(
        found.nodes if found.mode == 'bind' and not found.policy_is_of_file
        else None, found.kib)
        for found in maps_mod.parse(maps, numa_maps)
        if found.mode == 'bind' or found.size_kib >= least_kib]
