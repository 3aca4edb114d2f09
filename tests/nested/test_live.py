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

"""Running servers change pCPUs and nodes; the kernel says where they are."""

import os
import random
from xml.etree import ElementTree

import testtools

from kongming.compute import servers as servers_mod
from kongming.domain import domain as domain_mod
from kongming.kernel import mover
from kongming.libvirt import memory
from kongming.memory import move
from kongming.placement import inventory
from tests.embedded import witness
from tests.functional import test_life
from tests.libvirt import boot
from tests.libvirt import crash
from tests.nested import cloud
from tests.nested import kernel


#: Its init starts libvirtd anew.
RESTART = """
was=$(pidof libvirtd)
kill -9 $was
while now=$(pidof libvirtd); test -z "$now" -o "$now" = "$was"; do
    sleep 0.1
done
sleep 3
"""


class LiveBase(boot.Base, cloud.NestedCloud):

    def setUp(self):
        super().setUp()
        # Its kernel is another one than the one that this process sees.
        self.useFixture(kernel.Numa(self.nested))

    def dedicated(self, node):
        return sorted(set(self.shape.pcpus(node)) & set(self.cpu_sets()[1]))

    def say(self, server, **metadata):
        self.api.post_server_metadata(server['id'], {
            f'kongming:{key.replace("_", ".")}': value
            for key, value in metadata.items()})

    def want(self, server, **metadata):
        self.say(server, **metadata)
        self.ring(server)

    def ring(self, server):
        # As the trigger does; an API call waits for a minute at most, and
        # this host is slow.
        self.reconcile()

    def domain(self, server):
        return self.connection_of(server['id']).lookupByUUIDString(
            server['id'])

    def last_change(self, server):
        action = next(a for a in self.api.get_instance_actions(server['id'])
                      if a['action'] == servers_mod.LIVE_CHANGE)
        event, = self.api.api_get(
            f'/servers/{server["id"]}/os-instance-actions/'
            f'{action["request_id"]}').body['instanceAction']['events']
        return event['result'], event.get('details')

    def assertRunsOnItsOwn(self, server):
        """Threads and memory, by the kernel and by Nova's database."""
        cells = self.instance(server['id']).numa_topology.cells
        owned = {pcpu for cell in cells for pcpu in {
            *(cell.cpu_pinning or {}).values(),
            *(cell.cpuset_reserved or ())}}
        for pcpus in self.threads(server).values():
            self.assertLessEqual(pcpus, owned)
        self.assertLessEqual(set(self.memory(server).pages),
                             {cell.id for cell in cells})

    def assertIsOn(self, server, node, pcpus):
        """Kernel, libvirt, Nova, tracker and Placement say the same."""
        self.assertEqual({v: frozenset({p}) for v, p in enumerate(pcpus)},
                         self.threads(server))
        self.assertEqual({node}, set(self.memory(server).pages))
        self.assertEqual(str(node), self.nested.cgroup(
            self.domain(server).name(), 'cpuset.mems'))
        bound = ElementTree.fromstring(
            self.domain(server).XMLDesc(memory.INACTIVE)).find(
                './numatune/memory')
        self.assertEqual(('strict', str(node)),
                         (bound.get('mode'), bound.get('nodeset')))
        self.assertEqual(f'bind:{node}', self.memory(server).policy)
        cell, = self.instance(server['id']).numa_topology.cells
        self.assertEqual((node, dict(enumerate(pcpus)), None),
                         (cell.id, cell.cpu_pinning, cell.cpuset_reserved))
        self.assertEqual(
            {other: (set(pcpus), 64) if other == node else (set(), 0)
             for other in range(self.shape.nodes)}, self.usage())


class MemoryBase(LiveBase):
    """A server that goes to the node that is farthest, and back."""

    def start(self, **native):
        self.far = self.shape.nodes - 1
        self.pcpus = {node: self.dedicated(node)[:2]
                      for node in (0, self.far)}
        return self.boot(
            image='dirty', vcpus=2, node_0='0', grant='template',
            pin_0=self.pins(0), native=native)

    def pins(self, node):
        return ' '.join(f'{v}:{p}' for v, p in enumerate(self.pcpus[node]))

    def go(self, server, node):
        self.want(server, node_0=str(node), pin_0=self.pins(node))

    def assertIsOn(self, server, node):
        super().assertIsOn(server, node, self.pcpus[node])


