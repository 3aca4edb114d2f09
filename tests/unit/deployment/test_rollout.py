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

"""Plans carried out step by step, before a checker that looks after each."""

import json
import random

from kongming.deployment import deployment as dep
from kongming.deployment import document as document_mod
from kongming.deployment import drift
from kongming.deployment import rollout
from kongming.fit import fit
from kongming.host import usage
from kongming.placement import reserved
from kongming.template import template
from tests import base

HOSTS = ('one', 'two')
NODES, PCPUS = 2, 4


class World:
    """Two hosts of two nodes of four pCPUs, and what runs there.

    It does what a step says as Nova and the hosts would, and fails where a
    pCPU would have two owners.
    """

    def __init__(self):
        self.flavors = {}
        self.servers = {}
        self.strangers = {host: set() for host in HOSTS}
        self._count = 0

    def pins(self, found):
        return {pcpu for _node, pins in found.cells for pcpu in pins.values()}

    def taken(self, host):
        taken = list(self.strangers[host])
        for found in self.servers.values():
            if found.host == host:
                taken += self.pins(found)
        assert len(taken) == len(set(taken)), f'two owners: {taken}'
        return set(taken)

    def state(self, host):
        taken = self.taken(host)
        nodes = []
        for number in range(NODES):
            pcpus = range(number * PCPUS, (number + 1) * PCPUS)
            nodes.append(usage.NodeState(
                number, frozenset(pcpus), frozenset(taken & set(pcpus)),
                siblings=[{pcpu} for pcpu in pcpus], memory_mib=4096,
                pages=[usage.Pages(4, 1048576, 1048576)]))
        return usage.HostState(nodes)

    def cloud(self):
        hosts = {}
        for host in HOSTS:
            owned = {number: {} for number in range(NODES)}
            for found in self.servers.values():
                for node, pins in found.cells:
                    if found.host == host:
                        owned[node][found.id] = reserved.Owned(
                            frozenset(pins.values()), 0, 64)
            hosts[host] = dep.Host(self.state(host), owned, {
                found.id: f'server {found.name}'
                for found in self.servers.values()})
        return dep.Cloud(hosts, dict(self.flavors),
                         tuple(self.servers.values()), {'idle': 'idle-id'},
                         {'lan': 'lan-id'})

    def carry_out(self, step):
        match step:
            case dep.CreateFlavor():
                assert step.name not in self.flavors
                self.flavors[step.name] = dep.FoundFlavor(
                    step.name, step.name, step.flavor.vcpus,
                    step.flavor.ram_mib, step.flavor.disk_gib,
                    dict(step.specs))
            case dep.DeleteFlavor():
                del self.flavors[step.name]
            case dep.ChangeFlavor():
                old = self.flavors[step.name]
                self.flavors[step.name] = old._replace(specs={
                    **{key: value for key, value in old.specs.items()
                       if key not in step.changes.remove},
                    **step.changes.put})
            case dep.DeleteServer():
                del self.servers[step.id]
            case dep.AwaitServer():
                self.servers[step.id] = self.servers[step.id]._replace(
                    status='ACTIVE')
            case dep.CreateServer():
                self._create(step)
            case dep.ChangeServers():
                self._change(step)
        for host in HOSTS:
            self.taken(host)

    def _create(self, step):
        flavor = self.flavors[step.server.flavor]
        meant = template.decode(flavor.specs)
        # The host decides by itself, and so as the plan said.
        wanted = dep.Flavor(flavor.vcpus, flavor.ram_mib, flavor.disk_gib,
                            flavor.specs, meant)
        result = fit.fit(self.state(step.host), wanted.demand)
        assert result == step.assignment, f'{result}, not {step.assignment}'
        self._count += 1
        self.servers[f'id-{self._count}'] = dep.FoundServer(
            f'id-{self._count}', step.name, 'ACTIVE', step.host, True,
            'idle-id', flavor,
            {dep.MARK: 'ran', dep.LIKE: step.server.flavor}, tuple(
                (cell.node, dict(cell.pins)) for cell in result.cells))

    def _change(self, step):
        for change in step.changes:
            found = self.servers[change.id]
            self.servers[change.id] = found._replace(
                metadata=change.changes.applied(found.metadata))
        for move in step.moves:
            found = self.servers[move.server]
            cells = [(node, dict(pins)) for node, pins in found.cells]
            node, pins = cells[move.cell]
            for one in move.moves:
                assert pins[one.vcpu] == one.source
            pins.update((one.vcpu, one.target) for one in move.moves)
            cells[move.cell] = move.node, pins
            self.servers[move.server] = found._replace(cells=tuple(cells))
            self.taken(step.host)

    def apply(self, wanted, **kwargs):
        plan = rollout.plan(wanted, self.cloud(), **kwargs)
        assert not plan.problems, plan.problems
        for step in plan.steps:
            self.carry_out(step)
        return [f'{step.what} {step.name}' for step in plan.steps]


