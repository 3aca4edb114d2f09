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

"""kongming watch, report and check --host with real domains and a real
kernel; and the how-to about them.
"""

import contextlib
import itertools
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import fixtures
import libvirt_qemu

from kongming.cli import observe
from kongming.interference import trace as trace_mod
from kongming.interference import violations
from kongming.kernel import irq
from kongming.kernel import process
from kongming.kernel import tracefs
from tests import documents
from tests.functional import test_life
from tests.libvirt import test_host_cli
from tests.libvirt.test_host_cli import emulator
from tests.libvirt.test_host_cli import everything
from tests.libvirt.test_host_cli import iothread
from tests.libvirt.test_host_cli import pin
from tests.unit.render import test_page

HOWTO = pathlib.Path('doc/source/admin/disturbances.rst')
#: Sleeps at its beginning, works so many times when it gets SIGUSR1, and
#: sleeps again.
_BURNER = '''
import ctypes, os, signal, sys, time
ctypes.CDLL(None).prctl(15, sys.argv[1].encode(), 0, 0, 0)
os.sched_setaffinity(0, {int(word) for word in sys.argv[2].split(',')})
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
print(flush=True)
while True:
    signal.sigwait([signal.SIGUSR1])
    print('begin', flush=True)
    for _ in range(int(sys.argv[3])):
        end = time.thread_time() + 0.002
        while time.thread_time() < end:
            pass
        time.sleep(0.005)
    print('end', flush=True)
'''
_KHUGEPAGED = pathlib.Path('/sys/kernel/mm/transparent_hugepage/khugepaged/'
                           'scan_sleep_millisecs')


def schedstat(tid):
    """Run time in ns, run delay, and how often it was given a pCPU."""
    return tuple(map(int, pathlib.Path(
        f'/proc/{tid}/schedstat').read_text().split()))


def mount_tracefs(test):
    """Have tracefs, for as long as a test runs."""
    if os.geteuid():
        test.skipTest('only root may trace')
    with contextlib.suppress(Exception):
        tracefs._mounted()
        return
    done = subprocess.run(['mount', '-t', 'tracefs', 'tracefs',
                           '/sys/kernel/tracing'], capture_output=True)
    if done.returncode:
        test.skipTest('there is no tracefs')
    test.addCleanup(subprocess.run, ['umount', '/sys/kernel/tracing'])


class WatchBase(test_host_cli.HostCliTest):

    def owner(self, name='km-watched'):
        """A domain whose vCPU owns the second pCPU."""
        return self.start(name, pin(self.second) + emulator(self.first)
                          + iothread(self.first))

    def burner(self, name, *pcpus, times=100):
        found = subprocess.Popen(
            [sys.executable, '-c', _BURNER, name,
             ','.join(map(str, pcpus)), str(times)], stdout=subprocess.PIPE)
        self.addCleanup(found.stdout.close)
        self.addCleanup(found.wait)
        self.addCleanup(found.kill)
        found.stdout.readline()
        self.asleep(found)
        return found

    def asleep(self, process):
        while 'sigtimedwait' not in pathlib.Path(
                f'/proc/{process.pid}/wchan').read_text():
            time.sleep(0.01)

    def burn(self, burner):
        """Have it work, to the end."""
        burner.send_signal(signal.SIGUSR1)
        for _begin_and_end in range(2):
            burner.stdout.readline()
        self.asleep(burner)

    def inject(self, function):
        """Do something after a command's first reading, before the rest."""
        real = observe.ticks

        def ticks(*args):
            function()
            yield from real(*args)
        self.useFixture(fixtures.MonkeyPatch(
            'kongming.cli.observe.ticks', ticks))

    def report(self, *args, seconds=1):
        found = self.json('report', 'km-watched', '--seconds', seconds,
                          *args, status=2)
        return found['disturbances'] + found['background']

    def one(self, found, **wanted):
        each, = [each for each in found
                 if wanted.items() <= each.items()]
        return each


