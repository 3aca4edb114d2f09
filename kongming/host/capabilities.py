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

"""A host's topology as libvirt's capabilities describe it."""

from __future__ import annotations

from collections.abc import Mapping
import types
from xml.etree import ElementTree

from kongming import exception
from kongming.host import topology


def parse(xml: str) -> topology.Host:
    """Read a host from libvirt's capabilities document.

    :param xml: what ``virConnectGetCapabilities`` returns; see
        https://libvirt.org/formatcaps.html
    :raises kongming.exception.InvalidTopology: if it holds no NUMA topology
        (libvirt older than 1.0, or a driver that knows none) or is no XML
    """
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError as exc:
        raise exception.InvalidTopology(
            reason=f'the capabilities are not XML: {exc}') from exc
    cells = root.findall('./host/topology/cells/cell')
    if not cells:
        raise exception.InvalidTopology(
            reason='the capabilities have no host/topology/cells')
    l3 = _l3_by_pcpu(root)
    try:
        nodes = tuple(sorted((_node(cell, l3) for cell in cells),
                             key=lambda node: node.id))
    except (KeyError, ValueError) as exc:
        raise exception.InvalidTopology(
            reason=f'the capabilities have a bad cell: {exc}') from exc
    return topology.Host(nodes)


def _l3_by_pcpu(root: ElementTree.Element) -> dict[int, int]:
    return {pcpu: int(bank.attrib['id'])
            for bank in root.findall('./host/cache/bank')
            if bank.get('level') == '3'
            for pcpu in topology.parse_cpu_list(bank.attrib['cpus'])}


def _node(cell: ElementTree.Element, l3: Mapping[int, int]) -> topology.Node:
    siblings: dict[tuple[int, ...], int | None] = {}
    offline: set[int] = set()
    for cpu in cell.findall('./cpus/cpu'):
        pcpu = int(cpu.attrib['id'])
        if cpu.get('siblings') is None:
            # libvirt lists an offline pCPU by its id alone
            # (src/conf/capabilities.c, virCapabilitiesHostNUMAFormat).
            offline.add(pcpu)
            continue
        socket = cpu.get('socket_id')
        core = tuple(sorted(topology.parse_cpu_list(cpu.attrib['siblings'])))
        siblings[core] = int(socket) if socket is not None else None
    memory = cell.find('memory')
    return topology.Node(
        id=int(cell.attrib['id']),
        cores=topology.order_cores(
            topology.Core(pcpus, socket, l3.get(pcpus[0]))
            for pcpus, socket in siblings.items()),
        memory_mib=(
            0 if memory is None
            else _kib(memory.text or '0', memory.get('unit')) // 1024),
        pages=types.MappingProxyType({
            _kib(page.attrib['size'], page.get('unit')): int(page.text or 0)
            for page in cell.findall('pages')}),
        distances=types.MappingProxyType({
            int(sibling.attrib['id']): int(sibling.attrib['value'])
            for sibling in cell.findall('./distances/sibling')}),
        offline=frozenset(offline))


def _kib(number: str, unit: str | None) -> int:
    scale = {None: 1, 'KiB': 1, 'MiB': 1024, 'GiB': 1024 * 1024}
    if unit not in scale:
        raise ValueError(f"unknown unit '{unit}'")
    return int(number) * scale[unit]
