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

"""Hosts as Nova has them: their two names, and whether they take servers.

A host has the name of its service (``[DEFAULT] host``) and that of its
hypervisor (libvirt's, as a rule the full one), which is its provider's in
Placement, too.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any
from typing import NamedTuple
from urllib import parse

from kongming.compute import api
from kongming import exception

#: From here on Nova may ask each host for its uptime
#: (nova/api/openstack/compute/hypervisors.py).
_HYPERVISORS = '2.87'


class Hypervisor(NamedTuple):
    """A compute node.

    :ivar id: its uuid, which is its provider's, too
    :ivar service: the name of its nova-compute
    """

    id: str
    name: str
    service: str


class Service(NamedTuple):
    """A nova-compute.

    :ivar zone: its availability zone
    :ivar why_not: why the scheduler leaves it out; empty where it does not
    """

    host: str
    zone: str
    why_not: str = ''


def find(conn: Any, name: str) -> Hypervisor | None:
    """A compute node, by either name in any case of letters.

    :raises kongming.exception.CloudError: if Nova does not answer, or two
        are called so
    """
    pattern = parse.quote(name, safe='')
    try:
        # Most go by the hypervisor's name, and Nova finds it.
        found = _called(_hypervisors(
            conn, f'?hypervisor_hostname_pattern={pattern}'), name)
    except exception.NotFound:
        found = []
    found = found or _called(_hypervisors(conn), name)
    if len(found) > 1:
        raise exception.CloudError(
            f"{len(found)} hosts are called '{name}': "
            + ', '.join(f'{one.name} (service {one.service})'
                        for one in found))
    return found[0] if found else None


def _called(found: Iterable[Hypervisor], name: str) -> list[Hypervisor]:
    """By the very name; else by one in other letters."""
    every = list(found)
    for mean in (str, str.casefold):
        named = [one for one in every
                 if mean(name) in (mean(one.name), mean(one.service))]
        if named:
            return named
    return []


def names(conn: Any) -> dict[str, Hypervisor]:
    """Every name of every compute node, folded -> the compute node.

    A name that two have is left out.

    :raises kongming.exception.CloudError: if Nova does not answer
    """
    found: dict[str, Hypervisor] = {}
    twice = set()
    for one in _hypervisors(conn):
        for name in {one.name.casefold(), one.service.casefold()}:
            if name in found:
                twice.add(name)
            found[name] = one
    return {name: one for name, one in found.items() if name not in twice}


def _hypervisors(conn: Any, query: str = '') -> Iterable[Hypervisor]:
    for found in api.entries(conn, f'/os-hypervisors/detail{query}',
                             'hypervisors', _HYPERVISORS):
        yield Hypervisor(str(found['id']), found['hypervisor_hostname'],
                         found['service']['host'])


def services(conn: Any) -> dict[str, Service]:
    """The nova-computes of a cloud, by their folded names.

    :raises kongming.exception.CloudError: if Nova does not answer
    """
    found = {}
    # A filter would have Nova leave out cells that are down.
    for service in api.entries(conn, '/os-services', 'services'):
        if service['binary'] == 'nova-compute':
            found[service['host'].casefold()] = Service(
                service['host'], service.get('zone') or '', _why_not(service))
    return found


def _why_not(service: Mapping[str, Any]) -> str:
    if service['status'] == 'UNKNOWN':
        return 'its cell does not answer, so nothing is known of it'
    if service['status'] == 'disabled':
        reason = service.get('disabled_reason')
        return 'its compute service is disabled' + (
            f' ({exception.printable(reason)})' if reason else '')
    if service.get('forced_down'):
        return 'its compute service is forced down'
    if service.get('state') == 'down':
        return 'its compute service is down'
    return ''
