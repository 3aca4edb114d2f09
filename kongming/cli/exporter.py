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

"""What ``kongming metrics`` tells, read now or kept for a while.

The kernel's accounts and nova-compute's file are read each time.  libvirt is
asked, and the domains are compared with what they own, at most every so many
seconds; their memory is walked through more seldom still.

Prometheus waits ten seconds for an answer.  A libvirt that needs longer must
not make a gap in what the kernel and nova-compute tell: a look goes on beside
the scrape, which has what the last one has found.
"""

import contextlib
import functools
import sys
import threading
import time

from kongming.cli import survey
from kongming.domain import audit
from kongming.domain import domain as domain_mod
from kongming import exception
from kongming.kernel import accounts
from kongming.metrics import account as account_mod
from kongming.metrics import host

#: A file of nova-compute's that is larger is none.
_MOST_BYTES = 1 << 16
#: Texts of domains that are remembered: as they run, and as they are defined.
_MOST_TEXTS = 512


class Exporter:
    """A collector, as Prometheus' client library wants one.

    :param args: of :func:`kongming.cli.survey.add_arguments`
    :param account: where nova-compute's file is; None: there is none
    :param survey_interval: seconds for which a look at the host holds
    :param memory_interval: the same for the memory of its domains
    :param patience: seconds that an answer waits for a look at the host;
        None: until it has ended
    :param warn: called with what could not be seen, once
    """

    def __init__(self, args, account, version, survey_interval=0.0,
                 memory_interval=0.0, warn=None, patience=None):
        self._args, self._account, self._version = args, account, version
        self._survey_interval = survey_interval
        self._memory_interval = memory_interval
        self._patience = patience
        self._warn = warn or (lambda text: print(text, file=sys.stderr))
        self._said: dict[str, str] = {}
        self._lock = threading.Lock()
        self._reader = accounts.Reader()
        self._parse = functools.lru_cache(_MOST_TEXTS)(domain_mod.parse)
        self._looked = self._memory_looked = float('-inf')
        self._looking = None
        self._samples: list[host.Sample] = []
        self._memory: dict[str, int] = {}
        self._memory_findings: list[audit.Finding] = []
        #: domain's name -> (pid, id) of the threads of its vCPUs
        self._vcpus: dict[str, list[tuple[int, int]]] = {}

    def collect(self):
        """Metric families, each with all that is known of it."""
        from kongming.metrics import families
        with self._lock:
            return list(families.families(self.samples()))

    def samples(self):
        """:returns: kongming.metrics.host.Sample, of all that can be seen"""
        now = time.monotonic()
        if now >= self._looked + self._survey_interval:
            self._begin(now)
        if self._looking is not None:
            self._looking.join(self._patience)
            if not self._looking.is_alive():
                self._looking = None
        return [*self._samples, *self._of_kernel(), *self._of_compute(),
                host.Sample('kongming_build_info', (self._version,), 1)]

    def _begin(self, now):
        if self._looking is not None and self._looking.is_alive():
            return  # still at the last one
        self._looked = now
        if self._patience is None:
            self._look(now)
            return
        self._looking = threading.Thread(
            target=self._look, args=(now,), name='survey', daemon=True)
        self._looking.start()

    def _look(self, now):
        memory = now >= self._memory_looked + self._memory_interval
        found, vcpus = [], {}
        try:
            seen = survey.look(self._args, memory, self._parse)
            found, vcpus = self._of_host(seen, memory)
            if memory:
                self._memory_looked = now
            self._say('host', '')
            success = 1
        except exception.KongmingError as exc:
            self._say('host', f'The host can not be seen: {exc}')
            success = 0
        found += [
            host.Sample('kongming_survey_success', (), success),
            host.Sample('kongming_survey_duration_seconds', (),
                        round(time.monotonic() - now, 6)),
            host.Sample('kongming_survey_timestamp_seconds', (),
                        time.time())]
        self._samples, self._vcpus = found, vcpus

    def _of_host(self, seen, memory):
        findings = audit.find(seen.host, seen.state, seen.running)
        if memory:
            self._memory = {
                each.domain.name: sum(audit.misplaced_kib(each).values())
                for each in seen.running}
            self._memory_findings = [
                found for found in findings if found.kind == 'memory']
        here = {each.domain.name for each in seen.running}
        vcpus = {
            each.domain.name: [(pid, task.id) for task in each.tasks
                               if task.kind == domain_mod.VCPU]
            for pid, each in zip(seen.pids, seen.running)}
        return list(host.samples(
            seen.host, seen.state, seen.running,
            [*(found for found in findings if found.kind != 'memory'),
             *(found for found in self._memory_findings
               if found.domain in here)],
            {name: kib for name, kib in self._memory.items()
             if name in here})), vcpus

    def _of_kernel(self):
        found = self._reader.times(
            thread for threads in self._vcpus.values() for thread in threads)
        for name, threads in self._vcpus.items():
            times = [found[tid] for _pid, tid in threads if tid in found]
            # With a part of them it would seem to go backwards.
            if threads and len(times) == len(threads):
                yield host.Sample(
                    'kongming_server_vcpu_cpu_seconds_total', (name,),
                    sum(each.run_ns for each in times) / 1e9)
                yield host.Sample(
                    'kongming_server_vcpu_run_delay_seconds_total', (name,),
                    sum(each.wait_ns for each in times) / 1e9)

    def _of_compute(self):
        if self._account is None:
            return []
        try:
            with open(self._account, encoding='utf-8') as file:
                found = account_mod.Account.from_json(file.read(_MOST_BYTES))
            self._say('account', '')
            return list(found.samples())
        except (OSError, UnicodeDecodeError) as exc:
            reason = getattr(exc, 'strerror', None) or 'it is no UTF-8 text'
        except exception.Invalid as exc:
            reason = str(exc)
        self._say('account', f'{self._account}: {reason}')
        return []

    def _say(self, what, text):
        """Once, until it is something else."""
        if text and self._said.get(what) != text:
            with contextlib.suppress(OSError):
                self._warn(text)
        self._said[what] = text
