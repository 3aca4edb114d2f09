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
"""Servers of one, two and three cells change places at random.

All want something else at once, on four nodes; nova-compute is killed at a
random point of every other pass.  Afterwards each pCPU has one owner, and the
kernel has every cell's pages and policy where Nova says.
"""

import os
import random
import threading

import testtools

from kongming.kernel import mover
from kongming.memory import move

_NODES = range(4)


class OwnersMixin:
    """Of any cloud that has ``kernel_of`` and ``threads_of``."""

    def check_owners(self, servers):
        """No pCPU has two owners, and no thread runs where it owns nothing.
        """
        owners = {}
        for server in servers:
            mine = set()
            for cell in self.instance(server['id']).numa_topology.cells:
                mine |= {*(cell.cpu_pinning or {}).values(),
                         *(cell.cpuset_reserved or ())}
            for pcpu in mine:
                self.assertIsNone(owners.get(pcpu))
                owners[pcpu] = server['id']
            for pcpus in self.threads_of(server).values():
                self.assertLessEqual(pcpus, mine)

    def end_threads(self):
        """All threads of a process end with it, not only the one killed.

        Otherwise a job would write on beside the next nova-compute, which has
        read the database by then.
        """
        jobs = self.computes['compute1'].manager.driver._reconciler.jobs
        jobs.is_stopped = True
        self.killer.dead.update(
            thread.ident for thread in threading.enumerate()
            if thread.name.startswith('kongming'))
        self.assertTrue(jobs.wait(60))

    def mover_of(self, server):
        kernel, pid = self.kernel_of(server)
        return mover.Mover(kernel, pid, [
            cell.memory * 1024 for cell in
            self.instance(server['id']).numa_topology.cells])


class SoakMixin(OwnersMixin):
    """Of any cloud with four nodes.

    Has ``say``, ``dedicated``, ``killer``, ``restart``, ``run_pass``,
    ``start_cells``, ``threads_of`` and ``mover_of``.
    """

    CHANGES = int(os.environ.get('KONGMING_TEST_CHANGES', 200))
    #: The latest point at which it is killed.
    POINTS = 40

    def soak(self):
        seed = int(os.environ.get('KONGMING_TEST_SEED')
                   or random.randrange(10 ** 6))
        self.addDetail('seed', testtools.content.text_content(str(seed)))
        chance = random.Random(seed)
        servers = [self.start_cells(nodes, number) for number, nodes in
                   enumerate(((3,), (1, 2), (0, 1, 2)))]
        self.check(servers)
        moved = killed = 0
        for number in range(self.CHANGES):
            before = [self.place(server) for server in servers]
            goals = self.goals(chance, before)
            for server, goal in zip(servers, goals):
                self.say(server, **self.template(goal))
            if number % 2:
                self.killer.arm(chance.randint(1, self.POINTS))
                thread = threading.Thread(target=self.run_pass)
                thread.start()
                thread.join()
                self.killer.countdown = None
                if self.killer.where is not None:
                    killed += 1
                    self.end_threads()
                    self.check_owners(servers)
                    self.restart()
                    self.killer.dead.clear()
            for _again in range(3):
                # What was put back is tried again.
                self.run_pass()
            self.check(servers)
            for server, was, goal in zip(servers, before, goals):
                place = self.place(server)
                if place != goal:
                    self.assertEqual(was, place, (seed, number))
                moved += place != was
        self.assertGreater(moved, self.CHANGES)
        return moved, killed

    def goals(self, chance, before):
        """Places for all servers, in the order that their cells have."""
        free = {node: [*self.dedicated(node)] for node in _NODES}
        for pcpus in free.values():
            chance.shuffle(pcpus)
        goals = []
        for place in sorted(before, key=len, reverse=True):
            nodes = sorted(chance.sample(
                [node for node in _NODES if free[node]], len(place)))
            goals.append(tuple((node, free[node].pop()) for node in nodes))
        return goals[::-1]

    @staticmethod
    def template(place):
        """What metadata say to have each cell on a node and a pCPU."""
        found = {}
        for cell, (node, pcpu) in enumerate(place):
            found[f'node_{cell}'] = str(node)
            found[f'pin_{cell}'] = f'{cell}:{pcpu}'
        return found

    def place(self, server):
        """(node, pCPU) of each cell, by Nova's database."""
        return tuple(
            (cell.id, *cell.cpu_pinning.values()) for cell in
            self.instance(server['id']).numa_topology.cells)

    def check(self, servers):
        self.check_owners(servers)
        for server in servers:
            place = self.place(server)
            self.assertEqual(
                {vcpu: frozenset({pcpu})
                 for vcpu, (_node, pcpu) in enumerate(place)},
                self.threads_of(server))
            nodes = [node for node, _pcpu in place]
            seen = self.mover_of(server).look(nodes)
            self.assertTrue(move.is_there(seen, nodes), seen)
