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
"""Classes of service: decided, and written to a stand-in of the kernel."""

import uuid

import fixtures
import hypothesis
from hypothesis import strategies as st

from kongming.kernel import resctrlfs
from kongming.resctrl import bitmask
from kongming.resctrl import schemata as schemata_mod
from kongming.template import cache_claims
from kongming.template import guest
from kongming.template import template
from kongming.template import tuning
from tests import base
from tests import resctrl as fake


def server(number):
    return str(uuid.UUID(int=number))


class Processes:
    """Processes of servers and their vCPUs' threads."""

    def __init__(self, test, kernel):
        self.kernel, self.found = kernel, {}
        for name in ('vcpu_threads', 'is_of'):
            test.useFixture(fixtures.MonkeyPatch(
                f'kongming.kernel.process.{name}', getattr(self, name)))

    def start(self, number, vcpus=8):
        """:returns: its pid"""
        pid = 1000 * number
        threads = {vcpu: pid + 1 + vcpu for vcpu in range(vcpus)}
        self.found[pid] = server(number), threads
        self.kernel.threads.update(dict.fromkeys(threads.values(), ''))
        return pid

    def vcpu_threads(self, pid):
        return self.found[pid][1]

    def is_of(self, pid, uuid):
        if pid not in self.found:
            raise ProcessLookupError
        return self.found[pid][0] == uuid


def wanted(number, pid, value, domains=(0,)):
    return tuple(
        resctrlfs.Wanted(
            schemata_mod.group_name(server(number), entry), entry.l3, entry.mb,
            domains, pid, tuple(vcpu for part in entry.vcpus
                                for vcpu in part.ids()))
        for entry in tuning.parse_cache(value))


class Base(base.TestCase):

    def kernel(self, aside=6, **kwargs):
        self.fs = fake.Kernel(**kwargs)
        self.fs.set_aside(aside)
        self.processes = Processes(self, self.fs)
        return self.fs

    def arrange(self, *entries, **kwargs):
        return resctrlfs.arrange(self.fs, resctrlfs.Host(
            tuple(each for some in entries for each in some), **kwargs))

    def look(self, *entries, **kwargs):
        return resctrlfs.look(self.fs, resctrlfs.Host(
            tuple(each for some in entries for each in some), **kwargs))

    def group(self, number, first=0):
        return f'kongming-{server(number)}-{first}'

    def schemata(self, number, first=0):
        return self.fs.groups[self.group(number, first)].schemata


