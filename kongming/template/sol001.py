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

"""Templates in VNF descriptors: ``virtual_cpu_pinning`` of ETSI NFV-SOL 001.

SOL 001 (clause 6.2.9, VirtualCpuPinning) has a policy, ``static`` or
``dynamic``, and with ``static`` a list of rules whose text it leaves open.
Here a rule is entries of a pin map, ``0:4 1:36``, of a guest NUMA cell other
than the first with its number before them, ``1=2:8 3:9``.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
import re
from typing import Any

import yaml

from kongming import exception
from kongming.template import template as template_mod

_POLICY = 'virtual_cpu_pinning_policy'
_RULE = 'virtual_cpu_pinning_rule'
_PATH = ('capabilities', 'virtual_compute', 'properties', 'virtual_cpu',
         'virtual_cpu_pinning')


def parse(text: str, vdu: str | None = None) -> template_mod.Template:
    """The template in a VNF descriptor.

    :param vdu: name of the node template, where several have one
    :raises kongming.exception.InvalidTemplate: naming place and value
    """
    try:
        loaded = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as exc:
        raise _problem('the descriptor', '', f'it is no YAML: {exc}') from exc
    found = dict(_pinnings(loaded))
    if vdu is None and len(found) == 1:
        vdu, = found
    if vdu not in found:
        names = ', '.join(sorted(found)) or 'none'
        raise _problem(
            'node_templates', vdu or '',
            f'name one of those with virtual_cpu_pinning: {names}')
    return _read(f'{vdu}.{_PATH[-1]}', found[vdu])


def _pinnings(loaded: Any) -> Iterator[tuple[str, Any]]:
    nodes = _down(loaded, 'topology_template', 'node_templates')
    for name, node in (nodes or {}).items():
        pinning = _down(node, *_PATH)
        if pinning is not None:
            yield str(name), pinning


def _down(value: Any, *keys: str) -> Any:
    for key in keys:
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value


def _read(where: str, pinning: Any) -> template_mod.Template:
    policy, rules = _down(pinning, _POLICY), _down(pinning, _RULE)
    if policy not in ('static', 'dynamic'):
        raise _problem(f'{where}.{_POLICY}', str(policy),
                       'it must be static or dynamic')
    if policy == 'dynamic':
        if rules:
            raise _problem(f'{where}.{_RULE}', str(rules),
                           'there are no rules with dynamic')
        return template_mod.Template()
    if not isinstance(rules, list) or not rules:
        raise _problem(f'{where}.{_RULE}', str(rules),
                       'with static it must be a list of rules, such as '
                       '"0:4 1:36"')
    maps: dict[str, list[str]] = {}
    for number, rule in enumerate(rules):
        match = re.fullmatch(r'\s*(?:([0-9]+)\s*=)?(.*)', str(rule))
        if match is None:
            raise _problem(f'{where}.{_RULE}.{number}', str(rule),
                           'it is more than one line')
        maps.setdefault(match[1] or '0', []).append(match[2])
    return template_mod.decode({
        f'{template_mod.PREFIX}pin.{cell}': ' '.join(parts)
        for cell, parts in maps.items()})


def _problem(where: str, value: str,
             reason: str) -> exception.InvalidTemplate:
    return exception.InvalidTemplate(
        [exception.Problem(where, value, 0, reason)])


def dump(template: template_mod.Template) -> dict[str, Any]:
    """The ``virtual_cpu`` of a descriptor with a template's pins.

    What else a template says has no place there.
    """
    pinning: dict[str, Any] = {_POLICY: 'dynamic'}
    if template.pins:
        pinning = {_POLICY: 'static', _RULE: [
            f'{cell}={entry}' if cell else str(entry)
            for cell, entries in sorted(template.pins.items())
            for entry in entries]}
    return {_PATH[-2]: {_PATH[-1]: pinning}}
