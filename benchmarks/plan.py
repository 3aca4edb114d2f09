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

"""How full a cloud gets: Nova's order of choice, KongMing's, and the bound.

``python -m benchmarks.plan streams``: servers come one after the other, and
from three fifths on some go again, until those that are there ask for as many
pCPUs as there are.  Everybody gets the same streams.  Nova's choice is made by
Nova's own code: its fitter, its weighers for memory and CPUs, its handler of
weights.  The bound is what no order of choice can do better: the longest
beginning of a stream of which the optimum is not proven to leave anybody out.

``python -m benchmarks.plan scale``: time and memory of one plan for a large
cloud.
"""

import argparse
import copy
import random
import resource
import statistics
import time
import types
from xml.etree import ElementTree

from kongming.fit import demand
from kongming.fit import fit
from kongming.fit import fragmentation
from kongming.host import usage
from kongming.plan import defrag
from kongming.solver import optimum
from kongming.solver import problem as problem_mod
from kongming.solver import solve
from kongming.template import guest
from kongming.template import template
import nova.conf
from nova import context  # noqa: F401  (registers options)
from nova import objects
from nova.scheduler import weights
from nova.scheduler.weights import cpu
from nova.scheduler.weights import ram
from nova.virt import hardware

from benchmarks import fit as fit_benchmark
from nova_ext import translate

nova.conf.CONF([], project='nova', default_config_files=[])
objects.register_all()

HOSTS, NODES, PCPUS = 8, 2, 32
MIB = 1024
#: mix -> (pCPUs of each cell, how often)
MIXES = {
    'powers of two': [((2,), 3), ((4,), 4), ((8,), 3), ((16,), 1)],
    'NFV, odd sizes': [((3,), 2), ((5,), 3), ((7,), 3), ((10,), 2),
                       ((14,), 2), ((6, 6), 1), ((18,), 1)],
    'large': [((12,), 3), ((20,), 3), ((24,), 1), ((9, 9), 2), ((14, 14), 1),
              ((6,), 2)],
}
GRANT = template.decode({'kongming:grant': 'template'})


def stream(mix, seed):
    """(server, its size), or (server, None) where it goes.

    Those that are there in the end ask together for all pCPUs, or for so many
    that no size of the mix is left that would ask for no more.
    """
    rng = random.Random(f'{mix} {seed}')
    sizes, often = zip(*MIXES[mix])
    total = HOSTS * NODES * PCPUS
    left, there, events = total, {}, []
    while left >= min(map(sum, sizes)):
        if left < 0.4 * total and rng.random() < 0.3:
            name = rng.choice(sorted(there))
            left += sum(there.pop(name))
            events.append((name, None))
            continue
        size, = rng.choices(sizes, often)
        if sum(size) <= left:
            name = f's{len(events)}'
            there[name] = size
            events.append((name, size))
            left -= sum(size)
    return events


# The clouds that are to choose.

class Nova:
    """Nova's fitter and weighers, as they come."""

    def __init__(self):
        self.hosts = [types.SimpleNamespace(
            host=f'h{number}', nodename=f'h{number}', aggregates=[],
            topology=fit_benchmark.host(NODES, PCPUS, lambda _node: 0),
            free_ram_mb=NODES * 262144, vcpus_total=NODES * PCPUS,
            vcpus_used=0, cpu_allocation_ratio=1.0)
            for number in range(HOSTS)]
        self.handler = weights.HostWeightHandler()
        self.on = {}

    def place(self, name, size):
        asked = fit_benchmark.server(*size)
        fits = {}
        for host in self.hosts:
            found = hardware.numa_fit_instance_to_host(
                host.topology, copy.deepcopy(asked), provider_mapping=None)
            if found:
                fits[host.host] = found
        if not fits:
            return False
        best = self.handler.get_weighed_objects(
            [ram.RAMWeigher(), cpu.CPUWeigher()],
            [host for host in self.hosts if host.host in fits], None)[0].obj
        best.topology = hardware.numa_usage_from_instance_numa(
            best.topology, fits[best.host])
        best.free_ram_mb -= MIB * len(size)
        best.vcpus_used += sum(size)
        self.on[name] = best, fits[best.host], size
        return True

    def leave(self, name):
        host, found, size = self.on.pop(name)
        host.topology = hardware.numa_usage_from_instance_numa(
            host.topology, found, free=True)
        host.free_ram_mb += MIB * len(size)
        host.vcpus_used -= sum(size)


