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

What nova-compute reads of its own machine is read by a shell inside.
"""

from kongming.domain import domain as domain_mod
from kongming.host import stale
from kongming.host import topology
from kongming.kernel import process as process_mod
from kongming.live import witness
from tests.embedded import witness as embedded

CPU = '/sys/devices/system/cpu'
#: Of each thread its id, name and affinity, then its cpuset: name, pCPUs.
_TASKS = """\
cd /proc/{process}/task || exit 1
for task in *; do
    group=$(sed -n 's/^0:://p' $task/cgroup)
    if [ -d /sys/fs/cgroup/cpuset ]; then
        group=/cpuset$(sed -n 's/^[0-9]*:cpuset://p' $task/cgroup)
    fi
    echo "$task:$(cat $task/comm)"
    grep ^Cpus_allowed_list: $task/status
    echo "$group"
    cat "/sys/fs/cgroup$group/cpuset.cpus"
    echo --
done
"""


class Inside:
    """What nova-compute reads of its kernel, read inside.

    :param shell: runs a shell script inside; slow where others work
    """

    def __init__(self, shell):
        self.shell = shell
        #: what was read last, as nobody else changes it
        self._online = None

    def online(self, fresh=False):
        if self._online is None or fresh:
            self._online = topology.parse_cpu_list(
                self.shell(f'cat {CPU}/online'))
        return self._online

    def process_of(self, domain):
        return int(self.shell(
            f'echo {embedded.pid_file(domain.name())}').strip())

    def read(self, _reader, process, most=None):
        online, found = self.online(), []
        for text in self.shell(_TASKS.format(process=process)).split(
                '--\n')[:-1]:
            first, allowed, group, said = text.split('\n', 3)
            ident, _colon, name = first.partition(':')
            kind = process_mod.kind_of(name)
            if kind is None:
                continue
            own = {domain_mod.VCPU: f'vcpu{kind[1]}',
                   domain_mod.IOTHREAD: f'iothread{kind[1]}',
                   domain_mod.EMULATOR: 'emulator'}[kind[0]]
            cpuset = None
            if group.rpartition('/')[2] == own and said.strip():
                cpuset = topology.parse_cpu_list(said)
            found.append(witness.Thread(
                *kind, int(ident), online & topology.parse_cpu_list(
                    allowed.partition(':')[2]), cpuset))
        return found

    def hold(self, process, places):
        for thread, pcpus in places.items():
            self.shell(f'taskset -pc {topology.format_cpu_list(pcpus)} '
                       f'{thread}')

    def set_online(self, pcpu, state):
        if (pcpu in self.online()) != bool(state):
            self._online = None
            self.shell(f'echo {state} > {CPU}/cpu{pcpu}/online')

    def read_cpus(self):
        said = self.shell(
            'cd /sys/devices/system\n'
            'echo cpu/online $(cat cpu/online)\n'
            'for each in node/node*/cpu[0-9]*; do echo $each -; done\n'
            'cd cpu && for each in cpu*/topology/thread_siblings_list; do '
            'echo $each $(cat $each); done')
        nodes, siblings, online = {}, {}, frozenset()
        for path, value in map(str.split, said.splitlines()):
            parts = path.split('/')
            if parts[0] == 'node':
                nodes.setdefault(int(parts[1][4:]), set()).add(
                    int(parts[2][3:]))
            elif parts[0] == 'cpu':
                online = topology.parse_cpu_list(value)
            else:
                siblings[int(parts[0][3:])] = topology.parse_cpu_list(value)
        return stale.Cpus(online, {
            node: frozenset(pcpus) for node, pcpus in nodes.items()},
            siblings)

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
                ('cpus.online', self.online),
                ('cpus.read', self.read_cpus)):
            patch(f'kongming.kernel.{name}', function)
