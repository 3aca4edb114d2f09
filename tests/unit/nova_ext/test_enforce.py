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

"""Lent pCPUs, by random hosts, moments and faults.

Nova's objects are real; libvirt is a table of threads, checked after each
write.  tests.functional.test_profile has the real services.
"""

import datetime
import os
import random
import threading
from unittest import mock

import fixtures
from nova import objects
import oslo_messaging

from kongming.host import usage
from kongming.live import rearrange
from kongming.live import threads
from kongming.load import decision
from nova_ext.live import changes
from nova_ext.live import enforce
from nova_ext.live import intents
from nova_ext.live import jobs
from nova_ext.live import reconciler
from nova_ext.ownership import ownership
from tests import base

objects.register_all()
DAY = datetime.datetime(2026, 11, 24, 12, tzinfo=datetime.UTC)
#: How many hosts; more by KONGMING_TEST_HOSTS.
SEEDS = int(os.environ.get('KONGMING_TEST_HOSTS', '60'))
SHARED = frozenset({0, 1, 8, 9})
HOST = usage.HostState([
    usage.NodeState(n, frozenset(range(8 * n + 2, 8 * n + 8)),
                    shared=frozenset({8 * n, 8 * n + 1})) for n in (0, 1)])


class Refused(Exception):
    """What a libvirt says that is not well."""


class Steps:
    """The threads of a host's domains."""

    def __init__(self, test, rng):
        self.test, self.rng = test, rng
        #: server -> its threads
        self.now = {}
        #: those whose threads the kernel has found freed
        self.freed = set()
        self.owners = {}
        self.refusing = 0.0
        self.writes = 0
        #: (pCPU, who owns it and runs there, who does as well)
        self.violations = []

    def layout(self):
        return HOST

    def own(self, server):
        self.owners = {pcpu: uuid for pcpu, uuid in self.owners.items()
                       if uuid != server.uuid}
        self.owners.update(dict.fromkeys(
            ownership.Ownership(server.numa_topology).owned.pcpus,
            server.uuid))

    def default(self, topology):
        owned = ownership.Ownership(topology).owned
        floats = {vcpu: HOST.node(cell.id).shared for cell in topology.cells
                  for vcpu in cell.cpuset}
        return threads.Threads(
            {**floats, **{v: frozenset({p}) for v, p in owned.pins.items()}},
            owned.pcpus or SHARED)

    def define(self, server):
        """As Nova does, without a thought of profiles."""
        self.now[server.uuid] = self.default(server.numa_topology)
        self.check()

    def wanted(self, server, topology, intent, lent=frozenset()):
        return threads.shape(self.default(topology), HOST,
                             ownership.Ownership(topology).owned, intent, lent)

    def dedicated(self):
        return frozenset().union(*(node.dedicated for node in HOST.nodes))

    def domain(self, server):
        return self.now.get(server.uuid)

    def pcpus(self, server):
        found = self.now.get(server.uuid)
        return found.pcpus if found else frozenset()

    def powered(self, pcpus):
        return pcpus

    def power_down(self, server, topology, intent):
        pass

    def differences(self, server, topology, intent, lent=frozenset(),
                    act=False):
        if server.uuid not in self.now:
            return []
        return threads.changes(self.now[server.uuid], self.wanted(
            server, topology, intent, lent)[0])

    def run_on(self, server, topology, intent, lent=frozenset(),
               before_each=lambda: None):
        if server.uuid not in self.now:
            return
        if self.rng.random() < self.refusing:
            raise Refused()
        self.writes += 1
        self.now[server.uuid] = self.wanted(
            server, topology, intent, lent)[0]
        self.check()

    def move_off(self, server, pcpus, otherwise):
        now = self.now[server.uuid]
        self.now[server.uuid] = threads.Threads(
            {vcpu: allowed - pcpus or otherwise - pcpus
             for vcpu, allowed in now.vcpus.items()},
            now.emulator - pcpus or otherwise - pcpus)

    def check(self):
        """Nobody is where an owner runs, nor where nobody lends."""
        for uuid, running in self.now.items():
            for pcpu in running.pcpus - SHARED:
                owner = self.owners.get(pcpu)
                if owner not in (None, uuid) and owner in self.now and (
                        pcpu in self.now[owner].pcpus):
                    self.violations.append((pcpu, owner, uuid))