class MemoryTest(MemoryBase):

    def test_there_and_back_again(self):
        server = self.start()
        self.assertIsOn(server, 0)
        for node in (self.far, 0, self.far):
            self.go(server, node)
            self.assertEqual(('Success', None), self.last_change(server))
            self.assertIsOn(server, node)
        self.audit()
        self.assertIsOn(server, self.far)
        self.api.post_server_action(server['id'],
                                    {'reboot': {'type': 'HARD'}})
        self._wait_for_state_change(server, 'ACTIVE')
        self.assertIsOn(server, self.far)

    def test_huge_pages(self):
        server = self.start(**{'hw:mem_page_size': '2MB'})
        self.go(server, self.far)
        self.assertIsOn(server, self.far)
        self.assertEqual(2048, self.memory(server).page_kib)

    def test_node_without_free_memory(self):
        """Refused before anything is touched."""
        server = self.start()
        domain = self.domain(server)
        # Leave the node with less than the guest and the spare.
        free = int(domain.connect().getMemoryStats(self.far)['free'] / 1024)
        self.shell(f'mkdir -p /tmp/eat && mount -t tmpfs -o '
                   f'mpol=bind:{self.far},size={free}m none /tmp/eat && '
                   f'head -c {free - 150}M /dev/zero > /tmp/eat/x')
        try:
            self.go(server, self.far)
        finally:
            self.shell('umount /tmp/eat')
        self.assertIn('free pages of 4 KiB', self.last_change(server)[1])
        self.assertIsOn(server, 0)
        self.ring(server)
        self.assertIsOn(server, self.far)

    def test_libvirtd_restarts(self):
        """What it says afterwards is what is so."""
        server = self.start()
        self.go(server, self.far)
        self.shell(RESTART)
        self.ring(server)
        self.assertIsOn(server, self.far)

    def test_suspended_and_resumed(self):
        """The saved state names the node that it was started on."""
        server = self.start()
        self.go(server, self.far)
        self.api.post_server_action(server['id'], {'suspend': {}})
        self._wait_for_state_change(server, 'SUSPENDED')
        self.api.post_server_action(server['id'], {'resume': {}})
        self._wait_for_state_change(server, 'ACTIVE')
        self.assertIsOn(server, self.far)


class CellsTest(LiveBase):
    """Guests of two cells, on a host of four nodes."""

    def setUp(self):
        super().setUp()
        if self.shape.nodes < 4:
            self.skipTest('needs a host of four nodes: '
                          'tools/nested up --nodes 4')

    def start(self, nodes):
        return self.boot(
            image='dirty', vcpus=2, grant='template',
            **self.template(nodes), native={'hw:numa_nodes': '2'})

    def template(self, nodes):
        found = {}
        for cell, node in enumerate(nodes):
            found[f'node_{cell}'] = str(node)
            found[f'pin_{cell}'] = f'{cell}:{self.dedicated(node)[0]}'
        return found

    def assertIsOn(self, server, nodes):
        """Kernel, libvirt, Nova and the tracker say the same."""
        cells = self.instance(server['id']).numa_topology.cells
        self.assertEqual(list(nodes), [cell.id for cell in cells])
        self.assertEqual({
            cell: frozenset({self.dedicated(node)[0]})
            for cell, node in enumerate(nodes)}, self.threads(server))
        domain = self.domain(server)
        seen = mover.Mover(kernel.Inside, kernel.Inside.pid(domain), [
            cell.memory * 1024 for cell in cells]).look(nodes)
        self.assertTrue(move.is_there(seen, nodes), seen)
        self.assertEqual({frozenset(nodes)}, set(seen.groups.values()))
        found = domain_mod.parse(domain.XMLDesc(memory.INACTIVE))
        self.assertEqual({cell: frozenset({node}) for cell, node in
                          enumerate(nodes)}, dict(found.memnodes))
        self.assertEqual({node: 32 if node in nodes else 0
                          for node in range(self.shape.nodes)}, {
            node: used for node, (_pcpus, used) in self.usage().items()})

    def test_there_and_back_again(self):
        server = self.start((0, 1))
        self.assertIsOn(server, (0, 1))
        for nodes in ((0, 3), (1, 2)):
            self.want(server, **self.template(nodes))
            self.assertEqual(('Success', None), self.last_change(server))
            self.assertIsOn(server, nodes)
        self.audit()
        self.api.post_server_action(server['id'], {'suspend': {}})
        self._wait_for_state_change(server, 'SUSPENDED')
        self.api.post_server_action(server['id'], {'resume': {}})
        self._wait_for_state_change(server, 'ACTIVE')
        self.assertIsOn(server, (1, 2))
        self.shell(RESTART)
        self.ring(server)
        self.assertIsOn(server, (1, 2))
        self.api.post_server_action(server['id'],
                                    {'reboot': {'type': 'HARD'}})
        self._wait_for_state_change(server, 'ACTIVE')
        self.assertIsOn(server, (1, 2))


