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

"""A cluster of servers as it is meant, as it is, and the steps in between.

Values only; :mod:`kongming.deployment.document` reads what is meant,
:mod:`kongming.deployment.rollout` decides the steps.  What is there is known
by a mark that flavors and servers of a deployment bear; it is stored nowhere
else.
"""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
import functools
from typing import NamedTuple

from kongming import exception
from kongming.fit import demand as demand_mod
from kongming.fit import fit
from kongming.host import usage
from kongming.live import drift
from kongming.live import rearrange
from kongming.placement import flavor as flavor_mod
from kongming.placement import reserved
from kongming.template import guest as guest_mod
from kongming.template import metadata as metadata_mod
from kongming.template import template as template_mod

#: On flavors as an extra spec, on servers as metadata, with the deployment's
#: name.  It has a scope, or filters of Nova's would take it for theirs
#: (nova/scheduler/filters/aggregate_instance_extra_specs.py).
MARK = 'kongming-deployment:name'
#: On servers as metadata, the flavor that they are to be like, whichever they
#: were booted with.
LIKE = 'kongming-deployment:flavor'


@dataclasses.dataclass(frozen=True)
class Flavor:
    """A flavor as it is meant.

    :ivar ram_mib: in MiB
    :ivar disk_gib: root disk in GiB
    :ivar properties: extra specs beside those that the template makes
    :ivar place: where the document says it
    """

    vcpus: int
    ram_mib: int
    disk_gib: int
    properties: Mapping[str, str]
    desired: template_mod.Template
    place: str = ''

    @functools.cached_property
    def guest(self) -> guest_mod.Guest:
        """
        :raises kongming.exception.InvalidTemplate: by its properties
        """
        return guest_mod.from_flavor(self.vcpus, self.ram_mib,
                                     self.properties)

    @functools.cached_property
    def demand(self) -> demand_mod.Demand:
        """What a server of it asks of a host."""
        return demand_mod.Demand(self.guest, self.desired)

    def specs(self, deployment: str) -> dict[str, str]:
        """All extra specs."""
        ours = flavor_mod.changes(self.properties, self.desired).put
        return {**self.properties, **ours, MARK: deployment}


class Server(NamedTuple):
    """A server as it is meant.

    :ivar flavor: its flavor's name
    :ivar host: None for any
    :ivar networks: names or ids; or ``none`` or ``auto``
    """

    name: str
    template: str
    flavor: str
    image: str
    host: str | None = None
    networks: tuple[str, ...] | str = 'auto'


class Deployment(NamedTuple):
    """The desired state of a deployment; flavors and servers by name."""

    name: str
    flavors: Mapping[str, Flavor]
    servers: Mapping[str, Server]

    def calling(self, names: Mapping[str, str]) -> Deployment:
        """The same with other names for hosts.

        :param names: what it calls a host -> what the host is called
        """
        return self._replace(servers={
            key: server._replace(host=server.host and names.get(
                server.host, server.host))
            for key, server in self.servers.items()})


class FoundFlavor(NamedTuple):
    """A flavor that is there; MiB, GiB, all extra specs."""

    name: str
    id: str
    vcpus: int
    ram_mib: int
    disk_gib: int
    specs: Mapping[str, str]

    def is_of(self, deployment: str) -> bool:
        """Whether it is a deployment's.

        One that was made and not marked yet has an id that it alone gives.
        """
        if not self.specs and self.id == self.name:
            return self.name.startswith(f'{deployment}.')
        return self.specs.get(MARK) == deployment


