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

from unittest import mock

from kongming.compute import servers
from kongming import exception
from kongming.host import usage
from osc_plugin import cloud
from osc_plugin.server import advise
from osc_plugin.server import migration
from osc_plugin.server import running
from tests import base

LOAD = {'mode': 'advise', 'profile': 'idle', 'usual': None,
        'because': 'use 3.0%, below 15% for 10m', 'waits': '', 'use': 3.0,
        'wait': 0.0, 'remote': None, 'progress': [], 'lends': [14, 15],
        'saves': None, 'move': None, 'floats': [], 'floating': []}
MOVE = {'cell': 0, 'source': 0, 'target': 1, 'saves': 1.5, 'local_mib': 0,
        'seconds': 5, 'because': 'it waits 50.0% of its time on node 0',
        'waits': ''}
SPECS = {'kongming:profile.idle.when': 'use<15%'}


def server(specs=None):
    return {'id': 'u', 'name': 'web-1', 'metadata': {},
            'flavor': {'extra_specs': specs or SPECS},
            'OS-EXT-SRV-ATTR:hypervisor_hostname': 'compute1'}


def row(load):
    found = advise._row(running.Server(None, server()), load)
    return [getattr(value, 'human_readable', lambda value=value: value)()
            for value in found[3:]]


class AdviseTest(base.TestCase):

    def test_advised(self):
        self.assertEqual(
            ['advise', None, 'idle', 'use 3.0%, below 15% for 10m',
             'use 3.0%, wait 0.0%', 'lends pCPU 14-15', '-', None],
            row(LOAD))

    def test_done(self):
        self.assertEqual(['act', 'idle', None], row(
            {**LOAD, 'mode': 'act'})[:3])

    def test_nothing_to_do(self):
        self.assertEqual(
            ['advise', None, None, None, 'use 50.0%, wait 0.0%', '-',
             '-', 'profile idle: it waits'],
            row({**LOAD, 'profile': None, 'use': 50.0,
                 'waits': 'profile idle: it waits'}))

    def test_not_known(self):
        self.assertEqual([None, None, None, None, None, '-', '-', None],
                         row(None))

    def test_a_move(self):
        self.assertEqual(
            ['cell 0 to node 1, saves 1.5 pCPU of wait, copied in about 5 s',
             None], row({**LOAD, 'move': MOVE})[-2:])
        waits = {**MOVE, 'saves': 0, 'local_mib': 512, 'waits': 'it stays'}
        self.assertEqual(
            ['cell 0 to node 1, 512 MiB more are local, copied in about 5 s',
             'it stays'], row({**LOAD, 'move': waits})[-2:])
        self.assertEqual(
            ['advised: cell 0 to node 1, 512 MiB more are local, copied in '
             'about 5 s: it waits 50.0% of its time on node 0',
             'it is not moved: it stays'], advise.LoadColumn({
                 **LOAD, 'profile': None, 'move': waits}
                 ).human_readable().splitlines()[1:])

    def test_what_could_be_saved(self):
        column = advise.GainColumn({**LOAD, 'lends': [], 'saves': 8.1})
        self.assertEqual('saves at most 8.1% wait', column.human_readable())
        self.assertEqual({'lends': [], 'saves': 8.1},
                         column.machine_readable())

    def test_show(self):
        self.assertEqual(
            'use 3.0%, wait 0.0%\nadvised: profile idle: use 3.0%, below 15% '
            'for 10m', advise.LoadColumn(LOAD).human_readable())
        self.assertEqual('nothing measured yet', advise.LoadColumn({
            **LOAD, 'profile': None, **dict.fromkeys(
                ('use', 'wait', 'remote'))}).human_readable())
        self.assertEqual(('-', None), (
            advise.LoadColumn(None).human_readable(),
            advise.LoadColumn(None).machine_readable()))

    def test_only_servers_with_conditions_are_asked_for(self):
        command = advise.Advise(mock.Mock(), None)
        parsed = command.get_parser('x').parse_args([])
        balanced = server({'kongming:balance': 'node'})
        others = [server(specs) for specs in (
            {'kongming:qos': '0:weight=2'},
            {'kongming:profile.n.when': '22:00-06:00'},
            {'kongming:profile.n.when': 'nonsense'})]
        listed = mock.Mock(known=[server(), balanced, *others])
        listed.doubts.return_value = []
        with mock.patch.object(servers, 'listing',
                               return_value=listed), mock.patch.object(
                servers, 'load', return_value=LOAD) as load:
            _names, rows = command.take_action(parsed)
        self.assertEqual(2, load.call_count)
        self.assertEqual(['web-1'] * 2, [each[0] for each in rows])


def host(name, memory_mib=4096, obeys=True):
    return cloud.PublishedHost(name, name, usage.HostState([usage.NodeState(
        0, frozenset({2, 3}), shared=frozenset({0, 1}),
        memory_mib=memory_mib)]), obeys, usage.Limits(16.0))