def make(rng, number, pcpus):
    specs = {}
    if pcpus:
        specs = {'kongming:profile.calm.when': 'use<15%',
                 'kongming:profile.calm.pin.0': f'0-{len(pcpus) - 1}~0',
                 'kongming:profile.calm.lend': 'true',
                 'kongming:profile.night.when': '22:00-06:00',
                 'kongming:profile.night.pin.0':
                     f'0-{len(pcpus) - 1}~v0-{rng.randrange(len(pcpus))}',
                 'kongming:profile.night.lend': rng.choice(['true', 'false']),
                 'kongming:profile.idle.pin.0': f'0-{len(pcpus) - 1}~0',
                 'kongming:profile.idle.lend': 'true',
                 'kongming:grant': 'profile'}
        node = pcpus[0] // 8
        cell = objects.InstanceNUMACell(
            id=node, cpuset=set(), pcpuset=set(range(len(pcpus))),
            cpu_pinning=dict(enumerate(pcpus)), cpuset_reserved=None,
            memory=64, cpu_policy='dedicated')
    else:
        specs = {'kongming:borrow': rng.choice(['node', 'host'])}
        cell = objects.InstanceNUMACell(
            id=rng.randrange(2), cpuset={0, 1}, pcpuset=set(),
            cpu_pinning=None, cpuset_reserved=None, memory=64,
            cpu_policy='shared')
    return objects.Instance(
        uuid=f'00000000-0000-4000-8000-{number:012}',
        flavor=objects.Flavor(extra_specs=specs), metadata={},
        numa_topology=objects.InstanceNUMATopology(cells=[cell]))


class Hanging(Steps):
    """Whose libvirt hangs while threads of a borrower are pinned.

    :ivar hangs: while it is cleared libvirt answers nothing
    :ivar calls: how often it was asked
    """

    def __init__(self, test):
        super().__init__(test, random.Random(1))
        self.hangs = threading.Event()
        self.hangs.set()
        self.calls = 0

    def run_on(self, server, topology, intent, lent=frozenset(),
               before_each=lambda: None):
        wanted = self.wanted(server, topology, intent, lent)[0]
        for vcpu, pcpus in wanted.vcpus.items():
            before_each()
            if not ownership.Ownership(topology).pins:
                self.calls += 1
                self.hangs.wait(30)
            now = self.now[server.uuid]
            self.now[server.uuid] = threads.Threads(
                {**now.vcpus, vcpu: pcpus}, wanted.emulator)


class LateBase(base.TestCase):

    def setUp(self):
        super().setUp()
        self.useFixture(fixtures.MockPatch(
            'nova_ext.live.jobs.PATIENCE', 0.5))
        self.useFixture(fixtures.MockPatch(
            'nova_ext.live.enforce.now', lambda: DAY))
        self.steps = Hanging(self)
        self.lender, self.borrower = (
            make(random.Random(1), number, pcpus)
            for number, pcpus in enumerate(([2, 3, 4, 5], [])))
        self.lender.metadata = {'kongming:profile': 'idle'}
        self.borrower.flavor.extra_specs['kongming:borrow'] = 'host'
        for server in self.lender, self.borrower:
            self.steps.own(server)
            self.steps.define(server)
        self.jobs = jobs.Jobs(lambda job: self.enforcer.job_ended(
            job.servers))
        self.enforcer = enforce.Enforcer(self.steps, self.jobs)
        self.addCleanup(self.steps.hangs.set)

    def run_pass(self):
        servers = [self.lender, self.borrower]
        self.enforcer.begin()
        self.enforcer.first(servers)
        return self.enforcer.enforce(
            {server.uuid: server for server in servers}, {})

    @property
    def borrowed(self):
        return self.steps.now[self.borrower.uuid].pcpus - SHARED


