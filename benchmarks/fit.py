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

"""KongMing's fitter against Nova's, on the same objects, in one run.

``python -m benchmarks.fit``.  Conversion from Nova's objects is part of
KongMing's time.  Rounds of the two alternate; times are medians.
"""

import statistics
import time

from kongming import demand
from kongming import fit
from kongming import template
from nova import context  # noqa: F401  (registers options)
import nova.conf
from nova import objects
from nova.virt import hardware

from nova_ext import translate

nova.conf.CONF([], project='nova', default_config_files=[])
objects.register_all()
EMPTY = template.Template()


def host(nodes, pcpus, taken):
    """A host with SMT; ``taken(node)`` pCPUs of each node are pinned."""
    cells = []
    for number in range(nodes):
        ids = range(number * pcpus, (number + 1) * pcpus)
        half = pcpus // 2
        cells.append(objects.NUMACell(
            id=number, cpuset=set(), pcpuset=set(ids), memory=262144,
            cpu_usage=0, memory_usage=0, socket=number,
            pinned_cpus=set(list(ids)[:taken(number)]),
            siblings=[{ids[n], ids[n + half]} for n in range(half)],
            mempages=[objects.NUMAPagesTopology(
                size_kb=4, total=67108864, used=0, reserved=0)]))
    return objects.NUMATopology(cells=cells)


def server(*sizes):
    cells, first = [], 0
    for number, size in enumerate(sizes):
        cells.append(objects.InstanceNUMACell(
            id=number, cpuset=set(), memory=1024, pagesize=None,
            pcpuset=set(range(first, first + size)), cpu_policy='dedicated',
            cpu_thread_policy=None))
        first += size
    return objects.InstanceNUMATopology(cells=cells,
                                        emulator_threads_policy=None)


def nova_fits(topology, asked):
    return bool(hardware.numa_fit_instance_to_host(
        topology, asked.obj_clone(), provider_mapping=None))


def kongming_fits(topology, asked, wish=EMPTY):
    return bool(fit.fit(translate.host_state(topology), demand.Demand(
        translate.guest_of(asked), wish)))


def median(function, rounds):
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


CASES = [
    # title, host, server, rounds of Nova's (0: it does not end)
    ('2 nodes x 32, 4 vCPUs', host(2, 32, lambda n: 0), server(4), 200),
    ('2 nodes x 64 half full, 8 vCPUs', host(2, 64, lambda n: 32),
     server(8), 200),
    ('8 nodes x 32 half full, 8 cells x 4', host(8, 32, lambda n: 16),
     server(*[4] * 8), 50),
    ('8 nodes x 16, one full, 8 cells', host(8, 16, lambda n: 16 * (n == 7)),
     server(*[4] * 8), 2),
    ('16 nodes x 16, 8 unequal cells, no fit',
     host(16, 16, lambda n: 16 * (n > 6)), server(*range(2, 10)), 0),
]


def main():
    print(f'{"case":<40}{"Nova":>12}{"KongMing":>12}{"ratio":>9}')
    for title, topology, asked, rounds in CASES:
        ours = theirs = 0
        if rounds:
            theirs = median(lambda: nova_fits(topology, asked), rounds)
        ours = median(lambda: kongming_fits(topology, asked), 300)
        theirs_text = f'{theirs * 1e3:9.3f} ms' if rounds else 'no end'
        ratio = f'{theirs / ours:8.1f}' if rounds else '-'
        print(f'{title:<40}{theirs_text:>12}{ours * 1e3:9.3f} ms{ratio:>9}')


if __name__ == '__main__':
    main()
