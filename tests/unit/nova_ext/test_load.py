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

"""The reader of load: its thread, and what it does with whom it reads.

The vCPU is a thread of this process, which the kernel tells of as of any.
"""

import datetime
import os
import threading
import time
from unittest import mock

import fixtures
import nova.conf
from nova import objects

from kongming import conf as km_conf
from kongming.template import template
from nova_ext.live import load
from nova_ext.live import watched
from tests import base

objects.register_all()
km_conf.register_opts(nova.conf.CONF)
NOW = datetime.datetime(2026, 11, 27, tzinfo=datetime.UTC)
#: Seconds; it takes tenths where nobody else is on the machine.
PATIENCE = 60


class Vcpu(fixtures.Fixture):
    """:ivar busy: whether it runs"""

    def _setUp(self):
        self.busy = threading.Event()
        self._ended = False
        ready = threading.Event()

        def run():
            self.tid = threading.get_native_id()
            ready.set()
            while not self._ended:
                # Not even now and then: to be woken up and to wait for a
                # pCPU counts as use.
                self.busy.wait()
                sum(range(1000))

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        ready.wait(PATIENCE)
        self.addCleanup(thread.join)
        self.addCleanup(self.busy.set)
        self.addCleanup(setattr, self, '_ended', True)
        for where, what in (
                ('kongming.kernel.process.pid_of',
                 lambda _name, _server: os.getpid()),
                ('kongming.kernel.process.vcpu_threads',
                 lambda _pid: {0: self.tid})):
            self.useFixture(fixtures.MonkeyPatch(where, what))


class LoadTest(base.TestCase):

    def setUp(self):
        super().setUp()
        for where, value in (
                ('kongming.template.condition.MIN_FOR', 1),
                ('kongming.load.decision.PERIOD', .3),
                ('nova_ext.live.load.INTERVAL', .1)):
            self.useFixture(fixtures.MonkeyPatch(where, value))
        nova.conf.CONF.set_override('by_load', 'act', 'kongming')
        self.addCleanup(nova.conf.CONF.clear_override, 'by_load', 'kongming')
        self.vcpu = self.useFixture(Vcpu())
        self.switched, self.admitted, self.acts = [], True, True
        self.moment = NOW
        self.load = load.Load(
            lambda: self.acts, lambda *_args: self.admitted,
            lambda *uuids: self.switched.append(uuids),
            lambda *_args: frozenset({15}), lambda: self.moment)
        self.addCleanup(self.load.stop)
        self.server = objects.Instance(
            id=1, uuid='00000000-0000-4000-8000-000000000001',
            project_id='p', numa_topology=None)
        self.uuid = self.server.uuid
        self.flavor = template.decode({
            'kongming:profile.idle.when': 'use<30% until 50% for 1s',
            'kongming:profile.idle.lend': 'true'})

    def met(self):
        return self.load.met(self.server, self.flavor, {}, NOW)

    def wait(self, is_so):
        end = time.monotonic() + PATIENCE
        while not is_so():
            self.assertLess(time.monotonic(), end)
            time.sleep(.01)

    def open_files(self):
        # Others in this process may read threads of theirs.
        mine = f'/task/{self.vcpu.tid}/schedstat'
        return sum(os.readlink(f'/proc/self/fd/{number}').endswith(mine)
                   for number in os.listdir('/proc/self/fd')
                   if os.path.lexists(f'/proc/self/fd/{number}'))

    def test_idle_then_busy_then_no_more(self):
        self.assertEqual(frozenset(), self.met())
        self.wait(lambda: self.switched)
        self.assertEqual([(set(), {self.uuid})], self.switched)
        condition, = self.met()
        self.assertEqual('use<30% until 50% for 1s', str(condition))
        self.assertRegex(self.load.evidence(self.uuid),
                         r'^profile idle: use \d+\.\d%, below 30%')
        self.assertEqual('', self.load.evidence(self.uuid))
        self.assertEqual([15], self.load.advice(self.uuid)['lends'])
        self.assertEqual((1, 1, 0), self.load.counts())
        self.vcpu.busy.set()
        self.wait(lambda: len(self.switched) > 1)
        self.assertEqual(({self.uuid}, set()), self.switched[1])
        self.assertEqual(frozenset(), self.met())
        self.load.retain(())
        self.wait(lambda: not self.open_files())

    def test_stopped_and_started(self):
        self.met()
        self.wait(lambda: self.switched)
        self.load.stop()
        self.wait(lambda: self.load._thread is None)
        self.assertEqual(0, self.open_files())
        self.load.start()
        self.met()
        self.wait(lambda: len(self.switched) > 1)

    def test_a_host_that_does_not_act(self):
        self.acts = False
        self.met()
        self.wait(lambda: (self.load.advice(self.uuid) or {}).get('profile'))
        self.assertEqual(([], frozenset(), ''), (
            self.switched, self.met(), self.load.evidence(self.uuid)))
        self.assertEqual('advise', self.load.advice(self.uuid)['mode'])

    def test_no_budget(self):
        self.admitted = False
        self.met()
        self.wait(lambda: self.load.advice(self.uuid)['waits'])
        self.assertIn('changes_per_minute',
                      self.load.advice(self.uuid)['waits'])
        self.assertEqual(([], frozenset()), (self.switched, self.met()))

    def test_who_gives_something_up_by_a_pass_is_read_often(self):
        """A window opens, and a pass sees it before the thread does."""
        self.flavor = template.decode({
            'kongming:profile.idle.when':
                '22:00-06:00 UTC and use<30% until 50% for 1s',
            'kongming:profile.idle.lend': 'true'})
        self.moment = NOW.replace(hour=12)
        self.load.met(self.server, self.flavor, {}, self.moment)
        decider = self.load._watched[self.uuid].decider
        self.wait(lambda: any(state.holds for state
                              in list(decider._states.values())))
        self.useFixture(fixtures.MonkeyPatch(
            'nova_ext.live.load.INTERVAL', 3600))
        time.sleep(.5)
        self.load.met(self.server, self.flavor, {}, NOW)
        self.assertTrue(decider.is_urgent)
        self.vcpu.busy.set()
        self.moment = NOW
        self.wait(lambda: self.switched)

    def test_one_thread_looks_at_memory(self):
        """The kernel may not answer for as long as somebody holds a lock."""
        answer, asked = threading.Event(), []
        self.addCleanup(answer.set)

        class Hangs:
            def read_memory(self):
                asked.append(self)
                answer.wait(PATIENCE)

        for _ in range(3):
            watched.read_memory([Hangs()])
        self.wait(lambda: asked)
        time.sleep(.2)
        self.assertEqual(1, len(asked))
        answer.set()
        self.wait(lambda: watched.read_memory([Hangs()])
                  or len(asked) > 1)

    def test_no_thread_is_to_be_had(self):
        with mock.patch.object(threading.Thread, 'start',
                               side_effect=RuntimeError('no new thread')):
            self.assertRaises(RuntimeError, self.met)
        self.met()
        self.wait(lambda: self.switched)

    def test_how_often_who_gave_something_up_is_read(self):
        self.assertEqual([.05, .05, .08, .1, .1], [
            load.pause_after(took) for took in (0, .001, .008, .01, 2)])

    def test_who_has_no_conditions_costs_nothing(self):
        self.flavor = template.decode({
            'kongming:profile.night.when': '22:00-06:00'})
        self.met()
        self.assertIsNone(self.load._thread)
        self.assertIsNone(self.load.advice(self.uuid))
