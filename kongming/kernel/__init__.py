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

"""The kernel's files: threads, cgroups, resctrl.  An edge.

What it knows
-------------

process
    ``/proc``: the threads of a domain, their affinity and scheduler, and the
    nodes where its memory is.
affinity
    Where the threads of a domain may run, read so often that it has to be
    cheap: affinity and cpuset.
cpuset
    cpusets that a CPU has left by going offline, on cgroup v1.
cpus
    ``/sys/devices/system``: which CPUs are online, their nodes and siblings.
cgroup
    The cgroup of each vCPU below its domain's: weight, quota and period, on
    cgroup v1 and v2.
numa
    Where the memory of a process is, and how its pages and policies move.
accounts
    What the kernel counts of all threads, of interrupts and of pCPUs, for a
    process that reads again and again.
vcpu_times
    What the vCPUs of some domains did, read many times a second.
irq
    Interrupts of devices and their affinities; irqbalance, where it runs.
tracefs
    A trace of some pCPUs.
ovs
    The pCPUs on which Open vSwitch polls.
resctrl
    The groups of ``/sys/fs/resctrl``, with their CLOSIDs and their lock.

Everything works only where the domain's processes run on this machine.

What it decides
---------------

Nothing about servers.  What is written is decided by :mod:`kongming.live.qos`,
:mod:`kongming.memory.move`, :mod:`kongming.resctrl.clos` and
:mod:`kongming.interference.irq`.

What it never does
------------------

It calls no libvirt and no Nova.  It takes no rights by itself: in nova-compute
``nova_ext.privileged`` runs what needs to be root.

Public names
------------

``affinity.Reader``, ``process_of``, ``may_hold`` and ``hold``;
``cpus.online`` and ``read``; ``process.tasks``, ``ram``,
``vcpu_threads`` and ``set_scheduler``; ``mover.Mover`` and the functions of
``numa``; ``cgroup.read``, ``apply`` and
``set_share``; ``resctrlfs.read``, ``look``, ``arrange`` and ``Files``;
``accounts.Reader``; ``vcpu_times.Domain``; ``irq.read``, ``machine``,
``move``, ``irqbalance``, ``banned`` and ``ban``; ``tracefs.Session``;
``ovs.pmd``.

Reading order
-------------

1. ``process``: a domain's threads and memory.
2. ``affinity``: where its threads may run; ``cpus``: what is online;
   ``cpuset``: what was offline.
3. ``cgroup``: QoS of its vCPUs.
4. ``resctrlfs``: caches and memory bandwidth of the host.
5. ``numa``: where memory is, and the calls that move it; ``mover``: these
   calls, in their order, until all is there.
6. ``accounts``, ``irq``, ``tracefs``, ``ovs``: who is on which pCPU.
7. ``vcpu_times``: what the vCPUs of a domain did.
"""

__all__ = ('accounts', 'affinity', 'cgroup', 'cpus', 'cpuset', 'irq', 'mover',
           'numa', 'ovs', 'process', 'resctrlfs', 'tracefs', 'vcpu_times')
