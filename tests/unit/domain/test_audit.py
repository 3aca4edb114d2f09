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

from kongming.domain import audit
from kongming.domain import domain as domain_mod
from kongming.host import topology
from kongming.host import usage
from kongming.live import threads
from kongming.template import guest
from tests import base

VCPU, IOTHREAD, EMULATOR = (domain_mod.VCPU, domain_mod.IOTHREAD,
                            domain_mod.EMULATOR)
#: Two nodes of two cores of two threads: 0+4 1+5 | 2+6 3+7.
HOST = topology.Host(tuple(
    topology.Node(node, tuple(
        topology.Core((first, first + 4)) for first in cores))
    for node, cores in ((0, (0, 1)), (1, (2, 3)))))
#: As nova.conf divides it.
SHARED = frozenset({0, 4})
STATE = usage.of_host(HOST, HOST.pcpus - SHARED, SHARED)
#: Without nova.conf.
ALL = usage.of_host(HOST, None, None)


def pcpus(*ids):
    return frozenset(ids)


def running(name='a', vcpus=((1,),), emulator=(0,), iothreads=(),
            flavor=None, **fields):
    """A domain whose threads are where its XML has them."""
    pins = threads.Threads(
        {n: frozenset(p) for n, p in enumerate(vcpus)},
        frozenset(emulator),
        {n: frozenset(p) for n, p in enumerate(iothreads, 1)})
    tasks = [domain_mod.Task(VCPU, n, 100 + n, p, min(p))
             for n, p in pins.vcpus.items()]
    tasks += [domain_mod.Task(IOTHREAD, n, 200 + n, p, min(p))
              for n, p in pins.iothreads.items()]
    tasks += [domain_mod.Task(EMULATOR, 0, 300 + n, frozenset(emulator), 0)
              for n in range(2)]
    ram = fields.pop('ram', ())
    return domain_mod.Running(domain_mod.Domain(
        name, f'uuid-{name}', len(vcpus), (frozenset(range(len(vcpus))),),
        frozenset(pins.iothreads), pins, flavor=flavor, **fields),
        tuple(tasks), ram)


def flavor(dedicated=(), shared=(), policy=None, isolated=False, **specs):
    """:param specs: of the template, such as ``pin_0``"""
    return domain_mod.Flavor('server', guest.Guest((guest.Cell(
        frozenset(dedicated), frozenset(shared), 0),), policy, isolated), {
            f'kongming:{key.replace("_", ".")}': value
            for key, value in specs.items()})


def moved(found, kind, *now, number=0):
    """The same where the kernel has threads elsewhere."""
    return dataclasses.replace(found, tasks=tuple(
        task._replace(allowed=frozenset(now))
        if (task.kind, task.number) == (kind, number) else task
        for task in found.tasks))


class Base(base.TestCase):

    def found(self, *domains, state=STATE):
        return {(each.kind, each.domain, each.thread, each.pcpus, each.other)
                for each in audit.find(HOST, state, domains)}


class OwnerTest(Base):

    def owned(self, found, state=STATE):
        return audit.resident(found, state).owned

    def test_nothing_to_find(self):
        """Pinned one to one, and to what is not shared."""
        found = running(vcpus=((1,), (0,), (2, 3)))
        self.assertEqual({0: 1}, self.owned(found).pins)
        self.assertEqual({0: 1, 1: 0}, self.owned(found, ALL).pins)
        # Two on one pCPU share it.
        found = running(vcpus=((1,), (1,), (2,)))
        self.assertEqual({2: 2}, self.owned(found).pins)

    def test_server(self):
        """What its flavor calls dedicated."""
        found = running(vcpus=((1,), (2,)), flavor=flavor([1], [0]))
        self.assertEqual({1: 2}, self.owned(found).pins)

    def test_server_in_a_profile(self):
        """The template says, where nobody else can say otherwise."""
        found = running(vcpus=((0, 4),), flavor=flavor([0], pin_0='0:1'))
        self.assertEqual({0: 1}, self.owned(found).pins)
        found = running(vcpus=((0, 4),), flavor=flavor(
            [0], pin_0='0:1', grant='template'))
        self.assertEqual({}, self.owned(found).pins)

    def test_emulator(self):
        for isolated, owned in ((True, {5}), (False, set())):
            found = running(emulator=(5,), flavor=flavor(
                [0], isolated=isolated))
            self.assertEqual(owned, self.owned(found).emulator)


