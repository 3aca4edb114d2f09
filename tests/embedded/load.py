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

"""What the vCPUs of guests did, from a table, and a clock that goes with it.

Domains of Nova's simulated libvirt have no process that the kernel could tell
of.
"""

import dataclasses
import time

import fixtures

from kongming.load import figures

_SECOND = 10 ** 9


@dataclasses.dataclass
class Guest:
    """What the vCPUs of a server do.

    :ivar use: per cent of the time in which they run
    :ivar wait: and wait for a pCPU
    :ivar start: when its process began
    :ivar is_read: whether it can be read
    """

    vcpus: int = 4
    use: float = 50.0
    wait: float = 0.0
    run_ns: int = 0
    wait_ns: int = 0
    start: int = 1
    is_read: bool = True


class Load(fixtures.Fixture):
    """Of all hosts; nothing is read by itself.

    :ivar guests: server -> Guest
    :ivar clock: seconds
    :ivar pids: server -> its process, where it has one
    :ivar pcpus: pCPU -> per cent of the time in which threads run there, and
        wait
    """

    def _setUp(self):
        self.clock = 1000.0
        self.guests = {}
        self.pcpus, self.pids = {}, {}
        self._times = {}
        load = self

        class Domain:
            def __init__(self, _name, server):
                self.server = server
                self.guest = load.guests.setdefault(server, Guest())

            @property
            def pid(self):
                return load.pids.get(self.server)

            def read(self):
                guest = self.guest
                return figures.Counters(
                    load.clock, dict.fromkeys(
                        range(guest.vcpus),
                        figures.Times(guest.run_ns, guest.wait_ns)),
                    guest.start) if guest.is_read else None

            def close(self):
                self.guest = None

        for where, what in (
                ('kongming.kernel.vcpu_times.Domain', Domain),
                ('kongming.kernel.vcpu_times.pcpus', self._read_pcpus),
                ('nova_ext.live.load.clock', lambda: self.clock),
                ('nova_ext.live.load.Load._begin', lambda _load: None)):
            self.useFixture(fixtures.MonkeyPatch(where, what))

    def _read_pcpus(self, wanted):
        return {pcpu: figures.Times(*self._times.get(pcpu, (0, 0)))
                for pcpu in wanted}

    def live(self, seconds, read, step=5.0):
        """Time goes on.

        :param read: called after each step
        """
        end = self.clock + seconds
        while self.clock < end - .001:
            took = min(step, end - self.clock)
            self.clock += took
            for guest in self.guests.values():
                guest.run_ns += round(took * guest.use / 100 * _SECOND)
                guest.wait_ns += round(took * guest.wait / 100 * _SECOND)
            for pcpu, parts in self.pcpus.items():
                self._times[pcpu] = tuple(
                    before + round(took * share / 100 * _SECOND)
                    for before, share in zip(
                        self._times.get(pcpu, (0, 0)), parts))
            read()


class Idle(fixtures.Fixture):
    """All guests are idle, and what reads their load has time that flies."""

    SPEED = 40

    @classmethod
    def clock(cls):
        return time.monotonic() * cls.SPEED

    def _setUp(self):
        clock = self.clock

        class Domain:
            pid = None

            def __init__(self, _name, _server):
                pass

            def read(self):
                now = clock()
                return figures.Counters(now, {
                    vcpu: figures.Times(round(now * .03 * _SECOND), 0)
                    for vcpu in (0, 1)}, 1)

            def close(self):
                pass

        for where, what in (
                ('kongming.kernel.vcpu_times.Domain', Domain),
                ('nova_ext.live.load.clock', clock),
                # On a busy machine a reading may be late.
                ('kongming.load.decision.GAP', 1e6),
                ('nova_ext.live.load.INTERVAL', 10 / self.SPEED)):
            self.useFixture(fixtures.MonkeyPatch(where, what))
