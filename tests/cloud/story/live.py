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


"""Servers that change while they run."""

from concurrent import futures
import datetime
import os
import threading
import time

import libvirt

from kongming.kernel import process as process_mod
from tests.cloud.story import chapter
from tests.embedded import guests
from tests.embedded import witness


def _runs_on(thread, pcpus):
    """When the kernel lets a thread run there only, by the clock."""
    end = time.monotonic() + 60
    while os.sched_getaffinity(thread) != pcpus:
        if time.monotonic() > end:
            raise AssertionError(f'thread {thread} is not on {pcpus}')
        time.sleep(0.001)
    return time.monotonic()


class Live(chapter.Chapter):

    def movable(self, *template, vcpus=1, grant=('template',), **kwargs):
        """A flavor whose servers may be moved."""
        flavor = self.flavor(vcpus, template=template, **kwargs)
        self.grant(flavor, *grant)
        return flavor

    @chapter.on('local1', short=True)
    def test_repin_under_load(self):
        """A guest that never sleeps changes its pCPU and runs on"""
        server = self.boot(self.movable('--pin', '0=0:0'), image='busy')
        process, ticks = self.look.process(server)
        status, said = self.admin.process(
            'kongming', 'server', 'set', '--pin', '0=0:1', '--wait', server)
        self.assertEqual(0, status, said)
        self.assertIsOn(server, 0, {0: 1})
        self.assertEqual({('local1', 1)}, self.look.named(server))
        self.until('the guest has had CPU time since', lambda: (
            self.look.process(server)[1] > ticks))
        self.assertEqual(process, self.look.process(server)[0])
        history = self.member.json('kongming', 'server', 'history', server)
        self.assertEqual(['Success'], [row['result'] for row in history])

    @chapter.on('local1', short=True)
    def test_latency(self):
        """From metadata to the live thread, ten times each way

        What the two requests take that it is made of, of a native server,
        stands beside it: nothing of it is ours.
        """
        flavor = self.movable('--pin', '0=0:0')
        samples, moved = [], []
        server = self.boot(flavor)
        domain = self.look.domain_name(server)
        thread, = process_mod.vcpu_threads(
            self.look.process(server)[0]).values()
        for number in range(1, 11):
            begin = time.monotonic()
            with futures.ThreadPoolExecutor(1) as watcher:
                seen = watcher.submit(_runs_on, thread, {number % 2})
                self.say(server, pin_0=f'0:{number % 2}')
                self.ring(server)
                samples.append(time.monotonic() - begin)
                moved.append(seen.result() - begin)
            self.assertEqual({0: frozenset({number % 2})}, witness.threads(
                domain, self.cloud.hosts['local1'].shell))
        self.spread('metadata to the thread, SDK', moved)
        self.spread('metadata to live, SDK', samples)
        self.delete(server)
        # Ten changes at once are what a server may ask for.
        server, samples = self.boot(flavor), []
        for number in range(1, 11):
            begin = time.monotonic()
            self.admin.run('kongming', 'server', 'set', '--pin',
                           f'0=0:{number % 2}', '--wait', server)
            samples.append(time.monotonic() - begin)
            self.assertEqual({0: frozenset({number % 2})},
                             self.look.threads(server))
        self.spread('server set --wait, in the process', samples)
        self.delete(server)
        native, samples = self.boot(self.flavor(1)), []
        for number in range(10):
            begin = time.monotonic()
            self.say(native, number=str(number))
            self.ring(native)
            samples.append(time.monotonic() - begin)
        self.spread('the same requests, native server, SDK', samples)
        self.delete(native)

    @chapter.on('nested1')
    def test_swap(self):
        """Two servers change places, and never share one"""
        servers = []
        for pcpu in (8, 9):
            servers.append(self.boot(
                self.movable('--node', '0=1', '--pin', f'0=0:{pcpu}'),
                host='nested1'))
        names = [self.look.domain_name(uuid) for uuid in servers]
        shell = self.cloud.hosts['nested1'].shell
        seen, done = [], threading.Event()

        def watch():
            while not done.is_set():
                found = witness.threads_of_all(names, shell)
                seen.append(tuple(found[name][0] for name in names))

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            begin = time.monotonic()
            for uuid, pcpu in zip(servers, (9, 8)):
                self.say(uuid, pin_0=f'0:{pcpu}')
            self.ring(servers[0])
            for uuid, pcpu in zip(servers, (9, 8)):
                self.comes_to(uuid, 1, {0: pcpu})
            self.seconds('swap, emulated host', time.monotonic() - begin)
        finally:
            done.set()
            watcher.join()
        self.assertTrue(seen)
        for one, other in seen:
            self.assertFalse(one & other, seen)
        self.figure('looked at on the way', f'{len(seen)} times')

    @chapter.on('nested1')
    def test_memory(self):
        """A server goes to the other node, its memory with it"""
        server = self.boot(self.movable('--node', '0=0', '--pin', '0=0:4'),
                           image='dirty', host='nested1')
        host = self.cloud.hosts['nested1']
        process = self.look.process(server)[0]
        connection = libvirt.open(host.uri)
        self.addCleanup(connection.close)
        domain = connection.lookupByUUIDString(server)
        memory = host.host.wait_for_memory(domain, guests.DIRTY_MIB, 300)
        self.assertEqual({0}, set(memory.pages))
        begin = time.monotonic()
        self.admin.run('kongming', 'server', 'set', '--node', '0=1', '--pin',
                       '0=0:10', '--wait', '--timeout', 300, server)
        self.seconds('to the other node, 64 MiB', time.monotonic() - begin)
        self.assertEqual({0: frozenset({10})}, self.look.threads(server))
        memory = host.host.memory(domain)
        self.assertEqual({1}, set(memory.pages))
        self.assertEqual([(1, {0: 10})],
                         [cell[:2] for cell in self.look.cells(server)])
        self.assertEqual(process, self.look.process(server)[0])


