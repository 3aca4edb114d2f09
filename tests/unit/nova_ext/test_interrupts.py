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

"""Interrupts beside irqbalance, and what is reported of them."""

import socket
import types

import fixtures

from kongming import conf as km_conf
from kongming.interference import irq as irq_mod
import nova.conf
from nova_ext.live import interrupts
from oslo_config import fixture as config_fixture
from tests import base

CONF = nova.conf.CONF
km_conf.register_opts(CONF)
ALL = frozenset(range(4))


class Machine(fixtures.Fixture):
    """Interrupts 7, that can be moved, and 8, that the kernel manages
    unnoticed; irqbalance where a test has it.

    :ivar balancer: (pid, pCPUs that it keeps off as configured)
    """

    def _setUp(self):
        self.allowed = {7: ALL, 8: ALL}
        self.balancer, self.banned, self.orders = None, (), []
        for name, function in (
                ('irq.read', lambda: [
                    irq_mod.Irq(number, f'eth{number}', pcpus, pcpus)
                    for number, pcpus in self.allowed.items()]),
                ('irq.machine', lambda ownable: irq_mod.Machine(
                    ALL, ALL, frozenset({2, 3}))),
                ('privileged.irqbalance', lambda: self.balancer),
                ('privileged.irqbalance_banned', lambda pid: self.banned),
                ('privileged.irqbalance_ban', self._ban),
                ('privileged.move_irqs', self._move)):
            self.useFixture(fixtures.MonkeyPatch(
                f'nova_ext.live.interrupts.{name}', function))

    def _ban(self, pid, pcpus):
        self.orders.append(pcpus)
        self.banned = self.balancer[1] if pcpus is None else pcpus

    def _move(self, wanted):
        refused = []
        for number, pcpus in wanted:
            if number == 8:
                refused.append((8, True, 'the kernel manages it'))
            else:
                self.allowed[number] = frozenset(pcpus)
        return refused


class FollowTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.machine = self.useFixture(Machine())
        self.useFixture(config_fixture.Config(CONF)).config(
            irq_affinity='move', group='kongming')
        self.log = self.useFixture(fixtures.FakeLogger())
        connection = types.SimpleNamespace(
            getHostname=lambda: f'{socket.gethostname()}.example.org')
        self.interrupts = interrupts.Interrupts(types.SimpleNamespace(
            _host=types.SimpleNamespace(
                get_connection=lambda: connection,
                get_available_cpus=lambda: ALL)))

    def follow(self, *owned, act=True):
        self.interrupts.follow(owned, act)
        return self.machine.allowed[7]

    def test_by_itself(self):
        self.assertTrue(self.interrupts.has_work)
        self.assertEqual(ALL - {3}, self.follow(3))
        # Number 8 still comes, and is reported once.
        self.assertEqual(1, self.interrupts.left)
        self.follow(3)
        self.assertEqual(1, self.log.output.count(
            '8 (eth8) pCPU 3, which the kernel manages'))
        self.assertEqual(ALL, self.follow())
        self.assertFalse(self.interrupts.has_work)

    def test_observing(self):
        self.assertEqual(ALL, self.follow(3, act=False))
        self.assertEqual(2, self.interrupts.left)

    def test_reporting_reads_when_owners_change(self):
        CONF.set_override('irq_affinity', 'report', 'kongming')
        for owned, left in ((2,), 2), ((2,), 2), ((2, 3), 0):
            self.follow(*owned)
            self.assertEqual(left, self.interrupts.left)
            # None of them has it any more; read only if somebody looks.
            if self.machine.allowed[7] == ALL and len(owned) == 1:
                self.machine.allowed = dict.fromkeys((7, 8), frozenset({0}))

    def test_irqbalance(self):
        self.machine.balancer, self.machine.banned = (9, [1]), [1]
        # It is asked first, and left alone with it.
        self.assertEqual(ALL, self.follow(3))
        self.assertEqual([[1, 3]], self.machine.orders)
        # What it has not taken away by the next pass.
        self.assertEqual(ALL - {3}, self.follow(3))
        # It brings back by itself.
        self.assertEqual(ALL - {3}, self.follow())
        self.assertEqual([[1, 3], None], self.machine.orders)

    def test_what_fails_is_reported_once(self):
        def fail():
            raise interrupts.km_exc.IrqError('no /proc/irq')
        self.useFixture(fixtures.MonkeyPatch(
            'nova_ext.live.interrupts.irq.read', fail))
        for _pass in range(2):
            self.follow(3)
        self.assertEqual(1, self.log.output.count('no /proc/irq'))
