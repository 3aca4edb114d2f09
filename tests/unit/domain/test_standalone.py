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

import textwrap

from kongming.domain import domain as domain_mod
from kongming.domain import standalone
from kongming import exception
from kongming.host import topology
from kongming.live import threads
from kongming.template import document
from tests import base

#: Two nodes of two cores of two threads: 0+4 1+5 | 2+6 3+7.
HOST = topology.Host(tuple(
    topology.Node(node, tuple(
        topology.Core((first, first + 4)) for first in cores))
    for node, cores in ((0, (0, 1)), (1, (2, 3)))))
NOBODY = standalone.Others({})


def pcpus(*ids):
    return frozenset(ids)


def domain(vcpus=2, cells=None, iothreads=1, **fields):
    return domain_mod.Domain(
        'plain', 'uuid', vcpus,
        cells or (frozenset(range(vcpus)),),
        frozenset(range(1, iothreads + 1)), **fields)


class Base(base.TestCase):

    def plan(self, text, profile=None, of=None, others=NOBODY):
        desired = document.parse('version: 1\n' + textwrap.dedent(text))
        return standalone.plan(desired, profile, of or domain(), HOST, others)

    def refused(self, text, words, **kwargs):
        error = self.assertRaises(exception.NotApplicable, self.plan, text,
                                  **kwargs)
        self.assertIn(words, str(error))


class PlanTest(Base):

    def test_only_what_is_named(self):
        self.assertEqual(
            standalone.Plan(threads.Threads({0: pcpus(5)})),
            self.plan('cells: {0: {pin: "0:5"}}'))
        self.assertEqual(
            standalone.Plan(threads.Threads(emulator=pcpus(1, 2))),
            self.plan('emulator: 1-2'))
        self.assertEqual(standalone.Plan(threads.Threads()),
                         self.plan('cells: {}'))

    def test_whole(self):
        found = self.plan("""
            cells: {0: {node: 1, memory: preferred, pin: "0:3 1~2,6"}}
            emulator: "2"
            iothreads: {1: "6"}
            sched: "0:fifo:1 1:other"
            """)
        self.assertEqual(standalone.Plan(threads.Threads(
            {0: pcpus(3), 1: pcpus(2, 6)}, pcpus(2), {1: pcpus(6)},
            {0: threads.Sched('fifo', 1), 1: threads.Sched()}),
            1, 'preferred'), found)

    def test_relative_over_all_pcpus(self):
        self.assertEqual(
            {0: pcpus(7), 1: pcpus(2, 6)},
            self.plan('cells: {0: {pin: "0:n1c1t1 1~n1c0t0-1"}}',
                      others=standalone.Others({}, pcpus(7), pcpus(0))
                      ).threads.vcpus)

    def test_profile(self):
        text = """
            cells: {0: {pin: "0:3 1:2"}}
            profiles:
              night: {cells: {0: {pin: "0-1~v0"}}, emulator: "0", lend: true}
            """
        self.assertEqual(
            threads.Threads({0: pcpus(3), 1: pcpus(3)}, pcpus(0)),
            self.plan(text, 'night').threads)
        self.assertEqual({0: pcpus(3), 1: pcpus(2)},
                         self.plan(text).threads.vcpus)
        self.refused(text, "no profile 'day'; it has night", profile='day')

    def test_shared(self):
        others = standalone.Others({}, None, pcpus(0, 4))
        self.assertEqual(pcpus(0, 4), self.plan(
            'emulator: shared', others=others).threads.emulator)
        self.refused('iothreads: {1: shared}', '--shared')

    def test_notes(self):
        found = self.plan("""
            cells: {0: {pin: "0:5"}}
            borrow: host
            grant: [template]
            profiles: {night: {when: "Mon 22:00-06:00 UTC", lend: true,
                               emulator: "0"}}
            """, others=standalone.Others({}, pcpus(5), pcpus(0)))
        for note, words in zip(found.notes, (
                'borrow', 'lend', '--profile only', 'grant',
                'pCPU 5 is in cpu_dedicated_set')):
            self.assertIn(words, note)
        self.assertEqual(5, len(found.notes))
        found = self.plan('cells: {0: {memory: preferred}}')
        self.assertIn('memory.0', found.notes[0])


class RefusedTest(Base):

    def test_not_there(self):
        for text, words in (
                ('cells: {0: {pin: "0:8"}}', 'no pCPU 8 online; it has 0-7'),
                ('cells: {0: {pin: "0~0-9"}}', 'no pCPU 8-9 online'),
                ('emulator: "9"', 'emulator: the host has no pCPU 9'),
                ('iothreads: {1: "9"}', 'iothread.1: the host has no pCPU 9'),
                ('iothreads: {3: "1"}', '1 I/O thread(s), counted from 1'),
                ('cells: {0: {pin: "0:n0c2t0"}}', 'has 2 core(s)'),
                ('cells: {0: {pin: "2:1"}}', 'and no vCPU 2'),
                ('cells: {1: {pin: "0:1"}}', 'has 1 NUMA cell(s)'),
                ('cells: {0: {node: 5}}', 'no node 5, it has node(s) 0-1'),
                ('sched: "7:batch"', 'sched: the domain has 2 vCPU(s)')):
            self.refused(text, words)

    def test_contradictions(self):
        self.refused('cells: {0: {pin: "0:1 1:n0c1t0"}}',
                     'vCPUs 0 and 1 are both pinned to pCPU 1')
        self.refused('cells: {0: {node: 1, pin: "0:1"}}',
                     'pCPU 1 of vCPU 0 is on node 0')

    def test_owned_by_others(self):
        others = standalone.Others({5: 'du-7'})
        for text in ('cells: {0: {pin: "0:5"}}', 'cells: {0: {pin: "0~4-5"}}',
                     'emulator: "5"', 'iothreads: {1: "5"}'):
            self.refused(text, 'pCPU 5 is owned by the domain du-7',
                         others=others)
        self.plan('cells: {0: {pin: "0:4"}}', others=others)

    def test_what_only_nova_can(self):
        self.refused('qos: "0:quota=50%"', 'qos')
        self.refused('emulator: own', 'emulator = own')

    def test_cells(self):
        """Several move together, so each has to be there already."""
        two = {'cells': (pcpus(0), pcpus(1))}
        self.refused('cells: {0: {pin: "1:1"}}', 'vCPU 1 is in another cell',
                     of=domain(**two))
        text = 'cells: {0: {node: 0}, 1: {node: 1}}'
        self.refused(text, 'memnode', of=domain(**two))
        self.assertIsNone(self.plan(text, of=domain(
            **two, memnodes={0: pcpus(0), 1: pcpus(1)})).node)
