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

"""Profiles by load: what lending gains, and what it costs the owner.

``python -m benchmarks.by_load [gain|back|bursts|flapping]``, all by default;
real domains on this machine's libvirtd, with nova-compute's own enforcer and
reader of load, without Nova's services.  An owner of two pCPUs lends one of
them while it is idle, to a borrower whose two vCPUs never sleep:

gain      the borrower's CPU time with what is lent, and with the same
          widening by hand (``taskset``), to that without
back      from the moment at which the owner is busy until its threads are on
          what they own and the borrower has left: median, 95th percentile
bursts    the owner's CPU time in bursts, to that where it never lends
flapping  switches of traces of 24 hours that are made to flap, in replay

The owner is a guest whose vCPUs never sleep either; it is idle while it is
paused.  The machine needs two pCPUs; where it has no third one, the borrower
floats over the owner's first one, in all that is compared.  Needs root,
libvirtd and KVM.
"""

import argparse
import contextlib
import datetime
import os
import signal
import statistics
import subprocess
import sys
import threading
import time

from tests.embedded import guests  # noqa: F401, I100  (patches nova first)

from benchmarks import qos

PCPUS = sorted(os.sched_getaffinity(0))
OWNED = PCPUS[:2]
SHARED = PCPUS[2:3] or PCPUS[:1]
SPECS = {'kongming:profile.idle.when': 'use<15% for 5s',
         'kongming:profile.idle.pin.0': '0-1~v0',
         'kongming:profile.idle.lend': 'true'}
#: So long the profile lasts at least, so that the next time it need not be
#: earned for longer; seconds.
LASTS = 16.0


def _instance(number, server, specs, pins):
    from nova import objects

    return objects.Instance(
        uuid=server.domain.UUIDString(), project_id=str(number),
        display_name=server.domain.name(), id=number, vm_state='active',
        metadata={},
        flavor=objects.Flavor(extra_specs=specs),
        numa_topology=objects.InstanceNUMATopology(cells=[
            objects.InstanceNUMACell(
                id=0, cpuset=set() if pins else {0, 1},
                pcpuset=set(pins or ()), cpu_pinning=pins,
                cpuset_reserved=None, memory=64,
                cpu_policy='dedicated' if pins else 'shared')]))


class Domains:
    """What nova_ext.live.domains.Domains is, without Nova's driver."""

    def __init__(self):
        from kongming.host import usage

        self.servers = {}
        #: servers that the kernel says are elsewhere
        self.freed = frozenset()
        self._host = usage.HostState([usage.NodeState(
            0, frozenset(OWNED), shared=frozenset(SHARED))])

    def layout(self):
        return self._host

    def dedicated(self):
        return frozenset(OWNED)

    def domain(self, server):
        return self.servers[server.uuid].domain

    def wanted(self, server, topology, intent, lent=frozenset()):
        from kongming.live import threads
        from nova_ext.ownership import ownership

        owned = ownership.Ownership(topology).owned
        default = threads.Threads(
            {0: frozenset(SHARED), 1: frozenset(SHARED),
             **{vcpu: frozenset({pcpu})
                for vcpu, pcpu in owned.pins.items()}},
            owned.pcpus or frozenset(SHARED))
        return threads.shape(default, self._host, owned, intent, lent)

    def powered(self, pcpus):
        return pcpus

    def power_down(self, server, topology, intent):
        """These profiles say nothing of power."""

    def differences(self, server, topology, intent, lent=frozenset(),
                    act=False):
        from kongming.libvirt import affinity
        from kongming.live import threads

        return threads.changes(
            affinity.read(self.domain(server)),
            self.wanted(server, topology, intent, lent)[0])

    def run_on(self, server, topology, intent, lent=frozenset(),
               before_each=lambda: None):
        from kongming.libvirt import affinity

        affinity.apply(self.domain(server), self.wanted(
            server, topology, intent, lent)[0], max(PCPUS) + 1, before_each)


