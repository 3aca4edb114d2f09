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

"""Each command that reads all hosts says so where that takes long."""

import io
import time
import types
from unittest import mock

from osc_lib import exceptions

from osc_plugin import cloud
from osc_plugin.deployment import deployment
from osc_plugin.host import host
from osc_plugin.plan import capacity
from osc_plugin.plan import layout
from osc_plugin import progress
from osc_plugin.template import check
from osc_plugin.template import template
from tests import base


class LongWorkTest(base.TestCase):
    """A cloud that answers after ten times of what is waited in silence."""

    def setUp(self):
        super().setUp()
        self.stderr = io.StringIO()
        self.app = types.SimpleNamespace(
            stderr=self.stderr, client_manager=mock.Mock())

        def slow(empty):
            def answer(*_args, **_kwargs):
                time.sleep(0.2)
                return empty
            return answer

        for owner, name, value in (
                (progress, 'PATIENCE', 0.02), (cloud, 'hosts', slow([])),
                (cloud, 'hosts_and_leftovers', slow(([], []))),
                (cloud, 'left_out', lambda conn, found, wanted, warn: [
                    {} for _one in wanted])):
            self.enterContext(mock.patch.object(owner, name, value))

    def run_command(self, kind, *words):
        command = kind(self.app, None)
        return command.take_action(command.get_parser('x').parse_args(words))

    def said(self):
        return self.stderr.getvalue()

    def test_host_list(self):
        self.run_command(host.ListHost)
        self.assertIn('reading hosts ...\n', self.said())

    def flavor(self):
        return types.SimpleNamespace(
            id='f', name='f', vcpus=2, ram=64, disk=0, ephemeral=0, swap=0,
            extra_specs={'hw:cpu_policy': 'dedicated', 'kongming:node.0':
                         '0'})

    def test_template_check(self):
        with mock.patch.object(cloud, 'flavor',
                               lambda conn, name: self.flavor()):
            self.assertRaises(exceptions.CommandError, self.run_command,
                              check.CheckTemplate, 'f')
        self.assertIn('reading hosts ...\n', self.said())

    def test_template_set(self):
        with mock.patch.object(cloud, 'flavor',
                               lambda conn, name: self.flavor()):
            self.assertRaises(exceptions.CommandError, self.run_command,
                              template.SetTemplate, '--flavor', 'f',
                              '--node', '0=0')
        self.assertIn('reading hosts ...\nreading what is reserved on hosts '
                      '...\n', self.said())

    def test_plan_create(self):
        found = layout.Layout(self.app, types.SimpleNamespace(
            inventory=None, host=[], availability_zone=None, file=None,
            flavor=[('f', 1)], image='idle', network='none', name='plan',
            separate=False, style='pack', deadline=5, solver=None,
            partial=False))
        with mock.patch.object(cloud, 'flavor',
                               lambda conn, name: self.flavor()):
            self.assertRaises(exceptions.CommandError, found.new)
        self.assertIn('reading hosts ...\n', self.said())

    def test_plan_defrag(self):
        found = capacity.Defragmentation(self.app, types.SimpleNamespace(
            for_flavor=None, host='compute1', deadline=5))
        self.assertRaises(exceptions.CommandError, found.run)
        self.assertIn('reading hosts ...\n', self.said())

    def test_deployment_show(self):
        with mock.patch.object(deployment, '_there',
                               lambda conn, name, warn: ({}, [])):
            self.assertEqual([], [*deployment._rows(None, 'ran',
                                                    self.stderr)])
        self.assertIn('reading hosts ...\n', self.said())