class Profiles(chapter.Chapter):

    def profiled(self, when=None):
        """Two vCPUs by day, packed onto one pCPU by night."""
        path = self.cloud.layout.data / 'web.yaml'
        window = f'    when: {when}\n' if when else ''
        path.write_text(
            f'version: 1\ncells:\n  0:\n    pin: "0:0 1:1"\nprofiles:\n'
            f'  night:\n{window}    cells: {{0: {{pin: "0-1~v0"}}}}\n'
            f'  day:\n    cells: {{0: {{pin: "0-1:v0-1"}}}}\n'
            f'grant: [profile]\n')
        return self.flavor(2, template=(path,))

    DAY = {0: frozenset({0}), 1: frozenset({1})}
    NIGHT = {0: frozenset({0}), 1: frozenset({0})}

    @chapter.on('local1', short=True)
    def test_profile_on_demand(self):
        """A tenant asks for a profile, and goes back"""
        server = self.boot(self.profiled())
        self.until('by day', lambda: self.look.threads(server) == self.DAY)
        self.say(server, profile='night')
        self.ring(server)
        self.assertEqual(self.NIGHT, self.look.threads(server))
        self.assertEqual({0: 0, 1: 1}, self.look.pins(server))
        self.say(server, profile='auto')
        self.ring(server)
        self.assertEqual(self.DAY, self.look.threads(server))

    @chapter.on('local1')
    def test_day_and_night(self):
        """Night falls by the clock; nobody asks anybody"""
        now = datetime.datetime.now(datetime.UTC)
        dusk = (now + datetime.timedelta(seconds=120)).replace(
            second=0, microsecond=0)
        dawn = dusk + datetime.timedelta(minutes=2)
        server = self.boot(self.profiled(f'{dusk:%H:%M}-{dawn:%H:%M}'))
        self.until('by day', lambda: self.look.threads(server) == self.DAY)
        for moment, wanted, what in ((dusk, self.NIGHT, 'dusk'),
                                     (dawn, self.DAY, 'dawn')):
            left = (moment - datetime.datetime.now(datetime.UTC)
                    ).total_seconds()
            if left < 0:
                self.skipTest('the machine is too slow for a window of two '
                              'minutes')
            # Nothing happens before its time.
            self.until(f'{what}', lambda: (
                self.look.threads(server) == wanted), left + 60, pause=0.1)
            late = (datetime.datetime.now(datetime.UTC) - moment
                    ).total_seconds()
            self.assertGreaterEqual(late, 0)
            self.seconds(f'{what} to live', late)
        self.assertEqual({0: 0, 1: 1}, self.look.pins(server))


