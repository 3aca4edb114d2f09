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


"""What is where inside the nested host, told by its kernel."""

import dataclasses
import re
import subprocess
import time

import libvirt_qemu

from tests.embedded import witness
from tests.nested import machine


@dataclasses.dataclass(frozen=True)
class Memory:
    """The pages of a guest's memory that exist.

    :ivar pages: node -> number of pages; a node without any is left out
    :ivar page_kib: size of such a page
    :ivar policy: the kernel's, ``default`` or ``bind:0``
    """

    pages: dict[int, int]
    page_kib: int
    policy: str

    @property
    def mib(self):
        """node -> MiB"""
        return {node: pages * self.page_kib / 1024
                for node, pages in self.pages.items()}


class Host:
    """The nested host that runs.

    :param of: tests.nested.machine.Machine, where that is another one
    """

    def __init__(self, folder=None, of=None):
        """
        :raises tests.nested.error.Problem: if it doesn't run and can't be
            started
        """
        self._machine = of or machine.Machine(folder)
        if not self._machine.running():
            self._machine.up(machine.Shape())
        running = self._machine.running()
        self.shape = machine.Shape(**running['shape'])
        self.uri = machine.uri(running['port'])
        #: A folder that is the same inside and outside.
        self.share = self._machine.share

    def shell(self, script):
        """Run a shell script inside and return what it writes.

        :raises subprocess.CalledProcessError: if its exit status isn't 0
        """
        return subprocess.run(
            self._machine.ssh('sh', '-s'), cwd=self._machine.folder,
            input=script, check=True, capture_output=True, text=True).stdout

    def ssh(self, *words):
        """The command that runs something inside; its cwd is our folder."""
        return self._machine.ssh(*words)

    @property
    def folder(self):
        """Where the command of :meth:`ssh` is to run."""
        return self._machine.folder

    def pid(self, domain_name):
        """The QEMU process of a domain, inside."""
        return int(self.shell(f'cat /run/libvirt/qemu/{domain_name}.pid'))

    def threads(self, domain_name):
        """As :func:`tests.embedded.witness.threads`."""
        return witness.threads(domain_name, self.shell)

    def memory(self, domain, cell_start=0):
        """Where the pages of a domain's memory are.

        :param domain: libvirt's, active
        :param cell_start: where the guest's cell begins in its memory, in
            bytes
        """
        # QEMU knows where a guest's address is in its own memory.
        said = libvirt_qemu.qemuMonitorCommand(
            domain, f'gpa2hva {cell_start:#x}',
            libvirt_qemu.VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP)
        address = int(re.search('is (0x[0-9a-f]+)', said)[1], 16)
        return parse_numa_maps(self.shell(
            f'cat /proc/{witness.pid_file(domain.name())}/numa_maps'),
            address)

    def wait_for_memory(self, domain, mib, seconds=60):
        """The domain's memory, once its guest has written to so much."""
        end = time.monotonic() + seconds
        while True:
            memory = self.memory(domain)
            if sum(memory.mib.values()) >= mib:
                return memory
            if time.monotonic() > end:
                raise AssertionError(f'{domain.name()} has {memory} and not '
                                     f'{mib} MiB after {seconds} s')
            time.sleep(0.2)

    def cgroup(self, domain_name, name, thread='CPU 0/'):
        """A file of the cgroup that a thread of a domain is in.

        :param name: such as ``cpuset.mems``; its controller comes first
        :param thread: what the thread's name begins with; ``qemu`` is the
            emulator's
        """
        controller = name.partition('.')[0]
        script = (
            f'cd /proc/{witness.pid_file(domain_name)}/task || exit\n'
            f'for task in *; do\n'
            f'    case $(cat $task/comm) in "{thread}"*) break;; esac\n'
            f'done\n')
        if self.shape.cgroup == 'v1':
            script += (
                f'path=$(sed -n "s/^[0-9]*:.*{controller}[^:]*://p" '
                f'$task/cgroup)\n'
                f'cat "/sys/fs/cgroup/{controller}$path/{name}"\n')
        else:
            script += (
                f'path=$(sed -n "s/^0:://p" $task/cgroup)\n'
                f'cat "/sys/fs/cgroup$path/{name}"\n')
        return self.shell(script).strip()


def parse_numa_maps(text, address):
    """The map of ``/proc/<pid>/numa_maps`` that an address is in.

    Its lines begin with the lowest address of a map.
    """
    line = max((line for line in text.splitlines()
                if int(line.split()[0], 16) <= address),
               key=lambda line: int(line.split()[0], 16))
    return Memory(
        {int(node): int(pages)
         for node, pages in re.findall(r' N([0-9]+)=([0-9]+)', line)},
        int(re.search(r' kernelpagesize_kB=([0-9]+)', line)[1]),
        line.split()[1])
