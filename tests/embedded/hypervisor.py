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

"""What Nova's simulated libvirt lacks: changes of a running domain.

Answers, refusals included, are those that a real libvirt 9.0 gives.
"""

from xml.etree import ElementTree

import fixtures
from nova.tests.fixtures import libvirt as fakelibvirt

from kongming.domain import domain as domain_mod
from kongming.host import topology
from kongming.libvirt import affinity
from kongming.live import witness
from tests import numa

_INACTIVE = 2
_DOMAIN = 'nova.tests.fixtures.libvirt.Domain'


def _refuse(message):
    return fakelibvirt.make_libvirtError(fakelibvirt.libvirtError, message)


def _pin_vcpu(domain, vcpu, cpumap, flags):
    if vcpu >= domain._def['vcpu']['number']:
        raise _refuse(f'vcpu {vcpu} is out of range')
    if not any(cpumap):
        raise _refuse('Empty cpu list for pinning')
    domain._def['cpu_pins'][str(vcpu)] = _cpu_list(cpumap)


def _pin_emulator(domain, cpumap, flags):
    domain._def['emulator_pin'] = _cpu_list(cpumap)


def _pin_iothread(domain, thread, cpumap, flags):
    domain._def['iothread_pin'] = _cpu_list(cpumap)


def _cpu_list(cpumap):
    return topology.format_cpu_list(
        pcpu for pcpu, on in enumerate(cpumap) if on)


def _define(connection, xml):
    """One that runs goes on, and has this for its next start."""
    root = ElementTree.fromstring(xml)
    domain = connection._vms.get(root.findtext('./name'))
    if domain is None or not domain.isActive():
        return _define.native(connection, xml)
    domain._def['numatune_later'] = _numatune(root)
    return domain


_define.native = fakelibvirt.Connection.defineXML


def _numatune(root):
    tune = root.find('./numatune')
    return (None if tune is None
            else ElementTree.tostring(tune, encoding='unicode'))


def _get_free_pages(connection, sizes, start, count, flags=0):
    """All that is there: this host's memory is as free as can be."""
    return {cell.id: {page.size: page.total for page in cell.mempages
                      if page.size in sizes}
            for cell in connection.host_info.numa_topology.cells[
                start:start + count]}


class LiveTuning(fixtures.Fixture):
    """Pins, and memory as the domain's ``numatune`` binds it."""

    def _setUp(self):
        for name, function in (('pinVcpuFlags', _pin_vcpu),
                               ('pinEmulator', _pin_emulator),
                               ('pinIOThread', _pin_iothread),
                               ('connect', lambda domain:
                                domain._connection)):
            self.useFixture(fixtures.MonkeyPatch(f'{_DOMAIN}.{name}',
                                                 function))
        self.useFixture(fixtures.MonkeyPatch(
            'nova.tests.fixtures.libvirt.Connection.getFreePages',
            _get_free_pages))
        self.useFixture(fixtures.MonkeyPatch(
            'nova.tests.fixtures.libvirt.Connection.defineXML', _define))
        self._record_numatune()

    def _record_numatune(self):
        """The simulated domain forgets how its memory is bound."""
        parse, describe = (fakelibvirt.Domain._parse_definition,
                           fakelibvirt.Domain.XMLDesc)

        def parse_definition(domain, xml):
            found = parse(domain, xml)
            found['numatune'] = _numatune(ElementTree.fromstring(xml))
            return found

        def xml_desc(domain, flags):
            text = describe(domain, flags)
            if not domain._def['numatune']:
                return text
            root = ElementTree.fromstring(text)
            tune = root.find('./numatune')
            if tune is not None:
                root.remove(tune)
            later = domain._def.get('numatune_later')
            root.append(ElementTree.fromstring(
                later if later and flags & _INACTIVE
                else domain._def['numatune']))
            return ElementTree.tostring(root, encoding='unicode')

        for name, function in (('_parse_definition', parse_definition),
                               ('XMLDesc', xml_desc)):
            self.useFixture(fixtures.MonkeyPatch(f'{_DOMAIN}.{name}',
                                                 function))


