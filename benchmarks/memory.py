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
"""What it takes to move the memory of a running guest's cell.

``python -m benchmarks.memory [speed|gap|others]``, all by default, on the
nested host of four nodes (``tools/nested up --nodes 4``), whose kernel moves
the pages; small sizes, since it is emulated.  Ratios are of one run:

speed   MiB/s of one cell of two, idle guest, small pages (transparent huge
        ones where the host makes them) and pages of 2 MiB, by slices and as a
        whole; against memcpy between the same nodes page by page, and against
        libvirt's numatune of a restrictive guest of one cell
gap     the longest time that a guest which writes all of its memory round and
        round did not get to write, during moves by either way and without
others  how long vcpupin of another guest takes during moves by either way,
        p95; against the same while as many pages are copied by a process

``--mib`` is the size of a cell, ``--slice`` that of a slice, ``--rounds`` how
often each is done.
"""

import argparse
import contextlib
import os
import statistics
import struct
import tempfile
import threading
import time
import types

#: Where the guest of 'gap' counts: at _STALLS how often it took so many 2^20
#: ticks from one write to the next.
_STALLS, _TICKS = 0x10000, 1 << 20
_WRITING = bytes.fromhex(
    '0f31 89c6'                 # esi = now
    'bf 00001000'               # edi = 1 MiB
    '893f 81c700100000'         # [edi] = edi; edi += 4096
    '0f31 89c1 29f0 89ce'       # eax = now - esi; esi = now
    'c1e814'                    # eax >>= 20
    'ff0485 00000100'           # stalls[eax] += 1
    '81ff') + b'%s' + bytes.fromhex(
    '72de'                      # while edi < end
    'ebd7')                     # from the beginning
#: Copies page by page between two nodes, inside: MiB, page, from, to.
_COPY = """
import ctypes, mmap, sys, time
mib, page, source, target = map(int, sys.argv[1:])
numa = ctypes.CDLL('libnuma.so.1')
numa.numa_alloc_onnode.restype = ctypes.c_void_p
numa.numa_alloc_onnode.argtypes = [ctypes.c_size_t, ctypes.c_int]
size = mib << 20
one, other = (numa.numa_alloc_onnode(size, node) for node in (source, target))
ctypes.memset(one, 1, size)
best = 0
for again in range(3):
    ctypes.memset(other, 0, size)
    begin = time.monotonic()
    for at in range(0, size, page):
        ctypes.memmove(other + at, one + at, page)
    best = max(best, mib / (time.monotonic() - begin))
print(best)
"""


