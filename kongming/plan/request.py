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

"""What is to be laid out, as a document; and the layout, as a deployment.

A request is a deployment (:mod:`kongming.deployment.document`) that leaves
hosts, nodes and pins open, with a part ``plan`` for what is asked beside::

    version: 1
    name: ran
    templates:
      du: {vcpus: 8, ram: 8192, properties: {hw:cpu_policy: dedicated},
           grant: template}
    servers: {}
    plan:
      count: {du: {servers: 12, image: du-24.1, networks: [ran]}}
      apart: {pair: [du-1, du-2]}
      devices: {fronthaul: {compute1: [0], compute2: [1]}}
      near: {du-*: fronthaul}
      reserve: {"*": "4-5"}
      split: {du: 2}

The structure of that part is ``plan-request-v1.json`` of this package.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Set
import dataclasses
import fnmatch
import functools
import json
from typing import Any

from kongming.deployment import deployment as dep
from kongming.deployment import document as document_mod
from kongming import exception
from kongming.fit import demand as demand_mod
from kongming.host import topology
from kongming.host import usage
from kongming.solver import pins as pins_mod
from kongming.solver import problem
from kongming.template import document
from kongming.template import schema as schema_mod
from kongming.template import template as template_mod

_NODES = 'hw:numa_nodes'


def schema() -> dict[str, Any]:
    """The schema of the part ``plan``, as JSON Schema 2020-12."""
    return schema_mod.load('plan-request-v1', 'kongming.plan')


class Request:
    """What is to be laid out.

    :ivar deployment: as it was read
    :ivar asks: one a server
    """

    def __init__(self, loaded: Any) -> None:
        """
        :param loaded: the document
        :raises kongming.exception.InvalidTemplate: with every problem found
        """
        whole = dict(loaded) if isinstance(loaded, Mapping) else {}
        self._plan = whole.pop('plan', {})
        problems = [dataclasses.replace(
            found, key='plan' if found.key == document.THE_WHOLE
            else f'plan.{found.key}') for found in map(
                document.explain,
                document.validator(schema()).iter_errors(self._plan))]
        if problems:
            raise exception.InvalidTemplate(problems)
        self._whole = whole
        self._expand()
        self.deployment = document_mod.parse(json.dumps(
            whole if isinstance(loaded, Mapping) else loaded),
            may_be_open=True)
        self._check()
        self.asks = tuple(self._ask(server) for server
                          in self.deployment.servers.values())

    def hosts(self) -> set[str]:
        """Names of hosts that it names, but for patterns."""
        named = {server.host for server in self.deployment.servers.values()
                 if server.host}
        for device in self._part('devices').values():
            named |= set(device)
        return named | set(self._part('reserve')) - {'*'}

    def call(self, names: Mapping[str, str]) -> None:
        """Call hosts by other names.

        :param names: what it calls a host -> what the host is called
        :raises kongming.exception.InvalidTemplate: if it says two things of
            one host
        """
        if not names:
            return
        self._plan = {**self._plan}
        if 'reserve' in self._plan:
            self._plan['reserve'] = _renamed(self._plan['reserve'], names,
                                             'plan.reserve')
        if 'devices' in self._plan:
            self._plan['devices'] = {
                device: _renamed(nodes, names, f'plan.devices.{device}')
                for device, nodes in self._plan['devices'].items()}
        self.deployment = self.deployment.calling(names)
        self.asks = tuple(self._ask(server) for server
                          in self.deployment.servers.values())

    def leave_out(self, hosts: Mapping[str, Set[str]],
                  every: Iterable[str]) -> None:
        """Keep servers of a flavor off hosts that can't take them.

        :param hosts: flavor -> hosts
        :param every: all hosts there are
        """
        asks = []
        for ask in self.asks:
            refused = hosts.get(self.deployment.servers[ask.name].flavor)
            if refused:
                ask = dataclasses.replace(ask, hosts=frozenset(
                    every if ask.hosts is None else ask.hosts) - refused)
            asks.append(ask)
        self.asks = tuple(asks)

    def _part(self, key: str) -> Mapping[str, Any]:
        return self._plan.get(key) or {}

    def _expand(self) -> None:
        """Servers that are given by their number."""
        named = self._whole.get('servers')
        if named is not None and not isinstance(named, Mapping):
            # Whoever reads the deployment says what is wrong with that.
            return
        servers = self._whole['servers'] = dict(named or {})
        stems: dict[str, str] = {}
        for name, entry in self._part('count').items():
            # Nova makes host names of servers' names.
            stem = name.replace('_', '-')
            if stem in stems:
                raise exception.InvalidTemplate([exception.Problem(
                    f'plan.count.{name}', '...', 0,
                    f'its servers would be called as those of '
                    f'{stems[stem]}')])
            stems[stem] = name
            for number in range(1, entry['servers'] + 1):
                servers.setdefault(f'{stem}-{number}', {
                    'template': name,
                    **{key: value for key, value in entry.items()
                       if key != 'servers'}})

    def _check(self) -> None:
        problems = []

        def add_problem(where: str, value: Any, reason: str) -> None:
            problems.append(exception.Problem(where, str(value), 0, reason))

        templates = self._whole.get('templates') or {}
        for name, most in self._part('split').items():
            if name not in templates:
                add_problem(f'plan.split.{name}', most,
                            'there is no such template')
            elif _NODES in (templates[name].get('properties') or {}):
                add_problem(f'plan.split.{name}', most,
                            f'its properties say {_NODES} already')
        for pattern, device in self._part('near').items():
            if device not in self._part('devices'):
                add_problem(f'plan.near.{pattern}', device,
                            f'there is no such device; plan.devices has '
                            f'{", ".join(self._part("devices")) or "none"}')
        for where, patterns in [
                *((f'plan.apart.{group}', found) for group, found
                  in self._part('apart').items()),
                *((f'plan.near.{pattern}', [pattern])
                  for pattern in self._part('near'))]:
            for pattern in patterns:
                if not fnmatch.filter(self.deployment.servers, pattern):
                    add_problem(where, pattern, 'no server has such a name')
        for host, pcpus in self._part('reserve').items():
            try:
                topology.parse_cpu_list(str(pcpus))
            except ValueError:
                add_problem(f'plan.reserve.{host}', pcpus,
                            'pCPUs belong here, such as 4-5,36')
        if problems:
            raise exception.InvalidTemplate(problems)

    def _ask(self, server: dep.Server) -> problem.Ask:
        name = server.name
        near = next((self._part('devices')[device] for pattern, device
                     in self._part('near').items()
                     if fnmatch.fnmatchcase(name, pattern)), None)
        return problem.Ask(
            name, self._shapes(server),
            frozenset([server.host]) if server.host else None,
            frozenset(group for group, patterns in self._part('apart').items()
                      if any(fnmatch.fnmatchcase(name, pattern)
                             for pattern in patterns)),
            None if near is None else {
                host: frozenset(nodes) for host, nodes in near.items()})

    def _shapes(self, server: dep.Server) -> tuple[demand_mod.Demand, ...]:
        flavor = self.deployment.flavors[server.flavor]
        return _shapes(self._known, flavor, self._part('split').get(
            server.template, 1))

    @functools.cached_property
    def _known(self) -> dict[Any, tuple[demand_mod.Demand, ...]]:
        """Servers of one flavor have one demand, which is asked about once.
        """
        return {}

    def reserved(self, host: str,
                 state: usage.HostState) -> usage.HostState:
        """A host without what is to be left free."""
        pcpus = frozenset[int]().union(*(
            topology.parse_cpu_list(str(found)) for name, found
            in self._part('reserve').items() if name in ('*', host)))
        return problem.without(state, pcpus)

    def laid_out(self, spots: Mapping[str, problem.Spot]) -> dict[str, Any]:
        """The deployment with hosts, nodes and pins; without those who got
        no place.
        """
        templates = {key: dict(entry) for key, entry
                     in self._whole['templates'].items()}
        servers = {}
        for name, spot in spots.items():
            entry = dict(self._whole['servers'][name])
            server = self.deployment.servers[name]
            count = len(spot.nodes)
            if spot.shape:
                base = templates[server.template]
                entry['template'] = f'{server.template}_{count}'
                templates.setdefault(entry['template'], {
                    **base, 'properties': {**base.get('properties', {}),
                                           _NODES: count}})
            entry['host'] = spot.host
            entry['cells'] = _cells(
                self.deployment.flavors[server.flavor].desired, spot)
            if spot.assignment.cells[0].reserved:
                entry['emulator'] = str(min(
                    spot.assignment.cells[0].reserved))
            servers[name] = entry
        used = {entry['template'] for entry in servers.values()}
        return {'version': 1, 'name': self.deployment.name,
                'templates': {key: entry for key, entry in templates.items()
                              if key in used},
                'servers': servers}


def _shapes(known: dict[Any, tuple[demand_mod.Demand, ...]],
            flavor: dep.Flavor, most: int) -> tuple[demand_mod.Demand, ...]:
    key = id(flavor), most
    if key not in known:
        found = [flavor.demand]
        if not flavor.desired.cells:
            for count in range(2, most + 1):
                if flavor.vcpus % count == 0 and flavor.ram_mib % count == 0:
                    found.append(dataclasses.replace(
                        flavor, properties={**flavor.properties,
                                            _NODES: str(count)}).demand)
        known[key] = tuple(found)
    return known[key]


def _cells(desired: template_mod.Template,
           spot: problem.Spot) -> dict[str, dict[str, Any]]:
    cells: dict[str, dict[str, Any]] = {}
    exact = pins_mod.pins_of({number: cell.pins for number, cell
                              in enumerate(spot.assignment.cells)})
    for number, cell in enumerate(spot.assignment.cells):
        entry = cells[str(number)] = {'node': cell.node}
        pins = [*exact.get(number, ()), *(
            pin for pin in desired.pins.get(number, ()) if pin.floats)]
        if pins:
            entry['pin'] = ' '.join(map(str, pins))
        if number in desired.memory:
            entry['memory'] = desired.memory[number]
    return cells


def _renamed(found: Mapping[str, Any], names: Mapping[str, str],
             where: str) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, value in found.items():
        new = names.get(name, name)
        if new in result:
            raise exception.InvalidTemplate([exception.Problem(
                f'{where}.{name}', str(value), 0,
                f'host {new} stands here a second time')])
        result[new] = value
    return result


def of_flavors(name: str, flavors: Mapping[str, tuple[dep.FoundFlavor, int]],
               image: str, networks: str) -> dict[str, Any]:
    """A request for servers of flavors that are there.

    :param flavors: what to call its template -> the flavor, how many servers
    """
    templates, count = {}, {}
    for key, (flavor, number) in flavors.items():
        desired = document.to_document(template_mod.decode(flavor.specs))
        del desired['version']
        templates[key] = {
            'vcpus': flavor.vcpus, 'ram': flavor.ram_mib,
            'disk': flavor.disk_gib, 'properties': dep.native(flavor.specs),
            **desired}
        count[key] = {'servers': number, 'image': image,
                      'networks': networks}
    return {'version': 1, 'name': name, 'templates': templates,
            'servers': {}, 'plan': {'count': count}}
