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


"""What Nova's own fitter makes of a server.

``tests/functional/test_cases_guests.py`` compares it with the installed
Nova's, and boots the servers.
"""

from kongming.fit import capacity
from kongming.fit import demand
from kongming.fit import fit
from kongming.fit import nova_fitter
from kongming.host import usage
from kongming.template import guest
from kongming.template import template
from tests import base


def host(*taken):
    """Nodes of four dedicated pCPUs, of which so many are taken."""
    return usage.HostState(usage.NodeState(
        number, frozenset(range(4 * number, 4 * number + 4)),
        frozenset(range(4 * number, 4 * number + n_taken)),
        siblings=[(pcpu,) for pcpu in range(4 * number, 4 * number + 4)],
        memory_mib=8192, memory_used_mib=64 * n_taken)
        for number, n_taken in enumerate(taken))


def server(*sizes):
    cells, first = [], 0
    for size in sizes:
        cells.append(guest.Cell(frozenset(range(first, first + size)),
                                frozenset(), 64))
        first += size
    return demand.Demand(guest.Guest(tuple(cells)), template.Template())


class NovaFitterTest(base.TestCase):

    def test_cells_that_differ(self):
        asked = server(1, 4)
        self.assertTrue(fit.fit(host(1, 0, 1), asked))
        self.assertIsNone(nova_fitter.place(host(1, 0, 1), asked.guest))
        self.assertIn("Nova's own fitter finds no place",
                      nova_fitter.objection(host(1, 0, 1), asked))
        self.assertEqual((1, 0), nova_fitter.way_round(host(1, 0, 1), asked))
        self.assertIn('with the cells in the order 1, 0 it would boot',
                      nova_fitter.advice(host(1, 0, 1), asked))

    def test_in_the_order_that_boots(self):
        self.assertIsNone(nova_fitter.advice(host(1, 0, 1), server(4, 1)))

    def test_equal_cells_are_safe(self):
        for taken in ((1, 0, 1), (4, 4, 4), (2, 1, 0)):
            self.assertIsNone(nova_fitter.objection(host(*taken),
                                                    server(3, 3)))

    def test_no_order_helps(self):
        self.assertIn('no other order of the cells helps',
                      nova_fitter.advice(host(4, 4, 0), server(1, 4)))

    def test_what_does_not_boot_is_not_counted(self):
        limits = usage.Limits()
        self.assertEqual([0, 1], [
            capacity.times(host(1, 0, 1), asked, limits)
            for asked in (server(1, 4), server(4, 1))])
