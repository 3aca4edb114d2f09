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
own, with its dedicated pCPUs, shared pCPUs, memory and huge pages. Servers \
with a template claim there what they will use. Requests of native servers \
are not concerned. If it is off, this nova-compute publishes nothing, and \
what it published before stays as it is.

Related options:

* ``[compute] cpu_dedicated_set``
* ``[compute] cpu_shared_set``
"""),
    cfg.IntOpt(
        'publish_interval',
        default=5,
        min=0,
        help="""
For how many seconds changes of what is taken of this host's NUMA nodes are \
collected before they are written to Placement, all at once. A thread of its \
own writes them; no server waits for that. Meanwhile the claim on the host \
decides.
"""),
    cfg.IntOpt(
        'reconcile_interval',
        default=60,
        min=0,
        help="""
Seconds between two passes over the servers with a template on this host, \
plus or minus a fifth. A pass changes running servers to what their flavor \
and their granted metadata say, and restores pins that somebody changed by \
hand. If there is nothing to do, it only reads. With 0 there are no passes by \
time; ``openstack kongming server set --wait`` and ``GET \
/servers/{id}/diagnostics`` still start one. Profiles then begin and end on \
time only after the first such pass, and only for servers that it has seen.
"""),
    cfg.StrOpt(
        'live_changes',
        default='act',
        mutable=True,
        choices=[
            ('act', 'The host changes running servers to what their flavor '
                    'and their metadata say'),
            ('observe', 'The host computes what it would do to their '
                        'threads, places, QoS and caches, and reports it '
                        '(log, stats, ``openstack kongming host list``); it '
                        'changes nothing'),
            ('off', 'The host does not look at running servers'),
        ],
        help="""
Whether this host changes running servers. In any case boots and moves obey \
templates, and borrowers leave a pCPU before its owner starts. A host that \
does not act switches no profiles and restores nothing.

It is read again when nova-compute is restarted, and with eventlet also when \
it gets SIGHUP. With native threads, which Nova 34 has by default, SIGHUP \
stops the work of nova-compute while it goes on reporting that it is up \
(oslo.service 4.8.0): restart it instead.

Related options:

* ``observe_after``
"""),
    cfg.StrOpt(
        'metrics_file',
        sample_default='/var/lib/nova/kongming-metrics.json',
        help="""
A file that nova-compute writes for ``kongming metrics`` on the same host. It \
is not set unless you set it, and nothing is written then; a path that is \
shown as its default is an example. The file has what only nova-compute \
knows: live changes and how long they took, passes, jobs, and for how long \
Placement has not been updated. The file is replaced as a whole, and has \
figures only, no name of a server. nova-compute must be able to write to its \
directory.

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
How many live changes may fail one after the other and be rolled back, until \
the host observes by itself, as with ``live_changes = observe``. It writes an \
ERROR line and emits a notification, and acts again when nova-compute is \
restarted. It does the same at once if it finds a pCPU with two owners. \
Changes that are refused up front do not count. With 0 no number of failures \
makes the host observe.

Related options:

* ``live_changes``
"""),
    cfg.IntOpt(
        'changes_per_minute',
        default=120,
        min=0,
        mutable=True,
        help="""
How many servers of this host may be changed in any minute. If more servers \
are to be changed, those of the project that has had the fewest changes come \
first. The others wait, which is no failure. Servers that exchange pCPUs \
change together. A profile that begins by its server's load counts as a \
change, one that ends does not. A single client that waits for each of its \
changes does not reach the default. Changes before nova-compute was started \
count, too. 0 is no limit.

It is read again as ``live_changes`` is.
"""),
    cfg.StrOpt(
        'by_load',
        default='advise',
        mutable=True,
        choices=[
            ('act', 'Profiles begin and end by their conditions on the '
                    "servers' load, too, and cells of servers with "
                    '``kongming:balance`` move to a node where they wait '
                    'less'),
            ('advise', 'The host evaluates conditions and reports what they '
                       'would do (log, ``openstack kongming server show``, '
                       '``openstack kongming advise``); profiles begin and '
                       'end as if no condition held, and no cell moves'),
            ('off', 'The host does not evaluate conditions; none holds'),
        ],
        help="""
What this host does with conditions in ``kongming:profile.NAME.when``, such \
as ``use<15% for 10m``, and with ``kongming:balance``. It goes by what the \
servers' vCPUs did, which it reads from the kernel every five seconds, and up \
to twenty times a second of a server that has given something up by its load. \
A host without such servers reads nothing.

With ``live_changes`` other than ``act`` nothing is done but advised.

It is read again as ``live_changes`` is.

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
profile begins only if two switches are left, so that it can always end. \
Switches before nova-compute was started count, too. 0 is no limit. Switches \
by windows and by metadata do not count.

It is read again as ``live_changes`` is.

Related options:

* ``by_load``
"""),
    cfg.IntOpt(
        'balance_moves_per_hour',
        default=6,
        min=0,
        mutable=True,
        help="""
