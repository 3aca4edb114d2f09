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

"""A deployment as a document, YAML or JSON.

::

    version: 1
    name: ran
    templates:
      du:
        vcpus: 4
        ram: 8192
        properties: {hw:cpu_policy: dedicated, hw:mem_page_size: 1GB}
        cells: {0: {node: 1}}
        grant: template
    servers:
      du-1: {template: du, host: compute1, image: du-24.1, networks: [ran],
             cells: {0: {pin: "0-3:24-27"}}}
      du-2: {template: du, host: compute2, image: du-24.1, networks: [ran]}

Its structure is ``deployment-v1.json`` of this package, with that of a
template (:mod:`kongming.template.document`) for the rest of each entry.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping
import re
from typing import Any

from kongming.deployment import deployment
from kongming import exception
from kongming.fit import demand
from kongming.placement import flavor as flavor_mod
from kongming.template import document
from kongming.template import schema as schema_mod
from kongming.template import template

_MAP = Mapping[str, Any]


def schema() -> dict[str, Any]:
    """The schema, as JSON Schema 2020-12."""
    return schema_mod.load('deployment-v1', 'kongming.deployment')


def parse(text: str, may_be_open: bool = False) -> deployment.Deployment:
    """Read a document.

    :param may_be_open: whether a template may say nothing of where its
        servers are to be
    :raises kongming.exception.InvalidTemplate: with every problem found, each
        named by its place
    """
    reader = _Reader(may_be_open)
    found = reader.read(document.load(text))
    if reader.problems:
        raise exception.InvalidTemplate(reader.problems)
    return found


class _Reader:
    """Collects what is said, and what is wrong with it."""

    def __init__(self, may_be_open: bool) -> None:
        self._may_be_open = may_be_open
        self.problems: list[exception.Problem] = []
        self._templates: dict[str, tuple[_MAP, template.Template | None]] = {}
        self._flavors: dict[str, deployment.Flavor] = {}

    def read(self, loaded: Any) -> deployment.Deployment:
        for error in document.validator(schema()).iter_errors(loaded):
            self.problems.append(document.explain(error))
        whole = _mapping(loaded)
        name = str(whole.get('name'))
        for key, entry in _entries(whole, 'templates'):
            self._templates[key] = entry, self._desired(
                entry, f'templates.{key}', 'templates')
        servers = {}
        for key, entry in _entries(whole, 'servers'):
            server = self._server(name, key, entry)
            if server:
                servers[key] = server
        return deployment.Deployment(name, self._flavors, servers)

    def _problem(self, where: str, value: Any, reason: str) -> None:
        self.problems.append(exception.Problem(where, str(value), 0, reason))

    def _desired(self, entry: _MAP, where: str,
                 kind: str) -> template.Template | None:
        """What an entry says of a template; None where that is wrong."""
        facts = _entry_schema(kind)['properties']
        try:
            return document.from_document({
                key: value for key, value in entry.items()
                if key not in facts})
        except exception.InvalidTemplate as exc:
            self._at(where, exc.problems)
            return None

    def _at(self, where: str, problems: Iterable[exception.Problem]) -> None:
        self.problems += [exception.Problem(
            where if problem.key == document.THE_WHOLE
            else f'{where}.{problem.key}', problem.value, problem.column,
            problem.reason) for problem in problems]

    def _server(self, deployment_name: str, name: str,
                entry: _MAP) -> deployment.Server | None:
        where = f'servers.{name}'
        over = self._desired(entry, where, 'servers')
        if not _is_valid(entry, 'servers'):
            return None
        chosen = entry['template']
        if chosen not in self._templates:
            self._problem(f'{where}.template', chosen,
                          f'there is no such template; there are '
                          f'{", ".join(sorted(self._templates)) or "none"}')
            return None
        facts, desired = self._templates[chosen]
        if over is None or desired is None:
            return None
        flavor, place = f'{deployment_name}.{chosen}', f'templates.{chosen}'
        if over:
            # Claimed by its own flavor, so that nobody else gets it.
            flavor, place = f'{flavor}.{name}', where
            try:
                desired = template.decode({
                    **template.encode(desired, most=None),
                    **template.encode(over, most=None)})
            except exception.InvalidTemplate as exc:
                self._at(where, exc.problems)
                return None
        if flavor not in self._flavors and not self._flavor(
                flavor, place, facts, desired):
            return None
        networks = entry.get('networks', 'auto')
        if networks not in ('none', 'auto'):
            networks = ((networks,) if isinstance(networks, str)
                        else tuple(networks))
        return deployment.Server(name, chosen, flavor, entry['image'],
                                 entry.get('host'), networks)

    def _flavor(self, name: str, place: str, facts: _MAP,
                desired: template.Template) -> bool:
        """Make a flavor, if that can be done."""
        if not _is_valid(facts, 'templates'):
            return False
        before = len(self.problems)
        properties = {key: _text(value) for key, value in
                      facts.get('properties', {}).items()}
        ours = {deployment.MARK, flavor_mod.TRAIT_KEY,
                *flavor_mod.outdated(properties)}
        for key, value in properties.items():
            if key.startswith(template.PREFIX) or key in ours:
                self._problem(f'{place}.properties.{key}', value,
                              'it is made from the template; say it there')
        if not desired and not self._may_be_open:
            self._problem(place, '...',
                          'it says nothing of where the server is to be; '
                          'cells: {0: {node: 0}} would do')
        made = deployment.Flavor(
            facts['vcpus'], facts['ram'], facts.get('disk', 0), properties,
            desired, place)
        try:
            for problem in demand.check_guest(made.guest, desired):
                self._problem(place, '...', problem)
            # What Nova can't store is an error here.
            template.encode(desired)
        except exception.InvalidTemplate as exc:
            self._at(place, exc.problems)
        self._flavors[name] = made
        return len(self.problems) == before


def _mapping(loaded: Any) -> _MAP:
    return loaded if isinstance(loaded, Mapping) else {}


def _entries(whole: _MAP, kind: str) -> Iterable[tuple[str, _MAP]]:
    """The entries whose names are right; others are reported already."""
    pattern, = schema()['properties'][kind]['patternProperties']
    return [(key, entry) for key, entry in _mapping(whole.get(kind)).items()
            if re.search(pattern, key) and isinstance(entry, Mapping)]


def _entry_schema(kind: str) -> dict[str, Any]:
    found: dict[str, Any]
    found, = schema()['properties'][kind]['patternProperties'].values()
    return found


def _is_valid(entry: _MAP, kind: str) -> bool:
    return bool(document.validator(_entry_schema(kind)).is_valid(entry))


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
