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

"""Hosts as Nova's scheduler sees them, beside their nodes."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
import functools
from typing import Any

from kongming.compute import api
from kongming.compute import hosts as hosts_mod
from kongming import exception
from kongming.placement import scheduling
from kongming.publish import client

#: (name, uuid) of a compute node.
Host = tuple[str, str]


class Scheduling:
    """Says why the scheduler would leave out a host.

    Each thing is asked once, of all hosts together.

    :param conn: openstack.connection.Connection of an admin
    :param known: of the compute nodes that matter
    :ivar doubts: what could not be found out, in words
    """

    def __init__(self, conn: Any, known: Iterable[Host]) -> None:
        self._conn = conn
        self._placement = client.Placement.of(conn)
        self._hosts = list(known)
        self.doubts: list[str] = []

    def why_not(self, wanted: scheduling.Wanted) -> dict[str, str]:
        """name -> why, of those hosts that would be left out.

        :raises kongming.exception.CloudError: if Placement does not answer
        """
        found: dict[str, str] = {}
        for name, uuid in self._hosts:
            reasons = [reason for reason in self._reasons(wanted, name, uuid)
                       if reason]
            if reasons:
                found[name] = '; '.join(reasons)
        return found

    def _reasons(self, wanted: scheduling.Wanted, name: str,
                 uuid: str) -> Iterable[str]:
        service = self._services.get(uuid)
        if service is not None:
            yield service.why_not
            if wanted.zone and service.zone != wanted.zone:
                yield (f"it is in the availability zone "
                       f"'{service.zone or 'none'}', not in '{wanted.zone}'")
        elif self._services:
            yield 'Nova knows no compute service of it'
        for trait in sorted(wanted.required):
            if uuid not in self._with(f'required={trait}'):
                yield f'it lacks the trait {trait}'
        for trait in sorted(wanted.forbidden):
            if uuid in self._with(f'required={trait}'):
                yield f'it has the trait {trait}, which is forbidden'
        for name_, amount in sorted(wanted.resources.items()):
            roots = self._with(f'resources={name_}:{amount}')
            shared = roots - {other for _name, other in self._hosts}
            # A provider that shares is the scheduler's to judge.
            if uuid not in roots and not shared:
                yield f'Placement has no {amount} of {name_} left on it'
        if wanted.aggregates and service is not None:
            for lack in scheduling.aggregates_lack(
                    wanted, self._metadata.get(service.host, {})):
                yield f'no aggregate of it says {lack}'

    @functools.cached_property
    def _services(self) -> dict[str, hosts_mod.Service]:
        """uuid of a compute node -> its service; none if not to be seen."""
        found = self._try(lambda: hosts_mod.services(self._conn))
        if not found:
            return {}
        result = {uuid: found[name.casefold()] for name, uuid in self._hosts
                  if name.casefold() in found}
        if len(result) < len(self._hosts):
            # Where the service has a name of its own.
            for one in self._try(lambda: hosts_mod.names(
                    self._conn)).values():
                service = found.get(one.service.casefold())
                if service is not None:
                    result[one.id] = service
        return result

    @functools.cached_property
    def _metadata(self) -> dict[str, dict[str, set[str]]]:
        """service -> key -> values, of all aggregates it is in."""
        found: dict[str, dict[str, set[str]]] = {}
        for aggregate in self._try(lambda: {'all': api.get(
                self._conn, '/os-aggregates')['aggregates']}).get('all', ()):
            for host in aggregate['hosts']:
                for key, value in aggregate['metadata'].items():
                    found.setdefault(host, {}).setdefault(
                        key, set()).update(
                            part.strip() for part in value.split(','))
        return found

    def _try(self, ask: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        try:
            return ask()
        except exception.CloudError as exc:
            self.doubts.append(
                f'whether the scheduler leaves out hosts is not known: {exc}')
            return {}

    @functools.cache
    def _with(self, query: str) -> frozenset[str]:
        """Roots of providers that meet a condition."""
        key, _eq, value = query.partition('=')
        try:
            found = self._placement.providers(**{key: value})
        except exception.Invalid:
            # Placement has no such trait or class, so nobody has it.
            found = []
        return frozenset(provider['root_provider_uuid']
                         for provider in found)
