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

"""The metrics: names, kinds, labels, and what they say.

Names follow https://prometheus.io/docs/practices/naming: base units, the unit
at the end, ``_total`` on counters.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

GAUGE, COUNTER, HISTOGRAM, SUMMARY = (
    'gauge', 'counter', 'histogram', 'summary')
#: Who knows it.
HOST, KERNEL, COMPUTE, SELF = 'host', 'kernel', 'nova-compute', 'exporter'


class Metric(NamedTuple):
    """:ivar source: of :data:`HOST` and what stands beside it"""

    name: str
    kind: str
    labels: tuple[str, ...]
    text: str
    source: str = HOST


_NODE, _DOMAIN, _RESULT = ('node',), ('domain',), ('result',)

CATALOG = {metric.name: metric for metric in (
    Metric('kongming_node_owned_pcpus', GAUGE, _NODE,
           'Dedicated pCPUs of a host NUMA node that a domain owns.'),
    Metric('kongming_node_free_pcpus', GAUGE, _NODE,
           'Dedicated pCPUs that nobody owns and that a template can have.'),
    Metric('kongming_node_stranded_pcpus', GAUGE, _NODE,
           'Free pCPUs of a core of which another thread is owned.'),
    Metric('kongming_node_lent_pcpus', GAUGE, _NODE,
           'Owned pCPUs that no thread of their owner may run on now.'),
    Metric('kongming_node_borrowed_pcpus', GAUGE, _NODE,
           'Lent pCPUs that another domain may run on now.'),
    Metric('kongming_node_offline_pcpus', GAUGE, _NODE,
           'pCPUs that are not online.'),
    Metric('kongming_node_shared_pcpus', GAUGE, _NODE,
           'Shared pCPUs, over which threads float.'),
    Metric('kongming_violations', GAUGE, ('kind',),
           "What 'kongming check' finds, by kind; drift is 'affinity' "
           "(the kernel against the XML) and 'template' (the XML against the "
           "template)."),
    Metric('kongming_server_info', GAUGE, ('domain', 'uuid', 'server'),
           'A domain that runs here, with its name in Nova; always 1.'),
    Metric('kongming_server_misplaced_memory_bytes', GAUGE, _DOMAIN,
           'Memory of a domain on nodes that it may not be on.'),
    Metric('kongming_server_vcpu_cpu_seconds_total', COUNTER, _DOMAIN,
           'Time that the vCPUs of a domain ran.', KERNEL),
    Metric('kongming_server_vcpu_run_delay_seconds_total', COUNTER, _DOMAIN,
           'Time that the vCPUs of a domain could have run and waited for a '
           'pCPU.', KERNEL),
    Metric('kongming_live_change_duration_seconds', HISTOGRAM, _RESULT,
           'Duration of live changes, by result (success, error).',
           COMPUTE),
    Metric('kongming_live_change_moved_bytes_total', COUNTER, (),
           'Memory that live changes have moved to another node.', COMPUTE),
    Metric('kongming_pass_duration_seconds', SUMMARY, _RESULT,
           'Duration of passes over the servers with a template, by result '
           '(success, error).', COMPUTE),
    Metric('kongming_last_pass_timestamp_seconds', GAUGE, (),
           'When the last pass succeeded; 0: none has.', COMPUTE),
    Metric('kongming_jobs_running', GAUGE, (),
           'Jobs of servers (moves of memory, live changes) that run now.',
           COMPUTE),
    Metric('kongming_jobs_started_total', COUNTER, (),
           'Jobs of servers that were started.', COMPUTE),
    Metric('kongming_publisher_lag_seconds', GAUGE, (),
           'For how long Placement has lacked a change of what is taken; 0: '
           'it is up to date.', COMPUTE),
    Metric('kongming_publisher_failures_total', COUNTER, (),
           'Updates of Placement that failed.', COMPUTE),
    Metric('kongming_load_servers', GAUGE, (),
           'Servers whose load nova-compute reads: their flavor has '
           'conditions, or is balanced.', COMPUTE),
    Metric('kongming_load_advice', GAUGE, ('kind',),
           'Servers for which the host has advice by load: another profile '
           "('profile') than windows and metadata give, or another node "
           "('move'). With by_load = act, profiles are switched already.",
           COMPUTE),
    Metric('kongming_load_switches_total', COUNTER, (),
           'Profiles that began or ended by load, or with by_load = advise '
           'would have.', COMPUTE),
    Metric('kongming_load_moves_total', COUNTER, (),
           'Cells that have moved to another node by load.', COMPUTE),
    Metric('kongming_compute_account_timestamp_seconds', GAUGE, (),
           'When nova-compute wrote its file; absent if the file is not '
           'read.', COMPUTE),
    Metric('kongming_survey_success', GAUGE, (),
           'Whether the last survey of the host succeeded (0, 1).', SELF),
    Metric('kongming_survey_duration_seconds', GAUGE, (),
           'How long the last survey of the host took.', SELF),
    Metric('kongming_survey_timestamp_seconds', GAUGE, (),
           'When the last survey of the host was made.', SELF),
    Metric('kongming_build_info', GAUGE, ('version',),
           'The version of KongMing; always 1.', SELF),
)}


def table() -> Iterator[tuple[str, str, str, str, str]]:
    """For the documentation: name, kind, labels, source and text."""
    for metric in CATALOG.values():
        yield (f'``{metric.name}``', metric.kind,
               ', '.join(f'``{label}``' for label in metric.labels) or '-',
               metric.source, metric.text)
