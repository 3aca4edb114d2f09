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

"""Clouds to be drawn: hosts with servers, in the values of the renderer."""

import datetime
import random

from kongming.host import usage
from kongming.render import cloud as cloud_mod

#: So that what is drawn of a cloud is the same each time.
MOMENT = datetime.datetime(2026, 11, 27, 20, 0, tzinfo=datetime.UTC)
#: Names that nobody should be able to do anything with.
HOSTILE = (
    '<script>document.title="out"</script>', '</script><img src=x onerror=x>',
    '"><svg onload=alert(1)>', "' onfocus='x", '<!--<script>', ']]>',
    '&lt;b&gt;', 'a\nb\r\nc', '\u202egnp.exe', '\u2066x\u2069', 'x\u200by',
    '\x1b[31mred',
    '\x1b]0;title\x07', '\x00\x08', '\ud800', '@data@', '{{x}}', '${x}',
    '\u05d0\u05d1\u05d2 \u0645\u0631\u062d\u0628\u0627',
    '\u4e91\u670d\u52a1\u5668',
    'x' * 255, '\u0301\u0301e', '\U0001f41f' * 20, 'javascript:alert(1)',
    '../../etc/passwd', '=cmd|x', '__proto__', 'constructor', '')


def cloud(hosts=12, servers=60, cores=16, changes=0, name='demo', seed=1,
          names=(), nodes=2):
    """Hosts of some nodes, filled unevenly; some marked.

    :param cores: of two threads, of a node; the first is shared
    :param changes: live changes in all, over the last day
    :param names: what servers are called first
    """
    dice = random.Random(seed)
    built = [_Host(f'compute{number:0{len(str(hosts - 1))}d}', nodes, cores)
             for number in range(hosts)]
    made = []
    for number in range(servers):
        # Some hosts are liked more than others.
        host = built[int(hosts * dice.random() ** 1.5)]
        made.append(host.server(
            f'{number:08x}-0000-4000-8000-000000000000',
            names[number] if number < len(names) else
            f'{dice.choice(("du", "cu", "ru", "upf", "db"))}-{number}', dice))
    history: dict[str, list[cloud_mod.Change]] = {}
    for _number in range(changes):
        failed = dice.random() < 0.05
        history.setdefault(dice.choice(made).id, []).append(cloud_mod.Change(
            (MOMENT - datetime.timedelta(
                seconds=dice.randrange(86400))).isoformat(),
            'Error' if failed else 'Success',
            'The change was not made: pCPU 9 is owned by another '
            'server' if failed else ''))
    return cloud_mod.Cloud(
        name, MOMENT.isoformat(),
        tuple(host.host(number) for number, host in enumerate(built)),
        tuple(_with(server, sorted(history.get(server.id, ()), reverse=True),
                    number) for number, server in enumerate(made)),
        leftovers=(('kongming_compute99_0', 'its compute node is gone'),),
        with_history=bool(changes))


def _with(server, changes, number):
    drift = ()
    if number % 40 == 7 and server.pcpus:
        drift = (f'vCPU 0 owns pCPU {min(server.pcpus)}, not pCPU '
                 f'{min(server.pcpus) + 2}',)
    return cloud_mod.Server(
        server.id, server.name, server.host, 'f4b1', server.status,
        server.flavor, server.profile, True, server.cells, drift,
        tuple(changes))


class _Host:

    def __init__(self, name, nodes, cores):
        self.name = name
        self.cores = [[(core, core + nodes * cores) for core in range(
            node * cores, (node + 1) * cores)] for node in range(nodes)]
        self.free = [[pcpu for core in mine[1:] for pcpu in core]
                     for mine in self.cores]
        self.memory = [262144] * nodes
        self.floating = [0] * nodes

    def server(self, uuid, name, dice):
        kind = dice.choice(('nfv.du', 'nfv.cu', 'nfv.du', 'web'))
        node = dice.randrange(len(self.cores))
        number = 1 if kind == 'web' else dice.choice((2, 4, 4, 8))
        if kind != 'web' and dice.random() < 0.1:
            number += 1
        pins = {}
        if kind != 'web' and len(self.free[node]) >= number:
            pins = {vcpu: self.free[node].pop(0) for vcpu in range(number)}
        floating = number - len(pins)
        self.floating[node] += floating
        self.memory[node] -= number * 512
        return cloud_mod.Server(
            uuid, name, self.name, status='ACTIVE', flavor=kind,
            profile=dice.choice((None, 'night')), cells=(cloud_mod.Cell(
                node, pins, frozenset(pins.values()), floating,
                number * 512),))

    def host(self, number):
        found = []
        for node, cores in enumerate(self.cores):
            dedicated = frozenset(p for core in cores[1:] for p in core)
            taken = dedicated - set(self.free[node])
            if number == 3 and self.free[node]:
                taken |= {self.free[node][-1]}  # nobody is known to own it
            found.append(usage.NodeState(
                node, dedicated, taken, shared=frozenset(cores[0]),
                siblings=cores, memory_mib=262144,
                memory_used_mib=262144 - self.memory[node],
                shared_used=self.floating[node]))
        return cloud_mod.Host(
            self.name, f'{number:08d}-1111-4000-8000-000000000000',
            usage.HostState(found), number % 17 != 5,
            'observe' if number % 23 == 9 else 'act', '2026f')
