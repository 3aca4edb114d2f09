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

"""Memory of a process and its nodes: what the kernel says, and its calls.

Arguments and answers are lists, dicts, texts and numbers, so that a process
with more rights can be asked for it.  Calls of the kernel block, the cpuset
writes uninterruptibly; ctypes lets other threads of Python run meanwhile.

What moves pages says little of what it did: a cpuset write answers 0 though
pages stayed, and ``move_pages`` writes no status where one page failed.  Only
``numa_maps`` tells (:func:`texts`).
"""

from __future__ import annotations

import array
import ctypes
import errno
import os
import pathlib
import platform
import re
import time
from typing import Any

from kongming import exception
from kongming.host import topology

_PROC = pathlib.Path('/proc')
_THP = pathlib.Path('/sys/kernel/mm/transparent_hugepage/hpage_pmd_size')
_RT_RUNTIME = 'sys/kernel/sched_rt_runtime_us'
#: linux/mempolicy.h: pages that other processes have mapped as well.
_MPOL_MF_MOVE_ALL = 4
#: machine -> (migrate_pages, move_pages), arch/*/syscalls/syscall.tbl and
#: asm-generic/unistd.h.
_CALLS = {'x86_64': (256, 279), 'aarch64': (238, 239), 'riscv64': (238, 239),
          'ppc64le': (258, 301)}
#: Thread groups of libvirt's.
_GROUP = re.compile(r'emulator|vcpu[0-9]+|iothread[0-9]+')
#: Files that a process has open while the kernel pins its memory for them, or
#: encrypts it.
_PINNING = re.compile(
    r'/dev/(vfio/|iommu\b|vhost-vdpa|sev\b|infiniband/uverbs)')
#: SCHED_FIFO, SCHED_RR, SCHED_DEADLINE
_REALTIME = {1, 2, 6}
_NOT_MOUNTED = (
    'The cpuset controller of cgroups is not mounted here; it has to be on '
    'this host, and where nova-compute runs')
#: For how long a thread is looked at that may never sleep, in seconds.
_LOOK = 0.2


def texts(pid: int) -> list[Any]:
    """Where the memory of a process is.

    :returns: texts of ``/proc/PID/maps`` and ``numa_maps``, and thread group
        -> text of its ``cpuset.mems``
    :raises OSError: if the process has ended, or this user may not look
    :raises kongming.exception.CgroupError: where a thread is in no group of
        libvirt's with a cpuset
    """
    folder = _PROC / str(pid)
    return [(folder / 'maps').read_text(), (folder / 'numa_maps').read_text(),
            {name: path.read_text().strip()
             for name, path in _groups(pid).items()}]


def groups(pid: int) -> dict[str, frozenset[int]]:
    """thread group -> its ``cpuset.mems``; needs no rights.

    :raises OSError: if the process has ended
    :raises kongming.exception.CgroupError: as :func:`texts`
    """
    found = {}
    for name, path in _groups(pid).items():
        text = path.read_text().strip()
        found[name] = (topology.parse_cpu_list(text) if text
                       else frozenset())
    return found


def _groups(pid: int) -> dict[str, pathlib.Path]:
    """thread group -> its file ``cpuset.mems``"""
    mount = _cpuset_mount()
    found = {}
    for task in (_PROC / str(pid) / 'task').iterdir():
        try:
            text = (task / 'cgroup').read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended
        group = _group_of(task.name, text)
        if mount is None:
            raise exception.CgroupError(_NOT_MOUNTED)
        root, point = mount
        path = pathlib.PurePosixPath(group)
        if not path.is_relative_to(root):
            raise exception.CgroupError(
                f'{group} is not to be seen at {point}, where only what is '
                f"below {root} is; nova-compute needs the host's cgroups")
        found[path.name] = pathlib.Path(point, path.relative_to(root),
                                        'cpuset.mems')
    return found


def _group_of(thread: str, text: str) -> str:
    """The thread group of a domain's thread.

    :param text: of its ``cgroup`` in ``/proc``
    :raises kongming.exception.CgroupError: if it is in none of libvirt's,
        and so no thread of a domain's
    """
    group = _cpuset_of(text)
    if group is None:
        raise exception.CgroupError(_NOT_MOUNTED)
    if not _GROUP.fullmatch(group.rpartition('/')[2]):
        raise exception.CgroupError(
            f'Thread {thread} has no cgroup of its own ({group}); '
            f"cgroup_controllers in libvirt's qemu.conf has to name cpuset")
    return group


