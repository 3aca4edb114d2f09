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

"""The page of a whole cloud, as a file."""

from html import parser
import json
import re
from xml.etree import ElementTree

from kongming.host import usage
from kongming.render import cloud as cloud_mod
from kongming.render import overview
from kongming.render import page
from kongming.render import svg
from kongming.render import text
from tests import base
from tests import clouds

#: What turns a line round, and what a terminal obeys.
OBEYED = re.compile('[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e'
                    '\u2066-\u2069\ud800-\udfff]')


class _Elements(parser.HTMLParser):
    """Elements of a file, with the text of those that are scripts.

    :ivar found: [tag, attributes, text]
    """

    def __init__(self, text):
        super().__init__()
        self.found = []
        self._is_open = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append([tag, dict(attrs), ''])
        self._is_open = True

    def handle_endtag(self, tag):
        self._is_open = False

    def handle_data(self, data):
        if self._is_open:
            self.found[-1][2] += data


def parts(text):
    """(policy, data, scripts and styles that are run)."""
    found = _Elements(text).found
    policy, = [attrs['content'] for tag, attrs, _text in found
               if attrs.get('http-equiv') == 'Content-Security-Policy']
    data, = [text for tag, attrs, text in found
             if attrs.get('id') == 'data' and tag == 'script']
    return policy, json.loads(data), [
        text for tag, attrs, text in found
        if tag in ('style', 'script') and 'type' not in attrs]


class PageTest(base.TestCase):

    def test_nothing_of_the_network(self):
        found = page.page(clouds.cloud())
        policy, _data, runs = parts(found)
        self.assertTrue(policy.startswith("default-src 'none'; script-src "
                                          "'sha256-"))
        self.assertNotIn('unsafe', policy)
        for text_ in runs:
            self.assertIn(page._digest(text_), policy)
        for tag, attrs, _text in _Elements(found).found:
            self.assertFalse(attrs.keys() & {'src', 'srcset', 'action',
                                             'style', 'formaction'}, tag)
            self.assertTrue(attrs.get('href', '#').startswith('#'))
            self.assertFalse([key for key in attrs if key.startswith('on')])
        self.assertNotRegex(found, '(?i)url\\(|@import|https?://')
        # Text goes in as text.
        self.assertNotRegex(found, '(?i)innerHTML|outerHTML|insertAdjacent|'
                                   r'document\.write|eval\(|new Function')

    def test_all_of_a_cloud(self):
        cloud = clouds.cloud(changes=30)
        _policy, data, _runs = parts(page.page(cloud))
        self.assertEqual([host.name for host in cloud.hosts],
                         [row[0] for row in data['hosts']])
        self.assertEqual({server.id for server in cloud.servers},
                         {row[0] for row in data['servers']})
        for row in data['servers']:
            server, = [one for one in cloud.servers if one.id == row[0]]
            cell, = server.cells
            pins = row[8][0][4]
            self.assertEqual(cell.pins, dict(zip(pins[::2], pins[1::2])))
            self.assertEqual(server.host, data['hosts'][row[2]][0])
            self.assertEqual(len(server.changes), len(row[10]))
        for host, row in zip(cloud.hosts, data['hosts']):
            self.assertEqual(
                [[*cloud_mod.sums((node,))] for node in host.state.nodes],
                [data['nodes'][number][3] for number in row[5]])

    def test_hosts_that_are_alike_stand_once(self):
        many = len(page.page(clouds.cloud(hosts=1000, servers=0, cores=64)))
        few = len(page.page(clouds.cloud(hosts=2, servers=0, cores=64)))
        # A name, a uuid and what little else is the host's own.
        self.assertLess(many - few, 998 * 150)

    def test_no_hosts(self):
        _policy, data, _runs = parts(page.page(cloud_mod.Cloud('x', '', ())))
        self.assertEqual(([], [], None), (
            data['hosts'], data['servers'], data['moment']))