class ArrangeTest(Base):

    def test_two_clos_of_a_server(self):
        self.kernel()
        mine = wanted(1, self.processes.start(1), '0-1,3:l3=20%,mb=55% '
                                                  '4:mb=5%')
        outcome = self.arrange(mine)
        self.assertEqual({}, outcome.refused)
        # 20 % of 11 ways are 2; where it does not run it is as everybody.
        self.assertEqual({'L3': {0: 0x3, 1: 0x7c0}, 'MB': {0: 50, 1: 50}},
                         self.schemata(1))
        # No less than what the host has as the least.
        self.assertEqual({'L3': {0: 0x7c0, 1: 0x7c0}, 'MB': {0: 10, 1: 10}},
                         self.schemata(1, 4))
        self.assertEqual({1001, 1002, 1004},
                         self.fs.tasks_of(self.group(1)))
        self.assertEqual({1005}, self.fs.tasks_of(self.group(1, 4)))
        self.assertIn((server(1), 'class of vCPU 0: L3:0=3;1=7c0 '
                                  'MB:0=50;1=50'), outcome.done)
        self.assertEqual((), self.arrange(mine).done)
        self.assertEqual((), self.look(mine).steps)

    def test_gone_and_left(self):
        self.kernel()
        entries = [wanted(number, self.processes.start(number), '0:l3=10%')
                   for number in (1, 2, 3)]
        self.arrange(*entries)
        self.arrange(entries[0], left=(server(2),))
        self.assertEqual({'', self.group(1), self.group(2)},
                         {*self.fs.groups})
        self.assertEqual({3001} & self.fs.tasks_of(''), {3001})

    def test_template_that_is_unset(self):
        """Of a server that has another class, and of one that has none."""
        self.kernel()
        pids = [self.processes.start(number) for number in (1, 2)]
        self.arrange(wanted(1, pids[0], '0-3:mb=20%'),
                     wanted(2, pids[1], '0:mb=20%'))
        self.arrange(wanted(1, pids[0], '0-1:mb=20%'), ungrouped=(
            (server(1), pids[0]), (server(2), pids[1])))
        self.assertEqual({1001, 1002}, self.fs.tasks_of(self.group(1)))
        self.assertNotIn(self.group(2), self.fs.groups)

    def test_put_back(self):
        fs = self.kernel()
        mine = wanted(1, self.processes.start(1), '0-1:l3=20%,mb=50%')
        self.arrange(mine)
        before = dict(self.schemata(1))
        fs.write(f'{self.group(1)}/schemata', 'L3:0=7ff\nMB:1=100\n')
        fs.write('tasks', '1001\n')
        self.assertEqual(2, len(self.arrange(mine).done))
        self.assertEqual(before, self.schemata(1))
        self.assertEqual({1001, 1002}, fs.tasks_of(self.group(1)))

    def test_others_are_left_alone(self):
        fs = self.kernel()
        fs.others('qemu-1-vm-vcpus_0', {77}, L3={0: 0x7})
        fs.others('kongming', {78})
        fs.others('kongming-not-a-server-0', {79}, L3={0: 0x7c0, 1: 0x7c0})
        fs.groups['kongming'].schemata['L3'] = {0: 0x7c0, 1: 0x7c0}
        before = {name: (dict(fs.groups[name].schemata), fs.tasks_of(name))
                  for name in fs.groups}
        del fs.written[:]
        self.arrange(wanted(1, self.processes.start(1), '0:l3=20%'))
        self.arrange()
        self.assertEqual(before, {
            name: (dict(group.schemata), fs.tasks_of(name) - {*range(
                1001, 1009)}) for name, group in fs.groups.items()})
        self.assertEqual({self.group(1)}, {
            path.split('/')[0] for _call, path, _text in fs.written})
        # Its ways were beside those of the other one.
        self.assertIn(('write', f'{self.group(1)}/schemata',
                       'L3:0=18;1=7c0\nMB:0=100;1=100\n'), fs.written)

    def test_closids_run_out(self):
        self.kernel(mb_closids=3)
        entries = [wanted(number, self.processes.start(number), '0:mb=20%')
                   for number in (3, 1, 2)]
        refused = self.arrange(*entries).refused
        self.assertEqual({self.group(2): 'all 2 class(es) of service that '
                                         'this host has for servers are '
                                         'taken'}, refused)
        # Whoever has one keeps it, whatever the order.
        self.assertEqual({self.group(2)},
                         {*self.arrange(*reversed(entries)).refused})
        self.assertEqual({}, self.arrange(*entries[1:]).refused)
        self.assertEqual({self.group(3)}, {
            *self.arrange(*entries, most=1).refused})

    def test_kernel_has_fewer_than_it_says(self):
        """RMIDs can run out as well, and others may come in between."""
        fs = self.kernel(mb_closids=3)
        fs.num_closids['MB'] = 8
        real, fs.make = fs.make, lambda name: (
            real(name) if len(fs.groups) < 2 else fs._fail(
                28, 'Out of RMIDs'))
        entries = [wanted(number, self.processes.start(number), '0:mb=20%')
                   for number in (1, 2)]
        refused = self.arrange(*entries).refused
        self.assertIn('No space left on device (Out of RMIDs); the host has '
                      'no class of service', refused[self.group(2)])
        self.assertEqual({1001}, fs.tasks_of(self.group(1)))

    def test_a_group_that_can_not_be_set_up_is_not_left(self):
        fs = self.kernel()
        entries = [wanted(number, self.processes.start(number), '0:l3=20%')
                   for number in (1, 2)]
        real = fs.write

        def write(path, text):
            if path == f'{self.group(1)}/schemata':
                fs._fail(22, 'Mask out of range')
            real(path, text)

        fs.write = write
        refused = self.arrange(*entries).refused
        self.assertIn('Invalid argument (Mask out of range)',
                      refused[self.group(1)])
        self.assertEqual({'', self.group(2)}, {*fs.groups})

    def test_ways_run_out(self):
        self.kernel(aside=4)
        entries = [wanted(number, self.processes.start(number), value)
                   for number, value in ((1, '0:l3=20%'), (2, '0:l3=20%'),
                                         (3, '0:l3=10% 1:mb=20%'))]
        refused = self.arrange(*entries).refused
        self.assertEqual([self.group(3)], [*refused])
        self.assertIn('the 1 ways of the L3 cache 0 that it is to have for '
                      'itself are not to be had in one row; 4 are set aside',
                      refused[self.group(3)])
        self.assertIn(self.group(3, 1), self.fs.groups)
        # It stays as it is where it can't have more.
        more = wanted(1, 1000, '0:l3=50%')
        refused = self.arrange(more, entries[1]).refused
        self.assertEqual([self.group(1)], [*refused])
        self.assertEqual(0x3, self.schemata(1)['L3'][0])

    def test_less_than_a_way(self):
        self.kernel(least=2)
        refused = self.arrange(wanted(1, self.processes.start(1),
                                      '0:l3=18%')).refused
        self.assertEqual('18% of the L3 cache are less than the 2 of 11 ways '
                         'that a class has at least on this host',
                         refused[self.group(1)])

    def test_moves_only_where_that_frees_ways(self):
        self.kernel()
        entries = {number: wanted(number, self.processes.start(number),
                                  '0:l3=20%') for number in (1, 2, 3)}
        self.arrange(*entries.values())
        self.arrange(entries[1], entries[3])
        self.assertEqual((0x3, 0x30), (self.schemata(1)['L3'][0],
                                       self.schemata(3)['L3'][0]))
        self.assertEqual({}, self.arrange(
            entries[1], entries[3],
            wanted(4, self.processes.start(4), '0:l3=10%')).refused)
        self.assertEqual((0x3, 0x30), (self.schemata(1)['L3'][0],
                                       self.schemata(3)['L3'][0]))
        # Two single ways are left, beside each other only after a move.
        self.arrange(entries[1], wanted(4, 4000, '0:l3=10%'))
        self.arrange(wanted(4, 4000, '0:l3=10%'),
                     wanted(5, self.processes.start(5), '0:l3=30%'))
        self.arrange(wanted(4, 4000, '0:l3=10%'), wanted(
            5, 5000, '0:l3=45%'))
        self.assertEqual((0x10, 0xf), (self.schemata(4)['L3'][0],
                                       self.schemata(5)['L3'][0]))

    def test_somebody_puts_a_group_over_it(self):
        fs = self.kernel()
        mine = wanted(1, self.processes.start(1), '0:l3=45%')
        self.arrange(mine)
        fs.others('monitoring')
        outcome = self.arrange(mine)
        self.assertEqual({self.group(1): 'monitoring'}, outcome.shared)
        self.assertEqual(((), {}), outcome[:2])
        self.assertEqual(0xf, self.schemata(1)['L3'][0])

    def test_crashed_after_it_was_made(self):
        """It has all ways, as a new group has."""
        fs = self.kernel()
        fs.make(self.group(1))
        fs.make(self.group(9))
        self.assertEqual({}, self.arrange(
            wanted(1, self.processes.start(1), '0:mb=20%'),
            wanted(2, self.processes.start(2), '0:l3=45%'),
            left=(server(9),)).refused)
        self.assertEqual(0x7c0, self.schemata(1)['L3'][0])
        self.assertEqual(0xf, self.schemata(2)['L3'][0])

    def test_code_and_data(self):
        """As many classes, the same ways for both."""
        self.kernel(cdp=True)
        self.arrange(wanted(1, self.processes.start(1), '0:l3=20%'))
        self.assertEqual((0x3, 0x3), tuple(
            self.schemata(1)[name][0] for name in ('L3CODE', 'L3DATA')))

    def test_units(self):
        for how, bandwidth, least, expected in (
                ('software', 80000, 10, 40000), ('amd', 204800, 0, 800)):
            self.kernel(mb=how, mb_least=least, mb_step=1)
            mine = wanted(1, self.processes.start(1), '0:mb=50%')
            self.assertEqual(
                'memory bandwidth can not be limited in per cent on this '
                'host', self.arrange(mine).refused[self.group(1)])
            self.assertEqual(
                {}, self.arrange(mine, memory_bandwidth=bandwidth).refused)
            self.assertEqual({0: expected, 1: expected},
                             self.schemata(1)['MB'])
            self.assertEqual((), self.look(
                mine, memory_bandwidth=bandwidth).steps)

    def test_one_of_the_two_only(self):
        for missing, value, words in (
                ({'ways': 0, 'shareable': 0}, '0:l3=20%', 'L3 cache'),
                ({'mb': None}, '0:mb=20%', 'memory bandwidth')):
            self.kernel(**missing)
            other = {'0:l3=20%': '1:mb=20%', '0:mb=20%': '1:l3=20%'}[value]
            pid = self.processes.start(1)
            refused = self.arrange(wanted(1, pid, value),
                                   wanted(1, pid, other)).refused
            self.assertEqual([self.group(1)], [*refused])
            self.assertIn(words, refused[self.group(1)])

    def test_it_only_watches(self):
        fs = self.kernel(ways=0, shareable=0, mb=None)
        fs.names = lambda folder='': ['L3_MON'] if folder else ['info']
        error = self.assertRaises(resctrlfs.exception.ResctrlError,
                                  self.arrange)
        self.assertIn('has no control of caches', str(error))

    def test_threads_that_are_gone(self):
        fs = self.kernel()
        mine = wanted(1, self.processes.start(1), '0-1:mb=20%')
        del fs.threads[1001]
        self.assertEqual({}, self.arrange(mine).refused)
        self.assertEqual({1002}, fs.tasks_of(self.group(1)))
        # A process that has the pid of one that has ended is no server's.
        self.processes.found[1000] = server(2), {0: 1002}
        self.assertEqual((), self.look(mine).steps)


