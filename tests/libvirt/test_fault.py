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

"""What goes wrong in the middle of a live change, on the real libvirtd."""

import os
import pathlib
import signal
import subprocess
import threading
import time
from unittest import mock

import fixtures
import libvirt

from kongming.kernel import process
from kongming.libvirt import affinity
from kongming.live import threads
from nova.conductor import rpcapi
import nova.conf
from tests.embedded import guests
from tests.functional import test_life
from tests.libvirt import test_live

CONF = nova.conf.CONF


#: Others may run on the machine, each with a pid file of its own.
_PID_FILE = pathlib.Path('/run/libvirtd.pid')


def kill_libvirtd():
    """As a crash would; returns the command that starts it again."""
    pid = int(_PID_FILE.read_text())
    place = pathlib.Path(f'/proc/{pid}')
    command = (place / 'cmdline').read_text().split('\0')
    os.kill(pid, signal.SIGKILL)
    while _runs(place):
        time.sleep(0.05)
    return command[:-1]


def _runs(place):
    """A zombie, where nobody waits for it, is dead as well."""
    try:
        return ') Z ' not in (place / 'stat').read_text()
    except OSError:
        return False


def restart_libvirtd():
    subprocess.run(kill_libvirtd(), check=True)


class FaultBase(test_live.LiveBase):

    def setUp(self):
        super().setUp()
        self.reconciler = self.computes['compute1'].driver._reconciler

    def in_the_middle(self, do):
        """Have something happen just before libvirt is told to pin."""
        real = affinity.apply

        def apply(domain, wanted, width, before_each=None):
            if threads.changes(affinity.read(domain), wanted):
                patch.stop()
                do()
            return real(domain, wanted, width, before_each)

        patch = mock.patch.object(affinity, 'apply', apply)
        patch.start()
        self.addCleanup(patch.stop)

    def repin(self, server, pcpu):
        """A pass or two later all is as it is wanted."""
        for _pass in range(20):
            try:
                self.reconciler.run()
                self.settle()
                self.assertOn(server, pcpu)
                return
            except (AssertionError, libvirt.libvirtError):
                time.sleep(0.5)
        self.reconciler.run()
        self.settle()
        self.assertOn(server, pcpu)


class FaultTest(FaultBase):

    def test_libvirtd_is_killed(self):
        first, second = test_live.PCPUS[:2]
        server = self.boot(first)
        self.in_the_middle(restart_libvirtd)
        self.say(server, second)
        self.reconcile()
        self.repin(server, second)

    def test_libvirtd_is_away_for_a_while(self):
        """Threads stay where they are; the change is made when it is back."""
        first, second = test_live.PCPUS[:2]
        server = self.boot(first)
        name = self.domain(server).name()
        command = kill_libvirtd()
        self.say(server, second)
        for _pass in range(3):
            self.reconcile()
        tasks = process.vcpu_threads(int(pathlib.Path(
            f'/run/libvirt/qemu/{name}.pid').read_text()))
        self.assertEqual({first}, os.sched_getaffinity(tasks[0]))
        subprocess.run(command, check=True)
        self.repin(server, second)

    def test_domain_stops(self):
        first, second = test_live.PCPUS[:2]
        server = self.boot(first)
        self.in_the_middle(lambda: self.domain(server).destroy())
        self.say(server, second)
        self.reconcile()
        self.reconcile()
        cell, = self.instance(server['id']).numa_topology.cells
        self.assertIsNone(cell.cpuset_reserved)
        self.api.post_server_action(server['id'],
                                    {'reboot': {'type': 'HARD'}})
        self._wait_for_state_change(server, 'ACTIVE')
        self.repin(server, second)

    def test_metadata_changes_in_the_middle(self):
        first, second = test_live.PCPUS[:2]
        server = self.boot(first)
        self.in_the_middle(lambda: self.say(server, first))
        self.want(server, second)
        self.assertOn(server, second)
        self.repin(server, first)

    def test_server_is_deleted_in_the_middle(self):
        first, second = test_live.PCPUS[:2]
        server = self.boot(first)
        self.in_the_middle(lambda: self._delete_server(server))
        self.say(server, second)
        self.reconcile()
        self.audit()
        self.assertEqual(set(), {
            p for owned, _memory in self.usage().values() for p in owned})


