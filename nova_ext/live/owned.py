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

import functools

from kongming import exception as km_exc
from nova.compute import vm_states

from nova_ext.ownership import ownership

_RUNNING = vm_states.ACTIVE, vm_states.PAUSED, vm_states.RESCUED


def by_pcpu(servers):
    """Who owns each pCPU, in words that an admin reads.

    :param servers: nova.objects.Instance, all of a host
    :returns: pCPU -> its server; and what is wrong where two servers that run
        own one, in words, empty where nothing is.  Of one that is being
        moved, or has failed to, the database may say more than is counted.
    """
    found: dict[int, str] = {}
    running: dict[int, str] = {}
    conflict = ''
    for server in servers:
        pcpus = ownership.pcpus_of(server)
        if not pcpus:
            continue
        name = _name(server.display_name, server.uuid)
        owns = dict.fromkeys(pcpus, name)
        found.update(owns)
        if server.vm_state not in _RUNNING or server.task_state is not None:
            continue
        twice = pcpus & running.keys()
        if twice and not conflict:
            pcpu = min(twice)
            conflict = (f'pCPU {pcpu} is owned by {running[pcpu]} and by '
                        f'{name}')
        running.update(owns)
    return found, conflict


@functools.lru_cache(4096)
def _name(name, uuid):
    return f'server {km_exc.printable(name)} ({uuid})'
