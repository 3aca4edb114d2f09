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

"""Interrupts of this machine follow who owns its pCPUs."""

import os
import unittest

from kongming.interference import irq as irq_mod
from kongming.kernel import irq
import nova.conf
from tests.libvirt import test_live

CONF = nova.conf.CONF


def movable():
    """Number -> pCPUs, of what the kernel can move."""
    return {each.number: each.allowed for each in irq.read()
            if not each.managed}


@unittest.skipIf(os.geteuid(), 'only root may')
class InterruptTest(test_live.LiveBase):

    def setUp(self):
        super().setUp()
        self.before = movable()
        if not self.before:
            self.skipTest('this machine has no interrupt that can be moved')
        self.addCleanup(irq.move, self.before.items())
        everything = set(test_live.PCPUS)
        irq.move((number, everything) for number in self.before)
        # Some are there, but take only what their chip can do.
        self.numbers = {number for number, pcpus in movable().items()
                        if pcpus == everything}
        self.first, self.second = test_live.PCPUS[:2]

    def driver(self):
        return self.computes['compute1'].driver

    def restart(self):
        """nova-compute, with nothing of what it remembered."""
        self.computes['compute1'] = self.restart_compute_service(
            self.computes['compute1'])

    def run_pass(self):
        driver = self.driver()
        if driver._reconciler.has_work:
            driver.passes.run()

    def on(self):
        """pCPUs of those that can be anywhere, each set once."""
        found = movable()
        return {frozenset(found[number]) for number in self.numbers}

    def stats(self):
        self.audit()
        return self.compute_node().stats.get('kongming_irq')

    def test_move(self):
        self.flags(irq_affinity=irq_mod.MOVE, group='kongming')
        everything, first, second = (
            {frozenset(pcpus)} for pcpus in (
                test_live.PCPUS, [self.first], [self.second]))
        server = self.boot(self.second)
        self.run_pass()
        self.assertEqual(first, self.on())
        # They go where the server was, as it goes where they are.
        self.want(server, self.first)
        self.run_pass()
        self.assertEqual(second, self.on())
        # nova-compute is killed; the server goes while it is away.
        self.restart()
        self.run_pass()
        self.assertEqual(second, self.on())
        managed = [each for each in irq.read() if each.managed
                   and each.effective == {self.first}]
        self.assertEqual(f'move:{len(managed)}', self.stats())
        if managed:
            self.assertIn('which the kernel manages',
                          self.stdlog.logger.output)
        self._delete_server(server)
        self.restart()
        self.assertEqual(second, self.on())
        self.run_pass()
        self.assertEqual(everything, self.on())
        # There is nothing left to do.
        self.assertFalse(self.driver()._reconciler.has_work)

    def test_report(self):
        self.boot(self.second)
        self.run_pass()
        self.assertEqual({frozenset(test_live.PCPUS)}, self.on())
        mode, _colon, number = self.stats().partition(':')
        self.assertEqual('report', mode)
        self.assertGreaterEqual(int(number), len(self.numbers))
        self.assertEqual(1, self.stdlog.logger.output.count(
            'nterrupts may come to pCPUs that have an owner'))
        self.flags(irq_affinity=irq_mod.IGNORE, group='kongming')
        self.run_pass()
        self.assertIsNone(self.stats())

    def test_somebody_has_set_it(self):
        """Only what gets an owner is taken from it."""
        self.flags(irq_affinity=irq_mod.MOVE, group='kongming')
        number = min(self.numbers)
        irq.move([(number, {self.second})])
        server = self.boot(self.first)
        self.run_pass()
        self.assertEqual({self.second}, movable()[number])
        self.flags(live_changes='observe', group='kongming')
        self._delete_server(server)
        self.run_pass()
        self.assertEqual({self.second}, movable()[number])

    def test_elsewhere(self):
        """libvirt's host is another machine: this one is left alone."""
        self.flags(irq_affinity=irq_mod.MOVE, group='kongming')
        self.boot(self.second)
        interrupts = self.driver()._reconciler.interrupts
        self.patch(interrupts)
        interrupts.follow({self.second}, True)
        self.assertIsNone(interrupts.left)

    def patch(self, interrupts):
        interrupts._driver._host.get_connection().getHostname = (
            lambda: 'another.example.org')