def document(servers, **templates):
    """:param servers: name -> pins (text), or further keys of a server"""
    return document_mod.parse(json.dumps({
        'name': 'ran',
        'templates': templates or {'du': du()},
        'servers': {name: {
            'template': 'du', 'image': 'idle',
            **({'cells': {'0': {'pin': said}}, 'host': 'one'}
               if isinstance(said, str) else said)}
            for name, said in servers.items()}}))


def du(vcpus=2, **more):
    return {'vcpus': vcpus, 'ram': 64, 'grant': 'template',
            'properties': {'hw:cpu_policy': 'dedicated'}, **more}


def any_document(rng):
    """Servers that mostly have a place; each mostly keeps its host."""
    places = {host: [] for host in HOSTS}
    for host in HOSTS:
        for first in range(0, NODES * PCPUS, PCPUS):
            pcpus = rng.sample(range(first, first + PCPUS), PCPUS)
            places[host] += [pcpus[:2], pcpus[2:]]
        rng.shuffle(places[host])
    servers = {}
    for name in rng.sample('abcdef', rng.randint(1, 6)):
        host = HOSTS['abcdef'.index(name) % 2]
        zero, one = places[host].pop()
        servers[name] = {**({'host': host} if rng.random() < .9 else {}), **(
            {'cells': {'0': {'pin': f'0:{zero} 1:{one}'}}}
            if rng.random() < .7 else rng.choice((
                {'cells': {'0': {'pin': f'1:{one}'}}},
                {'cells': {'0': {'node': one // PCPUS}}}, {})))}
    return document(servers, du=du(
        grant=rng.choice(['template'] * 8 + ['qos']), sched='0:batch'))


class AnyPlanTest(base.TestCase):

    def test_no_pcpu_is_assigned_twice(self):
        """From any deployment to any other, with a stop at any step."""
        seen = {'moves': 0, 'problems': 0, 'stops': 0}
        for seed in range(60):
            rng = random.Random(seed)
            world = World()
            world.strangers['one'] = set(rng.sample(range(8), 1))
            for _ in range(3):
                wanted = any_document(rng)
                prune = rng.random() < .7
                plan = rollout.plan(wanted, world.cloud(), prune)
                if plan.problems:
                    self.assertEqual((), plan.steps)
                    for problem in plan.problems:
                        self.assertIn(problem.key.split('.')[0],
                                      ('servers', 'templates'))
                        self.assertTrue(problem.reason)
                    seen['problems'] += 1
                    continue
                seen['moves'] += any(
                    isinstance(step, dep.ChangeServers) and step.moves
                    for step in plan.steps)
                if plan.steps and rng.random() < .5:
                    seen['stops'] += 1
                    for step in plan.steps[:rng.randrange(len(plan.steps))]:
                        world.carry_out(step)
                world.apply(wanted, prune=prune)
                self.assertEqual([], world.apply(wanted, prune=prune))
                names = [found.name for found in world.servers.values()]
                self.assertLessEqual(set(wanted.servers), set(names))
                self.assertEqual(len(set(names)), len(names))
                for found in world.servers.values():
                    if found.name in wanted.servers:
                        self.assertEqual([], drift.reasons(
                            found, world.flavors[found.metadata[dep.LIKE]],
                            world.state(found.host)))
        for what, count in seen.items():
            self.assertGreater(count, 10, what)


class PlanTest(base.TestCase):

    def setUp(self):
        super().setUp()
        self.world = World()

    def problems(self, *args, **kwargs):
        plan = rollout.plan(document(*args, **kwargs), self.world.cloud())
        self.assertEqual((), plan.steps)
        return [str(problem) for problem in plan.problems]

    def alter(self, name, **fields):
        found, = [found for found in self.world.servers.values()
                  if found.name == name]
        self.world.servers[found.id] = found._replace(**fields)

    def test_two_want_the_same(self):
        problem, = self.problems({'a': '0:0 1:1', 'b': '0:1 1:2'})
        self.assertIn("servers.b.template = 'du': one: node 0: pCPU 1 is "
                      'owned by server a of this document; ', problem)
        self.assertIn('; it would fit without the pin', problem)

    def test_what_is_left_open_comes_last(self):
        self.assertEqual(
            ['create flavor ran.du', 'create flavor ran.du.b',
             'create flavor ran.du.c', 'create server c', 'create server b',
             'create server a'],
            self.world.apply(document({
                'a': {'host': 'one'}, 'b': '0:1', 'c': '0:0 1:3'})))

    def test_one_that_would_take_what_another_names_comes_later(self):
        """a's open vCPU would take pCPU 0, which b names."""
        self.assertEqual(['create server b', 'create server a'],
                         self.world.apply(document({
                             'a': '1:2', 'b': '0:0'}))[2:])

    def test_both_would_take_what_the_other_names(self):
        problem, = self.problems({'a': '0:0', 'b': '0:1'})
        self.assertIn('pCPU 1 is owned by server a of this document (not all '
                      'its pCPUs are named); ', problem)

    def test_two_change_places(self):
        one = du(1)
        self.world.apply(document({'a': '0:0', 'b': '0:1'}, du=one))
        ring = {'a': '0:1', 'b': '0:0'}
        self.world.strangers['one'] = {2, 3}
        for problem in self.problems(ring, du=one):
            self.assertIn('pCPUs are to change hands in a ring', problem)
        self.world.strangers['one'] = {2}
        self.assertEqual(
            ['change flavor ran.du.a', 'change flavor ran.du.b',
             'change server a, b'],
            self.world.apply(document(ring, du=one)))

    def test_a_new_one_gets_what_another_gives_up(self):
        self.world.apply(document({'a': '0:0 1:1', 'b': '0:2 1:3'}))
        self.assertEqual(
            ['delete server b', 'change flavor ran.du.a',
             'create flavor ran.du.c', 'delete flavor ran.du.b',
             'change server a', 'create server c'],
            self.world.apply(document({'a': '0:3 1:1', 'c': '0:0 1:2'}),
                             prune=True))

    def test_without_prune_it_stays_and_is_in_the_way(self):
        self.world.apply(document({'a': '0:0 1:1'}))
        plan = rollout.plan(document({'b': '0:4 1:5'}), self.world.cloud())
        self.assertEqual(tuple(
            f'{what} stays, though the document has it no longer; --prune '
            f'deletes it' for what in ('server a', 'flavor ran.du.a')),
            plan.warnings)
        problem, = self.problems({'b': '0:0 1:2'})
        self.assertIn('pCPU 0 is owned by server a', problem)

    def test_what_can_not_be_built_is_built_again(self):
        self.world.apply(document({'a': '0:0 1:1'}))
        self.alter('a', status='ERROR', launched=False, cells=(), host=None)
        self.assertEqual(['delete server a', 'create server a'],
                         self.world.apply(document({'a': '0:0 1:1'})))

    def test_what_is_being_built_is_waited_for(self):
        self.world.apply(document({'a': '0:0 1:1'}))
        self.alter('a', status='BUILD')
        self.assertEqual(['wait for server a'],
                         self.world.apply(document({'a': '0:0 1:1'})))

    def test_a_change_that_was_requested_and_not_done_is_waited_for(self):
        self.world.apply(document({'a': '0:0 1:1'}))
        wanted = document({'a': '0:2 1:1'})
        self.world.apply(wanted)
        self.alter('a', cells=((0, {0: 0, 1: 1}),))
        step, = rollout.plan(wanted, self.world.cloud()).steps
        self.assertEqual(('a', 'a: wait for the host'), (step.name, step.how))
        self.world.carry_out(step)
        self.assertEqual([], self.world.apply(wanted))

    def test_what_an_operator_said_meanwhile_is_taken_back(self):
        wanted = document({'a': '0:0 1:1'})
        self.world.apply(wanted)
        self.alter('a', metadata={
            dep.MARK: 'ran', 'kongming:emulator': 'shared',
            'kongming:pin.0': '0:3', 'kongming:profile': 'auto'})
        self.assertEqual(['change server a'], self.world.apply(wanted))
        found, = self.world.servers.values()
        self.assertEqual(
            {dep.MARK: 'ran', dep.LIKE: 'ran.du.a',
             'kongming:profile': 'auto'}, found.metadata)

    def test_what_a_running_server_can_not_become(self):
        self.world.apply(document({'a': '0:0 1:1'}))
        again = '; delete the server, and apply makes it anew'
        self.assertEqual(
            ["servers.a.host = 'two': it is on one; 'openstack server "
             f"migrate' moves it{again}",
             f"servers.a = '...': it was booted with disk 0, not 1{again}",
             "servers.a = '...': it was booted with hw:cpu_realtime unset, "
             f'not no{again}',
             "servers.a = '...': it keeps the grant of the flavor that it "
             f'was booted with{again}'],
            self.problems({'a': {'host': 'two',
                                 'cells': {'0': {'pin': '0:0 1:1'}}}},
                          du=du(disk=1, grant='qos', properties={
                              'hw:cpu_policy': 'dedicated',
                              'hw:cpu_realtime': 'no'})))

    def test_what_the_flavor_does_not_grant(self):
        one = du(grant='profile')
        self.world.apply(document({'a': '0:0 1:1'}, du=one))
        self.assertEqual(
            ["servers.a = '...': kongming:pin.0 = '0:2 1:1': it needs the "
             "grant 'template' of the flavor (kongming:grant); delete the "
             'server, and apply makes it anew'],
            self.problems({'a': '0:2 1:1'}, du=one))
        self.assertIn(
            'says kongming:pin.0, which metadata can not unset',
            self.problems({'a': {'cells': {'0': {'node': 0}}}}, du=one)[0])

    def test_what_the_host_would_refuse(self):
        self.world.apply(document({'a': '0:0 1:1'}))
        self.world.strangers['one'] = {2}
        problem, = self.problems({'a': '0:2 1:1'})
        self.assertIn("servers.a = '...': one: node 0: pCPU 2 is owned by "
                      'another server; ', problem)
        self.assertIn('; name other pCPUs, or free capacity', problem)

    def test_what_the_cloud_has_not(self):
        self.assertEqual(
            ["servers.a.host = 'three': no host of that name obeys templates; "
             'those that do are one, two',
             "servers.a.image = 'none': there is no such image, or several; "
             "'openstack image list' shows what there is",
             "servers.a.networks = 'wan': there is no such network, or "
             "several; 'openstack network list' shows what there is"],
            self.problems({'a': {
                'host': 'three', 'image': 'none', 'networks': ['lan', 'wan'],
                'cells': {'0': {'node': 0}}}}))

    def test_cells_that_an_image_made(self):
        """Of these the plan says nothing; the host will."""
        self.world.apply(document({'a': '0:0 1:1'}))
        self.alter('a', cells=((0, {0: 0}), (1, {1: 4})))
        plan = rollout.plan(document({'a': '0:2 1:1'}), self.world.cloud())
        self.assertEqual(((), ()), (plan.problems, plan.steps[-1].moves))

    def test_a_foreign_flavor(self):
        self.world.flavors['ran.du.a'] = dep.FoundFlavor(
            'ran.du.a', 'x', 2, 64, 0, {})
        problem, = self.problems({'a': '0:0 1:1'})
        self.assertIn("servers.a = 'ran.du.a': there is a flavor of that "
                      'name', problem)

    def test_a_flavor_that_was_not_marked_yet(self):
        self.world.flavors['ran.du.a'] = dep.FoundFlavor(
            'ran.du.a', 'ran.du.a', 2, 64, 0, {})
        self.assertEqual(['change flavor ran.du.a', 'create server a'],
                         self.world.apply(document({'a': '0:0 1:1'})))

    def test_hosts_of_different_time_zones(self):
        def warned(when, zones, mine=None, **servers):
            cloud = self.world.cloud()
            cloud = cloud._replace(zones=mine, hosts={
                name: host._replace(zones=zones.get(name))
                for name, host in cloud.hosts.items()})
            plan = rollout.plan(document(
                servers or {'a': {'host': 'one'}, 'b': {'host': 'two'}},
                du=du(profiles={'night': {
                    'when': when, 'cells': {'0': {'pin': '0~v0'}}}})), cloud)
            self.assertEqual((), plan.problems)
            return '; '.join(plan.warnings)

        differ = {'one': '2025b', 'two': '2026f'}
        berlin, utc = '22:00-06:00 Europe/Berlin', '22:00-06:00 UTC'
        self.assertIn('(one: 2025b, two: 2026f)', warned(berlin, differ))
        self.assertIn('(one: 2025b, here: 2026f)', warned(
            berlin, differ, '2026f', a={'host': 'one'}))
        self.assertIn('one: not said', warned(berlin, {'two': '2026f'}))
        for silent in ((utc, differ, '2026f'),
                       (berlin, dict.fromkeys(HOSTS, '2026f'), '2026f'),
                       (berlin, dict.fromkeys(HOSTS, '2026f'))):
            self.assertEqual('', warned(*silent))
        self.assertEqual('', warned(berlin, differ, '2026f',
                                    a={'host': 'two'}))

    def test_memory_counts_together(self):
        big = du(ram=3000, vcpus=1)
        problem, = self.problems({'a': '0:0', 'b': '0:1'}, du=big)
        self.assertIn('3000 MiB asked for, 1096 MiB free', problem)