class Bench:
    """:param stack: undoes what was done"""

    def __init__(self, stack, mib, rounds, slice_mib):
        import libvirt

        from tests.nested import host
        from tests.nested import kernel

        self.mib, self.rounds, self.stack = mib, rounds, stack
        #: way -> its slices in MiB, 0: whole
        self.ways = {'slices': slice_mib, 'whole': 0}
        self.host = host.Host()
        if self.host.shape.nodes < 4:
            raise SystemExit('needs a host of four nodes: tools/nested up '
                             '--nodes 4')
        self.connection = libvirt.open(self.host.uri)
        stack.callback(self.connection.close)
        self.kernel = kernel.Kernel(self.host)
        stack.callback(self.kernel.close)
        self.folder = stack.enter_context(
            tempfile.TemporaryDirectory(dir=self.host.share))

    @contextlib.contextmanager
    def guest(self, nodes, mode='strict', backing='', code=None):
        """A running guest with a cell on each of these nodes."""
        from tests.embedded import guests

        cells = ''.join(f'<cell id="{cell}" cpus="{cell}" '
                        f'memory="{self.mib}" unit="MiB"/>'
                        for cell in range(len(nodes)))
        tune = ''.join(f'<memnode cellid="{cell}" mode="{mode}" '
                       f'nodeset="{node}"/>'
                       for cell, node in enumerate(nodes))
        pins = ''.join(f'<vcpupin vcpu="{cell}" '
                       f'cpuset="{self.host.shape.pcpus(node)[1]}"/>'
                       for cell, node in enumerate(nodes))
        name = f'kongming-memory-{os.getpid()}-{time.monotonic_ns()}'
        # QEMU locks its disk.
        folder = os.path.join(self.folder, name)
        os.mkdir(folder)
        domain = self.connection.createXML(f'''<domain type="qemu">
            <name>{name}</name>
            <memory unit="MiB">{self.mib * len(nodes)}</memory>
            <memoryBacking>{backing}</memoryBacking>
            <vcpu>{len(nodes)}</vcpu><cputune>{pins}</cputune>
            <numatune><memory mode="{mode}"
              nodeset="{','.join(map(str, nodes))}"/>{tune}</numatune>
            <os><type arch="x86_64" machine="pc">hvm</type></os>
            <cpu><numa>{cells}</numa></cpu><devices>
            <disk type="file" device="disk"><driver name="qemu" type="raw"/>
            <source file="{guests.write(folder, 'idle', code)}"/>
            <target dev="vda" bus="virtio"/></disk></devices></domain>''')
        try:
            yield domain, self.host.pid(name)
        finally:
            domain.destroy()

    def mover(self, pid, cells, slice_mib, **options):
        from kongming.kernel import mover
        return mover.Mover(self.kernel, pid, [self.mib * 1024] * cells,
                           slice_mib, **options)

    def fill(self, found, nodes):
        """Have all pages exist."""
        for cell in found.look(nodes).cells:
            self.host.shell(
                f'head -c {self.mib << 20} /dev/zero | dd '
                f'of=/proc/{found._pid}/mem bs=2M iflag=fullblock '
                f'oflag=seek_bytes seek={cell.first} conv=notrunc '
                f'2>/dev/null')

    def copy(self, page_kib):
        path = self.host.share / 'copy.py'
        path.write_text(_COPY)
        return float(self.host.shell(
            f'python3 {path} {self.mib} {page_kib * 1024} 1 3'))

    # What is measured.

    def speed(self):
        for kind, backing, page_kib in (
                ('THP', '', 2048),
                ('2 MiB', '<hugepages/>', 2048)):
            copied = self.copy(page_kib)
            print(f'{kind}: memcpy page by page {copied:.1f} MiB/s',
                  flush=True)
            with self.guest((0,), 'restrictive', backing) as (domain, pid):
                self.fill(self.mover(pid, 1, 16), (0,))
                tuned = self._per_second(
                    lambda turn: domain.setNumaParameters(
                        {'numa_nodeset': str((3, 0)[turn % 2])}, 1))
            print(f'{kind}: numatune of one restrictive cell '
                  f'{tuned:.1f} MiB/s', flush=True)
            for way, slice_mib in self.ways.items():
                with self.guest((0, 1), 'strict', backing) as (_d, pid):
                    found = self.mover(pid, 2, slice_mib, pause=0)
                    self.fill(found, (0, 1))
                    moved = self._per_second(lambda turn, to=found: to.go(
                        ((0, 3), (0, 1))[turn % 2]))
                    self._verify(found, self.rounds)
                print(f'{kind}, {way}: {moved:.1f} MiB/s, of memcpy '
                      f'{moved / copied:.2f}, of numatune '
                      f'{moved / tuned:.2f}', flush=True)

    def _per_second(self, move):
        took = []
        for turn in range(self.rounds):
            begin = time.monotonic()
            move(turn)
            took.append(time.monotonic() - begin)
        return self.mib / statistics.median(took)

    def _verify(self, found, rounds):
        from kongming.memory import move
        goal = ((0, 1), (0, 3))[rounds % 2]
        left = move.left(found.look(goal), goal)
        if left or not move.is_there(found.look(goal), goal):
            raise SystemExit(f'not moved: {left}')

    def gap(self):
        from tests.embedded import guests

        end = struct.pack('<I', self.mib << 20)
        code = guests.in_32_bits(_WRITING.replace(b'%s', end))
        for way, slice_mib in self.ways.items():
            # The guest writes to cell 0.
            with self.guest((1, 3), code=code) as (domain, pid):
                found = self.mover(pid, 2, slice_mib)
                self._wait_for(domain)
                with self._longest(domain) as moved:
                    for turn in range(self.rounds):
                        found.go(((2, 3), (1, 3))[turn % 2])
                # As long without a move: what is rare has its time.
                with self._longest(domain) as without:
                    time.sleep(moved.seconds)
            print(f'{way}: longest gap {moved.gap} of 2^20 ticks in '
                  f'{moved.seconds:.0f} s, of {without.gap} without a move '
                  f'{moved.gap / without.gap:.2f}', flush=True)

    @contextlib.contextmanager
    def _longest(self, domain):
        """The longest gap of a guest meanwhile, and how long that was."""
        found = types.SimpleNamespace()
        before, begin = self._stalls(domain), time.monotonic()
        yield found
        found.seconds = time.monotonic() - begin
        found.gap = 1 + max((number for number, count in enumerate(
            self._stalls(domain)) if count > before[number]), default=0)

    def _stalls(self, domain):
        import libvirt

        return struct.unpack('<4096I', domain.memoryPeek(
            _STALLS, 4 * 4096, libvirt.VIR_MEMORY_PHYSICAL))

    def _wait_for(self, domain):
        """Until the guest has written to all of its memory."""
        end = time.monotonic() + 600
        while sum(self._stalls(domain)) < self.mib * 256 * 2:
            if time.monotonic() > end:
                raise SystemExit('the guest does not write')
            time.sleep(1)

    def others(self):
        base = None
        for way in ('load', 'slices', 'whole'):
            with self.guest((2,)) as (other, _pid), \
                    self.guest((0, 1)) as (_domain, pid):
                found = self.mover(pid, 2, self.ways.get(way, 0))
                self.fill(found, (0, 1))
                took = self._during(other, way, found)
            p95 = sorted(took)[int(0.95 * (len(took) - 1))]
            base = base or p95
            print(f'{way}: vcpupin of another guest p95 {p95:.3f} s, longest '
                  f'{max(took):.3f} s, {len(took)} times, of load '
                  f'{p95 / base:.2f}', flush=True)

    def _during(self, other, way, found):
        def work():
            for turn in range(self.rounds):
                if way == 'load':
                    self.copy(4)
                else:
                    found.go(((0, 3), (0, 1))[turn % 2])

        thread = threading.Thread(target=work)
        thread.start()
        took, pcpus = [], self.host.shape.pcpus(2)
        while thread.is_alive() or not took:
            pcpu = pcpus[1 + len(took) % 2]
            begin = time.monotonic()
            other.pinVcpuFlags(0, (False,) * pcpu + (True,), 1)
            took.append(time.monotonic() - begin)
        thread.join()
        return took


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('what', nargs='*', metavar='WHAT')
    parser.add_argument('--mib', type=int, default=64)
    parser.add_argument('--rounds', type=int, default=4)
    parser.add_argument('--slice', type=int, default=16, metavar='MIB')
    args = parser.parse_args()
    with contextlib.ExitStack() as stack:
        bench = Bench(stack, args.mib, args.rounds, args.slice)
        for name in args.what or ('speed', 'gap', 'others'):
            print(f'== {name}, cells of {args.mib} MiB', flush=True)
            getattr(bench, name)()


if __name__ == '__main__':
    main()
