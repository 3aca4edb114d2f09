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

import dataclasses

from kongming.domain import domain
from kongming.live import threads
from nova_ext.cleanup import decision
from tests import base


def only(*pcpus):
    return frozenset(pcpus)


#: It lends pCPU 5, and runs on 0.
LENDER = decision.Found(
    owned=only(5), now=threads.Threads({0: only(0)}, only(0)),
    wanted=threads.Threads({0: only(5)}, only(5)))
#: It borrows pCPU 5.
BORROWER = decision.Found(
    now=threads.Threads({0: only(0, 1, 5)}, only(0, 1)),
    wanted=threads.Threads({0: only(0, 1)}, only(0, 1)))
#: As Nova would have it.
NATIVE = decision.Found(owned=only(5), now=LENDER.wanted,
                        wanted=LENDER.wanted)
CUT_SHORT = dataclasses.replace(NATIVE, target='pCPU 6')


class DecisionTest(base.TestCase):

    def test_differences(self):
        for found, expected in (
                (NATIVE, []),
                (CUT_SHORT, ['pCPU 6']),
                (BORROWER, ['vCPU 0: pCPU 0-1,5 -> 0-1']),
                (dataclasses.replace(NATIVE, strays=('vCPU 0: ...',)),
                 ['vCPU 0: ...']),
                (dataclasses.replace(CUT_SHORT, others=('memory',)),
                 ['pCPU 6', 'memory']),
                (dataclasses.replace(NATIVE, now=dataclasses.replace(
                    NATIVE.now, sched={0: threads.Sched('fifo', 1)})),
                 ['vCPU 0: fifo:1 -> other'])):
            self.assertEqual(expected, decision.differences(found))

    def test_borrowers_leave_and_owners_stay_for_now(self):
        self.assertEqual(threads.Threads({0: only(0, 1)}, only(0, 1)),
                         decision.narrowed(BORROWER))
        self.assertEqual(LENDER.now, decision.narrowed(LENDER))
        self.assertEqual(LENDER.wanted, decision.narrowed(NATIVE))

    def test_why_not(self):
        for found, changed, expected in (
                (LENDER, {}, ''), (BORROWER, {}, ''), (CUT_SHORT, {}, ''),
                (NATIVE, {'task_state': 'rebooting'}, 'busy.*rebooting'),
                (NATIVE, {'lacks_pcpus': True}, 'fewer pCPUs'),
                (NATIVE, {'is_saved': True}, ''),
                (CUT_SHORT, {'is_saved': True}, 'rescued or suspended'),
                (NATIVE, {'is_visible': False}, '/proc of the host'),
                (CUT_SHORT, {'is_visible': False, 'is_running': False}, '')):
            reason = decision.why_not(dataclasses.replace(found, **changed))
            self.assertRegex(reason, expected or '^$')

    def test_pcpus_that_others_do_not_leave(self):
        in_use = decision.foreign(BORROWER)
        self.assertEqual(only(5), in_use)
        self.assertRegex(decision.why_not(LENDER, in_use), 'pCPU 5 is its')
        # It runs there already, and who borrowed it is no business of it.
        self.assertEqual('', decision.why_not(NATIVE, in_use))
        self.assertEqual('', decision.why_not(BORROWER, in_use))

    def test_strays(self):
        def task(kind, number, *pcpus):
            return domain.Task(kind, number, 1, only(*pcpus), 0)

        wanted = threads.Threads({0: only(5)}, only(5, 6), {1: only(6)})
        for tasks, expected in (
                ([task('vCPU', 0, 5), task('emulator', 0, 5),
                  task('I/O thread', 1, 6)], ()),
                ([task('vCPU', 0, 5, 7)],
                 ('vCPU 0: pCPU 5,7 by the kernel, not 5',)),
                ([task('emulator', 0, 7), task('emulator', 0, 7)],
                 ('emulator: pCPU 7 by the kernel, not 5-6',)),
                ([task('I/O thread', 1, 5)],
                 ('I/O thread 1: pCPU 5 by the kernel, not 6',)),
                # Nobody says where it is to be.
                ([task('I/O thread', 2, 5)], ())):
            self.assertEqual(expected, decision.strays(tasks, wanted))