class _Fragments(weights.BaseHostWeigher):
    """As nova_ext.weights.KongmingWeigher, of fits that are known."""

    def _weigh_object(self, host_state, _properties):
        return -fragmentation.of(host_state.state, host_state.fit)


class KongMing:
    """The library's fitter with KongMing's weigher.

    :param beside: whether Nova's weighers have a say as well, as they have
        with all_weighers
    """

    def __init__(self, beside=True):
        empty = translate.host_state(fit_benchmark.host(
            NODES, PCPUS, lambda _node: 0))
        self.state = usage.HostState(usage.NodeState(
            node.id, node.dedicated, siblings=node.siblings,
            memory_mib=node.memory_mib, pages=node.pages)
            for node in empty.nodes)
        self.hosts = [types.SimpleNamespace(
            host=f'h{number}', nodename=f'h{number}', aggregates=[],
            state=self.state, asks={}, free_ram_mb=NODES * 262144,
            vcpus_total=NODES * PCPUS, vcpus_used=0,
            cpu_allocation_ratio=1.0, fit=None) for number in range(HOSTS)]
        self.handler = weights.HostWeightHandler()
        self.weighers = [_Fragments()]
        if beside:
            self.weighers = [ram.RAMWeigher(), cpu.CPUWeigher(),
                             *self.weighers]
        self.on = {}

    def place(self, name, size):
        asked = asked_for(size)
        for host in self.hosts:
            host.fit = fit.fit(host.state, asked)
        fits = [host for host in self.hosts if host.fit]
        if not fits:
            return False
        best = self.handler.get_weighed_objects(
            self.weighers, fits, None)[0].obj
        self.put(name, best, asked, best.fit)
        return True

    def put(self, name, host, asked, assignment):
        self.on[name] = host
        host.state = problem_mod.put(host.state, asked, assignment)
        today = problem_mod.Today(host.host, tuple(
            (cell.node, cell.pins) for cell in assignment.cells))
        host.asks[name] = problem_mod.Ask(
            name, (asked,), today=today,
            stays='several cells' if len(asked.cells) > 1 else '')
        host.free_ram_mb -= sum(
            cell.cell.memory_mib for cell in asked.cells)
        host.vcpus_used += sum(cell.need for cell in asked.cells)

    def leave(self, name):
        host = self.on.pop(name)
        asked = host.asks.pop(name).shapes[0]
        host.state = defrag.after(
            defrag.Host(host.host, self.state, self.state, host.asks),
            {other: problem_mod.of_today(ask)
             for other, ask in host.asks.items()})
        host.free_ram_mb += sum(cell.cell.memory_mib for cell in asked.cells)
        host.vcpus_used -= sum(cell.need for cell in asked.cells)


class Defrag(KongMing):
    """The same, and servers move within their host where one is refused."""

    def __init__(self, beside=True):
        super().__init__(beside)
        self.moves = 0

    def place(self, name, size):
        if super().place(name, size):
            return True
        asked = asked_for(size)
        best = None
        for host in self.hosts:
            if sum(node.n_free for node in host.state.nodes) < sum(size):
                continue
            end = time.monotonic() + 2
            answer = defrag.make(
                defrag.Host(host.host, host.state, self.state, host.asks),
                [asked], lambda end=end: end - time.monotonic())
            if answer.layout is not None and (
                    best is None or answer.cost < best[1].cost):
                best = host, answer
        if best is None:
            return False
        host, answer = best
        self.moves += answer.layout.score[1]
        for other, ask in host.asks.items():
            spot = answer.layout.spots[other]
            host.asks[other] = problem_mod.Ask(
                other, ask.shapes, stays=ask.stays, today=problem_mod.Today(
                    host.host, tuple((cell.node, cell.pins)
                                     for cell in spot.assignment.cells)))
        host.state = answer.after
        self.put(name, host, asked, answer.placed[0].assignment)
        return True


