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

"""The little languages inside template values, and where they go wrong.

Parsing keeps ranges as they were written, so that a value which is decoded
and encoded again reads as before.  Nothing here knows a host: a
:class:`Relative` address becomes pCPU ids only in :func:`resolve`.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import re
from typing import NamedTuple
from typing import Protocol

from kongming.host import topology

#: What an id can be at most.  The kernel's own limits on x86-64
#: (CONFIG_NR_CPUS, 1 << CONFIG_NODES_SHIFT) and more vCPUs than KVM gives.
#: They keep a value like ``0-999999999:1`` from costing more than an error.
MAX_VCPU = 4095
MAX_PCPU = 8191
MAX_NODE = 1023


class Malformed(ValueError):
    """A value that does not follow its grammar.

    :ivar column: where, counted from 1
    :ivar reason: what is wrong and what is allowed
    """

    def __init__(self, column: int, reason: str) -> None:
        self.column = column
        self.reason = reason
        super().__init__(f'column {column}: {reason}')


class Range(NamedTuple):
    """Ids from ``low`` to ``high``, both included."""

    low: int
    high: int

    def __str__(self) -> str:
        if self.low == self.high:
            return str(self.low)
        return f'{self.low}-{self.high}'

    def ids(self) -> range:
        return range(self.low, self.high + 1)


class Relative(NamedTuple):
    """``n0c2-5t1``: nodes by id, cores and threads by their position.

    Cores are counted on their node in the order of their lowest pCPU,
    threads in their core ascending; both over the pCPUs that Nova may use on
    the host (``cpu_dedicated_set`` and ``cpu_shared_set``).
    """

    node: Range
    core: Range
    thread: Range

    def __str__(self) -> str:
        return f'n{self.node}c{self.core}t{self.thread}'


class OfVcpus(NamedTuple):
    """``v0-3``: the pCPUs that these vCPUs of the same server own."""

    vcpus: Range

    def __str__(self) -> str:
        return f'v{self.vcpus}'


Target = Range | Relative | OfVcpus


@dataclasses.dataclass(frozen=True)
class Pin:
    """One entry of a pin map.

    :ivar vcpus: guest vCPU ids
    :ivar targets: pCPUs; paired with the vCPUs in order, or, if ``floats``,
        the set that each of them runs on
    """

    vcpus: tuple[Range, ...]
    targets: tuple[Target, ...]
    floats: bool = False

    def __str__(self) -> str:
        return (','.join(map(str, self.vcpus))
                + ('~' if self.floats else ':')
                + ','.join(map(str, self.targets)))

    def vcpu_ids(self) -> list[int]:
        return [v for part in self.vcpus for v in part.ids()]


_WORD = re.compile(r'\S+')
_RANGE = re.compile(r'([0-9]+)(?:-([0-9]+))?')
_OF_VCPUS = re.compile(r'v([0-9]+)(?:-([0-9]+))?')
_RELATIVE = re.compile(
    r'n([0-9]+)(?:-([0-9]+))?'
    r'c([0-9]+)(?:-([0-9]+))?'
    r't([0-9]+)(?:-([0-9]+))?')


def words(value: str) -> Iterator[tuple[int, str]]:
    """The blank-separated words of a value with their columns."""
    for match in _WORD.finditer(value):
        yield match.start() + 1, match.group()


def parse_int(text: str, column: int, what: str, most: int) -> int:
    """An id from 0 to ``most``.

    :raises Malformed: naming ``what`` was expected
    """
    if not re.fullmatch('[0-9]+', text):
        raise Malformed(column, f"'{text}' is not {what}; a whole number from "
                                f"0 to {most} is")
    return _bounded(text, column, what, most)


def _bounded(digits: str, column: int, what: str, most: int) -> int:
    # int() of an endless digit string is refused by Python with an error of
    # its own (CVE-2020-10735), so look at the length first.
    if len(digits.lstrip('0')) > len(str(most)) or int(digits) > most:
        shown = digits if len(digits) < 12 else digits[:9] + '...'
        raise Malformed(column, f'{shown} is too large for {what}; '
                                f'the most is {most}')
    return int(digits)


def _range(low: str, high: str | None, column: int, what: str,
           most: int) -> Range:
    first = _bounded(low, column, what, most)
    last = first if high is None else _bounded(high, column, what, most)
    if last < first:
        raise Malformed(column, f'the range {low}-{high} runs backwards; '
                                f'write {last}-{first}')
    return Range(first, last)


def _split(text: str, column: int) -> Iterator[tuple[int, str]]:
    for part in text.split(','):
        yield column, part
        column += len(part) + 1


def parse_id_list(text: str, column: int, what: str,
                  most: int) -> tuple[Range, ...]:
    """``0,2-3``: a comma-separated list of ids and ranges."""
    ranges = []
    for at, part in _split(text, column):
        match = _RANGE.fullmatch(part)
        if match is None:
            raise Malformed(at, f"'{part}' is not {what}; write an id (4), a "
                                f"range (4-7) or several by commas (0,4-7)")
        ranges.append(_range(match[1], match[2], at, what, most))
    return tuple(ranges)


def parse_targets(text: str, column: int) -> tuple[Target, ...]:
    """A comma-separated list of pCPU ids, ranges, addresses."""
    targets: list[Target] = []
    for at, part in _split(text, column):
        match = _RANGE.fullmatch(part)
        if match is not None:
            targets.append(_range(match[1], match[2], at, 'a pCPU', MAX_PCPU))
            continue
        match = _OF_VCPUS.fullmatch(part)
        if match is not None:
            targets.append(OfVcpus(
                _range(match[1], match[2], at, 'a vCPU', MAX_VCPU)))
            continue
        match = _RELATIVE.fullmatch(part)
        if match is None:
            raise Malformed(at, f"'{part}' is not a pCPU; write an id (4), a "
                                f"range (4-7), node, core and thread "
                                f"(n0c2t1, n0c2-5t0) or what vCPUs own "
                                f"(v0-3)")
        targets.append(Relative(
            _range(match[1], match[2], at, 'a node', MAX_NODE),
            _range(match[3], match[4], at, 'a core', MAX_PCPU),
            _range(match[5], match[6], at, 'a thread', MAX_PCPU)))
    named = count_targets(targets)
    if named > MAX_PCPU + 1:
        # Else 255 characters could name hundreds of thousands.
        raise Malformed(column, f'these are {named} pCPUs, more than a host '
                                f'has')
    return tuple(targets)


def parse_pins(value: str) -> tuple[Pin, ...]:
    """``0:4 1:36 2-3:5-6 4-7~8-11``: a cell's pin map.

    :raises Malformed: also where a vCPU stands twice, or two vCPUs on one
        pCPU, as far as that can be seen without a host
    """
    pins = parse_overlay(value)
    for (column, word), pin in zip(words(value), pins):
        if any(isinstance(target, OfVcpus) for target in pin.targets):
            raise Malformed(column, f"'{word}': what a vCPU owns is said "
                                    f'here; only profiles and threads that '
                                    f'are no vCPU can refer to it')
    return pins


def parse_overlay(value: str) -> tuple[Pin, ...]:
    """The same where vCPUs may go to what others of their server own.

    ``0-7~v0-1``: all eight are packed onto what the first two own.
    """
    pins: list[Pin] = []
    seen: set[int] = set()
    owned: set[int] = set()
    for column, word in words(value):
        match = re.search('[:~]', word)
        if match is None:
            raise Malformed(column, f"'{word}' has no pCPU; write vCPU:pCPU "
                                    f"for one to one (0:4) or vCPU~pCPUs to "
                                    f"float (0~4-7)")
        at = column + match.end()
        pin = Pin(
            parse_id_list(word[:match.start()], column, 'a vCPU', MAX_VCPU),
            parse_targets(word[match.end():], at),
            floats=match.group() == '~')
        _check_pin(pin, column, at, seen, owned)
        pins.append(pin)
    if not pins:
        raise Malformed(1, 'it is empty; write at least one vCPU:pCPU')
    return tuple(pins)


def _check_pin(pin: Pin, column: int, at: int, seen: set[int],
               owned: set[int]) -> None:
    for vcpu in pin.vcpu_ids():
        if vcpu in seen:
            raise Malformed(column, f'vCPU {vcpu} stands here a second time; '
                                    f'give each vCPU once')
        seen.add(vcpu)
    if pin.floats:
        return
    vcpus, pcpus = len(pin.vcpu_ids()), count_targets(pin.targets)
    if vcpus != pcpus:
        raise Malformed(at, f'{vcpus} vCPU(s) for {pcpus} pCPU(s); one to one '
                            f'needs as many of each ("~" lets vCPUs float)')
    for target in pin.targets:
        if isinstance(target, Range):
            for pcpu in target.ids():
                if pcpu in owned:
                    raise Malformed(at, f'pCPU {pcpu} stands here a second '
                                        f'time; a pCPU has one owner')
                owned.add(pcpu)


#: What emulator and I/O threads may be given instead of a list.
OWN, SHARED = 'own', 'shared'
Threads = str | tuple[Target, ...]


def parse_threads(value: str) -> Threads:
    """``own``, ``shared`` or a list of pCPUs."""
    text = value.strip()
    if text in (OWN, SHARED):
        return text
    column = value.index(text) + 1
    if not text or re.search(r'\s', text):
        raise Malformed(column, f"'{text}' is neither {OWN} nor {SHARED} nor "
                                f"a list of pCPUs such as 4,8-9 or n0c0t0-1")
    return parse_targets(text, column)


def format_pins(pins: Mapping[int, int]) -> list[str]:
    """Pins one to one, as short as a pin map has them: ``0-3:24-27 4:9``.

    :param pins: vCPU -> pCPU
    """
    runs: list[tuple[int, int, int]] = []
    for vcpu, pcpu in sorted(pins.items()):
        if runs:
            first, to, length = runs[-1]
            if (vcpu, pcpu) == (first + length, to + length):
                runs[-1] = first, to, length + 1
                continue
        runs.append((vcpu, pcpu, 1))
    found = []
    for first, to, length in runs:
        if length < 3:
            # A range of two is no shorter than both.
            found += [f'{first + n}:{to + n}' for n in range(length)]
        else:
            found.append(f'{first}-{first + length - 1}:'
                         f'{to}-{to + length - 1}')
    return found


def format_threads(threads: Threads) -> str:
    return threads if isinstance(threads, str) else ','.join(
        map(str, threads))


def count_targets(targets: Sequence[Target]) -> int:
    return sum(
        len(t.ids()) if isinstance(t, Range)
        else len(t.vcpus.ids()) if isinstance(t, OfVcpus)
        else len(t.node.ids()) * len(t.core.ids()) * len(t.thread.ids())
        for t in targets)


class Unresolvable(ValueError):
    """An address that a host hasn't; the message says what it has."""


