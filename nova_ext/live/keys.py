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

"""What results are remembered by: equal where they would be the same."""

from nova_ext import translate


def key_of(topology):
    """What is made of two topologies is the same where this is.

    :param topology: nova.objects.InstanceNUMATopology
    """
    return (translate.guest_of(topology), tuple(
        (cell.id, frozenset(cell.pcpuset), cell.cpu_policy,
         tuple((cell.cpu_pinning or {}).items()),
         frozenset(cell.cpuset_reserved or ()))
        for cell in topology.cells))


def layout_key(host):
    """Where hosts' pCPUs and cores are the same this is.

    :param host: kongming.host.usage.HostState
    """
    return tuple(
        (node.id, frozenset(node.dedicated), frozenset(node.shared),
         frozenset(node.never), tuple(map(frozenset, node.siblings)))
        for node in host.nodes)
