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
import json
import threading
import types
import urllib.parse
import uuid

from osc_lib import exceptions

from kongming.host import usage
from kongming.placement import inventory
from osc_plugin import cloud
from tests import base


class Placement:
    """An adapter that answers as Placement would, to readers.

    :ivar asked: path -> how often
    :ivar together: requests at the same time, at most
    """

    def __init__(self, hosts):
        self.asked = collections.Counter()
        self.together = self._now = 0
        self._lock = threading.Lock()
        self._others = threading.Event()
        self.providers, self.children = [], {}
        for name in hosts:
            root = str(uuid.uuid4())
            self.providers.append({'uuid': root, 'name': name,
                                   'parent_provider_uuid': None,
                                   'root_provider_uuid': root})
            state = usage.HostState([usage.NodeState(
                0, frozenset(range(2, 8)), shared=frozenset({0, 1}),
                siblings=[{core, core + 1} for core in range(0, 8, 2)],
                memory_mib=1024)])
            for child in inventory.build(
                    name, root, state, inventory.Ratios(cpu=4.0, ram=1.5),
                    traits=[inventory.TRAIT_HOOK]):
                self.children[child.uuid] = child
                self.providers.append({
                    'uuid': child.uuid, 'name': child.name,
                    'parent_provider_uuid': root, 'root_provider_uuid': root})

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
        found = json.dumps(self._answer(path))
        return types.SimpleNamespace(status_code=200, content=found,
                                     json=lambda: json.loads(found))

    def _answer(self, path):
        path, _sep, query = path.partition('?')
        if path == '/resource_providers':
            asked = dict(urllib.parse.parse_qsl(query))
            return {'resource_providers': [
                found for found in self.providers
                if asked.get('name', found['name']) == found['name']
                and asked.get('in_tree', found['root_provider_uuid'])
                == found['root_provider_uuid']]}
        child, what = path.split('/')[2:]
        return {
            'inventories': {'resource_provider_generation': 1,
                            'inventories': self.children[child].inventory},
            'traits': {'traits': sorted(self.children[child].traits)},
            'allocations': {'allocations': {'a-server': {'resources': {
                'CUSTOM_KONGMING_PCPU': 1, 'CUSTOM_KONGMING_PCPU_4': 1,
                'CUSTOM_KONGMING_MEMORY_MB': 256}}}}}[what]


class HostsTest(base.TestCase):

    def hosts(self, count, name=None):
        self.placement = Placement([f'host{n:03}' for n in range(count)])
        compute = types.SimpleNamespace(get_server=lambda server: (
            types.SimpleNamespace(to_dict=lambda: {
                'name': 'du-1', 'id': server})))
        return cloud.hosts(types.SimpleNamespace(
            placement=self.placement, compute=compute), name)

    def test_many(self):
        hosts = self.hosts(40)
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
        # One for all, three for each of their nodes.
        self.assertEqual(121, self.placement.asked.total())

    def test_few_one_after_the_other(self):
        self.assertEqual(3, len(self.hosts(3)))
        self.assertEqual(1, self.placement.together)

    def test_one_asks_for_no_other(self):
        host, = self.hosts(40, 'host017')
        self.assertEqual('host017', host.name)
        self.assertEqual(5, self.placement.asked.total())
        self.assertIn('/resource_providers?name=host017',
                      self.placement.asked)

    def test_unknown(self):
        self.assertIn("Placement knows no host 'x'", str(self.assertRaises(
            exceptions.CommandError, self.hosts, 4, 'x')))
