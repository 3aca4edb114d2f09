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

"""How long Nova's resource lock is held, of two source trees, in one run.

``python -m benchmarks.lock --against DIR [--pairs 60]``.  Each tree has an
embedded cloud in a process of its own.  Both do the same, one after the other
and each first in turn: a native server boots on dedicated pCPUs, a server
boots by a template, and one that runs is moved.  A pair's ratio is the time
that nova-compute held the lock in this tree to that in the other; printed are
the medians of the ratios with their 95 % bootstrap interval.

Both trees run with this environment's packages.
"""

import argparse
import contextlib
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve()
CASES = ('native boot', 'template boot', 'live change')


def serve():
    """Do what is asked for on stdin; print how long the lock was held."""
    out = os.fdopen(os.dup(1), 'w')
    # Whatever else is printed is no answer.
    os.dup2(2, 1)
    from tests.functional import test_boot
    from tests.functional import test_life

    from nova.compute import resource_tracker
    from oslo_concurrency import lockutils
    import testtools

    seconds = []
    lock = lockutils.lock

    @contextlib.contextmanager
    def timed(name, *args, **kwargs):
        with lock(name, *args, **kwargs) as found:
            start = time.perf_counter()
            try:
                yield found
            finally:
                if name == resource_tracker.COMPUTE_RESOURCE_SEMAPHORE:
                    seconds.append(time.perf_counter() - start)

    lockutils.lock = timed

    class Served(test_life.LifeBase):

        def serve(self):
            self.hosts()
            native = self._create_flavor(vcpu=2, extra_spec=test_boot.PINNED)
            template = self.flavor(
                {**test_life.TEMPLATE, 'grant': 'template'})
            moved = {}
            for line in sys.stdin:
                case = line.strip()
                if case == 'live change':
                    server = moved['server'] = moved.get(
                        'server') or self.boot(template)
                    moved['to'] = 14 if moved.get('to') == 15 else 15
                    self.api.post_server_metadata(server['id'], {
                        'kongming:pin.0': f'0:{moved["to"]} 1:11'})
                    self.audit()
                elif moved:
                    self._delete_server(moved.pop('server'))
                    moved.clear()
                self.idle()
                seconds.clear()
                if case == 'live change':
                    self.computes['compute1'].driver.passes.run()
                else:
                    server = self.boot(
                        native if case == 'native boot' else template)
                self.idle()
                print(json.dumps(sum(seconds)), file=out, flush=True)
                if case != 'live change':
                    self._delete_server(server)

        def idle(self):
            # The tree of before has no wait for its threads.
            wait = getattr(getattr(self, 'service_threads', None),
                           'wait', None)
            wait(1) if wait else time.sleep(0.3)

    outcome = testtools.TestResult()
    Served('serve').run(outcome)
    for _test, trace in outcome.errors + outcome.failures:
        sys.exit(trace)


class Tree:
    """An embedded cloud of a source tree."""

    def __init__(self, folder):
        self.process = subprocess.Popen(
            [sys.executable, '-W', 'ignore', str(HERE), '--serve'],
            cwd=folder, text=True, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env={**os.environ, 'PYTHONPATH': str(folder),
                 'PYTHONSAFEPATH': '1'})

    def measure(self, case):
        """Seconds."""
        print(case, file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f'the cloud of {self.process.args} has ended: '
                     f'{self.process.wait()}')
        return json.loads(line)


def main():
    parser = argparse.ArgumentParser(
        prog='python -m benchmarks.lock', description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--against', type=pathlib.Path, metavar='DIR',
                        help='source tree to compare with')
    parser.add_argument('--pairs', type=int, default=60)
    parser.add_argument('--serve', action='store_true',
                        help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve()
        return
    from benchmarks import natives
    if not args.against:
        parser.error('--against is missing: the source tree to compare with')
    own, other = Tree(HERE.parents[1]), Tree(args.against.resolve())
    for case in CASES:
        pairs = []
        for number in range(args.pairs + 1):
            first, second = (own, other) if number % 2 else (other, own)
            found = {tree: tree.measure(case) for tree in (first, second)}
            pairs.append((found[own], found[other]))
        # The first of each kind warms up.
        ratios = [mine / its for mine, its in pairs[1:]]
        low, high = natives.interval(ratios)
        mine, its = (statistics.median(values) for values in zip(*pairs[1:]))
        print(f'{case:14} {1000 * its:6.1f} ms to {1000 * mine:6.1f} ms   '
              f'ratio {statistics.median(ratios):.3f}   '
              f'95 % {low:.3f} to {high:.3f}   {args.pairs} pairs', flush=True)


if __name__ == '__main__':
    main()
