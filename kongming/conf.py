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

"""Options of the ``[kongming]`` group, read by nova-compute and scheduler."""

from __future__ import annotations

from typing import Any

from oslo_config import cfg

# A paragraph of help is one line: the generator of the sample wraps lines.
GROUP = cfg.OptGroup(
    'kongming',
    title='KongMing options',
    help='Exact, live control of where servers run inside their hosts. Read '
         'by nova-compute (``compute_driver = kongming.LibvirtDriver``), '
         '``weight_multiplier`` by nova-scheduler.')

OPTS = [
    cfg.BoolOpt(
        'publish_inventory',
        default=True,
        help="""
Publish each NUMA node of the host to Placement, as a root provider of its \
own, with its dedicated pCPUs, shared pCPUs, memory and huge pages, of which \
servers with a template claim what they will use. Native servers' requests \
are not concerned. Turned off, nothing is published by this nova-compute, \
and what it published before stays as it is.

Related options:

* ``[compute] cpu_dedicated_set``
* ``[compute] cpu_shared_set``
"""),
    cfg.IntOpt(
        'publish_interval',
        default=5,
        min=0,
        help="""
Seconds for which changes of what is taken of this host's NUMA nodes are \
collected before Placement is told of them, once for all of them. It is \
told by a thread of its own; no server waits for that. The claim on the host \
decides in the meantime.
"""),
    cfg.IntOpt(
        'reconcile_interval',
        default=60,
        min=0,
        help="""
Seconds between two passes over the servers with a template on this host, \
give or take a fifth. A pass brings running servers to where their flavor and \
their granted metadata want them and puts back pins that somebody changed \
by hand. A pass with nothing to do only reads. With 0 there are no passes by \
time; ``openstack kongming server set --wait`` and ``GET \
/servers/{id}/diagnostics`` still ask for one. Profiles then begin and end on \
time only after the first of these, and servers that came since the last one \
are not among those that switch.
"""),
    cfg.StrOpt(
        'live_changes',
        default='act',
        mutable=True,
        choices=[
            ('act', 'Running servers are brought to where their flavor and '
                    'their metadata want them'),
            ('observe', 'What would be done to their threads, places, QoS '
                        'and caches is computed and reported (log, stats, '
                        '``openstack kongming host list``); nothing is '
                        'touched'),
            ('off', 'Nothing is looked at'),
        ],
        help="""
Whether this host changes running servers. Boots and moves obey templates in \
any case, and whoever borrows a pCPU leaves it before its owner starts. While \
it does not act, profiles do not switch, and nothing is put back.

It can be changed while nova-compute runs (SIGHUP).

Related options:

* ``observe_after``
"""),
    cfg.StrOpt(
        'metrics_file',
        sample_default='/var/lib/nova/kongming-metrics.json',
        help="""
A file in which nova-compute tells ``kongming metrics`` on the same host what \
only it knows: live changes and how long they took, passes, jobs, and for how \
long Placement has not been told of what is taken. It is replaced as a whole, \
and holds figures only, no name of a server. Its directory must be \
nova-compute's to write to. Without it nothing is written.

Related options:

* ``metrics_interval``
"""),
    cfg.IntOpt(
        'metrics_interval',
        default=15,
        min=1,
        help="""
Seconds between two times that nova-compute writes ``metrics_file``.
"""),
    cfg.IntOpt(
        'observe_after',
        default=10,
        min=0,
        help="""
After so many live changes that failed one after the other and were rolled \
back, the host observes by itself, as ``live_changes = observe`` says, with \
an ERROR line in the log and a notification, until nova-compute is started \
again or gets SIGHUP. So it does at once when it finds a pCPU with two \
owners. Changes that are refused before anything is touched do not count. \
With 0 no number of failures does that.

Related options:

* ``live_changes``
"""),
    cfg.IntOpt(
        'changes_per_minute',
        default=120,
        min=0,
        mutable=True,
        help="""
How many servers of this host may be changed in any minute. When more are to \
be changed, those of the project that has had the least of it come first; the \
others wait, which is no failure. Servers that give pCPUs to one another \
change as a whole. A profile that begins by its server's load is a change, \
one that ends is none. One client that waits for each of its changes does \
not get to the default. What was changed before nova-compute started counts, \
too. 0 is no limit.

It can be changed while nova-compute runs (SIGHUP).
"""),
    cfg.StrOpt(
        'by_load',
        default='advise',
        mutable=True,
        choices=[
            ('act', 'Profiles begin and end by their conditions on the '
                    "servers' load, too, and cells of servers that say so "
                    'go to another node where they wait less'),
            ('advise', 'Conditions are looked at, and what they would do is '
                       'reported (log, ``openstack kongming server show``, '
                       '``openstack kongming advise``); profiles begin and '
                       'end as if no condition held, and no cell is moved'),
            ('off', 'Conditions are not looked at; none holds'),
        ],
        help="""
What this host does with conditions in ``kongming:profile.NAME.when``, such \
as ``use<15% for 10m``, and with ``kongming:balance``. It goes by what the \
servers' vCPUs did, which it reads from the kernel every five seconds, and up \
to twenty times a second of a server that has given something up by its load. \
A host without such servers reads nothing.

With ``live_changes`` other than ``act`` nothing is done but advised.

It can be changed while nova-compute runs (SIGHUP).

Related options:

* ``live_changes``
* ``changes_per_minute``
* ``load_switches_per_hour``
* ``balance_moves_per_hour``
"""),
    cfg.IntOpt(
        'load_switches_per_hour',
        default=12,
        min=0,
        mutable=True,
        help="""
How often the profile of a server may switch by its load in any hour. A \
profile does not begin where less than two of these are left, so that what \
has begun can always end. What has switched before nova-compute started \
counts, too. 0 is no limit. Windows and metadata switch beside it.

It can be changed while nova-compute runs (SIGHUP).

Related options:

* ``by_load``
"""),
    cfg.IntOpt(
        'balance_moves_per_hour',
        default=6,
        min=0,
        mutable=True,
        help="""
How many servers of this host may go to another of its NUMA nodes in any hour \
because their vCPUs wait for pCPUs (``kongming:balance=node``). One that has \
gone stays for an hour at least. It takes a part of ``changes_per_minute`` as \
well. 0 is no limit.

It can be changed while nova-compute runs (SIGHUP).

Related options:

* ``by_load``
"""),
    cfg.IntOpt(
        'memory_move_timeout',
        default=600,
        min=1,
        help="""
How long, in seconds, a live change goes on trying for pages of a server that \
stay behind on their old NUMA node. Then the change is rolled back. It is \
the budget of a whole change as well, once for each step of it that moves \
memory. Changes of other servers do not wait for it.
"""),
    cfg.IntOpt(
        'memory_move_slice',
        default=16,
        min=0,
        help="""
How much memory of a running server, in MiB, goes to another NUMA node in one \
call of the kernel, with pauses between. So a busy guest waits for a slice at \
most, and nothing else on the host waits. 0 moves all that a server has on \
its old node in one call, which is faster and can't be interrupted.

It can be changed while nova-compute runs (SIGHUP).
""",
        mutable=True),
    cfg.StrOpt(
        'on_failure',
        default='fail',
        choices=[
            ('fail', 'The boot or the move fails there, with the reason; '
                     'Nova tries its next host, where it has one'),
            ('ignore', 'The server runs with the pins that Nova chose, and '
                       'the log says so'),
        ],
        help="""
What becomes of a server whose template can't be obeyed on this host, after \
the scheduler thought that it can: another server may have been faster.

Servers without a template never meet this.
"""),
    cfg.IntOpt(
        'max_weight',
        default=10000,
        min=1,
        max=10000,
        help="""
The highest ``weight`` (``kongming:qos``) of a vCPU on this host, whoever \
asks for it. A vCPU for which nobody asks has 100.

A flavor that asks for more boots no server here, and none moves here, as \
``on_failure`` says; for servers that are here already it is lowered to this. \
Metadata that ask for more are not obeyed, and an instance action says why.
"""),
    cfg.IntOpt(
        'max_realtime_priority',
        default=49,
        min=0,
        max=99,
        help="""
The highest priority of a vCPU that is scheduled in real time on this host \
(``kongming:sched`` with ``fifo`` or ``rr``), whoever asks for it; otherwise \
as ``max_weight``. With 0 no template has a vCPU scheduled in real time; \
Nova's own ``hw:cpu_realtime`` is not touched.

The kernel's threaded interrupts are at 50: a busy vCPU from there on can \
starve the interrupts of its pCPU.
"""),
    cfg.StrOpt(
        'irq_affinity',
        default='report',
        mutable=True,
        choices=[
            ('ignore', 'Interrupts are not looked at'),
            ('report', 'Interrupts of devices that may come to pCPUs that '
                       'have an owner are told (log, stats); nothing is '
                       'touched'),
            ('move', 'They leave pCPUs that get an owner, and come back when '
                     'these are free'),
        ],
        help="""
What is done with interrupts of devices on pCPUs that a server owns, native \
servers included, in each pass on a host that has servers with a template; \
with ``move`` on every host that has owned pCPUs.

An interrupt is at home where its driver wants it (``affinity_hint``), else \
where the kernel has interrupts by default \
(``/proc/irq/default_smp_affinity``, ``irqaffinity=`` on its command line). \
With ``move`` it is on all of its home that nobody owns; where that is \
nothing it goes to pCPUs of its NUMA node that are not in ``[compute] \
cpu_dedicated_set``. What somebody has set otherwise stays so until one of \
its pCPUs gets an owner. Interrupts that the kernel manages (queues of NVMe \
and some network devices) it moves for nobody; they are told as such. Where \
irqbalance runs, it is told to keep off owned pCPUs, by its socket. A host \
that does not act (``live_changes``) moves none.

It can be changed while nova-compute runs (SIGHUP).

Related options:

* ``live_changes``
* ``[compute] cpu_dedicated_set``
"""),
    cfg.StrOpt(
        'never_pcpus',
        help="""
pCPUs of this host that no server with a template is ever given: it neither \
owns them nor do its threads float over them, whatever its flavor, its \
metadata or ``on_failure`` say. Servers without a template get them as \
``[compute] cpu_dedicated_set`` and ``cpu_shared_set`` say. For example \
``0-7,^5,32``.

In Placement, those of ``cpu_dedicated_set`` are reserved. A server with a \
template that owns one when this is set keeps it until it moves.

Related options:

* ``[compute] cpu_dedicated_set``
* ``[compute] cpu_shared_set``
"""),
    cfg.IntOpt(
        'cache_classes',
        min=0,
        help="""
How many classes of service (CLOSIDs) of this host servers can have for what \
their templates say of caches and memory bandwidth (``kongming:cache``). Not \
set: all that nobody else has. With 0 none is given, and resctrl is not \
looked at.

What they can have of the L3 cache for themselves is what the default group \
of ``/sys/fs/resctrl`` has no more.
"""),
    cfg.IntOpt(
        'memory_bandwidth',
        min=1,
        help="""
The memory bandwidth of each L3 cache of this host, in MiB/s: the 100 % of \
``mb`` (``kongming:cache``) on hosts that don't count in per cent, which are \
AMD's and those where resctrl is mounted with ``mba_MBps``. Not set: no \
server can have its bandwidth limited on such a host. Without meaning on \
others.
"""),
    cfg.IntOpt(
        'change_interval',
        default=5,
        min=0,
        help="""
How often what a server's metadata ask for may change: ten times at once, and \
once more for each so many seconds that pass. What is asked for beyond that \
has to wait, which is reported once; then the last of it is done. Keeps a \
tenant who writes metadata in a loop from keeping nova-compute, libvirt and \
the database busy. 0 is no limit.
"""),
    cfg.FloatOpt(
        'weight_multiplier',
        default=1.0,
        help="""
Multiplier of KongmingWeigher, read by nova-scheduler. With a positive value \
a server with a template goes where the fewest cores are broken up and the \
fewest pCPUs are left over on the nodes that it takes; 0 turns it off, a \
negative value spreads. Servers without a template are all the same to it.

The aggregate metadata key ``kongming_weight_multiplier`` overrides it for \
the hosts of an aggregate.
"""),
]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Make ``conf.kongming`` known; can be called again."""
    conf.register_group(GROUP)
    conf.register_opts(OPTS, group=GROUP)


def list_opts() -> list[tuple[cfg.OptGroup, list[Any]]]:
    """For oslo-config-generator, entry point ``kongming``."""
    return [(GROUP, OPTS)]