@test_life.long
class CrashTest(crash.CrashMixin, MemoryBase):

    def test_at_every_point(self):
        # What Placement is told afterwards is no different here.
        self.killer.counts = lambda where: 'ReportClient' not in where
        for name in ('set_mems', 'move_slice'):
            self.killer.add(kernel.Inside, name, writes=True)
        server = self.start()
        nodes = 0, self.far

        def ask(number):
            node = nodes[number % 2]
            self.say(server, node_0=str(node), pin_0=self.pins(node))

        points = self.kill_at_every_point(
            ask, lambda number: self.assertIsOn(server, nodes[number % 2]),
            lambda: self.assertRunsOnItsOwn(server))
        self.assertLessEqual({'before Inside.move_slice',
                              'after Inside.set_mems'}, set(points))


class ManyChangesTest(LiveBase):
    """Servers that change places at random, all at once."""

    CHANGES = int(os.environ.get('KONGMING_TEST_CHANGES', 200))

    def owners(self):
        """pCPU -> its server, by Nova's database."""
        found = {}
        for server in self.servers:
            for cell in self.instance(server['id']).numa_topology.cells:
                for pcpu in {*(cell.cpu_pinning or {}).values(),
                             *(cell.cpuset_reserved or ())}:
                    self.assertIsNone(found.get(pcpu))
                    found[pcpu] = server['id']
        return found

    def running(self):
        """pCPU -> the server whose thread may run there, by the kernel."""
        found = {}
        for name, threads in witness.threads_of_all(
                self.names, self.shell).items():
            for pcpu in frozenset().union(*threads.values()):
                self.assertIsNone(found.get(pcpu))
                found[pcpu] = self.names[name]
        return found

    def check_at_every_step(self):
        """Look at each write of what is owned; returns what was wrong."""
        wrong = []
        executor = self.computes['compute1'].driver._reconciler._steps
        real = executor._own

        def own(*args):
            result = real(*args)
            try:
                # What runs somewhere is owned there.
                owned = self.owners()
                for pcpu, server in self.running().items():
                    self.assertEqual(server, owned[pcpu])
            except Exception as exc:
                wrong.append(exc)
                raise
            return result

        executor._own = own
        return wrong

    @test_life.long
    def test_no_pcpu_has_two_owners(self):
        everything = self.dedicated(0) + self.dedicated(1)
        self.servers = [self.boot(
            image='dirty', grant='template',
            pin_0=f'0:{pcpu}') for pcpu in everything[:3]]
        self.names = {self.domain(server).name(): server['id']
                      for server in self.servers}
        wrong = self.check_at_every_step()
        reconciler = self.computes['compute1'].driver._reconciler
        reported = reconciler._failures._reported
        seed = random.randrange(10 ** 6)
        self.addDetail('seed', testtools.content.text_content(str(seed)))
        chance = random.Random(seed)
        moved = 0
        for _change in range(self.CHANGES):
            before = self.places()
            goal = dict(zip(before, chance.sample(everything, len(before))))
            for server in self.servers:
                self.say(server, pin_0=f'0:{goal[server["id"]]}')
            self.ring(self.servers[0])
            self.assertEqual([], wrong)
            self.assertEqual(self.owners(), self.running())
            for uuid, pcpu in self.places().items():
                if pcpu == goal[uuid]:
                    moved += pcpu != before[uuid]
                else:
                    # Two of a node that change places need a third pCPU.
                    self.assertEqual(before[uuid], pcpu)
                    self.assertIn(uuid, reported)
        self.assertLess(self.CHANGES, moved)
        for server in self.servers:
            pcpu = self.places()[server['id']]
            self.assertEqual({self.host.node_of(pcpu).id},
                             set(self.memory(server).pages))
        named = {
            pcpu: server['id'] for server in self.servers for resources in
            self.allocations_of(server['id']).values()
            for pcpu in inventory.named_pcpus(resources)}
        self.assertIn(named, ({}, self.owners()))

    def places(self):
        return {uuid: pcpu for pcpu, uuid in self.owners().items()}
