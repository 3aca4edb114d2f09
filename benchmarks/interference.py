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

"""What reading the kernel's accounts costs, and whether they are right.

``python -m benchmarks.interference [cost|delay]``, both by default:

cost    CPU time of a reading in a process that runs, with so many vCPUs
        (``--vcpus``, 100 by default) beside all other threads of this
        machine; threads of another process stand for the vCPUs, and each has
        run since the reading before
delay   the run delay of a vCPU, as the reader has it, beside what perf
        records of the scheduler's events in the same seconds: a domain of
        this machine's libvirtd whose guest never sleeps, and a process that
        wants the same pCPU half of the time

``delay`` needs root, a libvirtd, two pCPUs and perf.
"""

import argparse
import contextlib
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from kongming.interference import difference
from kongming.kernel import accounts
from kongming.kernel import process

GOAL_MS, GOAL_SHARE = 15.0, 0.05
PCPUS = sorted(os.sched_getaffinity(0))
NAME = 'kongming-benchmark-delay'
XML = """<domain type='kvm'><name>{name}</name>
<memory unit='MiB'>64</memory><vcpu>1</vcpu>
<cputune><vcpupin vcpu='0' cpuset='{pcpu}'/>
<emulatorpin cpuset='{other}'/></cputune>
<os><type arch='x86_64'>hvm</type></os>
<devices><disk type='file' device='disk'><driver name='qemu' type='raw'/>
<source file='{disk}'/><target dev='vda' bus='virtio'/></disk></devices>
</domain>"""
_VCPUS = '''
import ctypes, os, sys, threading, time
pcpus = sorted(os.sched_getaffinity(0))
def run(number):
    os.sched_setaffinity(0, {pcpus[number % len(pcpus)]})
    ctypes.CDLL(None).prctl(15, f'CPU {number}/KVM'.encode(), 0, 0, 0)
    while True:
        time.sleep(0.2)
for number in range(int(sys.argv[1])):
    threading.Thread(target=run, args=(number,), daemon=True).start()
print(flush=True)
sys.stdin.read()
'''
_RIVAL = '''
import os, sys, time
os.sched_setaffinity(0, {int(sys.argv[1])})
while True:
    end = time.monotonic() + 0.01
    while time.monotonic() < end:
        pass
    time.sleep(0.01)
'''


