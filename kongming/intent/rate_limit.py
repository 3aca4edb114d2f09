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

"""How often the desired state of a server may change.

Metadata can be written ten times a second by a tenant's loop; each change
would cost libvirt calls, database rows and log lines.  A server has a token
bucket, and each change of its desired state (what its metadata say) takes a
token.  Without a token the former state holds, until there is one for what is
desired then; what came in between is never seen.

All that is stored of a bucket is when it will be full again, which is the
generic cell rate algorithm (ITU-T I.371) with one number a server.
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Iterable
import dataclasses
from typing import Generic
from typing import TypeVar

#: Tokens in a full bucket.
BURST = 10
#: For what is lost when moments are added up.
_EPSILON = 1e-6

Desired = TypeVar('Desired')


@dataclasses.dataclass
class _Bucket(Generic[Desired]):
    """
    :ivar desired: the one that holds
    :ivar full_at: when all tokens will be there again
    :ivar waiting: whether another desired state has no token yet
    :ivar reported: whether it was reported that changes wait, since the bucket
        was full
    """

    desired: Desired
    full_at: float
    waiting: bool = False
    reported: bool = False


class RateLimiter(Generic[Desired]):
    """The buckets of a host's servers."""

    def __init__(self) -> None:
        self._buckets: dict[str, _Bucket[Desired]] = {}

    def admit(self, server: str, desired: Desired, now: float,
              interval: float) -> tuple[Desired, bool]:
        """The desired state that holds for a server now.

        The first one of a server is free.

        :param now: seconds on any clock that never goes back
        :param interval: seconds until there is another token; 0: no limit
        :returns: this state or the former one, and whether to report that
            this one waits: once until the bucket is full again
        """
        bucket = self._buckets.get(server)
        if bucket is None:
            self._buckets[server] = _Bucket(desired, now)
            return desired, False
        bucket.waiting = False
        if desired == bucket.desired:
            return bucket.desired, False
        if bucket.full_at <= now:
            bucket.reported = False
        full_at = max(bucket.full_at, now) + interval
        if full_at - now > BURST * interval + _EPSILON:
            bucket.waiting = True
            news, bucket.reported = not bucket.reported, True
            return bucket.desired, news
        bucket.desired, bucket.full_at = desired, full_at
        return desired, False

    def changed(self, server: str, desired: Desired) -> bool:
        """Whether a desired state is to take a token."""
        bucket = self._buckets.get(server)
        return bucket is not None and desired != bucket.desired

    def restore(self, server: str, moments: Iterable[float],
                interval: float) -> None:
        """Take the tokens of changes that were admitted elsewhere before.

        :param moments: when, on the clock of :meth:`admit`, oldest first
        """
        full_at = float('-inf')
        for moment in moments:
            full_at = max(full_at, moment) + interval
        bucket = self._buckets[server]
        bucket.full_at = max(bucket.full_at, full_at)

    def waiting(self) -> bool:
        """Whether a desired state waits for a token."""
        return any(bucket.waiting for bucket in self._buckets.values())

    def retain(self, servers: Collection[str]) -> None:
        """Forget all servers but these."""
        for server in self._buckets.keys() - servers:
            del self._buckets[server]