_ASKED: dict[tuple[int, ...], demand.Demand] = {}


def asked_for(size):
    if size not in _ASKED:
        cells, first = [], 0
        for need in size:
            cells.append(guest.Cell(frozenset(range(first, first + need)),
                                    frozenset(), MIB))
            first += need
        _ASKED[size] = demand.Demand(guest.Guest(tuple(cells)), GRANT)
    return _ASKED[size]


def run(cloud, events):
    """Servers that came before the first refusal, and pCPUs given away to
    those that are there in the end.
    """
    first, came, there = None, 0, {}
    for name, size in events:
        if size is None:
            if name in there:
                cloud.leave(name)
                del there[name]
            continue
        if cloud.place(name, size):
            there[name] = size
        elif first is None:
            first = came
        came += 1
    return came if first is None else first, sum(map(sum, there.values()))


def beginnings(events):
    """Who is there after each arrival."""
    there = {}
    for name, size in events:
        if size is None:
            del there[name]
        else:
            there[name] = size
            yield list(there.values())


def bound(events, least, seconds):
    """The longest beginning of a stream that may fit; who is there at its end
    fits surely if the second is as long.
    """
    there = list(beginnings(events))
    state = KongMing().state
    hosts = {f'h{number}': state for number in range(HOSTS)}

    def can(count):
        end = time.monotonic() + seconds
        problem = problem_mod.Problem(hosts, tuple(
            problem_mod.Ask(f's{number}', (asked_for(size),))
            for number, size in enumerate(there[count - 1])), ('unplaced',))
        layout = solve.solve(problem, lambda: end - time.monotonic())
        return layout.bound[0] == 0, layout.score[0] == 0

    most, sure = least, least
    for count in range(least + 1, len(there) + 1):
        maybe, surely = can(count)
        if not maybe:
            break
        most = count
        if surely:
            sure = count
    return most, sure


POLICIES = {'Nova': Nova,
            # Its weigher beside Nova's, as all_weighers has them.
            'beside Nova': KongMing, 'beside Nova, defrag': Defrag,
            # Nova's multipliers for memory and CPUs at 0.
            'KongMing': lambda: KongMing(False),
            'KongMing, defrag': lambda: Defrag(False)}


def streams(args):
    rows = {}
    for mix in MIXES:
        found = {name: [] for name in (*POLICIES, 'bound')}
        moves = {name: [] for name in POLICIES}
        for seed in range(args.seeds):
            events = stream(mix, seed)
            for name, make in POLICIES.items():
                cloud = make()
                found[name].append(run(cloud, events))
                if isinstance(cloud, Defrag):
                    moves[name].append(cloud.moves)
            most, sure = bound(events, max(
                found[name][-1][0] for name in POLICIES),
                args.seconds)
            last = list(beginnings(events))
            found['bound'].append((most, sum(map(sum, last[-1]))))
            print(f'# {mix} {seed}: ' + ', '.join(
                f'{name} {values[-1]}' for name, values in found.items())
                + f', of {len(last)}, reached surely {sure}', flush=True)
        rows[mix] = {name: tuple(map(statistics.mean, zip(*values)))
                     for name, values in found.items()}
        rows[mix]['moves'] = {name: statistics.mean(found) for name, found
                              in moves.items() if found}
    table(rows, args)
    if args.picture:
        with open(args.picture, 'w', encoding='utf-8') as target:
            target.write(picture(rows) + '\n')


