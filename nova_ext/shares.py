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
"""QoS of running servers: given, put back, taken back.

It stands in no domain's XML, so a domain starts without: whenever a pass of
the reconciler finds one that has not what its template says, it gets it.
"""

from kongming import cgroup
from kongming import exception as km_exc
from kongming import process
from kongming import qos
from kongming import template
from oslo_log import log as logging

from nova_ext import privileged
from nova_ext import steps

LOG = logging.getLogger(__name__)


class Shares:
    """:param find: gives a server's libvirt domain, None where none runs

    :param done: list that (server, changes) are put on, to be recorded
    :param refused: list that (server, error) are put on, likewise
    """

    def __init__(self, find, done, refused):
        self._find = find
        self._done, self._refused = done, refused
        #: server -> what it was given last, and the id that its domain had
        self._given = {}
        #: server -> what it was told last
        self._told = {}

    def forget(self, servers):
        """Servers that are not here any more.

        :param servers: uuids of those that are
        """
        for known in (self._given, self._told):
            for uuid in known.keys() - servers:
                del known[uuid]

    def bring(self, server, intent):
        """Have a server get what its template says; what fails is told.

        :param server: nova.objects.Instance
        :param intent: kongming.merge.Intent
        """
        if not qos.concerns(intent.base):
            return
        try:
            problem = self._bring(server, intent.qos)
        except Exception as exc:
            # One that can't be helped is not in the others' way.
            if self._is_news(server, str(exc)):
                if not isinstance(exc, km_exc.KongmingError):
                    LOG.error('Its QoS could not be looked after',
                              exc_info=exc, instance=server)
                self._refused.append((server, steps.Failed(
                    reason=str(exc)).with_traceback(exc.__traceback__)))
            return
        if self._is_news(server, problem) and problem:
            LOG.warning('Not obeyed: %s', problem, instance=server)

    def _is_news(self, server, text):
        before = self._told.get(server.uuid, '')
        self._told[server.uuid] = text
        return before != text

    def _bring(self, server, meant):
        """:returns: what was not obeyed and why, empty if all was"""
        domain = self._find(server)
        if domain is None:
            return ''
        pid = process.pid(domain)
        if pid is None:
            return (
                "qos: its domain's process is not to be seen here; "
                'nova-compute needs /run/libvirt and /proc of the host'
                if meant else '')
        wanted, problems = qos.wanted(
            meant, server.flavor.vcpus,
            qos.native(server.flavor.extra_specs), cgroup.version())
        now = cgroup.read(domain, pid)
        changes = qos.changes(now, wanted)
        if changes:
            cgroup.apply(domain, pid, now, wanted, privileged.set_share)
            self._log(server, domain, wanted, changes)
        self._given[server.uuid] = wanted, domain.ID()
        return '; '.join(problems)

    def _log(self, server, domain, wanted, changes):
        """A new wish is a live change; what a start needs is none."""
        before = self._given.get(server.uuid)
        if (before[0] != wanted if before
                else template.has_template(server.metadata)):
            self._done.append((server, changes))
        elif before == (wanted, domain.ID()):
            LOG.warning('Its QoS was not what it is to be and is put back: '
                        '%s', '; '.join(changes), instance=server)
        else:
            LOG.info('It gets its QoS: %s', '; '.join(changes),
                     instance=server)
