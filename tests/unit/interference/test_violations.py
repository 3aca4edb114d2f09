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

"""What of a host could disturb owned pCPUs."""

import dataclasses

from kongming.domain import domain as domain_mod
from kongming.host import topology
from kongming.host import usage
from kongming.interference import owners as owners_mod
from kongming.interference import snapshot
from kongming.interference import violations
from kongming.live import threads
from tests import base
from tests.unit.interference import test_disturbance as values
from tests.unit.interference import test_irq

SILENT = snapshot.Settings(
    online=values.ALL, workqueues=frozenset({0}), pmd=frozenset({1}),
    governors=dict.fromkeys(values.ALL, 'performance'))


class FindTest(base.TestCase):

    def find(self, *rows, settings=SILENT, irqs=()):
        return violations.find(values.snap(0, [values.VCPU, *rows]),
                               settings, irqs, values.OWNERS)

    def test_nothing(self):
        self.assertEqual([], self.find(
            values.thread('a', allowed=frozenset({2})),
            values.thread('ksoftirqd/3', 60, kernel=True, bound=True),
            values.thread('qemu', 30), irqs=[test_irq.one({0})]))

    def test_threads(self):
        found, = self.find(
            values.thread('one', 60, allowed=values.ALL),
            values.thread('two', 61, allowed=values.ALL))
        self.assertEqual(('thread', 'host', None, (3,), 'km-one'), found[:5])
        self.assertIn('2 threads of the host (one, two) may run on pCPU 3, '
                      'which km-one owns', found.text)
        found, = self.find(*(values.thread(f't{n}', 60 + n)
                             for n in range(9)))
        self.assertIn('and 4 other names', found.text)

    def test_interrupts(self):
        for words, each in (
                ('interrupt 36 (eth0) may come to pCPU 3',
                 test_irq.one({3, 4})),
                ('moves it for nobody', test_irq.one({3}, managed=True))):
            found, = self.find(irqs=[each])
            self.assertIn(words, found.text)
            self.assertEqual('interrupt', found.kind)

    def test_settings(self):
        """A hybrid machine may have a governor for each kind of core."""
        for kind, words, changed in (
                ('workqueue', 'workqueues', {'workqueues': values.ALL}),
                ('governor', "'powersave'", {'governors': {
                    3: 'powersave', 4: 'schedutil'}}),
                ('pmd', 'Open vSwitch', {'pmd': frozenset({3})})):
            found, = self.find(settings=dataclasses.replace(SILENT, **changed))
            self.assertEqual((kind, (3,)), (found.kind, found.pcpus))
            self.assertIn(words, found.text)
        self.assertEqual([], self.find(settings=snapshot.Settings()))


class OwnersTest(base.TestCase):

    def running(self, name, tasks, **pins):
        return domain_mod.Running(domain_mod.Domain(
            name, f'uuid-{name}', 2, (frozenset({0, 1}),),
            pins=threads.Threads({int(key[1:]): frozenset(pcpus)
                                  for key, pcpus in pins.items()})),
            tuple(domain_mod.Task(kind, number, tid, frozenset(allowed),
                                  min(allowed))
                  for kind, number, tid, allowed in tasks))

    def test_owners(self):
        state = usage.of_host(topology.Host((topology.Node(
            0, tuple(topology.Core((pcpu,)) for pcpu in range(8))),)),
            None, None)
        one = self.running('one', [
            ('vCPU', 0, 20, {3}), ('vCPU', 1, 21, {5}),
            ('emulator', 0, 10, {0})], p0={3}, p1={4})
        two = self.running('two', [('vCPU', 0, 40, {1, 2})], p0={1, 2})
        found = owners_mod.of_running([(10, one), (30, two)], state)
        # Of pCPU 4 its owner has left.
        self.assertEqual({3: ('one', 'vCPU 0', 20)}, found.pcpus)
        self.assertEqual({10: 'one', 30: 'two'}, found.domains)
        self.assertEqual({20: 'vCPU 0', 21: 'vCPU 1', 10: 'emulator',
                          40: 'vCPU 0'}, found.threads)
        self.assertEqual({}, owners_mod.of_running(
            [(10, one)], state, {'uuid-two'}).pcpus)
