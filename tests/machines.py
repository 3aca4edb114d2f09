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

"""Named hosts that tests and documentation share.

A host is libvirt's capabilities document in ``tests/data/machines/``, cut
down to the elements that the library reads; nothing in it says whose host it
was.  A test of what has to hold on any host takes the host as an argument,
and the class is decorated::

    @machines.on_each
    class FitTest(base.TestCase):

        def test_two_vcpus_fit(self, machine):
            ...

which makes ``test_two_vcpus_fit_on_epyc_nps4`` and so on: a failure names the
host.  A single host is there by its name, as ``machines.cxl``.

A new host needs its document and an entry here; all tests run on it then.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Set
import dataclasses
import functools
import inspect
import pathlib
import types
import typing

from kongming.host import capabilities
from kongming.host import topology
from kongming.host import usage

_FOLDER = pathlib.Path(__file__).parent / 'data' / 'machines'
_NO_OWNERS: Mapping[int, str] = types.MappingProxyType({})
#: Name of a test's argument, see :func:`on_each`.
_ARGUMENT = 'machine'

_Class = typing.TypeVar('_Class', bound=type)
_Test = typing.TypeVar('_Test', bound=Callable[..., None])


@dataclasses.dataclass(frozen=True)
class Machine:
    """One host.

    :ivar name: also the name of its document, without ``.xml``
    :ivar description: what is special about it
    :ivar source: where its figures come from
    """

    name: str
    description: str
    source: str = 'after virsh capabilities of such a host'

    def __str__(self) -> str:
        return f'{self.name}: {self.description}'

    @property
    def path(self) -> pathlib.Path:
        return _FOLDER / f'{self.name}.xml'

    @functools.cached_property
    def capabilities(self) -> str:
        """What ``virConnectGetCapabilities`` returns there."""
        return self.path.read_text()

    @functools.cached_property
    def _host(self) -> topology.Host:
        return capabilities.parse(self.capabilities)

    def host(self) -> topology.Host:
        """What it is made of.

        :raises kongming.exception.InvalidTopology: see :data:`INCONSISTENT`
        """
        return self._host

    def first_cores(self) -> frozenset[int]:
        """The pCPUs of the first core of each node."""
        return frozenset(pcpu for node in self.host().nodes
                         for core in node.cores[:1] for pcpu in core.pcpus)

    def state(self, dedicated: Set[int] | None = None,
              shared: Set[int] | None = None,
              owners: Mapping[int, str] = _NO_OWNERS) -> usage.HostState:
        """What there is to be had of it.

        :param dedicated: ``cpu_dedicated_set``; all that is not shared if
            None
        :param shared: ``cpu_shared_set``; if None, the first core of each
            node, less what is dedicated
        :param owners: pCPU -> name of its owner; these are taken
        """
        pcpus = self.host().pcpus
        if shared is None:
            shared = self.first_cores() - (dedicated or frozenset())
        if dedicated is None:
            dedicated = pcpus - shared
        state = usage.of_host(self.host(), frozenset(dedicated),
                              frozenset(shared))
        taken = frozenset(owners)
        return usage.HostState(
            node.holding(taken & node.dedicated)
            for node in state.nodes).named(owners) if owners else state


two_sockets_smt = Machine(
    'two_sockets_smt',
    'two sockets of 24 cores with two threads, siblings numbered after all '
    'cores; half of the memory in pages of 1 GiB',
    'made, with the figures of a host with two Intel Xeon Gold 6248R')

epyc_nps4 = Machine(
    'epyc_nps4',
    'two sockets of four nodes each; two L3 caches a node; small pages and '
    'pages of 1 GiB')

power_nodes_0_8 = Machine(
    'power_nodes_0_8',
    'POWER9: the nodes are 0 and 8; cores of four threads, siblings side by '
    'side; small pages of 64 KiB',
    'made, with the figures that lscpu and numactl give of a host with two '
    'POWER9 of 16 cores (a listing on the mailing list of the Linux Test '
    'Project)')

grace_34_nodes = Machine(
    'grace_34_nodes',
    '34 nodes, of which two have CPUs, two have the memory of an accelerator '
    'and the others nothing; no SMT; small pages of 64 KiB')

arm_64k_pages = Machine(
    'arm_64k_pages',
    'small pages of 64 KiB, half of the memory in pages of 512 MiB; no SMT')

cxl = Machine(
    'cxl',
    'node 2 has four times the memory of the others and no CPU')

hybrid = Machine(
    'hybrid',
    'one node whose first eight cores have two threads and the others one')

memoryless_node = Machine(
    'memoryless_node',
    'of eight nodes with CPUs only 0 and 4 have memory',
    'after virsh capabilities of such a host; sockets and distances as '
    'numactl gives them')

big = Machine(
    'big',
    '16 sockets of 56 cores with two threads: 1,792 pCPUs')

numa_fake = Machine(
    'numa_fake',
    'booted with numa=fake=4: each CPU is in all nodes')

#: Hosts on which everything holds that holds on any host.
ALL = (two_sockets_smt, epyc_nps4, power_nodes_0_8, grace_34_nodes,
       arm_64k_pages, cxl, hybrid, memoryless_node, big)

#: Hosts whose documents contradict themselves.  They are refused, so they are
#: not in :data:`ALL`; see ``tests/unit/test_machines_topology.py``.
INCONSISTENT = (numa_fake,)

#: Every host by its name.
MACHINES: Mapping[str, Machine] = types.MappingProxyType({
    machine.name: machine for machine in (*ALL, *INCONSISTENT)})


def on_each(cls: _Class) -> _Class:
    """Decorate a class: its tests run once for each of :data:`ALL`.

    A test that takes no ``machine`` stays as it is.
    """
    for name, test in list(vars(cls).items()):
        if not name.startswith('test') or (
                _ARGUMENT not in inspect.signature(test).parameters):
            continue
        delattr(cls, name)
        chosen: Callable[[Machine], bool] = getattr(
            test, 'chosen', lambda machine: True)
        for machine in filter(chosen, ALL):
            setattr(cls, f'{name}_on_{machine.name}',
                    _bound(test, machine, f'{name}_on_{machine.name}'))
    return cls


def only(*wanted: Machine) -> Callable[[_Test], _Test]:
    """Decorate a test inside :func:`on_each`: on these hosts only."""
    return _choose(lambda machine: machine in wanted)


def without(*unwanted: Machine) -> Callable[[_Test], _Test]:
    """Decorate a test inside :func:`on_each`: on all but these hosts."""
    return _choose(lambda machine: machine not in unwanted)


def _choose(chosen: Callable[[Machine], bool]) -> Callable[[_Test], _Test]:
    def decorate(test: _Test) -> _Test:
        test.chosen = chosen  # type: ignore[attr-defined]
        return test
    return decorate


def _bound(test: Callable[..., None], machine: Machine,
           name: str) -> Callable[..., None]:
    def on_machine(self: typing.Any) -> None:
        test(self, machine=machine)

    on_machine.__name__ = name
    on_machine.__doc__ = test.__doc__
    # Marks such as unittest.expectedFailure are attributes.
    on_machine.__dict__.update(vars(test))
    return on_machine