class LateTest(LateBase):
    """libvirt pins a borrower's thread when its pCPU was reclaimed."""

    def hang(self):
        """A pass in which the borrower is pinned and libvirt hangs."""
        # Nobody lends before the owner has left.
        self.run_pass()
        self.assertEqual({2, 3, 4, 5}, self.borrowed)
        self.enforcer.reclaim(frozenset({2, 3, 4, 5}), list)
        self.assertEqual(set(), self.borrowed)
        self.steps.hangs.clear()
        self.steps.calls = 0
        self.run_pass()
        self.assertEqual({self.borrower.uuid}, self.jobs.servers)
        self.assertEqual(1, self.steps.calls)

    def test_it_is_nowhere_else_when_libvirt_goes_on(self):
        self.hang()
        # A native server starts there by now.
        pcpus = frozenset({2, 3, 4, 5})
        self.assertEqual(pcpus, self.enforcer.reclaim(pcpus, list))
        self.enforcer.evict(pcpus)
        seen = []
        real, job_ended = self.steps.move_off, self.enforcer.job_ended

        def moved(server, *args):
            # By libvirt's late answer.
            seen.append(self.borrowed)
            real(server, *args)
            # Where it has hung once it may hang again.
            self.steps.hangs.clear()

        self.useFixture(fixtures.MockPatchObject(
            self.steps, 'move_off', moved))
        self.useFixture(fixtures.MockPatchObject(
            self.enforcer, 'job_ended', lambda servers: (
                seen.append(self.borrowed), job_ended(servers))))
        job = self.jobs.of(self.borrower.uuid)
        self.steps.hangs.set()
        job.wait(20)
        # One thread was put there, no other one, and the kernel was told
        # before anything else was done.
        self.assertEqual([{2, 3, 4, 5}, set()], seen)
        self.assertEqual(set(), self.borrowed)

    def test_what_is_lent_still_is_left_alone(self):
        self.hang()
        job = self.jobs.of(self.borrower.uuid)
        self.useFixture(fixtures.MockPatchObject(
            self.steps, 'move_off', self.fail))
        self.steps.hangs.set()
        job.wait(20)
        self.assertEqual({2, 3, 4, 5}, self.borrowed)


class ByLoadTest(base.TestCase):
    """Whose profile by load has ended gets back what it owns, or it is said.
    """

    def test_a_borrower_stays(self):
        log = self.useFixture(fixtures.FakeLogger())
        self.useFixture(fixtures.MockPatch(
            'nova_ext.live.enforce.now', lambda: DAY))
        steps = Steps(self, random.Random(1))
        server = make(random.Random(1), 0, [2, 3, 4, 5])
        steps.own(server)
        steps.define(server)
        enforcer = enforce.Enforcer(steps, jobs.Jobs())
        server.metadata = {'kongming:profile': 'idle'}
        enforcer.enforce({server.uuid: server}, {})
        idle = steps.now[server.uuid]
        server.metadata = {}
        steps.refusing = 1.0
        enforcer.switch_by_load({server.uuid}, set())
        self.assertIn('It has not all that it owns back yet', log.output)
        self.assertEqual(idle, steps.now[server.uuid])
        steps.refusing = 0.0
        enforcer.switch_by_load({server.uuid}, set())
        self.assertEqual({2, 3, 4, 5}, steps.now[server.uuid].pcpus)

    def test_an_owner_starts_meanwhile(self):
        """What is known of it may be so no more; the others go on."""
        self.useFixture(fixtures.MockPatch(
            'nova_ext.live.enforce.now', lambda: DAY))
        steps = Steps(self, random.Random(1))
        servers = {server.uuid: server for server in (
            make(random.Random(1), number, pcpus)
            for number, pcpus in enumerate(([2, 3], [4, 5], [6, 7])))}
        for server in servers.values():
            steps.own(server)
            steps.define(server)
            server.metadata = {'kongming:profile': 'idle'}
        enforcer = enforce.Enforcer(steps, jobs.Jobs())
        enforcer.first(list(servers.values()))
        enforcer.enforce(dict(servers), {})
        for server in servers.values():
            server.metadata = {}
        looked = []
        of = enforcer.intents.of

        def look(server, moment):
            # Nova defines the domains of the two others.
            if not looked:
                looked.append(server.uuid)
                for other in servers.values():
                    if other is not server:
                        enforcer.reclaim(ownership.Ownership(
                            other.numa_topology).owned.pcpus, list)
            return of(server, moment)

        self.useFixture(fixtures.MockPatchObject(
            enforcer.intents, 'of', look))
        enforcer.switch_by_load(set(servers), set())
        mine = servers[looked[0]]
        self.assertEqual(
            ownership.Ownership(mine.numa_topology).owned.pcpus,
            steps.now[mine.uuid].pcpus)

    def test_before_it_is_known_who_borrows(self):
        """Those who have borrowed before nova-compute started leave first.

        Nobody lends that any more.
        """
        steps = Steps(self, random.Random(1))
        server = make(random.Random(1), 0, [])
        steps.own(server)
        steps.define(server)
        enforcer = enforce.Enforcer(steps, jobs.Jobs())
        for ending, others in (({'x'}, set()), (set(), {'x'})):
            enforcer.switch_by_load(ending, others)
        steps.now[server.uuid] = threads.Threads(
            {0: frozenset({2}), 1: frozenset({2})}, SHARED)
        enforcer.begin()
        enforcer.first([server])
        self.assertEqual({2}, enforcer.lent)
        enforcer.enforce({server.uuid: server}, {})
        self.assertLessEqual(steps.now[server.uuid].pcpus, SHARED)
        self.assertEqual(set(), enforcer.lent)


