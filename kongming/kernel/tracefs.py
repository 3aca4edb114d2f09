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

"""A trace of some pCPUs: who ran there, and which interrupts came.

An instance of its own in tracefs, so that nobody else's trace is touched; it
is removed at the end, and one that was left by a process that was killed is
removed by the next.  Nothing is mounted.
"""

from __future__ import annotations

from collections.abc import Collection
import contextlib
import os
import pathlib

from kongming import exception
from kongming.interference import parse

_EVENTS = ('sched/sched_switch', 'irq/irq_handler_entry',
           'irq/irq_handler_exit', 'irq/softirq_entry', 'irq/softirq_exit')
#: x86 only; what is not there is not traced.
_VECTORS = 'irq_vectors'
_NO_VECTORS = ('vector_', 'x86_platform')
_KIB = 4096
_PREFIX = 'kongming-'


class Session:
    """A trace that runs from its making to :meth:`close`.

    :param pcpus: that are traced
    :raises kongming.exception.NotTraced: if there can be none
    """

    def __init__(self, pcpus: Collection[int]) -> None:
        top = _mounted()
        _remove_left(top)
        self._folder = top / 'instances' / f'{_PREFIX}{os.getpid()}'
        self._pipe = -1
        self._rest = ''
        try:
            self._folder.mkdir()
            self._set_up(pcpus)
        except OSError as exc:
            self.close()
            raise exception.NotTraced(
                f'{exc.filename or self._folder}: {exc.strerror}') from exc

    def _set_up(self, pcpus: Collection[int]) -> None:
        self._write('tracing_on', '0')
        self._write('tracing_cpumask', parse.format_mask(pcpus))
        for pcpu in pcpus:
            self._write(f'per_cpu/cpu{pcpu}/buffer_size_kb', str(_KIB))
        for event in _EVENTS:
            self._write(f'events/{event}/enable', '1')
        with contextlib.suppress(FileNotFoundError):
            for path in (self._folder / 'events' / _VECTORS).iterdir():
                if path.is_dir() and not path.name.startswith(_NO_VECTORS):
                    (path / 'enable').write_text('1')
        self._pipe = os.open(self._folder / 'trace_pipe',
                             os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self._write('tracing_on', '1')

    def _write(self, name: str, text: str) -> None:
        (self._folder / name).write_text(text)

    def stop(self) -> None:
        """Nothing more is recorded; what was can still be read."""
        self._write('tracing_on', '0')

    def lines(self) -> list[str]:
        """What came since the last call; each ends with a newline."""
        parts = [self._rest]
        with contextlib.suppress(BlockingIOError):
            while part := os.read(self._pipe, 1 << 16):
                parts.append(part.decode(errors='replace'))
        *lines, self._rest = ''.join(parts).split('\n')
        return [f'{line}\n' for line in lines]

    def close(self) -> None:
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1
        with contextlib.suppress(OSError):
            self._write('tracing_on', '0')
        with contextlib.suppress(OSError):
            self._folder.rmdir()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


def _mounted() -> pathlib.Path:
    for line in pathlib.Path('/proc/self/mounts').read_text().splitlines():
        _source, point, kind, *_rest = line.split(' ')
        if kind == 'tracefs':
            return pathlib.Path(point.replace('\\040', ' '))
    raise exception.NotTraced(
        "tracefs is not mounted; 'mount -t tracefs tracefs "
        "/sys/kernel/tracing' as root mounts it")


def _remove_left(top: pathlib.Path) -> None:
    with contextlib.suppress(OSError):
        for path in (top / 'instances').glob(f'{_PREFIX}[0-9]*'):
            pid = path.name.removeprefix(_PREFIX)
            if not pathlib.Path('/proc', pid).exists():
                with contextlib.suppress(OSError):
                    (path / 'tracing_on').write_text('0')
                    path.rmdir()