class SchedulerTest(test_live.LiveBase):

    def schedulers(self, server):
        return process.schedulers(process.pid(self.domain(server)))

    def test_there_and_back_again(self):
        server = self.boot(test_live.PCPUS[0])
        self.assertEqual({0: ('other', 0)}, self.schedulers(server))
        expected = {'0:batch': ('batch', 0), '0:idle': ('idle', 0)}
        if self.may_be_realtime(server):
            expected.update({'0:fifo:3': ('fifo', 3), '0:rr:2': ('rr', 2)})
        expected['0:other'] = ('other', 0)
        for desired, found in expected.items():
            self.schedule(server, desired)
            self.assertEqual({0: found}, self.schedulers(server))

    def test_host_without_time_for_it(self):
        """CONFIG_RT_GROUP_SCHED: said in words, and nothing has changed."""
        server = self.boot(test_live.PCPUS[0])
        if self.may_be_realtime(server):
            self.skipTest('this host has time for real-time threads')
        self.schedule(server, '0:fifo:3')
        self.assertIn('cpu.rt_runtime_us is 0', self.change(server)[1])
        self.assertEqual({0: ('other', 0)}, self.schedulers(server))

    def test_written_down_by_libvirt(self):
        server = self._create_server(
            image_uuid=guests.IDS['idle'], networks='none',
            flavor_id=self._create_flavor(
                vcpu=1, memory_mb=64, disk=1, ephemeral=0, swap=0,
                extra_spec={'hw:cpu_policy': 'dedicated',
                            'kongming:sched': '0:batch'}))
        self.assertEqual({0: ('batch', 0)}, self.schedulers(server))

    def schedule(self, server, desired):
        self.api.post_server_metadata(server['id'],
                                      {'kongming:sched': desired})
        self.ring(server)

    def may_be_realtime(self, server):
        pid = process.pid(self.domain(server))
        return process.may_be_realtime(pid, process.vcpu_threads(pid)[0])


#: Name of the threads of nova_ext.live.jobs.
JOB = 'kongming-job'


class Conductor:
    """Reached over the message bus by some threads, as by nova-compute.

    Everybody else in this process has the database.

    :ivar left: how many calls it answers before it goes away; None: all
    :ivar away: whether it has gone
    """

    def __init__(self, service):
        self._api = rpcapi.ConductorAPI()
        self._server = service.rpcserver
        self._threads = set()
        self.left = None
        self.away = False

    def __get__(self, _instance, _owner):
        # As NovaObject.indirection_api.
        return self if (threading.get_ident() in self._threads
                        or threading.current_thread().name == JOB) else None

    def __getattr__(self, name):
        if self.left == 0 and not self.away:
            self._server.stop()
            self._server.wait()
            CONF.set_override('rpc_response_timeout', 1)
            self.away = True
        elif self.left:
            self.left -= 1
        return getattr(self._api, name)

    def called_by(self, function):
        """Run a function that has conductor for a database."""
        def run():
            self._threads.add(threading.get_ident())
            try:
                function()
            finally:
                self._threads.discard(threading.get_ident())

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()

    def comes_back(self):
        """What was asked of it meanwhile is not lost: it does that now."""
        self.left = None
        if self.away:
            CONF.clear_override('rpc_response_timeout')
            self._server.start()
            time.sleep(2)
            self.away = False


class ConductorTest(FaultBase):
    """Conductor, or the bus to it, goes away during a change."""

    def setUp(self):
        super().setUp()
        self.bus = Conductor(self.conductor)
        self.useFixture(fixtures.MonkeyPatch(
            'nova.objects.base.NovaObject.indirection_api', self.bus))
        self.server = self.boot(test_live.PCPUS[0])

    def change(self):
        """A pass with something to do, and one when conductor is back.

        :returns: whether it went away
        """
        cell, = self.instance(self.server['id']).numa_topology.cells
        wanted, = {*test_live.PCPUS[:2]} - {*cell.cpu_pinning.values()}
        reconcile = self.reconcile
        self.say(self.server, wanted)
        self.bus.called_by(reconcile)
        went = self.bus.away
        self.assertRunsOnItsOwn(self.server)
        self.bus.comes_back()
        self.assertRunsOnItsOwn(self.server)
        # Nova does so every minute.
        self.audit()
        self.bus.called_by(reconcile)
        self.assertOn(self.server, wanted)
        return went

    def test_before_threads_move(self):
        def go_away():
            self.bus.left = 0

        self.in_the_middle(go_away)
        self.assertTrue(self.change())

    @test_life.long
    def test_at_every_call(self):
        calls = 0
        self.bus.left = calls
        while self.change():
            calls += 1
            self.bus.left = calls
        self.assertLess(8, calls)


class ManyTest(test_live.LiveBase):
    """Many servers are told something else at once."""

    SHARED_PCPUS = len(test_live.PCPUS)

    @test_life.long
    def test_eight(self):
        self.all_at_once(8)

    @test_life.long
    def test_fifty(self):
        self.all_at_once(50)

    def start_host(self, name='compute1'):
        self.flags(initial_cpu_allocation_ratio=32.0)
        return super().start_host(name)

    def all_at_once(self, number):
        self.flags(cores=-1, instances=-1, ram=-1, group='quota')
        flavor = self._create_flavor(
            vcpu=1, memory_mb=64, disk=1, ephemeral=0, swap=0, extra_spec={
                'hw:numa_nodes': '1', 'kongming:grant': 'template'})
        servers = [self._create_server(
            image_uuid=guests.IDS['idle'], networks='none', flavor_id=flavor)
            for _server in range(number)]
        one = test_live.PCPUS[1]
        for server in servers:
            self.api.post_server_metadata(server['id'],
                                          {'kongming:pin.0': f'0~{one}'})
        ringers = [threading.Thread(target=self.ring, args=(server,))
                   for server in servers]
        for ringer in ringers:
            ringer.start()
        for ringer in ringers:
            ringer.join()
        for server in servers:
            self.assertEqual({0: frozenset({one})}, self.threads(server))
            self.assertEqual('Success', self.change(server)[0])
