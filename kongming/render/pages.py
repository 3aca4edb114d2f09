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

"""Pages of a node in words, of whatever sizes its host has them."""

from __future__ import annotations

from collections.abc import Iterator

from kongming.host import topology
from kongming.host import usage


def words(node: usage.NodeState) -> Iterator[str]:
    """The size of small pages where it is not the usual one, and huge pages.

    Huge pages are of 64 KiB to 16 GiB: those of ARM, POWER and s390x, too.
    """
    small = node.small_page_kib
    if small != topology.SMALL_PAGE_KIB:
        yield f'small pages of {size(small)}'
    for pages in sorted(node.pages):
        if pages.size_kib > small and pages.total:
            yield (f'{pages.free} of {pages.total} pages of '
                   f'{size(pages.size_kib)} free')


def size(kib: int) -> str:
    """A page size in the largest unit that it is a whole number of."""
    for unit, scale in (('GiB', 1024 ** 2), ('MiB', 1024)):
        if kib % scale == 0:
            return f'{kib // scale} {unit}'
    return f'{kib} KiB'
