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
"""Caches and memory bandwidth of running servers, given and put back.

It stands in no domain's XML; the kernel knows it by thread, in its resctrl
file system.  That is the host's, so one look is for all servers: what those
had that are gone is free for those that have come.
"""

from kongming import exception as km_exc
from kongming.kernel import process
from kongming.kernel import resctrlfs
from kongming.resctrl import schemata
from kongming.template import cache_claims
import nova.conf
from oslo_log import log as logging

from nova_ext import cache
from nova_ext.live import report_once
from nova_ext import privileged

CONF = nova.conf.CONF
LOG = logging.getLogger(__name__)
_NO_PROCESS = ("cache: its domain's process is not to be seen here; "
               'nova-compute needs /run/libvirt and /proc of the host')
_NO_CELLS = ('cache: the server has no NUMA cells; hw:numa_nodes or '
             'hw:cpu_policy makes some')


class ClosEnforcer:
    """:param find: gives a server's libvirt domain, None where none runs

    :param layout: gives the host, a kongming.host.usage.HostState
    :param done: called with a server and its changes, in words, to be recorded
    :param refused: list that (server, error) are put on, likewise
    """

    def __init__(self, find, layout, done, refused):
        self._find, self._layout = find, layout
        self._reported = report_once.ReportOnce(
            'class of service', done, refused)
        #: Servers that are not here any more; see
        #: :class:`nova_ext.live.report_once.ReportOnce`
        self.forget = self._reported.forget
        #: uuids of all servers of the host that may have a CLOS, looked at or
        #: not; None: not known yet
        self.here = None
        #: what was logged last of the host itself
        self._said = ''

    def enforce(self, looked_at):
        """Have servers get what their templates say; what fails is reported.

        :param looked_at: (nova.objects.Instance, kongming.intent.merge.Intent)
            of each; groups of those that are not here any more are removed
        """
        asking = {}
        wanted: list[resctrlfs.Wanted] = []
        ungrouped = []
        try:
            caches = None
            for server, intent in looked_at:
                if not cache_claims.concerns(intent.base):
                    continue
                found = self._process(server, intent)
                if found is None:
                    continue
                domain, pid = found
                ungrouped.append((server.uuid, pid))
                asking[server.uuid] = server, domain, intent.cache
                if intent.cache:
                    caches = caches or cache.caches(self._layout())
                    wanted += _wanted(server, intent, pid, caches)
            reason = cache.why_not()
            if reason:
                if wanted:
                    raise km_exc.ResctrlError(reason)
                return
            self._arrange(wanted, ungrouped, asking,
                          {server.uuid for server, _intent in looked_at})
        except Exception as exc:
            # Nothing that goes wrong here is in the way of anything else.
            for server, _domain, meant in asking.values():
                if meant:
                    self._reported.failed(server, exc)
            if not asking:
                self._say(f'What servers had of caches could not be given '
                          f'back: {exc}')

    def observe(self, looked_at):
        """What would be done to servers; nothing is.

        :param looked_at: as for :meth:`enforce`
        :returns: uuid -> in words
        """
        found: dict[str, list[str]] = {}
        wanted: list[resctrlfs.Wanted] = []
        ungrouped = []
        for server, intent in looked_at:
            domain = (cache_claims.concerns(intent.base)
                      and self._find(server))
            if not domain:
                continue
            pid = process.pid(domain)
            problem = ('' if not intent.cache
                       else _NO_CELLS if server.numa_topology is None
                       else _NO_PROCESS if pid is None else cache.why_not())
            if problem:
                found[server.uuid] = [problem]
            elif pid is not None and server.numa_topology is not None:
                ungrouped.append((server.uuid, pid))
                if intent.cache:
                    wanted += _wanted(server, intent, pid,
                                      cache.caches(self._layout()))
        if not ungrouped or cache.why_not():
            return found
        plan = resctrlfs.look(resctrlfs.Files(), resctrlfs.Host(
            tuple(wanted), (), tuple(ungrouped), CONF.kongming.cache_classes,
            cache.memory_bandwidth()))
        for step in plan.steps:
            if step.server:
                found.setdefault(step.server, []).append(str(step))
        for group, reason in plan.refused.items():
            found.setdefault(schemata.server_of(group) or '', []).append(
                f'cache: {reason}')
        return found

    def _process(self, server, intent):
        """Its domain and its process, or None."""
        domain = self._find(server)
        if domain is None:
            return None
        if server.numa_topology is None:
            self._reported.problem(server, _NO_CELLS if intent.cache else '')
            return None
        pid = process.pid(domain)
        if pid is None:
            self._reported.problem(server, _NO_PROCESS if intent.cache else '')
            return None
        return domain, pid

    def _arrange(self, wanted, ungrouped, asking, looked_at):
        """:param looked_at: uuids, the only ones whose groups are touched"""
        files = resctrlfs.Files()
        groups = files.names()
        if not wanted and not any(map(schemata.server_of, groups)):
            return
        left = {schemata.server_of(group) for group in groups} - looked_at
        if self.here is not None:
            left &= self.here
        host = resctrlfs.Host(
            tuple(wanted), tuple(sorted(filter(None, left))), tuple(ungrouped),
            CONF.kongming.cache_classes, cache.memory_bandwidth())
        plan = resctrlfs.look(files, host)
        outcome = resctrlfs.Outcome((), plan.refused, plan.shared)
        if plan.steps:
            outcome = resctrlfs.Outcome(*privileged.arrange_clos(*host))
        self._report(outcome, asking)

    def _report(self, outcome, asking):
        """:param asking: uuid -> (server, domain, what it is to have)"""
        done, refused, shared = outcome
        changes: dict[str, list[str]] = {}
        for uuid, words in done:
            changes.setdefault(uuid, []).append(words)
        for uuid in changes.keys() - asking.keys():
            LOG.info('Classes of server %s, which needs them no more: %s',
                     uuid or '-', '; '.join(changes[uuid]))
        for uuid, (server, domain, meant) in asking.items():
            reasons = _of(uuid, refused, '')
            if reasons:
                self._reported.failed(server, km_exc.ResctrlError(
                    f'cache: {reasons}'))
                meant = None
            else:
                self._reported.problem(server, _of(
                    uuid, shared, 'its ways are used by others as well: '))
            self._reported.given(server, domain, meant, changes.get(uuid, []))
        stuck = [f'{group}: {reason}' for group, reason in refused.items()
                 if schemata.server_of(group) not in asking]
        self._say('; '.join(stuck))

    def _say(self, text):
        if text and text != self._said:
            LOG.warning('%s', text)
        self._said = text


def _of(uuid, words, what):
    """What is said of a server's groups."""
    return '; '.join(f'class of vCPU {group.rpartition("-")[2]}: {what}{text}'
                     for group, text in sorted(words.items())
                     if schemata.server_of(group) == uuid)


def _wanted(server, intent, pid, caches):
    """:param caches: node -> ids of its L3 caches"""
    nodes = {vcpu: cell.id for cell in server.numa_topology.cells
             for vcpu in cell.pcpuset | cell.cpuset}
    for entry in intent.cache:
        vcpus = [vcpu for part in entry.vcpus for vcpu in part.ids()
                 if vcpu in nodes]
        domains = frozenset().union(*(
            caches.get(nodes[vcpu], frozenset()) for vcpu in vcpus))
        yield resctrlfs.Wanted(
            schemata.group_name(server.uuid, entry), entry.l3, entry.mb,
            tuple(sorted(domains)), pid, tuple(vcpus))
