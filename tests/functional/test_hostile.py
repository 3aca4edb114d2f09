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

"""A tenant who writes into server metadata whatever Nova takes.

::

    node 0   [0 1] shared   [2 3] [4 5] [6 7]
    node 1   [8 9] shared   [10 11] [12 13] [14 15]
"""

import collections
import importlib
import time

import fixtures

from kongming.intent import rate_limit
from kongming.libvirt import affinity
from nova.tests.functional.api import client
from tests.functional import test_boot
from tests.functional import test_life
from tests.functional import test_live

only = test_boot.only
EVERY_GRANT = 'profile template qos'
#: What would be a log line of its own.
FORGED = '2026-11-22 00:00:00.000 1 ERROR nova [-] Forged'
#: Long enough for a slow machine to make a storm of its writes.
INTERVAL = 20
STORM = 40


class HostileBase(test_live.LiveBase):

    def setUp(self):
        super().setUp()
        #: What is written because of a server, by kind.
        self.writes = collections.Counter()
        for name in ('pinVcpuFlags', 'pinEmulator', 'pinIOThread'):
            self._counted(f'nova.tests.fixtures.libvirt.Domain.{name}',
                          'libvirt')
        self._counted('nova_ext.ownership.write_ahead.write', 'ownership')
        self._counted('nova_ext.live.record.Change', 'action')

    def _counted(self, where, kind):
        owner, _dot, name = where.rpartition('.')
        try:
            place = importlib.import_module(owner)
        except ModuleNotFoundError:
            module, _dot, cls = owner.rpartition('.')
            place = getattr(importlib.import_module(module), cls)
        real = getattr(place, name)

        def call(*args, **kwargs):
            self.writes[kind] += 1
            return real(*args, **kwargs)

        self.useFixture(fixtures.MonkeyPatch(where, call))

    def put(self, server, metadata):
        """:returns: whether Nova takes it"""
        try:
            self.api.post_server_metadata(server['id'], metadata)
        except client.OpenStackApiException as exc:
            self.assertEqual(400, exc.response.status_code)
            return False
        return True

    def lines(self, words):
        return [line for line in self.stdlog.logger.output.split('\n')
                if words in line]

    def assertNothingForged(self):
        self.assertEqual([], [line for line in self.stdlog.logger.output
                              .splitlines() if line.startswith(FORGED)])
        # Neither is there anything that a terminal would obey.
        for line in self.lines(' not obeyed: ') + self.lines('Live change'):
            self.assertTrue(line.isprintable(), line)

    def remembered(self):
        """What nova-compute remembers of servers, in characters; it keeps
        what Nova tells of them as well.
        """
        reconciler = self.computes['compute1'].driver._reconciler
        return sum(len(repr(known)) for known in (
            reconciler._failures._reported, reconciler._failures._retries,
            reconciler._domains._known, reconciler._enforcer._given,
            reconciler._enforcer.intents.refused,
            reconciler._enforcer.intents._reported,
            reconciler._enforcer.intents._rate_limiter._buckets))


