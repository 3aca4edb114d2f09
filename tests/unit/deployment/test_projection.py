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

"""Hosts in a plan of which Nova was not asked."""

from kongming.deployment import deployment as dep
from kongming.deployment import projection
from kongming.host import usage
from tests import base

STATE = usage.HostState([usage.NodeState(
    0, {2, 3, 4}, {3}, shared={0, 1}, memory_mib=1024, memory_used_mib=768,
    pages=[usage.Pages(4, 262144, 65536)], shared_used=5)])


class NotAskedTest(base.TestCase):

    def test_what_is_in_use_stays(self):
        found = projection.ProjectedHost(dep.Host(STATE, {}, {}, asked=False))
        node, = found.copy().state().nodes
        self.assertEqual(
            ({3}, 768, 5, 65536, {3: 'another server'}),
            (node.taken, node.memory_used_mib, node.shared_used,
             node.pages[0].free, node.owners))

    def test_of_one_that_was_asked_of_all_is_said(self):
        found = projection.ProjectedHost(dep.Host(STATE, {}, {}))
        node, = found.state().nodes
        self.assertEqual(({3}, 0, 0, 262144), (
            node.taken, node.memory_used_mib, node.shared_used,
            node.pages[0].free))