class FindTest(Base):

    def test_nothing(self):
        self.assertEqual(set(), self.found(
            running('a', ((1,), (5,))), running('b', ((2,),)),
            running('c', ((0, 4),)), running('d', ((0, 4),))))

    def test_overlap(self):
        self.assertEqual(
            {('overlap', 'b', 'vCPU 0', (1,), 'a')},
            self.found(running('a'), running('b')))
        # Two that float on one shared pCPU own nothing.
        self.assertEqual(set(), self.found(
            running('a', ((0,),)), running('b', ((0,),))))

    def test_overlap_with_an_emulator(self):
        self.assertEqual(
            {('overlap', 'b', 'emulator', (1,), 'a')},
            self.found(running('a', ((1,),)), running(
                'b', ((2,),), (1,), flavor=flavor([0], isolated=True))))

    def test_foreign(self):
        self.assertEqual(
            {('foreign', 'b', 'vCPU 0', (1,), 'a'),
             ('foreign', 'b', 'I/O thread 1', (1,), 'a'),
             ('emulator', 'b', 'emulator', (1,), 'a')},
            self.found(running('a'), running(
                'b', ((0, 1),), (0, 1), ((1,),))))

    def test_own_threads_are_no_strangers(self):
        self.assertEqual(set(), self.found(
            running('a', ((1,), (5,)), (1, 5), ((1,),))))

    def test_lent(self):
        lender = flavor([0], pin_0='0:1', profile_night_pin_0='0~0',
                        profile_night_lend='true')
        borrower = flavor([], [0], borrow='host')
        away = running('a', ((0,),), flavor=lender)
        self.assertEqual(set(), self.found(
            away, running('b', ((0, 1),), flavor=borrower)))
        self.assertEqual(
            {('foreign', 'b', 'vCPU 0', (1,), 'a')},
            self.found(away, running('b', ((0, 1),),
                                     flavor=flavor([], [0]))))
        # The lender is there.
        self.assertEqual(
            {('foreign', 'b', 'vCPU 0', (1,), 'a')},
            self.found(running('a', ((1,),), flavor=lender),
                       running('b', ((0, 1),), flavor=borrower)))

    def test_isolate(self):
        isolating = running('a', ((1,),), flavor=flavor(
            [0], policy='isolate'))
        self.assertEqual(
            {('isolate', 'b', 'vCPU 0', (5,), 'a'),
             ('isolate', 'b', 'emulator', (5,), 'a')},
            self.found(isolating, running('b', ((5,),), (0, 5))))
        self.assertEqual(set(), self.found(
            isolating, running('b', ((2,),))))
        self.assertEqual(set(), self.found(
            running('a', ((1,),), flavor=flavor([0], policy='prefer')),
            running('b', ((5,),))))

    def test_isolate_while_its_owner_is_away(self):
        away = running('a', ((0,),), flavor=flavor(
            [0], policy='isolate', pin_0='0:1', profile_night_pin_0='0~0'))
        self.assertEqual(set(), self.found(away, running('b', ((5,),))))

    def test_isolate_among_its_own(self):
        self.assertEqual(
            {('isolate', 'a', 'vCPU 1', (5,), 'a')},
            self.found(running('a', ((1,), (5,)), (1, 5), flavor=flavor(
                [0, 1], policy='isolate'))))

    def test_memory(self):
        def ram(bound, **kib):
            return domain_mod.Ram(bound and frozenset(bound), {
                int(node[1:]): size for node, size in kib.items()})

        for mode, nodes, mappings, away in (
                ('strict', {0}, [ram({0}, n0=64)], None),
                ('strict', {0}, [ram({0}, n0=60, n1=4)], 4),
                ('restrictive', {1}, [ram(None, n0=8, n1=4)], 8),
                ('preferred', {0}, [ram(None, n1=4)], None),
                (None, set(), [ram(None, n1=4)], None),
                # Cells, each on its node; and swapped.
                ('strict', {0, 1}, [ram({0}, n0=4), ram({1}, n1=4)], None),
                ('strict', {0, 1}, [ram({0}, n1=4), ram({1}, n0=4)], 4)):
            found = [each for each in audit.find(HOST, STATE, [running(
                mode=mode, nodes=frozenset(nodes), ram=tuple(mappings))])]
            self.assertEqual({'memory'} if away else set(),
                             {each.kind for each in found})
            for each in found:
                self.assertIn(f'{away} KiB', each.text)

    def test_offline(self):
        self.assertEqual(
            {('offline', 'a', 'vCPU 0', (9,), None)},
            self.found(moved(running('a', ((1, 9),)), VCPU, 1)))
        # The kernel runs it anywhere then, which is no second finding.
        self.assertEqual(
            {'offline'}, {each[0] for each in self.found(
                moved(running('a', ((9,),)), VCPU, 0, 1))})

    def test_affinity(self):
        for kind, thread in ((VCPU, 'vCPU 0'), (EMULATOR, 'emulator')):
            self.assertEqual(
                {('affinity', 'a', thread, (2,), None)},
                self.found(moved(running('a'), kind, 2)))
        self.assertEqual(
            {('affinity', 'a', 'I/O thread 1', (2,), None)},
            self.found(moved(running('a', iothreads=((1, 2),)),
                             IOTHREAD, 2, number=1)))

    def test_one_thread_of_the_emulator(self):
        found = running('a', emulator=(0, 4))
        *others, last = found.tasks
        found = dataclasses.replace(found, tasks=(
            *others, last._replace(allowed=pcpus(4))))
        self.assertEqual({('affinity', 'a', 'emulator', (4,), None)},
                         self.found(found))

    def test_nothing_said_of_it(self):
        """Without a pin the domain's cpuset counts, or nothing."""
        running_a = running('a')
        for cpuset, kinds in ((None, set()), (pcpus(1), set()),
                              (pcpus(2), {'affinity'})):
            found = dataclasses.replace(running_a, domain=dataclasses.replace(
                running_a.domain, cpuset=cpuset, pins=threads.Threads(
                    emulator=pcpus(0))))
            self.assertEqual(kinds, {each[0] for each in self.found(found)})


