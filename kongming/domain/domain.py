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

"""A libvirt domain: what its XML says, and how it was found running.

Values only.  The XML is what ``virDomainGetXMLDesc`` gives; see
https://libvirt.org/formatdomain.html.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import io
from typing import NamedTuple
from xml.etree import ElementTree

from kongming import exception
from kongming.host import topology
from kongming.live import threads
from kongming.template import guest as guest_mod

Pcpus = frozenset[int]

VCPU, IOTHREAD, EMULATOR = 'vCPU', 'I/O thread', 'emulator'

#: Of Nova's metadata (nova/virt/libvirt/config.py, NOVA_NS); its version is
#: left open.
_NOVA = 'http://openstack.org/xmlns/libvirt/nova/'

#: Extra specs and image properties that say which vCPUs own a pCPU.
_KIND = ('cpu_policy', 'cpu_dedicated_mask', 'cpu_realtime',
         'cpu_realtime_mask', 'cpu_thread_policy', 'emulator_threads_policy')


@dataclasses.dataclass(frozen=True)
class Flavor:
    """What Nova has written down of a server's flavor and image.

    :ivar server: its name in Nova
    :ivar guest: which vCPUs own a pCPU, as one cell
    :ivar specs: all extra specs
    """

    server: str
    guest: guest_mod.Guest
    specs: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Domain:
    """What a domain's XML says.

    :ivar vcpus: their number
    :ivar cells: the vCPUs of each guest NUMA cell; all in one where it has
        none
    :ivar iothreads: numbers of its I/O threads
    :ivar pins: what stands in ``cputune``
    :ivar cpuset: where threads run of which ``cputune`` says nothing; None:
        anywhere
    :ivar mode: how memory is bound; None where it isn't
    :ivar nodes: host nodes that its memory may be on
    :ivar memnodes: cell -> host nodes
    :ivar memory_kib: of each cell, or of the guest that has none
    :ivar flavor: None where it is not Nova's
    """

    name: str
    uuid: str
    vcpus: int
    cells: tuple[frozenset[int], ...]
    iothreads: Pcpus = frozenset()
    pins: threads.Threads = threads.Threads()
    cpuset: Pcpus | None = None
    mode: str | None = None
    nodes: Pcpus = frozenset()
    memnodes: Mapping[int, Pcpus] = dataclasses.field(default_factory=dict)
    memory_kib: tuple[int, ...] = (0,)
    flavor: Flavor | None = None

    def intended(self, kind: str, number: int = 0) -> Pcpus | None:
        """Where a thread is to run; None: anywhere."""
        if kind == EMULATOR:
            found = self.pins.emulator
        elif kind == VCPU:
            found = self.pins.vcpus.get(number)
        else:
            found = self.pins.iothreads.get(number)
        return self.cpuset if found is None else found


class Task(NamedTuple):
    """A thread, as the kernel has it.

    :ivar number: of the vCPU or the I/O thread
    :ivar allowed: pCPUs that it may run on
    :ivar last: the pCPU that it ran on last
    """

    kind: str
    number: int
    id: int
    allowed: Pcpus
    last: int
    sched: threads.Sched = threads.Sched()


class Ram(NamedTuple):
    """A mapping that is memory of a guest.

    :ivar bound: the nodes of its own policy; None where it has none
    :ivar kib: node -> KiB that are there
    """

    bound: Pcpus | None
    kib: Mapping[int, int]


@dataclasses.dataclass(frozen=True)
class Running:
    """A domain, and how it was found running."""

    domain: Domain
    tasks: tuple[Task, ...] = ()
    ram: tuple[Ram, ...] = ()


def thread_name(kind: str, number: int) -> str:
    return kind if kind == EMULATOR else f'{kind} {number}'


def parse(xml: str) -> Domain:
    """Read a domain's XML."""
    root = ElementTree.fromstring(xml)
    tune = root.find('./numatune/memory')
    # libvirt reports KiB, whatever was written.
    cells = root.findall('./cpu/numa/cell')
    vcpus = int(root.findtext('./vcpu', '1'))
    vcpu = root.find('./vcpu')
    cpuset = None if vcpu is None else vcpu.get('cpuset')
    return Domain(
        root.findtext('./name', ''), root.findtext('./uuid', ''),
        vcpus, tuple(topology.parse_cpu_list(cell.attrib['cpus'])
                     for cell in cells) or (frozenset(range(vcpus)),),
        _iothreads(root), pins(root),
        topology.parse_cpu_list(cpuset) if cpuset else None,
        None if tune is None else tune.get('mode', 'strict'),
        frozenset() if tune is None else _nodes(tune),
        {int(node.attrib['cellid']): _nodes(node)
         for node in root.findall('./numatune/memnode')},
        tuple(int(cell.attrib['memory']) for cell in cells)
        or (int(root.findtext('./memory', '0')),),
        _flavor(root))


