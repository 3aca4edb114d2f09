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

"""Which servers of a host have a template, counted as they come and go.

A host without one has nothing to do: nobody is asked for a list of servers,
whatever native servers do.  Servers come by way of the driver
(:meth:`Present.arrives`); that they have gone is seen by a pass, which lists
them.
"""

import threading
import time

#: How long a server that has come is waited for, in seconds: a boot may go on
#: for long before Nova lists it, a live migration likewise.
ARRIVAL = 3600.0


class Present:
    """The servers with a template of one nova-compute."""

    def __init__(self):
        self._lock = threading.Lock()
        #: as they were listed last; None: never
        self._listed: frozenset[str] | None = None
        #: server -> when it came, by the monotonic clock
        self._arrived: dict[str, float] = {}

    def __bool__(self):
        """Whether there are any, as far as is known."""
        return self._listed is None or bool(self._listed or self._arrived)

    def __contains__(self, server):
        return (self._listed is None or server in self._listed
                or server in self._arrived)

    @property
    def is_known(self):
        """Whether they were listed, so that all others have none."""
        return self._listed is not None

    def arrives(self, server):
        """A server is about to be here.

        :param server: its uuid
        """
        with self._lock:
            self._arrived[server] = time.monotonic()

    def listed(self, servers):
        """All that Nova has on this host by now.

        :param servers: uuids
        """
        since = time.monotonic() - ARRIVAL
        with self._lock:
            self._listed = frozenset(servers)
            self._arrived = {
                server: moment for server, moment in self._arrived.items()
                if server not in self._listed and moment > since}
