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
"""QoS of running servers: set, put back, reset.

It stands in no domain's XML, so a domain starts without: whenever a pass of
the reconciler finds one that has not what its template says, it gets it.
"""

from kongming.kernel import cgroup
from kongming.kernel import process
from kongming.live import qos

from nova_ext.live import report_once
from nova_ext import privileged

_NO_PROCESS = ("qos: its domain's process is not to be seen here; "
               'nova-compute needs /run/libvirt and /proc of the host')


class CpuSharesEnforcer:
    """:param find: gives a server's libvirt domain, None where none runs

    :param done: called with a server and its changes, in words, to be recorded
    :param refused: list that (server, error) are put on, likewise
    """

    def __init__(self, find, done, refused):
        self._find = find
        self._reported = report_once.ReportOnce('QoS', done, refused)
        #: Servers that are not here any more; see
        #: :class:`nova_ext.live.report_once.ReportOnce`
        self.forget = self._reported.forget

    def enforce(self, server, intent):
        """Have a server get what its template says; what fails is reported.

        :param server: nova.objects.Instance
        :param intent: kongming.intent.merge.Intent
        """
        if not qos.concerns(intent.base):
            return
        try:
            problem = self._apply(server, intent.qos)
        except Exception as exc:
            # One that can't be helped is not in the others' way.
            self._reported.failed(server, exc)
            return
        self._reported.problem(server, problem)

    def observe(self, server, intent):
        """What would be done to a server; nothing is.

        :returns: in words
        :raises kongming.exception.CgroupError: if what it has can't be read
        """
        if not qos.concerns(intent.base):
            return []
        domain = self._find(server)
        pid = domain and process.pid(domain)
        if pid is None:
            return [_NO_PROCESS] if domain and intent.qos else []
        wanted, problems = _wanted(server, intent.qos)
        return [*qos.changes(cgroup.read(domain, pid), wanted), *problems]

    def _apply(self, server, meant):
        """:returns: what was not obeyed and why, empty if all was"""
        domain = self._find(server)
        if domain is None:
            return ''
        pid = process.pid(domain)
        if pid is None:
            return _NO_PROCESS if meant else ''
        wanted, problems = _wanted(server, meant)
        now = cgroup.read(domain, pid)
        changes = qos.changes(now, wanted)
        if changes:
            cgroup.apply(domain, pid, now, wanted, privileged.set_share)
        self._reported.given(server, domain, wanted, changes)
        return '; '.join(problems)


def _wanted(server, meant):
    """See :func:`kongming.live.qos.wanted`."""
    return qos.wanted(meant, server.flavor.vcpus,
                      qos.native(server.flavor.extra_specs),
                      cgroup.version())