class TemplateTest(Base):

    def kinds(self, vcpus, at=(0,), dedicated=(0,), **specs):
        """:param at: where the emulator is"""
        return [(each.thread, each.pcpus) for each in audit.find(
            HOST, STATE, [running('a', vcpus, at, flavor=flavor(
                dedicated, **specs))]) if each.kind == 'template']

    def test_exact(self):
        self.assertEqual([], self.kinds(((1,),), pin_0='0:1'))
        self.assertEqual([('vCPU 0', (2,))],
                         self.kinds(((2,),), pin_0='0:1'))

    def test_relative(self):
        """Counted over the pCPUs that Nova may use."""
        self.assertEqual([], self.kinds(((3,),), pin_0='0:n1c1t0'))

    def test_any_profile_will_do(self):
        specs = {'pin_0': '0:1', 'profile_night_pin_0': '0~0,4',
                 'profile_noon_pin_0': '0~4'}
        for place in ((1,), (0, 4), (4,)):
            self.assertEqual([], self.kinds((place,), **specs))
        self.assertEqual([('vCPU 0', (0, 1))],
                         self.kinds(((0, 1),), **specs))

    def test_metadata_may_say_otherwise(self):
        self.assertEqual([], self.kinds(((2,),), pin_0='0:1',
                                        grant='template'))

    def test_borrowed_comes_on_top(self):
        for place, found in (((0, 4), []), ((0, 1, 4), []),
                             ((0,), [('vCPU 0', (0,))])):
            self.assertEqual(found, self.kinds(
                (place,), pin_0='0~0,4', borrow='host', dedicated=[]))

    def test_emulator(self):
        self.assertEqual([('emulator', (1,))], self.kinds(
            ((1,),), (1,), pin_0='0:1', emulator='shared'))
        self.assertEqual([], self.kinds(
            ((1,),), (0, 4), pin_0='0:1', emulator='shared'))

    def test_node(self):
        for nodes, kinds in ((pcpus(1), {'template'}), (pcpus(0), set())):
            self.assertEqual(kinds, {each[0] for each in self.found(running(
                'a', flavor=flavor([0], node_0='0'),
                memnodes={0: nodes}))})

    def test_template_that_nobody_can_read(self):
        self.assertEqual([], self.kinds(((1,),), pin_0='nonsense'))