shapes = st.fixed_dictionaries({
    'ways': st.integers(4, 20), 'least': st.integers(1, 2),
    'closids': st.integers(2, 16), 'cdp': st.booleans(),
    'mb_closids': st.integers(2, 8),
    'mb_least': st.sampled_from((1, 5, 10, 12)),
    'mb_step': st.sampled_from((1, 5, 10))})
entries = st.tuples(st.none() | st.integers(1, 60),
                    st.none() | st.integers(1, 100)).filter(any)


@st.composite
def rounds(draw):
    """Host, and what servers want one time after another."""
    shape = draw(shapes)
    ways = shape['ways']
    shape['shareable'] = draw(st.sampled_from((0, 3 << ways - 2)))
    aside = draw(st.integers(0, ways - 2))
    others = draw(st.lists(st.tuples(
        st.integers(0, ways - 2), st.integers(2, 4)), max_size=2))
    some = st.dictionaries(
        st.integers(1, 6), st.tuples(entries, st.sampled_from(
            ((0,), (1,), (0, 1)))), max_size=6)
    return shape, aside, others, draw(st.lists(some, min_size=1, max_size=4))


def _text(l3, mb):
    return '0-1:' + ','.join(f'{name}={value}%' for name, value in (
        ('l3', l3), ('mb', mb)) if value is not None)