class ReportTest(WatchBase):

    def test_a_foreign_thread(self):
        """By its name, with the scheduler's own numbers."""
        self.owner()
        burner = self.burner('km-burner', self.second)
        before = schedstat(burner.pid)
        self.inject(lambda: self.burn(burner))
        found = self.one(self.report('--no-trace'), pid=burner.pid)
        after = schedstat(burner.pid)
        self.assertEqual(
            ('thread', 'km-burner', self.second, 'km-watched', 'vCPU 0',
             True, after[2] - before[2], (after[0] - before[0]) / 1000,
             'schedstat'), tuple(found[key] for key in (
                 'kind', 'name', 'pcpu', 'domain', 'thread', 'exact',
                 'count', 'us', 'measured_by')))
        self.assertGreaterEqual(found['count'], 100)
        self.assertEqual(f'taskset -apc {self.first} {burner.pid}',
                         found['remedy'])

    def test_as_a_page(self):
        """The same, in one file, with the host and its domains."""
        self.owner()
        burner = self.burner('km-<b>burner', self.second)
        self.inject(lambda: self.burn(burner))
        code, out, err = self.kongming(
            'report', 'km-watched', '--seconds', 1, '--no-trace', '-f',
            'html')
        self.assertEqual((2, ''), (code, err))
        _policy, data, _runs = test_page.parts(out)
        found = self.one(data['report']['disturbances'], pid=burner.pid)
        self.assertEqual(('km-<b>burner', self.second),
                         (found['name'], found['pcpu']))
        server, = [row for row in data['servers'] if row[1] == 'km-watched']
        self.assertEqual([0, self.second], server[8][0][4])
        self.assertEqual(socket.gethostname(), data['name'])
        self.assertLess(abs(time.time() - data['moment']), 60)

    def test_one_that_floats(self):
        """Its count is a limit; a trace knows."""
        self.owner()
        burner = self.burner('km-floats', self.first, self.second)
        self.inject(lambda: self.burn(burner))
        before = schedstat(burner.pid)
        found = [each for each in self.report('--no-trace')
                 if each['pid'] == burner.pid]
        limit = schedstat(burner.pid)[2] - before[2]
        for each in found:
            self.assertEqual((False, None), (each['exact'], each['us']))
            self.assertLessEqual(each['count'], limit)

    def test_the_kernel(self):
        """A thread of the kernel that is given work there."""
        pid = next((int(path.parent.name) for path in pathlib.Path(
            '/proc').glob('[0-9]*/comm')
            if path.read_text() == 'khugepaged\n'), None)
        if pid is None or os.geteuid():
            self.skipTest('there is no khugepaged, or only root may')
        self.addCleanup(os.sched_setaffinity, pid,
                        os.sched_getaffinity(pid))
        os.sched_setaffinity(pid, {self.second})
        usual = _KHUGEPAGED.read_text()
        self.addCleanup(_KHUGEPAGED.write_text, usual)
        _KHUGEPAGED.write_text('600000')
        self.owner()
        time.sleep(0.5)
        before = schedstat(pid)

        def scan():
            _KHUGEPAGED.write_text('10')
            time.sleep(3)
            _KHUGEPAGED.write_text('600000')
            time.sleep(0.5)
        self.inject(scan)
        found = self.one(self.report('--no-trace'), name='khugepaged')
        after = schedstat(pid)
        self.assertEqual(('kernel', self.second, after[2] - before[2],
                          (after[0] - before[0]) / 1000), tuple(
            found[key] for key in ('kind', 'pcpu', 'count', 'us')))
        self.assertGreater(found['count'], 50)

    def test_a_neighbours_emulator(self):
        self.owner()
        neighbour = self.start('km-neighbour', pin(self.first)
                               + emulator(self.second)
                               + iothread(self.first))
        pid = process.pid(neighbour)
        time.sleep(2)
        meanwhile = []

        def ask():
            # The main thread's and the monitor's, whose names QEMU gives.
            tids = [task.id for task in process.tasks(pid)
                    if task.kind == 'emulator']
            before = {tid: schedstat(tid)[2] for tid in tids}
            for _ in range(100):
                libvirt_qemu.qemuMonitorCommand(
                    neighbour, 'info status',
                    libvirt_qemu.VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP)
            now = {task.id for task in process.tasks(pid)}
            meanwhile.append(sum(schedstat(tid)[2] - before[tid]
                                 for tid in tids if tid in now))
        self.inject(ask)
        found = self.one(self.report('--no-trace'),
                         name='km-neighbour emulator')
        # It goes on a little before and afterwards; workers come and go.
        answers, = meanwhile
        self.assertGreaterEqual(answers, 100)
        self.assertTrue(
            answers <= found['count'] < 1.2 * answers + 50,
            (answers, found))
        self.assertEqual(('domain', pid, self.second, True), tuple(
            found[key] for key in ('kind', 'pid', 'pcpu', 'exact')))
        self.assertIn('kongming:emulator', found['remedy'])

    def test_an_interrupt(self):
        """Of the device that interrupts that pCPU, or is made to."""
        disk = [each for each in irq.read() if 'req' in each.device
                and each.effective == {self.second}]
        if not disk:
            self.skipTest('no disk interrupts the second pCPU')
        self.owner()
        number = str(disk[0].number)

        def count():
            for line in pathlib.Path('/proc/interrupts').read_text(
                    ).splitlines()[1:]:
                words = line.split()
                if words[0] == f'{number}:':
                    return int(words[1 + self.second])
        path = self.folder / 'read'
        path.write_bytes(bytes(1 << 20))

        def read():
            subprocess.run(['dd', f'if={path}', 'of=/dev/null', 'bs=4k',
                            'iflag=direct'], capture_output=True)
        before = count()
        self.inject(read)
        found = self.one(self.report('--no-trace'), irq=int(number))
        # Others use the disk, too.
        self.assertTrue(0 < found['count'] <= count() - before, found)
        self.assertEqual(('interrupt', disk[0].device, None), tuple(
            found[key] for key in ('kind', 'name', 'us')))

    @test_life.long
    def test_a_trace(self):
        """What floats, exactly; times of interrupts; short lives."""
        mount_tracefs(self)
        self.owner()
        burner = self.burner('km-floats', self.first, self.second)

        def inject():
            # An idle machine would leave it on the other one.
            os.sched_setaffinity(burner.pid, {self.second})
            self.burn(burner)
            os.sched_setaffinity(burner.pid, {self.first, self.second})
            for _ in range(20):
                subprocess.run(['taskset', '-c', str(self.second), 'true'])
        self.inject(inject)
        found = self.report()
        each = self.one(found, pid=burner.pid)
        self.assertEqual((True, 'tracefs'), (each['exact'],
                                             each['measured_by']))
        short = self.one(found, name='true', pid=None)
        self.assertGreaterEqual(short['count'], 20)
        self.assertGreater(short['us'], 0)
        for each in found:
            if each['kind'] == 'interrupt':
                self.assertIsNotNone(each['us'])
        timer = self.one(found, name='Local timer interrupts')
        self.assertEqual('tracefs', timer['measured_by'])
        self.assertEqual([], list(pathlib.Path(
            '/sys/kernel/tracing/instances').iterdir()))

    @test_life.long
    def test_times_of_a_trace(self):
        """Within a tenth of the scheduler's, and the same count."""
        mount_tracefs(self)
        burner = self.burner('km-burner', self.second)
        before = schedstat(burner.pid)
        trace = trace_mod.Trace()
        with tracefs.Session({self.second}) as session:
            self.burn(burner)
            session.stop()
            trace.add(session.lines())
        after = schedstat(burner.pid)
        found = trace.spent[trace_mod.Seen(self.second, trace_mod.RAN,
                                           str(burner.pid))]
        self.assertEqual(0, trace.lost)
        number = after[2] - before[2]
        if found.us is None:
            # The first one's beginning is nowhere.
            self.assertIn(number - found.number, (0, 1))
            self.skipTest('this kernel does not trace the switch from idle')
        self.assertEqual(number, found.number)
        self.assertLess(abs(found.us * 1000 / (after[0] - before[0]) - 1),
                        0.1)

    def test_killed(self):
        """A trace that was left behind is removed by the next."""
        mount_tracefs(self)
        left = pathlib.Path('/sys/kernel/tracing/instances/'
                            'kongming-999999999')
        left.mkdir()
        tracefs.Session({self.second}).close()
        self.assertFalse(left.exists())

    def test_hostile_names(self):
        self.owner()
        burner = self.burner('\x1b[31m\nx', self.second)
        self.inject(lambda: self.burn(burner))
        code, out, _err = self.kongming('report', 'km-watched', '--seconds',
                                        1, '--no-trace')
        self.assertEqual(2, code)
        self.assertIn(f'\\x1b[31m\\nx ({burner.pid})', out)
        self.assertNotIn('\x1b', out)

    def test_can_not_look(self):
        self.start('km-floating', everything(self.first, self.second))
        for command in 'watch', 'report':
            for args, code, words in (
                    (['km-nobody'], 1, "No domain 'km-nobody' runs here"),
                    (['km-floating'], 1, "'km-floating' owns no pCPU"),
                    (['--seconds', '0'], 64, 'invalid'),
                    (['--seconds', 'x'], 64, 'invalid'),
                    (['--connect', 'qemu+unix:///system?socket=/nowhere'], 1,
                     'is libvirtd running')):
                found, out, err = self.kongming(command, *args)
                self.assertEqual((code, ''), (found, out), args)
                self.assertIn(words, err)
                if code == 1:
                    self.assertEqual(1, err.count('\n'), err)


