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
"""The vCPUs' own cgroups, below that of their domain.

libvirt sets quota and period of all vCPUs of a domain at once, and weights of
none; what is written into the cgroup of one it leaves alone until somebody
has it set those.  The domain's cgroup is left to libvirt, which on a host
with systemd has to ask that.

Works where libvirtd is this machine's, for the mounts that this process sees.
"""

from __future__ import annotations

from collections.abc import Callable
import contextlib
import errno
import pathlib
import re
from typing import Any
from typing import NamedTuple

from kongming import exception
from kongming.kernel import process
from kongming.live import qos

_PROC = pathlib.Path('/proc')
_LIVE = 1
_REMEDIES = {
    errno.EACCES: 'it is for root to write: [kongming_privileged] in '
                  'nova.conf says who writes, and with which capabilities',
    errno.EINVAL: 'a cgroup above it may have less to give, or the kernel '
                  'less to offer',
    errno.EROFS: 'this process sees the cgroups mounted read-only'}
_REMEDIES[errno.EPERM] = _REMEDIES[errno.EACCES]


class Mount(NamedTuple):
    """A mounted hierarchy of cgroups.

    :ivar root: the cgroup that is seen there, ``/`` for all of them
    :ivar point: where
    """

    version: int
    root: str
    point: str


def version() -> int:
    """Of the cpu controller on this machine: 1 or 2."""
    mount = _mount(_mounts(), 'cpu')
    return mount.version if mount else 2


def read(domain: Any, pid: int) -> qos.CpuShares:
    """What a running domain and its vCPUs have.

    :param pid: of its process
    :raises kongming.exception.CgroupError: where a vCPU has no cgroup of its
        own, or it can't be read
    """
    mounts = _mounts()
    cpu_shares = {}
    for vcpu, thread in process.vcpu_threads(pid).items():
        try:
            groups = _groups(pid, thread)
        except OSError:
            continue  # it has ended
        number, folder = find(groups, mounts, vcpu)
        cpu_shares[vcpu] = qos.parse(number, _texts(number, folder))
    return qos.CpuShares(cpu_shares,
                         domain.schedulerParameters()['cpu_shares'])


def apply(domain: Any, pid: int, now: qos.CpuShares, wanted: qos.CpuShares,
          write: Callable[[int, int, qos.Share], None]) -> None:
    """Give a running domain and its vCPUs what is wanted.

    Nothing is written for what is so already.

    :param write: :func:`set_share`, by whoever may
    :raises kongming.exception.CgroupError: if the kernel refuses it
    """
    if now.domain != wanted.domain:
        domain.setSchedulerParametersFlags(
            {'cpu_shares': wanted.domain}, _LIVE)
    for vcpu, share in now.vcpus.items():
        if wanted.vcpus.get(vcpu, share) != share:
            write(pid, vcpu, wanted.vcpus[vcpu])
    left = qos.changes(read(domain, pid), wanted)
    if left:
        raise exception.CgroupError(f'The kernel took it, but it is not so: '
                                    f'{"; ".join(left)}')


def set_share(pid: int, vcpu: int, share: qos.Share) -> None:
    """Write one vCPU's cgroup, or leave it as it was.

    Its files belong to root, who needs no capability for that.

    :param pid: of the domain's process
    :raises kongming.exception.CgroupError: naming file, value and remedy
    """
    thread = process.vcpu_threads(pid)[vcpu]
    number, folder = find(_groups(pid, thread), _mounts(), vcpu)
    before = qos.parse(number, _texts(number, folder))
    try:
        _write(folder, qos.writes(number, before, share))
    except exception.CgroupError:
        # A limit that was lifted for a moment is not left so.
        with contextlib.suppress(exception.CgroupError):
            _write(folder, qos.writes(
                number, qos.parse(number, _texts(number, folder)), before))
        raise


def _write(folder: pathlib.Path, files: list[tuple[str, str]]) -> None:
    for name, text in files:
        path = folder / name
        if not path.exists():
            raise exception.CgroupError(
                f"'{text}' can not be written to {path}: this kernel has no "
                f'such file; Linux has it from 5.14 on')
        try:
            path.write_text(text)
        except OSError as exc:
            remedy = _REMEDIES.get(exc.errno or 0, 'the kernel says so')
            raise exception.CgroupError(
                f"'{text}' can not be written to {path}: {exc.strerror}; "
                f'{remedy}') from exc


