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

"""How far a move of memory is, and when it ends, in words."""

from __future__ import annotations


def words(cell: int, node: int, moved_kib: int, size_kib: int,
          page_kib: int, seconds: float) -> str:
    """Pages, and the time that is left if it goes on as it went.

    :param moved_kib: of the cell, to the node
    :param size_kib: of all of the cell that exists
    :param seconds: since it began
    """
    text = (f'cell {cell}: {moved_kib // page_kib} of '
            f'{size_kib // page_kib} pages of {page_kib} KiB are on node '
            f'{node}')
    if moved_kib <= 0 or seconds <= 0:
        return text
    left = (size_kib - moved_kib) * seconds / moved_kib
    return f'{text}, about {left:.0f} s left'