class Qos(chapter.Chapter):

    @chapter.on('local1', short=True)
    def test_quota(self):
        """A tenant sets a quota of 20%; the kernel tells what it comes to"""
        flavor = self.flavor(2, template=('--pin', '0=0:0 1:1'))
        self.grant(flavor, 'qos')
        server = self.boot(flavor, image='busy')
        process = self.look.process(server)[0]
        # Its BIOS starts the second one last.
        self.until('both vCPUs run', lambda: min(
            self.cpu_fractions(process, 1).values()) > 0.1)
        self.assertEqual({0: None, 1: None}, self.quota(process))
        self.say(server, qos='0:quota=20%')
        self.ring(server)
        self.assertEqual({0: 20, 1: None}, self.quota(process))
        cpu_fractions = self.cpu_fractions(process, 8)
        self.figure('vCPU 0 with 20%, vCPU 1 without', ', '.join(
            f'{share:.0%}' for share in cpu_fractions.values()))
        self.assertLess(cpu_fractions[0], 0.23)
        # The machine has other things to do.
        self.assertGreater(cpu_fractions[0], 0.02)
        self.say(server, qos='0:quota=100%')
        self.ring(server)
        self.assertEqual({0: 100, 1: None}, self.quota(process))
        self.assertGreater(self.cpu_fractions(process, 8)[0], 0.23)

    def cpu_fractions(self, process, seconds):
        """vCPU -> part of a pCPU that it gets, over so many seconds."""
        begin = time.monotonic()
        before = {vcpu: self.ticks(process, vcpu) for vcpu in (0, 1)}
        time.sleep(seconds)
        took = time.monotonic() - begin
        return {vcpu: (self.ticks(process, vcpu) - ticks) / 100 / took
                for vcpu, ticks in before.items()}

    def thread(self, process, vcpu):
        return f'''
            cd /proc/{process}/task
            task=$(grep -l "^CPU {vcpu}/" */comm | cut -d/ -f1)
            '''

    def ticks(self, process, vcpu):
        """CPU time of a vCPU's thread, in hundredths of a second."""
        used = self.cloud.hosts['local1'].shell(
            self.thread(process, vcpu)
            + "sed 's/.*) //' $task/stat | cut -d' ' -f12,13").split()
        return sum(map(int, used))

    def quota(self, process):
        """vCPU -> per cent of a pCPU, None without a limit."""
        found = {}
        for vcpu in (0, 1):
            said = self.cloud.hosts['local1'].shell(
                self.thread(process, vcpu) + '''
                one=$(sed -n 's,^[0-9]*:cpu\\(\\,cpuacct\\)\\?:/,/,p' \\
                      $task/cgroup)
                if [ -n "$one" ]; then
                    for at in /sys/fs/cgroup/cpu /sys/fs/cgroup/cpu,cpuacct
                    do
                        [ -e "$at$one" ] || continue
                        cat "$at$one/cpu.cfs_quota_us" \\
                            "$at$one/cpu.cfs_period_us"
                        break
                    done
                else
                    cat "/sys/fs/cgroup$(sed -n s/^0:://p \\
                         $task/cgroup)/cpu.max"
                fi''').split()
            found[vcpu] = (None if said[0] in ('-1', 'max') else
                           round(100 * int(said[0]) / int(said[1])))
        return found
