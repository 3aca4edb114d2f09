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

from oslo_privsep import priv_context
from oslo_rootwrap import wrapper

from nova_ext import privileged
from tests import base


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
