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

"""Where interrupts of devices go while pCPUs have owners.

The rule
--------

An interrupt has a *home*: the pCPUs that its driver hints at
(``/proc/irq/N/affinity_hint``), else the machine's default
(``/proc/irq/default_smp_affinity``, which ``irqaffinity=`` sets).

* It leaves pCPUs that get an owner: it keeps the others of its affinity; if
  there are none it goes to those of its home, else to its *fallback*: the
  pCPUs of its NUMA node that can get no owner, else such pCPUs anywhere, else
  any without an owner.
* It comes back when they are free: to all of its home that nobody owns.

What was before is not remembered, and needs not be: an affinity is taken for
one that this rule has made if it is the fallback, or the home without some
pCPUs that can get an owner.  Any other was set by somebody else, and is left
alone as long as no owner is on it.

Who wants interrupts off pCPUs that nobody owns either, says so to the kernel
(``irqaffinity=``): the home has then none of them.
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Mapping
import dataclasses
from typing import NamedTuple

from kongming.interference import snapshot

Pcpus = frozenset[int]
IGNORE, REPORT, MOVE = 'ignore', 'report', 'move'


class Irq(NamedTuple):
    """An interrupt of a device.

    :ivar device: who asked for it
    :ivar allowed: its affinity (``smp_affinity``)
    :ivar effective: pCPUs that it is really sent to; all of ``allowed`` where
        the kernel does not say
    :ivar hint: what its driver wants; empty: nothing
    :ivar node: the NUMA node of its device; None: none
    :ivar managed: whether the kernel keeps it where it is; None where that
        is known only once it refuses to move it
    """

    number: int
    device: str
    allowed: Pcpus
    effective: Pcpus
    hint: Pcpus = frozenset()
    node: int | None = None
    managed: bool | None = None


@dataclasses.dataclass(frozen=True)
class Machine:
    """Where interrupts can be.

    :ivar online: pCPUs that are online
    :ivar default: ``default_smp_affinity``
    :ivar ownable: pCPUs that can get an owner: ``cpu_dedicated_set``
    :ivar nodes: NUMA node -> its pCPUs
    """

    online: Pcpus
    default: Pcpus
    ownable: Pcpus
    nodes: Mapping[int, Pcpus] = dataclasses.field(default_factory=dict)

    def home(self, irq: Irq) -> Pcpus:
        return irq.hint & self.online or self.default & self.online or (
            self.online)

    def fallback(self, irq: Irq) -> Pcpus:
        """Where it can be, whatever gets an owner; may be empty."""
        free = self.online - self.ownable
        near = self.nodes.get(-1 if irq.node is None else irq.node,
                              snapshot.NO_PCPUS)
        usual = free & self.default or free
        return usual & near or usual

    def is_ours(self, irq: Irq) -> bool:
        """Whether the rule can have made its affinity."""
        home, now = self.home(irq), irq.allowed & self.online
        return now == self.fallback(irq) or (
            now < home and home - now <= self.ownable)


class Move(NamedTuple):
    """:ivar pcpus: the new affinity; None: there is nowhere it could go"""

    irq: Irq
    pcpus: Pcpus | None
    reason: str


def moves(irqs: Iterable[Irq], owned: Collection[int],
          machine: Machine) -> list[Move]:
    """What is to be changed, by number; managed ones are left out.

    :param owned: pCPUs that have an owner
    """
    taken = frozenset(owned) & machine.online
    found = []
    for irq in sorted(irqs):
        if irq.managed:
            continue
        now = irq.allowed & machine.online
        ours = machine.is_ours(irq)
        target = (machine.home(irq) - taken or machine.fallback(irq) - taken
                  or machine.online - taken)
        if now & taken:
            away = target if ours else now - taken or target
            found.append(Move(irq, away or None, 'they have an owner'))
        elif ours and now != target:
            found.append(Move(irq, target, 'they are free'))
    return found


def on_owned(irqs: Iterable[Irq], owned: Collection[int]) -> list[Irq]:
    """Interrupts that come, or could come any time, to a pCPU with an owner;
    managed ones only where they do come.
    """
    taken = frozenset(owned)
    return [irq for irq in sorted(irqs)
            if (irq.effective if irq.managed else irq.allowed) & taken]


def bans(owned: Collection[int], ownable: Pcpus, banned: Pcpus,
         configured: Pcpus) -> Pcpus | None:
    """What irqbalance is to be told to keep off.

    :param banned: what it keeps off now
    :param configured: what it keeps off by its own configuration
    :returns: None: its own configuration, nothing else
    """
    others = banned - ownable - configured
    if not owned and not others:
        return None
    return frozenset(owned) | others | configured
