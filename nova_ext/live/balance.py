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

"""Cells that go to another node of this host by what is measured.

:mod:`kongming.load.balance` decides, once a minute, in the thread that reads
the load.  What is to be done is done by a pass: of the moves that pay it takes
the first one that its host can carry out, and has the server want that node
until it is there.  So it is a live change as any other, with the budget of the
host, and with its record.

Nothing of it is written down but that record: a move that was cut short is
rolled back by the next pass.
"""

import dataclasses
import threading

from kongming.load import balance
import nova.conf
from oslo_log import log as logging

from nova_ext import figures as counts
from nova_ext.live import contention
from nova_ext.ownership import ownership

CONF = nova.conf.CONF
LOG = logging.getLogger(__name__)
ACT = 'act'
#: What the evidence of a move begins with.
EVIDENCE = 'balance: '
#: Seconds for which a pass may try to begin a move, and for which one that
#: the host can't carry out is not thought of.
_PATIENCE, _REFUSED = 180.0, 1800.0


@dataclasses.dataclass
class _Goal:
    """:ivar until: when it is given up, where nothing has begun"""

    move: balance.Move
    until: float
    is_tried: bool = False


class Balance:
    """:param mode: gives what the host does by load

    :param lent: gives the pCPUs that are lent now
    :param clock: gives seconds, as those of readings
    :param wake: called where a pass has something to begin
    """

    def __init__(self, mode, lent, clock, wake):
        self._mode, self._lent = mode, lent
        self._clock, self._wake = clock, wake
        #: guards what follows; held for a moment
        self._lock = threading.Lock()
        self._known: dict[str, contention.Known] = {}
        #: kongming.host.usage.HostState of the last pass
        self._host = None
        self._balancer = balance.Balancer()
        self._goal: _Goal | None = None
        #: those that the host could begin, best first, and when that was so
        self._candidates: list[balance.Move] = []
        self._decided = 0.0
        #: server -> what would help it, or all, the most
        self._advice: dict[str, balance.Move] = {}
        #: (server, node) -> until when it is not thought of, and why
        self._refused: dict[tuple[str, int], tuple[float, str]] = {}
        #: (node, pCPUs for what floats, what was wanted there)
        self._floats: list[tuple[int, int, float]] = []
        self._measured: list[balance.Cell] = []
        #: of the thread that reads
        self._contention = contention.Contention()

    # What passes do.

    def note(self, host, servers, intents):
        """Servers and host as they are.

        :param host: kongming.host.usage.HostState
        :param servers: uuid -> nova.objects.Instance, those with NUMA cells
        :param intents: uuid -> kongming.intent.merge.Intent
        """
        with self._lock:
            self._host = host
            self._known = {uuid: contention.Known(server, intents[uuid].base)
                           for uuid, server in servers.items()
                           if uuid in intents}

    def retain(self, servers):
        """Forget all servers but these."""
        with self._lock:
            self._balancer.retain(servers)
            for known in self._advice, self._known:
                for uuid in known.keys() - servers:
                    known.pop(uuid)
            if self._goal and self._goal.move.server not in servers:
                self._goal = None

    def apply(self, servers, intents, busy, why_not):
        """Have servers want where they are to go.

        :param servers: uuid -> nova.objects.Instance, idle ones
        :param intents: uuid -> kongming.intent.merge.Intent
        :param busy: uuids of those that have a job
        :param why_not: called with a server and a template; returns why its
            host can't bring it there, in words
        :returns: intents, with those of servers that are to move
        """
        acts = self._mode() == ACT
        with self._lock:
            self._settle(servers, busy, acts)
            candidates = list(self._candidates)
            if (self._goal is not None or not acts
                    or self._clock() - self._decided > balance.PERIOD):
                candidates = []
        for move in candidates:
            server = servers.get(move.server)
            if server is None or self._is_refused(move) or (
                    not self._is_at(server, move.cell, move.source)):
                continue
            reason = why_not(server, _with_node(
                intents[move.server].base, move))
            if reason:
                LOG.info('It is not moved for balance (%s): %s', move.because,
                         reason, instance=server)
                with self._lock:
                    self._refused[move.server, move.target] = (
                        self._clock() + _REFUSED, reason)
                continue
            LOG.info('Its cell %d goes to node %d, for balance: %s',
                     move.cell, move.target, move.because, instance=server)
            with self._lock:
                self._goal = _Goal(move, self._clock() + _PATIENCE)
                # The others are out of date.
                self._candidates = []
                self._balancer.moved(move, self._clock())
            counts.COUNTS.load_moved()
            break
        with self._lock:
            goal = self._goal
            if goal is None or goal.move.server not in servers:
                return intents
        intent = intents[goal.move.server]
        return {**intents, goal.move.server: dataclasses.replace(
            intent, base=_with_node(intent.base, goal.move))}

    def _settle(self, servers, busy, acts):
        """Give up a goal that is reached, or will not be."""
        if self._goal is None or self._goal.move.server in busy:
            return
        move = self._goal.move
        server = servers.get(move.server)
        if (not acts or self._goal.is_tried
                or self._clock() > self._goal.until
                or server is not None and self._is_at(
                    server, move.cell, move.target)):
            self._goal = None

    def job_ended(self, servers):
        """A goal is reached by then, or is not tried again.

        :param servers: uuids
        """
        with self._lock:
            if self._goal is not None and self._goal.move.server in servers:
                self._goal.is_tried = True

    @staticmethod
    def _is_at(server, number, node):
        cells = ownership.Ownership(server.numa_topology).current.cells
        return number < len(cells) and cells[number].id == node

    def _is_refused(self, move):
        with self._lock:
            until, _reason = self._refused.get((move.server, move.target),
                                               (0.0, ''))
            return self._clock() < until

    def evidence(self, uuid):
        """Why a server moves, in words; empty: for another reason."""
        with self._lock:
            if self._goal is None or self._goal.move.server != uuid:
                return ''
            return EVIDENCE + self._goal.move.because

    def restore(self, uuid, ages):
        """Have moves count that were made before nova-compute started.

        :param ages: seconds since each
        """
        with self._lock:
            self._balancer.restore(
                uuid, [self._clock() - age for age in ages])

    # Advice.

    def advice(self, uuid):
        """The move that would help the most, as plain values, or None.

        ``waits``: why it is not made, in words; empty: it is about to be, or
        its host only advises.
        """
        with self._lock:
            move = self._advice.get(uuid)
            if move is None:
                return None
            known = self._known.get(uuid)
            waits = self._refused.get((uuid, move.target), (0.0, ''))[1] or (
                self._balancer.stays(move, self._clock()))
            if known is not None and not known.template.balance:
                waits = 'its flavor does not say kongming:balance=node'
            elif not waits and self._goal is None:
                waits = self._balancer.why_not(
                    self._clock(), CONF.kongming.balance_moves_per_hour)
            return {'cell': move.cell, 'source': move.source,
                    'target': move.target, 'saves': round(move.saves, 2),
                    'local_mib': move.local_kib // 1024,
                    'seconds': round(move.seconds),
                    'because': move.because, 'waits': waits}

    @property
    def floats(self):
        """[(node, pCPUs for what floats there, pCPUs that are wanted)]."""
        with self._lock:
            return list(self._floats)

    def waits(self, uuid):
        """[(node, vCPUs that float there, their use, their wait)]."""
        with self._lock:
            return [(cell.node, cell.vcpus, round(cell.use, 1),
                     round(cell.wait, 1)) for cell in self._measured
                    if cell.server == uuid]

    @property
    def advised(self):
        """How many servers would better be on another node."""
        with self._lock:
            return len(self._advice)

    # What the thread does that reads.

    def read(self, readings):
        """Take in what was read of all servers, now and then.

        :param readings: uuid -> nova_ext.live.contention.Reading
        """
        now = self._clock()
        with self._lock:
            known, host = dict(self._known), self._host
        if host is None or not self._contention.is_due(now):
            return
        nodes, cells = self._contention.measure(now, host, known, readings,
                                                self._lent())
        advice: dict[str, balance.Move] = {}
        for move in [*balance.moves(nodes, cells), *balance.nearer(cells)]:
            advice.setdefault(move.server, move)
        with self._lock:
            self._candidates = [] if self._goal is not None else [
                move for move in self._balancer.decide(
                    nodes, cells, now,
                    CONF.kongming.balance_moves_per_hour)
                if known[move.server].template.balance]
            self._decided, self._advice = now, advice
            self._measured = cells
            self._floats = [
                (node.id, node.pcpus, round(node.others + sum(
                    cell.demand for cell in cells if cell.node == node.id),
                    2)) for node in nodes]
            self._refused = {key: found for key, found
                             in self._refused.items() if now < found[0]}
            wakes = bool(self._candidates)
        if wakes and self._mode() == ACT:
            self._wake()


def _with_node(desired, move):
    return dataclasses.replace(
        desired, nodes={**desired.nodes, move.cell: move.target})
