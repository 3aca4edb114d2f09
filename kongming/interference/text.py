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

"""Reports for people and for programs.

Names of threads, devices and domains may hold anything; everything that is
printed is printable.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

from kongming import exception
from kongming.interference import disturbance
from kongming.interference import report as report_mod

_NAME = 40
#: What stands where microseconds are not known.
NOT_MEASURED = 'not measured'
HEADINGS = ('pcpu', 'owner', 'use', 'wait', 'switched out', 'disturbed')


def report(found: report_mod.Report, background: bool = False) -> str:
    """An interval in lines.

    :param background: whether to show what is only that
    """
    lines = [f'{found.seconds:.1f} s', '']
    lines += table(HEADINGS, owned(found))
    lines.append('')
    if found.disturbances:
        lines += _entries(found.disturbances)
    else:
        lines.append('Nobody else was on these pCPUs.')
    if background and found.background:
        lines += ['', 'Background:', *_entries(found.background)]
    elif found.background:
        lines += ['', f'{len(found.background)} kinds of background (ticks, '
                      f"the pCPUs' own kernel threads); --background shows "
                      f'them.']
    if found.not_traced:
        lines += ['', f'Times of interrupts are not measured: '
                      f'{exception.printable(found.not_traced)}']
    if found.lost:
        lines += ['', f'The trace has lost {found.lost} events; its times '
                      f'are too small.']
    return '\n'.join(lines)


def owned(found: report_mod.Report) -> Iterator[tuple[str, ...]]:
    """A row for each pCPU that has an owner, as :data:`HEADINGS`."""
    for each in found.owned:
        times, switches = each.times, each.switches
        yield (
            str(each.pcpu), name(f'{each.owner.domain} {each.owner.thread}'),
            '-' if times is None else _share(times.run_ns, found.seconds),
            '-' if times is None else _share(times.wait_ns, found.seconds),
            '-' if switches is None else str(switches.involuntary),
            str(report_mod.totals(found.disturbances, each.pcpu)))


def _share(nanoseconds: int, seconds: float) -> str:
    share = nanoseconds / 1e9 / seconds if seconds else 0
    return f'{share:.2%}'


def _entries(entries: Sequence[report_mod.Entry]) -> list[str]:
    rows = [entry_row(entry.disturbance) for entry in entries]
    lines = table(('pcpu', 'kind', 'name', 'count', 'us'), rows)
    remedies = [entry.remedy for entry in entries]
    width = max(map(len, lines))
    return [f'{line:{width}}  {last}' for line, last in zip(
        lines, ['what would remove it', *remedies])]


def entry_row(found: disturbance.Disturbance) -> tuple[str, ...]:
    """pCPU, kind, name, count, microseconds."""
    key = found.key
    shown = name(key.name)
    if key.number and key.kind != disturbance.DOMAIN:
        shown += (f' (IRQ {key.number})' if key.kind == disturbance.INTERRUPT
                  else f' ({key.number})')
    return (str(key.pcpu), key.kind, shown,
            str(found.count) if found.exact else f'<= {found.count}',
            NOT_MEASURED if found.us is None else f'{found.us:.0f}')


def name(text: str) -> str:
    return exception.shown(text, _NAME)


def table(headings: Sequence[str],
          rows: Iterable[Sequence[str]]) -> list[str]:
    """Columns that are as wide as what is in them."""
    every = [tuple(headings), *map(tuple, rows)]
    widths = [max(len(row[at]) for row in every)
              for at in range(len(headings))]
    return ['  '.join(word.ljust(width) for word, width in zip(
        row, widths)).rstrip() for row in every]


def document(found: report_mod.Report) -> dict[str, Any]:
    """The same for programs: of JSON's types; times in microseconds."""
    return {
        'seconds': round(found.seconds, 3),
        'traced': not found.not_traced,
        'not_traced': found.not_traced or None,
        'lost_events': found.lost,
        'owned': [{
            'pcpu': each.pcpu, 'domain': each.owner.domain,
            'thread': each.owner.thread,
            'run_us': None if each.times is None
            else each.times.run_ns / 1000,
            'wait_us': None if each.times is None
            else each.times.wait_ns / 1000,
            'runs': None if each.times is None else each.times.runs,
            'voluntary_switches': None if each.switches is None
            else each.switches.voluntary,
            'involuntary_switches': None if each.switches is None
            else each.switches.involuntary} for each in found.owned],
        'disturbances': [_entry(entry) for entry in found.disturbances],
        'background': [_entry(entry) for entry in found.background]}


def _entry(entry: report_mod.Entry) -> dict[str, Any]:
    found = entry.disturbance
    return {
        'kind': found.key.kind, 'name': exception.printable(found.key.name),
        'pid': found.key.number if found.key.number and found.key.kind in (
            disturbance.THREAD, disturbance.KERNEL, disturbance.DOMAIN)
        else None,
        'irq': found.key.number if found.key.kind == disturbance.INTERRUPT
        else None,
        'pcpu': found.key.pcpu, 'domain': found.owner.domain,
        'thread': found.owner.thread, 'count': found.count,
        'exact': found.exact, 'us': found.us, 'measured_by': found.source,
        'remedy': entry.remedy}
