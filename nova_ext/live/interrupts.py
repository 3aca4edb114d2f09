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

"""Interrupts of devices keep off pCPUs that have an owner.

``[kongming] irq_affinity`` says whether they are moved or only reported.
Nothing is remembered that a restart would lose: see
:mod:`kongming.interference.irq`.
"""

import socket
import time

from kongming import exception as km_exc
from kongming.host import topology
from kongming.interference import irq as irq_mod
from kongming.kernel import irq
import nova.conf
from nova.virt import hardware
from oslo_log import log as logging

from nova_ext import privileged

CONF = nova.conf.CONF
LOG = logging.getLogger(__name__)
#: Names of interrupts in a line of the log.
_MOST = 20
#: Seconds after which they are read again where owners stay and none is moved.
_LOOK_INTERVAL = 600


class Interrupts:
    """:param driver: nova_ext.driver.LibvirtDriver

    :ivar left: number of interrupts that may come to owned pCPUs; None: they
        are not looked at
    """

    def __init__(self, driver):
        self._driver = driver
        self.left = None
        #: whether a pass has looked since nova-compute started
        self._looked = False
        #: pCPUs that had an owner at the last pass
        self._owned: frozenset[int] = frozenset()
        self._next_look = 0.0
        #: numbers that the kernel has refused to move
        self._managed: frozenset[int] = frozenset()
        self._reported = ''

    @property
    def has_work(self):
        """Whether interrupts may be to be brought back, though no server has
        a template.
        """
        return CONF.kongming.irq_affinity == irq_mod.MOVE and (
            not self._looked or bool(self._owned))

    def follow(self, owned, act):
        """Have them where they are to be; nothing that fails is raised.

        :param owned: pCPUs of this host that have an owner
        :param act: whether this host changes anything now
        """
        if CONF.kongming.irq_affinity == irq_mod.IGNORE:
            self.left = None
            return
        try:
            if not self._is_local():
                self.left = None
                return
            owned = frozenset(owned)
            moves = CONF.kongming.irq_affinity == irq_mod.MOVE
            if (not moves and owned == self._owned
                    and time.monotonic() < self._next_look):
                return  # a tenth of a millisecond for each interrupt
            self._follow(owned, act)
            self._looked, self._owned = True, owned
            self._next_look = time.monotonic() + _LOOK_INTERVAL
        except Exception as exc:
            self._report(f'Interrupts are not looked after: {exc}',
                         None if isinstance(exc, km_exc.KongmingError)
                         else exc)

    def _is_local(self):
        """Whether libvirt's host is the machine that this process is on."""
        name = self._driver._host.get_connection().getHostname()
        return name.partition('.')[0] == socket.gethostname().partition(
            '.')[0]

    def _follow(self, owned, act):
        machine = irq.machine(
            hardware.get_cpu_dedicated_set() or
            self._driver._host.get_available_cpus())
        found = self._read()
        problems = []
        if act and CONF.kongming.irq_affinity == irq_mod.MOVE:
            problems = self._move(found, owned, machine)
            found = self._read()
        left = irq_mod.on_owned(found, owned)
        self.left = len(left)
        self._report('; '.join([*problems, *self._words(left, owned)]))

    def _read(self):
        return [each._replace(managed=True)
                if each.number in self._managed else each
                for each in irq.read()]

    def _move(self, found, owned, machine):
        """:returns: what went wrong, in words"""
        balancer = privileged.irqbalance()
        moves = irq_mod.moves(found, owned, machine)
        if balancer is not None:
            pid, configured = balancer
            # It brings them back by itself.  What it had time to take away
            # and did not, it leaves alone.
            moves = [] if self._ban(
                pid, frozenset(configured), owned, machine) else [
                    move for move in moves if move.irq.allowed & owned]
        wanted = [move for move in moves if move.pcpus]
        refused = privileged.move_irqs(
            [(move.irq.number, sorted(move.pcpus or ())) for move in wanted])
        numbers = {each[0] for each in refused}
        for move in wanted:
            if move.irq.number not in numbers:
                LOG.info('Interrupt %s (%s): pCPU %s -> %s, as %s',
                         move.irq.number,
                         km_exc.printable(move.irq.device),
                         topology.format_cpu_list(move.irq.allowed),
                         topology.format_cpu_list(move.pcpus or ()),
                         move.reason)
        self._managed |= {number for number, managed, _reason in refused
                          if managed}
        return [f'interrupt {number}: {reason}'
                for number, managed, reason in refused if not managed]

    def _ban(self, pid, configured, owned, machine):
        """Have irqbalance keep off, if it does not.

        :returns: whether it did not
        """
        banned = privileged.irqbalance_banned(pid)
        wanted = irq_mod.bans(owned, machine.ownable, frozenset(banned),
                              configured)
        now = configured if wanted is None else wanted
        if now == frozenset(banned):
            return False
        privileged.irqbalance_ban(
            pid, None if wanted is None else sorted(wanted))
        LOG.info('irqbalance keeps off pCPU %s from now on',
                 topology.format_cpu_list(now) or 'none')
        return True

    @staticmethod
    def _words(left, owned):
        if not left:
            return
        shown = ', '.join(
            f'{each.number} ({km_exc.printable(each.device)}) pCPU '
            f'{topology.format_cpu_list(each.allowed & owned)}'
            + ', which the kernel manages' * bool(each.managed)
            for each in left[:_MOST])
        if len(left) > _MOST:
            shown += f' and {len(left) - _MOST} more'
        yield f'interrupts may come to pCPUs that have an owner: {shown}'

    def _report(self, text, error=None):
        """A line in the log, if it is another one than before."""
        if text and text != self._reported:
            LOG.warning('%s%s', text[0].upper(), text[1:], exc_info=error)
        self._reported = text
