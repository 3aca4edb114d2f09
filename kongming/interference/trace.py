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

"""What a trace of the scheduler and of interrupts tells, as counts and times.

The lines are those of ``trace_pipe`` (Documentation/trace/ftrace.rst), of the
events ``sched_switch``, ``irq_handler_entry`` and ``_exit``,
``softirq_entry`` and ``_exit``, and x86's ``irq_vectors``.  A thread's name
may hold anything, a newline and text of an event included; only its number is
taken from an event, at a place that 15 characters can't imitate.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Iterator
import re
from typing import NamedTuple

#: Kinds of :class:`Seen`.
RAN, IRQ, SOFTIRQ, VECTOR = 'ran', 'irq', 'softirq', 'vector'

_LINE = re.compile(
    r'^.{16}-[0-9 ]{1,7}.*?\[(\d+)\] \S{4,6} +(\d+)\.(\d{6}): '
    r'(\w+): ', re.DOTALL)
_SWITCH = re.compile(
    r'prev_comm=(.{0,15}?) prev_pid=(\d+) prev_prio=-?\d+ prev_state=\S+ ==> '
    r'next_comm=(.{0,15}) next_pid=(\d+) next_prio=-?\d+', re.DOTALL)
_LOST = re.compile(r'^CPU:(\d+) \[LOST (\d+) EVENTS\]')


class Seen(NamedTuple):
    """:ivar what: id of the thread, number of the interrupt, kind of the
        softirq, name of the vector
    """

    pcpu: int
    kind: str
    what: str


class Spent(NamedTuple):
    """How often it ended, and how long it took.

    :ivar us: microseconds; None where a beginning was not traced
    """

    number: int = 0
    us: float | None = 0.0

    def plus(self, us: float | None) -> Spent:
        """:param us: of one more; None: it is not known"""
        return Spent(self.number + 1,
                     None if us is None or self.us is None else self.us + us)


class Trace:
    """Adds up a trace, as its lines come.

    Some kernels (6.18 in a virtual machine) do not trace the switch from idle
    to a thread, only that away from it.  How long it ran is not known then.

    :ivar spent: what there was
    :ivar names: thread id -> its name
    :ivar lost: events that the kernel could not keep
    """

    def __init__(self) -> None:
        self.spent: dict[Seen, Spent] = {}
        self.names: dict[int, str] = {}
        self.lost = 0
        self._open: dict[tuple[int, str], tuple[str, int]] = {}
        #: pCPUs that were idle after the last switch that was traced
        self._idle: set[int] = set()

    def add(self, lines: Iterable[str]) -> None:
        for line in _events(lines):
            lost = _LOST.match(line)
            if lost:
                self.lost += int(lost[2])
                # What is open on it may have ended meanwhile.
                for key in [key for key in self._open
                            if key[0] == int(lost[1])]:
                    del self._open[key]
                self._idle.discard(int(lost[1]))
                continue
            head = _LINE.match(line)
            if head:
                pcpu, seconds, micro, event = head.groups()
                self._event(int(pcpu), int(seconds) * 10 ** 6 + int(micro),
                            event, line[head.end():])

    def _event(self, pcpu: int, at: int, event: str, text: str) -> None:
        if event == 'sched_switch':
            found = _SWITCH.match(text)
            if found:
                before, ended, after, begun = found.groups()
                # It may have been given another one meanwhile.
                self.names[int(ended)] = before
                if pcpu in self._idle and ended != '0':
                    self._add(Seen(pcpu, RAN, ended), None)
                self._end(pcpu, RAN, at, ended)
                self._idle.discard(pcpu)
                if begun == '0':
                    self._idle.add(pcpu)
                else:
                    self.names[int(begun)] = after
                    self._begin(pcpu, RAN, at, begun)
            return
        name, _, point = event.rpartition('_')
        if name == 'irq_handler':
            kind, what = IRQ, _after(text, 'irq=')
        elif name == 'softirq':
            kind, what = SOFTIRQ, _after(text, 'action=').rstrip(']')
        else:
            kind, what = VECTOR, name
        if point == 'entry':
            self._begin(pcpu, kind, at, what)
        elif point == 'exit':
            self._end(pcpu, kind, at, what)

    def _begin(self, pcpu: int, kind: str, at: int, what: str) -> None:
        self._open[pcpu, kind] = what, at

    def _end(self, pcpu: int, kind: str, at: int, what: str) -> None:
        opened = self._open.pop((pcpu, kind), None)
        if opened is not None and opened[0] == what:
            self._add(Seen(pcpu, kind, what), at - opened[1])

    def _add(self, key: Seen, us: float | None) -> None:
        self.spent[key] = self.spent.get(key, Spent()).plus(us)


def _events(lines: Iterable[str]) -> Iterator[str]:
    """Lines, those joined that a newline in a name has parted."""
    joined = ''
    for line in lines:
        if joined and (_LINE.match(line) or _LOST.match(line)):
            yield joined
            joined = line
        else:
            joined += line
    if joined:
        yield joined


def _after(text: str, mark: str) -> str:
    rest = text.partition(mark)[2].split(None, 1)
    return rest[0] if rest else ''
