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

"""The kernel's accounts of who runs where: threads, interrupts, pCPUs.

:class:`Reader` is made for a process that reads again and again.  What has
not changed since the last reading costs one call: files stay open as long as
the process may have so many, what says the same as before is not understood
again, and the list of threads is made anew only where the kernel says that
there are others (``/proc/loadavg``).

Nothing here needs to be root, except where ``/proc`` is mounted with
``hidepid``.
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Iterable
import contextlib
import os
import resource
import time

from kongming.interference import parse
from kongming.interference import snapshot

#: Of the files that a process may have open, those that are left to it.
_RESERVED_FILES = 256
#: A line of /proc/interrupts for each of some thousand interrupts.
_CHUNK = 1 << 16
_SMALL = 512
_GONE = (FileNotFoundError, ProcessLookupError)


class Reader:
    """Reads a machine's accounts.

    :param proc: where procfs is
    :param sys: where sysfs is
    :param most_files: files that are kept open; None: as many as the
        process's limit allows, less some
    """

    def __init__(self, proc: str = '/proc', sys: str = '/sys',
                 most_files: int | None = None) -> None:
        self._proc, self._sys = proc, sys
        if most_files is None:
            soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            most_files = max(0, soft - _RESERVED_FILES)
        self._most_files = most_files
        self._files: dict[str, int] = {}
        self._threads: dict[int, _Thread] = {}
        #: pid -> threads that it had
        self._processes: dict[int, set[int]] = {}
        #: pid -> how many links its folder of threads had
        self._links: dict[int, int] = {}
        self._counted = b''
        self._lines: dict[bytes, tuple[bytes, str, snapshot.Line]] = {}
        self._layout: tuple[bytes, frozenset[int]] = b'', frozenset()
        self._tick_ns = 10 ** 9 // os.sysconf('SC_CLK_TCK')

    def close(self) -> None:
        """Close what is open; the next reading opens it again."""
        for number in self._files.values():
            os.close(number)
        self._files.clear()
        for known in self._threads.values():
            known.file = None

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def read(self, pcpus: Collection[int],
             watched: Iterable[int] = ()) -> snapshot.Snapshot:
        """One reading.

        :param pcpus: whose interrupts and softirqs are counted, as a rule
            those that somebody owns
        :param watched: ids of the threads whose context switches are asked
            for
        :raises OSError: if there is no procfs
        """
        wanted = frozenset(pcpus)
        at = time.monotonic()
        threads = self._read_threads()
        return snapshot.Snapshot(
            at, self._online(), threads,
            {tid: found for tid in watched if tid in threads
             and (found := self._switches(threads[tid]))},
            self._interrupts(wanted),
            parse.softirqs(self._text('softirqs', _CHUNK), wanted),
            parse.stolen(self._text('stat', _CHUNK), wanted, self._tick_ns),
            self._queues(wanted))

    def times(self, threads: Iterable[tuple[int, int]]) -> dict[
            int, snapshot.Times]:
        """What is counted of some threads; those that have ended are left out.

        :param threads: (pid, thread's id)
        """
        found = {}
        for pid, tid in threads:
            name = f'{pid}/task/{tid}/schedstat'
            try:
                found[tid] = parse.schedstat(self._text(name, 64))
            except (*_GONE, ValueError):
                self._forget(name)
        return found

    # Files.

    def _text(self, name: str, size: int = _SMALL) -> bytes:
        """A file of procfs from its beginning.

        :raises OSError: as the kernel says
        """
        number = self._files.get(name)
        opened = number is None
        if number is None:
            number = os.open(f'{self._proc}/{name}',
                             os.O_RDONLY | os.O_CLOEXEC)
            if len(self._files) < self._most_files:
                self._files[name] = number
                opened = False
        try:
            return _whole(number, size)
        finally:
            if opened:
                os.close(number)

    def _forget(self, name: str) -> None:
        number = self._files.pop(name, None)
        if number is not None:
            os.close(number)

    # Threads.

    def _read_threads(self) -> dict[int, snapshot.Thread]:
        self._list()
        found = {}
        relist = set()
        for tid, known in list(self._threads.items()):
            try:
                number = known.file
                text = (os.pread(number, _SMALL, 0) if number is not None
                        else self._schedstat(known))
                if text != known.text:
                    known.found = self._thread(known, text)
                    known.text = text
            except (*_GONE, ValueError):
                self._drop(tid)
                relist.add(known.pid)
                continue
            found[tid] = known.found
        for pid in relist:
            # A thread that came as another went leaves the number as it is.
            self._counted = b''
            self._links.pop(pid, None)
        return {tid: thread for tid, thread in found.items()
                if thread is not None}

    def _schedstat(self, known: _Thread) -> bytes:
        """Its file, which stays open if it may."""
        text = self._text(known.schedstat)
        known.file = self._files.get(known.schedstat)
        return text

    def _list(self) -> None:
        """Learn which threads there are, if there may be others."""
        # Threads that there are, and the number that was given last.
        counted = self._text('loadavg').rpartition(b'/')[2]
        if counted == self._counted:
            return
        pids = {int(name) for name in os.listdir(self._proc)
                if name.isdigit()}
        for pid in self._processes.keys() - pids:
            self._links.pop(pid, None)
            for tid in self._processes.pop(pid):
                self._drop(tid)
        for pid in pids:
            try:
                links = os.stat(f'{self._proc}/{pid}/task').st_nlink
                if links > 1 and self._links.get(pid) == links:
                    continue  # a link a thread (fs/proc/base.c)
                self._links[pid] = links
                tids = {int(name) for name in os.listdir(
                    f'{self._proc}/{pid}/task')}
            except (*_GONE, PermissionError):
                tids = set()
            known = self._processes.get(pid, set())
            for tid in known - tids:
                self._drop(tid)
            for tid in tids:
                thread = self._threads.get(tid)
                if thread is None or thread.pid != pid:
                    self._drop(tid)
                    self._threads[tid] = _Thread(pid, tid)
            self._processes[pid] = tids
        self._counted = counted

    def _drop(self, tid: int) -> None:
        known = self._threads.pop(tid, None)
        if known is not None:
            self._forget(known.schedstat)
            self._forget(known.stat)

    def _thread(self, known: _Thread, text: bytes) -> snapshot.Thread:
        """A thread that has run since it was read last.

        :raises OSError: if it has ended
        """
        before = known.found
        if before is not None and len(before.allowed) == 1 and not (
                before.kernel):
            # What may run on one pCPU runs there.  Its name is that of the
            # first time: QEMU's threads keep theirs.
            allowed = self._allowed(known)
            if allowed == before.allowed:
                return before._replace(times=parse.schedstat(text))
        found = parse.stat(self._text(known.stat))
        return snapshot.Thread(
            known.pid, known.tid, found.name, parse.schedstat(text),
            self._allowed(known), found.last, found.kernel, found.bound,
            found.start)

    def _allowed(self, known: _Thread) -> frozenset[int]:
        if self._proc == '/proc':
            # What its status says, in a tenth of the time.
            return frozenset(os.sched_getaffinity(known.tid))
        with open(f'{self._proc}/{known.folder}/status',
                  errors='replace') as file:
            for line in file:
                if line.startswith('Cpus_allowed_list:'):
                    return parse.cpu_list(line.partition(':')[2])
        return frozenset()

    def _switches(self, thread: snapshot.Thread) -> (
            snapshot.Switches | None):
        try:
            return parse.switches(self._text(
                f'{thread.pid}/task/{thread.tid}/status', 4096))
        except _GONE:
            self._forget(f'{thread.pid}/task/{thread.tid}/status')
            return None

    # pCPUs.

    def _online(self) -> frozenset[int]:
        return parse.cpu_list(_sys_text(
            f'{self._sys}/devices/system/cpu/online'))

    def _interrupts(self, wanted: frozenset[int]) -> dict[
            str, snapshot.Line]:
        header, *lines = self._text('interrupts', _CHUNK).splitlines() or [
            b'']
        if self._layout != (header, wanted):
            # A pCPU came or went.
            self._lines.clear()
            self._layout = header, wanted
        pcpus = parse.columns(header)
        found = {}
        for line in lines:
            key = line[:line.find(b':') + 1]
            known = self._lines.get(key)
            if known is None or known[0] != line:
                understood = parse.interrupts(line, pcpus, wanted)
                if understood is None:
                    continue
                if known is not None and known[2] == understood[1]:
                    understood = known[1:]
                known = self._lines[key] = line, *understood
            found[known[1]] = known[2]
        return found

    def _queues(self, wanted: frozenset[int]) -> dict[int, snapshot.Times]:
        try:
            return parse.queues(self._text('schedstat', _CHUNK), wanted)
        except OSError:
            return {}  # a kernel without it

    def settings(self) -> snapshot.Settings:
        """What decides who may disturb, and changes seldom.

        Masks of Open vSwitch are left out: :mod:`kongming.kernel.ovs`.
        """
        cpu = f'{self._sys}/devices/system/cpu'
        online = self._online()
        cmdline = ''
        with contextlib.suppress(OSError):
            cmdline = self._text('cmdline', 4096).decode(errors='replace')
        workqueues = _sys_text(
            f'{self._sys}/devices/virtual/workqueue/cpumask')
        return snapshot.Settings(
            online, parse.cpu_list(_sys_text(f'{cpu}/isolated')),
            parse.cpu_list(_sys_text(f'{cpu}/nohz_full')),
            parse.pcpus_of_option(cmdline, 'irqaffinity'),
            parse.mask(workqueues) & online if workqueues else None,
            {pcpu: found.strip() for pcpu in sorted(online) if (
                found := _sys_text(
                    f'{cpu}/cpu{pcpu}/cpufreq/scaling_governor'))})

    def units(self, pids: Iterable[int]) -> dict[int, str]:
        """pid -> the unit of systemd that its process is of, where it is of
        one.
        """
        found = {}
        for pid in pids:
            with contextlib.suppress(OSError):
                unit = _unit(self._text(f'{pid}/cgroup', 4096))
                if unit:
                    found[pid] = unit
            self._forget(f'{pid}/cgroup')
        return found


class _Thread:
    """A thread, and what its files said when it was read last."""

    __slots__ = ('pid', 'tid', 'folder', 'schedstat', 'stat', 'text',
                 'found', 'file')

    def __init__(self, pid: int, tid: int) -> None:
        self.pid, self.tid = pid, tid
        self.folder = f'{pid}/task/{tid}'
        self.schedstat = f'{self.folder}/schedstat'
        self.stat = f'{self.folder}/stat'
        self.text = b''
        #: of schedstat, where it is open
        self.file: int | None = None
        self.found: snapshot.Thread | None = None


def _whole(number: int, size: int) -> bytes:
    text = os.pread(number, size, 0)
    if len(text) < size:
        # A file of procfs gives less only at its end, or at the end of a
        # record; the next call says which.
        if size <= _SMALL:
            return text
    parts = [text]
    offset = len(text)
    while text:
        text = os.pread(number, size, offset)
        parts.append(text)
        offset += len(text)
    return b''.join(parts)


def _sys_text(path: str) -> str:
    """What is in a file; nothing where it is not there."""
    try:
        with open(path, errors='replace') as file:
            return file.read()
    except OSError:
        return ''


def _unit(cgroup: bytes) -> str:
    """The innermost service or scope in ``/proc/PID/cgroup``."""
    for line in cgroup.decode(errors='replace').splitlines():
        _number, controllers, path = line.split(':', 2)
        if controllers in ('', 'name=systemd'):
            for part in reversed(path.split('/')):
                if part.endswith(('.service', '.scope')):
                    return part
    return ''
