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

"""What each ``openstack`` command imports of us, whichever it is."""

import subprocess
import sys

from tests import base

#: Loads what cliff loads before it knows which command is to run.
_LOAD = """
import importlib.metadata, sys
for point in importlib.metadata.entry_points(group='openstack.kongming.v1'):
    point.load()
print(*sys.modules)
"""
#: Needed by some commands when they run, and many modules each.
LATE = ('kongming.plan', 'kongming.solver', 'kongming.render',
        'kongming.deployment.rollout', 'nova', 'nova_ext')


class ImportTest(base.TestCase):

    def test_plans_and_drawings_are_imported_when_they_are_needed(self):
        loaded = subprocess.run(
            [sys.executable, '-W', 'ignore', '-c', _LOAD], check=True,
            capture_output=True, text=True).stdout.split()
        self.assertIn('osc_plugin.plan.create', loaded)
        self.assertEqual([], [name for name in loaded
                              if f'{name}.'.startswith(tuple(
                                  f'{late}.' for late in LATE))])