def _check_domain(pid: int) -> None:
    """Pages of other processes than a domain's are not touched."""
    _group_of(str(pid), (_PROC / str(pid) / 'cgroup').read_text())


def _cpuset_of(text: str) -> str | None:
    """A thread's cgroup in the hierarchy that has the cpuset controller."""
    unified = None
    for line in text.splitlines():
        _number, controllers, path = line.split(':', 2)
        if 'cpuset' in controllers.split(','):
            return path
        if not controllers:
            unified = path
    return unified


def _cpuset_mount() -> tuple[str, str] | None:
    """The cgroup that is seen at a mount, and where that is."""
    found = None
    for line in (_PROC / 'self/mountinfo').read_text().splitlines():
        where, _dash, what = line.partition(' - ')
        root, point = where.split()[3:5]
        kind, _source, options = what.split(' ', 2)
        if kind == 'cgroup' and 'cpuset' in options.split(','):
            return root, _unescape(point)
        if kind == 'cgroup2' and found is None:
            found = root, _unescape(point)
    return found


def _unescape(field: str) -> str:
    """mountinfo writes blanks and backslashes as octal numbers."""
    return re.sub(r'\\([0-7]{3})', lambda m: chr(int(m[1], 8)), field)


def set_mems(pid: int, nodes: list[int], only: str = '') -> None:
    """Let the threads of a process have memory of some nodes.

    :param only: the thread group that is written; empty: each
    :raises kongming.exception.CgroupError: if the kernel refuses
    """
    wanted = frozenset(nodes)
    text = topology.format_cpu_list(wanted)
    for name, path in sorted(_groups(pid).items()):
        if only and name != only:
            continue
        if topology.parse_cpu_list(path.read_text().strip()) == wanted:
            continue
        try:
            path.write_text(text)
        except OSError as exc:
            raise exception.CgroupError(
                f"'{text}' can not be written to {path}: {exc.strerror}; "
                f'a cgroup above it may have less, and root has to write '
                f'it') from exc
        # The hierarchy of version 2 may give less than is written.
        effective = path.with_name('cpuset.mems.effective')
        if effective.exists():
            given = topology.parse_cpu_list(effective.read_text().strip())
            if given != wanted:
                raise exception.CgroupError(
                    f'{path} has {text} and gives '
                    f'{topology.format_cpu_list(given)}; a cgroup above it '
                    f'has less')


def migrate_pages(pid: int, sources: list[int], node: int) -> int:
    """Move all pages that a process has on some nodes to another.

    Where the node has no page left the kernel stops, and the rest stays.

    :returns: how many could not be moved, as far as the kernel knows; -1:
        some
    :raises OSError: as the kernel refuses it
    """
    _check_domain(pid)
    from_mask, to_mask = _mask(sources), _mask([node])
    try:
        return _call(0, pid, _BITS, from_mask, to_mask)
    except OSError as exc:
        if exc.errno != errno.ENOMEM:
            raise
        return -1


#: Of a set of nodes: MAX_NUMNODES is at most 1,024, and the kernel reads one
#: bit less than it is told (mm/mempolicy.c, get_nodes).
_BITS = 1024 + 1


