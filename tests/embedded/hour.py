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
"""An hour in which everything happens; see :mod:`tests.nested.soak`.

Each round servers are asked to be somewhere else, memory and all, and
something goes wrong meanwhile.  After each round every invariant is looked at,
and at the end nothing may have grown.
"""

import collections
import contextlib
import gc
import os
import random
import statistics
import sys
import threading
import time
import tracemalloc
from unittest import mock

import fixtures
import libvirt
from nova import context as nova_context
from nova import objects
from oslo_db import exception as db_exc
import oslo_messaging as messaging
import psutil
import sqlalchemy
import testtools

from kongming.compute import servers
from kongming.memory import move
from kongming.placement import inventory
from nova_ext.ownership import write_ahead
from tests.embedded import faults
from tests.embedded import soak
from tests.functional import test_cases_natives
from tests.functional import test_profile

#: Packages whose memory is counted.
_OURS = ('kongming', 'nova_ext')


def _is_ours(thread):
    """Whether a thread runs our code, not a pool of Nova's services."""
    target = getattr(thread, 'function', getattr(thread, '_target', None))
    module = getattr(target, '__module__', '') or ''
    return module.partition('.')[0] in _OURS


def close_idle():
    """Close the connections to databases that pools keep for the next one.

    A pool keeps as many as were once used at the same time.  A database in
    memory would be gone with its connection; its pool is of another kind.
    """
    for each in gc.get_objects():
        if isinstance(each, sqlalchemy.Engine) and isinstance(
                each.pool, sqlalchemy.QueuePool):
            each.dispose()


def open_files():
    """what this process has open, in the kernel's words -> how often."""
    found = collections.Counter()
    for number in os.listdir('/proc/self/fd'):
        with contextlib.suppress(FileNotFoundError):  # the listing's own
            # "socket:[1234]" is a socket, whichever.
            found[os.readlink(f'/proc/self/fd/{number}').partition(
                ':[')[0]] += 1
    return found


