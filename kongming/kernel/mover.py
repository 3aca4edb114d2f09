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

"""The memory of a running guest's cells moved to other nodes.

:mod:`kongming.memory.move` decides what comes next; here it is done, until all
is as it is to be or the time is up.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import threading
import time
from typing import Any
from typing import Protocol

from kongming import exception
from kongming.host import topology
from kongming.memory import estimate
from kongming.memory import maps
from kongming.memory import move
from kongming.memory import order
from kongming.memory import refusal

#: How long to leave the kernel before pages that stayed are tried again, in
#: seconds: at first, at most.
_PAUSE = 0.05, 5.0
#: How often the pages are counted that one call moves, in seconds.
_COUNT_EVERY = 5.0


class Kernel(Protocol):
    """The functions of :mod:`kongming.kernel.numa`, wherever they run."""

    def texts(self, pid: int) -> list[Any]:
        """See :func:`kongming.kernel.numa.texts`."""

    def in_the_way(self, pid: int) -> dict[str, Any]:
        """See :func:`kongming.kernel.numa.in_the_way`."""

    def set_mems(self, pid: int, nodes: list[int], only: str = '') -> None:
        """See :func:`kongming.kernel.numa.set_mems`."""

    def migrate_pages(self, pid: int, sources: list[int], node: int) -> int:
        """See :func:`kongming.kernel.numa.migrate_pages`."""

    def move_slice(self, pid: int, first: int, size_kib: int, page_kib: int,
                   node: int) -> list[int]:
        """See :func:`kongming.kernel.numa.move_slice`."""


class Mover:
    """The memory of one process.

    :param kernel: :mod:`kongming.kernel.numa`, or who asks it
    :param sizes_kib: of each cell of the guest
    :param slice_mib: how much is moved at once, MiB; 0: all that there is
    :param budget: how long to go on trying, seconds
    :param report: called with how far it is, in words
    :param pause: between two slices, as a part of the time that one took
    """

    def __init__(self, kernel: Kernel, pid: int, sizes_kib: Sequence[int],
                 slice_mib: int = 16, budget: float = 600.0,
                 report: Callable[[str], None] = lambda words: None,
                 pause: float = 0.25) -> None:
        self._kernel = kernel
        self._pid = pid
        self._sizes_kib = sizes_kib
        self._slice_kib = slice_mib * 1024
        self._budget = budget
        self._report = report
        self._pause = pause

    def look(self, nodes: Sequence[int]) -> move.Seen:
        """Where the memory of each cell is.

        :param nodes: of each cell, before or after the move
        :raises kongming.exception.MemoryUnknown: where that can't be told
        :raises OSError: if the process has ended
        """
        text, numa_maps, groups = self._kernel.texts(self._pid)
        return move.Seen(
            maps.cells_of(maps.parse(text, numa_maps), self._sizes_kib,
                          nodes),
            _nodes(groups))

    def check(self, before: Sequence[int],
              after: Sequence[int]) -> move.Seen:
        """Whether anything is in the way, by what the kernel knows.

        :returns: where the memory of each cell is
        :raises kongming.exception.NotMoved: naming it, and the remedy
        """
        seen = self.look(before)
        reasons = refusal.reasons(found(self._kernel.in_the_way(self._pid)),
                                  before, after)
        reasons += filter(None, [order.why_not(before, after)])
        if reasons:
            raise exception.NotMoved('; '.join(reasons))
        return seen

    def go(self, goal: Sequence[int]) -> move.Seen:
        """Have each cell on a node, from wherever it is.

        :returns: what is so then; see
            :func:`kongming.memory.move.stale_policies`
        :raises kongming.exception.NotMoved: if it can't be had in the time;
            where it was can be gone back to
        """
        deadline = time.monotonic() + self._budget
        rounds: dict[int, int] = {}
        pause, longest = _PAUSE
        is_bound = False
        while True:
            seen = self.look(goal)
            action = move.next_action(seen, goal, not self._slice_kib,
                                      rounds)
            if action is None:
                return seen
            if time.monotonic() > deadline:
                raise exception.NotMoved(
                    f'after {self._budget:g} s {move.left(seen, goal)}')
            if is_bound:
                # Pages that stay are busy; they are given time.
                time.sleep(pause)
                pause = min(2 * pause, longest)
            self._do(action, seen, deadline)
            if isinstance(action, move.Bind):
                is_bound = True
            elif isinstance(action, (move.Sweep, move.Migrate)):
                rounds[action.cell] = rounds.get(action.cell, 0) + 1

    def _do(self, action: move.Action, seen: move.Seen,
            deadline: float) -> None:
        if isinstance(action, move.Widen):
            self._kernel.set_mems(self._pid, sorted(action.nodes),
                                  move.EMULATOR)
        elif isinstance(action, move.Bind):
            self._kernel.set_mems(self._pid, sorted(action.nodes))
        elif isinstance(action, move.Migrate):
            with self._counting(action, seen):
                self._kernel.migrate_pages(self._pid, sorted(action.sources),
                                           action.node)
        else:
            self._sweep(action, seen.cells[action.cell], deadline)

    def _sweep(self, action: move.Sweep, cell: maps.Mapping,
               deadline: float) -> None:
        begin = time.monotonic()
        total, moved, there = cell.present_kib, 0, cell.kib.get(action.node, 0)
        size = max(self._slice_kib or 16 * 1024, cell.page_kib)
        # A slice holds whole pages.
        size -= size % cell.page_kib
        for offset in range(0, cell.size_kib, size):
            since = time.monotonic()
            if since > deadline:
                return
            arrived, _anywhere = self._kernel.move_slice(
                self._pid, cell.first + offset * 1024,
                min(size, cell.size_kib - offset), cell.page_kib,
                action.node)
            moved += arrived
            if arrived:
                self._report(estimate.words(
                    action.cell, action.node, max(moved, there), max(
                        total, moved), cell.page_kib,
                    time.monotonic() - begin))
                time.sleep(self._pause * (time.monotonic() - since))

    @contextlib.contextmanager
    def _counting(self, action: move.Migrate, seen: move.Seen) -> Any:
        """Tell how far it is while one call moves all."""
        done = threading.Event()
        thread = threading.Thread(target=self._count, daemon=True,
                                  args=(action, seen, done))
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _count(self, action: move.Migrate, seen: move.Seen,
               done: threading.Event) -> None:
        begin = time.monotonic()
        first = seen.cells[action.cell].first
        while not done.wait(_COUNT_EVERY):
            try:
                text, numa_maps, _groups = self._kernel.texts(self._pid)
            except OSError:
                return
            for cell in maps.parse(text, numa_maps):
                if cell.first == first:
                    self._report(estimate.words(
                        action.cell, action.node,
                        cell.kib.get(action.node, 0), cell.present_kib,
                        cell.page_kib, time.monotonic() - begin))


def found(said: Mapping[str, Any]) -> refusal.Found:
    """:param said: by :func:`kongming.kernel.numa.in_the_way`"""
    return refusal.Found(
        tuple(said['devices']), said['pinned_kib'],
        said['realtime_is_unlimited'], tuple(said['spinning']),
        topology.parse_cpu_list(said['nodes']), _nodes(said['groups']))


def _nodes(groups: Mapping[str, str]) -> dict[str, frozenset[int]]:
    return {name: topology.parse_cpu_list(mems) if mems else frozenset()
            for name, mems in groups.items()}


def moved_kib(before: move.Seen, goal: Sequence[int]) -> int:
    """What is to go to another node."""
    return sum(cell.elsewhere_kib(node)
               for cell, node in zip(before.cells, goal))
