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

"""Every error that the library raises, in one tree.

A message says what is wrong, where, and what would be right.
"""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses
from typing import Any


class KongmingError(Exception):
    """Base of the tree; ``msg_fmt`` is filled from the keyword arguments."""

    msg_fmt = 'An unknown error occurred.'

    def __init__(self, message: str | None = None, **kwargs: Any) -> None:
        self.kwargs = kwargs
        super().__init__(message or self.msg_fmt % kwargs)


@dataclasses.dataclass(frozen=True)
class Problem:
    """One thing wrong with a template.

    :ivar key: the whole key, as the flavor or the metadata holds it
    :ivar value: the whole value of that key
    :ivar column: where in the value it went wrong, counted from 1;
        0 where the value as a whole is meant
    :ivar reason: what is wrong, and what is allowed
    """

    key: str
    value: str
    column: int
    reason: str

    def __str__(self) -> str:
        where = f', column {self.column}' if self.column else ''
        return (f"{shown(self.key, 80)} = '{shown(self.value, 60)}'{where}: "
                f'{shown(self.reason, 400)}')


def shown(text: str, most: int) -> str:
    """Text from a tenant in at most so many characters."""
    text = printable(text)
    return text if len(text) <= most else text[:most - 3] + '...'


def printable(text: str) -> str:
    """Text that comes from a tenant, fit for a terminal and a log line."""
    return ''.join(
        c if c.isprintable() else c.encode('unicode_escape').decode('ascii')
        for c in text)


class InvalidTemplate(KongmingError):
    """A template that can't be obeyed as it is written.

    :ivar problems: all of them, in the order of the keys
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__('; '.join(str(p) for p in self.problems))


class NotApplicable(KongmingError):
    """A template that this domain, on this host, can't have.

    :ivar problems: all that is in the way
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__('; '.join(self.problems))


class CannotFollow(KongmingError):
    """A running server that can't become what its flavor says now."""

    msg_fmt = ('the flavor that it was booted with says %(keys)s, which '
               'metadata can not unset')


class InvalidTopology(KongmingError):
    """A host reports nodes and pCPUs that can't be so."""

    msg_fmt = 'The host topology makes no sense: %(reason)s'


class InvalidOption(KongmingError):
    """An option of nova.conf that is malformed."""

    msg_fmt = "%(option)s = '%(value)s': %(reason)s"


class CloudError(KongmingError):
    """Nova or Placement did not do what they were asked for."""


class Forbidden(CloudError):
    """The caller does not have the right to do that."""


class NotFound(CloudError):
    """There is no such thing in the cloud."""


class Invalid(CloudError):
    """What was asked for is malformed, or names what is not known."""


class Conflict(CloudError):
    """Somebody else changed it meanwhile, or it is in use.

    :ivar code: Placement's word for it, e.g. placement.concurrent_update
    """

    def __init__(self, message: str, code: str | None = None) -> None:
        self.code = code
        super().__init__(message)


class InUse(CloudError):
    """Something that can't be taken away while others have it."""


class HypervisorError(KongmingError):
    """libvirt does not answer, or refuses."""

    msg_fmt = "libvirt at %(uri)s: %(reason)s"


class NotVisible(KongmingError):
    """A domain whose process this user, or this machine, can't see."""

    msg_fmt = ("The threads of the domain %(name)s can't be seen: %(reason)s. "
               'Run it as root on the host itself.')


class InsufficientMemory(KongmingError):
    """A node has less free memory than is to go there."""


class CgroupError(KongmingError):
    """A vCPU's cgroup does not have, or does not take, a value."""


class ResctrlError(KongmingError):
    """The host's resctrl file system does not have, or take, a value."""


class NotMoved(KongmingError):
    """Memory that stayed where it was."""


class InvalidRecording(KongmingError):
    """A file of recorded figures that can't be read."""

    msg_fmt = 'Line %(line)s of the recorded figures: %(reason)s'


class MemoryUnknown(KongmingError):
    """A process in which the memory of a guest's cells is not to be told."""


class NoSolver(KongmingError):
    msg_fmt = ("OR-Tools is not there (%(reason)s): 'pip install ortools' in "
               'the environment of the openstack command installs it, or '
               'leave the choice of the solver open')


class IrqError(KongmingError):
    """An interrupt, or irqbalance, that does not do what it is asked for."""


class NotTraced(KongmingError):
    """The kernel can't be traced."""
