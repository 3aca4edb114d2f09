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

"""Traces, reports and remedies."""

import dataclasses
import json

from kongming.interference import difference
from kongming.interference import disturbance
from kongming.interference import irq as irq_mod
from kongming.interference import remedy
from kongming.interference import report
from kongming.interference import snapshot
from kongming.interference import text
from kongming.interference import trace
from tests import base
from tests.unit.interference import test_disturbance as values

OWNERS = values.OWNERS
SETTINGS = snapshot.Settings(online=values.ALL)
#: As trace_pipe of Linux 6.1 and 6.18 writes it.
HEAD = '       CPU 0/KVM-20      [003] d..2.  100.{:06}: '


def switch(at, before, after, comm='burner', pcpu=3):
    return (f'{HEAD.format(at)}sched_switch: prev_comm=x prev_pid={before} '
            f'prev_prio=120 prev_state=R+ ==> next_comm={comm} '
            f'next_pid={after} next_prio=120\n'.replace(
                '[003]', f'[{pcpu:03}]'))


def event(at, name, words):
    return f'{HEAD.format(at)}{name}: {words}\n'


class TraceTest(base.TestCase):

    def spent(self, *lines):
        found = trace.Trace()
        found.add(lines)
        return {(key.kind, key.what): tuple(each)
                for key, each in found.spent.items()}

    def test_threads(self):
        self.assertEqual(
            {('ran', '50'): (2, 70.0), ('ran', '20'): (1, 100.0)},
            self.spent(switch(0, 0, 50), switch(20, 50, 20),
                       switch(120, 20, 50), switch(170, 50, 0)))

    def test_interrupts(self):
        self.assertEqual(
            {('irq', '36'): (1, 5.0), ('softirq', 'NET_RX'): (1, 7.0),
             ('vector', 'local_timer'): (1, 4.0)},
            self.spent(
                event(0, 'irq_handler_entry', 'irq=36 name=virtio1-req.0'),
                event(5, 'irq_handler_exit', 'irq=36 ret=handled'),
                event(6, 'softirq_entry', 'vec=3 [action=NET_RX]'),
                event(13, 'softirq_exit', 'vec=3 [action=NET_RX]'),
                event(20, 'local_timer_entry', 'vector=236'),
                event(24, 'local_timer_exit', 'vector=236')))

    def test_hostile_names(self):
        """A name is no event, whatever it says."""
        for comm in ('a\nb', ' prev_pid=9 x', ' ==> next_comm=', 'next_pid=7',
                     '\x1b[0m', ''):
            self.assertEqual({('ran', '50'): (1, 20.0)}, self.spent(
                switch(0, 0, 50, comm), *switch(20, 50, 0, comm).splitlines(
                    keepends=True)), comm)

    def test_begun_before_and_not_ended(self):
        self.assertEqual({}, self.spent(switch(0, 50, 0), switch(9, 0, 50)))
        self.assertEqual({}, self.spent(
            event(1, 'irq_handler_exit', 'irq=36 ret=handled')))

    def test_lost(self):
        found = trace.Trace()
        found.add([switch(0, 0, 50), 'CPU:3 [LOST 7 EVENTS]\n',
                   switch(9, 50, 0)])
        self.assertEqual((7, {}), (found.lost, found.spent))

    def test_nonsense(self):
        self.assertEqual({}, self.spent(
            '\n', 'x\n', HEAD.format(3), event(1, 'sched_switch', 'x'),
            event(1, 'irq_handler_entry', ''), 'CPU:x [LOST'))


