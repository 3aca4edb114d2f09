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

"""The texts of ``/proc``, understood.

Texts come as bytes: the kernel writes names of threads and devices as they
are, whatever is in them.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence
import re
from typing import NamedTuple

from kongming.host import topology
from kongming.interference import snapshot

#: include/linux/sched.h
_PF_KTHREAD, _PF_NO_SETAFFINITY = 0x00200000, 0x04000000
#: proc(5), /proc/PID/stat: fields after the name, which is the second.
_FLAGS, _START, _LAST = 9 - 3, 22 - 3, 39 - 3
#: Of a device's interrupt: chip, hardware number and how it is triggered.
_CHIP = re.compile(r'\S+\s+(?:[\w-]+-)?(?:edge|level|fasteoi)\s+'
                   r'|\S+\s+\d+\s+(?:Edge|Level)\s+', re.IGNORECASE)


class Stat(NamedTuple):
    """What :class:`kongming.interference.snapshot.Thread` calls so."""

    name: str
    last: int
    kernel: bool
    bound: bool
    start: int


def stat(text: bytes) -> Stat:
    """``/proc/PID/task/TID/stat``; the name may have anything in it.

    :raises ValueError: if it is cut short
    """
    begin, end = text.find(b'('), text.rfind(b')')
    fields = text[end + 1:].split()
    if begin < 0 or len(fields) <= _LAST:
        raise ValueError(f'no stat: {text!r}')
    flags = int(fields[_FLAGS])
    return Stat(text[begin + 1:end].decode(errors='replace'),
                int(fields[_LAST]), bool(flags & _PF_KTHREAD),
                bool(flags & _PF_NO_SETAFFINITY), int(fields[_START]))


def schedstat(text: bytes) -> snapshot.Times:
    """``/proc/PID/task/TID/schedstat``.

    :raises ValueError: if it is cut short
    """
    run, wait, runs = text.split()
    return snapshot.Times(int(run), int(wait), int(runs))


def switches(status: bytes) -> snapshot.Switches:
    """The last two lines of ``/proc/PID/task/TID/status``."""
    found = re.search(rb'\nvoluntary_ctxt_switches:\t(\d+)\n'
                      rb'nonvoluntary_ctxt_switches:\t(\d+)', status)
    return snapshot.Switches(int(found[1]), int(found[2])) if (
        found) else snapshot.Switches(0, 0)


def columns(header: bytes) -> tuple[int, ...]:
    """The pCPUs of a table's columns; those that are offline have none."""
    return tuple(int(word[3:]) for word in header.split()
                 if word.startswith(b'CPU'))


def interrupts(line: bytes, pcpus: Sequence[int],
               wanted: Iterable[int]) -> tuple[str, snapshot.Line] | None:
    """A line of ``/proc/interrupts``.

    :param pcpus: of its columns
    :param wanted: those whose counts are kept
    :returns: (label, line); None where it has no count for each pCPU
    """
    words = line.split(None, len(pcpus) + 1)
    if len(words) <= len(pcpus) or not words[0].endswith(b':'):
        return None  # ERR and MIS are of the whole machine
    label = words[0][:-1].decode()
    rest = words[len(pcpus) + 1].decode(errors='replace').strip() if (
        len(words) > len(pcpus) + 1) else ''
    irq = int(label) if label.isdigit() else None
    if irq is not None:
        rest = _CHIP.sub('', rest, 1) if _CHIP.match(rest) else rest
    at = {pcpu: column for column, pcpu in enumerate(pcpus, 1)}
    try:
        counts = {pcpu: int(words[at[pcpu]]) for pcpu in wanted
                  if pcpu in at}
    except ValueError:
        return None
    return label, snapshot.Line(irq, rest, counts)


def softirqs(text: bytes,
             wanted: Iterable[int]) -> dict[str, dict[int, int]]:
    """``/proc/softirqs``: kind -> pCPU -> count."""
    header, *lines = text.splitlines() or [b'']
    at = {pcpu: column for column, pcpu in enumerate(columns(header), 1)}
    # It has a column for each pCPU that could be there.
    kept = [(pcpu, at[pcpu]) for pcpu in wanted if pcpu in at]
    found = {}
    for line in lines:
        words = line.split()
        if len(words) > len(at):
            found[words[0].rstrip(b':').decode()] = {
                pcpu: int(words[column]) for pcpu, column in kept}
    return found


def stolen(text: bytes, wanted: frozenset[int],
           tick_ns: int) -> dict[int, int]:
    """``/proc/stat``: pCPU -> time that was stolen, in ns."""
    found = {}
    for line in text.splitlines():
        if line.startswith(b'intr'):
            break
        words = line.split(None, 9)
        if words[0] != b'cpu' and words[0][3:].isdigit():
            pcpu = int(words[0][3:])
            if pcpu in wanted:
                found[pcpu] = int(words[8]) * tick_ns
    return found


def queues(text: bytes, wanted: frozenset[int]) -> dict[int, snapshot.Times]:
    """``/proc/schedstat``: what a pCPU's threads together had."""
    found = {}
    for line in text.splitlines():
        if line.startswith(b'cpu'):
            words = line.split()
            pcpu = int(words[0][3:])
            if pcpu in wanted and len(words) >= 10:
                found[pcpu] = snapshot.Times(*map(int, words[7:10]))
    return found


def pcpus_of_option(cmdline: str, option: str) -> frozenset[int] | None:
    """The pCPUs of an option of the kernel's command line, such as
    ``irqaffinity``; the last one counts.  None: it is not there.
    """
    found = None
    for word in cmdline.split():
        name, equals, value = word.partition('=')
        if name == option and equals:
            # isolcpus=managed_irq,domain,4-7: flags come first.
            value = ','.join(part for part in value.split(',')
                             if part[:1].isdigit())
            found = cpu_list(value)
    return found


def cpu_list(text: str) -> frozenset[int]:
    """A list as the kernel writes it; none where it is empty."""
    text = text.strip()
    # isolated has "(null)" on some kernels.
    return topology.parse_cpu_list(text) if text[:1].isdigit() else (
        snapshot.NO_PCPUS)


def mask(text: str) -> frozenset[int]:
    """A mask as the kernel writes it: ``ff,00000001``, most significant
    word first; Open vSwitch's are ``0x6``.
    """
    text = text.strip().strip('"')
    digits = text.removeprefix('0x').replace(',', '')
    try:
        number = int(digits, 16)
    except ValueError:
        return snapshot.NO_PCPUS
    return frozenset(pcpu for pcpu in range(number.bit_length())
                     if number >> pcpu & 1)


def format_mask(pcpus: Iterable[int]) -> str:
    """A mask that the kernel reads: words of 32 bits, joined by commas."""
    number = sum(1 << pcpu for pcpu in set(pcpus))
    words = [f'{number & 0xffffffff:08x}']
    while number := number >> 32:
        words.insert(0, f'{number & 0xffffffff:08x}')
    return ','.join(words)