class NeighboursBase(base.TestCase):
    """Two owners that may lend, and a borrower."""

    def setUp(self):
        super().setUp()
        self.useFixture(fixtures.MockPatch(
            'nova_ext.live.enforce.now', lambda: DAY))
        self.steps = Steps(self, random.Random(1))
        self.one, self.other, self.borrower = (
            make(random.Random(1), number, pcpus)
            for number, pcpus in enumerate(([2, 3], [4, 5], [])))
        self.borrower.flavor.extra_specs['kongming:borrow'] = 'host'
        self.servers = {each.uuid: each for each in (
            self.one, self.other, self.borrower)}
        for server in self.servers.values():
            self.steps.own(server)
            self.steps.define(server)


class LeftAloneTest(NeighboursBase):
    """A borrower that is busy retains what it has borrowed."""

    def test_it_gets_no_more(self):
        steps, servers = self.steps, self.servers
        one, other, borrower = servers.values()
        enforcer = enforce.Enforcer(steps, jobs.Jobs())
        enforcer.first(list(servers.values()))
        one.metadata = {'kongming:profile': 'idle'}
        enforcer.enforce(dict(servers), {})
        self.assertEqual({2, 3}, steps.now[borrower.uuid].pcpus - SHARED)
        # It is busy when another one lends, and when the first one returns.
        other.metadata = {'kongming:profile': 'idle'}
        enforcer.enforce({each.uuid: each for each in (one, other)}, {})
        one.metadata = {}
        enforcer.switch_by_load({one.uuid}, set())
        self.assertEqual(set(), steps.now[borrower.uuid].pcpus - SHARED)
        other.metadata = {}
        enforcer.switch_by_load({other.uuid}, set())
        self.assertEqual([], steps.violations)