class TallyTest(base.TestCase):

    def tally(self, *rans, **other):
        tally = report.Tally()
        tally.add(difference.Interval(2.0, tuple(
            difference.Ran(thread, thread.times) for thread in rans),
            **other), OWNERS)
        return tally

    def report(self, tally, settings=SETTINGS, irqs=None, units=None,
               **other):
        return tally.report(settings, irqs or {}, units or {}, **other)

    def test_owner(self):
        tally = self.tally(values.VCPU._replace(times=snapshot.Times(
            10 ** 9, 5 * 10 ** 8, 7)), switches={
                20: snapshot.Switches(4, 3)})
        found = self.report(tally)
        self.assertEqual(((), ()), (found.disturbances, found.background))
        self.assertEqual([('3', 'km-one vCPU 0', '50.00%', '25.00%', '3',
                           '0')], list(text.owned(found)))
        self.assertIn('Nobody else was on these pCPUs.', text.report(found))

    def test_two_intervals(self):
        tally = self.tally(values.thread('burner'))
        tally.add(difference.Interval(2.0, (difference.Ran(
            values.thread('burner'), snapshot.Times(3000, 0, 2)),)), OWNERS)
        found = self.report(tally)
        entry, = found.disturbances
        self.assertEqual((4.0, 7, 8.0), (
            found.seconds, entry.disturbance.count, entry.disturbance.us))

    def test_worst_first_and_background(self):
        found = self.report(self.tally(
            values.thread('little', 50),
            values.thread('much', 51)._replace(
                times=snapshot.Times(10 ** 8, 0, 1)),
            values.thread('ksoftirqd/3', 52, kernel=True, bound=True)))
        self.assertEqual(['much', 'little'], [
            entry.disturbance.key.name for entry in found.disturbances])
        self.assertEqual(['ksoftirqd/3'], [
            entry.disturbance.key.name for entry in found.background])
        shown = text.report(found)
        self.assertNotIn('ksoftirqd', shown)
        self.assertIn('1 kinds of background', shown)
        self.assertIn('ksoftirqd/3', text.report(found, True))

    def traced(self, tally, *lines, lost=0):
        seen = trace.Trace()
        seen.add(lines)
        seen.lost = lost
        return {entry.disturbance.key.name: entry.disturbance
                for entry in self.report(tally, trace=seen).disturbances}

    def test_a_trace_counts_what_floats(self):
        tally = self.tally(
            values.thread('floats', 50, allowed=values.ALL),
            values.thread('elsewhere', 51, allowed=values.ALL),
            values.thread('pinned', 52))
        lines = [switch(0, 0, 50), switch(30, 50, 52), switch(99, 52, 77),
                 switch(100, 77, 20), switch(110, 20, 0)]
        lines[2] = switch(99, 52, 77, 'sh')
        # It has run another program meanwhile.
        lines[3] = lines[3].replace('prev_comm=x', 'prev_comm=moment')
        found = self.traced(tally, *lines)
        self.assertEqual({'floats', 'pinned', 'moment'}, set(found))
        self.assertEqual((1, True, 30.0, 'tracefs'), (
            found['floats'].count, found['floats'].exact,
            found['floats'].us, found['floats'].source))
        # The scheduler's own of the very interval.
        self.assertEqual((5, 5.0), (found['pinned'].count,
                                    found['pinned'].us))
        self.assertEqual((1, 1.0, 0), (
            found['moment'].count, found['moment'].us,
            found['moment'].key.number))
        # Where events were lost, it may have been here.
        self.assertIn('elsewhere', self.traced(tally, *lines, lost=1))

    def test_a_trace_times_interrupts(self):
        tally = self.tally(interrupts={
            '36': snapshot.Line(36, 'virtio1-req.0', {3: 2})})
        self.assertIsNone(self.report(tally).disturbances[0].disturbance.us)
        found = self.traced(
            tally, event(0, 'irq_handler_entry', 'irq=36 name=x'),
            event(5, 'irq_handler_exit', 'irq=36 ret=handled'))
        self.assertEqual((2, 5.0), (found['virtio1-req.0'].count,
                                    found['virtio1-req.0'].us))

    def test_hostile_names_are_printable(self):
        found = self.report(self.tally(values.thread('\x1b[31m\nx')),
                            not_traced='\x1b')
        shown = text.report(found)
        self.assertNotIn('\x1b', shown)
        self.assertIn('\\x1b[31m\\nx (50)', shown)
        written = json.dumps(text.document(found))
        self.assertNotIn('\\u001b[31m', written)

    def test_document(self):
        found = text.document(self.report(
            self.tally(values.thread('burner'), interrupts={
                '36': snapshot.Line(36, 'eth0', {3: 2})}),
            not_traced='no tracefs'))
        self.assertEqual((False, 'no tracefs'), (found['traced'],
                                                 found['not_traced']))
        burner, device = found['disturbances']
        self.assertEqual(('thread', 50, None, 5, 5.0, 'schedstat'), tuple(
            burner[key] for key in (
                'kind', 'pid', 'irq', 'count', 'us', 'measured_by')))
        self.assertEqual(('interrupt', None, 36, 2, None, None), tuple(
            device[key] for key in (
                'kind', 'pid', 'irq', 'count', 'us', 'measured_by')))
        self.assertIn('not measured', text.report(self.report(
            self.tally(interrupts={'36': snapshot.Line(36, 'x', {3: 2})}))))


