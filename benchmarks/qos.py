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
"""What QoS gives to vCPUs that want all they can get.

``python -m benchmarks.qos [weights|quotas|noise]``, all three by default; real
domains on this machine's libvirtd, whose guests are boot sectors that never
sleep:

weights  several vCPUs on one pCPU: the share of it that each had, by the
         kernel's count, against the share that its weight asks for
quotas   the CPU time that a vCPU with a quota had, against its quota
noise    a guest that reads its clock again and again and counts how long it
         was kept from it: on a pCPU of its own, and on one with noisy
         neighbours

Needs root, libvirtd, KVM and two pCPUs.
"""

import argparse
import contextlib
import os
import struct
import time

PCPUS = sorted(os.sched_getaffinity(0))
XML = """<domain type='kvm'><name>kongming-qos-{name}</name>
<memory unit='MiB'>64</memory><vcpu cpuset='{pcpu}'>{vcpus}</vcpu>
<os><type arch='x86_64'>hvm</type></os><features><acpi/><apic/></features>
<devices><disk type='file' device='disk'><driver name='qemu' type='raw'/>
<source file='{disk}'/><target dev='vda' bus='virtio'/></disk></devices>
</domain>"""
#: name -> weights of the vCPUs of each server.
WEIGHTS = {'one server': [(100, 300)], 'one server, far apart': [(100, 10000)],
           'one server of four': [(100, 200, 300, 400)],
           'servers of one vCPU': [(100,), (300,), (600,)],
           'beside a server without': [(100, 300), (100, 100)]}
QUOTAS = ('5%', '10%,burst=10%', '25%', '50%')

#: The guest of 'noise', 32-bit code.  At _CLOCK is when it last looked, above
#: _STALLS how often it was kept from it for so many 2^20 ticks.
_CLOCK, _STALLS, _TICKS = 0xfff8, 0x10000, 1 << 20
_LOOKING = bytes.fromhex(
    '0f31 89c6'                 # esi = now
    'b9 64000000 e2fe'          # some work
    '0f31'                      # edx:eax = now
    'a3 f8ff0000 8915 fcff0000'
    '89c1 29f0 89ce'            # eax = now - esi; esi = now
    'c1e814'                    # eax >>= 20
    'ff0485 00000100'           # stalls[eax] += 1
    'ebda')                     # work again


class Server:
    """A domain of which nothing is left afterwards.

    :ivar domain: libvirt's
    """

    def __init__(self, stack, name, vcpus, pcpu, code=None):
        import tempfile

        import libvirt

        from kongming.kernel import process
        from tests.embedded import guests

        folder = stack.enter_context(
            tempfile.TemporaryDirectory(dir='/var/tmp'))
        os.chmod(folder, 0o755)
        connection = libvirt.open('qemu:///system')
        self.domain = connection.createXML(XML.format(
            name=name, vcpus=vcpus, pcpu=pcpu,
            disk=guests.write(folder, 'busy', code)))
        stack.callback(self.domain.destroy)
        self.pid = process.pid(self.domain)
        before = self.seconds()
        end = time.monotonic() + 60
        while not all(now > then + 0.05 for now, then in
                      zip(self.seconds(), before, strict=True)):
            if time.monotonic() > end:
                raise SystemExit(f'the vCPUs of {name} are not all busy')
            time.sleep(0.2)

    def give(self, value):
        """:param value: of kongming:qos"""
        from kongming.kernel import cgroup
        from kongming.live import qos
        from kongming.template import tuning

        now = cgroup.read(self.domain, self.pid)
        wanted, _problems = qos.wanted(
            tuning.parse_qos(value), len(now.vcpus), qos.Native(),
            cgroup.version())
        cgroup.apply(self.domain, self.pid, now, wanted, cgroup.set_share)

    def seconds(self):
        """CPU time of each vCPU's thread."""
        from kongming.kernel import process

        return [int(open(f'/proc/{self.pid}/task/{thread}/schedstat').read()
                    .split()[0]) / 1e9 for _vcpu, thread in sorted(
                        process.vcpu_threads(self.pid).items())]

    def peek(self, address, size):
        import libvirt

        return self.domain.memoryPeek(address, size,
                                      libvirt.VIR_MEMORY_PHYSICAL)

    def stalls(self):
        """Ticks of its clock, and counts by length."""
        clock, = struct.unpack('<Q', self.peek(_CLOCK, 8))
        return clock, struct.unpack('<4096I', self.peek(_STALLS, 4 * 4096))


