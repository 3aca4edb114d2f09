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

"""A host that acts, observes, or does nothing."""

import types

import fixtures

from nova_ext.live import mode
from tests import base


class ModeTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.woken, self.sent = [], []
        self.useFixture(fixtures.MonkeyPatch(
            'nova_ext.live.record.stopped',
            lambda *facts: self.sent.append(facts)))
        self.mode = mode.Mode(types.SimpleNamespace(
            _tracker=types.SimpleNamespace(host='compute1'),
            wake=lambda: self.woken.append(None)))
        self.addCleanup(mode.CONF.clear_override, 'live_changes', 'kongming')
        self.addCleanup(mode.CONF.clear_override, 'observe_after', 'kongming')

    def test_as_the_configuration_says(self):
        self.assertEqual('act', self.mode.current)
        mode.CONF.set_override('live_changes', 'off', 'kongming')
        self.assertEqual('off', self.mode.current)

    def test_failures_one_after_the_other(self):
        mode.CONF.set_override('observe_after', 2, 'kongming')
        for _ in range(3):
            self.mode.failed('libvirt said no')
            self.assertEqual('act', self.mode.current)
            self.mode.succeeded()
        self.mode.failed('libvirt said no')
        self.mode.failed('libvirt said no again')
        self.assertEqual('observe', self.mode.current)
        (host, reason), = self.sent
        self.assertEqual('compute1', host)
        self.assertIn('2 live changes have failed one after the other', reason)
        self.assertIn('said no again', reason)
        # It has been said.
        self.mode.failed('once more')
        self.assertEqual(1, len(self.sent))

    def test_however_many_failures(self):
        mode.CONF.set_override('observe_after', 0, 'kongming')
        for _ in range(100):
            self.mode.failed('libvirt said no')
        self.assertEqual('act', self.mode.current)

    def test_read_again(self):
        self.mode.stop('pCPU 3 has two owners')
        self.assertEqual('observe', self.mode.current)
        mode._on_reload(None, None)
        self.assertEqual('act', self.mode.current)
        self.assertEqual([None], self.woken)

    def test_off_is_not_observed(self):
        mode.CONF.set_override('live_changes', 'off', 'kongming')
        self.mode.stop('pCPU 3 has two owners')
        self.assertEqual('off', self.mode.current)
        self.assertEqual([], self.sent)
