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

"""What a template makes of the domain that Nova would define.

Nova works out where threads and memory go; here its answer is read as the
library's values, and changed before Nova writes the XML, so that all is as
the template says from the first instruction on.
"""

from kongming.live import threads
from kongming.template import choices
from nova.virt.libvirt import config as vconfig

from nova_ext import limits
from nova_ext.ownership import ownership


def threads_of(config):
    """The threads in what Nova worked out.

    :param config: nova.virt.libvirt.driver.GuestNumaConfig
    :returns: kongming.live.threads.Threads
    """
    tune = config.cputune
    if tune is None:
        return threads.Threads()
    return threads.Threads(
        {pin.id: frozenset(pin.cpuset) for pin in tune.vcpupin},
        frozenset(tune.emulatorpin.cpuset) if tune.emulatorpin else None,
        {pin.iothread: frozenset(pin.cpuset)
         for pin in getattr(tune, 'iothreadpin', ())},
        {vcpu: threads.Sched(entry.scheduler, entry.priority or 0)
         for entry in tune.vcpusched for vcpu in entry.vcpus})


def shape(config, topology, intent, host):
    """Change what Nova worked out into what a template wants.

    :param config: nova.virt.libvirt.driver.GuestNumaConfig, changed
    :param topology: nova.objects.InstanceNUMATopology of the server
    :param intent: kongming.intent.merge.Intent
    :param host: nova.objects.NUMATopology
    :returns: what of the template was not obeyed, and why
    """
    if config.cputune is None:
        return []
    before = threads_of(config)
    wanted, problems = threads.shape(
        before, limits.host_state(host),
        ownership.Ownership(topology).owned, intent)
    tune = config.cputune
    for pin in tune.vcpupin:
        pin.cpuset = set(wanted.vcpus[pin.id])
    if tune.emulatorpin:
        tune.emulatorpin.cpuset = set(wanted.emulator or ())
    for pin in getattr(tune, 'iothreadpin', ()):
        pin.cpuset = set(wanted.iothreads[pin.iothread])
    if wanted.sched != before.sched:
        tune.vcpusched = _scheduled(wanted)
    _bind(config.numatune, intent.base)
    return problems


def _scheduled(wanted):
    """An element for each way of scheduling."""
    entries = []
    for sched in sorted(set(wanted.sched.values())):
        entry = vconfig.LibvirtConfigGuestCPUTuneVCPUSched()
        entry.vcpus = {vcpu for vcpu, found in wanted.sched.items()
                       if found == sched}
        entry.scheduler = sched.policy
        entry.priority = sched.priority or None
        entries.append(entry)
    return entries


def _bind(tune, desired):
    """Say how memory is bound."""
    if tune is None:
        return
    modes = {node.cellid: desired.memory.get(node.cellid, choices.STRICT)
             for node in tune.memnodes}
    if len(modes) == 1:
        tune.memory.mode, = modes.values()
    for node in tune.memnodes:
        node.mode = modes[node.cellid]
