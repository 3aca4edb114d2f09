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
"""The kernel's resctrl file system: what it says, and writing it.

What is to be written is decided by :mod:`kongming.resctrl.clos`.  Whoever
changes groups locks the file system's root by flock, as libvirt and
intel-cmt-cat do (Documentation/filesystems/resctrl.rst, "Locking between
applications").
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import errno
import fcntl
import os
import pathlib
import time
from typing import NamedTuple

from kongming import exception
from kongming.kernel import process
from kongming.resctrl import clos
from kongming.resctrl import schemata

#: Where it is mounted, as libvirt has it, too (virresctrl.c).
ROOT = pathlib.Path('/sys/fs/resctrl')
_CPUS = pathlib.Path('/sys/devices/system/cpu')
_MOUNTS = pathlib.Path('/proc/self/mountinfo')
#: How long others may hold the lock, in seconds.
_PATIENCE = 10.0
_PAUSE = 0.05
#: Directories of the root that are no groups.
_NO_GROUPS = ('info', 'mon_groups', 'mon_data')
_INFO_FILES = ('num_closids', 'cbm_mask', 'min_cbm_bits', 'shareable_bits',
               'min_bandwidth', 'bandwidth_gran', 'delay_linear')
_REMEDIES = {
    errno.EACCES: 'it is for root to write, with CAP_DAC_OVERRIDE: '
                  '[kongming_resctrl] in nova.conf says who writes',
    errno.ENOSPC: 'the host has no class of service (CLOSID, RMID) or no '
                  'way of a cache left',
    errno.EROFS: 'this process sees it mounted read-only'}
_REMEDIES[errno.EPERM] = _REMEDIES[errno.EACCES]


class Files:
    """The calls to the kernel that are made, and no others.

    :param root: where the file system is mounted
    """

    def __init__(self, root: pathlib.Path | None = None) -> None:
        self.root = root or ROOT

    def names(self, folder: str = '') -> list[str]:
        """Directories in one, sorted."""
        return sorted(entry.name for entry in os.scandir(self.root / folder)
                      if entry.is_dir(follow_symlinks=False))

    def read(self, path: str) -> str:
        return (self.root / path).read_text()

    def write(self, path: str, text: str) -> None:
        """In one call: the kernel takes each for a command of its own."""
        handle = os.open(self.root / path, os.O_WRONLY)
        try:
            os.write(handle, text.encode())
        finally:
            os.close(handle)

    def make(self, name: str) -> None:
        (self.root / name).mkdir()

    def remove(self, name: str) -> None:
        (self.root / name).rmdir()

    def is_here(self) -> bool:
        """Whether the file system is mounted."""
        return (self.root / 'info').is_dir()

    def options(self) -> str:
        """Of the mount."""
        for line in _MOUNTS.read_text().splitlines():
            where, _dash, what = line.partition(' - ')
            if where.split()[4] == str(self.root):
                return what.split(' ')[2]
        return ''

    @contextlib.contextmanager
    def locked(self, to_write: bool) -> Iterator[None]:
        """Nobody else changes groups meanwhile.

        :raises kongming.exception.ResctrlError: if others don't give it free
        """
        handle = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            end = time.monotonic() + _PATIENCE
            how = fcntl.LOCK_EX if to_write else fcntl.LOCK_SH
            while True:
                try:
                    fcntl.flock(handle, how | fcntl.LOCK_NB)
                    break
                except BlockingIOError as exc:
                    if time.monotonic() > end:
                        raise exception.ResctrlError(
                            f'{self.root} is locked by another program for '
                            f'more than {_PATIENCE:g} s') from exc
                time.sleep(_PAUSE)
            yield
        finally:
            os.close(handle)


class Wanted(NamedTuple):
    """An entry of a server's ``kongming:cache``, with plain values.

    :ivar name: see :func:`kongming.resctrl.schemata.group_name`
    :ivar l3: per cent, or None
    :ivar mb: per cent, or None
    :ivar domains: L3 caches
    :ivar pid: of the server's process
    :ivar vcpus: those of this class
    """

    name: str
    l3: int | None
    mb: int | None
    domains: tuple[int, ...]
    pid: int
    vcpus: tuple[int, ...]


class Host(NamedTuple):
    """What to see to, with plain values.

    :ivar wanted: all that servers are to have
    :ivar left: servers that nobody looked at, whose groups stay
    :ivar ungrouped: (uuid, process) of servers, whose vCPUs that are in none
        of ``wanted`` are to be in no group
    :ivar most: CLOSIDs for servers in all, or None
    :ivar memory_bandwidth: see :func:`kongming.resctrl.schemata.parse_info`
    """

    wanted: tuple[Wanted, ...] = ()
    left: tuple[str, ...] = ()
    ungrouped: tuple[tuple[str, int], ...] = ()
    most: int | None = None
    memory_bandwidth: int = 0


class Outcome(NamedTuple):
    """What was done.

    :ivar done: (server, what) of each step, in words
    :ivar refused: group -> why it is not as it is to be
    :ivar shared: group -> who fills its ways as well
    """

    done: tuple[tuple[str, str], ...] = ()
    refused: Mapping[str, str] = {}
    shared: Mapping[str, str] = {}


def l3_of(root: pathlib.Path | None = None) -> dict[int, int]:
    """pCPU -> id of its L3 cache, of those that are online."""
    found = {}
    for cpu in (root or _CPUS).glob('cpu[0-9]*'):
        for index in cpu.glob('cache/index[0-9]*'):
            with contextlib.suppress(OSError, ValueError):
                if (index / 'level').read_text().strip() == '3':
                    found[int(cpu.name[3:])] = int(
                        (index / 'id').read_text())
    return found


def read(files: Files, memory_bandwidth: int = 0,
         with_tasks: bool = True) -> schemata.Tree | None:
    """All of it; None where the host controls nothing.

    :param with_tasks: whether somebody asks for the threads of our groups
    :raises OSError: if it can't be read
    """
    info: dict[str, dict[str, str]] = {}
    for resource in files.names('info'):
        texts = info[resource] = {}
        for name in _INFO_FILES:
            with contextlib.suppress(FileNotFoundError):
                texts[name] = files.read(f'info/{resource}/{name}')
    found = schemata.parse_info(info, files.options(), memory_bandwidth)
    if found is None:
        return None
    groups = {schemata.DEFAULT: schemata.parse_schemata(
        files.read('schemata'))}
    tasks = {}
    for name in files.names():
        if name in _NO_GROUPS:
            continue
        try:
            text = files.read(f'{name}/schemata')
            if with_tasks and schemata.server_of(name):
                tasks[name] = frozenset(map(
                    int, files.read(f'{name}/tasks').split()))
        except FileNotFoundError:
            continue  # it has gone meanwhile
        groups[name] = schemata.parse_schemata(text)
    return schemata.Tree(found, groups, tasks)


def survey(files: Files,
           memory_bandwidth: int = 0) -> schemata.Tree | None:
    """Who has what, but for threads.

    :raises kongming.exception.ResctrlError: if it can't be known
    """
    with _with_remedies(files), files.locked(to_write=False):
        return read(files, memory_bandwidth, with_tasks=False)


def look(files: Files, host: Host) -> clos.Plan:
    """What there is to be done.

    :raises kongming.exception.ResctrlError: if it can't be known
    """
    with _with_remedies(files), files.locked(to_write=False):
        return _plan(files, host)


def arrange(files: Files, host: Host) -> Outcome:
    """Do it; needs to be root.  What fails is in nobody else's way.

    :raises kongming.exception.ResctrlError: if nothing could be done
    """
    with _with_remedies(files), files.locked(to_write=True):
        todo = _plan(files, host)
        refused = dict(todo.refused)
        done = _carry_out(files, todo.steps, refused)
        after = _plan(files, host)
    for step in after.steps:
        # Threads come and go; another pass sees to them.
        if step.kind != clos.TASKS:
            refused.setdefault(
                step.group, f'the kernel took it, but it is not so: {step}')
    return Outcome(tuple((step.server, str(step)) for step in done),
                   refused, dict(todo.shared))


@contextlib.contextmanager
def _with_remedies(files: Files) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, KeyError) as exc:
        raise exception.ResctrlError(
            f'{files.root} can not be read: {exc}') from exc


def _plan(files: Files, host: Host) -> clos.Plan:
    tree = read(files, host.memory_bandwidth)
    if tree is None:
        raise exception.ResctrlError(
            f'{files.root} has no control of caches or memory bandwidth; '
            f'the processor or the kernel has none')
    in_class: set[int] = set()
    wanted = []
    for each in host.wanted:
        threads = _threads(each.pid, schemata.server_of(each.name) or '')
        tasks = frozenset(threads[vcpu] for vcpu in each.vcpus
                          if vcpu in threads)
        in_class |= tasks
        wanted.append(clos.Class(each.name, each.l3, each.mb,
                                 frozenset(each.domains), tasks))
    strays = {thread for server, pid in host.ungrouped
              for thread in _threads(pid, server).values()}
    return clos.plan(tree, wanted, host.left, strays - in_class, host.most)


def _threads(pid: int, server: str) -> dict[int, int]:
    """vCPU -> thread, where the process is that server's."""
    try:
        return process.vcpu_threads(pid) if process.is_of(pid, server) else {}
    except OSError:
        return {}  # it has ended


