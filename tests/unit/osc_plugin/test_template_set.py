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

"""Which hosts a template has to fit, for it to be put on a flavor."""

from osc_lib import exceptions

from kongming.host import usage
from osc_plugin import cloud
from osc_plugin.template import template as template_cmd
from tests import base
from tests.unit.fit import test_nova_fitter


def host(*nodes, obeys=True):
    """A host of nodes with so many dedicated pCPUs, so many of them taken."""
    return cloud.PublishedHost('one', 'uuid', usage.HostState(
        usage.NodeState(
            number, frozenset(range(8 * number, 8 * number + have)),
            frozenset(range(8 * number, 8 * number + taken)),
            siblings=[(pcpu,) for pcpu in range(8 * number, 8 * number + 8)],
            memory_mib=8192, memory_used_mib=64 * taken)
        for number, (have, taken) in enumerate(nodes)), obeys=obeys)


class HostsTest(base.TestCase):

    def check(self, *hosts, cells):
        return template_cmd._check_hosts(hosts, test_nova_fitter.server(
            *cells))

    def test_what_is_taken_does_not_matter(self):
        self.assertEqual([], self.check(host((4, 4), (4, 4)), cells=(4, 4)))

    def test_too_large_for_any(self):
        exc = self.assertRaises(exceptions.CommandError, self.check,
                                host((4, 0), (4, 0)), cells=(4, 5))
        self.assertIn('No host could ever take this:\none: ', str(exc))

    def test_nova_boots_it_nowhere(self):
        exc = self.assertRaises(exceptions.CommandError, self.check,
                                host((3, 0), (4, 0), (3, 0)), cells=(1, 4))
        self.assertIn('No host boots this, neither as it is now nor empty:\n'
                      "one: Nova's own fitter finds no place for it", str(exc))
        self.assertIn('in the order 1, 0 it would boot', str(exc))

    def test_nova_boots_it_beside_others_only(self):
        """What is taken of the first node has it tried in another order."""
        nodes = (4, 0), (1, 0), (4, 0), (1, 0)
        self.assertRaises(exceptions.CommandError, self.check, host(*nodes),
                          cells=(1, 4, 2))
        self.assertEqual([], self.check(host((4, 2), *nodes[1:]),
                                        cells=(1, 4, 2)))

    def test_where_nobody_obeys(self):
        warning, = self.check(host((4, 0), obeys=False), cells=(4,))
        self.assertIn('no nova-compute obeys templates (one)', warning)
