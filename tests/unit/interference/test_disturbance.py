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

"""Who was on whose pCPU, by two snapshots."""

import dataclasses

from kongming.interference import difference
from kongming.interference import disturbance
from kongming.interference import snapshot
from tests import base

Thread, Times = snapshot.Thread, snapshot.Times
ALL = frozenset(range(8))
#: km-one owns pCPU 3; its vCPU is thread 20 of process 10.
OWNERS = disturbance.Owners(
    {3: disturbance.Owner('km-one', 'vCPU 0', 20)},
    {10: 'km-one', 30: 'km-two'},
    {10: 'emulator', 20: 'vCPU 0', 30: 'emulator', 31: 'vCPU 1'})
VCPU = Thread(10, 20, 'CPU 0/KVM', Times(10 ** 9, 0, 100), frozenset({3}), 3)


def snap(at=0.0, threads=(), **other):
    return snapshot.Snapshot(
        at, ALL, {each.tid: each for each in threads}, **other)


def later(thread, runs=1, run_ns=1000, wait_ns=0, **other):
    return thread._replace(times=thread.times.plus(
        Times(run_ns, wait_ns, runs)), **other)


def thread(name, pid=50, tid=None, allowed=frozenset({3}), last=3, **other):
    return Thread(pid, tid or pid, name, Times(5000, 7, 5), allowed, last,
                  **other)


class BetweenTest(base.TestCase):

    def between(self, *threads, after=()):
        return difference.between(snap(0, threads), snap(2, after))

    def test_who_has_run(self):
        idle, busy = thread('idle', 50), thread('busy', 51)
        new = thread('new', 52)
        found = self.between(idle, busy, after=(
            idle, later(busy, 3, 900, 50), new))
        self.assertEqual(2, found.seconds)
        self.assertEqual(
            {'busy': Times(900, 50, 3), 'new': Times(5000, 7, 5)},
            {each.thread.name: each.times for each in found.ran})

    def test_a_number_that_is_given_again(self):
        """Another thread: it has all that it had since it began."""
        old = thread('old', start=1)._replace(times=Times(10 ** 9, 0, 900))
        found = self.between(old, after=(thread('new', start=2),))
        self.assertEqual(Times(5000, 7, 5), found.ran[0].times)

    def test_one_that_ended(self):
        self.assertEqual((), self.between(thread('gone')).ran)

    def test_counters(self):
        def line(irq, name, **counts):
            return snapshot.Line(irq, name, {int(key[1:]): count
                                             for key, count in
                                             counts.items()})
        found = difference.between(
            snap(interrupts={'36': line(36, 'a', p3=5, p4=1),
                             '37': line(37, 'a', p3=5),
                             '38': line(38, 'a', p3=9),
                             '39': line(39, 'a', p3=1)},
                 softirqs={'NET_RX': {3: 5, 4: 5}}, stolen_ns={3: 100}),
            snap(1, interrupts={'36': line(36, 'a', p3=7, p4=1, p5=100),
                                '37': line(37, 'b', p3=7),
                                '38': line(38, 'a', p3=2),
                                '39': line(39, 'a', p3=1),
                                '40': line(40, 'c', p3=4)},
                 softirqs={'NET_RX': {3: 6, 4: 5}}, stolen_ns={3: 300}))
        # pCPU 5 came online in between; 37 is another device's, 38 began
        # anew, 40 is new.
        self.assertEqual({'36': {3: 2}, '37': {3: 7}, '38': {3: 2},
                          '40': {3: 4}},
                         {label: each.counts
                          for label, each in found.interrupts.items()})
        self.assertEqual({'NET_RX': {3: 1}}, found.softirqs)
        self.assertEqual({3: 200}, found.stolen_ns)

    def test_switches(self):
        vcpu = later(VCPU)
        found = difference.between(
            snap(0, [VCPU], switches={20: snapshot.Switches(5, 2)}),
            snap(1, [vcpu], switches={20: snapshot.Switches(9, 3),
                                      99: snapshot.Switches(1, 1)}))
        self.assertEqual({20: snapshot.Switches(4, 1)}, found.switches)


