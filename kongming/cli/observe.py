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

"""Reading the kernel's accounts again and again: what watch and report
share.
"""

import contextlib
import resource
import time

from kongming.cli import survey
from kongming import exception
from kongming.interference import difference
from kongming.interference import owners as owners_mod
from kongming.interference import report as report_mod
from kongming.kernel import accounts
from kongming.kernel import irq


def add_arguments(parser):
    parser.add_argument(
        'name', metavar='<server|domain>', nargs='?',
        help="Domain (name or UUID) or server of Nova's (name) whose pCPUs "
             'are looked at (default: all that run here).')
    survey.add_arguments(parser)


def seconds(text):
    """Type of an argument: a time that is more than nothing."""
    found = float(text)
    if not 0 < found < float('inf'):
        raise ValueError
    return found


class Observer:
    """The owners of this host, and what is counted of them.

    :ivar tally: what there was so far
    :ivar interval: the last one
    :ivar seen: kongming.cli.survey.Look, by which the owners are known
    :raises kongming.exception.KongmingError: if something can't be seen, or
        nothing is owned
    """

    def __init__(self, args):
        self._args = args
        _allow_files()
        self.reader = accounts.Reader()
        self.tally = report_mod.Tally()
        self.interval = difference.Interval(0.0)
        self.owners = self._look()
        if not self.owners.pcpus:
            which = f"'{args.name}' owns no pCPU" if args.name else (
                'No domain that runs here owns a pCPU')
            raise exception.NotFound(
                f'{which}: none of its vCPUs is pinned to a pCPU of its own; '
                f"'kongming ps' shows where they are.")
        self._last = self._read()

    def _look(self):
        self.seen = found = survey.look(self._args)
        chosen = None
        if self._args.name:
            chosen = {each.domain.uuid for each in survey.choose(
                found.running, [self._args.name])}
        return owners_mod.of_running(
            zip(found.pids, found.running), found.state, chosen)

    def _read(self):
        return self.reader.read(
            self.owners.pcpus,
            {owner.tid for owner in self.owners.pcpus.values() if owner.tid})

    def tick(self):
        """Read once more, and add what there was since the last time."""
        now = self._read()
        self.interval = difference.between(self._last, now)
        self.tally.add(self.interval, self.owners)
        self._last = now
        if self._is_stale(now):
            before = self.owners.pcpus.keys()
            with contextlib.suppress(exception.NotFound):
                self.owners = self._look()
            if self.owners.pcpus.keys() != before:
                self._last = self._read()

    def _is_stale(self, now):
        """Whether domains have come, gone, or been pinned elsewhere."""
        domains = {thread.pid for thread in now.threads.values()
                   if thread.name.startswith('CPU ') and not thread.kernel}
        if domains != self.owners.domains.keys():
            return True
        return any(owner.tid and (
            owner.tid not in now.threads
            or pcpu not in now.threads[owner.tid].allowed)
            for pcpu, owner in self.owners.pcpus.items())

    def report(self, last=False, trace=None, not_traced=''):
        """kongming.interference.report.Report of all so far.

        :param last: of the last interval only
        """
        tally = self.tally
        if last:
            tally = report_mod.Tally()
            tally.add(self.interval, self.owners)
        return tally.report(
            self.reader.settings(), {each.number: each
                                     for each in irq.read()},
            self.reader.units(tally.processes),
            trace=trace, not_traced=not_traced)


def ticks(observers, length, interval):
    """Read at each interval, and once at the end of the length.

    :param observers: whose ``tick`` is called
    :param length: seconds; None: for ever
    """
    begin = time.monotonic()
    end = float('inf') if length is None else begin + length
    number = 0
    while (now := time.monotonic()) < end:
        number += 1
        # What a reading takes does not add up.
        time.sleep(max(0.0, min(begin + number * interval, end) - now))
        for observer in observers:
            observer.tick()
        yield


def _allow_files():
    """As many open files as this process may allow itself: two a thread."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