class NoGrantTest(HostileBase):

    def setUp(self):
        super().setUp()
        self.server = self.boot(self.flavor(
            {'node.0': '1', 'pin.0': '0:13 1:10', 'sched': '0:batch',
             'profile.night.qos': '0:weight=7'}))
        self.ring(self.server)
        self.writes.clear()

    def unset_metadata(self):
        self.api.api_put(f'/servers/{self.server["id"]}/metadata',
                         {'metadata': {}})

    def test_every_key(self):
        # One by one, each is reported; the rate limit is another test's.
        self.flags(change_interval=0, group='kongming')
        keys = {'node.0': '0', 'pin.0': '0:15', 'pin.0.1': '1:12',
                'memory.0': 'preferred', 'emulator': 'shared',
                'iothread.1': 'shared', 'sched': '0:fifo:1',
                'qos': '0:weight=10000', 'grant': EVERY_GRANT,
                'borrow': 'host', 'profile.night.lend': 'true',
                'profile': 'night', 'profile.night.pin.0': '0~8',
                'profile.mine.when': '00:00-24:00', 'profile.auto.qos': 'x',
                'nothing.of.the.kind': '0'}
        for key, value in keys.items():
            self.put(self.server, {f'kongming:{key}': value})
            self.ring(self.server)
            self.unset_metadata()
            self.assertEqual(1, len(self.lines(
                f'Metadata not obeyed: kongming:{key} = ')))
        self.assertEqual({}, self.writes)
        self.assertHolds(self.server)

    def test_control_characters(self):
        self.flags(change_interval=0, group='kongming')
        taken = 0
        for key, value in (
                ('pin.0', f'0:4\n{FORGED}'), ('pin.0', f'0:4\r\n{FORGED}'),
                ('qos', f'\x0b{FORGED}'), ('sched', f'\u2028{FORGED}'),
                ('emulator', f'\x85{FORGED}'), ('profile', f'x\n{FORGED}'),
                ('node.0', '\x1b[2J\x1b]0;title\x07'), ('qos', '\u202e'),
                ('pin.0\n', f'0:4\n{FORGED}'), (f'pin.0\n{FORGED}', '0:4'),
                ('\x1b[2J', '0'), ('pin.\u0663', '0:4')):
            metadata = {f'kongming:{key}': value}
            if self.put(self.server, metadata):
                taken += 1
                self.ring(self.server)
                self.unset_metadata()
        # One with a line end in the key is among them.
        self.assertEqual(9, taken)
        self.assertEqual(taken, len(self.lines('Metadata not obeyed: ')))
        self.assertNothingForged()
        self.assertEqual({}, self.writes)
        self.assertHolds(self.server)

    def test_names_with_control_characters(self):
        """Nova takes none, so none is written down with an owner."""
        for name in (f'x\n{FORGED}', 'x\x1b[2J', 'x\x85y'):
            self.assertRaises(
                client.OpenStackApiException, self.api.put_server,
                self.server['id'], {'server': {'name': name}})

    def test_as_much_as_nova_takes(self):
        before = self.remembered()
        for n in range(0, 64, 16):
            # Nova takes so much in one request.
            self.assertTrue(self.put(self.server, {
                f'kongming:{n:x<246}': '\n\x1b\U000e0001' * 85
                for n in range(n, n + 16)}))
        self.assertTrue(self.put(self.server, {
            f'kongming:pin.{n}': '0-4095~' + '0-8191,' * 35 + '0'
            for n in range(64)}))
        self.assertEqual(128, len(self.api.get_server(
            self.server['id'])['metadata']))
        begun = time.process_time()
        for _ in range(3):
            self.ring(self.server)
        # The API and three passes; all of them are in this process.
        self.assertLess(time.process_time() - begun, 10)
        line, = self.lines('Metadata not obeyed: ')
        self.assertLess(len(line), 6000)
        self.assertIn('120 more are not obeyed', line)
        # That is what the metadata say, and little else.
        self.assertLess(self.remembered() - before, 200 * 1024)
        self.assertEqual({}, self.writes)
        self.assertNothingForged()
        self.assertHolds(self.server)
        self._delete_server(self.server)
        self.reconcile()
        self.assertLess(self.remembered(), before)


class GrantTest(HostileBase):
    """All is granted; others are out of reach all the same."""

    def setUp(self):
        super().setUp()
        self.flags(change_interval=0, group='kongming')
        self.native = self.fill()
        self.other = self.boot(self.template('0:12'))
        self.server = self.boot(self.flavor(
            {'node.0': '1', 'pin.0': '0:13 1:10 2~9', 'grant': EVERY_GRANT,
             'qos': '0:weight=200,quota=50%', 'sched': '0:fifo:5',
             'profile.night.qos': '0:weight=7'}, vcpus=3,
            cpu_policy='mixed', cpu_dedicated_mask='0-1'))

    def tune(self):
        return affinity.read(self.connection_of(
            self.server['id']).lookupByUUIDString(self.server['id']))

    def test_pcpus_of_others(self):
        theirs, = self.pins(self.native)[0][0]
        reach = {0, 1, 8, 9, 10, 13}
        for metadata in (
                {'pin_0': '0:12 1:10'}, {'pin_0': f'0:{theirs} 1:10'},
                {'pin_0': '0:8'}, {'pin_0': '0:99'}, {'pin_0': '2~12'},
                {'pin_0': '2~2-3'}, {'emulator': '12'}, {'emulator': '2'},
                {'emulator': '0-8191'}, {'iothread_1': f'{theirs}'},
                {'iothread_1': '64-95'}, {'pin_0': '9:15'},
                {'node_0': '7'}, {'node_1': '0'}, {'pin_1': '0:15'}):
            self.want(self.server, **metadata)
            found = self.tune()
            self.assertEqual((only(13), only(10)),
                             (found.vcpus[0], found.vcpus[1]), metadata)
            self.assertLessEqual(found.pcpus, reach, metadata)
            self.unwant(self.server, *(
                key.replace('_', '.') for key in metadata))
        self.assertEqual({10, 12, 13}, self.owned()[1])
        self.assertHolds(self.other, {0: 12})
        self.assertEqual({theirs}, set(self.pins(self.native)[0][0]))
        # vCPU 2 may float elsewhere; pins were refused, and it is said why.
        refusals = [details for result, details in self.actions(self.server)
                    if result == 'Error']
        self.assertLess(5, len(refusals))
        for details in refusals:
            self.assertTrue(details.isprintable(), details)

    def test_more_than_the_flavor_says(self):
        before = self.tune()
        for metadata in ({'qos': '0:weight=201,quota=50%'},
                         {'qos': '0:weight=200'}, {'qos': '1:weight=1'},
                         {'sched': '0:fifo:6'},
                         {'grant': EVERY_GRANT}, {'profile': 'day'},
                         {'profile.night.sched': '0:fifo:9'}):
            self.want(self.server, **metadata)
            self.unwant(self.server, *metadata)
        self.assertEqual(7, len(self.lines('Metadata not obeyed: ')))
        self.assertEqual(before, self.tune())
        self.assertEqual([], self.actions(self.server))

    def test_real_time_on_what_others_share(self):
        self.want(self.server, sched='0:fifo:5 2:fifo:1')
        self.assertEqual(1, len(self.lines(
            'sched: vCPU 2 is not scheduled in real time')))