class HostileTest(base.TestCase):
    """Names of servers, hosts, flavors and clouds are others' text."""

    def cloud(self, name):
        cloud = clouds.cloud(hosts=1, servers=0)
        host = cloud.hosts[0]
        return cloud_mod.Cloud(
            name, cloud.moment, (cloud_mod.Host(
                name, name, host.state, True, name, name),),
            (cloud_mod.Server(
                name, name, name, name, name, name, name, True,
                (cloud_mod.Cell(0, {0: 2}, frozenset({2}), 0, 1),), (name,),
                (cloud_mod.Change(cloud.moment, 'Error', name),)),),
            ((name, name),), (name,), True)

    def test_html(self):
        harmless = _Elements(page.page(self.cloud('x'))).found
        for name in clouds.HOSTILE:
            made = page.page(self.cloud(name))
            self.assertTrue(made.isascii())
            found = _Elements(made).found
            # The same elements with the same attributes, whatever it is.
            self.assertEqual([one[:2] for one in harmless],
                             [one[:2] for one in found])
            policy, data, runs = parts(made)
            self.assertEqual((policy, runs),
                             (parts(page.page(self.cloud('x')))[0],
                              parts(page.page(self.cloud('x')))[2]))
            self.assertNotRegex(json.dumps(data, ensure_ascii=False),
                                OBEYED)

    def test_terminal(self):
        for name in clouds.HOSTILE:
            cloud = self.cloud(name)
            lines = len(overview.overview(self.cloud('x')).splitlines())
            drawn = overview.overview(cloud)
            self.assertNotRegex(drawn, OBEYED)
            self.assertEqual(lines, len(drawn.splitlines()))
            json.dumps(overview.to_json(cloud))

    def test_svg_and_map(self):
        for name in clouds.HOSTILE:
            state = usage.HostState([usage.NodeState(
                0, {2, 3}, {2}, siblings=[{2, 3}], owners={2: name})])
            root = ElementTree.fromstring(svg.svg(name, state).encode())
            self.assertEqual(
                {'svg', 'title', 'style', 'text', 'g', 'rect'},
                {each.tag.rpartition('}')[2] for each in root.iter()})
            self.assertNotRegex(''.join(root.itertext()), OBEYED)
            drawn = text.host(state)
            self.assertNotRegex(drawn, OBEYED)
            self.assertEqual(len(text.host(usage.HostState([usage.NodeState(
                0, {2, 3}, {2}, siblings=[{2, 3}], owners={2: 'x'})]))
                .splitlines()) if len(name) < 60 else len(
                    drawn.splitlines()), len(drawn.splitlines()))

    def test_10000_names(self):
        names = [f'{clouds.HOSTILE[n % len(clouds.HOSTILE)]}{n}'
                 for n in range(10000)]
        cloud = clouds.cloud(hosts=4, servers=10000, names=names)
        found = page.page(cloud)
        self.assertEqual(10000, len(parts(found)[1]['servers']))
        self.assertLess(len(found), 10 << 20)
        owners = {pcpu: name for pcpu, name in enumerate(names)}
        state = usage.HostState([usage.NodeState(
            0, frozenset(owners), frozenset(owners), owners=owners,
            siblings=[{p, p + 1} for p in range(0, 10000, 2)])])
        ElementTree.fromstring(svg.svg('x', state).encode())
        self.assertIn('# others', text.host(state))


class OverviewTest(base.TestCase):

    def test_sums(self):
        cloud = clouds.cloud(hosts=6, servers=40)
        drawn = overview.overview(cloud, 100)
        for host in cloud.hosts:
            line, = [line for line in drawn.splitlines()
                     if line[2:].startswith(host.name + ' ')]
            sums = cloud_mod.sums(host.state.nodes)
            mine = cloud.by_host()[host.name]
            self.assertEqual(
                [sums.owned, sums.free, sums.stranded, len(mine)],
                [*map(int, re.findall(r' +([0-9]+)', line)[:4])])
            self.assertEqual(any(server.drift for server in mine),
                             line.startswith('!'))
            self.assertLessEqual(len(line), 100)
        self.assertIn(f'{len(cloud.servers)} servers', drawn)

    def test_however_little_it_is_seen(self):
        host = cloud_mod.Host('x', 'u', usage.HostState([usage.NodeState(
            0, frozenset(range(1000)), frozenset({0}),
            siblings=[{p, p + 1} for p in range(0, 1000, 2)])]))
        drawn = overview.overview(cloud_mod.Cloud('x', '', (host,)))
        self.assertIn(overview.OWNED + overview.STRANDED + overview.FREE,
                      drawn)

    def test_colour(self):
        cloud = clouds.cloud()
        self.assertEqual(
            overview.overview(cloud),
            re.sub('\033\\[[0-9;]*m', '', overview.overview(
                cloud, colour=True)))

    def test_conflicts(self):
        state = usage.HostState([usage.NodeState(
            0, frozenset({2, 3, 4}), frozenset({2}), siblings=[{2, 3}, {4}])])
        servers = [cloud_mod.Server(name, name, 'x', cells=(cloud_mod.Cell(
            0, {0: 2, 1: other}, frozenset({2, other}), 0, 1),))
            for name, other in (('a', 3), ('b', 4))]
        host = cloud_mod.Host('x', 'u', state)
        self.assertEqual(
            ['pCPU 2 is owned by a and by b',
             'Placement has pCPU 3-4 as free, which servers own'],
            cloud_mod.conflicts(host, servers))
        drawn = overview.overview(cloud_mod.Cloud(
            'x', '', (host,), tuple(servers)))
        self.assertIn('2 conflicts', drawn)
        self.assertIn('! x: pCPU 2 is owned by a and by b', drawn)


class StrandedTest(base.TestCase):

    def test_of_a_core_that_another_owns_a_part_of(self):
        def stranded(**kwargs):
            return cloud_mod.stranded(usage.NodeState(
                0, frozenset(range(2, 8)), frozenset({2, 6, 7}),
                shared=frozenset({0, 1}),
                siblings=[{0, 1}, {2, 3}, {4, 5}, {6, 7}], **kwargs))

        self.assertEqual({3}, stranded())
        self.assertEqual({3}, stranded(memory_mib=2, memory_used_mib=1))
        # Nothing of a node without memory is of any use.
        self.assertEqual({3, 4, 5}, stranded(memory_mib=2,
                                             memory_used_mib=2))