class FindTest(base.TestCase):

    def found(self, *after, owners=OWNERS, **other):
        before = [VCPU, *(each._replace(times=Times())
                          for each in after if each.tid != 20)]
        return {(each.key.kind, each.key.name): each
                for each in disturbance.find(difference.between(
                    snap(0, before), snap(1, after, **other)), owners)}

    def test_its_owner_does_not_disturb(self):
        self.assertEqual({}, self.found(later(VCPU, 5)))

    def test_a_thread_of_the_host(self):
        each = self.found(thread('burner'))['thread', 'burner']
        self.assertEqual((5, True, 5.0, 'schedstat', 50), (
            each.count, each.exact, each.us, each.source, each.key.number))
        self.assertEqual('km-one', each.owner.domain)
        self.assertFalse(each.is_background(1000))

    def test_one_that_may_run_elsewhere(self):
        each = self.found(thread('sshd', allowed=ALL))['thread', 'sshd']
        self.assertEqual((5, False, None), (each.count, each.exact, each.us))
        # It was seen elsewhere.
        self.assertEqual({}, self.found(thread('sshd', allowed=ALL, last=4)))

    def test_a_neighbour(self):
        found = self.found(
            thread('qemu', 30), thread('IO x', 30, 31),
            thread('qemu', 10), thread('kvm-pit/30', 60, kernel=True),
            thread('vhost-30', 61, kernel=True),
            thread('kvm-pit/77', 62, kernel=True))
        self.assertEqual({
            ('domain', 'km-two emulator'), ('domain', 'km-two vCPU 1'),
            ('domain', 'km-one emulator'), ('domain', 'km-two kvm-pit'),
            ('domain', 'km-two vhost'), ('kernel', 'kvm-pit/77')},
            set(found))

    def test_own_emulator_pcpu(self):
        """Where emulator threads own a pCPU, they are who it is for."""
        owners = dataclasses.replace(
            OWNERS, pcpus={3: disturbance.Owner('km-one', 'emulator')})
        self.assertEqual(
            {('domain', 'km-one vCPU 0'), ('domain', 'km-two emulator')},
            set(self.found(later(VCPU), thread('qemu', 10),
                           thread('qemu', 30), owners=owners)))

    def test_threads_of_one_name_are_one(self):
        found = self.found(thread('pool', 50, 50), thread('pool', 50, 51))
        each, = found.values()
        self.assertEqual((10, 10.0), (each.count, each.us))

    def test_names_of_workers(self):
        def key(name):
            return disturbance.identity(
                thread(name, kernel=True), OWNERS)[:3]
        self.assertEqual(('kernel', 'kworker/3 events', 0),
                         key('kworker/3:2-events'))
        self.assertEqual(('kernel', 'kworker/u17 events_unbound', 0),
                         key('kworker/u17:0+events_unbound'))
        self.assertEqual(('kernel', 'kworker/3', 0), key('kworker/3:1H'))
        self.assertEqual(('kernel', 'ksoftirqd/3', 50), key('ksoftirqd/3'))
        # A process of the host that has given itself such a name.
        self.assertEqual(('thread', 'kworker/3:2-events', 50),
                         disturbance.identity(
                             thread('kworker/3:2-events'), OWNERS)[:3])

    def test_background_of_a_pcpu(self):
        """Its own kernel threads, as long as they have little to do."""
        for run_ns, background in ((999_000, True), (1_001_000, False)):
            each, = self.found(thread(
                'ksoftirqd/3', kernel=True, bound=True)._replace(
                    times=Times(run_ns, 0, 9))).values()
            self.assertEqual(background, each.is_background(1.0))
        # One that can be moved is no background.
        each, = self.found(thread('rcu_preempt', kernel=True)).values()
        self.assertFalse(each.is_background(1.0))

    def test_interrupts(self):
        found = {(each.key.kind, each.key.name): each
                 for each in disturbance.find(difference.Interval(
                     1.0, interrupts={
                         '36': snapshot.Line(36, 'eth0-rx', {3: 7, 4: 9}),
                         'LOC': snapshot.Line(None, 'Local timer', {3: 250}),
                     }, softirqs={'NET_RX': {3: 2001}}), OWNERS)}
        device = found['interrupt', 'eth0-rx']
        self.assertEqual((7, True, None, 36), (
            device.count, device.exact, device.us, device.key.number))
        self.assertFalse(device.is_background(1.0))
        self.assertTrue(found['cpu', 'Local timer'].is_background(1.0))
        self.assertFalse(found['cpu', 'softirq NET_RX'].is_background(1.0))

    def test_stolen(self):
        each, = disturbance.find(difference.Interval(
            1.0, stolen_ns={3: 10 ** 7, 4: 10 ** 7}), OWNERS)
        self.assertEqual(('stolen', 10 ** 4), (each.key.kind, each.us))
        self.assertFalse(each.is_background(1.0))

    def test_unnamed(self):
        """What the pCPU had, less what is known."""
        ran = (difference.Ran(later(VCPU), Times(6_000_000, 0, 60)),
               difference.Ran(thread('a'), Times(1_000_000, 0, 10)))
        for queue, expected in (
                (Times(7_000_000, 0, 70), None),
                (Times(9_500_000, 0, 75), (5, 2500.0))):
            found = {each.key.kind: each for each in disturbance.find(
                difference.Interval(1.0, ran, queues={3: queue}), OWNERS)}
            each = found.get('unnamed')
            self.assertEqual(expected, each and (each.count, each.us))

    def test_merge(self):
        one = disturbance.find(difference.Interval(1.0, (
            difference.Ran(thread('a'), Times(1000, 0, 1)),)), OWNERS)
        two = disturbance.find(difference.Interval(1.0, (
            difference.Ran(thread('a', allowed=ALL), Times(1000, 0, 2)),
            difference.Ran(thread('b', 51), Times(1000, 0, 2)))), OWNERS)
        found = disturbance.merge(disturbance.merge({}, one), two)
        self.assertEqual({'a': (3, False, None), 'b': (2, True, 1.0)},
                         {key.name: (each.count, each.exact, each.us)
                          for key, each in found.items()})