def spent(booted, seconds):
    """CPU time of each vCPU of some servers meanwhile, and how long it was."""
    before = [s for server in booted for s in server.seconds()]
    began = time.monotonic()
    time.sleep(seconds)
    after = [s for server in booted for s in server.seconds()]
    return ([now - then for now, then in zip(after, before, strict=True)],
            time.monotonic() - began)


def weights(args):
    worst = 0.0
    for name, given in WEIGHTS.items():
        with contextlib.ExitStack() as stack:
            booted = [Server(stack, str(n), len(of_server), PCPUS[0])
                      for n, of_server in enumerate(given)]
            for server, of_server in zip(booted, given, strict=True):
                server.give(' '.join(f'{vcpu}:weight={weight}'
                                     for vcpu, weight in enumerate(of_server)))
            got, _wall = spent(booted, args.seconds)
        flat = [weight for of_server in given for weight in of_server]
        asked = [100 * weight / sum(flat) for weight in flat]
        found = [100 * one / sum(got) for one in got]
        error = max(abs(f / a - 1) for f, a in zip(found, asked, strict=True))
        worst = max(worst, error)
        print(f'weights: {name:24} asked {_list(asked)}   got {_list(found)}'
              f'   error {100 * error:.1f}%')
    print(f'weights: largest error {100 * worst:.1f}% of the share that was '
          f'asked for (goal: at most 5%)')


def quotas(args):
    for quota in QUOTAS:
        with contextlib.ExitStack() as stack:
            server = Server(stack, 'quota', 1, PCPUS[0])
            server.give(f'0:quota={quota}')
            (got,), wall = spent([server], args.seconds)
        asked, found = float(quota.partition('%')[0]), 100 * got / wall
        print(f'quotas: {quota:15} got {found:5.2f}%   error '
              f'{100 * abs(found / asked - 1):.1f}%')


def _list(cpu_shares):
    return ' '.join(f'{share:5.2f}%' for share in cpu_shares)


def noise(args):
    """The same guest in four places."""
    alone = None
    for name, pcpu, neighbours, weight in (
            ('pCPU of its own, no noise', 1, 0, 100),
            ('pCPU of its own, noise on the other', 1, args.neighbours, 100),
            ('floats among the noise', 0, args.neighbours, 100),
            ('floats, weight=1000', 0, args.neighbours, 1000)):
        with contextlib.ExitStack() as stack:
            server = Server(stack, 'looking', 1, PCPUS[pcpu], _looking())
            for number in range(neighbours):
                Server(stack, f'noise-{number}', 1, PCPUS[0])
            server.give(f'0:weight={weight}')
            ticks, counts, wall = _watch(server, args.seconds)
        a_second = sum(counts) / wall
        alone = alone or a_second
        milli = 1000 * wall / ticks * _TICKS
        waits = [(milli * length, count)
                 for length, count in enumerate(counts) if length and count]
        print(f'noise: {name:35} throughput {100 * a_second / alone:5.1f}%  '
              f'waits {sum(count for _wait, count in waits) / wall:5.1f}/s: '
              f'50% {_within(waits, 0.5):4.1f} ms, '
              f'99% {_within(waits, 0.99):4.1f} ms, '
              f'longest {max((wait for wait, _c in waits), default=0):4.1f} '
              f'ms')


def _looking():
    from tests.embedded import guests

    return guests.in_32_bits(_LOOKING)


def _watch(server, seconds):
    # Its firmware takes a while.
    while server.stalls()[0] == server.stalls()[0]:
        time.sleep(0.2)
    clock, counts = server.stalls()
    began = time.monotonic()
    time.sleep(seconds)
    later, more = server.stalls()
    return (later - clock, [(now - then) % (1 << 32) for now, then in
                            zip(more, counts, strict=True)],
            time.monotonic() - began)


def _within(waits, part):
    """The time that so many of all waits are no longer than."""
    left = part * sum(count for _wait, count in waits)
    for wait, count in waits:
        left -= count
        if left <= 0:
            return wait
    return 0.0


BENCHES = {'weights': weights, 'quotas': quotas, 'noise': noise}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('what', nargs='*', choices=[*BENCHES, 'all'],
                        default='all')
    parser.add_argument('--seconds', type=float, default=10,
                        help='of each measurement (default: 10)')
    parser.add_argument('--neighbours', type=int, default=4,
                        help='noisy servers of noise (default: 4)')
    args = parser.parse_args()
    for name, bench in BENCHES.items():
        if name in args.what or 'all' in args.what:
            bench(args)


if __name__ == '__main__':
    main()