class Layout(Protocol):
    """Whoever can say which cores a node has."""

    def node_ids(self) -> Sequence[int]:
        """The host's nodes, ascending."""

    def cores_on(self, node_id: int) -> Sequence[Sequence[int]] | None:
        """The node's cores in counting order, or None for no such node."""


def resolve(targets: tuple[Target, ...], host: Layout,
            owned: Mapping[int, int] | None = None) -> list[int]:
    """pCPU ids of the targets on this host, in their order.

    An id is taken as it is, whether or not the host has it.

    :param owned: vCPU -> the pCPU that it owns; None: nothing is owned yet,
        and what vCPUs own is left out
    :raises Unresolvable: for a relative address that the host hasn't, or a
        vCPU that owns nothing
    """
    found: list[int] = []
    for target in targets:
        if isinstance(target, Range):
            found.extend(target.ids())
        elif isinstance(target, OfVcpus):
            if owned is not None:
                found.extend(_owned_by(target, owned))
        else:
            found.extend(_resolve_relative(target, host))
    return found


def _owned_by(target: OfVcpus, owned: Mapping[int, int]) -> Iterator[int]:
    for vcpu in target.vcpus.ids():
        if vcpu not in owned:
            raise Unresolvable(f'{target}: vCPU {vcpu} owns no pCPU')
        yield owned[vcpu]


def _resolve_relative(target: Relative, host: Layout) -> Iterator[int]:
    for node_id in target.node.ids():
        cores = host.cores_on(node_id)
        if cores is None:
            nodes = topology.format_cpu_list(host.node_ids())
            raise Unresolvable(f'{target}: the host has no node {node_id}, '
                               f'it has node(s) {nodes}')
        for index in target.core.ids():
            if index >= len(cores):
                raise Unresolvable(f'{target}: node {node_id} has '
                                   f'{len(cores)} core(s), counted from 0')
            for thread in target.thread.ids():
                if thread >= len(cores[index]):
                    raise Unresolvable(
                        f'{target}: core {index} of node {node_id} has '
                        f'{len(cores[index])} thread(s), counted from 0')
                yield cores[index][thread]
