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

"""Who owns which pCPU of a host, by Nova's list of its servers."""

from kongming import exception as km_exc

from nova_ext.ownership import ownership


def by_pcpu(servers):
    """Who owns each pCPU, in words that an admin reads.

    :param servers: nova.objects.Instance, all of a host
    :returns: pCPU -> its server, and what is wrong where two own one; empty
        where nothing is
    """
    found: dict[int, str] = {}
    conflict = ''
    for server in servers:
        if server.numa_topology is None:
            continue
        name = (f'server {km_exc.printable(server.display_name)} '
                f'({server.uuid})')
        for pcpu in ownership.pcpus_of(server):
            if pcpu in found:
                conflict = (f'pCPU {pcpu} is owned by {found[pcpu]} and by '
                            f'{name}')
            found[pcpu] = name
    return found, conflict
