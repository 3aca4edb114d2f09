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

"""Borrowers leave the pCPUs of a server before it starts.

Borrowed is what the owner has lent and has no threads on; see
:mod:`nova_ext.live.enforce`.  libvirt may refuse to move a borrower: it is
being migrated, libvirtd is in trouble.  Then a server with a template waits,
and does not start.  A native server never pays for what templates lend: the
kernel moves the borrower's threads.
"""

import time

from kongming.host import topology
from nova import exception
from oslo_log import log as logging

LOG = logging.getLogger(__name__)
#: How long the start of a server with a template waits, in seconds.
WAIT = 10.0
#: Between two attempts, in seconds: at first, at most.
_PAUSE = 0.5, 4.0


class StillBorrowed(exception.NovaException):
    msg_fmt = 'It does not start on pCPU %(pcpus)s that it owns: %(reason)s'


def wait(reconciler, pcpus):
    """Have borrowers leave what a server with a template is to run on.

    :param reconciler: nova_ext.live.reconciler.Reconciler
    :param pcpus: all that the server owns
    :raises StillBorrowed: if they don't within :data:`WAIT`
    """
    if not pcpus:
        return
    deadline = time.monotonic() + WAIT
    pause, longest = _PAUSE
    while True:
        try:
            still_used = reconciler.reclaim(pcpus)
            reason = 'a server that borrowed it can not be moved'
        except Exception as exc:
            LOG.warning('It is not known who borrows pCPU %s',
                        topology.format_cpu_list(pcpus), exc_info=True)
            still_used, reason = pcpus, f'who borrows it is not known: {exc}'
        if not still_used:
            return
        if time.monotonic() + pause > deadline:
            raise StillBorrowed(pcpus=topology.format_cpu_list(still_used),
                                reason=reason)
        time.sleep(pause)
        pause = min(2 * pause, longest)


def force(reconciler, pcpus):
    """Have borrowers leave what a native server is to run on, at once.

    :param pcpus: all that the server owns
    """
    if not pcpus:
        return
    still_used = reconciler.reclaim(pcpus)
    if still_used:
        reconciler.evict(still_used)