def table(rows, args):
    total = HOSTS * NODES * PCPUS
    print(f'{HOSTS} hosts of {NODES} x {PCPUS} pCPUs, means of {args.seeds} '
          f'streams')
    print(f'{"":<16}{"":<22}{"until refused":>14}{"to Nova":>9}'
          f'{"to bound":>9}{"pCPUs given":>13}')
    for mix, found in rows.items():
        for name in (*POLICIES, 'bound'):
            first, given = found[name]
            print(f'{mix:<16}{name:<22}{first:>14.1f}'
                  f'{first / found["Nova"][0]:>9.2f}'
                  f'{first / found["bound"][0]:>9.2f}'
                  f'{given / total:>13.1%}')
        print(f'{"":<16}moves: ' + ', '.join(
            f'{name} {count:.1f}' for name, count in found["moves"].items()))


# The picture.

_COLOURS = {'Nova': '#9aa1ab', 'beside Nova': '#c3d9f3',
            'beside Nova, defrag': '#8fb8e8', 'KongMing': '#4f8fd6',
            'KongMing, defrag': '#1d5aa6', 'bound': '#ffffff'}


def picture(rows):
    """Bars: servers until the first refusal, as a share of the bound."""
    width, bar, gap, left, top = 680, 16, 26, 260, 40
    root = ElementTree.Element('svg', xmlns='http://www.w3.org/2000/svg')

    def add(kind, text=None, **attributes):
        element = ElementTree.SubElement(root, kind, {
            key.replace('_', '-'): str(value)
            for key, value in attributes.items()})
        element.text = text

    add('title', 'Servers until the first refusal, to the bound')
    add('style', 'text{font:12px sans-serif;fill:#1c2126}'
                 '.head{font-weight:bold}rect{stroke:#59616b}')
    y = top
    scale = width - left - 70
    for mix, found in rows.items():
        add('text', mix, x=16, y=y + 12, **{'class': 'head'})
        for name, colour in _COLOURS.items():
            share = found[name][0] / found['bound'][0]
            add('text', name, x=left - 8, y=y + 12, text_anchor='end')
            add('rect', x=left, y=y, width=round(scale * share, 1),
                height=bar - 2, fill=colour)
            add('text', f'{found[name][0]:.1f}',
                x=left + round(scale * share, 1) + 6, y=y + 12)
            y += bar + 2
        y += gap
    add('text', f'Servers until the first refusal; {HOSTS} hosts of {NODES} '
                f'x {PCPUS} pCPUs', x=16, y=22, **{'class': 'head'})
    root.set('viewBox', f'0 0 {width} {y}')
    root.set('width', str(width))
    root.set('height', str(y))
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding='unicode')


# Large clouds.

def scale(args):
    state = KongMing().state
    sizes = []
    rng = random.Random(0)
    left = int(args.hosts * NODES * PCPUS * args.load)
    choices, often = zip(*MIXES['NFV, odd sizes'])
    while left > 0:
        size, = rng.choices(choices, often)
        sizes.append(size)
        left -= sum(size)
    problem = problem_mod.Problem(
        {f'h{number}': state for number in range(args.hosts)},
        tuple(problem_mod.Ask(f's{number}', (asked_for(size),))
              for number, size in enumerate(sizes)))
    for solver in args.solvers.split(','):
        start = time.monotonic()
        end = start + args.seconds
        layout = solve.solve(
            problem, lambda end=end: end - time.monotonic(), solver)
        print(f'{args.hosts} hosts, {len(sizes)} servers, load {args.load}: '
              f'{layout.solver}: {time.monotonic() - start:.1f} s, '
              f'{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} '
              f'MiB, score {layout.score}, bound {layout.bound}', flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser('streams')
    one.add_argument('--seeds', type=int, default=5)
    one.add_argument('--seconds', type=float, default=10,
                     help='for each proof of the bound')
    one.add_argument('--picture', help='write the picture there')
    one.set_defaults(run=streams)
    two = commands.add_parser('scale')
    two.add_argument('--hosts', type=int, default=1000)
    two.add_argument('--load', type=float, default=0.95)
    two.add_argument('--seconds', type=float, default=60)
    two.add_argument('--solvers', default='greedy,auto')
    two.set_defaults(run=scale)
    args = parser.parse_args()
    try:
        optimum.cp_model()
    except optimum.Missing:
        print('# without OR-Tools: bounds are by counting')
    args.run(args)


if __name__ == '__main__':
    main()
