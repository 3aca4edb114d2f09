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

"""What a server owns: what it has and, while it changes, what it goes to.

Both lie in ``instance.numa_topology``, in a form that Nova's own audit
counts, so that no pCPU of either is free for anybody else:

- what it has (*current*) is what Nova means by the topology: the node of each
  cell, the ``cpu_pinning`` of its dedicated vCPUs and, in the first cell's
  ``cpuset_reserved``, the pCPU of its emulator threads where Nova isolates
  them;
- what it goes to (*target*) are more pCPUs in a cell's ``cpuset_reserved``
  where they are on that cell's node, and a cell more, without vCPUs, where
  they are on another one.

:class:`Ownership` is the only place that knows this form.
"""

from kongming.live import rearrange
from kongming.live import threads
from nova.objects import fields

from nova_ext import translate

_PINNED = (fields.CPUAllocationPolicy.DEDICATED,
           fields.CPUAllocationPolicy.MIXED)


class NotAtStart(Exception):
    """A server is not where a step of a change begins."""


class Ownership:
    """:param topology: nova.objects.InstanceNUMATopology, left as it is

    Compares equal to another one that owns the same of a host.
    """

    def __init__(self, topology):
        self.topology = topology

    def __eq__(self, other):
        if not isinstance(other, Ownership):
            return NotImplemented
        return self._key() == other._key()

    __hash__ = None  # type: ignore[assignment]

    def _key(self):
        return [(cell.id, cell.cpu_pinning or {},
                 cell.cpuset_reserved or set(), cell.pagesize)
                for cell in self.topology.cells]

    # What it has.

    @property
    def pins(self):
        """vCPU -> pCPU, of its dedicated vCPUs."""
        return {vcpu: pcpu for cell in self.topology.cells
                for vcpu, pcpu in (cell.cpu_pinning or {}).items()}

    @property
    def emulator(self):
        """The pCPUs of its emulator threads where these have some.

        More than one while it changes: affinity says which is which.
        """
        reserved = self.topology.cells[0].cpuset_reserved
        if not reserved or not translate.guest_of(
                self.topology).emulator_isolated:
            return frozenset()
        return frozenset(reserved)

    @property
    def owned(self):
        """The same as kongming.live.threads.Owned."""
        return threads.Owned(self.pins, self.emulator)

    @property
    def pcpus(self):
        """All that it owns, the target included."""
        return frozenset(self.topology.cpu_pinning
                         | self.topology.cpuset_reserved)

    def pcpus_of(self, number):
        """The same of one cell."""
        cell = self.topology.cells[number]
        return frozenset({*(cell.cpu_pinning or {}).values(),
                          *(cell.cpuset_reserved or ())})

    @property
    def lacks_pcpus(self):
        """Whether it owns fewer pCPUs than it has dedicated vCPUs."""
        return any(len(cell.cpu_pinning or {}) != len(cell.pcpuset)
                   for cell in self.topology.cells)

    @property
    def current(self):
        """Its topology without the cell that it is going to; left as it is.

        What it goes to on its own nodes is left: no vCPU is pinned there.
        """
        if all(cell.cpuset or cell.pcpuset for cell in self.topology.cells):
            return self.topology
        return self._copy()

    def _copy(self):
        """The same, to be changed."""
        topology = self.topology.obj_clone()
        topology.cells = [cell for cell in topology.cells
                          if cell.cpuset or cell.pcpuset]
        return topology

    # What it goes to.

    @property
    def has_target(self):
        """Whether a change was begun and has not ended."""
        reserved = sum(len(cell.cpuset_reserved or ())
                       for cell in self.topology.cells)
        return (any(not (cell.cpuset or cell.pcpuset)
                    for cell in self.topology.cells)
                or reserved > 0 and reserved > int(translate.guest_of(
                    self.topology).emulator_isolated))

    def with_target(self, step):
        """Where a step begins, with what it goes to owned as well.

        :param step: kongming.live.rearrange.Step
        :raises NotAtStart: if the server is not there
        """
        pins = self.pins
        for move in step.moves:
            if (move.vcpu != rearrange.EMULATOR
                    and pins.get(move.vcpu) != move.source):
                raise NotAtStart(f'vCPU {move.vcpu} is not on pCPU '
                                 f'{move.source} any more')
        new = self.topology.obj_clone()
        cell = new.cells[step.cell]
        targets = {move.target for move in step.moves}
        if step.moves_memory:
            beside = cell.obj_clone()
            beside.id = step.node
            beside.cpuset, beside.pcpuset = set(), set()
            if cell.cpu_pinning is not None:
                beside.cpu_pinning = {}
            beside.cpuset_reserved = targets or None
            new.cells.append(beside)
        elif targets:
            cell.cpuset_reserved = (cell.cpuset_reserved or set()) | (
                targets - set(cell.cpu_pinning.values()))
        return new

    def at_end_of(self, step):
        """Where a step ends, and nothing beside it."""
        new = self._copy()
        cell = new.cells[step.cell]
        cell.id = step.node
        targets = {move.vcpu: move.target for move in step.moves}
        emulator = self.emulator.difference(
            *(move[1:] for move in step.moves))
        if rearrange.EMULATOR in targets:
            emulator = {targets.pop(rearrange.EMULATOR)}
        if cell.cpu_pinning is not None:
            cell.cpu_pinning = {**cell.cpu_pinning, **targets}
        return _with_emulator(new, emulator)

    def without_target(self, emulator=None):
        """What it has, and nothing that it was going to.

        :param emulator: pCPUs on which its emulator threads run, where that
            is known; of those that it owns the first of them is theirs
        """
        mine = self.emulator
        if len(mine) > 1:
            mine = {min((emulator or mine) & mine or mine)}
        return _with_emulator(self._copy(), mine)

    # Claims.

    def without_pcpus(self):
        """Node and memory of a claim, and none of its pCPUs."""
        new = self.topology.obj_clone()
        for cell in new.cells:
            if cell.cpu_pinning is not None:
                cell.cpu_pinning = {}
            cell.cpuset_reserved = None
        return new

    def assigned(self, assignment):
        """The same server with an assignment for its claim.

        :param assignment: kongming.fit.fit.Assignment
        """
        new = self.topology.obj_clone()
        for cell, chosen in zip(new.cells, assignment.cells):
            cell.id = chosen.node
            if cell.cpu_policy in _PINNED:
                cell.cpu_pinning = dict(chosen.pins)
                cell.cpuset_reserved = set(chosen.reserved) or None
            if chosen.page_kib is not None:
                cell.pagesize = chosen.page_kib
        return new


def _with_emulator(topology, emulator):
    """Have a topology reserve these pCPUs for emulator threads, no others."""
    for number, cell in enumerate(topology.cells):
        cell.cpuset_reserved = (set(emulator) or None) if not number else None
    return topology


def pcpus_of(server):
    """All that a server owns; nothing without a topology.

    :param server: nova.objects.Instance
    """
    if server.numa_topology is None:
        return frozenset()
    return Ownership(server.numa_topology).pcpus
