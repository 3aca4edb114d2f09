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

:func:`read` also takes what OSM and ONAP write (:mod:`kongming.vnfd.osm`,
:mod:`kongming.vnfd.onap`).
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
import functools
import re
from typing import Any

from kongming import exception
from kongming.template import markup
from kongming.template import template as template_mod
from kongming.vnfd import onap
from kongming.vnfd import osm
from kongming.vnfd import vdu as vdu_mod

_POLICY = 'virtual_cpu_pinning_policy'
_RULE = 'virtual_cpu_pinning_rule'
_PATH = ('capabilities', 'virtual_compute', 'properties', 'virtual_cpu',
         'virtual_cpu_pinning')


def parse(text: str, vdu: str | None = None) -> template_mod.Template:
    """The template in a VNF descriptor.

    :param vdu: its name, where several say something
    :raises kongming.exception.InvalidTemplate: naming place and value
    """
    return read(text, vdu).template()


def read(text: str, vdu: str | None = None) -> vdu_mod.Vdu:
    """All that a descriptor says of a VDU.

    :param vdu: its name, where several say something
    :raises kongming.exception.InvalidTemplate: naming place and value
    """
    loaded = markup.load(text)
    found: dict[str, vdu_mod.Read] = {}
    for vdus in (_vdus(loaded), osm.vdus(loaded), onap.vnfcs(loaded)):
        for name, said in vdus:
            if name in found:
                raise vdu_mod.refused(
                    name, '', 'the descriptor has two VDUs of this name')
            # One that says nothing is none of those to choose from.
            if said:
                found[name] = said
    if vdu is None and len(found) == 1:
        vdu, = found
    if vdu not in found:
        names = ', '.join(sorted(found)) or 'none'
        raise vdu_mod.refused(
            'the VDU', vdu or '', f'name one of those that say something of '
                                  f'pinning, threads or NUMA: {names}')
    chosen = found[vdu]
    if isinstance(chosen, exception.InvalidTemplate):
        raise chosen
    return chosen


def _vdus(loaded: Any) -> Iterator[tuple[str, vdu_mod.Read]]:
    """Node templates by their names."""
    nodes = vdu_mod.down(loaded, 'topology_template', 'node_templates')
    for name, node in (nodes if isinstance(nodes, Mapping) else {}).items():
        yield name, vdu_mod.attempt(functools.partial(
            _node, name, vdu_mod.down(node, *_PATH[:3])))


def _node(name: str, compute: Any, found: vdu_mod.Vdu) -> None:
    pinning = vdu_mod.down(compute, *_PATH[3:])
    if pinning is not None:
        _read(found, f'{name}.{_PATH[-1]}', pinning)
    onap.read_tosca(found, compute, name)


def _read(found: vdu_mod.Vdu, where: str, pinning: Any) -> None:
    policy, rules = (vdu_mod.down(pinning, key)
                     for key in (_POLICY, _RULE))
    place = f'{where}.{_RULE}'
    if policy not in ('static', 'dynamic'):
        raise vdu_mod.refused(f'{where}.{_POLICY}', policy,
                              'it must be static or dynamic')
    if policy == 'dynamic':
        if rules:
            raise vdu_mod.refused(place, rules,
                                  'there are no rules with dynamic')
        found.dynamic = True
        return
    if not isinstance(rules, list) or not rules:
        raise vdu_mod.refused(
            place, rules, 'with static it must be a list of rules, such as '
                          '"0:4 1:36"')
    maps: dict[str, list[str]] = {}
    for number, rule in enumerate(rules):
        if not isinstance(rule, str):
            raise vdu_mod.refused(f'{place}.{number}', rule,
                                  'it must be text, such as "0:4 1:36"')
        match = re.fullmatch(r'\s*(?:([0-9]+)\s*=)?(.*)', rule)
        if match is None:
            raise vdu_mod.refused(f'{place}.{number}', rule,
                                  'it is more than one line')
        maps.setdefault(match[1] or '0', []).append(match[2])
    for cell, parts in maps.items():
        found.keys[f'{template_mod.PREFIX}pin.{cell}'] = ' '.join(parts)


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
