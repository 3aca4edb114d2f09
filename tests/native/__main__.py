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

"""``python -m tests.native``: Nova's functional tests natively and hooked.

Exits with 1 where a test that passes natively does not pass hooked, or where
the hook was not really in use.
"""

import argparse
import collections
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time

PACKAGE = 'nova.tests.functional.libvirt.'
#: What touches what the hook touches: pinning, NUMA, moves, provider trees.
MODULES = ('test_numa_servers', 'test_numa_live_migration',
           'test_live_migration', 'test_reshape', 'test_pci_in_placement',
           'test_power_manage', 'test_evacuate', 'test_rt_servers',
           'test_pci_sriov_servers')
COLUMNS = 'run', 'passed', 'failed', 'skipped'
#: Seconds until Nova's test case gives a test up.  Where its cleanup hangs
#: then, or nothing can interrupt it, the process has to go.
TEST_TIMEOUT = int(os.environ.get('OS_TEST_TIMEOUT', '300'))
HUNG = 1.5 * TEST_TIMEOUT
#: What the witness counts, as done by the hook.
DONE = {'tree_updates': 'updated a provider tree', 'filterings': 'filtered'}


class Run:
    """All tests once, in one process, or more where one hung.

    :ivar results: test id -> passed, skipped or failed; of all tests
    :ivar counts: test id -> what the witness counted in it
    :ivar faults: what the hook logged -> how often
    """

    def __init__(self, mode, folder):
        self.mode = mode
        self.folder = folder
        self.results = {}
        self.texts = {}
        self.counts = {}
        self.problems = []
        self.faults = collections.Counter()
        self.modules = []
        self.seconds = 0.0
        self._test = None
        self._started = 0.0

    def __call__(self, names):
        """Run the tests; progress goes to stderr."""
        begin = time.monotonic()
        while names:
            known = len(self.counts)
            self._process(names)
            names = [test for test, result in self.results.items()
                     if result is None]
            if names and len(self.counts) == known:
                self.problems.append(f'{len(names)} tests told no result')
                self.results.update(dict.fromkeys(names, 'failed'))
                break
        self.seconds = time.monotonic() - begin

    def _process(self, names):
        out = self.folder / f'{self.mode}.out'
        reading, writing = os.pipe()
        with open(out, 'a') as output, subprocess.Popen(
                [sys.executable, '-W', 'ignore', '-m', 'tests.native.worker',
                 self.mode, str(writing), *names],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                pass_fds=[writing],
                env={**os.environ, 'OS_TEST_TIMEOUT': str(TEST_TIMEOUT)}
        ) as process:
            os.close(writing)
            with os.fdopen(reading) as events:
                while True:
                    hung = threading.Timer(HUNG, process.kill)
                    hung.start()
                    line = events.readline()
                    hung.cancel()
                    if not line:
                        break
                    self._take(json.loads(line))
        if process.returncode:
            if self._test is None:
                self.problems.append(f'ended with {process.returncode}, see '
                                     f'{out}')
            else:
                self._take({'test': self._test, 'result': 'failed', 'text':
                            f'It hung, or ended with {process.returncode}.'})
                self._take({'stop': self._test, 'counts': {}, 'faults': []})

    def _take(self, event):
        match event:
            case {'tests': tests}:
                for test in tests:
                    self.results.setdefault(test, None)
            case {'problems': problems}:
                self.problems += problems
            case {'start': test}:
                self._test, self._started = test, time.monotonic()
            case {'test': test, 'result': result, 'text': text}:
                order = [None, 'passed', 'skipped', 'failed']
                self.results[test] = max(
                    self.results.get(test), result, key=order.index)
                self.texts[test] = self.texts.get(test, '') + text
            case {'stop': test, 'counts': counts, 'faults': faults}:
                self.counts[test] = counts
                self.faults.update(faults)
                self._test = None
                self._progress(test)
            case {'modules': modules}:
                self.modules = modules

    def _progress(self, test):
        print(f'{self.mode} {len(self.counts)}/{len(self.results)} '
              f'{short(test)} ... {self.results[test]} '
              f'({time.monotonic() - self._started:.0f} s)',
              file=sys.stderr, flush=True)
        if self.results[test] == 'failed':
            (self.folder / f'{self.mode}-{short(test)}.txt').write_text(
                self.texts[test])

    def summary(self, tests):
        """(run, passed, failed, skipped) of some tests."""
        found = collections.Counter(
            self.results[test] for test in tests if test in self.results)
        return (found.total() - found['skipped'], found['passed'],
                found['failed'], found['skipped'])

    def used(self, tests):
        """What the witness counted in some tests."""
        total = collections.Counter()
        for test in tests:
            total.update(self.counts.get(test, {}))
        return total


def short(test):
    return test.removeprefix(PACKAGE)


def by_module(*runs):
    """Module -> its tests, in the order in which they ran."""
    found = {}
    for run in runs:
        for test in run.results:
            tests = found.setdefault(short(test).split('.')[0], {})
            tests[test] = True
    return found


