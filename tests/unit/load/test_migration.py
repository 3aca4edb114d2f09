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

from kongming.fit import demand
from kongming.host import usage
from kongming.load import migration
from kongming.template import guest
from kongming.template import template
from tests import base

FLOATS = {'hw:cpu_policy': 'shared', 'hw:numa_nodes': '1'}


def wanted(memory_mib=1024, vcpus=1, **specs):
    """What a server whose vCPUs float asks for."""
    return demand.Demand(guest.from_flavor(vcpus, memory_mib, FLOATS),
                         template.decode({
                             f'kongming:{key.replace("_", ".")}': value
                             for key, value in specs.items()}))


def host(*memory_mib, **kwargs):
    """A host with nodes of one shared pCPU each, and as much memory."""
    return migration.Host(usage.HostState([
        usage.NodeState(node, frozenset(), shared=frozenset({node}),
                        memory_mib=mib)
        for node, mib in enumerate(memory_mib)]), **kwargs)


class PlanTest(base.TestCase):

    HOSTS = {name: host(4096, 4096) for name in ('full', 'half', 'idle',
                                                 'other', 'h')}
    WAITS = 'a', 'h', 0, 1, 100.0, 50.0
    IDLE = 'idle', 1, 1, 0.0

    def plan(self, servers, *places, demands=None, hosts=None, **kwargs):
        found = [migration.Server(*each) for each in servers]
        if demands is None:
            demands = {server.id: wanted() for server in found}
        return [(step.server.id, step.place.host, step.saves, step.local_mib)
                for step in migration.plan(
                    found, [migration.Place(*each) for each in places],
                    self.HOSTS if hosts is None else hosts, demands,
                    **kwargs)]

    def test_where_most_is_free(self):
        full, half = ('full', 0, 1, 1.0), ('half', 0, 1, 0.5)
        self.assertEqual([('a', 'idle', 0.5, 0)],
                         self.plan([self.WAITS], full, half, self.IDLE))
        self.assertEqual([], self.plan([self.WAITS], full, half))
        self.assertEqual([], self.plan([self.WAITS], ('h', 1, 1, 0.0)))
        self.assertEqual([], self.plan([(*self.WAITS[:5], 1.0)], self.IDLE))

    def test_each_after_those_before_it(self):
        """Three share a pCPU: two go, and nobody waits any more."""
        waits = [(name, 'h', 0, 1, 100.0, 200 / 3) for name in 'abc']
        self.assertEqual(
            [('a', 'idle', 0.67, 0), ('b', 'other', 0.5, 0)],
            self.plan(waits, ('idle', 0, 1, 0.0), ('other', 0, 1, 0.0)))

    def test_memory_that_is_elsewhere(self):
        """It goes to where it has nobody wait, and what waits comes first."""
        away = 'b', 'h', 0, 1, 20.0, 0.0, 512
        self.assertEqual([('b', 'idle', 0.0, 512)], self.plan(
            [away], ('half', 0, 1, 0.9), self.IDLE))
        self.assertEqual([], self.plan([away], ('half', 0, 1, 0.9)))
        self.assertEqual(
            [('a', 'idle', 0.5, 0), ('b', 'other', 0.0, 512)],
            self.plan([away, self.WAITS], self.IDLE, ('other', 0, 1, 0.7)))
        # Nothing of it floats, so nobody there is in its way.
        self.assertEqual([('c', 'full', 0.0, 256)], self.plan(
            [('c', 'h', None, 0, 0.0, 0.0, 256)], ('full', 0, 1, 3.0)))

    def test_only_where_it_fits(self):
        small, large = host(512, 512), host(512, 4096)
        self.assertEqual([], self.plan([self.WAITS], self.IDLE,
                                       hosts={'idle': small}))
        # On that node.
        places = ('idle', 0, 1, 0.0), ('idle', 1, 1, 0.2)
        self.assertEqual([('a', 'idle', 0.3, 0)], self.plan(
            [self.WAITS], *places, hosts={'idle': large}))
        # Who comes first has it.
        waits = [(name, 'h', 0, 1, 10.0, 7.0) for name in 'abc']
        self.assertEqual([('a', 'idle', 0.07, 0)], self.plan(
            waits[:2], self.IDLE, hosts={
                'idle': host(0, 1536, limits=usage.Limits(16.0))}))
        # Overcommit has its limit.
        self.assertEqual([], self.plan(
            [self.WAITS], self.IDLE, demands={'a': wanted(vcpus=3)}, hosts={
                'idle': host(4096, 4096, limits=usage.Limits(2.0))}))

    def test_who_stays(self):
        """By its template, or as nobody knows enough of it or of the host."""
        for how in ({'demands': {}}, {'hosts': {}},
                    {'demands': {'a': wanted(node_0='0')}},
                    {'barred': {'a': {'idle'}}}):
            self.assertEqual([], self.plan([self.WAITS], self.IDLE, **how))
        self.assertEqual(1, len(self.plan(
            [self.WAITS], self.IDLE, demands={'a': wanted(node_0='1')},
            barred={'b': {'idle'}})))
