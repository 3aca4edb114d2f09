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
"""nova-rootwrap lets our privsep daemon start, and nothing else."""

import configparser

from oslo_privsep import priv_context
from oslo_rootwrap import wrapper

from nova_ext import privileged
from tests import base
from tests import documents

FILTERS = documents.TOP / 'etc/nova/rootwrap.d/kongming.filters'


class RootwrapTest(base.TestCase):

    def setUp(self):
        super().setUp()
        parser = configparser.RawConfigParser()
        parser.read(FILTERS)
        self.filters = [
            wrapper.build_filter(*[word.strip() for word in
                                   value.split(',')])
            for _name, value in parser.items('Filters')]

    def allowed(self, *words):
        return any(each.match(list(words)) for each in self.filters)

    def command(self, context, config='/etc/nova/nova.conf'):
        # As oslo_privsep/priv_context.py, helper_command, makes it.
        return ('privsep-helper', '--config-file', config,
                '--privsep_context', context,
                '--privsep_sock_path', '/tmp/tmp1234/privsep.sock')

    def test_ours(self):
        contexts = [value for value in vars(privileged).values()
                    if isinstance(value, priv_context.PrivContext)]
        self.assertIn(privileged.context, contexts)
        for context in contexts:
            self.assertTrue(self.allowed(*self.command(context.pypath)))
        self.assertTrue(self.allowed(*self.command(
            privileged.context.pypath, '/etc/nova/nova-cpu.conf')))

    def test_nothing_else(self):
        for other in ('nova_ext.evil.context', 'os_brick.privileged.default',
                      'nova_ext.privileged.context.x'):
            self.assertFalse(self.allowed(*self.command(other)))
        self.assertFalse(self.allowed(*self.command(
            privileged.context.pypath, '/etc/../home/me/nova.conf')))
        self.assertFalse(self.allowed(
            *self.command(privileged.context.pypath), '--log-file', '/x'))
        self.assertFalse(self.allowed('sh', '-c', 'id'))