class RestartTest(NeighboursBase):
    """nova-compute is restarted while a server borrows."""

    def setUp(self):
        super().setUp()
        self.one.metadata = {'kongming:profile': 'idle'}
        self.run_pass()
        self.assertEqual({2, 3}, self.borrowed)
        self.seen = []
        real = self.steps.run_on

        def run_on(server, *args):
            real(server, *args)
            self.seen.append(self.borrowed)

        self.useFixture(fixtures.MockPatchObject(
            self.steps, 'run_on', run_on))

    @property
    def borrowed(self):
        return self.steps.now[self.borrower.uuid].pcpus - SHARED

    def run_pass(self):
        enforcer = enforce.Enforcer(self.steps, jobs.Jobs())
        enforcer.begin()
        enforcer.first(list(self.servers.values()))
        enforcer.enforce(dict(self.servers), {})
        return enforcer

    def test_a_borrower_stays(self):
        enforcer = self.run_pass()
        self.assertEqual([{2, 3}], self.seen)
        self.assertEqual({2, 3}, enforcer.lent)

    def test_what_is_lent_no_more_is_left_before_its_owner_comes(self):
        self.one.metadata = {}
        self.other.metadata = {'kongming:profile': 'idle'}
        self.run_pass()
        self.assertEqual([], self.steps.violations)
        self.assertEqual([{2, 3}, set()], self.seen[:2])
        self.assertEqual({4, 5}, self.borrowed)

    def test_an_owner_is_where_it_lends(self):
        """As Nova's own driver has defined it meanwhile."""
        self.steps.now[self.one.uuid] = self.steps.default(
            self.one.numa_topology)
        enforcer = enforce.Enforcer(self.steps, jobs.Jobs())
        enforcer.begin()
        enforcer.first(list(self.servers.values()))
        self.assertEqual([set()], self.seen)
        enforcer.enforce(dict(self.servers), {})
        self.assertEqual([], self.steps.violations)
        self.assertEqual({2, 3}, self.borrowed)

    def test_an_owner_can_not_be_asked(self):
        real = self.steps.pcpus

        def pcpus(server):
            if server is self.one:
                raise Refused()
            return real(server)

        enforcer = enforce.Enforcer(self.steps, jobs.Jobs())
        with mock.patch.object(self.steps, 'pcpus', pcpus):
            enforcer.first(list(self.servers.values()))
        self.assertEqual([set()], self.seen)
        self.assertEqual(set(), enforcer.lent)

    def test_an_owner_starts_before_the_first_pass(self):
        """Only what it is about to run on is left."""
        self.other.metadata = {'kongming:profile': 'idle'}
        self.run_pass()
        self.assertEqual({2, 3, 4, 5}, self.borrowed)
        self.seen.clear()
        enforcer = enforce.Enforcer(self.steps, jobs.Jobs())
        self.assertEqual(frozenset(), enforcer.reclaim(
            frozenset({4, 5}), lambda: list(self.servers.values())))
        self.assertEqual([{2, 3, 4, 5}, {2, 3}], self.seen)


class StartsTest(NeighboursBase):
    """A lender starts while nobody borrows what it lends."""

    def test_a_borrower_comes_afterwards(self):
        steps, servers = self.steps, self.servers
        lender, _other, borrower = servers.values()
        lender.metadata = {'kongming:profile': 'idle'}
        enforcer = enforce.Enforcer(steps, jobs.Jobs())
        enforcer.first(list(servers.values()))
        enforcer.enforce(dict(servers), {})
        self.assertEqual({2, 3}, steps.now[borrower.uuid].pcpus - SHARED)
        # The borrower has stopped when a pass looks.
        del steps.now[borrower.uuid]
        enforcer.enforce({lender.uuid: lender}, {})
        self.assertEqual(frozenset(), enforcer.reclaim(
            frozenset({2, 3}), list))
        steps.define(lender)
        steps.define(borrower)
        enforcer.begin()
        enforcer.enforce({each.uuid: each for each in (borrower, lender)}, {})
        self.assertEqual([], steps.violations)
        self.assertEqual({2, 3}, steps.now[borrower.uuid].pcpus - SHARED)


class SavedTest(LateBase):
    """A borrower that is about to be saved or migrated."""

    def test_it_borrows_nothing_more(self):
        for _ in range(2):
            self.run_pass()
        self.assertEqual({2, 3, 4, 5}, self.borrowed)
        self.enforcer.own_only(self.borrower, list)
        self.assertEqual(set(), self.borrowed)
        # A pass begins, and a profile switches before Nova has told it.
        self.enforcer.begin()
        self.enforcer.switch_by_load(set(), {self.lender.uuid})
        self.assertEqual(set(), self.borrowed)


