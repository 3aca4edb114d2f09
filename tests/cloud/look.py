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


"""What is really so, asked of each party that can know.

Nova's database, Placement's API, libvirt, and the kernel of the host.
"""

import collections
import json
from xml.etree import ElementTree

import libvirt

from kongming.host import topology
from kongming.placement import inventory
from tests.cloud import stores
from tests.embedded import witness

# It prints what it also raises.
libvirt.registerErrorHandler(lambda *_: None, None)
_DOMAIN_NAME = 'cloud-%08x'


class Look:
    """:param cloud: tests.cloud.cloud.Cloud"""

    def __init__(self, cloud, admin):
        self.cloud = cloud
        self._admin = admin

    def _query(self, text, *values, database='nova'):
        return stores.query(self.cloud.layout, database, text, *values)

    # Nova's database.

    def server(self, uuid):
        """A row of Nova's database: host, id, states."""
        row, = self._query(
            'SELECT id, host, node, vm_state, task_state, power_state '
            'FROM instances WHERE uuid = %s', uuid)
        return row

    def servers(self):
        """uuid -> host of those that are not deleted."""
        return {row['uuid']: row['host'] for row in self._query(
            'SELECT uuid, host FROM instances WHERE deleted = 0')}

    def reports(self):
        """host -> how often its nova-compute has said that it is up."""
        return {row['host']: row['report_count'] for row in self._query(
            "SELECT host, report_count FROM services WHERE deleted = 0 "
            "AND services.binary = 'nova-compute'")}

    def cells(self, uuid):
        """What a server owns: (node, {vCPU: pCPU}, reserved) a cell."""
        row, = self._query('SELECT numa_topology FROM instance_extra '
                           'WHERE instance_uuid = %s', uuid)
        if row['numa_topology'] is None:
            return []
        found = []
        for cell in json.loads(row['numa_topology'])['nova_object.data'][
                'cells']:
            data = cell['nova_object.data']
            found.append((data['id'], {
                int(vcpu): pcpu
                for vcpu, pcpu in (data.get('cpu_pinning_raw') or {}).items()
            }, frozenset(data.get('cpuset_reserved') or ())))
        return found

    def pins(self, uuid):
        """vCPU -> pCPU, by Nova's database."""
        return {vcpu: pcpu for _node, pins, _reserved in self.cells(uuid)
                for vcpu, pcpu in pins.items()}

    def owners(self):
        """(host, pCPU) -> the servers that own it; one is right."""
        found = collections.defaultdict(set)
        for uuid, host in self.servers().items():
            for _node, pins, reserved in self.cells(uuid):
                for pcpu in {*pins.values(), *reserved}:
                    found[host, pcpu].add(uuid)
        return found

    def tracked(self):
        """(host, pCPU) that the compute nodes' records have as taken."""
        found = set()
        for row in self._query('SELECT host, numa_topology FROM '
                               'compute_nodes WHERE deleted = 0'):
            for cell in json.loads(row['numa_topology'] or '{}').get(
                    'nova_object.data', {'cells': ()})['cells']:
                found |= {(row['host'], pcpu) for pcpu in
                          cell['nova_object.data']['pinned_cpus']}
        return found

    # Placement.

    def allocations(self, uuid):
        """provider's name -> resources of a consumer."""
        names = self.providers()
        found = self._placement(f'/allocations/{uuid}')['allocations']
        return {names[provider]: each['resources']
                for provider, each in found.items()}

    def providers(self):
        return {provider['uuid']: provider['name'] for provider in
                self._placement('/resource_providers')['resource_providers']}

    def consumers(self):
        """All who have something allocated, in Placement's database."""
        return {row['consumer_id'] for row in self._query(
            'SELECT DISTINCT consumer_id FROM allocations',
            database='placement')}

    def named(self, uuid):
        """(host, pCPU) allocated by its own class."""
        return {(name.partition('_KONGMING_NODE')[0], pcpu)
                for name, resources in self.allocations(uuid).items()
                for pcpu in inventory.named_pcpus(resources)}

    def accounts(self, tracked):
        """What Placement says of pCPUs and is not so, in words.

        A pCPU that is taken is allocated or reserved once, by its own class
        and by the number of pCPUs; what is free is neither.

        :param tracked: (host, pCPU) that are taken
        """
        on = self.servers()
        for provider, name in self.providers().items():
            host, separator, _node = name.partition('_KONGMING_NODE')
            if not separator:
                continue
            place = f'/resource_providers/{provider}'
            records = self._placement(f'{place}/inventories')['inventories']
            usages = self._placement(f'{place}/usages')['usages']
            used = {kind: usages.get(kind, 0) + record['reserved']
                    for kind, record in records.items()}
            right = {inventory.pcpu_class(pcpu): int((host, pcpu) in tracked)
                     for pcpu in inventory.named_pcpus(records)}
            right[inventory.PCPU] = sum(right.values())
            for kind, number in right.items():
                if used.get(kind, 0) != number:
                    yield (f'{name}: {used.get(kind, 0)} of {kind} are '
                           f'allocated or reserved, {number} are taken')
            for consumer in self._placement(
                    f'{place}/allocations')['allocations']:
                if on.get(consumer) != host:
                    yield (f'{name}: {consumer}, which is on '
                           f'{on.get(consumer)}, has allocations')

    def _placement(self, path):
        return self._admin.sdk.placement.get(
            path, microversion='1.36').json()

    # libvirt and the kernel.

    def host(self, uuid):
        return self.cloud.hosts[self.server(uuid)['host']]

    def domain_name(self, uuid):
        return _DOMAIN_NAME % self.server(uuid)['id']

    def domains(self, host, flags=0):
        """uuid -> (name, XML) of the domains that run on a host."""
        connection = libvirt.open(host.uri)
        try:
            return {domain.UUIDString(): (domain.name(), domain.XMLDesc(flags))
                    for domain in connection.listAllDomains(
                        libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)}
        finally:
            connection.close()

    def xml(self, uuid, flags=0):
        return self.domains(self.host(uuid), flags)[uuid][1]

    def threads(self, uuid):
        """vCPU -> pCPUs, by the kernel of the server's host."""
        return witness.threads(self.domain_name(uuid), self.host(uuid).shell)

    def nodes(self, uuid):
        """Where its process may have memory, by the kernel."""
        _name, nodes = self.host(uuid).shell(
            f'pid={witness.pid_file(self.domain_name(uuid))}\n'
            'grep Mems_allowed_list /proc/$pid/status').split()
        return topology.parse_cpu_list(nodes)

    def process(self, uuid):
        """The pid of its QEMU, and the ticks of CPU time it has had."""
        # The kernel shares them out between user and system by its samples.
        pid, *ticks = self.host(uuid).shell(
            f'pid={witness.pid_file(self.domain_name(uuid))}\necho $pid\n'
            "sed 's/.*) //' /proc/$pid/stat | cut -d' ' -f12,13").split()
        return int(pid), sum(map(int, ticks))

    def everybody_says(self, uuid, node, pins):
        """What differs from this, party by party; empty if nothing does.

        :param pins: vCPU -> pCPU
        """
        wanted = {vcpu: frozenset({pcpu}) for vcpu, pcpu in pins.items()}
        wrong = []

        def party(name, found, right):
            if found != right:
                wrong.append(f'{name}: {found}, not {right}')

        party("Nova's database",
              [cell[:2] for cell in self.cells(uuid)], [(node, pins)])
        party('domain XML', witness.domain(self.xml(uuid))[0], wanted)
        xml = self.xml(uuid, libvirt.VIR_DOMAIN_XML_INACTIVE)
        party('persistent domain XML', witness.domain(xml)[0], wanted)
        # That of a domain that runs goes on naming the node of its start.
        party('persistent domain XML, node', memory_nodes(xml),
              frozenset({node}))
        party("the kernel's threads", self.threads(uuid), wanted)
        party("the kernel's nodes", self.nodes(uuid), frozenset({node}))
        host = self.server(uuid)['host']
        owners = self.owners()
        party('owners', {pcpu for (on, pcpu), who in owners.items()
                         if on == host and uuid in who}, {*pins.values()})
        return wrong

    # All of it.

    def audit(self):
        """What is wrong anywhere; empty if nothing is."""
        wrong, owners = [], self.owners()
        for (host, pcpu), who in owners.items():
            if len(who) > 1:
                wrong.append(f'pCPU {pcpu} of {host} has owners {who}')
        servers = self.servers()
        hosts = self.cloud.hosts
        tracked = self.tracked()
        if {key for key in owners if key[0]} != tracked:
            wrong.append(f'owned and not tracked: {set(owners) - tracked}; '
                         f'tracked and not owned: {tracked - set(owners)}')
        for consumer in self.consumers() - servers.keys():
            wrong.append(f'{consumer} has allocations '
                         f'{self.allocations(consumer)} and is no server')
        for name, host in hosts.items():
            wrong += self._audit_host(name, host, servers, owners)
        for uuid, host in servers.items():
            named = self.named(uuid)
            mine = {key for key, who in owners.items() if uuid in who}
            if not named <= mine:
                wrong.append(f'{uuid} has allocated {named - mine}, which '
                             f'it does not own')
        wrong += self.accounts(tracked)
        return wrong

    def _audit_host(self, name, host, servers, owners):
        domains = self.domains(host)
        for uuid in domains.keys() - {
                uuid for uuid, on in servers.items() if on == name}:
            yield f'{name} runs {uuid}, which is no server of it'
        threads = witness.threads_of_all(
            [name for name, _xml in domains.values()], host.shell)
        running = {}
        for uuid, (domain, xml) in domains.items():
            pins, _nodes = witness.domain(xml)
            if pins != threads[domain]:
                yield (f'{uuid} on {name}: libvirt says {pins}, the kernel '
                       f'{threads[domain]}')
            mine = {pcpu for (on, pcpu), who in owners.items()
                    if on == name and uuid in who}
            others = {pcpu for (on, pcpu), who in owners.items()
                      if on == name and who - {uuid}}
            for vcpu, pcpus in threads[domain].items():
                if pcpus & others:
                    yield (f'vCPU {vcpu} of {uuid} on {name} runs on '
                           f'{pcpus & others}, which others own')
                if mine and not pcpus <= mine | {*host.cpu_sets()[0]}:
                    yield f'vCPU {vcpu} of {uuid} on {name} is on {pcpus}'
                running.setdefault(frozenset(pcpus), []).append(uuid)


def memory_nodes(xml):
    """The nodes that a domain's memory is bound to."""
    bound = ElementTree.fromstring(xml).find('./numatune/memory')
    return (topology.parse_cpu_list(bound.get('nodeset'))
            if bound is not None else frozenset())
