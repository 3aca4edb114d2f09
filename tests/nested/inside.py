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

import shlex

from kongming.domain import domain as domain_mod
from kongming.host import topology
from kongming.kernel import cgroup
from kongming.kernel import process as process_mod
from kongming.live import witness
from tests.embedded import witness as told

CPU = '/sys/devices/system/cpu'
_TASKS = """\
cat /proc/self/mountinfo
echo ==
cd /proc/{process}/task || exit 1
for task in *; do
    echo "$task:$(cat $task/comm)"
    grep ^Cpus_allowed_list: $task/status
    cat $task/cgroup
    echo --
done
"""


class Inside:
    """What nova-compute reads of its kernel, read inside."""

    def __init__(self, shell):
        self.shell = shell

    def online(self):
        return topology.parse_cpu_list(self.shell(f'cat {CPU}/online'))

    def process_of(self, domain):
        return int(self.shell(
            f'echo {told.pid_file(domain.name())}').strip())

    def read(self, _reader, process, most=None):
        mounts, _end, tasks = self.shell(
            _TASKS.format(process=process)).partition('==\n')
        online, found = self.online(), []
        for text in tasks.split('--\n')[:-1]:
            first, allowed, groups = text.split('\n', 2)
            ident, _colon, name = first.partition(':')
            kind = process_mod.kind_of(name)
            if kind is None:
                continue
            folder = cgroup.folder_in(mounts, groups, 'cpuset')
            cpuset = None
            own = {domain_mod.VCPU: f'vcpu{kind[1]}',
                   domain_mod.EMULATOR: 'emulator'}[kind[0]]
            if folder is not None and folder.name == own:
                said = self.shell(f'cat {shlex.quote(str(folder))}'
                                  f'/cpuset.cpus').strip()
                cpuset = topology.parse_cpu_list(said) if said else None
            found.append(witness.Thread(
                *kind, int(ident), online & topology.parse_cpu_list(
                    allowed.partition(':')[2]), cpuset))
        return found

    def hold(self, process, places):
        for thread, pcpus in places.items():
            self.shell(f'taskset -pc {topology.format_cpu_list(pcpus)} '
                       f'{thread}')

    def set_online(self, pcpu, state):
        self.shell(f'echo {state} > {CPU}/cpu{pcpu}/online')

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
                ('cpus.online', self.online)):
            patch(f'kongming.kernel.{name}', function)