def _mask(nodes: list[int]) -> Any:
    words = [0] * (1024 // 64 + 1)
    for node in nodes:
        words[node // 64] |= 1 << node % 64
    return (ctypes.c_uint64 * len(words))(*words)


def _call(which: int, *args: Any) -> int:
    calls = _CALLS.get(platform.machine())
    if calls is None:
        raise OSError(errno.ENOSYS, f'The system calls that move pages are '
                                    f'not known for {platform.machine()}')
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    found = libc.syscall(ctypes.c_long(calls[which]), *(
        ctypes.c_long(arg) if isinstance(arg, int) else arg for arg in args))
    if found < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return int(found)


def move_slice(pid: int, first: int, size_kib: int, page_kib: int,
               node: int) -> list[int]:
    """Move what a part of a process's memory has elsewhere to a node.

    :param pid: its main thread's cpuset has to have the node
    :returns: KiB that are on the node now, and KiB that are anywhere; pages
        that are on their way count among the latter
    :raises OSError: as the kernel refuses it
    """
    _check_domain(pid)
    step = page_kib * 1024
    addresses = array.array('Q', range(first, first + size_kib * 1024, step))
    status = _where(pid, addresses)
    if page_kib == topology.SMALL_PAGE_KIB or page_kib < 2048:
        # The first page of a transparent huge page takes it along whole.
        block = _thp_bytes()
        heads = array.array('Q', (
            address for address, at in zip(addresses, status)
            if at >= 0 and at != node and address % block == 0))
        if heads:
            _move(pid, heads, node)
            status = _where(pid, addresses)
    rest = array.array('Q', (address for address, at in zip(addresses, status)
                             if at >= 0 and at != node))
    if rest:
        _move(pid, rest, node)
        status = _where(pid, addresses)
    return [page_kib * sum(at == node for at in status),
            page_kib * sum(at >= 0 for at in status)]


def _thp_bytes() -> int:
    try:
        return int(_THP.read_text())
    except OSError:
        return 2 << 20


def _where(pid: int, addresses: array.array[int]) -> array.array[int]:
    """The node of each page, negative where there is none."""
    status = array.array('i', [-errno.ENOENT]) * len(addresses)
    _call(1, pid, len(addresses), _pointer(addresses), None,
          _pointer(status), 0)
    return status


def _move(pid: int, addresses: array.array[int], node: int) -> None:
    """Where the node has no page left the kernel stops.

    The whole call fails then, on Linux 6.1 for one of 2 MiB (mm/migrate.c,
    migrate_pages); what has moved stays there.
    """
    nodes = array.array('i', [node]) * len(addresses)
    status = array.array('i', [0]) * len(addresses)
    try:
        _call(1, pid, len(addresses), _pointer(addresses), _pointer(nodes),
              _pointer(status), _MPOL_MF_MOVE_ALL)
    except OSError as exc:
        if exc.errno != errno.ENOMEM:
            raise


def _pointer(values: array.array[int]) -> Any:
    return ctypes.c_void_p(values.buffer_info()[0])


def in_the_way(pid: int) -> dict[str, Any]:
    """What the kernel knows that keeps the memory of a process where it is.

    :returns: the fields of :class:`kongming.memory.refusal.Found`, sets as
        lists of nodes in the kernel's text
    :raises OSError: if the process has ended, or this user may not look
    """
    status = (_PROC / str(pid) / 'status').read_text()
    pinned = re.search(r'^VmPin:\s*([0-9]+) kB', status, re.MULTILINE)
    unlimited = (_PROC / _RT_RUNTIME).read_text().strip() == '-1'
    mine = re.search(r'^Mems_allowed_list:\s*(\S+)',
                     (_PROC / 'self/status').read_text(), re.MULTILINE)
    return {
        'devices': _devices(pid),
        'pinned_kib': int(pinned[1]) if pinned else 0,
        'realtime_is_unlimited': unlimited,
        'spinning': _spinning() if unlimited else [],
        'nodes': mine[1] if mine else '',
        'groups': {name: path.read_text().strip()
                   for name, path in _groups(pid).items()}}


def _devices(pid: int) -> list[str]:
    found = set()
    for link in (_PROC / str(pid) / 'fd').iterdir():
        try:
            target = os.readlink(link)
        except OSError:
            continue  # it was closed
        if _PINNING.match(target) and target != '/dev/vfio/vfio':
            found.add(target)
    return sorted(found)


def _spinning() -> list[str]:
    """Real-time threads of this host that have not slept for a while."""
    before = _realtime()
    time.sleep(_LOOK)
    after = _realtime()
    return sorted(f'{name} ({tid})' for tid, (name, slept) in after.items()
                  if before.get(tid) == (name, slept))


def _realtime() -> dict[int, tuple[str, str]]:
    """Thread that is running now -> its name, and how often it slept."""
    found = {}
    for path in _PROC.glob('[0-9]*/task/[0-9]*'):
        try:
            # proc(5), fields 3 and 41; the name, field 2, may have blanks.
            name, _, rest = (path / 'stat').read_text().rpartition(')')
            fields = rest.split()
            if fields[0] != 'R' or int(fields[41 - 3]) not in _REALTIME:
                continue
            slept = re.search(r'^voluntary_ctxt_switches:\s*([0-9]+)',
                              (path / 'status').read_text(), re.MULTILINE)
        except OSError:
            continue  # it has ended
        found[int(path.name)] = (name.partition('(')[2],
                                 slept[1] if slept else '')
    return found
