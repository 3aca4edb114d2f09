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
"""What was reported of each server's QoS or CLOS; each thing once."""

from kongming import exception as km_exc
from kongming.template import template
from oslo_log import log as logging

from nova_ext.live import record

LOG = logging.getLogger(__name__)


class ReportOnce:
    """:param what: its name in a line of the log

    :param done: called with a server and its changes, in words, to be recorded
    :param refused: list that (server, error) are put on, likewise
    """

    def __init__(self, what, done, refused):
        self._what = what
        self._done, self._refused = done, refused
        #: server -> what it was given last, and the id that its domain had
        self._given = {}
        #: server -> what was reported of it last
        self._reported = {}

    def forget(self, servers):
        """Servers that are not here any more.

        :param servers: uuids of those that are
        """
        for known in (self._given, self._reported):
            for uuid in known.keys() - servers:
                del known[uuid]

    def failed(self, server, error):
        """An action of the server, for each reason one."""
        if not self._is_news(server, str(error)):
            return
        if not isinstance(error, km_exc.KongmingError):
            LOG.error('Its %s could not be looked after', self._what,
                      exc_info=error, instance=server)
        self._refused.append((server, record.ChangeFailed(
            reason=str(error)).with_traceback(error.__traceback__)))

    def problem(self, server, text):
        """A line in the log; none where nothing is wrong."""
        if self._is_news(server, text) and text:
            LOG.warning('Not obeyed: %s', text, instance=server)

    def _is_news(self, server, text):
        before = self._reported.get(server.uuid, '')
        self._reported[server.uuid] = text
        return before != text

    def given(self, server, domain, wanted, changes):
        """A new desired state is a live change; what a start needs is none.

        :param wanted: what the server has now
        :param changes: what had to be done for that, in words
        """
        before = self._given.get(server.uuid)
        self._given[server.uuid] = wanted, domain.ID()
        if not changes:
            return
        if (before[0] != wanted if before
                else template.has_template(server.metadata)):
            self._done(server, changes)
        elif before == (wanted, domain.ID()):
            LOG.warning('Its %s was not what it is to be and is put back: '
                        '%s', self._what, '; '.join(changes), instance=server)
        else:
            LOG.info('It gets its %s: %s', self._what, '; '.join(changes),
                     instance=server)
