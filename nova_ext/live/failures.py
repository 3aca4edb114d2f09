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

"""Changes that failed: reported once for each reason, tried again later.

A template that failed is left alone for a minute, then for twice as long each
time, for an hour at most.  Another template of the server is tried at once.
"""

from oslo_log import log as logging

from nova_ext.live import record

LOG = logging.getLogger(__name__)
#: How soon to try again what failed, in seconds, and how late at most.
PAUSE, LONGEST_PAUSE = 60.0, 3600.0


class Failures:
    """The servers of a host that are not what they are to be, and why.

    :param records: nova_ext.live.record.Records
    """

    def __init__(self, records):
        self._records = records
        #: server -> the reason that was reported last
        self._reported = {}
        #: server -> (template, its Change): what is refused again is counted
        #: in the record that there is
        self._recorded = {}
        #: server -> (template, when to try again, seconds until then)
        self._retries = {}
        #: servers of which is known what was refused before nova-compute
        #: started
        self._restored = set()

    def is_restored(self, uuid):
        return uuid in self._restored

    def restore(self, server, host, desired, refusal, now):
        """Go on with what was refused before nova-compute started.

        :param server: nova.objects.Instance
        :param desired: kongming.template.template.Template
        :param refusal: nova_ext.live.history.Refusal, or None
        :param now: seconds on the clock of :meth:`waits`
        """
        uuid = server.uuid
        self._restored.add(uuid)
        if (refusal is None or uuid in self._recorded
                or refusal.fingerprint != record.fingerprint(desired)):
            return
        self._recorded[uuid] = desired, record.Change.refused_before(
            server, host, refusal.request_id, refusal.times)
        if refusal.begun:
            pause = min(PAUSE * 2.0 ** min(refusal.times - 1, 10),
                        LONGEST_PAUSE)
            self._retries[uuid] = (
                desired, now + pause - max(0.0, refusal.seconds), pause)

    def retain(self, servers):
        """Forget all servers but these."""
        for known in (self._reported, self._retries, self._recorded):
            for uuid in known.keys() - servers:
                known.pop(uuid, None)
        self._restored &= servers

    def has_failed(self, uuid, desired):
        """Whether there is a record of a template that was refused."""
        known = self._recorded.get(uuid)
        return known is not None and known[0] == desired

    def failed(self, uuid, desired, change, error):
        """Record a refusal; of a template that was refused before, once more.

        :param desired: kongming.template.template.Template; None: it is not
            known
        :param change: nova_ext.live.record.Change
        """
        if desired is not None:
            change.desired = record.fingerprint(desired)
        if desired is not None and self.has_failed(uuid, desired):
            _desired, first = self._recorded[uuid]
            first.again(change)
            change = first
        self._recorded[uuid] = desired, change
        self._records.end(change, error)

    def report(self, server, host, error, desired=None):
        """Record why a server stays as it is, once for each reason.

        :param server: nova.objects.Instance
        :param desired: its template; None: it is not known
        """
        reason = str(error)
        if self._reported.get(server.uuid) == reason:
            return
        self._reported[server.uuid] = reason
        if not isinstance(error, record.ChangeFailed):
            LOG.error('The server could not be reconciled', exc_info=error,
                      instance=server)
            error = record.ChangeFailed(reason=reason).with_traceback(
                error.__traceback__)
        self.failed(server.uuid, desired, record.Change(server, host), error)

    def obeyed(self, uuid):
        """Nothing of a server is refused now: what will be is news."""
        self._reported.pop(uuid, None)
        self._recorded.pop(uuid, None)

    def waits(self, uuid, desired, now):
        """Whether a template that failed is not to be tried again yet.

        :param desired: kongming.template.template.Template
        :param now: seconds on any clock that never goes back
        """
        failed = self._retries.get(uuid)
        return (failed is not None and failed[0] == desired
                and now < failed[1])

    def back_off(self, uuid, desired, now):
        """Try a template that failed again later, and then later still."""
        failed = self._retries.get(uuid)
        pause = PAUSE
        if failed is not None and failed[0] == desired:
            pause = min(2 * failed[2], LONGEST_PAUSE)
        self._retries[uuid] = desired, now + pause, pause

    def succeeded(self, uuid):
        """Whatever fails next is tried again soon."""
        self._retries.pop(uuid, None)
        self._recorded.pop(uuid, None)
