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

"""``kongming topology``: what this host is made of."""

from cliff import columns as cliff_columns
from cliff import lister

from kongming.cli import columns
from kongming.cli import help as help_mod
from kongming.cli import source
from kongming.libvirt import hypervisor
from kongming.render import pages

COLUMNS = ('node', 'memory_mib', 'pages', 'cores', 'offline', 'dedicated',
           'shared', 'distances')


class Pages(cliff_columns.FormattableColumn):
    """Page size in KiB -> number; people see huge ones only."""

    def human_readable(self):
        return '\n'.join(
            f'{number} x {pages.size(kib)}'
            for kib, number in sorted(self._value.items())[1:]
            if number) or '-'

    def machine_readable(self):
        return [{'size_kib': kib, 'total': number}
                for kib, number in sorted(self._value.items())]


class Cores(cliff_columns.FormattableColumn):
    """Cores; a line for each L3 cache, siblings joined by a plus."""

    def human_readable(self):
        lines: dict[str, list[str]] = {}
        for core in self._value:
            place = ', '.join(
                f'{name} {number}' for name, number in
                (('socket', core.socket), ('L3', core.l3))
                if number is not None)
            lines.setdefault(place, []).append('+'.join(
                map(str, core.pcpus)))
        return '\n'.join(f'{place}: {text}' if place else text
                         for place, cores in lines.items()
                         for text in _folded(cores)) or '-'

    def machine_readable(self):
        return [{'pcpus': list(core.pcpus), 'socket': core.socket,
                 'l3': core.l3} for core in self._value]


def _folded(cores, per_line=8):
    for start in range(0, len(cores), per_line):
        yield ' '.join(cores[start:start + per_line])


class Distances(cliff_columns.FormattableColumn):
    """node -> distance."""

    def human_readable(self):
        return ' '.join(f'{node}:{distance}' for node, distance
                        in sorted(self._value.items())) or '-'

    def machine_readable(self):
        return {str(node): distance for node, distance
                in sorted(self._value.items())}


class Topology(help_mod.Help, lister.Lister):
    """Show this host's NUMA nodes, cores, memory, pages and caches.

    The columns dedicated and shared are what nova.conf lets Nova use
    ([compute] cpu_dedicated_set and cpu_shared_set). They are 'any' if there
    is no nova.conf. Cores are in the order in which templates count them
    (n0c2t1), if Nova may use all pCPUs of the host.

    Examples::

        kongming topology
        kongming topology -f json
        kongming topology --config-file /etc/nova/nova-cpu.conf
        ssh compute1 virsh capabilities |
            kongming topology --capabilities - --dedicated 4-31 --shared 0-3
    """

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        source.add_arguments(parser, hypervisor.URI)
        return parser

    def take_action(self, parsed_args):
        _name, host = source.read_host(parsed_args)
        sets = source.read_sets(parsed_args, source.NOVA_CONF)

        def usable(node, pcpus):
            if sets is None:
                return columns.Pcpus(None)
            if sets.dedicated is None and sets.shared is None:
                return columns.Pcpus(node.pcpus)  # Nova's default
            return columns.Pcpus(node.pcpus & (pcpus or frozenset()))

        return COLUMNS, [
            (node.id, node.memory_mib, Pages(node.pages), Cores(node.cores),
             columns.Pcpus(node.offline),
             usable(node, sets and sets.dedicated),
             usable(node, sets and sets.shared), Distances(node.distances))
            for node in host.nodes]
