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

"""How many live changes a host makes in a minute, shared among projects.

A change costs calls of libvirt, rows of the database and memory bandwidth,
which all servers of the host share.  The host has a budget of so many changed
servers in any minute.  When more want to change, those of the project that
has had the least in this minute come first, so that one project that changes
many servers does not have the others wait behind all of them.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence

#: Seconds for which what was used counts.
WINDOW = 60.0
#: Servers that change together, with their projects.
Group = Mapping[str, str]


class Budget:
    """What a host has used in the last minute."""

    def __init__(self) -> None:
        #: (when, project), the oldest first
        self._used: collections.deque[tuple[float, str]] = (
            collections.deque())

    def admit(self, groups: Sequence[Group], limit: int, now: float,
              most: int | None = None) -> list[Group]:
        """Those that may change now; their use is counted.

        A group changes as a whole.  One that is larger than the budget may
        change when nothing else was used of it.

        :param groups: server -> its project, of each
        :param limit: servers in a minute; 0: no limit
        :param now: seconds on any clock that never goes back
        :param most: how many groups can begin now; None: all
        """
        most = len(groups) if most is None else most
        while self._used and self._used[0][0] <= now - WINDOW:
            self._used.popleft()
        if not limit:
            return list(groups[:most])
        used = collections.Counter(project for _when, project in self._used)
        waiting = list(groups)
        admitted: list[Group] = []
        while waiting and len(admitted) < most:
            # The first one in the order of those who ask where all have had
            # the same.
            group = min(waiting, key=lambda each: max(
                used[project] for project in each.values()))
            waiting.remove(group)
            if used.total() and used.total() + len(group) > limit:
                continue
            admitted.append(group)
            used.update(group.values())
            self._used.extend((now, project) for project in group.values())
        return admitted

    def restore(self, used: Iterable[tuple[float, str]]) -> None:
        """Count what another process has used of it.

        :param used: (when, project), in any order, on the clock of
            :meth:`admit`
        """
        self._used = collections.deque(sorted([*used, *self._used]))

    def wait(self, now: float) -> float:
        """Seconds until a part of what was used counts no more."""
        return max(0.0, self._used[0][0] + WINDOW - now) if (
            self._used) else 0.0
