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

from nova.compute import power_state
from nova import exception
from nova import objects
from nova.objects import diagnostics as nova_diagnostics
from nova_ext import diagnostics
from oslo_utils.fixture import uuidsentinel

from tests import base

objects.register_all()


class DiagnosticsTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.did = []
        self.reconciler = mock.Mock(**{
            'jobs.of.return_value': None, 'look.side_effect': self.look,
            'load.advice.return_value': None})
        self.wait = mock.Mock(side_effect=lambda: self.did.append('waited'),
                              return_value=None)
        self.server = objects.Instance(
            uuid=uuidsentinel.server, power_state=power_state.RUNNING,
            config_drive='', system_metadata={},
            image_ref='', launched_at=None)

    def look(self, uuid, patience):
        self.did.append('asked for a pass')
        return self.wait

    def native(self, server):
        self.did.append("Nova's own")
        return nova_diagnostics.Diagnostics(state='running',
                                            hypervisor_os='linux')

    def ask(self, native=None):
        return diagnostics.Diagnostics(self.reconciler).of(
            self.server, native or self.native)

    def test_beside_the_pass(self):
        self.assertEqual('linux', self.ask().hypervisor_os)
        self.assertEqual(['asked for a pass', "Nova's own", 'waited'],
                         self.did)

    def test_what_goes_on(self):
        self.wait = lambda: 'a live change'
        self.assertIn('a live change', self.ask().hypervisor_os)

    def test_a_native_server(self):
        self.reconciler.looks_after.return_value = False
        self.ask()
        self.assertEqual(["Nova's own"], self.did)

    def test_a_blocked_domain(self):
        self.reconciler.jobs.of.return_value = mock.Mock(blocks=True)
        self.assertEqual('running', self.ask().state)
        self.assertEqual(['asked for a pass', 'waited'], self.did)

    def test_an_error_of_novas(self):
        def refuse(server):
            raise exception.InstanceNotFound(instance_id=server.uuid)

        self.assertRaises(exception.InstanceNotFound, self.ask, refuse)
        self.assertEqual(['asked for a pass', 'waited'], self.did)

    def test_a_fault_of_ours(self):
        self.reconciler.look.side_effect = RuntimeError('broken')
        self.assertEqual('linux', self.ask().hypervisor_os)
        self.reconciler.look.side_effect = self.look
        self.wait.side_effect = RuntimeError('broken')
        self.assertEqual('linux', self.ask().hypervisor_os)
        self.assertEqual(
            ["Nova's own", 'asked for a pass', "Nova's own"], self.did)
