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

"""What the operator of a host lets a template do."""

import hypothesis
from hypothesis import strategies as st

from kongming.fit import demand
from kongming.fit import fit
from kongming.host import usage
from kongming.intent import limits
from kongming.intent import merge
from kongming.live import rearrange
from kongming.live import threads
from kongming.template import guest
from kongming.template import template
from tests import base

LOW = limits.Limits(max_weight=200, max_realtime_priority=10)


def read(**keys):
    return template.decode({f'kongming:{key.replace("_", ".")}': value
                            for key, value in keys.items()})


class WithinTest(base.TestCase):

    def lowered(self, bounds, **keys):
        result, problems = limits.within(read(**keys), bounds)
        return {key.removeprefix('kongming:'): value for key, value in
                template.encode(result).items()}, [
                    str(problem) for problem in problems]

    def test_what_is_within_is_the_same_object(self):
        desired = read(qos='0:weight=200', sched='0:fifo:10 1:batch')
        self.assertIs(desired, limits.within(desired, LOW)[0])
        desired = read(qos='0:weight=10000', sched='0:rr:99')
        self.assertEqual((desired, ()), limits.within(desired, limits.NONE))

    def test_weight_is_lowered_and_the_rest_of_the_entry_stays(self):
        keys, (problem,) = self.lowered(
            LOW, qos='0:weight=10000,quota=50% 1:weight=7', pin_0='0:4')
        self.assertEqual({'qos': '0:weight=200,quota=50% 1:weight=7',
                          'pin.0': '0:4'}, keys)
        self.assertEqual(
            "kongming:qos = '0:weight=10000,quota=50% 1:weight=7': the "
            "highest weight on this host is 200 ([kongming] max_weight)",
            problem)

    def test_priority_is_lowered(self):
        keys, (problem,) = self.lowered(LOW, sched='0:fifo:99 1:idle')
        self.assertEqual({'sched': '0:fifo:10 1:idle'}, keys)
        self.assertIn('the highest real-time priority on this host is 10',
                      problem)

    def test_no_real_time_at_all(self):
        keys, (problem,) = self.lowered(
            LOW._replace(max_realtime_priority=0), sched='0:fifo:1 1:idle')
        self.assertEqual({'sched': '1:idle'}, keys)
        self.assertIn('no vCPU is scheduled in real time', problem)

    def test_profiles(self):
        keys, problems = self.lowered(
            LOW, profile_night_qos='0:weight=300',
            profile_late_sched='0:rr:11', grant='profile')
        self.assertEqual({'profile.night.qos': '0:weight=200',
                          'profile.late.sched': '0:rr:10',
                          'grant': 'profile'}, keys)
        self.assertEqual(['kongming:profile.late.sched',
                          'kongming:profile.night.qos'],
                         sorted(p.split(' ')[0] for p in problems))

    @hypothesis.given(st.integers(1, 10000), st.integers(1, 99),
                      st.integers(1, 10000), st.integers(0, 99))
    def test_nothing_is_left_to_lower(self, weight, priority, most_weight,
                                      most_priority):
        bounds = limits.Limits(most_weight, most_priority)
        result, problems = limits.within(
            read(qos=f'0:weight={weight}', sched=f'0:rr:{priority}'), bounds)
        self.assertEqual((result, ()), limits.within(result, bounds))
        self.assertEqual((weight > bounds.max_weight)
                         + (priority > bounds.max_realtime_priority),
                         len(problems))


class MetadataTest(base.TestCase):

    def test_beyond_the_limits_nothing_is_obeyed(self):
        flavor = read(grant='template qos')
        for key, value in (('qos', '0:weight=201'), ('sched', '0:fifo:11')):
            intent = merge.merge(flavor, {f'kongming:{key}': value,
                                          'kongming:pin.0': '0:4'},
                                 limits=LOW)
            self.assertIs(flavor, intent.base)
            self.assertTrue(intent.beyond)
            self.assertIn('[kongming] max_', str(intent.refused[0]))

    def test_within(self):
        intent = merge.merge(read(grant='qos'),
                             {'kongming:qos': '0:weight=200'}, limits=LOW)
        self.assertEqual(200, intent.base.qos[0].weight)
        self.assertEqual(((), False), (intent.refused, intent.beyond))

    def test_what_is_refused_for_another_reason(self):
        intent = merge.merge(read(), {'kongming:qos': '0:weight=201'},
                             limits=LOW)
        self.assertFalse(intent.beyond)


NEVER = frozenset({1, 5, 6})


def host(taken=()):
    """pCPUs 0 and 1 shared, 2 to 7 dedicated; 1, 5 and 6 for no template."""
    return usage.HostState([usage.NodeState(
        0, frozenset(range(2, 8)), frozenset(taken), shared=frozenset({0, 1}),
        siblings=[{0, 1}, {2, 3}, {4, 5}, {6, 7}], memory_mib=4096,
        never=NEVER)])


def fitted(desired, dedicated=1, shared=0, **kwargs):
    cell = guest.Cell(frozenset(range(dedicated)),
                      frozenset(range(dedicated, dedicated + shared)), 64)
    return fit.fit(host(**kwargs), demand.Demand(
        guest.Guest((cell,)), desired), limits=usage.Limits())


