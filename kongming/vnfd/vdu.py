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
"""What a VNF descriptor says of pinning, threads, NUMA and pages of a VDU.

Three kinds of descriptors are read: TOSCA (ETSI NFV-SOL 001, and what ONAP
writes into it), OSM's (SOL 006 and the older ``guest-epa``), and ONAP's
policies of hardware platform features.  What they say in general words goes
to a flavor as Nova's extra specs, what they say of single pCPUs as a template.
What neither can say is named.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
from typing import Any

from kongming import exception
from kongming.template import template as template_mod

_MAP = Mapping[str, Any]
#: What goes on with a colon and a number for a guest NUMA cell.
POLICY, THREADS, PAGES, NODES = (
    'hw:cpu_policy', 'hw:cpu_thread_policy', 'hw:mem_page_size',
    'hw:numa_nodes')


@dataclasses.dataclass
class Vdu:
    """What is said of one VDU.

    :ivar specs: extra specs of Nova
    :ivar keys: flat keys of a template
    :ivar lost: what can't be carried over: place, value, why
    :ivar vcpus: how many; None where it does not say
    :ivar ram_mib: memory in MiB; the same
    :ivar dynamic: whether its pins are expressly left to Nova
    """

    specs: dict[str, str] = dataclasses.field(default_factory=dict)
    keys: dict[str, str] = dataclasses.field(default_factory=dict)
    lost: list[exception.Problem] = dataclasses.field(default_factory=list)
    vcpus: int | None = None
    ram_mib: int | None = None
    dynamic: bool = False
    _places: dict[str, str] = dataclasses.field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.specs or self.keys or self.lost or self.dynamic)

    def template(self) -> template_mod.Template:
        """
        :raises kongming.exception.InvalidTemplate: where its keys are wrong
        """
        return template_mod.decode(self.keys)

    def set(self, key: str, value: str, where: str) -> None:
        """Put an extra spec.

        :raises kongming.exception.InvalidTemplate: if another place of the
            descriptor says something else
        """
        if self.specs.get(key, value) != value:
            raise refused(where, value,
                          f"{self._places[key]} says otherwise: {key} can "
                          f"not be both '{self.specs[key]}' and '{value}'")
        self.specs[key] = value
        self._places[key] = where

    def lose(self, where: str, value: Any, reason: str) -> None:
        """Note what is not carried over."""
        self.lost.append(exception.Problem(where, shown(value), 0, reason))

    def choose(self, key: str, value: Any, where: str,
               words: Mapping[str, str | None], lost: str) -> None:
        """Put an extra spec whose value is one of some words.

        :param words: theirs, in capitals -> Nova's; None where Nova has none
        :param lost: why those are not carried over
        :raises kongming.exception.InvalidTemplate: for another word
        """
        if isinstance(value, (Mapping, list)) or (
                str(value).upper() not in words):
            raise refused(where, value,
                          f'it must be one of {", ".join(words)}')
        nova = words[str(value).upper()]
        if nova is None:
            self.lose(where, value, lost)
        elif nova:
            self.set(key, nova, where)


#: What is said, or what is wrong with it.
Read = Vdu | exception.InvalidTemplate


def attempt(read: Callable[[Vdu], None]) -> Read:
    """Read a VDU; what is wrong with it matters only where it is chosen."""
    found = Vdu()
    try:
        read(found)
    except exception.InvalidTemplate as exc:
        return exc
    return found


#: Words of a policy of threads; OSM's and ONAP's are Nova's, and some more.
THREAD_WORDS = {'PREFER': 'prefer', 'REQUIRE': 'require',
                'ISOLATE': 'isolate', 'AVOID': None, 'SEPARATE': None}
NO_THREADS = ('Nova has prefer, require and isolate; of these isolate is '
              'nearest')


def down(value: Any, *keys: str) -> Any:
    """What lies below some keys; None where there is nothing."""
    for key in keys:
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value


def entries(value: Any) -> list[_MAP]:
    """The mappings in a list, or the one that stands for it."""
    found = value if isinstance(value, list) else [value]
    return [entry for entry in found if isinstance(entry, Mapping)]


def number(value: Any, where: str) -> int:
    """A count, as a number or as text.

    :raises kongming.exception.InvalidTemplate: if it is none
    """
    text = '' if isinstance(value, bool) else str(value).strip()
    if not text.isascii() or not text.isdecimal() or len(text) > 9:
        raise refused(where, value, 'it must be a whole number')
    return int(text)


def shown(value: Any) -> str:
    """A value as a message has it."""
    if value is None or isinstance(value, bool):
        return 'null' if value is None else str(value).lower()
    return '...' if isinstance(value, (Mapping, list)) else str(value)


def refused(where: str, value: Any,
            reason: str) -> exception.InvalidTemplate:
    return exception.InvalidTemplate(
        [exception.Problem(where, shown(value), 0, reason)])
