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

"""Interrupts of devices: ``/proc/irq``, and irqbalance where it runs.

Reading needs no rights; setting needs to be root.
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Iterable
import contextlib
import errno
import os
import pathlib
import re
import socket
import stat
import struct
from typing import NamedTuple

from kongming import exception
from kongming.host import topology
from kongming.interference import irq as irq_mod
from kongming.interference import parse

_PROC = pathlib.Path('/proc')
_SYS = pathlib.Path('/sys')
#: irqbalance.h, SOCKET_TMPFS and SOCKET_PATH; 1.4 has "irqbalance" alone.
_SOCKETS = ('/run/irqbalance/irqbalance{pid}.sock',
            '/run/irqbalance{pid}.sock', '\0irqbalance{pid}.sock')
#: Seconds; it answers from its main loop, which may be reading /proc.
_PATIENCE = 5
_REMEDIES = {
    errno.EACCES: 'it is for root to write: [kongming_privileged] in '
                  'nova.conf says who writes',
    errno.EROFS: 'this process sees /proc mounted read-only; nova-compute '
                 "needs the host's",
    errno.EINVAL: 'no pCPU of these is online'}
_REMEDIES[errno.EPERM] = _REMEDIES[errno.EACCES]


def read(proc: pathlib.Path = _PROC,
         sys: pathlib.Path = _SYS) -> list[irq_mod.Irq]:
    """All that a device has asked for, by number.

    :raises kongming.exception.IrqError: if they can't be seen
    """
    try:
        numbers = sorted(int(path.name) for path in (proc / 'irq').iterdir()
                         if path.name.isdigit())
    except OSError as exc:
        raise exception.IrqError(f'{proc}/irq: {exc.strerror}') from exc
    found = []
    for number in numbers:
        with contextlib.suppress(FileNotFoundError):
            each = _irq(number, proc, sys)
            if each is not None:
                found.append(each)
    return found


def _irq(number: int, proc: pathlib.Path,
         sys: pathlib.Path) -> irq_mod.Irq | None:
    """None where no device has asked for it.

    :raises FileNotFoundError: if it is gone
    """
    device = _device(number, proc, sys)
    if not device:
        return None
    folder = proc / 'irq' / str(number)
    allowed = parse.cpu_list((folder / 'smp_affinity_list').read_text())
    effective = parse.cpu_list(_text(folder / 'effective_affinity_list'))
    node = _text(folder / 'node').strip()
    # Newer kernels show by its mode that they take none.
    managed = None if _is_writable(folder / 'smp_affinity') else True
    flags = _text(sys / 'kernel/debug/irq/irqs' / str(number))
    if flags:
        managed = 'IRQD_AFFINITY_MANAGED' in flags
    return irq_mod.Irq(
        number, device, allowed, effective or allowed,
        parse.mask(_text(folder / 'affinity_hint')),
        int(node) if node.isdigit() else None, managed)


def _device(number: int, proc: pathlib.Path, sys: pathlib.Path) -> str:
    found = _text(sys / f'kernel/irq/{number}/actions').strip()
    if found:
        return found
    # CONFIG_SPARSE_IRQ is off, or sysfs is not there: a folder a device.
    with contextlib.suppress(OSError):
        return ','.join(sorted(
            path.name for path in (proc / f'irq/{number}').iterdir()
            if path.is_dir()))
    return ''


def machine(ownable: Collection[int], proc: pathlib.Path = _PROC,
            sys: pathlib.Path = _SYS) -> irq_mod.Machine:
    """Where interrupts can be on this machine.

    :param ownable: pCPUs that can get an owner
    """
    return irq_mod.Machine(
        parse.cpu_list(_text(sys / 'devices/system/cpu/online')),
        parse.mask(_text(proc / 'irq/default_smp_affinity')),
        frozenset(ownable),
        {int(path.name[4:]): parse.cpu_list(_text(path / 'cpulist'))
         for path in (sys / 'devices/system/node').glob('node[0-9]*')})


class Refused(NamedTuple):
    """:ivar managed: whether the kernel moves it for nobody"""

    number: int
    managed: bool
    reason: str


def move(wanted: Iterable[tuple[int, Iterable[int]]],
         proc: pathlib.Path = _PROC) -> list[Refused]:
    """Give interrupts another affinity.

    :param wanted: (number, pCPUs)
    :returns: those that the kernel has refused
    """
    refused = []
    for number, pcpus in wanted:
        path = proc / 'irq' / str(number) / 'smp_affinity_list'
        try:
            path.write_text(topology.format_cpu_list(pcpus))
        except FileNotFoundError:
            continue  # its device is gone
        except OSError as exc:
            # irq_can_set_affinity_usr (kernel/irq/manage.c) says no: EIO,
            # on newer kernels EPERM.
            managed = exc.errno == errno.EIO or not _is_writable(path)
            refused.append(Refused(
                number, managed, 'the kernel manages it' if managed else
                f'{path}: {exc.strerror}; '
                f'{_REMEDIES.get(exc.errno or 0, "the kernel says so")}'))
    return refused


def _is_writable(path: pathlib.Path) -> bool:
    """:raises FileNotFoundError: if it is gone"""
    return bool(path.stat().st_mode & stat.S_IWUSR)


# irqbalance: its API is in irqbalance(1).

class Irqbalance(NamedTuple):
    """One that runs.

    :ivar configured: pCPUs that it keeps off by its own configuration
    """

    pid: int
    configured: frozenset[int]


def irqbalance(proc: pathlib.Path = _PROC,
               sys: pathlib.Path = _SYS) -> Irqbalance | None:
    """irqbalance, if it runs on this machine; needs to be root to see how
    it was started.
    """
    for path in proc.iterdir():
        if path.name.isdigit() and _text(path / 'comm') == 'irqbalance\n':
            return Irqbalance(int(path.name), _configured(
                _text(path / 'environ'), sys))
    return None


def _configured(environ: str, sys: pathlib.Path) -> frozenset[int]:
    """As its setup_banned_cpus (cputree.c) goes."""
    variables = dict(pair.partition('=')[::2]
                     for pair in environ.split('\0'))
    if variables.get('IRQBALANCE_BANNED_CPUS'):
        return parse.mask(variables['IRQBALANCE_BANNED_CPUS'])
    if variables.get('IRQBALANCE_BANNED_CPULIST'):
        return parse.cpu_list(variables['IRQBALANCE_BANNED_CPULIST'])
    cpu = sys / 'devices/system/cpu'
    return parse.cpu_list(_text(cpu / 'isolated')) | parse.cpu_list(
        _text(cpu / 'nohz_full'))


def banned(pid: int) -> frozenset[int]:
    """pCPUs that irqbalance keeps off now.

    :raises kongming.exception.IrqError: if it can't be asked
    """
    found = re.search(r'BANNED ([0-9a-fA-F,]+)', _ask(pid, 'setup'))
    if found is None:
        raise exception.IrqError(
            f'irqbalance (process {pid}) does not say which pCPUs it keeps '
            f'off; KongMing knows the API of irqbalance 1.4 to 1.9')
    return parse.mask(found[1])


def ban(pid: int, pcpus: Iterable[int] | None) -> None:
    """Have irqbalance keep off some pCPUs, and no others.

    :param pcpus: None: as it is configured
    :raises kongming.exception.IrqError: if it can't be told
    """
    words = 'NULL' if pcpus is None else topology.format_cpu_list(pcpus)
    _ask(pid, f'settings cpus {words}')


def _ask(pid: int, words: str) -> str:
    error: OSError | None = None
    for pattern in _SOCKETS:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as one:
            one.settimeout(_PATIENCE)
            try:
                one.connect(pattern.format(pid=pid))
                credentials = struct.pack(
                    '3i', os.getpid(), os.geteuid(), os.getegid())
                one.sendmsg([words.encode()], [(
                    socket.SOL_SOCKET, socket.SCM_CREDENTIALS, credentials)])
                answer = b''
                while part := one.recv(4096):
                    answer += part
                return answer.decode(errors='replace')
            except OSError as exc:
                if error is None or isinstance(
                        error, (FileNotFoundError, ConnectionRefusedError)):
                    error = exc
    raise exception.IrqError(
        f'irqbalance (process {pid}) runs and can not be talked to: '
        f'{error}; it has to be built with its user interface, and the '
        f'socket in /run/irqbalance to be seen here, or it has to be stopped')


def _text(path: pathlib.Path) -> str:
    try:
        return path.read_text(errors='replace')
    except OSError:
        return ''