class RemedyTest(base.TestCase):

    def remedy(self, kind, name, number=0, bound=False, owned=(3,),
               irqs=None, units=None):
        return remedy.remedy(disturbance.Disturbance(
            disturbance.Key(kind, name, number, 3), OWNERS.pcpus[3], 1,
            bound=bound), frozenset(owned), SETTINGS, irqs or {},
            units or {})

    def test_each(self):
        managed = irq_mod.Irq(36, 'nvme', frozenset({3}), frozenset({3}),
                              managed=True)
        for words, args, kwargs in (
                ('taskset -apc 0-2,4-7 50', ('thread', 'a', 50), {}),
                ('systemctl set-property a.service AllowedCPUs=0-2,4-7',
                 ('thread', 'a', 50), {'units': {50: 'a.service'}}),
                ("'a b;c.service'", ('thread', 'a', 50),
                 {'units': {50: 'a b;c.service'}}),
                ('taskset -apc', ('thread', 'a', 50),
                 {'units': {50: 'session-1.scope'}}),
                ('lives for a moment', ('thread', 'bash'), {}),
                ('kongming:emulator', ('domain', 'km-two emulator', 30), {}),
                ('kongming:pin', ('domain', 'km-two vCPU 1', 30), {}),
                ('pgrep kvm-pit/30', ('domain', 'km-two kvm-pit', 30), {}),
                ('pgrep vhost-30', ('domain', 'km-two vhost', 30), {}),
                ('echo 000000f7 > /sys/devices/virtual/workqueue/cpumask',
                 ('kernel', 'kworker/u17 events_unbound'), {}),
                ('taskset -pc 0-2,4-7 15', ('kernel', 'rcu_preempt', 15), {}),
                ('trace', ('kernel', 'ksoftirqd/3', 40), {'bound': True}),
                ('irq_affinity = move', ('interrupt', 'eth0', 36), {}),
                ('/proc/irq/36/smp_affinity_list', ('interrupt', 'x', 36),
                 {}),
                ('manages it', ('interrupt', 'nvme', 36),
                 {'irqs': {36: managed}}),
                ('nohz_full=3', ('cpu', 'Local timer interrupts'), {}),
                ('virtual machine', ('stolen', 'x'), {}),
                ('tracefs', ('unnamed', 'x'), {}),
                ('every pCPU of this host has an owner',
                 ('thread', 'a', 50), {'owned': values.ALL})):
            self.assertIn(words, self.remedy(*args, **kwargs))

    def test_settings(self):
        found = dataclasses.replace(SETTINGS, online=frozenset({3, 5}))
        self.assertIn('taskset -apc 5 50', remedy.remedy(
            disturbance.Disturbance(disturbance.Key('thread', 'a', 50, 3),
                                    OWNERS.pcpus[3], 1),
            frozenset({3}), found, {}, {}))
