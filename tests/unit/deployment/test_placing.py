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

from kongming.deployment import deployment as dep
from kongming.deployment import placing
from kongming.deployment import projection
from kongming.host import usage
from kongming.template import template
from tests import base


def host(*taken):
    """Nodes of four dedicated pCPUs, of which so many are taken."""
    return usage.HostState(usage.NodeState(
        number, frozenset(range(4 * number, 4 * number + 4)),
        frozenset(range(4 * number, 4 * number + n_taken)),
        siblings=[(pcpu,) for pcpu in range(4 * number, 4 * number + 4)],
        memory_mib=8192) for number, n_taken in enumerate(taken))


def flavor(*sizes, **more):
    """Of cells of so many dedicated vCPUs."""
    specs, first = {'hw:cpu_policy': 'dedicated',
                    'hw:numa_nodes': str(len(sizes))}, 0
    for number, size in enumerate(sizes):
        specs[f'hw:numa_cpus.{number}'] = f'{first}-{first + size - 1}'
        specs[f'hw:numa_mem.{number}'] = '64'
        first += size
    return dep.Flavor(first, 64 * len(sizes), 0, {**specs, **more},
                      template.Template())


class NovaTest(base.TestCase):
    """Where Nova's own fitter takes one cell for another."""

    def place(self, hosts, servers, limits=None):
        """:param servers: name -> flavor, host"""
        steps, refused = placing.Placing(
            {name: flavor for name, (flavor, _host) in servers.items()},
            {name: projection.ProjectedHost(dep.Host(
                state, {}, {}, limits=limits))
             for name, state in hosts.items()}, {}).place([
                 dep.Server(name, 'du', name, 'idle', on)
                 for name, (_flavor, on) in servers.items()])
        return [(step.name, step.host) for step in steps], refused

    def test_another_host(self):
        self.assertEqual(([('a', 'two')], {}), self.place(
            {'one': host(1, 0, 1), 'two': host(0, 0, 0)},
            {'a': (flavor(1, 4), None)}))

    def test_no_other_host(self):
        steps, refused = self.place({'one': host(1, 0, 1)},
                                    {'a': (flavor(1, 4), None)})
        self.assertEqual([], steps)
        self.assertIn("one: Nova's own fitter finds no place for it",
                      refused['a'])
        self.assertIn('with the cells in the order 1, 0 it would boot',
                      refused['a'])

    def test_refused_now_and_not_beside_one_that_comes(self):
        servers = {'a': (flavor(1, 4, 2), 'one'), 'b': (flavor(2), 'one')}
        alone = self.place({'one': host(0, 3, 0, 3)}, {
            'a': servers['a']})
        self.assertEqual(['a'], [*alone[1]])
        self.assertEqual(([('b', 'one'), ('a', 'one')], {}), self.place(
            {'one': host(0, 3, 0, 3)}, servers))

    def test_what_floats_is_limited(self):
        shared = usage.HostState([usage.NodeState(
            0, frozenset(), frozenset(), shared=frozenset(range(4)),
            memory_mib=8192)])
        floating = dep.Flavor(4, 64, 0, {'hw:numa_nodes': '1'},
                              template.Template())
        servers = {name: (floating, None) for name in 'abc'}
        for ratio, count in ((3.0, 3), (2.0, 0)):
            steps, refused = self.place({'one': shared}, servers,
                                        usage.Limits(ratio, 1.0))
            self.assertEqual((count, not count), (len(steps), bool(refused)))
        self.assertIn('cpu_allocation_ratio 2', refused['c'])