class NeverTest(base.TestCase):

    def refused(self, words, *args, **kwargs):
        result = fitted(*args, **kwargs)
        self.assertFalse(result)
        self.assertIn(words, str(result))

    def test_is_not_owned(self):
        self.assertEqual({2, 3, 4}, set(fitted(
            read(node_0='0'), 3).cells[0].pins.values()))
        self.refused('5 dedicated pCPU(s) asked for, 4 of 4 free',
                     read(node_0='0'), 5)

    def test_named(self):
        for pin in ('0:5', '0:n0c2t1'):
            self.refused('cell 0: pCPU 5 is never given to a template on '
                         'this host ([kongming] never_pcpus)',
                         read(pin_0=pin))

    def test_is_not_floated_over(self):
        self.refused('pCPU 1 is never given', read(pin_0='1~0-1'), 1, 1)
        self.assertTrue(fitted(read(pin_0='1~0'), 1, 1))
        for key in ('emulator', 'iothread_1', 'profile_night_emulator'):
            self.refused('pCPU 1 is never given', read(**{key: '0-1'}))

    def test_nothing_left_to_float_over(self):
        node = usage.NodeState(0, frozenset({2}), shared=frozenset({1}),
                               memory_mib=64, never=NEVER)
        result = fit.fit(usage.HostState([node]), demand.Demand(guest.Guest((
            guest.Cell(frozenset(), frozenset({0}), 64),)), read(node_0='0')))
        self.assertIn('all of cpu_shared_set here is in', str(result))

    def test_thread_policy(self):
        cell = guest.Cell(frozenset({0, 1}), frozenset(), 64)
        result = fit.fit(host(), demand.Demand(
            guest.Guest((cell,), 'require'), read(node_0='0')))
        self.assertEqual({2, 3}, set(result.cells[0].pins.values()))

    @hypothesis.given(st.sets(st.integers(2, 7)), st.integers(1, 4))
    def test_whatever_is_free(self, taken, vcpus):
        result = fitted(read(node_0='0'), vcpus, taken=taken)
        if result:
            pcpus = set(result.cells[0].pins.values())
            self.assertFalse(pcpus & (NEVER | taken))
        else:
            self.assertLess(len({2, 3, 4, 7} - taken), vcpus)

    def test_threads_that_nova_would_let_float_there(self):
        default = threads.Threads(
            {0: frozenset({5}), 1: frozenset({0, 1})}, frozenset({0, 1, 5}),
            {1: frozenset({0, 1})})
        found, problems = threads.shape(
            default, host(), threads.Owned({0: 5}),
            merge.Intent(read(emulator='1,5')))
        # What it owns from before stays.
        self.assertEqual({0: {5}, 1: {0}}, found.vcpus)
        self.assertEqual((frozenset({0, 5}), {1: frozenset({0})}),
                         (found.emulator, found.iothreads))
        self.assertEqual(['emulator: pCPU 1 is never given to a template on '
                          'this host ([kongming] never_pcpus)'], problems)

    def test_is_not_borrowed(self):
        default = threads.Threads({0: frozenset({0})})
        found, _problems = threads.shape(
            default, host(), threads.Owned({}),
            merge.Intent(read(borrow='host')), frozenset({4, 5}))
        self.assertEqual({0: {0, 4}}, found.vcpus)

    def test_threads_that_have_nowhere_else(self):
        default = threads.Threads({0: frozenset({1})})
        self.assertEqual(
            (default, ['vCPU 0 has no other pCPU than those of [kongming] '
                       'never_pcpus']),
            threads.shape(default, host(), threads.Owned({}),
                          merge.Intent(read())))

    def test_live(self):
        """One that has such a pCPU gives it up; nobody gets it, not even as
        a free pCPU between.
        """
        cell = guest.Guest((guest.Cell(frozenset({0}), frozenset(), 64),))

        def resident(name, pcpu, desired):
            return rearrange.Resident(name, cell, read(pin_0=desired),
                                      {0: pcpu}, [0])

        plan = rearrange.plan(host(taken={5}), [resident('a', 5, '0:2')])
        self.assertEqual(['0:5->2'], list(map(str, plan.steps)))
        plan = rearrange.plan(host(taken={2}), [resident('a', 2, '0:5')])
        self.assertEqual((), plan.steps)
        self.assertIn('pCPU 5 is never given', plan.refused['a'])
        ring = [resident('a', 2, '0:3'), resident('b', 3, '0:2')]
        plan = rearrange.plan(host(taken={2, 3, 4, 7}), ring)
        self.assertEqual((), plan.steps)
        self.assertIn('no free one to start with', plan.refused['a'])

    def test_goes_on_to_what_is_made_of_a_node(self):
        node, = host(taken={2}).nodes
        for other in (node.holding({3}), node.emptied()):
            self.assertEqual((NEVER, set()),
                             (other.never, other.free & NEVER))
        self.assertEqual((frozenset({0}), NEVER),
                         (host().shared, host().never))


class RealTimeTest(base.TestCase):

    def test_only_on_pcpus_of_its_own(self):
        """Others would wait for it, whoever they are."""
        default = threads.Threads({0: frozenset({4}), 1: frozenset({0})})
        found, problems = threads.shape(
            default, host(), threads.Owned({0: 4}),
            merge.Intent(read(sched='0-1:fifo:1')))
        self.assertEqual({0: ('fifo', 1)}, found.sched)
        self.assertEqual(1, len(problems))
        self.assertIn('sched: vCPU 1 is not scheduled in real time',
                      problems[0])
