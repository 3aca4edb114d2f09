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
"""The kernel of the nested host, for a nova-compute that runs outside.

What nova-compute reads of its own machine is read by a process inside.
"""

from kongming.domain import domain as domain_mod
from kongming.host import stale
from kongming.live import threads
from kongming.live import witness
from tests.nested import kernel

CPU = '/sys/devices/system/cpu'


def _pcpus(found):
    return None if found is None else frozenset(found)


class Inside:
    """What nova-compute reads of its kernel, read inside.

    :param host: tests.nested.host.Host
    """

    def __init__(self, host):
        self._host = host
        self._kernel = kernel.Kernel(host)
        #: what was read last, as nobody else changes it
        self._online = None

    def close(self):
        self._kernel.close()

    def online(self, fresh=False):
        if self._online is None or fresh:
            self._online = frozenset(self._kernel.online())
        return self._online

    def process_of(self, domain):
        return self._kernel.pid_of(domain.name(), domain.UUIDString())

    def read(self, _reader, process, most=None):
        return [witness.Thread(kind, number, ident, _pcpus(allowed),
                               _pcpus(cpuset))
                for kind, number, ident, allowed, cpuset
                in self._kernel.read_threads(process, most)]

    def hold(self, process, places):
        self._kernel.hold(process, [[thread, sorted(pcpus)] for
                                    thread, pcpus in places.items()])

    def set_online(self, pcpu, state):
        if (pcpu in self.online()) != bool(state):
            self._online = None
            self._host.shell(f'echo {state} > {CPU}/cpu{pcpu}/online')

    def read_cpus(self):
        online, nodes, siblings = self._kernel.read_cpus()
        return stale.Cpus(frozenset(online), *(
            {number: frozenset(pcpus) for number, pcpus in found}
            for found in (nodes, siblings)))

    def tasks(self, process):
        return [domain_mod.Task(*named, frozenset(allowed), last,
                                threads.Sched(*sched))
                for *named, allowed, last, sched
                in self._kernel.tasks(process)]

    def schedulers(self, process):
        return {vcpu: threads.Sched(*sched)
                for vcpu, sched in self._kernel.schedulers(process)}

    def put_processes(self, patch):
        """Have its domains' processes be those that are seen.

        For what only reads of them: what is written is written outside.
        """
        for name, function in (
                ('pid_of', self._kernel.pid_of), ('tasks', self.tasks),
                ('schedulers', self.schedulers)):
            patch(f'kongming.kernel.process.{name}', function)

    def put(self, patch):
        """Have kongming.kernel read inside.

        :param patch: called with the name of what is replaced and by what
        """
        for name, function in (
                ('affinity.process_of', self.process_of),
                ('affinity.Reader.read', lambda reader, *args: self.read(
                    reader, *args)),
                ('affinity.may_hold', lambda _process: ''),
                ('affinity.hold', self.hold),
                ('cpuset.lacking', lambda pcpus: self._kernel.lacking(
                    sorted(pcpus))),
                ('cpuset.reclaim_cpus', self._kernel.reclaim_cpus),
                ('cpus.online', self.online),
                ('cpus.read', self.read_cpus)):
            patch(f'kongming.kernel.{name}', function)