def _carry_out(files: Files, steps: Sequence[clos.Step],
               refused: dict[str, str]) -> list[clos.Step]:
    """:param refused: what fails is added here"""
    done: list[clos.Step] = []
    made = set()
    for step in steps:
        if step.group in refused:
            continue
        try:
            _take(files, step)
        except OSError as exc:
            refused[step.group] = _words(files, step, exc)
            if step.group in made and step.kind == clos.SCHEMATA:
                # Else its CLOSID would be taken for nothing.
                with contextlib.suppress(OSError):
                    files.remove(step.group)
            continue
        if step.kind == clos.MAKE:
            made.add(step.group)
        done.append(step)
    return done


def _take(files: Files, step: clos.Step) -> None:
    if step.kind == clos.REMOVE:
        with contextlib.suppress(FileNotFoundError):
            files.remove(step.group)
    elif step.kind == clos.MAKE:
        files.make(step.group)
    elif step.kind == clos.SCHEMATA:
        # All lines or none, as the kernel has it.
        files.write(f'{step.group}/schemata', '\n'.join(step.lines) + '\n')
    else:
        path = f'{step.group}/tasks' if step.group else 'tasks'
        for thread in step.lines:
            # Not every kernel takes a list of them.
            try:
                files.write(path, f'{thread}\n')
            except ProcessLookupError:
                continue  # it has ended


def _words(files: Files, step: clos.Step, exc: OSError) -> str:
    """What went wrong, and what the kernel says of it."""
    said = ''
    with contextlib.suppress(OSError):
        said = files.read('info/last_cmd_status').strip()
    remedy = _REMEDIES.get(exc.errno or 0, 'the kernel says so')
    return (f'{step}: {files.root / step.group}: {exc.strerror}'
            + (f' ({said})' if said and said != 'ok' else '')
            + f'; {remedy}')