@contextlib.contextmanager
def _child(text, *args):
    child = subprocess.Popen([sys.executable, '-c', text, *map(str, args)],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def cost(args):
    with _child(_VCPUS, args.vcpus) as child, accounts.Reader() as reader:
        child.stdout.readline()
        vcpus = list(process.vcpu_threads(child.pid).values())
        last = reader.read(PCPUS, vcpus)
        taken, ran, changed = [], [], []
        for _ in range(args.readings):
            time.sleep(0.5)
            begin = time.process_time()
            now = reader.read(PCPUS, vcpus)
            taken.append(time.process_time() - begin)
            found = difference.between(last, now)
            ran.append(len(found.ran))
            changed.append(sum(each.thread.pid == child.pid
                               for each in found.ran))
            last = now
    median = statistics.median(taken) * 1000
    print(f'cost: {args.vcpus} vCPUs among {len(last.threads)} threads, of '
          f'which {statistics.median(ran):.0f} had run, '
          f'{statistics.median(changed):.0f} vCPUs; median of '
          f'{args.readings}: {median:.1f} ms of CPU (goal: {GOAL_MS:.0f}), '
          f'most {max(taken) * 1000:.1f} ms')
    return median <= GOAL_MS


@contextlib.contextmanager
def _domain(pcpu, other):
    """The thread of a vCPU that never sleeps."""
    import libvirt

    from tests.embedded import guests
    connection = libvirt.open('qemu:///system')
    with tempfile.TemporaryDirectory(dir='/var/tmp') as folder:
        os.chmod(folder, 0o755)
        domain = connection.createXML(XML.format(
            name=NAME, pcpu=pcpu, other=other,
            disk=guests.write(folder, 'busy')))
        try:
            time.sleep(3)
            yield process.vcpu_threads(process.pid(domain))[0]
        finally:
            domain.destroy()
            connection.close()


def delay(args):
    if len(PCPUS) < 2 or os.geteuid() or shutil.which('perf') is None:
        print('delay: needs root, two pCPUs and perf')
        return True
    other, pcpu = PCPUS[:2]
    ratios = []
    with _domain(pcpu, other) as tid, _child(_RIVAL, pcpu), (
            accounts.Reader()) as reader, tempfile.TemporaryDirectory(
                dir='/var/tmp') as folder:
        for _ in range(args.rounds):
            ours, seen = _round(reader, tid, folder, args.seconds)
            ratios.append(ours / seen - 1)
            print(f'delay: {args.seconds} s, run delay of a vCPU '
                  f'{ours / 1e6:.1f} ms, by perf {seen / 1e6:.1f} ms: '
                  f'{ratios[-1]:+.2%} (goal: {GOAL_SHARE:.0%})')
    return max(map(abs, ratios)) <= GOAL_SHARE


def _round(reader, tid, folder, seconds):
    """Run delay in ns: the reader's, and perf's."""
    data = pathlib.Path(folder, 'perf.data')
    for name in ('control', 'answer'):
        with contextlib.suppress(FileExistsError):
            os.mkfifo(f'{folder}/{name}')
    perf = subprocess.Popen(
        ['perf', 'record', '-q', '-a', '-m', '4096', '-k',
         'CLOCK_MONOTONIC', '-o', data, '-D', '-1', '--control',
         f'fifo:{folder}/control,{folder}/answer',
         '-e', 'sched:sched_switch', '--filter',
         f'prev_pid=={tid} || next_pid=={tid}',
         '-e', 'sched:sched_wakeup', '--filter', f'pid=={tid}'],
        stderr=subprocess.DEVNULL)
    _order(folder, 'enable')
    begin = time.monotonic_ns()
    first = reader.read([], [tid])
    time.sleep(seconds)
    end = time.monotonic_ns()
    second = reader.read([], [tid])
    _order(folder, 'disable')
    perf.terminate()
    perf.wait()
    script = subprocess.run(
        ['perf', 'script', '-i', data, '-F', 'time,event,trace', '--ns',
         '--show-lost-events'],
        capture_output=True, text=True, check=True).stdout
    if 'PERF_RECORD_LOST' in script:
        sys.exit('delay: perf has lost events; its process needs more time')
    return (second.threads[tid].times.wait_ns
            - first.threads[tid].times.wait_ns,
            waited(script, tid, begin, end))


def _order(folder, word):
    """Have perf do something, and wait until it has done so."""
    with open(f'{folder}/control', 'w') as control:
        control.write(f'{word}\n')
        control.flush()
        with open(f'{folder}/answer') as answer:
            answer.readline()


def waited(script, tid, begin, end):
    """How long a thread could have run and did not, in ns.

    A wait counts when it ends, as for the scheduler (sched_info_arrive).

    :param script: of perf: switches and wake-ups
    """
    total, since = 0, None
    for line in script.splitlines():
        found = re.match(r'\s*(\d+)\.(\d{9}):\s+(?:sched:)?(sched_\w+): (.*)',
                         line)
        if not found:
            continue
        at = int(found[1]) * 10 ** 9 + int(found[2])
        if found[3] == 'sched_wakeup':
            since = at if since is None else since
        elif f'next_pid={tid} ' in f'{found[4]} ' or (
                f':{tid} [' in found[4].partition('==>')[2]):
            if since is not None and begin <= at <= end:
                total += at - since
            since = None
        else:
            runnable = re.search(r'prev_state=R', found[4]) or re.search(
                r'\] R\S* ==>', found[4])
            since = at if runnable else None
    return total


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('which', nargs='*', choices=['cost', 'delay', []])
    parser.add_argument('--vcpus', type=int, default=100)
    parser.add_argument('--readings', type=int, default=20)
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--seconds', type=int, default=10)
    args = parser.parse_args()
    return not all([{'cost': cost, 'delay': delay}[which](args)
                    for which in args.which or ['cost', 'delay']])


if __name__ == '__main__':
    sys.exit(main())
