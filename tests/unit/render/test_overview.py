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

"""A whole cloud in the lines of a terminal."""

import dataclasses

from kongming.host import usage
from kongming.render import cloud as cloud_mod
from kongming.render import overview
from kongming.render import terminal
from tests import base
from tests import clouds


def renamed(cloud, suffix):
    return dataclasses.replace(
        cloud, hosts=tuple(dataclasses.replace(
            host, name=host.name + suffix) for host in cloud.hosts),
        servers=tuple(dataclasses.replace(
            server, host=server.host + suffix) for server in cloud.servers))


def table(text):
    """Lines of hosts, with the one above them."""
    lines = text.splitlines()
    first = next(number for number, line in enumerate(lines)
                 if line.startswith('  host '))
    return lines[first:lines.index('', first)]


class WidthTest(base.TestCase):

    def test_no_line_is_wrapped(self):
        """Whatever the hosts are called and whatever is remarked of them."""
        for suffix in ('', '.rack-17.cell-3.example.org', '\u4e91' * 30,
                       '\u0301' * 50):
            cloud = renamed(clouds.cloud(hosts=30, servers=200), suffix)
            for width in (58, 60, 80, 100, 132, 300):
                lines = table(overview.overview(cloud, width))
                self.assertEqual(31, len(lines))
                for line in lines:
                    self.assertLessEqual(overview._columns(line), width,
                                         (suffix, width))
                # Numbers stand below each other.
                self.assertEqual(1, len({
                    overview._columns(line.split('░')[0].split('█')[0])
                    for line in lines[1:]}))

    def test_remarks(self):
        cloud = clouds.cloud(hosts=30, servers=200)
        for width in (80, 132):
            text = overview.overview(cloud, width)
            self.assertIn('  does not obey\n', text)
            self.assertIn('  observe\n', text)

    def test_ascii(self):
        cloud = clouds.cloud(hosts=30, servers=200)
        drawn = overview.overview(cloud, 80)
        shown = terminal.for_encoding(drawn, 'ascii')
        self.assertTrue(shown.isascii())
        self.assertEqual(list(map(len, table(drawn))),
                         list(map(len, table(shown))))
        self.assertIn('# owned   + free, but stranded   . free', shown)


class ManyTest(base.TestCase):

    def filled(self, *owned, shared=0):
        """:param owned: of ten dedicated pCPUs of each host"""
        nodes = [usage.NodeState(0, frozenset(range(10)),
                                 frozenset(range(taken))) for taken in owned]
        nodes += [usage.NodeState(0, frozenset(), shared=frozenset({1}))
                  for _ in range(shared)]
        hosts = tuple(cloud_mod.Host(f'c{number}', '',
                                     usage.HostState([node]))
                      for number, node in enumerate(nodes))
        text = overview.overview(cloud_mod.Cloud('x', '', hosts), 200)
        return [line.partition(': ')[2] for line in text.splitlines()
                if line.startswith('owned of')]

    def test_how_full_they_are(self):
        self.assertEqual(
            ['none on 2, up to 25% on 3, up to 50% on 4, up to 75% on 5, '
             'less than all on 6, all on 7, 1 have none'],
            self.filled(*[0] * 2, *[1] * 1, *[2] * 2, *[5] * 4, *[6] * 2,
                        *[7] * 3, *[9] * 6, *[10] * 7, shared=1))

    def test_few_are_seen_at_once(self):
        self.assertEqual([], self.filled(*[0] * 19))
        self.assertEqual(['none on 20'], self.filled(*[0] * 20))

    def test_1000_hosts(self):
        """The sums come first, and each host is one line."""
        lines = overview.overview(clouds.cloud(
            hosts=1000, servers=5000, cores=32), 80).splitlines()
        self.assertTrue(lines[0].startswith('1000 hosts   124000 dedicated'))
        self.assertTrue(lines[2].startswith('owned of the dedicated pCPUs'))
        self.assertEqual(1001, len(table('\n'.join(lines))))
