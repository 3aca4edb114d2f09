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

"""What a change of a running server costs.

``python -m benchmarks.live [apply|pass|change|beside|events]``, all of them by
default:

apply   a domain of 64 vCPUs on this machine's libvirtd is re-pinned between
        two sets of pCPUs, in turn by kongming.libvirt.affinity.apply and by
        the same calls made with libvirt-python alone; medians and their ratio
pass    a pass of the reconciler over idle servers of an embedded cloud
        (simulated libvirt): its time, the CPU time of nova-compute, conductor
        and the database's client without that of the simulation, how often it
        asks conductor, and what it writes, which is to be nothing
change  from a change of metadata until the vCPU's thread may only run on
        another pCPU, by /proc: embedded cloud, this machine's libvirtd, and
        the trigger
beside  while the memory of one server moves and does not end: how long another
        server's change takes until it is recorded, diagnostics take to be
        answered, and a profile takes to switch; embedded cloud
events  what 1,000 events of native domains cost a host without a template:
        statements of the database and passes; embedded cloud

With ``--before CHECKOUT`` each runs with the code of another checkout first;
``pass`` alone takes turns with it and prints the ratio with its interval.
``apply`` and ``change`` need root, a libvirtd and two pCPUs.
"""

import argparse
import collections
import contextlib
import os
import pathlib
import re
import statistics
import subprocess
import sys
import threading
import time

PCPUS = sorted(os.sched_getaffinity(0))
HERE = pathlib.Path(__file__).resolve()
NAME = 'kongming-benchmark'
#: Boots of each flavor; for more the embedded database times out.
_AT_ONCE = 10
XML = """<domain type='{kind}'><name>{name}</name>
<memory unit='MiB'>64</memory><vcpu>{vcpus}</vcpu>
<os><type arch='x86_64'>hvm</type></os><features><acpi/><apic/></features>
<devices><disk type='file' device='disk'><driver name='qemu' type='raw'/>
<source file='{disk}'/><target dev='vda' bus='virtio'/></disk></devices>
</domain>"""


@contextlib.contextmanager
def running_domain(vcpus):
    """A domain that idles, persistent as Nova's are."""
    import tempfile

    from tests.embedded import guests

    import libvirt

    kind = 'kvm' if os.access('/dev/kvm', os.R_OK | os.W_OK) else 'qemu'
    connection = libvirt.open('qemu:///system')
    with tempfile.TemporaryDirectory(dir='/var/tmp') as folder:
        os.chmod(folder, 0o755)
        domain = connection.defineXML(XML.format(
            kind=kind, name=f'{NAME}-{os.getpid()}', vcpus=vcpus,
            disk=guests.write(folder, 'idle')))
        try:
            domain.create()
            yield domain, kind, connection.getInfo()[2]
        finally:
            if domain.isActive():
                domain.destroy()
            domain.undefine()


def bench_apply(args):
    from kongming.libvirt import affinity
    from kongming.live import threads

    with running_domain(args.vcpus) as (domain, kind, width):
        sets = [frozenset({pcpu}) for pcpu in PCPUS[:2]]
        took = {'libvirt': [], 'kongming': []}

        def raw(pcpus):
            cpumap = tuple(pcpu in pcpus for pcpu in range(width))
            domain.pinEmulator(cpumap, 3)
            for vcpu in range(args.vcpus):
                domain.pinVcpuFlags(vcpu, cpumap, 3)

        def ours(pcpus):
            affinity.apply(domain, threads.Threads(
                dict.fromkeys(range(args.vcpus), pcpus), pcpus), width)

        raw(sets[1])
        for number in range(args.rounds):
            # Each goes to and fro, and each is the first in turn.
            turn = [('libvirt', raw), ('kongming', ours)]
            for name, change in turn[::-1 if number % 2 else 1]:
                for pcpus in sets:
                    start = time.perf_counter()
                    change(pcpus)
                    took[name].append(time.perf_counter() - start)
        theirs, mine = (statistics.median(took[name])
                        for name in ('libvirt', 'kongming'))
        print(f'apply: {args.vcpus} vCPUs and the emulator, {kind}, medians '
              f'of {len(took["kongming"])} changes\n'
              f'  libvirt-python alone {theirs * 1000:8.1f} ms\n'
              f'  affinity.apply       {mine * 1000:8.1f} ms   '
              f'ratio {mine / theirs:.2f} (goal: at most 1.3)', flush=True)


