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

"""Where the kernel lets the threads of a domain run, read often.

A pass asks this of every server, so what does not change is remembered: which
thread is which vCPU, and where the file of its cpuset is.  A question is one
system call a thread, and one small file for each cpuset; no process is
started, and no right is needed.

``sched_getaffinity(2)`` answers what ``Cpus_allowed_list`` in
``/proc/PID/task/TID/status`` says, less the CPUs that are offline
(kernel/sched/syscalls.c, sched_getaffinity), at a tenth of the time.
"""

from __future__ import annotations

import os
import pathlib
import re
from typing import Any
from typing import NamedTuple

from kongming.domain import domain as domain_mod
from kongming.host import topology
from kongming.kernel import cgroup
from kongming.kernel import process as process_mod
from kongming.live import witness

_PROC = '/proc'
#: capabilities(7)
_CAP_SYS_NICE = 23


class _Task(NamedTuple):
    """What is remembered of a thread.

    :ivar cpuset: path of its cgroup's ``cpuset.cpus``; '' where that is not
        its own
    :ivar is_certain: whether its name is; QEMU names a thread after it has
        started it
    """

    kind: str
    number: int
    cpuset: str
    is_certain: bool


class Reader:
    """Remembers the threads of the domains of a host."""

    def __init__(self) -> None:
        #: process -> id of a thread -> what it is
        self._known: dict[int, dict[int, _Task]] = {}
        #: process -> which of its cpusets is read next
        self._turn: dict[int, int] = {}

    def retain(self, processes: set[int]) -> None:
        """Forget all domains but these."""
        for process in self._known.keys() - processes:
            self._known.pop(process, None)
            self._turn.pop(process, None)

    def forget(self, process: int) -> None:
        """Look anew which thread is which."""
        self._known.pop(process, None)

    def read(self, process: int,
             most: int | None = None) -> list[witness.Thread]:
        """All threads of a domain.

        :param process: of the domain
        :param most: how many of their cpusets to read, others the next time;
            None: all
        :raises OSError: if it has ended, or its threads are not to be seen
        """
        known = self._known.setdefault(process, {})
        ids = [int(each) for each in os.listdir(f'{_PROC}/{process}/task')]
        if len(known) > len(ids):
            for gone in known.keys() - set(ids):
                del known[gone]
        found = []
        texts = self._cpusets(process, most)
        for thread in ids:
            try:
                task = known.get(thread)
                if task is None or not task.is_certain:
                    task = _look(process, thread, task is not None)
                    known[thread] = task
                if task is _KERNELS:
                    continue
                allowed = frozenset(os.sched_getaffinity(thread))
            except (FileNotFoundError, ProcessLookupError):
                known.pop(thread, None)
                continue  # it has ended
            if most is None and task.cpuset and task.cpuset not in texts:
                texts[task.cpuset] = _cpuset(task.cpuset)
            found.append(witness.Thread(task.kind, task.number, thread,
                                        allowed, texts.get(task.cpuset)))
        return found

    def _cpusets(self, process: int, most: int | None
                 ) -> dict[str, frozenset[int] | None]:
        """Those that it is the turn of: path -> pCPUs."""
        if most is None:
            return {}
        paths = sorted({task.cpuset for task in self._known[process].values()
                        if task.cpuset})
        turn = self._turn.get(process, 0)
        chosen = (paths * 2)[turn:turn + min(most, len(paths))]
        self._turn[process] = (turn + most) % (len(paths) or 1)
        return {path: _cpuset(path) for path in chosen}


#: A thread that the kernel has made.
_KERNELS = _Task('', 0, '', True)


def _look(process: int, thread: int, again: bool) -> _Task:
    folder = pathlib.Path(_PROC, str(process), 'task', str(thread))
    kind = process_mod.kind_of((folder / 'comm').read_text().strip())
    if kind is None:
        return _KERNELS
    return _Task(*kind, _path(folder, *kind),
                 again or kind[0] != domain_mod.EMULATOR)


def _path(folder: pathlib.Path, kind: str, number: int) -> str:
    """Where the cpuset of a thread is, if that is libvirt's for it alone.

    :param folder: ``/proc/PID/task/TID``
    """
    name = {domain_mod.VCPU: f'vcpu{number}',
            domain_mod.IOTHREAD: f'iothread{number}',
            domain_mod.EMULATOR: 'emulator'}[kind]
    try:
        found = cgroup.folder_of((folder / 'cgroup').read_text(), 'cpuset')
    except (OSError, ValueError):
        return ''
    return str(found / 'cpuset.cpus') if found and found.name == name else ''


def _cpuset(path: str) -> frozenset[int] | None:
    """What a cpuset may use; None where it says nothing, as on version 2."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            text = os.read(descriptor, 65536).strip()
        finally:
            os.close(descriptor)
    except OSError:
        return None
    return topology.parse_cpu_list(text.decode()) if text else None


def process_of(domain: Any) -> int | None:
    """The process of a domain that runs; None where it is not seen here."""
    return process_mod.pid(domain)


def may_hold(process: int) -> str:
    """Why this process can't move threads of a domain; empty: it can."""
    if not os.path.isdir(f'{_PROC}/{process}/task'):
        return f'process {process} is not seen'
    status = pathlib.Path(_PROC, 'self', 'status').read_text()
    found = re.search(r'^CapEff:\s*([0-9a-f]+)$', status, re.MULTILINE)
    if found and not int(found[1], 16) >> _CAP_SYS_NICE & 1:
        return 'CAP_SYS_NICE is missing'
    return ''


def hold(process: int, places: dict[int, frozenset[int]]) -> None:
    """Have threads run on some pCPUs only; needs CAP_SYS_NICE.

    Past libvirt, for what it refuses.

    :param places: id of a thread -> pCPUs
    :raises OSError: as the kernel refuses it
    """
    for thread, pcpus in places.items():
        if not os.path.exists(f'{_PROC}/{process}/task/{thread}'):
            continue  # it has ended
        os.sched_setaffinity(thread, pcpus)