class Gauge:
    """What may not grow, round by round.

    :param seconds: how long it goes on
    """

    def __init__(self, seconds):
        self._process = psutil.Process()
        self.samples = collections.defaultdict(list)
        self.began = time.monotonic()
        #: until all has happened that happens once
        self._until = self.began + seconds / 4
        self._early = self._late = None
        self._early_files = self._late_files = collections.Counter()

    def sample(self, **more):
        gc.collect()
        close_idle()
        traces = tracemalloc.take_snapshot().filter_traces([
            tracemalloc.Filter(True, f'*/{name}/*') for name in _OURS])
        if self._early is None or time.monotonic() < self._until:
            self._early, self._early_files = traces, open_files()
        self._late, self._late_files = traces, open_files()
        for name, value in {
                'threads': sum(map(_is_ours, threading.enumerate())),
                'threads of all services': threading.active_count(),
                'open files': self._late_files.total(),
                'bytes of our code': sum(
                    each.size for each in traces.statistics('filename')),
                'MiB of the process': self._process.memory_info().rss >> 20,
                **more}.items():
            self.samples[name].append(value)

    def grown(self, most=10):
        """What there is more of than after a quarter, files and lines."""
        return [f'{count} more of {name}' for name, count in
                (self._late_files - self._early_files).items()] + [
            str(each) for each in self._late.compare_to(
                self._early, 'lineno')[:most]]

    def quarters(self, name):
        """Medians of the second quarter and of the last one."""
        values = self.samples[name]
        quarter = max(1, len(values) // 4)
        return (statistics.median(values[quarter:2 * quarter]),
                statistics.median(values[-quarter:]))

    def __str__(self):
        return '\n'.join(
            f'{name}: {early:g}, at the end {late:g}' for name, (early, late)
            in ((name, self.quarters(name)) for name in self.samples))


class _Gone:
    """What Nova's fixture may still call of a process that is gone."""

    def __getattr__(self, name):
        return lambda *args, **kwargs: None


def bury(compute):
    """Let go of what the kernel would free of a process that was killed.

    Nova's fixture has the service until the end, a thread of its libvirt
    host, which never ends, has the driver, and so has a cache of Nova's
    (nova/virt/libvirt/driver.py, _get_pci_passthrough_devices).
    """
    driver = compute.manager.driver
    connection = driver._host._wrapped_conn
    if connection is not None:
        # After a restart of libvirtd it may be gone already.
        with contextlib.suppress(libvirt.libvirtError):
            for number in list(connection.domainEventCallbackID):
                connection.domainEventDeregisterAny(number)
            connection.unregisterCloseCallback()
    vars(driver._host).update(dict.fromkeys(
        ('_wrapped_conn', '_lifecycle_event_handler',
         '_conn_event_handler')))
    type(driver)._get_pci_passthrough_devices.cache_clear()
    compute.driver = _Gone()
    vars(compute.manager).update({
        name: _Gone() for name, value in vars(compute.manager).items()
        if not isinstance(value, (str, int, float, type(None)))})


def forget_calls():
    """Let go of what mocks of Nova's fixtures have been called with.

    One gets each connection to libvirtd that is lost, which stays open
    as long as somebody has it.
    """
    for each in gc.get_objects():
        if isinstance(each, mock.NonCallableMock):
            each.reset_mock()


class HourMixin(soak.OwnersMixin):
    """Of any cloud with four nodes and real domains.

    Has what :class:`tests.embedded.soak.SoakMixin` needs, and
    ``restart_libvirtd``.
    """

    SECONDS = 60 * float(os.environ.get('KONGMING_TEST_MINUTES', 60))
    #: The latest point at which nova-compute is killed, a call is lost.
    POINTS, CALLS = 40, 30

    def setUp(self):
        super().setUp()
        # A lost answer is known to be lost after this and a minute.
        self.flags(rpc_response_timeout=5)
        # No guest here listens to its power button.
        self.flags(shutdown_timeout=1)
        self.faults = self.useFixture(faults.Faults())
        self.moment = test_profile.DAY
        self.useFixture(fixtures.MonkeyPatch(
            'nova_ext.live.enforce.now', lambda: self.moment))
        seed = int(os.environ.get('KONGMING_TEST_SEED')
                   or random.randrange(10 ** 6))
        self.addDetail('seed', testtools.content.text_content(str(seed)))
        print(f'seed {seed}', file=sys.stderr)
        self.chance = random.Random(seed)
        self.done = collections.Counter()

    # The servers.

    def start_servers(self):
        goals = {'lender': ((3, tuple(self.dedicated(3)[:2])),),
                 'cells': tuple((node, (self.dedicated(node)[0],))
                                for node in (0, 1)),
                 'one': ((2, (self.dedicated(2)[0],)),)}
        extra = {'lender': {'profile_night_when': '22:00-06:00',
                            'profile_night_pin_0': '0-1~v0',
                            'profile_night_lend': 'true'},
                 'cells': {}, 'one': {}}
        self.servers = {
            name: self.boot(
                image='dirty', grant='template',
                vcpus=sum(len(pcpus) for _node, pcpus in goal),
                native={'hw:numa_nodes': str(len(goal))},
                **self.template(goal), **extra[name])
            for name, goal in goals.items()}
        self.borrower = self.boot(
            native={'hw:cpu_policy': 'shared', 'hw:numa_nodes': '1'},
            borrow='host')
        self.floats, = {*self.threads(self.borrower).values()}

    @staticmethod
    def template(place):
        """What metadata say to have each cell on a node and its pCPUs."""
        found, vcpu = {}, 0
        for cell, (node, pcpus) in enumerate(place):
            found[f'node_{cell}'] = str(node)
            found[f'pin_{cell}'] = ' '.join(
                f'{vcpu + at}:{pcpu}' for at, pcpu in enumerate(pcpus))
            vcpu += len(pcpus)
        return found

    def place(self, name):
        """(node, its pCPUs by vCPU) of each cell, by Nova's database."""
        return tuple(
            (cell.id, tuple(pcpu for _vcpu, pcpu in
                            sorted(cell.cpu_pinning.items())))
            for cell in self.instance(
                self.servers[name]['id']).numa_topology.cells)

    def goals(self):
        """Places for all: the lender has a whole node."""
        nodes = list(range(4))
        self.chance.shuffle(nodes)
        free = {node: self.dedicated(node)[:2] for node in nodes}
        for pcpus in free.values():
            self.chance.shuffle(pcpus)
        lender = nodes.pop()
        cells = sorted(self.chance.sample(nodes, 2))
        found = {'lender': ((lender, tuple(free.pop(lender))),),
                 'cells': tuple((node, (free[node].pop(),))
                                for node in cells)}
        one = self.chance.choice(nodes)
        found['one'] = ((one, (free[one].pop(),)),)
        return found

    # What happens.

    def passes(self, times=3):
        for _again in range(times):
            # What was put back is tried again.
            self.reconcile()

    def quietly(self):
        self.passes(1)

    def killed(self):
        self.killer.arm(self.chance.randint(1, self.POINTS))
        thread = threading.Thread(target=self.reconcile)
        thread.start()
        thread.join()
        self.killer.countdown = None
        if self.killer.where is not None:
            self.done[f'killed {self.killer.where}'] += 1
            self.end_threads()
            self.check_owners(self.servers.values())
            dead = self.computes['compute1']
            self.restart()
            bury(dead)
            self.killer.dead.clear()

    def answer_lost(self):
        self.faults.arm(
            self.chance.choice([faults.RPC, faults.DATABASE]),
            self.chance.choice([True, False]),
            self.chance.randint(0, self.CALLS), self.chance.randint(0, 3))
        # A pass that can't read the list of servers is none.
        with contextlib.suppress(db_exc.DBConnectionError,
                                 messaging.MessagingTimeout):
            self.passes(1)
        what = self.faults.disarm()
        if what:
            self.done[what] += 1

    def libvirtd_killed(self):
        thread = threading.Thread(target=self.reconcile)
        thread.start()
        time.sleep(self.chance.uniform(0, 3))
        self.restart_libvirtd()
        thread.join()

    def placement_away(self):
        with test_cases_natives.placement_away():
            self.passes(1)

    def rebooted(self):
        server = self.servers[self.chance.choice(sorted(self.servers))]
        self.api.post_server_action(server['id'],
                                    {'reboot': {'type': 'HARD'}})
        self.passes(1)
        self._wait_for_state_change(server, 'ACTIVE')

    def stopped_and_started(self):
        server = self.servers[self.chance.choice(sorted(self.servers))]
        self._stop_server(server)
        self.passes(1)
        self._start_server(server)

    def day_or_night(self):
        self.moment = (test_profile.NIGHT if self.moment == test_profile.DAY
                       else test_profile.DAY)
        self.passes(1)

    EVENTS = (quietly, killed, answer_lost, libvirtd_killed, placement_away,
              rebooted, stopped_and_started, day_or_night, day_or_night)

    # What is so afterwards.

    def check(self, before, goals):
        self.check_owners(self.servers.values())
        tracker = self.computes['compute1'].manager.rt
        # Nova's audit fails where two servers own one pCPU.
        for nodename in list(tracker.compute_nodes):
            tracker.update_available_resource(
                nova_context.get_admin_context(), nodename)
        unknown = set(write_ahead.uncertain(tracker))
        self.check_between(before, goals, unknown)
        night = self.moment == test_profile.NIGHT
        lent = set()
        for name, server in self.servers.items():
            if server['id'] in unknown:
                continue
            place = self.place(name)
            if place != goals[name]:
                self.done['changes refused'] += 1
            elif place != before[name]:
                self.done['changes made'] += 1
            pcpus = [pcpu for _node, each in place for pcpu in each]
            wanted = {vcpu: frozenset({pcpu})
                      for vcpu, pcpu in enumerate(pcpus)}
            if name == 'lender' and night:
                wanted = dict.fromkeys(wanted, frozenset(pcpus[:1]))
                lent = set(pcpus[1:])
            self.assertEqual(wanted, self.threads(server))
            nodes = [node for node, _pcpus in place]
            seen = self.mover_of(server).look(nodes)
            self.assertTrue(move.is_there(seen, nodes), seen)
            self.assertEqual(
                {}, self.named_elsewhere(server, pcpus), 'in Placement')
        if not unknown:
            for pcpus in self.threads(self.borrower).values():
                self.assertEqual(self.floats | lent, pcpus)

    def check_between(self, before, goals, unknown):
        """Who is neither where it was nor where it is to be was told so.

        A change of several steps ends there where it was cut short, or where
        what it would be rolled back to may be another server's: the answer to
        a save of that one was lost.  It goes on once that is known.
        """
        def between():
            return [name for name, server in self.servers.items()
                    if server['id'] not in unknown
                    and self.place(name) not in (before[name], goals[name])]

        if between() and not unknown:
            # Nova's audit has told the tracker what is free by now.
            self.passes()
        for name in between():
            self.done['changes left between'] += 1
            # A profile that was put back is a record, too.
            self.assertIn('Error', [
                action['message'] for action in self.api.get_instance_actions(
                    self.servers[name]['id'])
                if action['action'] == servers.LIVE_CHANGE][:5])

    def named_elsewhere(self, server, pcpus):
        return {uuid: named for uuid, resources in
                self.allocations_of(server['id']).items()
                if (named := set(inventory.named_pcpus(resources))
                    - set(pcpus))}

    def keys(self):
        """How many keys servers have in the database, all together."""
        return sum(
            len(server.system_metadata) + len(server.metadata)
            for server in objects.InstanceList.get_all(
                nova_context.get_admin_context(),
                expected_attrs=['metadata', 'system_metadata']))

    def records(self):
        """Live changes in the database."""
        return sum(action['action'] == servers.LIVE_CHANGE
                   for server in self.servers.values() for action in
                   self.api.get_instance_actions(server['id']))

    def an_hour(self):
        self.start_servers()
        self.passes(1)
        goals = {name: self.place(name) for name in self.servers}
        self.check(goals, goals)
        tracemalloc.start(1)
        self.addCleanup(tracemalloc.stop)
        gauge, rounds = Gauge(self.SECONDS), 0
        reported = time.monotonic()
        while time.monotonic() - gauge.began < self.SECONDS:
            before = {name: self.place(name) for name in self.servers}
            goals = self.goals()
            for name, server in self.servers.items():
                self.say(server, **self.template(goals[name]))
            event = self.chance.choice(self.EVENTS)
            self.done[event.__name__] += 1
            event(self)
            self.passes()
            self.check(before, goals)
            self.notifier.reset()
            forget_calls()
            gauge.sample(**{'keys of servers': self.keys()})
            rounds += 1
            if time.monotonic() - reported > 60:
                reported = time.monotonic()
                print(f'{(reported - gauge.began) / 60:.0f} min, round '
                      f'{rounds}: {event.__name__}', file=sys.stderr)
        changes, records = self.done['changes made'], self.records()
        print(f'{rounds} rounds, {changes} changes made, {records} recorded',
              *(f'{count} {what}' for what, count in
                sorted(self.done.items())), gauge, *gauge.grown(),
              sep='\n', file=sys.stderr)
        self.assertGreater(changes, rounds)
        for name in 'threads', 'open files', 'keys of servers':
            early, late = gauge.quarters(name)
            self.assertLessEqual(late, early, name)
        early, late = gauge.quarters('bytes of our code')
        self.assertLessEqual(late, 1.02 * early)