class PropertyTest(Base):

    def start(self, shape, aside, others):
        fs = self.kernel(aside, **shape)
        for number, (low, length) in enumerate(others):
            if len(fs.groups) < min(fs.num_closids.values()):
                mask = (1 << length) - 1 << low & fs.full
                fs.others(f'other-{number}', **{
                    name: {0: mask, 1: fs.full & ~((1 << aside) - 1)}
                    for name in fs.caches})
        for number in range(1, 7):
            self.processes.start(number, 2)
        return fs

    @hypothesis.given(rounds())
    def test_whatever_is_asked_for(self, case):
        shape, aside, others, steps = case
        fs = self.start(shape, aside, others)
        foreign = {name: {resource: dict(values) for resource, values
                          in group.schemata.items()}
                   for name, group in fs.groups.items()}
        for asked in steps:
            all_ = [each for number, ((l3, mb), domains) in asked.items()
                    for each in wanted(number, 1000 * number, _text(l3, mb),
                                       domains)]
            before = {*fs.groups}
            outcome = self.arrange(all_)
            for name, found in foreign.items():
                self.assertEqual(found, fs.groups[name].schemata)
            # Nobody is left over, and nobody is told a thing that is so.
            self.assertLessEqual({*fs.groups} - {*foreign},
                                 {each.name for each in all_})
            self.assertEqual((), self.arrange(all_).done)
            taken = dict.fromkeys((0, 1), 0)
            for each in all_:
                if each.name not in outcome.refused:
                    self.check(fs, each, foreign, taken)
                else:
                    # It is as it was, or not there.
                    self.assertTrue(each.name in before
                                    or each.name not in fs.groups)

    def check(self, fs, each, foreign, taken):
        group = fs.groups[each.name].schemata
        pid = each.pid
        self.assertEqual({pid + 1, pid + 2}, fs.tasks_of(each.name))
        if each.mb is not None:
            for value in group['MB'].values():
                # At most what is asked for, or else the least there is.
                least = -(-fs.mb_least // fs.mb_step) * fs.mb_step
                self.assertLessEqual(value, max(each.mb, least))
                self.assertGreater(value, each.mb - fs.mb_step)
        for domain in fs.domains if fs.ways else ():
            masks = {group[name][domain] for name in fs.caches}
            mask, = masks
            if each.l3 is None or domain not in each.domains:
                self.assertEqual(foreign[''][fs.caches[0]][domain], mask)
                continue
            self.assertEqual(each.l3 * fs.ways // 100, mask.bit_count())
            for found in foreign.values():
                self.assertFalse(found[fs.caches[0]][domain] & mask)
            self.assertFalse(mask & (taken[domain] | fs.shareable))
            taken[domain] |= mask

    @hypothesis.given(rounds(), st.sampled_from((
        {0: (0,), 1: (1,)}, {0: (0, 1)}, {0: (0,), 1: (0,), 2: (1,)})),
        st.none() | st.integers(0, 5), st.data())
    def test_what_is_published_is_there(self, case, domains, most, data):
        """Placement counts what is published; then nobody is refused."""
        shape, aside, others, _steps = case
        fs = self.start(shape, aside, others)
        available = schemata_mod.capacities(resctrlfs.read(fs), domains, most)
        left = dict(available)
        number, all_ = 0, []
        while number < 6:
            number += 1
            node = data.draw(st.sampled_from(sorted(domains)))
            capacity = left[node]
            if not capacity.closids:
                continue
            l3 = None
            if capacity.l3 >= capacity.least:
                l3 = data.draw(
                    st.none() | st.integers(capacity.least, capacity.l3))
            mb = data.draw(st.integers(1, 100)) if capacity.mb else None
            if l3 is None and mb is None:
                continue
            left[node] = capacity._replace(closids=capacity.closids - 1,
                                           l3=capacity.l3 - (l3 or 0))
            all_ += wanted(number, 1000 * number, _text(l3, mb),
                           domains[node])
            # They come one after another, as servers do.
            self.assertEqual({}, self.arrange(all_, most=most).refused)
            # What is there for servers is the same with some there.
            self.assertEqual(available, schemata_mod.capacities(
                resctrlfs.read(fs), domains, most))

    @hypothesis.given(st.integers(0, 2 ** 20 - 1))
    def test_rows_of_bits(self, mask):
        found = 0
        last = -1
        for low, length in bitmask.runs(mask):
            self.assertGreater(low, last)
            found |= ((1 << length) - 1) << low
            last = low + length
        self.assertEqual(mask, found)


class CapacitiesTest(Base):

    def capacities(self, domains, most=None, **kwargs):
        return schemata_mod.capacities(
            resctrlfs.read(self.kernel(**kwargs)), domains, most)

    def test_two_nodes(self):
        # 7 groups beside the default one; 6 of 11 ways.
        self.assertEqual({0: (4, 54, 10, True), 1: (3, 54, 10, True)},
                         self.capacities({0: {0}, 1: {1}}))
        self.assertEqual({0: (1, 54, 10, True), 1: (0, 0, 1, False)},
                         self.capacities({0: {0}, 1: {1}}, most=1))

    def test_nodes_that_share_a_cache(self):
        self.assertEqual({0: (4, 27, 10, True), 1: (3, 27, 10, True)},
                         self.capacities({0: {0}, 1: {0}}))

    def test_nothing_set_aside(self):
        self.assertEqual({0: (7, 0, 1, True)},
                         self.capacities({0: {0}}, aside=0))

    def test_bandwidth_in_other_units(self):
        self.assertEqual({0: (7, 54, 10, False)},
                         self.capacities({0: {0}}, mb='software'))

    def test_others_have_some(self):
        fs = self.kernel()
        fs.others('qemu-1-vm-vcpus_0', L3={0: 0x6, 1: 0x7c0})
        fs.make(self.group(1))
        self.assertEqual(
            {0: (3, 27, 10, True), 1: (3, 54, 10, True)},
            schemata_mod.capacities(resctrlfs.read(fs), {0: {0}, 1: {1}}))

    def test_a_cache_that_is_offline(self):
        self.assertEqual(0, self.capacities({0: {0}, 1: {7}})[1].l3)


class ClaimsTest(base.TestCase):

    def test_the_most_of_any_profile(self):
        cells = (guest.Cell(frozenset({0, 1}), frozenset(), 64),
                 guest.Cell(frozenset({2, 3}), frozenset(), 64))
        desired = template.decode({
            'kongming:cache': '0,2:l3=20% 1:mb=10%',
            'kongming:profile.day.cache': '0:l3=40%',
            'kongming:profile.night.cache': '2:l3=5% 3:l3=30%'})
        self.assertEqual(
            {0: (2, 40, True), 1: (2, 35, False)},
            cache_claims.claims(desired, guest.Guest(cells)))
        self.assertEqual({}, cache_claims.claims(template.Template(),
                                                 guest.Guest(cells)))


class FormatTest(base.TestCase):

    def test_schemata(self):
        text = ('    L3:0=7ff;1=1f\n    MB:0= 100;1=  20\n'
                '  SMBA:0=2048\n')
        found = schemata_mod.parse_schemata(text)
        self.assertEqual({'L3': {0: 0x7ff, 1: 0x1f}, 'MB': {0: 100, 1: 20},
                          'SMBA': {0: 2048}}, found)
        self.assertEqual('L3:0=7ff;1=1f', schemata_mod.format_line(
            'L3', found['L3']))
        self.assertEqual('MB:0=100;1=20', schemata_mod.format_line(
            'MB', found['MB']))
        self.assertEqual({}, schemata_mod.parse_schemata('L3:uninitialized\n'))

    def test_names(self):
        name = schemata_mod.group_name(server(1), tuning.parse_cache(
            '5,2-3:mb=1%')[0])
        self.assertEqual(f'kongming-{server(1)}-2', name)
        self.assertEqual(server(1), schemata_mod.server_of(name))
        for name in ('', 'kongming', 'kongming-x-1', 'info',
                     f'kongming-{server(1)}', f'kongming-{server(1)}-0x',
                     f'x-kongming-{server(1)}-0'):
            self.assertIsNone(schemata_mod.server_of(name))


class FilesTest(base.TestCase):
    """The calls, on a plain folder."""

    def setUp(self):
        super().setUp()
        self.root = self.useFixture(fixtures.TempDir())
        self.files = resctrlfs.Files(resctrlfs.pathlib.Path(self.root.path))

    def test_calls(self):
        self.assertFalse(self.files.is_here())
        for name in ('info', 'b', 'a'):
            self.files.make(name)
        (self.files.root / 'tasks').write_text('')
        self.assertTrue(self.files.is_here())
        self.assertEqual(['a', 'b', 'info'], self.files.names())
        self.files.write('tasks', '5\n')
        self.assertEqual('5\n', self.files.read('tasks'))
        self.assertRaises(FileNotFoundError, self.files.write, 'x', '5\n')
        self.files.remove('b')
        self.assertEqual(['a', 'info'], self.files.names())
        self.assertEqual('', self.files.options())

    def test_lock(self):
        self.useFixture(fixtures.MonkeyPatch(
            'kongming.kernel.resctrlfs._PATIENCE', 0.05))
        other = resctrlfs.Files(self.files.root)
        with self.files.locked(to_write=False):
            with other.locked(to_write=False):
                pass
            with self.assertRaisesRegex(resctrlfs.exception.ResctrlError,
                                        'is locked by another program'):
                with other.locked(to_write=True):
                    pass
        with other.locked(to_write=True):
            pass

    def test_where_the_caches_are(self):
        for path, text in (
                ('cpu0/cache/index2/level', '2'),
                ('cpu0/cache/index2/id', '9'),
                ('cpu0/cache/index3/level', '3'),
                ('cpu0/cache/index3/id', '1'), ('cpu12/cache/index3/level',
                                                '3'),
                ('cpu12/cache/index3/id', '0'), ('cpu3/online', '0'),
                ('cpufreq/policy0', '')):
            file = self.files.root / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        self.assertEqual({0: 1, 12: 0}, resctrlfs.l3_of(self.files.root))
        self.assertEqual(
            {0: {1}, 1: {0}},
            schemata_mod.caches({0: {0, 3}, 1: {12}},
                                resctrlfs.l3_of(self.files.root)))
