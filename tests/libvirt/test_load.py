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

"""Load of real domains: recorded, replayed, and obeyed by a host."""

import json
import time

from kongming.cli import app
from kongming.kernel import process
from tests.embedded import cloud
from tests.libvirt import boot
from tests.libvirt import test_host_cli

#: A fifth of a second of readings, and what takes libvirt's answers.  A busy
#: machine takes longer; benchmarks.by_load measures it.
_BACK = 10


class RecordTest(test_host_cli.HostCliTest):

    def test_recorded_and_replayed(self):
        """Busy, then paused: what its condition says of that."""
        domain = self.start('km-load', test_host_cli.everything(self.first),
                            test_host_cli.nova('load-1', **{
                                'kongming__profile_AT_idle_AT_when':
                                    'use&lt;15% for 5s',
                                'kongming__profile_AT_idle_AT_qos':
                                    '0:weight=50'}))
        file = self.folder / 'load.jsonl'
        domain.suspend()
        code, _out, err = self.kongming(
            'watch', 'km-load', '--record', file, '--interval', '1',
            '--seconds', '14')
        self.assertEqual((0, ''), (code, err))
        header, server, *readings = map(
            json.loads, file.read_text().splitlines())
        self.assertEqual(1, header['kongming_figures'])
        self.assertEqual('load-1', server['name'])
        self.assertGreater(len(readings), 10)
        with open(f'/proc/{process.pid(domain)}/stat') as stat:
            start = int(stat.read().rpartition(')')[2].split()[19])
        self.assertEqual({start}, {each['start'] for each in readings})
        switch, = self.json('replay', file)
        self.assertEqual(('load-1', None, 'idle'), (
            switch['server'], switch['from'], switch['to']))
        self.assertIn('below 15%', switch['because'])
        domain.resume()
        busy = self.folder / 'busy.jsonl'
        self.kongming('watch', 'km-load', '--record', busy, '--seconds', '12')
        self.assertEqual([], self.json('replay', busy))
        first, *_rest, last = map(
            json.loads, busy.read_text().splitlines()[2:])
        ran = sum(last['vcpus']['0']) - sum(first['vcpus']['0'])
        self.assertGreater(ran / 1e9 / (last['at'] - first['at']), .9)

    def test_what_can_not_be_recorded(self):
        for args, words in (
                (('no-such-domain', '--record', self.folder / 'x'),
                 "No domain 'no-such-domain' runs here"),
                (('--record', '/no/such/folder/x'), 'can not be written')):
            code, _out, err = self.kongming('watch', '--seconds', '1', *args)
            self.assertEqual(1, code)
            self.assertIn(words, err)
        self.assertEqual(app.USAGE, self.kongming(
            'replay', 'x', '--switches-per-hour', '-1')[0])


class ActTest(boot.Base, cloud.LibvirtCloud):
    """A host with real domains that acts by load."""

    def setUp(self):
        super().setUp()
        self.flags(by_load='act', group='kongming')
        self.shared = min(self.cpu_sets()[0])

    def ring(self, server):
        self.api.api_get(f'/servers/{server["id"]}/diagnostics')
        self.settle()

    def wait_on(self, server, *pcpus, seconds=60):
        end = time.monotonic() + seconds
        wanted = {0: frozenset(pcpus)}
        while self.threads(server) != wanted and time.monotonic() < end:
            time.sleep(.02)
        self.assertEqual(wanted, self.threads(server))

    def test_it_lends_while_it_is_idle(self):
        owner = self.boot(image='busy', pin_0=f'0:{self.pcpu}',
                          profile_idle_when='use<15% for 5s',
                          profile_idle_pin_0=f'0~{self.shared}',
                          profile_idle_lend='true')
        borrower = self.boot(image='busy', borrow='host', native={
            'hw:cpu_policy': 'shared', 'hw:numa_nodes': '1'})
        self.ring(owner)
        self.wait_on(borrower, self.shared)
        domain = self.connection_of(owner['id']).lookupByUUIDString(
            owner['id'])
        domain.suspend()
        self.wait_on(borrower, self.shared, self.pcpu)
        self.assertEqual({0: frozenset({self.shared})}, self.threads(owner))
        self.assertEqual({self.pcpu}, self.owned())
        domain.resume()
        self.wait_on(owner, self.pcpu, seconds=_BACK)
        self.assertEqual({0: frozenset({self.shared})},
                         self.threads(borrower))
        self.settle()
        self.ring(owner)
        self.assertIn('kongming_by_load', str([
            self.api.api_get(
                f'/servers/{owner["id"]}/os-instance-actions/'
                f'{action["request_id"]}').body
            for action in self.api.get_instance_actions(owner['id'])]))
