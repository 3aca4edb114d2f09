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
"""nova-rootwrap lets our privsep daemons start without any filter of ours."""

import pathlib
import sys
import threading
from unittest import mock

from nova import objects
from oslo_privsep import priv_context
from oslo_rootwrap import wrapper

from nova_ext import lifecycle
from nova_ext import privileged
from tests import base

objects.register_all()


class ArrivalTest(base.TestCase):
    """The daemon is started while a server is on its way.

    What it does is not looked at; tests.unit.nova_ext.test_installed starts
    a real one.
    """

    def setUp(self):
        super().setUp()
        self.started = threading.Event()
        self.lifecycle = lifecycle.Lifecycle(mock.Mock())
        for name, value in (('client_mode', True), ('channel', None),
                            ('start', self.start)):
            self.patch(privileged.context, name, value)
        self.patch(privileged, '_prepared', threading.Lock())

    def start(self, *_args):
        self.by = threading.current_thread()
        privileged.context.channel = mock.Mock()
        self.started.set()

    def arrives(self, **specs):
        return self.lifecycle.arrives(objects.Instance(
            uuid='5f0f2a6d-4a0c-4b1b-9a53-7f1a3a6f7c11',
            flavor=objects.Flavor(extra_specs={
                f'kongming:{key}': value for key, value in specs.items()})))

    def test_a_native_server(self):
        self.assertFalse(self.arrives())
        self.assertFalse(self.started.wait(0.1))

    def test_a_server_with_a_template(self):
        for _server in range(2):
            self.assertTrue(self.arrives(emulator='own'))
            self.assertTrue(self.started.wait(30))
        self.assertIsNot(threading.current_thread(), self.by)

    def test_no_thread_is_to_be_had(self):
        with mock.patch.object(threading.Thread, 'start',
                               side_effect=RuntimeError('no new thread')):
            self.assertTrue(self.arrives(emulator='own'))
        self.assertTrue(self.arrives(emulator='own'))
        self.assertTrue(self.started.wait(30))


class RootwrapTest(base.TestCase):

    def test_no_filter_is_needed(self):
        filters = wrapper.load_filters([])
        contexts = [value for value in vars(privileged).values()
                    if isinstance(value, priv_context.PrivContext)]
        self.assertEqual(2, len(contexts))
        for context in contexts:
            # As oslo_privsep/priv_context.py, helper_command, makes it.
            found = wrapper.match_filter(filters, [
                'privsep-helper', '--config-file', '/etc/nova/nova.conf',
                '--config-file', '/etc/nova/nova-compute.conf',
                '--privsep_context', context.pypath,
                '--privsep_sock_path', '/tmp/tmp1234/privsep.sock'],
                exec_dirs=self.helper_dirs())
            self.assertEqual('privsep-helper', found.name)

    def helper_dirs(self):
        """Where the helper is installed."""
        return [str(pathlib.Path(sys.prefix) / 'bin')]