class MigrationTest(base.TestCase):
    """tests.functional.test_cli_advise asks real hosts."""

    WAITS = [(0, 1, 100.0, 200 / 3)]
    HOSTS = host('full'), host('busy'), host('idle')

    def setUp(self):
        super().setUp()
        self.warned = []

    def of(self, name, on, floating, wanted, specs=None, **load):
        found = server(specs or {**SPECS, 'hw:cpu_policy': 'shared',
                                 'hw:numa_nodes': '1'})
        found['flavor'] |= {'vcpus': 1, 'ram': 1024, 'disk': 1,
                            'ephemeral': 0, 'swap': 0}
        return running.Server(None, {
            **found, 'id': name, 'image': None,
            'OS-EXT-SRV-ATTR:hypervisor_hostname': on}), {
                **LOAD, 'floats': [(0, 1, wanted)], 'floating': floating,
                **load}

    def moves(self, *loads, hosts=HOSTS, barred=None):
        everywhere = servers.Listing([known.found for known, _ in loads])
        with mock.patch.multiple(
                cloud, hosts=mock.Mock(return_value=list(hosts)),
                left_out=lambda conn, hosts, wanted, warn: [
                    barred or {} for _ in wanted]), mock.patch.object(
                servers, 'everywhere', return_value=everywhere):
            return migration.moves(None, loads, self.warned.append)

    def test_a_plan(self):
        """Those that another node helps are not in it; the rest are."""
        found = self.moves(
            self.of('a', 'full', self.WAITS, 3.0),
            self.of('b', 'full', self.WAITS, 3.0),
            self.of('c', 'full', self.WAITS, 3.0, move=MOVE),
            self.of('d', 'busy', [(0, 1, 5.0, 0.0)], .9),
            (running.Server(None, server()), None))
        self.assertEqual({'a': 1, 'b': 2}, {
            uuid: move['step'] for uuid, move in found.items()})
        self.assertEqual(
            ['step 1: to host idle, node 0, saves 0.67 pCPU of wait',
             'step 2: to host idle, node 0, saves 0.33 pCPU of wait'],
            [advise.MoveColumn(move).human_readable()
             for move in found.values()])
        self.assertEqual('it waits 66.7% of its time on full',
                         found['a']['because'])
        self.assertEqual(found['b'], advise.MoveColumn(
            found['b']).machine_readable())

    def test_memory_that_is_elsewhere(self):
        move, = self.moves(self.of('a', 'full', [], 0.0, remote=50.0),
                           hosts=[host('full'), host('idle')]).values()
        self.assertEqual(
            'step 1: to host idle, node 0, 512 MiB more are local',
            advise.MoveColumn(move).human_readable())
        self.assertEqual('512 MiB of its memory are on another node on full',
                         move['because'])

    def test_who_stays(self):
        waits = self.of('a', 'full', self.WAITS, 3.0)
        self.assertEqual(1, len(self.moves(waits)))
        for how in ({'barred': {'idle': 'disabled', 'busy': 'down'}},
                    {'hosts': [host('full'), host('idle', 512)]},
                    {'hosts': [host('idle', obeys=False)]}):
            self.assertEqual({}, self.moves(waits, **how))
        for load in (self.of('a', 'full', [(0, 1, 50.0, 1.0)], 3.0),
                     self.of('a', 'full', self.WAITS * 2, 3.0),
                     self.of('a', 'full', self.WAITS, 3.0, {
                         'kongming:profile.x.when': 'nonsense'})):
            self.assertEqual({}, self.moves(load))
        self.assertEqual([], self.warned)

    def test_hosts_that_are_not_known(self):
        with mock.patch.object(cloud, 'hosts',
                               side_effect=exception.CloudError('away')):
            self.assertEqual({}, migration.moves(None, [
                self.of('a', 'full', self.WAITS, 3.0)], self.warned.append))
        self.assertIn('away', self.warned[0])


class LiveChangeTest(base.TestCase):

    def change(self, *events, message=None):
        action = {'start_time': 't', 'message': message,
                  'events': list(events)}
        with mock.patch('kongming.compute.api.get',
                        return_value={'instanceAction': action}):
            return servers.live_change(None, 'u', 'r')

    def test_evidence(self):
        for events in (
                [{'event': 'kongming_repin', 'result': 'Success'},
                 {'event': 'kongming_by_load: profile idle: use 3.0%',
                  'result': 'Success'}],
                [{'event': 'kongming_by_load: profile idle: use 3.0%',
                  'result': 'Success'},
                 {'event': 'kongming_repin', 'result': 'Success'}]):
            found = self.change(*events)
            self.assertEqual(('Success', 'profile idle: use 3.0%'),
                             (found.result, found.details))

    def test_a_failure_says_why(self):
        found = self.change(
            {'event': 'kongming_repin', 'result': 'Error',
             'details': 'libvirt said no'},
            {'event': 'kongming_by_load: profile idle: use 3.0%',
             'result': 'Success'}, message='Error')
        self.assertEqual(('Error', 'libvirt said no'),
                         (found.result, found.details))
