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

"""What KongMing costs at start, of two installed trees, in one run.

``python -m benchmarks.imports --against /tmp/before/.venv/bin/python``.  Each
``openstack`` command and nova-scheduler pay for imports.  A pair is the same
start by both interpreters, one after the other and each first in turn; each
is a new process in an empty folder, so that what is installed is imported.

A ratio is this tree's time to the other's: the median of the pairs' ratios
with its 95 % bootstrap interval, once by the clock and once by the CPU time of
the process, which other work on the machine disturbs less.  Modules are those
that are imported when the process ends, Python's and everybody's.
"""

import argparse
import os
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile
import time

#: Of a command that needs no cloud, and is loaded all the same.
COMMAND = 'kongming', 'host', 'list', '--help'
SHELL = ('import sys; from openstackclient import shell; '
         f'sys.exit(shell.main({list(COMMAND)}))')
#: The same for both: nobody's variables, no network, no folder of ours.
ENVIRONMENT = {'PATH': os.defpath, 'HOME': '/nonexistent', 'LANG': 'C.UTF-8'}
#: Writes down what a process has imported, without a module more.
COUNT = ('import atexit, sys\n'
         'atexit.register(lambda: open(sys.argv[1], "w").write('
         '"\\n".join(sys.modules)))\n')
RESAMPLES = 10000


def statement(text):
    return lambda python: [python, '-c', text]


def console_script(name, *words):
    return lambda python: [pathlib.Path(python).with_name(name), *words]


CASES = [
    # title, what is timed, the same as a statement
    ('import osc_plugin.plugin', statement('import osc_plugin.plugin'),
     'import osc_plugin.plugin'),
    ('import nova_ext.filters', statement('import nova_ext.filters'),
     'import nova_ext.filters'),
    (f'openstack {" ".join(COMMAND)}', console_script('openstack', *COMMAND),
     SHELL),
]


def start(command, folder):
    """Seconds by the clock, and of CPU, of one process."""
    begun = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=folder, env=ENVIRONMENT, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _pid, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f'{command} ended with {process.returncode}')
    return wall, usage.ru_utime + usage.ru_stime


def modules(python, text, folder):
    """Names of all modules that a statement leaves imported."""
    names = pathlib.Path(folder, 'modules')
    subprocess.run([python, '-c', COUNT + text, names], cwd=folder,
                   env=ENVIRONMENT, check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)
    found = names.read_text().split('\n')
    names.unlink()
    return set(found)


def paired(pairs, pythons, case, folder):
    """[((wall, CPU) of ours, (wall, CPU) of theirs)]."""
    found = []
    for number in range(pairs):
        order = (0, 1) if number % 2 else (1, 0)
        times = {which: start(case(pythons[which]), folder)
                 for which in order}
        found.append((times[0], times[1]))
    return found


def interval(ratios, chance):
    """Of the median, 95 %, by the bootstrap."""
    medians = sorted(
        statistics.median(chance.choices(ratios, k=len(ratios)))
        for _ in range(RESAMPLES))
    return medians[RESAMPLES * 25 // 1000], medians[RESAMPLES * 975 // 1000]


def report(kind, times, chance):
    """:param times: [(ours, theirs)] in seconds"""
    ratios = [ours / theirs for ours, theirs in times]
    low, high = interval(ratios, chance)
    ours, theirs = (statistics.median(each) * 1e3 for each in zip(*times))
    print(f'    {kind:<8}{ours:8.1f} ms to {theirs:8.1f} ms   ratio '
          f'{statistics.median(ratios):.4f}   95 % {low:.4f} to {high:.4f}',
          flush=True)


def report_modules(ours, theirs):
    print(f'    modules {len(ours):5}    to {len(theirs):5}')
    for sign, names in (('+', ours - theirs), ('-', theirs - ours)):
        if names:
            print(f'      {sign} {" ".join(sorted(names))}')


def main():
    parser = argparse.ArgumentParser(
        prog='python -m benchmarks.imports', description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--against', required=True, metavar='<python>',
                        help='of an environment with another tree')
    parser.add_argument('--python', default=sys.executable,
                        metavar='<python>',
                        help='of that with this tree (default: this one)')
    parser.add_argument('--pairs', type=int, default=60,
                        help='of each case (default: 60)')
    args = parser.parse_args()
    pythons = [args.python, args.against]
    chance = random.Random(1)
    with tempfile.TemporaryDirectory() as folder:
        for title, case, text in CASES:
            print(f'{title}, {args.pairs} pairs', flush=True)
            # This writes what is compiled, too.
            found = [modules(python, text, folder) for python in pythons]
            paired(2, pythons, case, folder)
            times = paired(args.pairs, pythons, case, folder)
            for number, kind in enumerate(('wall', 'CPU')):
                report(kind, [(ours[number], theirs[number])
                              for ours, theirs in times], chance)
            report_modules(*found)


if __name__ == '__main__':
    main()
