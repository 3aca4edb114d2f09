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

"""The persistent definition of a domain, as Nova would write it now.

Nova starts some domains by what is written down of them: after a soft reboot
by the persistent definition, after an unrescue by a copy of that.  What a
live change writes there, Nova may overwrite with what it has read before:
while a volume is swapped or a snapshot is taken the domain is not persistent,
and then defined by an XML of earlier (nova/virt/libvirt/driver.py,
_swap_volume, _live_snapshot).
"""

import dataclasses

from kongming.domain import domain as domain_mod
from kongming.libvirt import affinity
from kongming.libvirt import memory

from nova_ext import guests


def correct(domain, config, width):
    """Have a domain start next where Nova would have it start.

    :param domain: libvirt.virDomain, which may be running
    :param config: nova.virt.libvirt.driver.GuestNumaConfig
    :param width: number of the host's pCPUs, offline ones included
    """
    if not domain.isPersistent():
        return
    if config.numatune is not None:
        bind(domain, [min(node.nodeset) for node in config.numatune.memnodes])
    wanted, now = guests.threads_of(config), affinity.read_config(domain)
    # A domain that an older Nova has defined may have no I/O thread.
    affinity.apply_config(domain, dataclasses.replace(wanted, iothreads={
        number: pcpus for number, pcpus in wanted.iothreads.items()
        if number in now.iothreads}), width)


def bind(domain, nodes):
    """Have the memory of a domain's cells on these nodes at its next start.

    libvirt changes the nodes of single cells in no other way than by a
    definition anew.  A domain that runs goes on with what it was started
    with, in its XML.

    :param nodes: of each cell
    """
    if not domain.isPersistent():
        return
    text = domain.XMLDesc(memory.INACTIVE | memory.SECURE)
    wanted = domain_mod.with_nodes(text, nodes)
    if wanted is not None:
        domain.connect().defineXML(wanted)


def bind_saved(domain, nodes):
    """The same of the state that a domain was saved with, by a suspend.

    It has the XML of the domain as it ran, whose nodes are those of its
    start.
    """
    if not domain.hasManagedSaveImage(0):
        return
    wanted = domain_mod.with_nodes(
        domain.managedSaveGetXMLDesc(memory.SECURE), nodes)
    if wanted is not None:
        domain.managedSaveDefineXML(wanted)
