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

"""Recording what the vCPUs of this host's domains do, for 'kongming replay'.
"""

import contextlib
import dataclasses
import datetime
import socket
import time

from kongming.cli import survey
from kongming.kernel import process
from kongming.kernel import vcpu_times
from kongming.load import figures
from kongming.load import recording

#: Seconds after which domains that have come are looked for, and memory.
_LOOK_INTERVAL = 60.0


class Recorder:
    """Writes readings of domains that run here.

    Only with the rights of root it knows where their memory is.

    :param file: open for writing
    :raises kongming.exception.KongmingError: if something can't be seen
    """

    def __init__(self, args, file):
        self._args, self._file = args, file
        #: uuid -> domain.Domain, vcpu_times.Domain
        self._domains = {}
        #: uuid -> recording.Server, as it was written last
        self._written = {}
        self._looked = None
        self._write(recording.header(socket.gethostname()))

    def _write(self, line):
        self._file.write(f'{line}\n')

    def tick(self):
        """Write one reading of each domain."""
        now = time.monotonic()
        memory = self._looked is None or now - self._looked >= _LOOK_INTERVAL
        if memory:
            self._look()
            self._looked = now
        for uuid, (domain, times) in list(self._domains.items()):
            counters = times.read()
            if counters is None:
                continue  # it has ended, or is about to start
            if memory:
                counters = dataclasses.replace(
                    counters, remote=_remote(domain, times.pid))
            self._write(recording.dump(recording.Reading(
                uuid, datetime.datetime.now(datetime.timezone.utc),
                counters)))
        self._file.flush()

    def _look(self):
        found = survey.look(self._args)
        chosen = survey.choose(found.running, [self._args.name] if (
            self._args.name) else [])
        running = {each.domain.uuid: each.domain for each in chosen}
        for uuid in self._domains.keys() - running.keys():
            self._domains.pop(uuid)[1].close()
        for uuid, domain in running.items():
            times = self._domains.get(uuid, (None, None))[1]
            self._domains[uuid] = domain, times or vcpu_times.Domain(
                domain.name, uuid)
            server = recording.Server(
                uuid, domain.flavor.server if domain.flavor else domain.name,
                domain.flavor.specs if domain.flavor else {})
            if self._written.get(uuid) != server:
                self._written[uuid] = server
                self._write(recording.dump(server))


def _remote(domain, pid):
    """Memory on other nodes than it may be on, in per cent; None: not known.
    """
    if domain.nodes is None or pid is None:
        return None
    with contextlib.suppress(OSError):
        return figures.remote(
            [each.kib for each in process.ram(pid, min(domain.memory_kib))],
            domain.nodes)
    return None