class MeanwhileTest(NeighboursBase):
    """An owner starts while profiles switch by what was known before."""

    def test_a_pass_begins_as_well(self):
        steps, servers = self.steps, self.servers
        lender, other, borrower = servers.values()
        lender.metadata = {'kongming:profile': 'idle'}
        found = reconciler.Reconciler(mock.Mock())
        enforcer = found._enforcer = enforce.Enforcer(steps, found.jobs)
        self.useFixture(fixtures.MockPatchObject(
            found.mode, '_fits', True))
        enforcer.begin()
        enforcer.first(list(servers.values()))
        enforcer.enforce(dict(servers), {})
        self.assertEqual({2, 3}, enforcer.lent)
        # The other one's profile begins; libvirt takes its time for it.
        other.metadata = {'kongming:profile': 'idle'}
        at_it, go_on = threading.Event(), threading.Event()
        self.addCleanup(go_on.set)
        run_on = steps.run_on

        def slow(server, *args, **kwargs):
            if server is other:
                at_it.set()
                go_on.wait(20)
            run_on(server, *args, **kwargs)

        self.useFixture(fixtures.MockPatchObject(steps, 'run_on', slow))
        self.useFixture(fixtures.MockPatch(
            'nova_ext.live.jobs.PATIENCE', 20))
        switch = threading.Thread(target=found._switch_by_load,
                                  args=(set(), {other.uuid}))
        switch.start()
        self.assertTrue(at_it.wait(20))
        # Nova starts the lender.
        self.assertEqual(frozenset(), enforcer.reclaim(
            frozenset({2, 3}), list))
        steps.define(lender)
        listing = threading.Event()

        def read(*_args):
            listing.set()
            raise RuntimeError('Nova is away')

        self.useFixture(fixtures.MockPatchObject(
            found._server_list, 'read', read))
        raised = []

        def make_pass():
            try:
                found._pass(None, mock.MagicMock(), 'host', set(), set())
            except Exception as exc:
                raised.append(str(exc))

        a_pass = threading.Thread(target=make_pass)
        a_pass.start()
        listing.wait(.5)
        go_on.set()
        for thread in switch, a_pass:
            thread.join(20)
        self.assertEqual(['Nova is away'], raised)
        self.assertEqual([], steps.violations)
        self.assertEqual({4, 5}, enforcer.lent)


class WakeTest(base.TestCase):

    def test_a_pass_follows_what_has_failed(self):
        """An owner whose load has ended a profile is not forgotten."""
        driver = mock.Mock()
        found = reconciler.Reconciler(driver)
        self.useFixture(fixtures.MockPatchObject(
            found._enforcer, 'switch_by_load', side_effect=Refused))
        self.assertRaises(Refused, found._switch_by_load, {'x'}, set())
        driver.wake.assert_called_once_with()


class LastOneTest(base.TestCase):
    """The last server with a template has left its host."""

    def test_what_was_changed_is_recorded_all_the_same(self):
        found = reconciler.Reconciler(mock.Mock())
        change = mock.Mock(**{'end.side_effect': [
            oslo_messaging.MessagingTimeout(), None]})
        found._records.end(change)
        found._records.flush()
        found.present.listed([])
        self.assertTrue(found.has_work)
        found.run()
        self.assertEqual(2, change.end.call_count)
        self.assertFalse(found.has_work)


class AlarmTest(base.TestCase):

    def test_nobody_sets_it_to_what_was_before(self):
        """Two find out at once when a profile begins next."""
        found = reconciler.Reconciler(mock.Mock())
        later, sooner = (DAY + datetime.timedelta(minutes=minutes)
                         for minutes in (20, 10))
        rings, slow, go_on = [], threading.Event(), threading.Event()
        self.addCleanup(go_on.set)

        def ring(moment):
            if moment == later:
                slow.set()
                go_on.wait(20)
            rings.append(moment)

        def switch(*_args):
            found._enforcer.next_change = sooner

        self.useFixture(fixtures.MockPatchObject(found._alarm, 'set', ring))
        self.useFixture(fixtures.MockPatchObject(
            found._enforcer, 'switch_by_load', switch))
        found._enforcer.next_change = later
        self.useFixture(fixtures.MockPatch(
            'nova_ext.live.enforce.now', lambda: DAY))
        one = threading.Thread(target=found.switch)
        other = threading.Thread(target=found._switch_by_load,
                                 args=(set(), {'x'}))
        one.start()
        self.assertTrue(slow.wait(20))
        other.start()
        other.join(.5)
        go_on.set()
        for thread in one, other:
            thread.join(20)
        self.assertEqual([later, sooner], rings)


