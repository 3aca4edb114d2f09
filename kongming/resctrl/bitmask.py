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
"""Rows of ways of a cache, as bits of a mask."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping


def runs(mask: int) -> Iterator[tuple[int, int]]:
    """(lowest bit, number) of each row of consecutive bits."""
    low = 0
    while mask:
        skip = (mask & -mask).bit_length() - 1
        mask >>= skip
        low += skip
        length = (~mask & mask + 1).bit_length() - 1
        yield low, length
        mask >>= length
        low += length


def longest(mask: int) -> int:
    return max((length for _low, length in runs(mask)), default=0)


def fit(free: int, ways: int) -> int:
    """As many consecutive ways in the shortest row; 0 if there is none."""
    found = min(((length, low) for low, length in runs(free)
                 if length >= ways), default=None)
    return 0 if found is None else ((1 << ways) - 1) << found[1]


def pack(free: int, sizes: Mapping[str, int]) -> dict[str, int]:
    """All anew, the largest first; nothing if that fails."""
    found = {}
    for name, ways in sorted(sizes.items(), key=lambda item: (-item[1],
                                                              item[0])):
        mask = fit(free, ways)
        if not mask:
            return {}
        found[name] = mask
        free &= ~mask
    return found