class Witness(fixtures.Fixture):
    """The kernel's word of simulated domains' threads, and of pCPUs.

    A thread is where libvirt says, as far as that is online, else anywhere;
    until it is pinned again it is where somebody has put it.

    :ivar online: set of those that are
    :ivar cpus: kongming.host.stale.Cpus; None: they are not to be read
    :ivar seen: whether processes are
    :ivar refusal: why threads may not be set; empty: they may
    :ivar moved: (server's uuid, kind, number) -> pCPUs, of threads that were
        put somewhere else
    :ivar kept: what KongMing has had the kernel do: (thread, pCPUs)
    """

    def _setUp(self):
        self.online = set(range(1024))
        self.seen, self.refusal = True, ''
        self.moved, self.kept = {}, []
        self.cpus = None
        self._domains = []
        for name, function in (
                ('affinity.process_of', self._process),
                ('affinity.Reader.read', lambda _reader, *args: self._read(
                    *args)),
                ('affinity.may_hold', lambda _process: self.refusal),
                ('affinity.hold', self._hold),
                ('cpus.online', lambda: frozenset(self.online)),
                ('cpus.read', self._read_cpus)):
            self.useFixture(fixtures.MonkeyPatch(f'kongming.kernel.{name}',
                                                 function))
        for name, kind in (('pinVcpuFlags', domain_mod.VCPU),
                           ('pinIOThread', domain_mod.IOTHREAD)):
            self._watch(name, lambda number, *_rest, kind=kind: (
                kind, number), 1)
        self._watch('pinEmulator', lambda *_args: (domain_mod.EMULATOR, 0), 0)

    def _read_cpus(self):
        if self.cpus is None:
            raise FileNotFoundError('/sys/devices/system/cpu')
        return self.cpus

    def _watch(self, name, thread_of, at):
        real = getattr(fakelibvirt.Domain, name)

        def pin(domain, *args):
            key = (domain.UUIDString(), *thread_of(*args))
            pcpus = {pcpu for pcpu, on in enumerate(args[at]) if on}
            if pcpus and not pcpus & self.online:
                self.moved[key] = frozenset(self.online)
                raise _refuse('Requested operation is not valid: failed to '
                              'set affinity')
            real(domain, *args)
            self.moved.pop(key, None)

        self.useFixture(fixtures.MonkeyPatch(f'{_DOMAIN}.{name}', pin))

    def _process(self, domain):
        if not self.seen or not domain.isActive():
            return None
        self._domains.append(domain)
        return len(self._domains)

    def _read(self, process, most=None):
        domain = self._domains[process - 1]
        pins, uuid = affinity.read(domain), domain.UUIDString()
        found = [(domain_mod.VCPU, vcpu, 100 + vcpu, pcpus)
                 for vcpu, pcpus in pins.vcpus.items()]
        found += [(domain_mod.IOTHREAD, number, 50 + number, pcpus)
                  for number, pcpus in pins.iothreads.items()]
        found.append((domain_mod.EMULATOR, 0, 99,
                      pins.emulator or frozenset(self.online)))
        return [witness.Thread(kind, number, ident, self.moved.get(
            (uuid, kind, number),
            pcpus & self.online or frozenset(self.online)), pcpus)
            for kind, number, ident, pcpus in found]

    def _hold(self, process, places):
        uuid = self._domains[process - 1].UUIDString()
        for ident, pcpus in places.items():
            kind, number = ((domain_mod.EMULATOR, 0) if ident == 99 else
                            (domain_mod.VCPU, ident - 100) if ident >= 100
                            else (domain_mod.IOTHREAD, ident - 50))
            self.moved[uuid, kind, number] = pcpus
            self.kept.append((ident, pcpus))


class Kernel(fixtures.Fixture):
    """A kernel that has simulated domains' threads where libvirt says.

    :ivar elsewhere: server's uuid -> pCPUs that its vCPUs may run on, where
        that is not what libvirt says
    """

    def _setUp(self):
        self.elsewhere = {}
        self._domains = []
        for name, function in (('pid', self._pid), ('tasks', self._tasks),
                               ('vcpu_threads', lambda _pid: {})):
            self.useFixture(fixtures.MonkeyPatch(
                f'kongming.kernel.process.{name}', function))

    def _pid(self, domain):
        if not domain.isActive():
            return None
        if domain not in self._domains:
            self._domains.append(domain)
        return self._domains.index(domain) + 1

    def _tasks(self, pid):
        domain = self._domains[pid - 1]
        pins = affinity.read(domain)
        return [domain_mod.Task(
            domain_mod.VCPU, vcpu, 100 + vcpu,
            self.elsewhere.get(domain.UUIDString(), pcpus), 0)
            for vcpu, pcpus in pins.vcpus.items()] + [
                domain_mod.Task(domain_mod.EMULATOR, 0, 99,
                                pins.emulator or frozenset(), 0)]


class Numa(Kernel):
    """A kernel that has the memory of simulated domains, too.

    :ivar numa: tests.numa.Kernel
    """

    def _setUp(self):
        super()._setUp()
        self.numa = numa.Kernel(range(4), {})
        for name in ('texts', 'in_the_way', 'set_mems', 'migrate_pages',
                     'move_slice'):
            self.useFixture(fixtures.MonkeyPatch(
                f'nova_ext.privileged.{name}', getattr(self.numa, name)))
        self.useFixture(fixtures.MonkeyPatch(
            'kongming.kernel.numa.groups', self.numa.groups))

    def _pid(self, domain):
        pid = super()._pid(domain)
        if pid is not None:
            self.adopt(pid, domain)
        return pid

    def adopt(self, pid, domain):
        """Give a process the memory of a domain, where it has none."""
        if pid not in self.numa.processes:
            self.numa.processes[pid] = self._process(domain)

    @staticmethod
    def _process(domain):
        found = domain_mod.parse(domain.XMLDesc(0))
        nodes = [min(found.memnodes[cell]) for cell in sorted(found.memnodes)]
        # The simulated domain forgets how large each cell is.
        size = sum(found.memory_kib) // len(nodes)
        return numa.Process(nodes, policy=found.mode != 'restrictive',
                            sizes_kib=[size] * len(nodes))

    def memory_of(self, domain):
        """The numa.Process of a running domain."""
        return self.numa.processes[self._pid(domain)]