class RandomTest(base.TestCase):

    def host(self, seed):
        rng = random.Random(seed)
        steps = Steps(self, rng)
        servers = {}
        for node in (0, 1):
            free = list(range(8 * node + 2, 8 * node + 8))
            while free:
                count = min(len(free), rng.randint(1, 4))
                mine, free = free[:count], free[count:]
                if rng.random() < 0.8:
                    server = make(rng, len(servers), mine)
                    servers[server.uuid] = server
        for _ in range(rng.randint(1, 3)):
            server = make(rng, len(servers), [])
            servers[server.uuid] = server
        for server in servers.values():
            steps.own(server)
            steps.define(server)
        return rng, steps, servers

    def play(self, seed):
        rng, steps, servers = self.host(seed)
        self.calm = set()
        enforcer = self.enforcer(steps)
        for _ in range(30):
            self.moment = DAY + datetime.timedelta(
                minutes=rng.randrange(24 * 60))
            steps.refusing = rng.choice([0, 0, 0.3])
            server = servers[rng.choice(sorted(servers))]
            what = rng.randrange(8)
            if what == 0 and ownership.Ownership(server.numa_topology).pins:
                server.metadata = rng.choice([
                    {}, {'kongming:profile': 'idle'},
                    {'kongming:profile': 'night'}])
            elif what == 1:
                # Nova defines it anew, in the middle of anything.
                mine = ownership.Ownership(server.numa_topology).owned
                still_used = enforcer.reclaim(mine.pcpus, servers.values)
                if still_used:
                    self.refused += 1
                    steps.refusing = 0
                    self.evict(enforcer, steps, still_used)
                steps.define(server)
            elif what == 2:
                enforcer.switch()
            elif what == 3:
                # nova-compute starts anew, and knows of no load.
                for change in list(self.changes):
                    self.end_change(steps, change)
                self.calm.clear()
                enforcer = self.enforcer(steps)
            elif what == 4:
                self.load_changes(rng, enforcer, servers)
            for change in list(self.changes):
                if rng.random() < 0.3:
                    self.end_change(steps, change)
            left_alone = {uuid for uuid in sorted(enforcer._jobs.servers)
                          if rng.random() < 0.9}
            idle = {uuid: each for uuid, each in servers.items()
                    if rng.random() < 0.9}
            enforcer.begin()
            enforcer.first(servers.values())
            wanted, _failed = enforcer.enforce(idle, {}, left_alone)
            if what == 5 and server.uuid in wanted:
                self.begin_change(rng, enforcer, steps, server,
                                  wanted[server.uuid])
        self.assertEqual([], steps.violations)
        for change in list(self.changes):
            self.end_change(steps, change)
        steps.refusing = 0
        for _ in range(2):
            enforcer.begin()
            enforcer.first(servers.values())
            _intents, failed = enforcer.enforce(dict(servers), {})
        self.assertEqual({}, failed)
        # All is well in the end, and then nothing is written any more.
        writes = steps.writes
        enforcer.enforce(dict(servers), {})
        self.assertEqual(writes, steps.writes)
        lent = frozenset().union(*(
            threads.lends(steps.now[uuid],
                          ownership.Ownership(each.numa_topology).owned,
                          enforcer._look(each, self.moment).intent)
            for uuid, each in servers.items()))
        for uuid, each in servers.items():
            if each.flavor.extra_specs.get('kongming:borrow') == 'host':
                self.assertEqual(lent, steps.now[uuid].vcpus[0] - SHARED)
        return len(lent)

    def enforcer(self, steps):
        def met(server, flavor, _metadata, _moment):
            return decision.of_template(flavor) if (
                server.uuid in self.calm) else frozenset()

        jobs_ = jobs.Jobs(lambda job: found.job_ended(job.servers))
        found = enforce.Enforcer(steps, jobs_, intents.Intents(met))
        return found

    def begin_change(self, rng, enforcer, steps, server, intent):
        """A live change of an owner, as a job that goes on."""
        mine = ownership.Ownership(server.numa_topology)
        node = server.numa_topology.cells[0].id
        free = sorted(HOST.node(node).dedicated - steps.owners.keys())
        if not mine.pins or not free:
            return
        vcpu = rng.choice(sorted(mine.pins))
        step = rearrange.Step(server.uuid, 0, node, node, (rearrange.Move(
            vcpu, mine.pins[vcpu], rng.choice(free)),))
        if (enforcer.reclaim(changes.pcpus_of([step]), list)
                or enforcer.hand_over({server.uuid: server}, [step],
                                      {server.uuid: intent})):
            return
        end = threading.Event()
        job = enforcer._jobs.start({server.uuid}, '',
                                   lambda job: end.wait(30))
        steps.owners[step.moves[0].target] = server.uuid
        self.changes.append((enforcer, server, step, intent, end, job))

    def end_change(self, steps, change):
        """It is made, or not; a borrower may be where it lends still."""
        self.changes.remove(change)
        enforcer, server, step, intent, end, job = change
        after = ownership.Ownership(server.numa_topology).at_end_of(step)
        with_job = enforcer.lent
        steps.refusing = 0
        if server.uuid in steps.now:
            steps.run_on(server, after, intent)
        server.numa_topology = after
        steps.own(server)
        end.set()
        job.wait(30)
        self.stayed += bool(with_job & ownership.Ownership(
            after).owned.pcpus)

    def load_changes(self, rng, enforcer, servers):
        """Some are idle now, some are busy, in the middle of anything."""
        some = set(rng.sample(sorted(servers), rng.randint(
            1, min(3, len(servers)))))
        ending, others = some & self.calm, some - self.calm
        self.calm ^= some
        enforcer.switch_by_load(ending, others)
        self.ended |= ending

    def evict(self, enforcer, steps, pcpus):
        """By the kernel, as for a native server."""
        moved = enforcer.evict(pcpus)
        self.assertNotEqual([], moved)
        for server, error in moved:
            self.assertIsNone(error)
            self.assertFalse(steps.now[server.uuid].pcpus & pcpus)

    def setUp(self):
        super().setUp()
        self.refused, self.ended = 0, set()
        self.changes, self.stayed = [], 0
        enforce.LOG.logger.disabled = True
        self.addCleanup(setattr, enforce.LOG.logger, 'disabled', False)
        self.moment = DAY
        self.patch(enforce, 'now', lambda: self.moment)

    def test_nobody_where_an_owner_runs(self):
        self.assertLess(SEEDS // 4, sum(
            self.play(seed)
            for seed in range(SEEDS)))
        self.assertLess(0, self.refused)
        self.assertLess(0, self.stayed)
        self.assertNotEqual(set(), self.ended)

    def test_who_is_busy_waits_for_nobody(self):
        """It has all that it owns before anybody else is looked at."""
        rng = random.Random(1)
        steps = Steps(self, rng)
        owner, borrower = make(rng, 0, [2, 3, 4]), make(rng, 1, [])
        borrower.flavor.extra_specs['kongming:borrow'] = 'host'
        servers = {each.uuid: each for each in (owner, borrower)}
        for server in servers.values():
            steps.own(server)
            steps.define(server)
        self.calm = {owner.uuid}
        enforcer = self.enforcer(steps)
        enforcer.begin()
        enforcer.first(servers.values())
        enforcer.enforce(dict(servers), {})
        self.assertLess(frozenset(), steps.now[borrower.uuid].vcpus[0]
                        - SHARED)
        self.calm = set()
        with mock.patch.object(enforcer, 'enforce', self.fail):
            enforcer.switch_by_load({owner.uuid}, set())
        self.assertEqual({0: frozenset({2}), 1: frozenset({3}),
                          2: frozenset({4})}, steps.now[owner.uuid].vcpus)
        self.assertLessEqual(steps.now[borrower.uuid].pcpus, SHARED)
        self.assertEqual([], steps.violations)
        (server, words, _evidence), = enforcer.done[1:]
        self.assertIs(owner, server)
