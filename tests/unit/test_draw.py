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

import textwrap

from kongming import draw
from kongming import usage
from tests import base


class HostTest(base.TestCase):

    def test_picture(self):
        state = usage.HostState([usage.NodeState(
            0, frozenset({2, 3, 10, 11}), taken=frozenset({2, 10, 11}),
            shared=frozenset({0, 8}), siblings=[{2, 10}, {3, 11}, {0, 8}],
            memory_mib=8192, memory_used_mib=1024,
            owners={2: 'server du-1', 10: 'server du-1'})])
        self.assertEqual(textwrap.dedent("""\
            node 0   8192 MiB, 7168 free   4 dedicated pCPUs, 1 free
              ┌────┐┌────┐┌────┐
              │ 0 ~││ 2 A││ 3 .│
              │ 8 ~││10 A││11 #│
              └────┘└────┘└────┘
            A server du-1   . free   ~ shared   # taken"""),
                         draw.host(state))

    def test_wide_host_is_wrapped(self):
        pcpus = frozenset(range(128))
        state = usage.HostState([usage.NodeState(
            0, pcpus, siblings=[{n, n + 64} for n in range(64)])])
        lines = draw.host(state, 60).splitlines()
        self.assertLessEqual(max(map(len, lines)), 60)
        self.assertIn('127 .', draw.host(state, 60))
