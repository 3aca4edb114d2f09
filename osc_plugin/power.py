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
"""Which pCPUs of a host have no power, by what Nova and KongMing do."""

from __future__ import annotations

import datetime
from typing import Any

from kongming.compute import servers
from kongming import exception
from kongming.host import usage
from kongming.intent import merge
from kongming.live import power
from kongming.live import threads
from kongming.template import template
from openstack import connection

#: In these states nothing of a server runs.
_STOPPED = 'SHUTOFF', 'SHELVED_OFFLOADED'


def without_power(conn: connection.Connection, uuid: str, strategy: str,
                  state: usage.HostState) -> frozenset[int]:
    """Dedicated pCPUs that nobody owns, that a server which has stopped owns,
    or that an active profile says it of.

    :param uuid: of the compute node
    :param strategy: Nova's; empty: it manages no power there
    :param state: of the host, with all that is taken
    """
    if not strategy:
        return frozenset()
    off = frozenset().union(*(node.dedicated - node.taken
                              for node in state.nodes))
    try:
        for server in servers.all_on_host(conn, uuid):
            off |= _of_server(conn, server, strategy, state)
    except exception.CloudError:
        pass  # what nobody owns is known all the same
    # Nova leaves pCPU 0 alone (nova/virt/hardware.py,
    # get_cpu_dedicated_set_nozero).
    return off - {0}


def _of_server(conn: connection.Connection, server: dict[str, Any],
               strategy: str, state: usage.HostState) -> frozenset[int]:
    specs = server['flavor'].get('extra_specs') or {}
    stopped = server['status'] in _STOPPED
    if not stopped and not template.has_template(specs):
        return frozenset()
    pins = {vcpu: pcpu for _node, found in servers.cells(
        conn, server['id']) or () for vcpu, pcpu in found.items()}
    if stopped:
        return frozenset(pins.values())
    try:
        intent = merge.merge(template.decode(specs), server.get('metadata'),
                             datetime.datetime.now(datetime.UTC))
    except exception.InvalidTemplate:
        return frozenset()
    owned = threads.Owned(pins)
    places, _problems = threads.shape(
        threads.Threads({vcpu: frozenset({pcpu})
                         for vcpu, pcpu in pins.items()}),
        state, owned, intent)
    return power.wanted(places, owned, intent, strategy).down
