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

import collections
import datetime
import email.utils
import json
import os
import pathlib
import tempfile
import threading
import types
from unittest import mock
import urllib.parse
import uuid

from osc_lib import exceptions

from kongming.host import usage
from kongming.placement import inventory
from kongming.placement import naming
from osc_plugin import cache
from osc_plugin import cloud
from tests import base


class Placement:
    """An adapter that answers as Placement would, to readers.

    :ivar asked: path -> how often
    :ivar together: requests at the same time, at most
    """

    def __init__(self, hosts, nodes=(0,), hooked=True):
        self.asked = collections.Counter()
        self.together = self._now = 0
        self._lock = threading.Lock()
        self._others = threading.Event()
        self.providers, self.nodes, self.hooked = [], {}, set()
        #: Nodes on which nothing is allocated.
        self.idle = set()
        self.now = datetime.datetime(2026, 11, 28, tzinfo=datetime.UTC)
        self.changed = self.now - datetime.timedelta(minutes=1)
        for name in hosts:
            root = self.add(name, str(uuid.uuid4()))
            if hooked:
                self.hooked.add(root)
            state = usage.HostState([usage.NodeState(
                number, frozenset(range(2, 8)), shared=frozenset({0, 1}),
                siblings=[{core, core + 1} for core in range(0, 8, 2)],
                memory_mib=1024) for number in nodes])
            for node in inventory.build(
                    name, root, state, inventory.Ratios(cpu=4.0, ram=1.5)):
                self.nodes[node.uuid] = node
                self.add(node.name, node.uuid,
                         aggregates=[naming.aggregate_uuid(root)])

    def add(self, name, uuid_, parent=None, aggregates=()):
        self.providers.append({
            'uuid': uuid_, 'name': name, 'parent_provider_uuid': parent,
            'generation': 1,
            'root_provider_uuid': parent or uuid_, 'aggregates': aggregates})
        return uuid_

    def request(self, path, method, **_kwargs):
        with self._lock:
            self.asked[path] += 1
            self._now += 1
            self.together = max(self.together, self._now)
            if self.together > 1:
                self._others.set()
        # Whoever is alone waits for company, for a moment.
        self._others.wait(0.02)
        with self._lock:
            self._now -= 1
        status, found = self._answer(path)
        content = json.dumps(found)
        return types.SimpleNamespace(
            status_code=status, content=content, headers={
                'Last-Modified': email.utils.format_datetime(self.changed),
                'Date': email.utils.format_datetime(self.now)},
            json=lambda: json.loads(content))

    def _answer(self, path):
        path, _sep, query = path.partition('?')
        if path == '/resource_providers':
            asked = dict(urllib.parse.parse_qsl(query))
            if 'required' in asked and self.hooked is None:
                return 400, {'errors': [{'detail': 'No such trait(s)'}]}
            return 200, {'resource_providers': [
                found for found in self.providers
                if asked.get('name', found['name']) == found['name']
                and ('member_of' not in asked
                     or asked['member_of'] in found['aggregates'])
                and ('required' not in asked
                     or found['uuid'] in self.hooked
                     and asked['required'] == inventory.TRAIT_HOOK
                     or naming.is_ours(found['name'])
                     and asked['required'] == inventory.TRAIT)]}
        if path == '/usages':
            return self._usages(query)
        if path == '/allocations/a-server':
            return 200, {'allocations': {}, 'project_id': 'p'}
        if path == '/allocation_candidates':
            name, amount = urllib.parse.parse_qs(query)['resources'][
                0].split(':')
            summaries = {uuid_: self._summary(uuid_) for uuid_ in self.nodes}
            return 200, {'allocation_requests': [], 'provider_summaries': {
                uuid_: found for uuid_, found in summaries.items()
                if name in found['resources'] and int(amount) <= (
                    found['resources'][name]['capacity']
                    - found['resources'][name]['used'])}}
        uuid_, what = path.split('/')[2:]
        node = self.nodes.get(uuid_)
        return 200, {
            'inventories': {'resource_provider_generation': 1,
                            'inventories': node and node.inventory},
            'traits': {'traits': sorted(node.traits) if node else [
                inventory.TRAIT_HOOK] * (uuid_ in (self.hooked or ()))},
            'allocations': {'allocations': {
                'a-server': {'resources': self.used(uuid_)}}}}[what]

    def used(self, node):
        """What is allocated on a node."""
        return {} if node in self.idle else {
            'CUSTOM_KONGMING_PCPU': 1, 'CUSTOM_KONGMING_PCPU_4': 1,
            'CUSTOM_KONGMING_MEMORY_MB': 256}

    def _usages(self, query):
        if query != 'project_id=p' or self.refuses_usages:
            return (403, {'errors': [{}]}) if self.refuses_usages else (
                200, {'usages': {}})
        found = collections.Counter()
        for node in self.nodes:
            found.update(self.used(node))
        return 200, {'usages': {'VCPU': 4, **found, **self.more}}

    #: Whether the policy lets others ask for them only.
    refuses_usages = False
    #: class -> what else the project uses
    more: dict[str, int] = {}

    def _summary(self, uuid_):
        node = self.nodes[uuid_]
        return {'traits': sorted(node.traits), 'resources': {
            name: {'capacity': int((record['total'] - record['reserved'])
                                   * record['allocation_ratio']),
                   'used': self.used(uuid_).get(name, 0)}
            for name, record in node.inventory.items()}}


