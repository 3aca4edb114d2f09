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

"""Drawings where there is no more than ASCII."""

from kongming.host import usage
from kongming.render import terminal
from kongming.render import text
from osc_plugin import progress
from osc_plugin.server import server
from tests import base


class EncodingTest(base.TestCase):

    def test_boxes(self):
        drawn = text.host(usage.HostState([usage.NodeState(
            0, {2, 3}, {2}, shared={0, 1}, siblings=[{0, 2}, {1, 3}],
            owners={2: 'd\N{LATIN SMALL LETTER U WITH DIAERESIS}-1'})]))
        self.assertEqual(drawn, terminal.for_encoding(drawn, 'utf-8'))
        self.assertEqual(drawn, terminal.for_encoding(drawn, None))
        for encoding in ('ascii', 'latin-1', 'no-such-encoding'):
            shown = terminal.for_encoding(drawn, encoding)
            self.assertTrue(shown.isascii())
            self.assertEqual(list(map(len, drawn.splitlines()[:-1])),
                             list(map(len, shown.splitlines()[:-1])))
            self.assertIn('+---+', shown)
            self.assertIn('A d\\xfc-1', shown)

    def test_what_fits_stays(self):
        self.assertEqual('\xfc', terminal.for_encoding('\xfc', 'latin-1'))

    def test_a_bar(self):
        self.assertEqual('########', terminal.for_encoding(
            progress.bar(1, 3, 1, 'x', 99), 'ascii')[:8])


class PinsTest(base.TestCase):

    def test_240_pins(self):
        lines = server.PinsColumn([
            (0, {n: n + 8 for n in range(120)}),
            (1, {n: 500 - n for n in range(120, 240)})]
        ).human_readable().splitlines()
        self.assertEqual('node 0: 0-119:8-127', lines[0])
        self.assertTrue(lines[1].startswith('node 1: 120:380 121:379 '))
        self.assertLess(max(map(len, lines)), 80)

    def test_no_pins(self):
        self.assertEqual('node 1: -',
                         server.PinsColumn([(1, {})]).human_readable())
