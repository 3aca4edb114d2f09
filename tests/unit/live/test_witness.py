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
"""What the kernel says of threads, beside what is wanted of them."""

from kongming.live import threads
from kongming.live import witness
from tests import base

only = frozenset
WANTED = threads.Threads({0: only({4}), 1: only({5})}, only({0, 1}),
                         {1: only({0})})
ALL = only(range(8))


def vcpu(allowed, cpuset=None, number=0):
    return witness.Thread(witness.VCPU, number, 100 + number, only(allowed),
                          None if cpuset is None else only(cpuset))


class FreedTest(base.TestCase):

    def freed(self, *found):
        return [thread.id for thread in witness.freed(found, WANTED)]

    def test_where_it_is_wanted(self):
        self.assertEqual([], self.freed(
            vcpu({4}, {4}), vcpu({5}, None, 1),
            witness.Thread(witness.EMULATOR, 0, 1, only({0}), only({0, 1})),
            witness.Thread(witness.IOTHREAD, 1, 2, only({0}), only({0}))))

    def test_wider(self):
        self.assertEqual([100], self.freed(vcpu({4, 5}, {4})))
        self.assertEqual([1, 2], self.freed(
            witness.Thread(witness.EMULATOR, 0, 1, ALL, ALL),
            witness.Thread(witness.IOTHREAD, 1, 2, ALL, ALL)))

    def test_a_cpuset_that_is_wider_than_its_thread(self):
        self.assertEqual([100], self.freed(vcpu({4}, {4, 5})))

    def test_of_what_nothing_is_said(self):
        self.assertEqual([], self.freed(vcpu(ALL, ALL, 7)))
        self.assertEqual([], witness.freed([witness.Thread(
            witness.EMULATOR, 0, 1, ALL)], threads.Threads({0: only({4})})))


class CauseTest(base.TestCase):

    def check(self, words, thread, online=ALL):
        found, = witness.words([thread], WANTED, online)
        self.assertIn(words, found)

    def test_pcpu_offline(self):
        self.check('pCPU 4 is offline', vcpu(ALL - {4}, {4}), ALL - {4})

    def test_refused_pin(self):
        self.check('its cpuset has pCPU 6 only, which is offline: a pin '
                   'there was refused', vcpu(ALL - {6}, {6}), ALL - {6})
        self.check('its cpuset has pCPU 6: a pin was refused',
                   vcpu({6}, {6}))

    def test_taskset(self):
        self.check('as by taskset', vcpu(ALL, {4}))
        self.check('vCPU 0 may run on pCPU 0-7, not on 4 only',
                   vcpu(ALL, {4}))

    def test_without_a_cpuset(self):
        self.check('changed by somebody else than libvirt', vcpu(ALL))

    def test_written_cpuset(self):
        self.check('vCPU 0 may run on pCPU 4-5, not on 4 only',
                   vcpu({4}, {4, 5}))


class OnlineTest(base.TestCase):

    def test_all_online(self):
        self.assertIs(WANTED, witness.online_only(WANTED, only(), only(),
                                                  ALL))

    def check(self, places, online, owned=only({4, 5}), shared=only({0, 1})):
        found = witness.online_only(WANTED, owned, shared, only(online))
        self.assertEqual(places, ({vcpu: set(pcpus) for vcpu, pcpus
                                   in found.vcpus.items()},
                                  set(found.emulator),
                                  set(found.iothreads[1])))

    def test_on_what_else_it_owns(self):
        self.check(({0: {5}, 1: {5}}, {0, 1}, {0}), {0, 1, 5})

    def test_what_nobody_owns(self):
        self.check(({0: {0}, 1: {0}}, {0}, {0}), {0})

    def test_nothing(self):
        self.check(({0: {4}, 1: {5}}, {0, 1}, {0}), {7})

    def test_enforced_by_the_kernel(self):
        self.assertEqual({100: only({4}), 101: only({4})}, witness.kept(
            [vcpu(ALL), vcpu(ALL, number=1)], WANTED, only({4, 5}),
            ALL - {5}))
        self.assertEqual({}, witness.kept([vcpu(ALL)], WANTED, only({4}),
                                          ALL - {4}))
