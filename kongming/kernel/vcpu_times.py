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

"""What vCPUs of running domains did, read often and cheaply.

Unlike :class:`kongming.kernel.accounts.Reader`, which reads all threads of a
host, this reads those of the domains that somebody asks for: one call of the
kernel a vCPU, since files stay open.
"""

from __future__ import annotations

import os
import time

from kongming.interference import parse
from kongming.kernel import process
from kongming.load import figures

#: How often vCPUs that were added are looked for, in seconds.
RESCAN = 5.0
_GONE = (FileNotFoundError, ProcessLookupError)


def pcpus(wanted: frozenset[int]) -> dict[int, figures.Times]:
    """What the threads on each pCPU had together, whoever's they are.

    :raises OSError: if the kernel does not tell (CONFIG_SCHEDSTATS)
    """
    with open('/proc/schedstat', 'rb') as file:
        found = parse.queues(file.read(), wanted)
    return {pcpu: figures.Times(times.run_ns, times.wait_ns)
            for pcpu, times in found.items()}


class Domain:
    """One running domain.

    :param name: of the domain
    :param server: uuid of the server and its domain
    """

    def __init__(self, name: str, server: str) -> None:
        self._name, self._server = name, server
        self._pid: int | None = None
        self._start = 0
        #: vCPU -> its open schedstat
        self._files: dict[int, int] = {}
        self._scanned = 0.0

    def close(self) -> None:
        for number in self._files.values():
            os.close(number)
        self._files.clear()
        self._pid = None

    @property
    def pid(self) -> int | None:
        """Of its process, as it was read last."""
        return self._pid

    def read(self) -> figures.Counters | None:
        """One reading; None while it does not run on this machine."""
        now = time.monotonic()
        if self._pid is not None and now - self._scanned < RESCAN:
            try:
                return self._read()
            except (*_GONE, ValueError):
                pass  # it has ended, or a vCPU was taken from it
        self._scan(now)
        try:
            return self._read() if self._files else None
        except (*_GONE, ValueError):
            self.close()
            return None

    def _read(self) -> figures.Counters:
        at = time.monotonic()
        vcpus = {}
        for vcpu, number in self._files.items():
            times = parse.schedstat(os.pread(number, 128, 0))
            vcpus[vcpu] = figures.Times(times.run_ns, times.wait_ns)
        return figures.Counters(at, vcpus, self._start)

    def _scan(self, now: float) -> None:
        """Look for its process and its threads."""
        pid = process.pid_of(self._name, self._server)
        if pid is None:
            self.close()
            return
        try:
            start = _start(pid)
            if (pid, start) != (self._pid, self._start):
                self.close()
            threads = process.vcpu_threads(pid)
            for vcpu in self._files.keys() - threads.keys():
                os.close(self._files.pop(vcpu))
            for vcpu in threads.keys() - self._files.keys():
                self._files[vcpu] = os.open(
                    f'/proc/{pid}/task/{threads[vcpu]}/schedstat',
                    os.O_RDONLY | os.O_CLOEXEC)
        except (*_GONE, ValueError):
            self.close()
            return
        self._pid, self._start, self._scanned = pid, start, now


def _start(pid: int) -> int:
    with open(f'/proc/{pid}/stat', 'rb') as file:
        return parse.stat(file.read()).start
