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

"""The few things that need more rights than nova-compute has."""

import os
import threading

from kongming.kernel import affinity
from kongming.kernel import cgroup
from kongming.kernel import cpuset
from kongming.kernel import irq
from kongming.kernel import numa
from kongming.kernel import process
from kongming.kernel import resctrlfs
from kongming.live import qos
from oslo_log import log as logging
from oslo_privsep import capabilities
from oslo_privsep import priv_context

LOG = logging.getLogger(__name__)
#: taken once its daemon was asked for
_prepared = threading.Lock()
#: ``[kongming_privileged]`` in nova.conf, as of every privsep context.
context = priv_context.PrivContext(
    'nova_ext',
    cfg_section='kongming_privileged',
    pypath=__name__ + '.context',
    capabilities=[capabilities.CAP_SYS_NICE, capabilities.CAP_SYS_PTRACE,
                  capabilities.CAP_DAC_READ_SEARCH])
#: ``[kongming_resctrl]``, a daemon of its own, on hosts that need it.  The
#: root of a kernfs file system has mode 0555 (fs/kernfs/dir.c,
#: kernfs_create_root), so even its owner makes no folder there without this.
resctrl_context = priv_context.PrivContext(
    'nova_ext',
    cfg_section='kongming_resctrl',
    pypath=__name__ + '.resctrl_context',
    capabilities=[capabilities.CAP_DAC_OVERRIDE])


def as_root_itself():
    """Call directly what a process of root's may do by itself."""
    if os.geteuid() == 0:
        for each in (context, resctrl_context):
            each.set_client_mode(False)


def prepare():
    """Have the daemon of live changes started, beside what the caller does.

    The first call starts it, and waits for a second or two: Python imports
    what it needs.  What goes wrong is told by who needs it.
    """
    if (not context.client_mode or context.channel is not None
            or not _prepared.acquire(blocking=False)):
        return
    try:
        threading.Thread(target=_prepare, daemon=True,
                         name='kongming-privsep').start()
    except RuntimeError:
        # The system gives no thread; the next one to come asks again.
        _prepared.release()


def _prepare():
    try:
        _nothing()
    except Exception:
        LOG.debug('The daemon was not started', exc_info=True)


@context.entrypoint
def _nothing():
    """Whoever calls it finds the daemon started."""


@context.entrypoint
def set_scheduler(pid, vcpu, policy, priority):
    process.set_scheduler(pid, vcpu, policy, priority)


@context.entrypoint
def move_off(pid, pcpus, otherwise):
    # They come as plain lists.
    process.move_off(pid, frozenset(pcpus), frozenset(otherwise))


@context.entrypoint
def may_hold(pid):
    """Why threads of a process can't be moved; empty: they can."""
    return affinity.may_hold(pid)


@context.entrypoint
def hold(pid, places):
    # They come as plain lists.
    affinity.hold(pid, {thread: frozenset(pcpus)
                        for thread, pcpus in places})


@context.entrypoint
def set_share(pid, vcpu, share):
    # It comes as a plain list.  The files belong to root, as whom privsep
    # runs by default: that needs no capability.
    cgroup.set_share(pid, vcpu, qos.Share(*share))


@context.entrypoint
def reclaim_cpus(pcpus):
    # The files belong to root, as those of set_share.
    cpuset.reclaim_cpus(pcpus)


@resctrl_context.entrypoint
def arrange_clos(wanted, *rest):
    # Plain lists come.  The file system is the host's, whatever is asked.
    return tuple(resctrlfs.arrange(resctrlfs.Files(), resctrlfs.Host(
        tuple(resctrlfs.Wanted(*each) for each in wanted), *rest)))


# The functions of kongming.kernel.numa, whose arguments and answers are plain.

@context.entrypoint
def texts(pid):
    return numa.texts(pid)


@context.entrypoint
def in_the_way(pid):
    return numa.in_the_way(pid)


@context.entrypoint
def set_mems(pid, nodes, only=''):
    # The files belong to root, as those of set_share.
    numa.set_mems(pid, nodes, only)


@context.entrypoint
def migrate_pages(pid, sources, node):
    return numa.migrate_pages(pid, sources, node)


@context.entrypoint
def move_slice(pid, first, size_kib, page_kib, node):
    return numa.move_slice(pid, first, size_kib, page_kib, node)


@context.entrypoint
def move_irqs(wanted):
    """(number, whether it is managed, reason) of those that are refused."""
    # The files belong to root, and plain lists come.
    return [tuple(each) for each in irq.move(
        [(number, pcpus) for number, pcpus in wanted])]


@context.entrypoint
def irqbalance():
    """(pid, pCPUs that it keeps off by its configuration), if it runs."""
    found = irq.irqbalance()
    return found and (found.pid, sorted(found.configured))


@context.entrypoint
def irqbalance_banned(pid):
    return sorted(irq.banned(pid))


@context.entrypoint
def irqbalance_ban(pid, pcpus):
    irq.ban(pid, pcpus)