def in_cloud(base, body, **attributes):
    """Run ``body(cloud)`` in a cloud of this process."""
    import testtools

    case = type('Case', (base,), {**attributes, 'body': body})('body')
    outcome = testtools.TestResult()
    real = sys.stdout
    found = []
    case.say = found.append
    with contextlib.redirect_stdout(sys.stderr):
        case.run(outcome)
    for _test, trace in outcome.errors + outcome.failures:
        sys.exit(trace)
    print('\n'.join(found), file=real, flush=True)


def dedicated(cloud, **more):
    return cloud._create_flavor(
        vcpu=1, memory_mb=64, disk=1, ephemeral=0, swap=0,
        extra_spec={'hw:cpu_policy': 'dedicated', **more})


#: What a build that takes turns is asked, and says first.
_PASS, _IDLE = 'pass', 'idle'


def answer(word):
    print(word, file=sys.__stdout__, flush=True)


def turns():
    """Each time that the other build has had its turn."""
    answer(_IDLE)
    for line in sys.stdin:
        if line.strip() != _PASS:
            return
        yield line


def bench_pass(args):
    from tests.embedded import cloud

    cores = args.servers // 4 + 2
    attributes = {
        'SHAPE': {'cpu_nodes': 2, 'cpu_sockets': 1, 'cpu_cores': cores,
                  'cpu_threads': 2, 'kB_mem': 256 * 1024 ** 2},
        'DEDICATED': f'2-{4 * cores - 1}', 'SHARED': '0-1'}

    class Wide(cloud.SimulatedCloud):
        def wait_for_all(self, number):
            while (active := sum(
                    server['status'] == 'ACTIVE'
                    for server in self.api.get_servers())) < number:
                print(f'{active} servers', file=sys.stderr, flush=True)
                time.sleep(2)

    def body(self):
        # The simulated disk has the capacity for 120.
        self.flags(disk_allocation_ratio=100.0)
        self.start_host()
        flavors = [dedicated(self, **{'kongming:node.0': node})
                   for node in ('0', '1')]
        # Only the pass is measured: boots are faster without a publisher.
        self.flags(publish_inventory=False, group='kongming')
        self.flags(instances=-1, cores=-1, ram=-1, group='quota')
        wanted = args.servers // 2 * 2
        for number in range(0, wanted, 2 * _AT_ONCE):
            at_once = min(_AT_ONCE, (wanted - number) // 2)
            for flavor in flavors:
                self.api.post_server({'server': {
                    **self._build_server(flavor_id=flavor, networks='none'),
                    'min_count': at_once}})
            self.wait_for_all(number + 2 * at_once)
        self.flags(publish_inventory=True, group='kongming')
        self.audit()
        driver = self.computes['compute1'].driver
        driver._reconciler.run()
        looked_after = len(driver._reconciler._enforcer._given)
        writes, asked = count_writes(self), count_conductor(self)
        libvirt = count_libvirt(self)
        took, cpu = [], []
        for _ in (turns() if args.in_turn else range(args.passes)):
            del libvirt[:]
            start, used = time.perf_counter(), time.process_time()
            driver._reconciler.run()
            cpu.append(time.process_time() - used - sum(libvirt))
            took.append(time.perf_counter() - start)
            if args.in_turn:
                answer(cpu[-1] / looked_after)
        self.say(f'pass: {looked_after} idle servers, simulated, median '
                 f'of {args.passes}: {statistics.median(took):.2f} s; CPU '
                 f'{statistics.median(cpu) / looked_after * 1000:.2f} ms a '
                 f'server, without {sum(libvirt) / looked_after * 1000:.2f} '
                 f'ms of the simulated host; conductor is asked '
                 f'{sum(asked.values()) / args.passes:g} times a pass; '
                 f'writes: {dict(writes) or "none"}')
        # The counter counts: one vCPU is somewhere else.
        domain = driver._host.list_guests()[0]._domain
        domain._def['cpu_pins']['0'] = '0'
        driver._reconciler.run()
        self.say(f'      with one vCPU to be put back: {dict(writes)}')

    in_cloud(Wide, body, **attributes)


def count_writes(case):
    """Count what may be written by a pass, while the case lasts."""
    import fixtures

    found: collections.Counter[str] = collections.Counter()

    def watch(where):
        import importlib
        owner, _dot, name = where.rpartition('.')
        module, _dot, cls = owner.rpartition('.')
        try:
            real = getattr(getattr(importlib.import_module(module), cls), name)
        except (ImportError, AttributeError):
            return  # another build writes that

        def call(*args, **kwargs):
            found[f'{cls}.{name}'] += 1
            return real(*args, **kwargs)

        case.useFixture(fixtures.MonkeyPatch(where, call))

    for name in ('pinVcpuFlags', 'pinEmulator', 'pinIOThread',
                 'setNumaParameters'):
        watch(f'nova.tests.fixtures.libvirt.Domain.{name}')
    watch('nova_ext.live.memory_moves.MemoryMoves.move_home')
    for where in ('instance.Instance', 'compute_node.ComputeNode'):
        watch(f'nova.objects.{where}.save')
    for name in ('put', 'post', 'delete'):
        watch(f'nova.scheduler.client.report.SchedulerReportClient.{name}')
    watch('nova_ext.live.record.Change.__init__')
    return found


def count_libvirt(case):
    """Seconds of CPU time that simulated domains take to tell their XML, and
    the simulated kernel to tell of their threads, which it asks them for.

    On a host that is work of libvirtd and of the kernel.
    """
    import fixtures

    from nova.tests.fixtures import libvirt

    found: list[float] = []
    mine = threading.local()

    def watch(owner, name):
        real = getattr(owner, name)

        def call(*args, **kwargs):
            if getattr(mine, 'is_within', False):
                return real(*args, **kwargs)
            mine.is_within, start = True, time.thread_time()
            try:
                return real(*args, **kwargs)
            finally:
                found.append(time.thread_time() - start)
                mine.is_within = False

        case.useFixture(fixtures.MockPatchObject(owner, name, call))

    watch(libvirt.Domain, 'XMLDesc')
    # Another build asks no kernel.
    with contextlib.suppress(ImportError):
        from kongming.kernel import affinity
        watch(affinity.Reader, 'read')
    return found


def count_conductor(case):
    """Count what nova-compute has conductor do, while the case lasts."""
    import fixtures

    from tests.embedded import locked

    found: collections.Counter[str] = collections.Counter()

    def watch(owner, name):
        value = vars(owner)[name]
        real = getattr(value, '__func__', value)

        def call(*args, **kwargs):
            found[f'{owner.__name__}.{name}'] += 1
            return real(*args, **kwargs)

        case.useFixture(fixtures.MockPatchObject(
            owner, name, classmethod(call) if isinstance(value, classmethod)
            else call))

    for owner, name in locked.remotable_methods():
        watch(owner, name)
    return found


@contextlib.contextmanager
def moving(cloud, driver, move):
    """The memory of a server moves for as long as ``move`` says."""
    from unittest import mock

    from kongming.kernel import mover
    from tests.embedded import hypervisor

    cloud.useFixture(hypervisor.Numa())
    begun = threading.Event()
    real = mover.Mover.go

    def slow(*args):
        begun.set()
        move.wait(60)
        return real(*args)

    with mock.patch.object(mover.Mover, 'go', slow):
        change = threading.Thread(target=driver.passes.run, daemon=True)
        change.start()
        begun.wait(30)
        try:
            yield
        finally:
            move.set()
            change.join()


def bench_beside(args):
    import datetime

    import tests.embedded  # noqa: F401  (before anything of Nova)

    from nova import context as nova_context
    from nova import objects
    import nova_ext.live.enforce as enforce
    from tests.embedded import cloud

    def body(self):
        self.start_host()
        driver = self.computes['compute1'].driver
        grant = {'kongming:grant': 'template'}

        def boot(**specs):
            return self._create_server(networks='none', flavor_id=dedicated(
                self, **{f'kongming:{key.replace("_", ".")}': value
                         for key, value in specs.items()}, **grant))

        noon = datetime.datetime(2026, 11, 24, 12, tzinfo=datetime.UTC)
        self.patch(enforce, 'now', lambda: self.moment)
        self.moment = noon
        mover, other = boot(node_0='1', pin_0='0:15'), boot(pin_0='0:2')
        lender = boot(pin_0='0:3', profile_night_when='22:00-06:00',
                      profile_night_pin_0='0~0')
        driver.passes.run()
        self.api.post_server_metadata(mover['id'], {
            'kongming:node.0': '0', 'kongming:pin.0': '0:5'})
        end = threading.Event()
        threading.Timer(args.seconds, end.set).start()

        took = {}

        def start(function, *arguments):
            thread = threading.Thread(target=function, args=arguments,
                                      daemon=True)
            thread.start()
            return thread

        def watch(name, look):
            begun = time.perf_counter()
            while not look():
                time.sleep(0.005)
            took[name] = time.perf_counter() - begun

        def is_recorded():
            return any(
                action.action == 'kongming_live_change'
                for action in objects.InstanceActionList.get_by_instance_uuid(
                    nova_context.get_admin_context(), other['id']))

        def pinned(server, pcpu):
            domain = self.connection_of(server['id']).lookupByUUIDString(
                server['id'])
            return domain._def['cpu_pins'].get('0') == str(pcpu)

        with moving(self, driver, end):
            self.api.post_server_metadata(other['id'],
                                          {'kongming:pin.0': '0:4'})
            self.moment = noon.replace(hour=23)
            start(driver.passes.run)
            start(driver._reconciler.switch)
            instance = objects.Instance.get_by_uuid(
                nova_context.get_admin_context(), lender['id'],
                expected_attrs=['flavor', 'system_metadata'])
            for thread in [
                    start(watch, 'changed', lambda: pinned(other, 4)),
                    start(watch, 'recorded', is_recorded),
                    start(watch, 'switched', lambda: pinned(lender, 0)),
                    start(watch, 'answered', lambda: (
                        driver.get_instance_diagnostics(instance)))]:
                thread.join()
        self.say(f'beside: memory moves for {args.seconds:g} s; another '
                 f"server's change is made after {took['changed']:.2f} s and "
                 f"recorded after {took['recorded']:.2f} s, its diagnostics "
                 f"are answered after {took['answered']:.2f} s, a profile "
                 f"switches {took['switched']:.2f} s after its time")

    in_cloud(cloud.SimulatedCloud, body, patch=_patch)


def _patch(case, owner, name, value):
    import fixtures
    case.useFixture(fixtures.MockPatchObject(owner, name, value))


def bench_events(args):
    from unittest import mock

    import tests.embedded  # noqa: F401  (before anything of Nova)

    import sqlalchemy
    from sqlalchemy import event

    from nova.virt import event as virtevent
    from nova.virt.libvirt import driver as nova_driver
    from tests.embedded import cloud

    def body(self):
        self.start_host()
        server = self._create_server(networks='none',
                                     flavor_id=dedicated(self))
        driver = self.computes['compute1'].driver
        driver.passes.run()
        passes, statements = [], []
        real = driver._reconciler._pass
        driver._reconciler._pass = lambda *args: (
            passes.append(args) or real(*args))

        def asked(_connection, _cursor, statement, *_args):
            statements.append(statement)

        self._until(lambda: True, 1)
        event.listen(sqlalchemy.Engine, 'before_cursor_execute', asked)
        begun = time.perf_counter()
        # Nova itself is not told: what it asks for is its own.
        with mock.patch.object(nova_driver.LibvirtDriver, 'emit_event'):
            for _ in range(1000):
                driver.emit_event(virtevent.LifecycleEvent(
                    server['id'], virtevent.EVENT_LIFECYCLE_RESUMED))
                if driver.passes._wake.is_set():
                    # As the thread of the passes does, once a second.
                    driver.passes._wake.clear()
                    driver.passes.run(patient=True)
        took = time.perf_counter() - begun
        event.remove(sqlalchemy.Engine, 'before_cursor_execute', asked)
        self.say(f'events: 1,000 events of native domains on a host without '
                 f'a template: {len(passes)} passes, {len(statements)} '
                 f'statements, {took:.2f} s')

    in_cloud(cloud.SimulatedCloud, body)


def bench_change(args):
    from kongming.kernel import process
    from tests.embedded import cloud
    from tests.embedded import guests
    from tests.embedded import witness

    def body(self):
        self.flags(change_interval=0, group='kongming')
        self.start_host()
        server = self._create_server(
            image_uuid=guests.IDS['busy'], networks='none',
            flavor_id=dedicated(self, **{
                'kongming:pin.0': f'0:{PCPUS[0]}',
                'kongming:grant': 'template'}))
        pid = process.pid(self.connection_of(
            server['id']).lookupByUUIDString(server['id']))
        thread = process.vcpu_threads(pid)[0]
        took, answered = [], []
        for number in range(args.changes + 1):
            pcpu = PCPUS[1 - number % 2]
            moved = []
            begun = time.perf_counter()

            def watch(pcpu=pcpu, moved=moved):
                while time.perf_counter() < begun + 60:
                    if witness.running(pid, thread).allowed == {pcpu}:
                        moved.append(time.perf_counter())
                        return
                    time.sleep(0.005)

            watcher = threading.Thread(target=watch)
            watcher.start()
            self.api.post_server_metadata(
                server['id'], {'kongming:pin.0': f'0:{pcpu}'})
            self.api.api_get(f'/servers/{server["id"]}/diagnostics')
            answered.append(time.perf_counter() - begun)
            watcher.join()
            if not moved:
                sys.exit(f'The thread did not come to pCPU {pcpu}')
            took.append(moved[0] - begun)
        # The first warms up.
        for kind, seconds in (('thread moved', took[1:]),
                              ('trigger answered', answered[1:])):
            cuts = statistics.quantiles(seconds, n=20, method='inclusive')
            self.say(f'change: {kind:18} p50 {statistics.median(seconds):.2f}'
                     f' s   p95 {cuts[18]:.2f} s   of {len(seconds)}')

    in_cloud(cloud.LibvirtCloud, body, SHARED_PCPUS=0)


BENCHES = {'apply': bench_apply, 'pass': bench_pass, 'change': bench_change,
           'beside': bench_beside, 'events': bench_events}


def in_checkout(checkout, argv):
    """The arguments of subprocess for this program with another's code."""
    # Nova finds the driver by a module of its environment.
    own = checkout / '.venv/bin/python'
    return {
        # Not by its path: its folder has a module of Placement's name.
        'args': [own if own.exists() else sys.executable, '-W', 'ignore',
                 '-c', 'import runpy, sys; sys.argv = sys.argv[1:]; '
                 'runpy.run_path(sys.argv[0], run_name="__main__")',
                 str(HERE), *argv],
        'cwd': checkout, 'stdout': subprocess.PIPE, 'text': True}


def compare(before, argv):
    """Run this program with the code of two checkouts, one after the other.
    """
    for name, checkout in (('before', before), ('now', HERE.parents[1])):
        found = subprocess.run(**in_checkout(checkout, argv), check=True)
        for line in found.stdout.splitlines():
            # Beside what Nova logs.
            if line.startswith((*(f'{bench}:' for bench in BENCHES), '  ')):
                print(f'{name:6} {line}', flush=True)


def compare_passes(before, args):
    """Passes of two checkouts in turn, each in a cloud that stays."""
    from benchmarks import natives

    builds = [subprocess.Popen(**in_checkout(checkout, [
        'pass', '--in-turn', f'--servers={args.servers}']),
        stdin=subprocess.PIPE) for checkout in (before, HERE.parents[1])]

    def ask(build, *words):
        for word in words:
            print(word, file=build.stdin, flush=True)
        for line in build.stdout:
            # Beside what Nova logs.
            if re.fullmatch(rf'{_IDLE}|[0-9.e-]+', line.strip()):
                return line.strip()
        sys.exit(f'{build.args[0]} has ended')

    try:
        for build in builds:
            ask(build)
        pairs = []
        for number in range(-2, args.passes):
            order = (0, 1) if number % 2 else (1, 0)
            pair = {which: float(ask(builds[which], _PASS))
                    for which in order}
            # The first ones fill caches.
            if number >= 0:
                pairs.append((pair[0], pair[1]))
    finally:
        for build in builds:
            build.kill()
    ratios = [now / then for then, now in pairs]
    low, high = natives.interval(ratios)
    medians = [statistics.median(each) * 1000 for each in zip(*pairs)]
    print(f'pass: {args.servers} idle servers, simulated, {len(pairs)} pairs; '
          f'CPU a server, without that of the simulated host, before '
          f'{medians[0]:.2f} ms, now {medians[1]:.2f} ms; ratio '
          f'{statistics.median(ratios):.3f} [{low:.3f}, {high:.3f}] '
          f'(goal: at most 0.333)')


def main():
    parser = argparse.ArgumentParser(
        prog='python -m benchmarks.live', description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('what', nargs='*', choices=[*BENCHES, 'all'],
                        default='all')
    parser.add_argument('--vcpus', type=int, default=64,
                        help='of the domain of apply (default: 64)')
    parser.add_argument('--rounds', type=int, default=20,
                        help='of apply, four changes each (default: 20)')
    parser.add_argument('--servers', type=int, default=100,
                        help='of pass, whose boots take minutes '
                             '(default: 100)')
    parser.add_argument('--passes', type=int, default=10,
                        help='over them (default: 10)')
    parser.add_argument('--changes', type=int, default=50,
                        help='of change (default: 50)')
    parser.add_argument('--seconds', type=float, default=10,
                        help='for which memory moves in beside '
                             '(default: 10)')
    parser.add_argument('--in-turn', action='store_true',
                        help=argparse.SUPPRESS)
    parser.add_argument('--before', metavar='CHECKOUT', type=pathlib.Path,
                        help='of a build to compare with')
    args = parser.parse_args()
    if args.before and args.what == ['pass']:
        compare_passes(args.before.resolve(), args)
        return
    if args.before:
        argv = sys.argv[1:]
        place = next(n for n, word in enumerate(argv)
                     if word.startswith('--before'))
        del argv[place:place + (1 if '=' in argv[place] else 2)]
        compare(args.before.resolve(), argv)
        return
    for name, bench in BENCHES.items():
        if name in args.what or 'all' in args.what:
            bench(args)


if __name__ == '__main__':
    main()