def find(groups: str, mounts: str, vcpu: int) -> tuple[int, pathlib.Path]:
    """Where the cpu controller has a vCPU's thread.

    :param groups: text of ``/proc/PID/task/TID/cgroup``
    :param mounts: text of ``/proc/self/mountinfo``
    :returns: version of the controller, and the cgroup's directory
    :raises kongming.exception.CgroupError: if that is not the vCPU's own:
        whatever were written would hold for others as well
    """
    mount = _mount(mounts, 'cpu')
    path = mount and _within(groups, mount, 'cpu')
    if mount is None or path is None:
        raise exception.CgroupError(
            'The cpu controller of cgroups is not mounted here; it has to be '
            'on this host, and where nova-compute runs')
    group = pathlib.PurePosixPath(path)
    if group.name != f'vcpu{vcpu}':
        raise exception.CgroupError(
            f'vCPU {vcpu} has no cgroup of its own ({path}); '
            f"cgroup_controllers in libvirt's qemu.conf has to name cpu")
    if not group.is_relative_to(mount.root):
        raise exception.CgroupError(
            f'{path} is not to be seen at {mount.point}, where only what is '
            f"below {mount.root} is; nova-compute needs the host's cgroups")
    return mount.version, pathlib.Path(
        mount.point, group.relative_to(mount.root))


def folder_of(groups: str, controller: str) -> pathlib.Path | None:
    """Where a controller has a thread; None where that is not to be seen.

    :param groups: text of ``/proc/PID/task/TID/cgroup``
    """
    return folder_in(_mounts(), groups, controller)


def folder_in(mounts: str, groups: str,
              controller: str) -> pathlib.Path | None:
    """The same where something else is mounted.

    :param mounts: text of ``/proc/self/mountinfo``
    """
    mount = _mount(mounts, controller)
    path = mount and _within(groups, mount, controller)
    if mount is None or path is None:
        return None
    group = pathlib.PurePosixPath(path)
    if not group.is_relative_to(mount.root):
        return None
    return pathlib.Path(mount.point, group.relative_to(mount.root))


def mount_of(controller: str) -> Mount | None:
    """Where this machine has a controller; None where it is not mounted."""
    return _mount(_mounts(), controller)


def _within(groups: str, mount: Mount, controller: str) -> str | None:
    """The cgroup of a thread in a hierarchy."""
    path = None
    for line in groups.splitlines():
        hierarchy, controllers, found = line.split(':', 2)
        if (hierarchy == '0' if mount.version == 2
                else controller in controllers.split(',')):
            path = found
    return path


def _mount(mounts: str, controller: str) -> Mount | None:
    """Where a controller is: version 1 has it if it is there."""
    found = None
    for line in mounts.splitlines():
        where, _dash, what = line.partition(' - ')
        _id, _parent, _device, root, point = map(_unescape, where.split()[:5])
        kind, _source, options = what.split(' ', 2)
        if kind == 'cgroup' and controller in options.split(','):
            return Mount(1, root, point)
        if kind == 'cgroup2' and found is None:
            found = Mount(2, root, point)
    return found


def _unescape(field: str) -> str:
    """mountinfo writes blanks and backslashes as octal numbers."""
    return re.sub(r'\\([0-7]{3})', lambda m: chr(int(m[1], 8)), field)


def _groups(pid: int, thread: int) -> str:
    return (_PROC / str(pid) / 'task' / str(thread) / 'cgroup').read_text()


def _mounts() -> str:
    return (_PROC / 'self' / 'mountinfo').read_text()


def _texts(number: int, folder: pathlib.Path) -> dict[str, str]:
    *needed, burst = qos.FILES[number]
    texts = {}
    for name in (*needed, burst):
        try:
            texts[name] = (folder / name).read_text()
        except FileNotFoundError as exc:
            if name in needed:
                raise exception.CgroupError(
                    f'{folder / name} is not there; the cpu controller has '
                    f'to be on for this cgroup, and the kernel to be built '
                    f'with CONFIG_CFS_BANDWIDTH') from exc
    return texts
