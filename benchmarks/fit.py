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

``python -m benchmarks.fit``.  A round is what a filter does: one request,
asked of several hosts.  Conversion from Nova's objects, of the server once and
of each host, is part of KongMing's time.  Rounds of the two alternate; the
times are medians a host, of this thread's CPU time, the ratio is the median of
the rounds' ratios.
"""

import statistics
import time

from kongming.fit import demand
from kongming.fit import fit
from kongming.template import template
import nova.conf
from nova import context  # noqa: F401  (registers options)
from nova import objects
from nova.virt import hardware

from nova_ext import translate

nova.conf.CONF([], project='nova', default_config_files=[])
objects.register_all()
EMPTY = template.Template()


def host(nodes, pcpus, taken):
    """A host with SMT.

    :param taken: node -> how many of its pCPUs are pinned, whole cores
    """
    cells = []
    half = pcpus // 2
    for number in range(nodes):
        ids = range(number * pcpus, (number + 1) * pcpus)
        used = taken(number) // 2
        cells.append(objects.NUMACell(
            id=number, cpuset=set(), pcpuset=set(ids), memory=262144,
            cpu_usage=0, memory_usage=0, socket=number,
            pinned_cpus={*ids[:used], *ids[half:half + used]},
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


def nova_round(hosts, copies):
    return [hardware.numa_fit_instance_to_host(topology, copy,
                                               provider_mapping=None)
            for topology, copy in zip(hosts, copies)]


def kongming_round(hosts, copies):
    asked = demand.Demand(translate.guest_of(copies[0]), EMPTY)
    return [fit.fit(translate.host_state(topology), asked)
            for topology in hosts]


def paired(rounds, hosts, asked, *functions):
    """Seconds a host of each function, called in turn."""
    times = [[] for _ in functions]
    for _ in range(rounds):
        for function, samples in zip(functions, times):
            # Nova's writes into what it is given.
            copies = [asked.obj_clone() for _ in hosts]
            start = time.thread_time()
            function(hosts, copies)
            samples.append((time.thread_time() - start) / len(hosts))
    return times


def hosts_filtered(count):
    """Seconds to ask so many hosts, of which one in ten can take it."""
    full = host(2, 64, lambda n: 60)
    good = host(2, 64, lambda n: 32)
    desired = template.decode({'kongming:pin.0': '0-3:24-27 4-7:56-59'})
    asked = demand.Demand(translate.guest_of(server(8)), desired)
    start = time.thread_time()
    fits = sum(bool(fit.fit(translate.host_state(
        full if number % 10 else good), asked)) for number in range(count))
    assert fits == count // 10, fits
    return time.thread_time() - start


CASES = [
    # title, shape of the hosts, server, rounds, hosts a round
    ('2 nodes x 32, empty, 4 vCPUs', (2, 32, lambda n: 0), server(4), 50, 20),
    ('2 nodes x 64, half full, 8 vCPUs', (2, 64, lambda n: 32), server(8),
     50, 20),
    ('8 nodes x 32, half full, 8 cells x 4', (8, 32, lambda n: 16),
     server(*[4] * 8), 20, 10),
    ('8 nodes x 16, one full, 8 cells x 4',
     (8, 16, lambda n: 16 * (n == 7)), server(*[4] * 8), 3, 4),
    # Nova's does not end here.
    ('16 nodes x 16, 8 unequal cells, no fit',
     (16, 16, lambda n: 16 * (n > 6)), server(*range(2, 10)), 0, 10),
]


def main():
    print(f'{"case":<40}{"Nova":>12}{"KongMing":>12}{"ratio":>9}')
    for title, shape, asked, rounds, count in CASES:
        hosts = [host(*shape) for _ in range(count)]
        if rounds:
            theirs, ours = paired(rounds, hosts, asked, nova_round,
                                  kongming_round)
            ratio = statistics.median(a / b for a, b in zip(theirs, ours))
            nova_text = f'{statistics.median(theirs) * 1e3:9.3f} ms'
            ratio_text = f'{ratio:9.1f}'
        else:
            ours, = paired(50, hosts, asked, kongming_round)
            nova_text, ratio_text = 'no end', f'{"":>9}'
        print(f'{title:<40}{nova_text:>12}'
              f'{statistics.median(ours) * 1e3:9.3f} ms{ratio_text}')
    seconds = hosts_filtered(10000)
    print(f'10,000 hosts of 2 x 64, exact pins, one in ten fits: '
          f'{seconds:.2f} s, {seconds / 10000 * 1e6:.0f} us a host')


if __name__ == '__main__':
    main()
