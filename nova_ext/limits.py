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

"""This host's limits on templates, as ``[kongming]`` in its nova.conf says.

For nova-compute only: a scheduler's own nova.conf says nothing of the hosts.
"""

import functools

from kongming.compute import nova_conf
from kongming import conf as km_conf
from kongming.host import stale
from kongming.host import topology as listed
from kongming.host import usage
from kongming.intent import limits
from kongming.kernel import cpus
from kongming.kernel import resctrlfs
from kongming.template import template
import nova.conf
from oslo_log import log as logging

from nova_ext import translate

CONF = nova.conf.CONF
LOG = logging.getLogger(__name__)
km_conf.register_opts(CONF)


def of_host():
    """:returns: kongming.intent.limits.Limits"""
    return limits.Limits(CONF.kongming.max_weight,
                         CONF.kongming.max_realtime_priority)


def never():
    """pCPUs that no template may have.

    :raises kongming.exception.InvalidOption: if the option is malformed
    """
    return nova_conf.never_pcpus(CONF.kongming.never_pcpus)


def host_state(topology, owners=usage.NOBODY):
    """What a template can have of this host; see translate.host_state.

    Which pCPUs are siblings the kernel says where libvirtd says otherwise.
    """
    found = translate.host_state(topology, owners, never(), l3())
    if _stale is not None:
        for node in found.nodes:
            mine = frozenset(node.dedicated | node.shared)
            node.siblings = [core & mine for core in stale.corrected(
                _stale, node.siblings) if core & mine]
    return found


#: The kernel's picture of this host's CPUs where libvirtd's is another one.
_stale: stale.Cpus | None = None


def compare_cpus(topology, wanted):
    """Compare libvirtd's picture of the CPUs with the kernel's; reported once.

    Called when nova-compute starts, while all pCPUs that Nova manages are
    online: what Nova has read of libvirt it keeps (nova/virt/libvirt/host.py,
    get_capabilities).

    :param topology: nova.objects.NUMATopology, or None
    :param wanted: all pCPUs that Nova is to use
    """
    global _stale
    _stale = None
    if topology is None:
        return
    try:
        found = cpus.read()
    except (OSError, ValueError) as exc:
        LOG.debug('The kernel does not tell of its CPUs: %s', exc)
        return
    nodes = {cell.id: cell.cpuset | cell.pcpuset for cell in topology.cells}
    words = stale.differences(
        found, nodes, [core for cell in topology.cells
                       for core in cell.siblings])
    if words:
        _stale = found
    missing = stale.missing(found, nodes, wanted)
    if missing:
        words.append(f'pCPU {listed.format_cpu_list(missing)} is not known '
                     f'to libvirtd')
    if words:
        LOG.warning("libvirtd's picture of the CPUs is older than the "
                    "kernel's: %s. The kernel's is used. Restart libvirtd "
                    "and then nova-compute while all CPUs are online",
                    '; '.join(words))


@functools.lru_cache(1)
def l3():
    """pCPU -> number of its L3 cache, of this host."""
    return resctrlfs.l3_of()


def decode(specs):
    """A flavor's template, as far as this host allows it.

    :returns: kongming.template.template.Template, and what was beyond the
        limits
    :raises kongming.exception.InvalidTemplate: if it is none
    """
    return limits.within(template.decode(specs), of_host())
