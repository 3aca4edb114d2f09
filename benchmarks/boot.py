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

"""The hook's share of a boot.

``python -m benchmarks.boot [--hypervisor simulated|libvirt] [--boots 20]``.
Two embedded clouds, each in a process of its own, one native and one with
hook, filter and weigher, boot the same servers.  The share is the time spent
in KongMing's own code (hook, filter, weigher, all without the Nova code that
they call) of the time from POST to ACTIVE; beside it stands the ratio of the
whole boots, which holds much noise.
"""

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import threading
import time

PINNED = {'hw:cpu_policy': 'dedicated'}
KINDS = {'native, no topology': {}, 'native, dedicated': PINNED,
         'template': {**PINNED, 'kongming:node.0': '0'}}


class Share:
    """Seconds in wrapped functions, less those in what they call of Nova's."""

    def __init__(self):
        self.total = 0.0
        self._own = threading.local()

    def count(self, owner, name, sign=1):
        real = getattr(owner, name)

        def timed(*args, **kwargs):
            depth = getattr(self._own, 'depth', 0)
            if (sign > 0) == (depth > 0):
                # Nested in itself, or Nova's by itself.
                return real(*args, **kwargs)
            self._own.depth = depth + sign
            start = time.perf_counter()
            try:
                return real(*args, **kwargs)
            finally:
                self.total += sign * (time.perf_counter() - start)
                self._own.depth = depth

        setattr(owner, name, timed)


def child(args):
    """Boot in a cloud of this process; prints what it took as JSON."""
    from tests.embedded import cloud

    import testtools

    share = Share()

    class Boots(cloud.CLOUDS[args.hypervisor]):
        HOOKED = args.child == 'hooked'

        def boots(self):
            self.start_host()
            if self.HOOKED:
                self.instrument()
            flavors = {}
            for kind, specs in KINDS.items():
                if self.HOOKED or 'kongming:node.0' not in specs:
                    flavors[kind] = self._create_flavor(
                        vcpu=1, memory_mb=64, disk=1, ephemeral=0, swap=0,
                        extra_spec=specs)
            for kind, flavor in flavors.items():
                for _ in range(args.boots + 1):
                    share.total = 0.0
                    start = time.perf_counter()
                    server = self.api.post_server({
                        'server': self._build_server(
                            flavor_id=flavor, networks='none')})
                    while self.api.get_server(
                            server['id'])['status'] == 'BUILD':
                        time.sleep(0.02)
                    took = time.perf_counter() - start
                    results.setdefault(kind, []).append(
                        (took, share.total))
                    self._delete_server(server)

        def instrument(self):
            from nova.virt.libvirt import driver as nova_driver
            from nova_ext import driver
            from nova_ext import filters
            from nova_ext import weights
            for name in ('spawn', 'update_provider_tree'):
                share.count(driver.LibvirtDriver, name)
                share.count(nova_driver.LibvirtDriver, name, -1)
            share.count(filters.KongmingFilter, 'filter_all')
            share.count(weights.KongmingWeigher, 'weigh_objects')

    results: dict[str, list[tuple[float, float]]] = {}
    outcome = testtools.TestResult()
    with contextlib.redirect_stdout(sys.stderr):
        Boots('boots').run(outcome)
    for _test, trace in outcome.errors + outcome.failures:
        sys.exit(trace)
    # The first of each kind warms up.
    print(json.dumps({kind: found[1:] for kind, found in results.items()}))


def main():
    parser = argparse.ArgumentParser(
        prog='python -m benchmarks.boot', description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--hypervisor', choices=('simulated', 'libvirt'),
                        default='simulated')
    parser.add_argument('--boots', type=int, default=20)
    parser.add_argument('--child', choices=('native', 'hooked'),
                        help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(args)
        return
    found = {}
    for kind in ('native', 'hooked'):
        done = subprocess.run(
            [sys.executable, '-W', 'ignore', '-m', 'benchmarks.boot',
             '--hypervisor', args.hypervisor, '--boots', str(args.boots),
             '--child', kind], stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True)
        if done.returncode:
            sys.exit(done.stderr)
        found[kind] = json.loads(done.stdout.splitlines()[-1])
    print(f'{args.hypervisor}, medians of {args.boots} boots')
    print('server                   boot     share of KongMing   '
          'to the native cloud')
    for kind, boots in found['hooked'].items():
        took = statistics.median(seconds for seconds, _own in boots)
        share = statistics.median(own / seconds for seconds, own in boots)
        ratio = ''
        if kind in found['native']:
            native = statistics.median(
                seconds for seconds, _own in found['native'][kind])
            ratio = f'{took / native:18.2f}'
        print(f'{kind:20} {took:8.2f} s {share:16.1%} {ratio}')


if __name__ == '__main__':
    main()