def table(native, hooked):
    """The counts side by side, as lines."""
    modules = by_module(native, hooked)
    width = max(map(len, ['module', *modules]))

    def row(name, *parts):
        return f'{name:<{width}}' + '  |'.join(
            ''.join(f'{cell:>9}' for cell in part) for part in parts)

    yield row('', ('native', '', '', ''), ('hooked', '', '')).rstrip()
    yield row('module', COLUMNS, COLUMNS)
    for name, tests in modules.items():
        yield row(name, native.summary(tests), hooked.summary(tests))
    yield row('total', native.summary(native.results),
              hooked.summary(hooked.results))


def differences(native, hooked):
    """(test, native result, hooked result) of those that differ."""
    for tests in by_module(native, hooked).values():
        for test in tests:
            before, after = [run.results.get(test, 'not run')
                             for run in (native, hooked)]
            if before != after:
                yield test, before, after


def distrust(native, hooked):
    """Why the comparison would mean nothing, in words."""
    for run in native, hooked:
        for problem in run.problems:
            yield f'{run.mode}: {problem}'
        if 'passed' not in run.results.values():
            yield f'{run.mode}: no test passed'
    if native.modules:
        yield f'native: {", ".join(native.modules)} had been imported'
    if hooked.modules and 'nova_ext.validators' not in hooked.modules:
        yield 'hooked: nova-api has not found the validator'
    for name, tests in by_module(hooked).items():
        used = hooked.used(tests)
        for whole in 'drivers', 'schedulers':
            ours = used[f'hooked_{whole}']
            if not ours or ours != used[whole]:
                yield f'{name}: {ours} of {used[whole]} {whole} were hooked'
        for count, done in DONE.items():
            if not used[count]:
                yield f'{name}: the hook has not {done}'
    total = hooked.used(hooked.results)
    if not total['published']:
        yield 'hooked: no node was published'
    for fault, times in hooked.faults.items():
        yield f'the hook logged an error {times} times: {fault}'


def requests(native, hooked):
    """(same, [(test, natively, hooked)]): what Nova asks of Placement.

    Of the tests that pass in both runs.
    """
    same, other = 0, []
    for test, result in native.results.items():
        if 'passed' == result == hooked.results.get(test):
            before, after = (run.counts[test].get('requests', 0)
                             for run in (native, hooked))
            if before == after:
                same += 1
            else:
                other.append((test, before, after))
    return same, other


def hook_use(hooked):
    """How much the hook was in use, in words."""
    used = hooked.used(hooked.results)
    tests = sum(bool(counts.get('hooked_drivers'))
                for counts in hooked.counts.values())
    return (
        f'the hook: in {tests} of {len(hooked.results)} tests; '
        f'{used["hooked_drivers"]} of {used["drivers"]} libvirt drivers, '
        f'{used["tree_updates"]} updates of a provider tree, '
        f'{used["published"]} hosts published, {used["hooked_schedulers"]} of '
        f'{used["schedulers"]} schedulers, {used["filterings"]} filterings, '
        f'{hooked.faults.total()} errors logged')


def main():
    parser = argparse.ArgumentParser(
        prog='python -m tests.native',
        description="Run Nova's own functional tests as the installed Nova "
                    'has them, natively and with KongMing, and compare.',
        epilog='modules if none is given: ' + ', '.join(MODULES))
    parser.add_argument(
        '--module', metavar='NAME', nargs='+', action='extend',
        help=f'module of {PACKAGE.rstrip(".")}, or a class or test in it '
             '(MODULE.CLASS.TEST)')
    parser.add_argument(
        '--folder', type=pathlib.Path,
        help="for the tests' output and the logs of those that failed "
             '(default: a temporary one)')
    args = parser.parse_args()
    folder = args.folder or pathlib.Path(
        tempfile.mkdtemp(prefix='kongming-native-'))
    folder.mkdir(parents=True, exist_ok=True)
    names = [PACKAGE + short(name) for name in args.module or MODULES]
    native, hooked = runs = Run('native', folder), Run('hooked', folder)
    for run in runs:
        run(names)
        if not run.results:
            print(f'{run.mode}: no test was found', *run.problems, sep='\n')
            return 1
    print(*table(native, hooked), sep='\n')
    print(hook_use(hooked))
    print(', '.join(f'{run.mode} {run.seconds:.0f} s' for run in runs))
    same, other = requests(native, hooked)
    print(f'as many requests of Nova\'s to Placement in {same} of '
          f'{same + len(other)} tests')
    for test, before, after in other:
        print(f'requests: {short(test)}: {before} natively, {after} hooked')
    status = 0
    for test, before, after in differences(native, hooked):
        print(f'differs: {short(test)}: {before} natively, {after} hooked')
        status |= before == 'passed'
    for reason in distrust(native, hooked):
        print(f'not to be trusted: {reason}')
        status = 1
    if status or any('failed' in run.results.values() for run in runs):
        print(f'output and logs: {folder}')
    return int(status)


if __name__ == '__main__':
    sys.exit(main())