class Host:
    """An owner, a borrower, and what nova-compute does for them."""

    def __init__(self, stack):
        import nova.conf
        from nova import objects

        from kongming import conf as km_conf
        from kongming.kernel import vcpu_times
        from nova_ext.live import enforce
        from nova_ext.live import intents
        from nova_ext.live import jobs
        from nova_ext.live import load

        objects.register_all()
        km_conf.register_opts(nova.conf.CONF)
        self.conf = nova.conf.CONF
        self.conf.set_override('load_switches_per_hour', 0, 'kongming')
        self.owner = qos.Server(stack, 'owner', 2, OWNED[0])
        self.borrower = qos.Server(stack, 'borrower', 2, SHARED[0])
        domains = Domains()
        self._servers = {}
        for number, (server, specs, pins) in enumerate((
                (self.owner, SPECS, dict(enumerate(OWNED))),
                (self.borrower, {'kongming:borrow': 'host'}, None))):
            found = _instance(number, server, specs, pins)
            domains.servers[found.uuid] = server
            self._servers[found.uuid] = found
        self._enforcer = None
        self._lock = threading.Lock()
        # Nova has names of domains by a template of its configuration.
        names = {uuid: server.domain.name()
                 for uuid, server in domains.servers.items()}
        real = vcpu_times.Domain
        load.vcpu_times.Domain = lambda _name, uuid: real(names[uuid], uuid)
        self.load = load.Load(lambda: True, lambda *_args: True, self._switch,
                              lambda *_args: frozenset(), enforce.now)
        self._enforcer = enforce.Enforcer(
            domains, jobs.Jobs(), intents.Intents(self.load.met))
        self._enforcer.first(self._servers.values())
        stack.callback(self.load.stop)
        self.lends(False)

    def _switch(self, ending, others):
        with self._lock:
            self._enforcer.switch_by_load(ending, others)
        if ending:
            # As the pass does that follows.
            self.look()

    def look(self):
        """A pass."""
        with self._lock:
            self._enforcer.begin()
            _intents, failed = self._enforcer.enforce(dict(self._servers), {})
        if failed:
            raise SystemExit(f'{failed}')

    def lends(self, whether):
        """Whether the owner lends by its load, from now on."""
        self.conf.set_override('by_load', 'act' if whether else 'off',
                               'kongming')
        self.look()

    def idle(self):
        self.owner.domain.suspend()

    def idle_until_it_has_lent(self):
        self.idle()
        _until(self.is_lent, 60)
        time.sleep(LASTS)

    def busy(self):
        self.owner.domain.resume()

    def is_lent(self):
        return OWNED[1] in _on(self.borrower)

    def has_all(self):
        return OWNED[1] not in _on(self.borrower) and [
            {pcpu} for pcpu in OWNED] == _affinities(self.owner)


def _affinities(server):
    from kongming.kernel import process

    return [os.sched_getaffinity(thread) for _vcpu, thread in sorted(
        process.vcpu_threads(server.pid).items())]


def _on(server):
    return set().union(*_affinities(server))


def _used(server, seconds):
    """CPU time of a server's vCPUs to the time that passes."""
    before, begin = server.seconds(), time.monotonic()
    time.sleep(seconds)
    return (sum(server.seconds()) - sum(before)) / (
        time.monotonic() - begin)


def gain(host, rounds, seconds):
    """Interleaved: narrow, lent, narrow, by hand."""
    from kongming.kernel import process

    lent, by_hand = [], []
    for _ in range(rounds):
        host.idle()
        narrow = _used(host.borrower, seconds)
        host.lends(True)
        _until(host.is_lent, 60)
        lent.append(_used(host.borrower, seconds) / narrow)
        host.lends(False)
        narrow = _used(host.borrower, seconds)
        for thread in process.vcpu_threads(host.borrower.pid).values():
            subprocess.run(
                ['taskset', '-pc', ','.join(map(str, {*SHARED, OWNED[1]})),
                 str(thread)], check=True, stdout=subprocess.DEVNULL)
            # By hand, libvirt's cpuset has to be widened as well.
        by_hand.append(_widened(host, seconds) / narrow)
        host.look()
        host.busy()
    print(f'gain: lent {statistics.median(lent):.2f}, by hand '
          f'{statistics.median(by_hand):.2f}, ratio '
          f'{statistics.median(lent) / statistics.median(by_hand):.3f} '
          f'({rounds} rounds of {seconds:g} s)')


