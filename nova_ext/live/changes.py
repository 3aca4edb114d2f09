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

"""Live changes carried out: each group of servers is a job.

Servers that give pCPUs to one another are one group; see
:func:`kongming.live.rearrange.groups`.  A change is made whole or rolled
back, and recorded for each of its servers.
"""

import functools
import time

from kongming.live import rearrange
import nova.conf
import nova.context
from oslo_log import log as logging

from nova_ext.live import record

CONF = nova.conf.CONF
LOG = logging.getLogger(__name__)


class Changes:
    """:param driver: nova_ext.driver.LibvirtDriver

    :param steps: nova_ext.live.steps.Steps
    :param enforcer: nova_ext.live.enforce.Enforcer
    :param failures: nova_ext.live.failures.Failures
    :param jobs: nova_ext.live.jobs.Jobs
    :param records: nova_ext.live.record.Records
    :param mode: nova_ext.live.mode.Mode
    :param evidence: called with a uuid; returns what of its load has led to
        a change, in words
    """

    def __init__(self, driver, steps, enforcer, failures, jobs, records,
                 mode, evidence=lambda uuid: ''):
        self._driver = driver
        self._steps = steps
        self._enforcer = enforcer
        self._failures = failures
        self._jobs = jobs
        self._records = records
        self._mode = mode
        self._evidence = evidence

    def start(self, plan, servers, intents):
        """Start the changes of a plan.

        :param plan: kongming.live.rearrange.Plan
        :param servers: uuid -> nova.objects.Instance
        :param intents: uuid -> kongming.intent.merge.Intent
        :returns: uuids of those that were not started, as too much runs
        """
        found: dict[int, list[rearrange.Step]] = {}
        group = rearrange.groups(plan.steps)
        for step in plan.steps:
            found.setdefault(group[step.server], []).append(step)
        left: set[str] = set()
        for steps in found.values():
            uuids = dict.fromkeys(step.server for step in steps)
            job = self._jobs.start(
                uuids, _words(steps, len(uuids)), functools.partial(
                    self._carry_out, steps,
                    {uuid: servers[uuid] for uuid in uuids},
                    {uuid: intents[uuid] for uuid in uuids}),
                pcpus_of(steps))
            if job is None:
                left |= uuids.keys()
        return left

    def _carry_out(self, steps, servers, intents, job):
        """All of a group's steps, or nothing."""
        context = nova.context.get_admin_context()
        changes = {uuid: record.Change(
            server, self._driver._tracker.host,
            [step for step in steps if step.server == uuid],
            self._evidence(uuid))
            for uuid, server in servers.items()}
        try:
            for uuid, change in changes.items():
                # What fails again is counted in the record that there is.
                if not self._failures.has_failed(uuid, intents[uuid].base):
                    change.start()
        except Exception:
            LOG.warning('A live change waits until it can be recorded',
                        exc_info=True)
            for change in changes.values():
                if change.is_begun:
                    self._records.end(change, record.ChangeFailed(
                        reason='it could not be recorded of all its servers; '
                               'it is tried again'))
            return
        error = None
        done: list[rearrange.Step] = []
        budget = CONF.kongming.memory_move_timeout * max(1, sum(
            step.moves_memory for step in steps))
        for step in steps:
            if self._jobs.is_stopped:
                LOG.warning('A live change is cut short, as nova-compute '
                            'ends: %s', job)
                error = record.ChangeFailed(
                    reason='nova-compute ended; it goes on when it starts')
                break
            try:
                if job.seconds > budget:
                    raise record.ChangeFailed(
                        reason=f'it took longer than {budget:g} s')
                if len(steps) > 1:
                    job.progress = f'step {len(done) + 1} of {len(steps)}'
                changes[step.server].moved_kib += self._steps.take(
                    context, servers[step.server], step,
                    intents[step.server], job)
            except Exception as exc:
                LOG.exception('A live change is rolled back')
                self._roll_back(context, done, servers, intents, job)
                error = record.ChangeFailed(
                    reason=str(exc)).with_traceback(exc.__traceback__)
                break
            done.append(step)
        if error and not self._jobs.is_stopped:
            self._mode.failed(error)
        elif not error:
            self._mode.succeeded()
        self._driver.publisher.ownership_changed(changes)
        for uuid, change in changes.items():
            self._enforcer.given_anew(uuid)
            if error:
                self._failures.back_off(uuid, intents[uuid].base,
                                        time.monotonic())
                self._failures.failed(uuid, intents[uuid].base, change,
                                      error)
            else:
                self._failures.succeeded(uuid)
                self._records.end(change)
        self._records.flush()

    def _roll_back(self, context, done, servers, intents, job):
        for step in reversed(done):
            job.progress = 'it is rolled back'
            try:
                self._steps.take(context, servers[step.server], step.back(),
                                 intents[step.server], job)
            except Exception:
                # What it owns is consistent; the next pass sees to the rest.
                LOG.exception('A step could not be rolled back',
                              instance=servers[step.server])


def _words(steps, servers):
    if servers > 1:
        return f'a live change of {servers} servers that exchange pCPUs'
    return f'a live change: {"; ".join(map(str, steps))}'


def pcpus_of(steps):
    """All that steps leave or go to."""
    return frozenset(pcpu for step in steps for move in step.moves
                     for pcpu in move[1:])
