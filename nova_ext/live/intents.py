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

"""What each server is to be, as flavor, host and rate limit allow."""

import datetime
import functools
import time

from kongming import exception as km_exc
from kongming.intent import merge
from kongming.intent import rate_limit
from kongming.live import qos
from kongming.template import template
import nova.conf
from oslo_log import log as logging

from nova_ext import limits
from nova_ext.live import record

CONF = nova.conf.CONF
LOG = logging.getLogger(__name__)
_SOON = datetime.timedelta(seconds=1)
_TOO_OFTEN = ('its metadata ask for other things too often ([kongming] '
              'change_interval); what they ask for last is done when it is '
              'due')


class Intents:
    """The servers of a host, and what was reported of them.

    :param met: called with a server, its flavor's template, its metadata as
        far as they are not too many, and a moment; returns the conditions
        of its profiles that count then
    """

    def __init__(self, met=lambda *_args: frozenset()):
        self._met = met
        self._rate_limiter: rate_limit.RateLimiter[dict[str, str]] = (
            rate_limit.RateLimiter())
        self._started = time.monotonic()
        #: servers of which is known what was changed before
        self._restored: set[str] = set()
        #: server -> what was reported last as not obeyed, flavor's and
        #: metadata's
        self._reported = {}
        #: server -> (specs, the host's limits, what was decoded of them)
        self._flavors = {}
        #: server -> (what it was merged of, from when and until when it
        #: holds, kongming.intent.merge.Intent)
        self._merged = {}
        #: (server, error) of what is refused and not recorded yet; a client
        #: that knows flavor and metadata could not tell
        self.refused = []

    def of(self, server, moment):
        """A flavor's template with what its server's metadata may say.

        :param moment: None: whatever the windows say, and nothing reported
        :returns: kongming.intent.merge.Intent
        :raises nova_ext.live.record.ChangeFailed: if the flavor's template
            is none
        """
        host = limits.of_host()
        (flavor, beyond), quota = self._decode(server, host)
        merged = functools.partial(
            merge.merge, flavor, limits=host, quota=quota)
        if moment is None:
            return merged(server.metadata)
        # Windows have no rate limit: a profile begins on time.
        metadata, too_often = self._rate_limiter.admit(
            server.uuid, template.ours(server.metadata), time.monotonic(),
            CONF.kongming.change_interval)
        if too_often:
            self._refuse(server, _TOO_OFTEN)
        met = self._met(server, flavor, metadata, moment)
        key = flavor, metadata, host, quota, met
        known = self._merged.get(server.uuid)
        if known is not None and known[0] == key and (
                known[1] <= moment < (known[2] or moment + _SOON)):
            return known[3]
        intent = merged(metadata, moment, met=met)
        self._merged[server.uuid] = (
            key, moment,
            merge.next_change(intent.base, metadata, moment, met), intent)
        if self._reported.get(server.uuid, ((), ())) != (
                beyond, intent.refused):
            self._reported[server.uuid] = beyond, intent.refused
            self._say(server, 'Flavor', beyond)
            self._say(server, 'Metadata', intent.refused)
            if intent.beyond:
                self._refuse(server, _join(intent.refused))
        return intent

    def needs_history(self, server):
        """Whether changes before nova-compute started may count.

        They have taken tokens that are not all there again.
        """
        return (time.monotonic() - self._started
                < rate_limit.BURST * CONF.kongming.change_interval
                and server.uuid not in self._restored
                and self._rate_limiter.changed(
                    server.uuid, template.ours(server.metadata)))

    def restore(self, server, ages):
        """Have changes count that were made before nova-compute started.

        :param ages: seconds since each, newest first
        """
        self._restored.add(server.uuid)
        now, interval = time.monotonic(), CONF.kongming.change_interval
        self._rate_limiter.restore(server.uuid, [
            now - age for age in reversed(ages)
            if age < rate_limit.BURST * interval
            and now - age < self._started], interval)

    def next_change(self, server, intent, moment):
        """When windows make another profile of a server active, or none."""
        known = self._merged.get(server.uuid)
        if known is not None and known[3] is intent:
            return known[2]
        return merge.next_change(intent.base, server.metadata, moment)

    def _decode(self, server, host):
        """A flavor's template and Nova's quota of its vCPUs.

        :param host: kongming.intent.limits.Limits
        :returns: as :func:`nova_ext.limits.decode`, and the quota
        """
        specs = server.flavor.extra_specs
        known = self._flavors.get(server.uuid)
        if known is not None and known[:2] == (specs, host):
            return known[2]
        try:
            found = limits.decode(specs), qos.native(specs).quota
        except km_exc.InvalidTemplate as exc:
            raise record.ChangeFailed(reason=str(exc)) from exc
        self._flavors[server.uuid] = dict(specs), host, found
        return found

    @staticmethod
    def _say(server, whose, problems):
        if problems:
            LOG.warning('%s not obeyed: %s', whose, _join(problems),
                        instance=server)

    def _refuse(self, server, reason):
        self.refused.append((server, record.ChangeFailed(reason=reason)))

    def waiting(self):
        """Whether a server waits for what it was refused as too often."""
        return self._rate_limiter.waiting()

    def retain(self, servers):
        """Forget all servers but these; rate limits stay."""
        for known in self._reported, self._merged, self._flavors:
            for uuid in known.keys() - servers:
                known.pop(uuid, None)

    def retain_rates(self, servers):
        """Forget that of all servers but these, which are on this host."""
        self._rate_limiter.retain(servers)


def _join(problems):
    return '; '.join(map(str, problems))