class _Base(base.TestCase):

    def conn(self, count, **kwargs):
        self.placement = Placement([f'host{n:03}' for n in range(count)],
                                   **kwargs)
        compute = types.SimpleNamespace(get_server=lambda server: (
            types.SimpleNamespace(to_dict=lambda: {
                'name': 'du-1', 'id': server})),
            get=lambda url, microversion: types.SimpleNamespace(
                status_code=200, headers={},
                json=lambda: {'hypervisors': []}))
        return types.SimpleNamespace(placement=self.placement,
                                     compute=compute)

    def hosts(self, count, name=None, exact=False, **kwargs):
        return cloud.hosts(self.conn(count, **kwargs), name, exact)


class HostsTest(_Base):

    def test_many_exactly(self):
        hosts = self.hosts(40, exact=True)
        self.assertEqual([f'host{n:03}' for n in range(40)],
                         [host.name for host in hosts])
        for host in hosts:
            node, = host.state.nodes
            self.assertEqual(({4}, {4: 'server du-1 (a-server)'}, 768),
                             (node.taken, node.owners,
                              node.memory_mib - node.memory_used_mib))
            self.assertEqual((True, usage.Limits(4.0, 1.5)),
                             (host.obeys, host.limits))
        self.assertGreater(self.placement.together, 1)
        self.assertLessEqual(self.placement.together, 8)
        # All, those that obey, and three for each of their nodes.
        self.assertEqual(122, self.placement.asked.total())
        self.assertEqual([], [path for path in self.placement.asked
                              if 'resources=' in path])

    def test_many_by_one_answer(self):
        exactly = self.hosts(40, exact=True, nodes=(0, 1))
        hosts = self.hosts(40, nodes=(0, 1))
        self.assertEqual(3, self.placement.asked.total())
        for host, exact in zip(hosts, exactly):
            for node, known in zip(host.state.nodes, exact.state.nodes):
                for what in ('id', 'dedicated', 'taken', 'free', 'shared',
                             'siblings', 'shared_used', 'cache_capacity'):
                    self.assertEqual(getattr(known, what),
                                     getattr(node, what), what)
                # With what may overcommit it.
                self.assertEqual(1024 * 1.5 - 256,
                                 node.memory_mib - node.memory_used_mib)
            self.assertEqual(usage.Limits(4.0, 1.0), host.limits)
            self.assertEqual((exact.name, exact.obeys),
                             (host.name, host.obeys))

    def test_nodes_that_are_full(self):
        """One has no memory left, one no vCPU, one nothing at all."""
        conn = self.conn(10)
        names = ('CUSTOM_KONGMING_MEMORY_MB', 'CUSTOM_KONGMING_VCPU',
                 'CUSTOM_KONGMING_PCPU')
        for number, node in enumerate(list(self.placement.nodes.values())[
                :3], 1):
            for name in names[:number]:
                record = node.inventory[name]
                record['reserved'] = record['total']
        found = cloud.hosts(conn)
        self.assertEqual(10, len(found))
        self.assertEqual([0, 0, 0, 1280], [
            max(0, host.state.nodes[0].memory_mib
                - host.state.nodes[0].memory_used_mib)
            for host in found[:4]])
        # All, those that obey, three probes, and three of the last one.
        self.assertEqual(2 + 3 + 3, self.placement.asked.total())

    def test_few_one_after_the_other(self):
        self.assertEqual(3, len(self.hosts(3)))
        self.assertEqual(1, self.placement.together)

    def test_one_asks_for_no_other(self):
        host, = self.hosts(40, 'host017')
        self.assertEqual('host017', host.name)
        # It, its nodes, whether it obeys, and three for its node.
        self.assertEqual(6, self.placement.asked.total())
        self.assertIn('/resource_providers?name=host017',
                      self.placement.asked)

    def test_unknown(self):
        for name in 'x', 'host001_KONGMING_NODE0':
            self.assertIn(f"Placement knows no host '{name}'", str(
                self.assertRaises(exceptions.CommandError, self.hosts, 4,
                                  name)))

    def test_nodes_are_not_numbered_in_a_row(self):
        for name in None, 'host001':
            host = self.hosts(2, name, nodes=(0, 8))[-1]
            self.assertEqual([0, 8], sorted(host.state.node_ids()))

    def test_who_obeys(self):
        for name in None, 'host001':
            conn = self.conn(2)
            self.placement.hooked.discard(self.placement.providers[0]['uuid'])
            self.assertTrue(cloud.hosts(conn, name)[-1].obeys)
            self.assertFalse(cloud.hosts(conn, 'host000')[0].obeys)
            self.assertFalse(cloud.hosts(conn)[0].obeys)

    def test_nobody_has_ever_obeyed(self):
        """Placement refuses a query for a trait that it doesn't know."""
        conn = self.conn(2)
        self.placement.hooked = None
        self.assertEqual([False, False],
                         [host.obeys for host in cloud.hosts(conn)])

    def test_lost_its_aggregate(self):
        conn = self.conn(2)
        for provider in self.placement.providers:
            provider['aggregates'] = ()
        host, = cloud.hosts(conn, 'host001')
        self.assertEqual([0], list(host.state.node_ids()))

    def test_not_published(self):
        conn = self.conn(2)
        self.placement.add('native', str(uuid.uuid4()))
        self.assertEqual(2, len(cloud.hosts(conn)))
        self.assertIn("Host 'native' is not published", str(
            self.assertRaises(exceptions.CommandError, cloud.hosts, conn,
                              'native')))

    def test_leftovers(self):
        conn = self.conn(2, nodes=(0, 1))
        gone = self.placement.providers.pop(0)
        older = self.placement.add('host002', str(uuid.uuid4()))
        self.placement.add('host002_KONGMING_NODE0',
                           naming.provider_uuid(older, 0), older)
        hosts, left = cloud.hosts_and_leftovers(conn, False)
        self.assertEqual(['host001'], [host.name for host in hosts])
        self.assertEqual(
            [('host000_KONGMING_NODE0', None),
             ('host000_KONGMING_NODE1', None),
             ('host002_KONGMING_NODE0', older)],
            [(one.name, one.compute) for one in left])
        self.assertEqual('host000', gone['name'])
        self.assertEqual(left, cloud.leftover_nodes(conn))


