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

"""What would remove a disturbance, as a command or a setting."""

from __future__ import annotations

from collections.abc import Mapping
import shlex

from kongming import exception
from kongming.host import topology
from kongming.interference import disturbance
from kongming.interference import irq as irq_mod
from kongming.interference import parse
from kongming.interference import snapshot


def remedy(found: disturbance.Disturbance, owned: frozenset[int],
           settings: snapshot.Settings,
           irqs: Mapping[int, irq_mod.Irq],
           units: Mapping[int, str]) -> str:
    """In one line.

    :param owned: pCPUs of the host that have an owner
    :param irqs: number -> interrupt
    :param units: pid -> the unit of systemd that a process is of
    """
    free = settings.online - owned
    others = topology.format_cpu_list(free)
    key = found.key
    if not free and key.kind not in (disturbance.CPU, disturbance.STOLEN):
        return 'none: every pCPU of this host has an owner'
    if key.kind == disturbance.THREAD:
        unit = units.get(key.number, '')
        if unit.endswith('.service'):
            return (f'systemctl set-property '
                    f'{shlex.quote(exception.printable(unit))} '
                    f'AllowedCPUs={others}')
        if not key.number:
            return (f'it lives for a moment: give whoever starts it '
                    f'AllowedCPUs={others} (systemd) or such a cpuset')
        return f'taskset -apc {others} {key.number}'
    if key.kind == disturbance.DOMAIN:
        if ' kvm-' in key.name or key.name.endswith(' vhost'):
            return f'taskset -pc {others} $(pgrep {_pattern(key)})'
        if key.name.endswith('emulator'):
            return ('pin the emulator of that domain elsewhere: '
                    'kongming:emulator in its flavor, or virsh emulatorpin')
        return ("pin that domain's thread elsewhere: kongming:pin or "
                'kongming:iothread in its flavor, or virsh vcpupin')
    if key.kind == disturbance.KERNEL:
        return _kernel(found, settings, free, others)
    if key.kind == disturbance.INTERRUPT:
        return _interrupt(key.number, others, irqs.get(key.number))
    if key.kind == disturbance.CPU:
        return ('it follows what runs and comes there; nohz_full='
                f'{topology.format_cpu_list(owned)} on the command line of '
                'the kernel takes most of the ticks')
    if key.kind == disturbance.STOLEN:
        return 'pin this virtual machine on the host that it runs on'
    return ('name them with a trace: run it as root with tracefs mounted')


def _pattern(key: disturbance.Key) -> str:
    """Of the name of a thread that works for a domain's process."""
    what = key.name.rpartition(' ')[2]
    return f'{what}-{key.number}' if what == 'vhost' else (
        f'{what}/{key.number}')


def _kernel(found: disturbance.Disturbance, settings: snapshot.Settings,
            free: frozenset[int], others: str) -> str:
    key = found.key
    if key.name.startswith('kworker/u'):
        return (f'echo {parse.format_mask(free)} > '
                f'/sys/devices/virtual/workqueue/cpumask')
    if found.bound:
        return ('it works for what is done on that pCPU; find who asks for '
                'it with a trace of workqueue and timer events')
    if key.number:
        return f'taskset -pc {others} {key.number}'
    return 'isolcpus= on the command line of the kernel keeps it off'


def _interrupt(number: int, others: str, irq: irq_mod.Irq | None) -> str:
    if irq is not None and irq.managed:
        return ('the kernel manages it and moves it for nobody: fewer queues '
                "of its device, or isolcpus=managed_irq,... on the kernel's "
                'command line')
    return (f'[kongming] irq_affinity = move, or echo {others} > '
            f'/proc/irq/{number}/smp_affinity_list')
