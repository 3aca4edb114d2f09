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
        found = int(_read(f'{_RUN}/{name}.pid'))
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
_ALLOWED = b'\nCpus_allowed_list:'
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
    folder = str(_PROC / str(process) / 'task')
    for tid in sorted(map(int, os.listdir(folder))):
        try:
            task = _task(f'{folder}/{tid}', tid)
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended
        if task is not None:
            found.append(task)
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


def _task(folder: str, tid: int) -> domain_mod.Task | None:
    """A thread by two files; None for one of the kernel's own.

    proc(5): the name, field 2 of stat, may have blanks and brackets in it;
    field 39 is the pCPU, 40 the real-time priority, 41 the policy.
    """
    before, _bracket, after = _read(f'{folder}/stat').rpartition(b')')
    kind = kind_of(os.fsdecode(before.partition(b'(')[2]))
    if kind is None:
        return None
    fields = after.split()
    last, priority, policy = map(int, fields[39 - 3:42 - 3])
    allowed = _read(f'{folder}/status').partition(_ALLOWED)[2].partition(
        b'\n')[0].decode().strip()
    return domain_mod.Task(
        *kind, tid, topology.parse_cpu_list(allowed) if allowed
        else frozenset(), last,
        threads.Sched(_NAMES.get(policy, str(policy)), priority))


def _read(path: str) -> bytes:
    """A small file of procfs, in a third of pathlib's time: hosts have
    thousands of threads.
    """
    number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(number, 1 << 14)
    finally:
        os.close(number)


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
