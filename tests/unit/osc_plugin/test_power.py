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
"""Which pCPUs of a host are drawn as without power."""

from unittest import mock

import fixtures

from kongming import exception
from kongming.host import usage
from osc_plugin import power
from tests import base


class PowerTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.servers = []
        self.pins = {}
        self.useFixture(fixtures.MonkeyPatch(
            'kongming.compute.servers.all_on_host',
            lambda _conn, _uuid: self.servers))
        self.useFixture(fixtures.MonkeyPatch(
            'kongming.compute.servers.cells',
            lambda _conn, server: [(0, self.pins[server])]))

    def server(self, name, pins, status='ACTIVE', **specs):
        self.pins[name] = pins
        self.servers.append({
            'id': name, 'status': status, 'metadata': {}, 'flavor': {
                'extra_specs': {f'kongming:{key.replace("_", ".")}': value
                                for key, value in specs.items()}}})

    def off(self, strategy='cpu_state'):
        taken = frozenset(pcpu for pins in self.pins.values()
                          for pcpu in pins.values())
        state = usage.HostState([usage.NodeState(
            0, frozenset(range(1, 8)), taken, shared=frozenset({8}))])
        return set(power.without_power(None, 'uuid', strategy, state))

    def test_nobody_manages_it(self):
        self.assertEqual(set(), self.off(''))

    def test_what_nobody_runs_on(self):
        self.server('native', {0: 1})
        self.server('stopped', {0: 2}, 'SHUTOFF')
        self.server('day', {0: 3, 1: 4}, pin_0='0:3 1:4')
        self.assertEqual({2, 5, 6, 7}, self.off())

    def test_night(self):
        self.server('night', {0: 3, 1: 4}, **{
            'profile_night_when': '00:00-24:00 UTC',
            'profile_night_pin_0': '0-1~v0', 'profile_night_power': 'off'})
        self.assertEqual({1, 2, 4, 5, 6, 7}, self.off())
        # A profile for the other strategy does nothing.
        self.assertEqual({1, 2, 5, 6, 7}, self.off('governor'))

    def test_nova_does_not_answer(self):
        with mock.patch('kongming.compute.servers.all_on_host',
                        side_effect=exception.CloudError('no')):
            self.server('day', {0: 3})
            self.assertEqual({1, 2, 4, 5, 6, 7}, self.off())