def _widened(host, seconds):
    width = max(PCPUS) + 1
    for vcpu in (0, 1):
        host.borrower.domain.pinVcpu(vcpu, tuple(
            pcpu in {*SHARED, OWNED[1]} for pcpu in range(width)))
    return _used(host.borrower, seconds)


def _until(is_so, seconds):
    end = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > end:
            raise SystemExit(f'not so after {seconds} s')
        time.sleep(0.002)


def back(host, rounds, _seconds):
    host.lends(True)
    took = []
    for _ in range(rounds):
        host.idle_until_it_has_lent()
        begin = time.monotonic()
        host.busy()
        _until(host.has_all, 30)
        took.append(time.monotonic() - begin)
        time.sleep(2)
    host.lends(False)
    took.sort()
    print(f'back: median {statistics.median(took):.3f} s, p95 '
          f'{took[max(0, -(-95 * len(took) // 100) - 1)]:.3f} s, most '
          f'{took[-1]:.3f} s ({rounds} rounds)')


def bursts(host, rounds, seconds):
    found = {True: [], False: []}
    for number in range(2 * rounds):
        lends = bool(number % 2)
        host.lends(lends)
        if lends:
            host.idle_until_it_has_lent()
        else:
            host.idle()
            time.sleep(LASTS)
        host.busy()
        found[lends].append(_used(host.owner, seconds))
    host.lends(False)
    ratio = statistics.median(found[True]) / statistics.median(found[False])
    print(f'bursts: the owner has {statistics.median(found[True]):.3f} pCPUs '
          f'with lending, {statistics.median(found[False]):.3f} without, '
          f'ratio {ratio:.3f} ({rounds} rounds of {seconds:g} s)')


def flapping():
    """Guests that are busy whenever that makes them switch most."""
    from kongming.load import decision
    from kongming.load import figures
    from kongming.template import template

    flavor = template.decode(SPECS | {
        'kongming:profile.idle.when': 'use<15% for 1m'})
    begin = datetime.datetime(2026, 11, 27, tzinfo=datetime.timezone.utc)
    for name, busy in (
            ('a burst every 65 s', lambda at, _is_idle: at % 65 < 5),
            ('a burst every 4 minutes', lambda at, _is_idle: at % 240 < 5),
            ('busy as soon as it is idle', lambda _at, is_idle: is_idle)):
        decider = decision.Decider()
        run = at = 0
        times = []
        while at < 86400:
            at += 5
            run += 5 * 10 ** 9 * busy(at, decider.decision.profile == 'idle')
            decider.read(flavor, figures.Counters(
                at, {0: figures.Times(run, 0)}), at)
            before = decider.decision.profile
            if decider.decide(flavor, {}, begin + datetime.timedelta(
                    seconds=at), at).profile != before:
                times.append(at)
        most = max((sum(each <= other < each + 3600 for other in times)
                    for each in times), default=0)
        print(f'flapping, {name}: {len(times)} switches in 24 h, at most '
              f'{most} in an hour (limit {decision.SWITCHES})')


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('what', nargs='*', default=[])
    parser.add_argument('--rounds', type=int, default=20)
    parser.add_argument('--seconds', type=float, default=60.0,
                        help='of a measurement of CPU time')
    args = parser.parse_args()
    known = {'gain': gain, 'back': back, 'bursts': bursts}
    what = args.what or [*known, 'flapping']
    if unknown := {*what} - {*known, 'flapping'}:
        parser.error(f'{", ".join(sorted(unknown))} can not be measured')
    if 'flapping' in what:
        flapping()
    # Whoever is told to end leaves no domain that never sleeps.
    signal.signal(signal.SIGTERM, lambda *_args: sys.exit(1))
    with contextlib.ExitStack() as stack:
        host = None
        for name in what:
            if name in known:
                host = host or Host(stack)
                known[name](host, args.rounds, args.seconds)


if __name__ == '__main__':
    main()