class CacheTest(_Base):
    """What holds of what was read before."""

    def conn(self, count, user='u', project='p', **kwargs):
        conn = super().conn(count, **kwargs)
        self.placement.get_endpoint = lambda: 'http://placement'
        conn.current_user_id, conn.current_project_id = user, project
        return conn

    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.enterContext(
            tempfile.TemporaryDirectory()))
        self.enterContext(mock.patch.dict(
            os.environ, XDG_CACHE_HOME=str(self.folder)))

    def read(self, conn):
        """(free pCPUs by host, requests for candidates)"""
        self.placement.asked.clear()
        free = [host.state.nodes[0].n_free for host in cloud.hosts(conn)]
        return free, sum('candidates' in path
                         for path in self.placement.asked.elements())

    def test_idle_nodes_are_not_asked_for_again(self):
        conn = self.conn(10)
        self.placement.idle.update(self.placement.nodes)
        self.assertEqual(([6] * 10, 1), self.read(conn))
        self.assertEqual(([6] * 10, 0), self.read(conn))

    def test_a_generation_that_moved(self):
        conn = self.conn(10)
        self.placement.idle.update(self.placement.nodes)
        self.read(conn)
        node = self.placement.idle.pop()
        next(provider for provider in self.placement.providers
             if provider['uuid'] == node)['generation'] += 1
        free, asked = self.read(conn)
        self.assertEqual((9 * 6 + 5, 1), (sum(free), asked))

    def test_a_deleted_allocation_keeps_the_generation(self):
        conn = self.conn(10)
        self.assertEqual(([5] * 10, 1), self.read(conn))
        self.placement.idle.update(self.placement.nodes)
        self.assertEqual(([6] * 10, 1), self.read(conn))

    def test_nodes_in_use_hold_as_long_as_the_sum_does(self):
        conn = self.conn(10)
        self.assertEqual(([5] * 10, 1), self.read(conn))
        # To learn whose servers they are.
        self.assertEqual([1, 1, 1], [
            sum(path.startswith(start) for path
                in self.placement.asked.elements())
            for start in ('/usages', '/allocations/', '/resource_providers/')])
        self.assertEqual(([5] * 10, 0), self.read(conn))
        # That is asked for before the generations.
        self.assertEqual(['/usages?project_id=p',
                          '/resource_providers?required=CUSTOM_KONGMING',
                          '/resource_providers?required='
                          'CUSTOM_KONGMING_HOOK'],
                         [*self.placement.asked.elements()])
        self.placement.idle.add([*self.placement.nodes][3])
        free, asked = self.read(conn)
        self.assertEqual((5 * 9 + 6, 1), (sum(free), asked))
        self.assertEqual((free, 0), self.read(conn))

    def test_a_sum_that_tells_nothing(self):
        """Somebody else has servers, or is the only one who may ask."""
        for attribute, value in (('more', {'CUSTOM_KONGMING_PCPU': 1}),
                                 ('refuses_usages', True)):
            conn = self.conn(10)
            self.read(conn)
            with mock.patch.object(Placement, attribute, value):
                for _time in range(2):
                    self.assertEqual(([5] * 10, 1), self.read(conn))

    def test_a_leftover_may_have_what_was_freed(self):
        conn = self.conn(10)
        self.placement.add('gone_KONGMING_NODE0', str(uuid.uuid4()))
        for _time in range(2):
            self.assertEqual(([5] * 10, 1), self.read(conn))

    def test_a_provider_that_was_made_again(self):
        """It has the same generation, but was written since."""
        conn = self.conn(10)
        self.placement.idle.update(self.placement.nodes)
        self.read(conn)
        self.placement.changed += datetime.timedelta(seconds=1)
        self.assertEqual(([6] * 10, 1), self.read(conn))
        self.assertEqual(([6] * 10, 0), self.read(conn))

    def test_what_was_written_a_moment_ago_is_not_cached(self):
        conn = self.conn(10)
        self.placement.idle.update(self.placement.nodes)
        self.placement.changed = self.placement.now - datetime.timedelta(
            seconds=1)
        for _time in range(2):
            self.assertEqual(([6] * 10, 1), self.read(conn))

    def test_other_users_and_clouds(self):
        conn = self.conn(10)
        self.placement.idle.update(self.placement.nodes)
        self.read(conn)
        for other in (('v', 'p'), ('u', 'q')):
            conn.current_user_id, conn.current_project_id = other
            self.assertEqual(1, self.read(conn)[1], other)
        conn.current_user_id, conn.current_project_id = 'u', 'p'
        self.assertEqual(0, self.read(conn)[1])
        self.placement.get_endpoint = lambda: 'http://other'
        self.assertEqual(1, self.read(conn)[1])
        with mock.patch.object(cache, '_version', lambda: 'x'):
            self.assertEqual(1, self.read(conn)[1])

    def test_a_file_that_is_not_to_be_trusted(self):
        conn = self.conn(10)
        self.placement.idle.update(self.placement.nodes)
        self.read(conn)
        path, = (self.folder / 'kongming').iterdir()
        self.assertEqual((0o600, 0o700), (
            path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777))
        good = path.read_text()
        for text in ('', '{', '[]', '{"key": [], "content": {}}',
                     good.replace('"content":{', '"content":[{', 1),
                     good.replace('[1,0]', '["1",0]'),
                     good.replace('[1,0]', '[1,9]'),
                     good.replace('[1,0]', '[1,"0"]'),
                     good.replace('[1,0]', '[1,0,5]'),
                     good.replace('"kinds"', '"sorts"'), good[:-9]):
            self.assertNotEqual(good, text)
            path.write_text(text)
            self.assertEqual(([6] * 10, 1), self.read(conn), text[:60])
            self.assertEqual(0, self.read(conn)[1])
        path.write_text(good)
        path.chmod(0o620)
        self.assertEqual(1, self.read(conn)[1])
        path.unlink()
        path.symlink_to(self.folder / 'elsewhere')
        (self.folder / 'elsewhere').write_text(good)
        self.assertEqual(1, self.read(conn)[1])
        self.assertFalse(path.is_symlink())

    def test_a_folder_that_can_not_be_made(self):
        (self.folder / 'kongming').write_text('')
        conn = self.conn(10)
        self.assertEqual(([5] * 10, 1), self.read(conn))