class FoundServer(NamedTuple):
    """A server of the deployment that is there.

    :ivar host: its compute node; None before it has one
    :ivar launched: whether it has run
    :ivar image: id; None where it booted from a volume
    :ivar flavor: as it was booted with
    :ivar cells: what each of its cells owns
    """

    id: str
    name: str
    status: str
    host: str | None
    launched: bool
    image: str | None
    flavor: FoundFlavor
    metadata: Mapping[str, str]
    cells: tuple[drift.Cell, ...] = ()

    @property
    def guest(self) -> guest_mod.Guest:
        """Its cells, as its flavor alone makes them.

        Without the pCPU of its emulator threads, which Nova shows to nobody.
        """
        try:
            return guest_mod.from_flavor(
                self.flavor.vcpus, self.flavor.ram_mib,
                self.flavor.specs)._replace(emulator_isolated=False)
        except exception.InvalidTemplate:
            # Nova has accepted it, so its image says the rest.
            return guest_mod.Guest(tuple(
                guest_mod.Cell(frozenset(pins), frozenset(),
                               self.flavor.ram_mib // len(self.cells))
                for _node, pins in self.cells))


class Host(NamedTuple):
    """A host as Placement shows it, and what Nova says of its servers.

    :ivar owned: node -> server id -> what it has there
    :ivar names: server id -> how to call it
    :ivar asked: whether Nova was asked for its servers; where it was not,
        all that they have is nobody's in particular
    :ivar limits: how far what floats may overcommit it; None: not limited
    :ivar zones: the version of the database of time zones by which it
        decides; None where it does not say
    """

    state: usage.HostState
    owned: Mapping[int, Mapping[str, reserved.Owned]]
    names: Mapping[str, str]
    asked: bool = True
    limits: usage.Limits | None = None
    zones: str | None = None


class Cloud(NamedTuple):
    """The actual state: what is in the cloud.

    :ivar hosts: those that obey templates, by name
    :ivar flavors: of the deployment's, and others that have their names
    :ivar images: name or id, as the document says it -> id, None for unknown
    :ivar networks: likewise
    :ivar left_out: flavor -> host -> why Nova's scheduler would leave the
        host out for a new server of it
    :ivar doubts: what could not be found out, in words
    :ivar zones: the version of the database of time zones by which whoever
        plans decides; None: nobody does
    """

    hosts: Mapping[str, Host]
    flavors: Mapping[str, FoundFlavor] = {}
    servers: tuple[FoundServer, ...] = ()
    images: Mapping[str, str | None] = {}
    networks: Mapping[str, str | None] = {}
    left_out: Mapping[str, Mapping[str, str]] = {}
    doubts: tuple[str, ...] = ()
    zones: str | None = None


# Steps.  'what' is done to 'name', on 'host' where there is one, for 'why' or
# in the way of 'how'.

class DeleteServer(NamedTuple):
    id: str
    name: str
    host: str | None
    how: str
    what: str = 'delete server'


class DeleteFlavor(NamedTuple):
    id: str
    name: str
    how: str
    host: str | None = None
    what: str = 'delete flavor'


class CreateFlavor(NamedTuple):
    name: str
    flavor: Flavor
    specs: Mapping[str, str]
    host: str | None = None
    what: str = 'create flavor'

    @property
    def how(self) -> str:
        return (f'{self.flavor.vcpus} vCPU(s), {self.flavor.ram_mib} MiB, '
                f'{self.flavor.disk_gib} GiB')


class ChangeFlavor(NamedTuple):
    id: str
    name: str
    changes: flavor_mod.Changes
    host: str | None = None
    what: str = 'change flavor'

    @property
    def how(self) -> str:
        return words(self.changes.put, self.changes.remove)


class Change(NamedTuple):
    """One running server's part of a change; no keys: it is on its way."""

    id: str
    name: str
    changes: metadata_mod.Changes


class ChangeServers(NamedTuple):
    """Servers of one host that change at once, since one may get what
    another gives up.

    :ivar moves: what the host will do, in its order
    """

    host: str
    changes: tuple[Change, ...]
    moves: tuple[rearrange.Step, ...]
    what: str = 'change server'

    @property
    def name(self) -> str:
        return ', '.join(change.name for change in self.changes)

    @property
    def how(self) -> str:
        return '; '.join(
            f'{change.name}: ' + (words(*change.changes)
                                  or 'wait for the host')
            for change in self.changes)


class CreateServer(NamedTuple):
    server: Server
    host: str
    assignment: fit.Assignment
    what: str = 'create server'

    @property
    def name(self) -> str:
        return self.server.name

    @property
    def how(self) -> str:
        return str(self.assignment)


class AwaitServer(NamedTuple):
    """Wait for a server that was being made when an earlier run ended."""

    id: str
    name: str
    host: str | None
    how: str = 'it is being built'
    what: str = 'wait for server'


Step = (DeleteServer | DeleteFlavor | CreateFlavor | ChangeFlavor
        | ChangeServers | CreateServer | AwaitServer)


def native(specs: Mapping[str, str]) -> dict[str, str]:
    """Extra specs that are not made from the template."""
    ours = {MARK, flavor_mod.TRAIT_KEY, *flavor_mod.outdated(specs)}
    return {key: value for key, value in specs.items()
            if key not in ours
            and not key.startswith(template_mod.PREFIX)}


def words(put: Mapping[str, str], remove: tuple[str, ...] | list[str]) -> str:
    """Changes of keys, for people."""
    return exception.printable(', '.join(
        [f'{key} = {value}' for key, value in sorted(put.items())]
        + [f'no {key}' for key in sorted(remove)]))


@dataclasses.dataclass(frozen=True)
class Plan:
    """What to do, in this order; nothing where there are problems.

    :ivar warnings: what is left as it is
    """

    steps: tuple[Step, ...]
    problems: tuple[exception.Problem, ...] = ()
    warnings: tuple[str, ...] = ()