How many servers of this host may move to another of its NUMA nodes in any \
hour because their vCPUs wait for pCPUs (``kongming:balance=node``). A server \
that has moved stays for an hour at least. Each move counts in \
``changes_per_minute``, too. 0 is no limit.

It is read again as ``live_changes`` is.

Related options:

* ``by_load``
"""),
    cfg.IntOpt(
        'memory_move_timeout',
        default=600,
        min=1,
        help="""
For how many seconds a live change tries to move pages of a server that stay \
on their old NUMA node. Then it is rolled back. It is the time of one server: \
where servers exchange nodes and three of them move their memory, the whole \
change may take three times as long. Changes of other servers do not wait for \
it.
"""),
    cfg.IntOpt(
        'memory_move_slice',
        default=16,
        min=0,
        help="""
How much memory of a running server, in MiB, one call of the kernel moves to \
another NUMA node. There are pauses between the calls. So a busy guest waits \
for a slice at most, and nothing else on the host waits. 0 moves all memory \
of the old node in one call, which is faster and can't be interrupted.

It is read again as ``live_changes`` is.
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
What happens to a server whose template can't be obeyed on this host although \
the scheduler chose it, for instance since another server was faster.

Servers without a template are not concerned.
"""),
    cfg.IntOpt(
        'max_weight',
        default=10000,
        min=1,
        max=10000,
        help="""
The highest ``weight`` (``kongming:qos``) of a vCPU on this host, whoever \
asks for it. A vCPU without a weight has 100.

A server whose flavor asks for more does not boot here and does not move \
here (see ``on_failure``). For servers that are here already the weight is \
lowered to this. Metadata that ask for more are not obeyed, and an instance \
action says why.
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
            ('ignore', 'The host does not look at interrupts'),
            ('report', 'The host reports interrupts of devices that may come '
                       'to owned pCPUs (log, stats); it changes nothing'),
            ('move', 'Interrupts leave pCPUs that get an owner, and come '
                     'back when these are free'),
        ],
        help="""
What this host does with interrupts of devices on pCPUs that a server owns, \
native servers included. It looks in each pass, if it has servers with a \
template; with ``move``, if it has owned pCPUs.

The home of an interrupt is what its driver wants (``affinity_hint``), or \
else the kernel's default (``/proc/irq/default_smp_affinity``, \
``irqaffinity=`` on its command line). With ``move`` an interrupt is on all \
pCPUs of its home that nobody owns. If there are none, it goes to pCPUs of \
its NUMA node that are not in ``[compute] cpu_dedicated_set``. An affinity \
that somebody has set stays until one of its pCPUs gets an owner. Interrupts \
that the kernel manages (queues of NVMe and some network devices) can't be \
moved, and are reported as such. irqbalance, if it runs, is asked by its \
socket to keep off owned pCPUs. A host that does not act (``live_changes``) \
moves none.

It is read again as ``live_changes`` is.

Related options:

* ``live_changes``
* ``[compute] cpu_dedicated_set``
"""),
    cfg.StrOpt(
        'never_pcpus',
        help="""
pCPUs of this host that a server with a template never gets, neither to own \
nor to float over, whatever its flavor, its metadata or ``on_failure`` say. \
Servers without a template get them as ``[compute] cpu_dedicated_set`` and \
``cpu_shared_set`` say. For example ``0-7,^5,32``.

Those of ``cpu_dedicated_set`` are reserved in Placement. A server with a \
template that owns one when this is set keeps it until it moves.

Related options:

* ``[compute] cpu_dedicated_set``
* ``[compute] cpu_shared_set``
"""),
    cfg.IntOpt(
        'cache_classes',
        min=0,
        help="""
How many classes of service (CLOSIDs) of this host servers can have for \
``kongming:cache``. If it is not set, they can have all that nobody else has. \
With 0 they get none, and resctrl is not read.

The part of the L3 cache that they can have for themselves is what the \
default group of ``/sys/fs/resctrl`` does not have.
"""),
    cfg.IntOpt(
        'memory_bandwidth',
        min=1,
        help="""
The memory bandwidth of each L3 cache of this host, in MiB/s, which is 100 % \
of ``mb`` (``kongming:cache``). It is for hosts whose kernel does not count \
in per cent: those with AMD's processors, and those where resctrl is mounted \
with ``mba_MBps``. If it is not set there, no server can have its bandwidth \
limited. It has no effect on other hosts.
"""),
    cfg.IntOpt(
        'change_interval',
        default=5,
        min=0,
        help="""
How often a server's metadata may ask for something else: ten times at once, \
and then once in so many seconds. Further changes wait, which is reported \
once; then the last one is made. So a tenant who writes metadata in a loop \
does not keep nova-compute, libvirt and the database busy. 0 is no limit.
"""),
    cfg.FloatOpt(
        'weight_multiplier',
        default=1.0,
        help="""
Multiplier of KongmingWeigher, read by nova-scheduler. With a positive value \
a server with a template goes where it breaks up the fewest cores and leaves \
the fewest pCPUs on the nodes that it takes. 0 turns the weigher off, and a \
negative value spreads servers. It does not weigh servers without a template.

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