class WatchTest(WatchBase):

    def test_lines(self):
        """Not on a terminal: a block of lines for each reading."""
        self.owner()
        burner = self.burner('km-burner', self.second)
        self.inject(lambda: self.burn(burner))
        code, out, err = self.kongming('watch', 'km-watched', '--seconds',
                                       '1.5', '--interval', '0.5')
        self.assertEqual((0, ''), (code, err))
        # Fewer than three on a busy machine.
        self.assertIn('switched out', out)
        self.assertRegex(out, rf'\d\d:\d\d:\d\d {self.second} +km-watched '
                              r'vCPU 0 +\d+\.\d\d% +\d+\.\d\d% +\d+ +\d+\n')
        self.assertIn('thread km-burner', out)

    def test_json(self):
        """By the name of the server; a line a reading."""
        domain = self.start('km-watched', pin(self.second)
                            + emulator(self.first) + iothread(self.first),
                            test_host_cli.nova('vnf 1',
                                               hw__cpu_policy='dedicated'))
        tid = self.thread(domain)
        before = schedstat(tid)
        code, out, _err = self.kongming(
            'watch', 'vnf 1', '--seconds', 1, '--interval', '0.5', '-f',
            'json')
        after = schedstat(tid)
        self.assertEqual(0, code)
        found = [json.loads(line) for line in
                 out.splitlines()]
        self.assertIn(len(found), (1, 2))
        each = found[0]['owned'][0]
        self.assertEqual((self.second, 'km-watched', 'vCPU 0'), (
            each['pcpu'], each['domain'], each['thread']))
        for key, at in (('run_us', 0), ('wait_us', 1)):
            self.assertLessEqual(sum(
                line['owned'][0][key] for line in found),
                (after[at] - before[at]) / 1000)

    def test_a_terminal_and_ctrl_c(self):
        self.owner()
        leader, follower = os.openpty()
        self.addCleanup(os.close, leader)
        watch = subprocess.Popen(
            [sys.executable, '-c', 'import sys; from kongming.cli import app;'
             ' sys.exit(app.main())', 'watch', '--interval', '0.2'],
            stdout=follower, stderr=subprocess.PIPE,
            # It is ignored where the tests run in the background.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
        os.close(follower)
        out = b''
        while out.count(b'\x1b[H\x1b[J') < 3:
            out += os.read(leader, 4096)
        watch.send_signal(signal.SIGINT)
        _out, err = watch.communicate(timeout=60)
        self.assertEqual((0, b'\n'), (watch.returncode, err))
        self.assertIn(b'km-watched vCPU 0', out)

    def test_a_domain_comes_and_moves(self):
        """Owners are looked up anew when they change."""
        domain = self.owner()
        timer = threading.Timer(2, lambda: domain.pinVcpu(0, (True,)))
        self.inject(timer.start)
        code, out, _err = self.kongming(
            'watch', '--seconds', 4, '--interval', '0.5')
        self.assertEqual(0, code)
        self.assertRegex(out, rf' {self.second} +km-watched vCPU 0')
        self.assertRegex(out, rf' {self.first} +km-watched vCPU 0')


class CheckTest(WatchBase):

    def test_host(self):
        self.owner()
        self.assertEqual(set(), self.kinds('km-watched').intersection(
            violations.KINDS))
        found = {each for each in self.check('km-watched', '--host')
                 if each[0] in violations.KINDS}
        # Nothing of this machine keeps off.
        self.assertLessEqual({'thread', 'workqueue'},
                             {each[0] for each in found})
        for _kind, domain, _thread, pcpus, other in found:
            self.assertEqual(('host', (self.second,), 'km-watched'),
                             (domain, pcpus, other))
        self.assertEqual({'workqueue'}, self.kinds(
            'km-watched', '--kind', 'workqueue'))
        self.start('km-other', everything(self.first))
        self.assertEqual({(self.first,)}, {
            each[3] for each in self.check('km-other', '--host')
            if each[0] == 'thread'})


class HowToTest(WatchBase):
    """Each command of the page is run, in its order."""

    def test_follow(self):
        if (self.first, self.second) != (0, 1):
            self.skipTest('the page is about pCPUs 0 and 1')
        self.disk = test_host_cli.guests.write(str(self.folder), 'busy')
        self.start('vnf-1', pin(self.second) + emulator(self.first)
                   + iothread(self.first))
        backup = self.burner('backup', self.second, times=10 ** 6)
        backup.send_signal(signal.SIGUSR1)
        status, reports = 0, []
        for command in itertools.chain(*map(
                documents.commands, documents.blocks(HOWTO))):
            words = [word.replace('4711', str(backup.pid))
                     for word in command.words]
            if words == ['echo', '$?']:
                self.assertEqual([str(status)], [
                    line for line in command.shown if line.strip()])
                continue
            if words[0] == 'taskset':
                subprocess.run(words, check=True, capture_output=True)
                continue
            self.assertEqual('kongming', words[0])
            status, out, err = self.kongming(*words[1:])
            self.assertEqual('', err)
            if words[1] == 'report':
                reports.append(out)
            printed = {self.line(line, backup.pid)
                       for line in out.splitlines()}
            for line in command.shown:
                if line.strip():
                    self.assertIn(self.line(line, 4711), printed, out)
        first, second = reports
        self.assertIn(f'backup ({backup.pid})', first)
        self.assertNotIn('backup', second)

    @staticmethod
    def line(text, pid):
        """Without what differs each time."""
        text = text.replace(str(pid), 'PID')
        if text.startswith('+'):
            return ''
        return re.sub(r'[\d.]+', 'N', ' '.join(text.split()))