class FlappingTest(HostileBase):
    """Metadata that change every 100 ms, and a trigger for each."""

    RECONCILE_INTERVAL = 1

    def setUp(self):
        super().setUp()
        self.flags(change_interval=INTERVAL, group='kongming')

    def flap(self, server, until, values):
        """Write, ring, and go on until something is so.

        :returns: how often it was written
        """
        count, deadline = 0, time.monotonic() + 240
        while not until(count):
            self.assertLess(time.monotonic(), deadline)
            due = time.monotonic() + 0.1
            self.put(server, {'kongming:pin.0': values[count % len(values)]})
            self.ring(server)
            count += 1
            time.sleep(max(0, due - time.monotonic()))
        return count

    def status(self, *servers):
        found = []
        for server in servers:
            try:
                found.append(self.api.get_server(server['id'])['status'])
            except client.OpenStackApiException:
                found.append('gone')
        return set(found)

    def storm(self, server, values):
        """Flap while others boot and go.

        :returns: how often was written, in how many seconds
        """
        begun, count = time.monotonic(), 0
        native = self._create_flavor(
            vcpu=2, memory_mb=64, disk=1, ephemeral=0, swap=0,
            extra_spec=test_boot.PINNED)
        others = [self.api.post_server({'server': self._build_server(
            flavor_id=flavor, networks='none')}) for flavor in (
                native, self.template('0:12 1:11'))]
        count += self.flap(
            server, lambda _count: self.status(*others) == {'ACTIVE'}, values)
        self._wait_for_assert(
            lambda: self.assertHolds(others[1], {0: 12, 1: 11}))
        for other in others:
            self.api.delete_server(other['id'])
        count += self.flap(
            server, lambda _count: self.status(*others) == {'gone'}, values)
        count += self.flap(server, lambda more: count + more >= STORM, values)
        return count, time.monotonic() - begun

    def assertPaced(self, count, seconds):
        admitted = rate_limit.BURST + seconds / INTERVAL + 1
        self.assertLess(1.5 * admitted, count, 'it was no storm')
        # Each is an action; one more says that it is too much.
        self.assertLessEqual(self.writes['action'], admitted + 1)
        # Each owns both places for a while; others boot and are repinned.
        self.assertLessEqual(self.writes['ownership'], 2 * admitted + 4)
        # Emulator, I/O thread and a vCPU.
        self.assertLessEqual(self.writes['libvirt'], 3 * admitted)
        self.assertLessEqual(len(self.lines('not obeyed')), admitted)

    def test_granted(self):
        server = self.boot(self.template('0:13'))
        self.ring(server)
        self.writes.clear()
        self.assertPaced(*self.storm(server, ['0:15', '0:13', '0:14']))
        reported = [details for _result, details in self.actions(server)
                    if details and 'too often' in details]
        self.assertEqual(1, len(reported))
        # The last that was asked for comes by itself.  A pass moves the
        # threads first and updates Placement afterwards.
        self.put(server, {'kongming:pin.0': '0:10'})
        self._wait_for_assert(lambda: self.assertEqual(
            {0: only(10)}, self.pins(server)[0]), max_retries=120)
        self._wait_for_assert(lambda: self.assertHolds(server, {0: 10}))

    @test_life.long
    def test_refused_by_the_host(self):
        """Each request is another one that can't be had."""
        server = self.boot(self.template('0:13'))
        self.ring(server)
        self.writes.clear()
        count, seconds = self.storm(server, ['0:8', '0:9', '0:99', '0:1'])
        self.assertPaced(count, seconds)
        self.assertEqual(0, self.writes['libvirt'])
        self.assertHolds(server, {0: 13})

    @test_life.long
    def test_not_granted(self):
        server = self.boot(self.flavor({'node.0': '1', 'pin.0': '0:13'},
                                       vcpus=1))
        self.ring(server)
        self.writes.clear()
        self.assertPaced(*self.storm(server, ['0:15', '0:x', '0:14']))
        self.assertEqual(0, self.writes['libvirt'])
        # That it is too often is all that there is to tell.
        self.assertEqual(1, len(self.actions(server)))
        self.assertHolds(server, {0: 13})

    def test_passes_by_events(self):
        """Whoever pauses and resumes in a loop has no pass each time."""
        driver = self.computes['compute1'].driver
        passes = []
        real = driver._reconciler.run
        self.useFixture(fixtures.MockPatchObject(
            driver._reconciler, 'run',
            lambda *args, **kwargs: passes.append(args) or real(
                *args, **kwargs)))
        end = time.monotonic() + 5
        while time.monotonic() < end:
            driver.passes._wake.set()
            time.sleep(0.02)
        self.assertLess(len(passes), 7)
