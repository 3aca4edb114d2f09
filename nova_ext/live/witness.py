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
"""The kernel asked where servers' threads may run; libvirt's word is not
enough.

See :mod:`kongming.live.witness` for what is decided, and why.
"""

import time

from kongming.host import topology
from kongming.kernel import affinity
from kongming.libvirt import affinity as libvirt_affinity
from kongming.live import witness
import nova.conf
from oslo_log import log as logging

from nova_ext.live import record
from nova_ext import privileged

CONF = nova.conf.CONF
LOG = logging.getLogger(__name__)
#: How soon to look again whether threads may be set, in seconds: it may
#: start a process.
_RETRY = 600.0
#: Of a server that is idle so many cpusets are read in a pass, the others
#: in the next ones; the affinity of all threads is read.
CPUSETS = 3
_REMEDY = ('nova-compute has to run on the machine of its libvirtd, in its '
           'PID namespace and with its /run/libvirt (a container: pid: host), '
           'and [kongming_privileged] in nova.conf has to give it '
           'CAP_SYS_NICE')


class Witness:
    """:param cpu_api: nova_ext.power.CpuApi"""

    def __init__(self, cpu_api):
        self._cpu_api = cpu_api
        self._reader = affinity.Reader()
        #: server -> (id of its domain, its process)
        self._processes = {}
        #: server -> why its threads are not seen
        self._unseen = {}
        #: why threads are not to be set; empty: they are
        self._unsettable = ''
        #: when that was found out
        self._asked = None
        self._reported = ''

    @property
    def blind(self):
        """Why the kernel is not asked on this host; empty: it is."""
        # Passes, jobs and the alarm change it meanwhile.
        return self._unsettable or next(iter([*self._unseen.values()]), '')

    def retain(self, servers):
        """Forget all servers but these."""
        for uuid in self._processes.keys() - servers:
            self._processes.pop(uuid, None)
        for uuid in self._unseen.keys() - servers:
            self._unseen.pop(uuid, None)
        self._reader.retain({process for _domain, process
                             in self._processes.values()})

    def stopped(self, server):
        """A server has no domain that runs, so there is nothing to see.

        Its process may have ended before libvirt had seen that.
        """
        self._unseen.pop(server.uuid, None)

    def process(self, server, domain):
        """The process of a domain that runs; None where it is not seen."""
        ident = domain.ID()
        known = self._processes.get(server.uuid)
        if known is None or known[0] != ident:
            process = affinity.process_of(domain)
            if process is None:
                if domain.isActive():
                    self._unseen[server.uuid] = (
                        f'the process of {domain.name()} is not seen')
                    self._report()
                return None
            self._unseen.pop(server.uuid, None)
            known = self._processes[server.uuid] = ident, process
        self._ask(known[1])
        return known[1]

    def _ask(self, process):
        """Find out whether threads may be set, once."""
        now = time.monotonic()
        if self._asked is not None and (
                not self._unsettable or now < self._asked + _RETRY):
            return self._report()
        self._asked = now
        try:
            reason = privileged.may_hold(process)
        except Exception as exc:
            reason = f'privsep: {exc}'
        self._unsettable = reason and f'threads can not be set: {reason}'
        self._report()

    def _report(self):
        """A line in the log where it has changed."""
        reason = self.blind
        if bool(reason) != bool(self._reported):
            if reason:
                LOG.warning('The kernel can not be asked where servers '
                            'really run: %(reason)s. Servers boot, profiles '
                            'go by what libvirt says, and no ownership '
                            'changes. %(remedy)s', {
                                'reason': reason, 'remedy': _REMEDY})
            else:
                LOG.info('The kernel is asked where servers really run')
        self._reported = reason

    def look(self, server, domain):
        """Before an ownership changes: the kernel has to tell of it.

        :param domain: None where it does not run
        :raises record.ChangeFailed: where the kernel is not asked
        """
        if domain is not None:
            self.process(server, domain)
        if self.blind:
            raise record.ChangeFailed(
                reason=f'the kernel can not be asked on this host where its '
                       f'threads run ({self.blind}), so that no ownership '
                       f'changes; {_REMEDY}')

    def freed(self, server, domain, wanted, most=None):
        """Threads that are freer than they may be.

        :param wanted: kongming.live.threads.Threads
        :param most: how many cpusets are looked at beside their affinity;
            None: all
        :returns: list of kongming.live.witness.Thread; empty where the
            kernel is not asked
        """
        process = self.process(server, domain)
        if process is None:
            return []
        try:
            found = witness.freed(self._reader.read(process, most), wanted)
            if found:
                # A name may be another one by now.
                self._reader.forget(process)
                found = witness.freed(self._reader.read(process), wanted)
            return found
        except FileNotFoundError:
            self._processes.pop(server.uuid, None)
            return []  # it has ended

    def words(self, outside, wanted):
        """What is wrong with threads, and why, in words."""
        return witness.words(outside, wanted, self._cpu_api.online())

    def put_back(self, server, domain, wanted, owned, width):
        """Put threads back that are freer than they may be.

        By libvirt; where that does not help, by the kernel.

        :param owned: pCPUs that the server owns
        :param width: number of the host's pCPUs
        :raises record.ChangeFailed: naming the cause, where a thread is not
            where it is wanted afterwards
        """
        outside = self.freed(server, domain, wanted)
        if not outside:
            return
        reported = '; '.join(self.words(outside, wanted))
        LOG.warning('Threads are freer than they may be and are put back: '
                    '%s', reported, instance=server)
        try:
            libvirt_affinity.again(domain, wanted, width, {
                (thread.kind, thread.number) for thread in outside})
            refusal = ''
        except Exception as exc:
            refusal = f' ({exc})'
        left = self.freed(server, domain, wanted)
        if left:
            self._hold(server, domain, wanted, owned, left)
            raise record.ChangeFailed(
                reason=f'libvirt does not put it back{refusal}: {reported}')

    def _hold(self, server, domain, wanted, owned, outside):
        online = self._cpu_api.online()
        if online is None:
            return
        places = witness.kept(outside, wanted, owned, online)
        process = self.process(server, domain)
        if not places or process is None:
            return
        try:
            privileged.hold(process, [
                (thread, sorted(pcpus)) for thread, pcpus in places.items()])
        except Exception:
            LOG.exception('The kernel does not put its threads back',
                          instance=server)
            return
        LOG.warning('The kernel keeps its threads on pCPU %s, which it owns',
                    topology.format_cpu_list(
                        frozenset().union(*places.values())),
                    instance=server)

    def harmless(self, server, domain, wanted, owned):
        """After a pin that libvirt refused: nothing is left free.

        A thread that is still where it was stays there.

        :param owned: pCPUs that the server owns, also those that it leaves
        """
        try:
            mine = owned | wanted.pcpus
            outside = [thread for thread in self.freed(server, domain, wanted)
                       if not thread.allowed <= mine]
            if outside:
                LOG.warning('A pin that libvirt refused has freed threads: '
                            '%s', '; '.join(self.words(outside, wanted)),
                            instance=server)
                self._hold(server, domain, wanted, owned, outside)
        except Exception:
            # What the caller has is worse.
            LOG.exception('The kernel could not be asked', instance=server)