def pins(root: ElementTree.Element) -> threads.Threads:
    """What stands in ``cputune``."""
    tune = root.find('./cputune')
    if tune is None:
        return threads.Threads()
    emulator = tune.find('./emulatorpin')
    return threads.Threads(
        {int(pin.attrib['vcpu']): topology.parse_cpu_list(
            pin.attrib['cpuset']) for pin in tune.findall('./vcpupin')},
        None if emulator is None else topology.parse_cpu_list(
            emulator.attrib['cpuset']),
        {int(pin.attrib['iothread']): topology.parse_cpu_list(
            pin.attrib['cpuset']) for pin in tune.findall('./iothreadpin')},
        {vcpu: threads.Sched(entry.attrib['scheduler'],
                             int(entry.get('priority', '0')))
         for entry in tune.findall('./vcpusched')
         for vcpu in topology.parse_cpu_list(entry.attrib['vcpus'])})


def with_nodes(xml: str, nodes: Sequence[int]) -> str | None:
    """A domain's XML that binds its cells to nodes.

    :param nodes: of each cell; with several, each is bound by itself
    :returns: None where it does so already, or binds no memory
    """
    root = _parse_to_write(xml)
    tune = root.find('./numatune/memory')
    if tune is None or not nodes:
        return None
    wanted: list[tuple[ElementTree.Element, Pcpus]] = [
        (tune, frozenset(nodes))]
    wanted += [(element, frozenset({nodes[int(element.attrib['cellid'])]}))
               for element in root.findall('./numatune/memnode')]
    if all(_nodes(element) == found for element, found in wanted):
        return None
    for element, found in wanted:
        element.set('nodeset', topology.format_cpu_list(found))
    return ElementTree.tostring(root, encoding='unicode')


def _parse_to_write(xml: str) -> ElementTree.Element:
    for _event, (prefix, uri) in ElementTree.iterparse(
            io.StringIO(xml), events=['start-ns']):
        # So that others' metadata is written as it was.
        ElementTree.register_namespace(prefix, uri)
    return ElementTree.fromstring(xml)


def with_sched(xml: str, sched: Mapping[int, threads.Sched]) -> str:
    """A domain's XML that says how its vCPUs are scheduled, and only these."""
    root = _parse_to_write(xml)
    tune = root.find('./cputune')
    if tune is None:
        tune = ElementTree.SubElement(root, 'cputune')
    for entry in tune.findall('./vcpusched'):
        tune.remove(entry)
    for vcpu, (policy, priority) in sorted(sched.items()):
        entry = ElementTree.SubElement(tune, 'vcpusched', {
            'vcpus': str(vcpu), 'scheduler': policy})
        if priority:
            entry.set('priority', str(priority))
    return ElementTree.tostring(root, encoding='unicode')


def _nodes(element: ElementTree.Element) -> Pcpus:
    text = element.get('nodeset')
    return topology.parse_cpu_list(text) if text else frozenset()


def _iothreads(root: ElementTree.Element) -> Pcpus:
    numbers = {int(each.attrib['id'])
               for each in root.findall('./iothreadids/iothread')}
    return frozenset(numbers or range(
        1, int(root.findtext('./iothreads', '0')) + 1))


def _flavor(root: ElementTree.Element) -> Flavor | None:
    instance = next((element for element in root.findall('./metadata/*')
                     if element.tag.startswith(f'{{{_NOVA}')
                     and element.tag.endswith('}instance')), None)
    if instance is None:
        return None
    specs = {spec.attrib['name']: spec.text or ''
             for spec in instance.findall(
                 './{*}flavor/{*}extraSpecs/{*}extraSpec')}
    image = {each.attrib['name']: each.text or ''
             for each in instance.findall(
                 './{*}image/{*}properties/{*}property')}
    kind = {f'hw:{name}': value for name in _KIND
            if (value := specs.get(f'hw:{name}', image.get(f'hw_{name}')))}
    kind |= {key: value for key, value in specs.items()
             if key.startswith(('resources', 'trait'))}
    return Flavor(
        exception.printable(instance.findtext('./{*}name', '')),
        guest_mod.from_flavor(int(root.findtext('./vcpu', '1')), 0, kind),
        specs)
