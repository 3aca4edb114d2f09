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
"""What it costs to ask the kernel where a idle server's threads may run.

``python -m benchmarks.witness [--vcpus 4] [--rounds 2000]``: a real domain,
pinned, on this machine's libvirtd.  What a pass adds for each server that is
where it is wanted is timed by itself: which CPUs are online, whether they
have the power that the server needs, the affinity of each of its threads and
the cpusets of some in turn.  Processes that are started are counted.  Beside
it the same by ``/proc/PID/task/TID/status``, as it is read where a host is
looked at once.

Needs root, a libvirtd and two pCPUs.
"""

import argparse
import statistics
import sys
import time

from benchmarks import live as live_benchmark

#: In milliseconds, a server.
GOAL = 0.2
_STARTS = {'subprocess.Popen', 'os.fork', 'os.forkpty', 'os.posix_spawn',
           'os.exec', 'os.system'}


class Server:
    """What is asked of a nova.objects.Instance."""

    uuid = 'benchmark'


def timed(function, rounds):
    """Medians of wall and of CPU time, in milliseconds."""
    wall, cpu = [], []
    for _ in range(rounds):
        begun, used = time.perf_counter(), time.thread_time()
        function()
        cpu.append(time.thread_time() - used)
        wall.append(time.perf_counter() - begun)
    return [statistics.median(found) * 1000 for found in (wall, cpu)]


def main():
    parser = argparse.ArgumentParser(
        prog='python -m benchmarks.witness', description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--vcpus', type=int, default=4,
                        help='of the domain (default: 4)')
    parser.add_argument('--rounds', type=int, default=2000,
                        help='of each (default: 2000)')
    args = parser.parse_args()

    # The environment of Nova's tests comes before Nova.
    from tests.embedded import guests  # noqa: F401

    from kongming.kernel import process
    from kongming.libvirt import affinity
    from kongming.live import threads
    from nova_ext.live import witness
    from nova_ext import power
    from nova_ext import privileged

    privileged.as_root_itself()
    starts = []
    sys.addaudithook(lambda event, _args: event in _STARTS
                     and starts.append(event))
    pcpus = live_benchmark.PCPUS[:2]
    with live_benchmark.running_domain(args.vcpus) as (domain, kind, width):
        wanted = threads.Threads(
            {vcpu: frozenset({pcpus[vcpu % 2]})
             for vcpu in range(args.vcpus)}, frozenset(pcpus))
        affinity.apply(domain, wanted, width)
        api = power.CpuApi(None)
        asked = witness.Witness(api)

        def idle():
            api.ensure(wanted.pcpus)
            online = api.online()
            if not wanted.pcpus <= online or asked.freed(
                    Server, domain, wanted, witness.CPUSETS):
                sys.exit('It is not where it is wanted')

        idle()
        pid = process.pid(domain)
        number = len(process.tasks(pid))
        del starts[:]
        wall, cpu = timed(idle, args.rounds)
        begun = len(starts)
        slow, _cpu = timed(lambda: process.tasks(pid), max(
            1, args.rounds // 20))
        print(f'witness: {args.vcpus} vCPUs, {number} threads, {kind}, '
              f'median of {args.rounds}: {wall:.3f} ms a server '
              f'({cpu:.3f} ms of CPU; goal: at most {GOAL:g}), {begun} '
              f'processes started\n'
              f'         by /proc/PID/task/TID/status {slow:.3f} ms',
              flush=True)


if __name__ == '__main__':
    main()
